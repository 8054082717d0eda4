//! RUN: a sandbox for one command.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;

use strata_cache::lock::KeyGuard;
use strata_cache::{LayerView, Resources, RootfsPlan, Scratch};
use strata_executor::copy::{CopyError, CopySpec};
use strata_executor::sandbox::{
    self, Credentials, Ended, Hooks, Mount, MountKind, MountOptions, RunSpec, SecretBytes, Stdio,
    Stream as SandboxStream,
};
use strata_executor::tree::LayerTree;
use strata_parser::Diagnostic;
use strata_parser::mount::Sharing;

use super::agent::{Access, Agent};
use super::{Failure, Shared, Stacks, credentials};
use crate::error::chain;
use crate::event::{Event, Stream};
use crate::graph::{MountOp, MountSource, Root, RunOp, Vertex, mount_options};
use crate::recipes::copy_diagnostic;

/// How long a command has between its stop signal and SIGKILL.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The signal that asks a command to end.
const SIGTERM: i32 = 15;

/// What a command's mounts hold on to while it runs.
#[derive(Default)]
struct Held<'store> {
    mounts: Vec<Mount>,
    env: Vec<(String, String)>,
    locks: Vec<KeyGuard>,
    /// Before the directories that their sockets lie in.
    agents: Vec<Agent>,
    scratches: Vec<Scratch<'store>>,
}

