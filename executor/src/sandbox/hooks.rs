//! Programs that are run around a command, as the OCI runtime specification has them.
//!
//! `createContainer` hooks are the host's programs: the sandbox's init runs them in the sandbox's mount namespace
//! when everything is mounted, before it goes to the new root. `startContainer` hooks are programs of the new
//! root; they are run right before the command, confined as it is. `poststop` hooks are the host's, and are run by the
//! caller when the sandbox is gone.
//!
//! **Limitations**: hooks of the other kinds have no place here. Those for the runtime's own namespaces could not see
//! the root, which only the sandbox has mounted.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;
use strata_cache::RootfsPlan;

use super::protocol::{Failure, Stage, quoted};
use super::{Credentials, RunSpec};
use crate::sys::{self, Fork};

/// The version of the runtime specification that hooks are told.
const OCI: &str = "1.0.2";

/// Pause between two looks at a hook.
const PAUSE: Duration = Duration::from_millis(5);

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookKind {
    /// In the sandbox, before it goes to its root.
    CreateContainer,
    /// In the root, before the command.
    StartContainer,
    /// By the caller, when the sandbox is gone.
    Poststop,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// When.
    pub kind: HookKind,
    /// The program, absolute.
    pub path: String,
    /// Its arguments, the first of which is its name.
    pub args: Vec<String>,
    /// Its environment: `NAME=VALUE`.
    pub env: Vec<String>,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// The hooks of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// An empty directory of the host, which they find `config.json` in.
    pub bundle: PathBuf,
    /// The hooks, in order.
    pub list: Vec<Hook>,
}

impl Hooks {
    /// Writes `config.json` for a sandbox with this root. It holds what hooks look for, and of the command no
    /// variables: there may be secrets among them.
    pub fn write_config(
        &self,
        rootfs: &RootfsPlan,
        argv: &[String],
        cwd: &Path,
        credentials: &Credentials,
        hostname: &str,
    ) -> io::Result<()> {
        let config = json!({
            "ociVersion": OCI,
            "process": {
                "terminal": false,
                "user": {"uid": credentials.uid, "gid": credentials.gid, "additionalGids": credentials.groups},
                "args": argv,
                "cwd": cwd,
            },
            "root": {"path": root_path(rootfs), "readonly": false},
            "hostname": hostname,
            "mounts": [],
        });
        std::fs::write(self.bundle.join("config.json"), config.to_string())
    }

    /// The hooks of a kind.
    pub(super) fn of(&self, kind: HookKind) -> impl Iterator<Item = &Hook> {
        self.list.iter().filter(move |hook| hook.kind == kind)
    }

    fn state(&self, status: &str, pid: Option<u32>) -> String {
        let id = self.bundle.parent().and_then(Path::file_name);
        let id = id.map_or_else(|| "step".into(), |name| name.to_string_lossy());
        let mut state = json!({
            "ociVersion": OCI,
            "id": format!("strata-{id}"),
            "status": status,
            "bundle": self.bundle,
        });
        if let Some(pid) = pid {
            state["pid"] = pid.into();
        }
        state.to_string()
    }

    /// Runs the hooks that come when the sandbox is gone; answers what went wrong, which is for people to know and
    /// hinders nothing.
    pub fn run_after(&self) -> Vec<String> {
        let state = self.state("stopped", None);
        self.of(HookKind::Poststop)
            .filter_map(|hook| {
                run_here(hook, &state)
                    .err()
                    .map(|error| format!("the poststop hook `{}`: {error}", hook.path))
            })
            .collect()
    }
}

/// Where the sandbox's root is mounted, before it goes there.
fn root_path(plan: &RootfsPlan) -> Option<&Path> {
    match plan {
        RootfsPlan::Overlay { lowers, upper, .. } => upper
            .as_deref()
            .or_else(|| lowers.first().map(PathBuf::as_path)),
        RootfsPlan::Native { tree } => Some(tree),
    }
}

