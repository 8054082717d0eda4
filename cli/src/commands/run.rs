//! `strata run`

use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use nix::sys::signal::Signal;
use strata_cache::LayerView;
use strata_cache::Lease;
use strata_cache::Store;
use strata_executor::emulation;
use strata_executor::emulation::Machine;
use strata_executor::emulation::Support;
use strata_executor::sandbox;
use strata_executor::sandbox::Canceller;
use strata_executor::sandbox::Ended;
use strata_executor::sandbox::Isolation;
use strata_executor::sandbox::MountKind;
use strata_executor::sandbox::Network;
use strata_executor::sandbox::Redactor;
use strata_executor::sandbox::RunSpec;
use strata_executor::sandbox::Stdio;
use strata_executor::users;
use strata_image::Images;
use strata_image::List;
use strata_image::NoProgress;
use strata_image::PullPolicy;
use strata_image::ResolvedImage;
use strata_image::config::RuntimeConfig;

use super::pull;
use super::transfer::Transfers;
use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::error::OrKind;
use crate::flags::high::Entrypoint;
use crate::flags::high::Run;
use crate::flags::high::Surroundings;
use crate::flags::low;
use crate::root;
use crate::root::Place;
use crate::signals;
use crate::snapshotter;

/// What Docker gives an image without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a command that was asked to end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Signals that are passed on to the command. What comes from a terminal that the command has for
/// itself never gets here.
const PASSED_ON: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

pub(crate) fn run(flags: &low::Run, root: &Path, place: &Place) -> Result<(), CommandError> {
    let mut run = Run::new(flags, &Surroundings::of_process()?)?;
    let config = Config::load()?;
    let networking = &mut run.networking;
    let mut network = networking.network.take().unwrap_or_default();
    let given = flags.networking.network.is_some();
    config.networking(given, &mut network, &mut networking.dns);
    if run.tty && run.interactive && !std::io::stdin().is_terminal() {
        return Err(CommandError::usage(
            "`--tty` with `--interactive` needs a terminal on standard input",
        ));
    }
    let forward = Forward::default();
    let target = forward.clone();
    signals::watch(&PASSED_ON, move |signal| target.signal(signal))?;

    let store = root::open(root)?;
    if place.isolation == Isolation::Chroot
        && let Some(notice) = &place.notice
    {
        tracing::warn!("{notice}");
    }
    if let Some(notice) = snapshotter::choose(&store, place.isolation)? {
        tracing::info!("{notice}");
    }
    let lease = store.lease("run")?;
    let images = Images::new(&store, config.registries()).limited(config.unpack());
    let image = find(
        &images,
        &lease,
        &run.image,
        run.platform.as_deref(),
        run.pull,
    )?;
    let layers = if image.layers.iter().all(|layer| layer.layer.is_some()) {
        images.ensure_layers(&lease, &image, &NoProgress)?
    } else {
        let mut transfers = Transfers::start(false);
        let layers = transfers.step(format!("unpack {}", run.image), |progress| {
            Ok(images.ensure_layers(&lease, &image, progress)?)
        });
        transfers.close();
        layers?
    };
    if let Some(machine) = Machine::of_architecture(&image.config.architecture)
        && matches!(emulation::support(&machine), Support::Missing { .. })
    {
        // If nothing comes of it, that shows when the program is started.
        emulation::register_for_children(&[machine]);
    }
    let code = start(
        &store,
        &run,
        (network, place.isolation),
        &image.config.config,
        &layers,
        &forward,
    )?;
    match code {
        0 => Ok(()),
        code => Err(CommandError::silent(Kind::Program(code))),
    }
}

/// Passes signals on to the command, once there is one. Before that they end this process, which
/// leaves nothing that a later command would stumble over.
#[derive(Debug, Clone, Default)]
struct Forward(Arc<Mutex<Option<Target>>>);

#[derive(Debug)]
struct Target {
    command: Canceller,
    /// What SIGTERM becomes: the signal that the image wants to be stopped by.
    stop_signal: i32,
}

impl Forward {
    fn to(&self, command: Canceller, stop_signal: i32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Target {
            command,
            stop_signal,
        });
    }

    fn signal(&self, signal: Signal) {
        let target = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*target {
            Some(target) if signal == Signal::SIGTERM => target.command.signal(target.stop_signal),
            Some(target) => target.command.signal(signal as i32),
            None => {
                std::process::exit(i32::from(Kind::Cancelled(signal as i32).exit_code()));
            }
        }
    }
}