impl Shared<'_> {
    /// Runs the command and waits for it. Its diff is in `scratch` afterwards.
    pub(super) fn run_command(
        &self,
        vertex: &Vertex,
        run: &RunOp,
        scratch: &mut Scratch<'_>,
        stacks: Stacks<'_>,
    ) -> Result<Resources, Failure> {
        let mut credentials = {
            let view = self.view_to_read(scratch.stack())?;
            self.check_machine(vertex, run, &view)?;
            credentials(&view, &run.user, vertex.span)?
        };
        let mut held = self.mounts(vertex, run, stacks)?;
        if let Some((name, text)) = &run.script {
            held.mounts.push(Mount {
                target: PathBuf::from(format!("/dev/pipes/{name}")),
                kind: MountKind::Secret {
                    content: SecretBytes(text.clone().into_bytes()),
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                },
                read_only: true,
                options: MountOptions::default(),
            });
        }
        let mut env = run.env.clone();
        env.extend(
            run.hidden_env
                .iter()
                .filter(|(name, _)| !known(&run.env, name))
                .cloned(),
        );
        env.append(&mut held.env);
        let devices = run
            .edits
            .mounts(&credentials)
            .map_err(|error| Diagnostic::error("no-devices", vertex.span, chain(&error)))?;
        // Last, as they may lie below what the Dockerfile mounts.
        held.mounts.extend(devices);
        env.retain(|(name, _)| !known(&run.edits.env, name));
        env.extend_from_slice(&run.edits.env);
        for group in &run.edits.groups {
            if !credentials.groups.contains(group) {
                credentials.groups.push(*group);
            }
        }

        let rootfs = scratch.rootfs(Some(self.stub()?))?;
        let hooks = self.hooks(vertex, run, &rootfs, &credentials, &mut held)?;
        let spec = RunSpec {
            rootfs,
            hooks: hooks.clone(),
            argv: run.argv.clone(),
            env,
            cwd: PathBuf::from(&run.cwd),
            credentials,
            hostname: run.hostname.clone(),
            network: run.network.clone(),
            extra_hosts: self.request.extra_hosts.clone(),
            dns: self.request.dns.clone(),
            mounts: std::mem::take(&mut held.mounts),
            limits: self.request.limits.clone(),
            ulimits: self.request.ulimits.clone(),
            shm_size: self.request.shm_size,
            insecure: run.insecure,
            confinement: self.request.confinement.clone(),
            isolation: self.request.isolation,
            stdio: Stdio::Piped,
            redactor: self.redactor.clone(),
            timeout: self.request.step_timeout,
            stop_signal: SIGTERM,
            stop_timeout: STOP_TIMEOUT,
        };
        let step = vertex.step;
        let events = self.events;
        let sink = move |stream: SandboxStream, line: &[u8]| {
            let stream = match stream {
                SandboxStream::Stdout => Stream::Stdout,
                SandboxStream::Stderr => Stream::Stderr,
            };
            let line = String::from_utf8_lossy(line).into_owned();
            events.event(Event::Output { step, stream, line });
        };
        let failed = |error: &dyn std::error::Error| {
            Failure::from(Diagnostic::error(
                "sandbox",
                vertex.span,
                format!("the sandbox could not be set up: {}", chain(error)),
            ))
        };
        let running = match self.spawner.wait() {
            Some(spawner) => spawner.spawn(&spec, Box::new(sink)),
            None => sandbox::spawn(&spec, Box::new(sink)),
        };
        let running = running.map_err(|error| failed(&error))?;
        let canceller = running.canceller();
        let _hook = self.stop.on_cancel(move || canceller.cancel());
        let ended = running.wait().map_err(|error| failed(&error));
        for problem in hooks.iter().flat_map(Hooks::run_after) {
            let warning = Diagnostic::warning("hook", vertex.span, problem);
            self.events.event(Event::Warning(warning));
        }
        let ended = ended?;
        drop(held);
        for path in &ended.created {
            scratch.forget_mount_point(path)?;
        }
        let resources = ended.usage;
        self.events.event(Event::Used { step, resources });
        match ended.ended {
            Ended::Exit(0) => Ok(resources),
            Ended::Cancelled => Err(Failure::Stopped),
            Ended::Exit(code) => Err(command_failed(
                vertex,
                run,
                &format!("exit code: {code}"),
                Some(code),
            )),
            Ended::Signal(signal) => Err(command_failed(
                vertex,
                run,
                &format!("signal: {signal}"),
                Some(128 + signal),
            )),
            Ended::OutOfMemory => {
                let limit = self.request.limits.memory.map_or_else(
                    || "the limit of its surroundings".to_owned(),
                    |bytes| format!("its limit of {}", mebibytes(bytes)),
                );
                let peak = mebibytes(resources.peak_memory);
                Err(command_failed(
                    vertex,
                    run,
                    &format!("killed: it needed more memory than {limit} (peak: {peak})"),
                    Some(137),
                ))
            }
            Ended::TimedOut => {
                let limit = self.request.step_timeout.unwrap_or_default();
                Err(command_failed(
                    vertex,
                    run,
                    &format!(
                        "killed: it took longer than {limit:?}, the limit of `--step-timeout`"
                    ),
                    Some(124),
                ))
            }
        }
    }

    /// What its devices want to be run around the command.
    fn hooks<'s>(
        &'s self,
        vertex: &Vertex,
        run: &RunOp,
        rootfs: &RootfsPlan,
        credentials: &Credentials,
        held: &mut Held<'s>,
    ) -> Result<Option<Hooks>, Failure> {
        if run.edits.hooks.is_empty() {
            return Ok(None);
        }
        let scratch = self.store.scratch(&[])?;
        let hooks = Hooks {
            bundle: scratch.upper().to_owned(),
            list: run.edits.hooks.clone(),
        };
        held.scratches.push(scratch);
        let cwd = std::path::Path::new(&run.cwd);
        hooks
            .write_config(rootfs, &run.argv, cwd, credentials, &run.hostname)
            .map_err(|error| {
                let message = format!("`{}` can't be written: {error}", hooks.bundle.display());
                Diagnostic::error("sandbox", vertex.span, message)
            })?;
        Ok(Some(hooks))
    }

    fn stub(&self) -> Result<&std::path::Path, Failure> {
        if let Some(stub) = self.stub.get() {
            return Ok(stub);
        }
        let made = sandbox::stub_directory(self.store.root()).map_err(|source| {
            strata_cache::StoreError::Io {
                action: "make the stub directory in",
                path: self.store.root().to_owned(),
                source,
            }
        })?;
        Ok(self.stub.get_or_init(|| made))
    }

    fn mounts(
        &self,
        vertex: &Vertex,
        run: &RunOp,
        stacks: Stacks<'_>,
    ) -> Result<Held<'_>, Failure> {
        let mut held = Held::default();
        for mount in &run.mounts {
            self.mount(vertex, mount, stacks, &mut held)?;
        }
        Ok(held)
    }

    fn mount<'s>(
        &'s self,
        vertex: &Vertex,
        mount: &MountOp,
        stacks: Stacks<'_>,
        held: &mut Held<'s>,
    ) -> Result<(), Failure> {
        let kind = match &mount.source {
            MountSource::Bind { root, path } => {
                let mut scratch = self.store.scratch(&stacks(*root))?;
                let plan = scratch.rootfs(None)?;
                // What changes its owners writes.
                let plan = if mount.read_only && !mount.words.chown {
                    read_only(plan)
                } else {
                    plan
                };
                held.scratches.push(scratch);
                MountKind::Layers {
                    plan,
                    source: PathBuf::from(path),
                }
            }
            MountSource::Host {
                path,
                discard: false,
                ..
            } => MountKind::Bind {
                source: path.clone(),
            },
            MountSource::Host { path, .. } => {
                let mut scratch = self.store.scratch(&[])?;
                let plan = above(scratch.rootfs(None)?, path, vertex)?;
                held.scratches.push(scratch);
                MountKind::Layers {
                    plan,
                    source: PathBuf::from("/"),
                }
            }
            MountSource::Cache {
                id,
                sharing,
                from,
                path,
                mode,
                uid,
                gid,
            } => {
                let owner = (*mode, *uid, *gid);
                let source =
                    self.cache_mount(vertex, id, *sharing, (*from, path), owner, stacks, held)?;
                MountKind::Bind { source }
            }
            MountSource::Tmpfs { size, mode } => MountKind::Tmpfs {
                size: *size,
                mode: *mode,
            },
            MountSource::Ssh {
                id,
                required,
                mode,
                uid,
                gid,
            } => {
                let agents = &self.request.ssh;
                let Some(agent) = agents.iter().find(|agent| agent.id == *id) else {
                    if *required {
                        return Err(Diagnostic::error(
                            "no-ssh",
                            vertex.span,
                            format!("SSH agent `{id}` is required, but was not given"),
                        )
                        .with_help(format!("build with `--ssh {id}`"))
                        .into());
                    }
                    return Ok(());
                };
                let access = Access {
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                };
                let scratch = self.store.scratch(&[])?;
                let socket = Agent::start(scratch.upper(), &agent.socket, access);
                let socket = socket.map_err(|error| {
                    let path = agent.socket.display();
                    let message = format!("SSH agent `{id}` at `{path}` can't be used: {error}");
                    Diagnostic::error("no-ssh", vertex.span, message)
                })?;
                let source = socket.path().to_owned();
                if held.agents.is_empty() {
                    held.env
                        .push(("SSH_AUTH_SOCK".to_owned(), mount.target.clone()));
                }
                held.agents.push(socket);
                held.scratches.push(scratch);
                MountKind::Bind { source }
            }
            MountSource::Secret {
                id,
                file,
                env,
                required,
                mode,
                uid,
                gid,
            } => {
                let secret = self.request.secrets.iter().find(|secret| secret.id == *id);
                if secret.is_none() && *required {
                    return Err(Diagnostic::error(
                        "no-secret",
                        vertex.span,
                        format!("secret `{id}` is required, but was not given"),
                    )
                    .with_help(format!("build with `--secret id={id},src=FILE`"))
                    .into());
                }
                if let Some(name) = env {
                    let value = secret.map_or_else(String::new, |secret| {
                        String::from_utf8_lossy(&secret.content.0).into_owned()
                    });
                    held.env.push((name.clone(), value));
                }
                let Some(secret) = secret.filter(|_| *file) else {
                    return Ok(());
                };
                MountKind::Secret {
                    content: secret.content.clone(),
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                }
            }
        };
        held.mounts.push(Mount {
            target: PathBuf::from(&mount.target),
            kind,
            read_only: mount.read_only,
            options: mount_options(
                mount.words,
                matches!(mount.source, MountSource::Host { devices: true, .. }),
            ),
        });
        Ok(())
    }

    /// The directory of a cache mount, locked as its sharing asks, made and filled on first use.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, each argument an option of the mount"
    )]
    fn cache_mount<'s>(
        &'s self,
        vertex: &Vertex,
        id: &str,
        sharing: Sharing,
        (from, path): (Root, &str),
        (mode, uid, gid): (u32, u32, u32),
        stacks: Stacks<'_>,
        held: &mut Held<'s>,
    ) -> Result<PathBuf, Failure> {
        // What it starts from makes it another cache.
        let id = match from {
            Root::Empty => id.to_owned(),
            Root::Image(image) => {
                let base = &self.graph.images[image.0].base;
                format!("{id}?from={}{path}", base.config_digest)
            }
            Root::Step(step) => format!("{id}?from={}{path}", self.recipes.keys[step.0].0),
        };
        let id = match &self.request.trial {
            Some(trial) => format!("{id} in {trial}"),
            None => id,
        };
        let mut name = id.clone();
        let shared = sharing == Sharing::Shared;
        let mut since = None;
        let mut copy = 1;
        loop {
            if let Some(guard) = self
                .store
                .try_lock_named(&format!("mount {name}"), shared)?
            {
                held.locks.push(guard);
                break;
            }
            if sharing == Sharing::Private {
                // Taken: the next free one, which is empty the first time.
                copy += 1;
                name = format!("{id}#{copy}");
            } else {
                self.wait(&mut since, vertex)?;
            }
        }
        if self.request.trial.is_some() {
            let mounts = self.trial_mounts.lock();
            mounts
                .unwrap_or_else(PoisonError::into_inner)
                .push(name.clone());
        }
        let directory = self.store.cache_mount_path(&name)?;
        let fill = || -> Result<(), CopyError> {
            let marker = directory.with_extension("ready");
            if marker.exists() {
                return Ok(());
            }
            let failed = |action, source| CopyError::Io {
                action,
                path: directory.clone(),
                source,
            };
            if from != Root::Empty {
                // The mount is written to: its files must not be the layers' own.
                let tree = LayerTree::new(self.view(&stacks(from)), &[]).without_links();
                let sources = [path.to_owned()];
                let spec = CopySpec {
                    sources: &sources,
                    literal: true,
                    ..CopySpec::default()
                };
                strata_executor::copy::select(&tree, &spec)?.write(
                    &tree,
                    &spec,
                    &LayerView::new(Vec::new()),
                    &directory,
                )?;
            }
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid))
                .map_err(|source| failed("set the owner of", source))?;
            std::fs::set_permissions(
                &directory,
                std::os::unix::fs::PermissionsExt::from_mode(mode),
            )
            .map_err(|source| failed("set the mode of", source))?;
            std::fs::write(&marker, b"").map_err(|source| failed("mark", source))
        };
        fill().map_err(|error| copy_diagnostic(&error, vertex.span, "the mount's source"))?;
        Ok(directory)
    }
}