fn run_here(hook: &Hook, state: &str) -> io::Result<()> {
    let mut command = Command::new(&hook.path);
    if let Some(name) = hook.args.first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    command
        .args(hook.args.iter().skip(1))
        .env_clear()
        .envs(hook.env.iter().filter_map(|entry| entry.split_once('=')))
        .current_dir("/")
        .stdin(File::from(memory(state)?))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(io::Error::other(status.to_string()))
            };
        }
        if let Some(timeout) = hook.timeout
            && begun.elapsed() >= timeout
        {
            child.kill()?;
            child.wait()?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// A hook that is ready to run: nothing that its start needs may fail in a confined process.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    hook: &'a Hook,
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    stdin: OwnedFd,
}

/// The hooks of a kind, ready to run in a sandbox whose process is `pid` there.
pub(super) fn ready<'a>(
    spec: &'a RunSpec,
    kind: HookKind,
    status: &str,
) -> Result<Vec<Ready<'a>>, Failure> {
    let Some(hooks) = &spec.hooks else {
        return Ok(Vec::new());
    };
    // In its own process namespace the sandbox's init is the first.
    let state = hooks.state(status, Some(1));
    let prepare = |hook: &'a Hook| -> io::Result<Ready<'a>> {
        let all = |list: &[String]| {
            let texts = list.iter().map(|text| CString::new(text.as_str()));
            texts.collect::<Result<Vec<_>, _>>()
        };
        Ok(Ready {
            hook,
            path: CString::new(hook.path.as_str())?,
            args: all(&hook.args)?,
            env: all(&hook.env)?,
            stdin: memory(&state)?,
        })
    };
    hooks
        .of(kind)
        .map(|hook| prepare(hook).stage(|| stage(hook)))
        .collect()
}

fn stage(hook: &Hook) -> String {
    let kind = match hook.kind {
        HookKind::CreateContainer => "createContainer",
        HookKind::StartContainer => "startContainer",
        HookKind::Poststop => "poststop",
    };
    format!("run the {kind} hook {}", quoted(Path::new(&hook.path)))
}

impl Ready<'_> {
    /// Runs it and waits for it. The process has one thread.
    pub(super) fn run(self) -> Result<(), Failure> {
        rustix::fs::access(&*self.path, rustix::fs::Access::EXEC_OK).stage(|| stage(self.hook))?;
        let child = match sys::fork().stage(|| stage(self.hook))? {
            Fork::Child => sys::exit_now(self.become_it()),
            Fork::Parent(child) => child,
        };
        let begun = Instant::now();
        loop {
            let waited = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
            match waited {
                Ok(Some((_, status))) => return judge(self.hook, status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).stage(|| stage(self.hook)),
            }
            if let Some(timeout) = self.hook.timeout
                && begun.elapsed() >= timeout
            {
                end(child);
                let text = format!("it took longer than {} seconds", timeout.as_secs());
                return Err(Failure::new(stage(self.hook), text));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn become_it(&self) -> i32 {
        // Nobody is left to tell: the caller of a hook sees its exit status.
        if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err()
            || sys::dup_onto(self.stdin.as_fd(), 0).is_err()
            || sys::close_from(3, true).is_err()
        {
            return 126;
        }
        let args: Vec<&CStr> = self.args.iter().map(CString::as_c_str).collect();
        let env: Vec<&CStr> = self.env.iter().map(CString::as_c_str).collect();
        sys::exec(&self.path, &args, &env);
        126
    }
}

fn judge(hook: &Hook, status: WaitStatus) -> Result<(), Failure> {
    let text = match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => return Ok(()),
        (Some(code), _) => format!("it ended with exit code {code}"),
        (_, Some(signal)) => format!("it was ended by signal {signal}"),
        _ => "it ended in an unknown way".to_owned(),
    };
    Err(Failure::new(stage(hook), text))
}

fn end(child: Pid) {
    rustix::process::kill_process(child, Signal::KILL).ok();
    rustix::process::waitpid(Some(child), WaitOptions::empty()).ok();
}

/// `text` as a file to be read from its start.
fn memory(text: &str) -> io::Result<OwnedFd> {
    let descriptor = rustix::fs::memfd_create("strata-hook", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}