/// The image: the store's, or if that is allowed and needed a registry's.
pub(super) fn find(
    images: &Images<'_>,
    lease: &Lease,
    name: &str,
    platform: Option<&str>,
    when: low::PullWhen,
) -> Result<ResolvedImage, CommandError> {
    let asked = platform.is_some();
    let platform = pull::platform(platform)?;
    if when != low::PullWhen::Always {
        let found = match images.find_list(name)? {
            Some((full, list)) => {
                // An only image is what is meant, as if nothing were said of it.
                let only = List::parse(&list)?.only_image().is_some();
                match images.member_image(&list, &platform)? {
                    Some(image) => Some((full, image)),
                    None if only && !asked => images.find_local(name)?,
                    None => None,
                }
            }
            None => images.find_local(name)?,
        };
        if let Some((name, image)) = found {
            return Ok(images.resolve_stored(lease, &name, &image)?);
        }
        if when == low::PullWhen::Never {
            return Err(CommandError::failed(format!(
                "image `{name}` is not in the store, and `--pull never` is given"
            )));
        }
    }
    let policy = match when {
        low::PullWhen::Always => PullPolicy::Always,
        low::PullWhen::Missing | low::PullWhen::Never => PullPolicy::Missing,
    };
    let mut transfers = Transfers::start(false);
    let image = pull::pull(images, lease, name, &platform, policy, &mut transfers);
    transfers.close();
    let image = image?;
    // Resolved again, so that its layers are known as unpacked.
    match images.find_local_for(&image.name, &platform)? {
        Some((name, stored)) => Ok(images.resolve_stored(lease, &name, &stored)?),
        None => Ok(image),
    }
}

/// Runs the command on a scratch layer that is thrown away afterwards; answers the exit code.
fn start(
    store: &Store,
    run: &Run,
    (network, isolation): (Network, Isolation),
    config: &RuntimeConfig,
    layers: &[strata_cache::LayerId],
    forward: &Forward,
) -> Result<u8, CommandError> {
    let hostname = match &run.hostname {
        Some(hostname) => hostname.clone(),
        None => random_name()?,
    };
    let argv = argv(run, config)?;
    for mount in &run.mounts {
        if let MountKind::Bind { source } = &mount.kind
            && let Err(error) = source.symlink_metadata()
        {
            return Err(CommandError::usage(format!(
                "`--volume`: `{}`: {error}",
                source.display()
            )));
        }
    }
    let mut scratch = store.scratch(layers)?;
    let view = LayerView::new(store.layer_paths(layers));
    let user = run.user.as_deref().unwrap_or(&config.user);
    let credentials = users::credentials(&view, if user.is_empty() { "0" } else { user })
        .or_kind(Kind::Failed)?;
    let spec = RunSpec {
        rootfs: scratch.rootfs(None)?,
        argv,
        env: environment(run, config, &hostname),
        cwd: workdir(run, config),
        credentials,
        hostname,
        network,
        extra_hosts: run.networking.extra_hosts.clone(),
        dns: run.networking.dns.clone(),
        mounts: run.mounts.clone(),
        limits: run.limits.clone(),
        ulimits: run.ulimits.clone(),
        shm_size: run.shm_size,
        insecure: run.privileged,
        confinement: run.confinement.clone(),
        hooks: None,
        stdio: if run.tty {
            Stdio::Terminal {
                stdin: run.interactive,
            }
        } else {
            Stdio::Inherit {
                stdin: run.interactive,
            }
        },
        redactor: Redactor::default(),
        isolation,
        timeout: None,
        stop_signal: stop_signal(run, config),
        stop_timeout: STOP_TIMEOUT,
    };
    let running = sandbox::spawn(&spec, Box::new(|_, _| {})).or_kind(Kind::Failed)?;
    forward.to(running.canceller(), spec.stop_signal);
    let outcome = running.wait().or_kind(Kind::Failed)?;
    Ok(match outcome.ended {
        // The kernel keeps only eight bits of an exit code.
        Ended::Exit(code) => u8::try_from(code & 0xff).unwrap_or(1),
        Ended::Signal(signal) => Kind::Cancelled(signal).exit_code(),
        Ended::OutOfMemory => {
            return Err(CommandError::new(
                Kind::Program(137),
                anyhow::anyhow!(
                    "the command was killed: it needed more memory than its limit (peak: {})",
                    crate::human::size(outcome.usage.peak_memory)
                ),
            )
            .with_hint("give it more with `--memory`"));
        }
        Ended::Cancelled | Ended::TimedOut => Kind::Cancelled(spec.stop_signal).exit_code(),
    })
}