/// The plan of an empty stack with a directory of this machine as what is below.
fn above(plan: RootfsPlan, path: &std::path::Path, vertex: &Vertex) -> Result<RootfsPlan, Failure> {
    match plan {
        RootfsPlan::Overlay {
            upper,
            work,
            userxattr,
            ..
        } => Ok(RootfsPlan::Overlay {
            lowers: vec![path.to_owned()],
            upper,
            work,
            userxattr,
        }),
        RootfsPlan::Native { .. } => Err(Diagnostic::error(
            "no-overlay",
            vertex.span,
            format!(
                "`{}` can't be mounted with its writes thrown away: that takes overlayfs",
                path.display()
            ),
        )
        .with_help("mount it read-only, with `ro` in place of `O`")
        .into()),
    }
}

/// The plan without its upper directory: nothing can be written.
fn read_only(plan: RootfsPlan) -> RootfsPlan {
    match plan {
        RootfsPlan::Overlay {
            lowers, userxattr, ..
        } => RootfsPlan::Overlay {
            lowers,
            upper: None,
            work: None,
            userxattr,
        },
        plan @ RootfsPlan::Native { .. } => plan,
    }
}

fn known(env: &[(String, String)], name: &str) -> bool {
    env.iter().any(|(known, _)| known == name)
}

/// Bytes for people, in the units that limits are given in.
fn mebibytes(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

fn command_failed(vertex: &Vertex, run: &RunOp, how: &str, exit: Option<i32>) -> Failure {
    let diagnostic = Diagnostic::error(
        "step-failed",
        vertex.span,
        format!(
            "process \"{}\" did not complete successfully: {how}",
            run.argv.join(" ")
        ),
    )
    .with_label("this step failed");
    let diagnostic = match exit {
        Some(127) => diagnostic.with_help("127 says that a command was not found in the image"),
        Some(126) => {
            diagnostic.with_help("126 says that a command was found, but can't be executed")
        }
        _ => diagnostic,
    };
    Failure::Step {
        diagnostic: Box::new(diagnostic),
        exit,
    }
}