/// Entry point and command, by Docker's rules: a command replaces the image's; an entry point that
/// is given drops the image's command with its entry point.
fn argv(run: &Run, config: &RuntimeConfig) -> Result<Vec<String>, CommandError> {
    let mut argv = match &run.entrypoint {
        Entrypoint::Image => config.entrypoint.clone().unwrap_or_default(),
        Entrypoint::Program(program) => vec![program.clone()],
        Entrypoint::Nothing => vec![],
    };
    if !run.command.is_empty() {
        argv.extend(run.command.iter().cloned());
    } else if run.entrypoint == Entrypoint::Image {
        argv.extend(config.cmd.iter().flatten().cloned());
    }
    if argv.is_empty() {
        return Err(CommandError::usage(format!(
            "image `{}` says no command to run, and none is given",
            run.image
        )));
    }
    Ok(argv)
}

/// The command's variables: Docker's defaults, the image's, then those given. The last one counts.
fn environment(run: &Run, config: &RuntimeConfig, hostname: &str) -> Vec<(String, String)> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set =
        |name: &str, value: &str| match variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => variables.push((name.to_owned(), value.to_owned())),
        };
    set("PATH", DEFAULT_PATH);
    set("HOSTNAME", hostname);
    if run.tty {
        set("TERM", "xterm");
    }
    for entry in &config.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    for (name, value) in &run.env {
        set(name, value);
    }
    variables
}

fn workdir(run: &Run, config: &RuntimeConfig) -> PathBuf {
    let directory = run.workdir.as_deref().unwrap_or(&config.working_dir);
    // An image's relative directory is taken from the root, as runtimes do.
    Path::new("/").join(directory)
}

fn stop_signal(run: &Run, config: &RuntimeConfig) -> i32 {
    run.stop_signal
        .or_else(|| {
            Some(&config.stop_signal)
                .filter(|name| !name.is_empty())
                .and_then(|name| signals::number(name).ok())
        })
        .unwrap_or(Signal::SIGTERM as i32)
}

/// Twelve hex digits, as Docker names containers.
fn random_name() -> Result<String, CommandError> {
    use std::fmt::Write as _;
    let mut bytes = [0_u8; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .or_kind(Kind::Failed)?;
    Ok(bytes.iter().fold(String::new(), |mut name, byte| {
        write!(name, "{byte:02x}").expect("writing to a String can't fail");
        name
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn run(arguments: &[&str]) -> Run {
        let line = ["strata", "run"].iter().chain(arguments);
        let low::Command::Run(low) = low::Cli::try_parse_from(line).unwrap().command else {
            panic!("not a run");
        };
        Run::new(&low, &Surroundings::of_process().unwrap()).unwrap()
    }

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn entry_point_and_command_are_put_together_as_docker_does() {
        let image = RuntimeConfig {
            entrypoint: Some(list(&["entry", "e"])),
            cmd: Some(list(&["c"])),
            ..RuntimeConfig::default()
        };
        for (arguments, expected) in [
            (&["img"][..], &["entry", "e", "c"][..]),
            (&["img", "x"], &["entry", "e", "x"]),
            (&["--entrypoint", "p", "img"], &["p"]),
            (&["--entrypoint", "p", "img", "x"], &["p", "x"]),
            (&["--entrypoint=", "img", "x"], &["x"]),
        ] {
            assert_eq!(
                argv(&run(arguments), &image).unwrap(),
                list(expected),
                "{arguments:?}"
            );
        }
        assert!(argv(&run(&["--entrypoint=", "img"]), &image).is_err());
        assert!(argv(&run(&["img"]), &RuntimeConfig::default()).is_err());
    }

    #[test]
    fn given_variables_replace_the_images_in_their_place() {
        let image = RuntimeConfig {
            env: vec!["PATH=/bin".into(), "A=image".into(), "B".into()],
            ..RuntimeConfig::default()
        };
        let run = run(&["-t", "-e", "A=flag", "-e", "C=1", "img"]);
        let expected = [
            ("PATH", "/bin"),
            ("HOSTNAME", "box"),
            ("TERM", "xterm"),
            ("A", "flag"),
            ("B", ""),
            ("C", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment(&run, &image, "box"), expected);
    }

    #[test]
    fn directories_are_absolute() {
        let image = |directory: &str| RuntimeConfig {
            working_dir: directory.into(),
            ..RuntimeConfig::default()
        };
        assert_eq!(workdir(&run(&["img"]), &image("")), Path::new("/"));
        assert_eq!(workdir(&run(&["img"]), &image("srv")), Path::new("/srv"));
        assert_eq!(
            workdir(&run(&["-w", "/w", "img"]), &image("/srv")),
            Path::new("/w")
        );
    }
}
