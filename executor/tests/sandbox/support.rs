//! A root file system made of busybox, and short ways to run something in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strata_cache::RootfsPlan;
use strata_executor::sandbox::{
    Confinement, Credentials, Dns, Isolation, Limits, Network, Outcome, Redactor, RunSpec,
    SandboxError, Stdio, Stream, spawn,
};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

/// Applets that tests call.
const APPLETS: &[&str] = &[
    "awk", "cat", "chmod", "chown", "chroot", "cut", "dd", "df", "echo", "env", "false", "find",
    "free", "grep", "head", "hostname", "id", "ifconfig", "kill", "ln", "ls", "mkdir", "mknod",
    "mount", "mv", "nproc", "od", "ps", "pwd", "readlink", "rm", "sed", "seq", "setsid", "sh",
    "sleep", "sort", "stat", "stty", "su", "tail", "test", "touch", "tr", "true", "tty", "ulimit",
    "umount", "unshare", "wc", "yes",
];

/// What is missing to run these tests at all.
pub(crate) fn requirements() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("they need root".into());
    }
    if !Path::new(BUSYBOX).exists() {
        return Err(format!("{BUSYBOX} is missing (Debian: busybox-static)"));
    }
    Ok(())
}

/// A stack of one busybox layer, and an upper directory.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        for path in ["bin", "etc", "tmp", "root", "home/user"] {
            fs::create_dir_all(base.join(path)).unwrap();
        }
        fs::copy(BUSYBOX, base.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        fs::write(
            base.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        fs::write(
            base.join("etc/group"),
            "root:x:0:\ntty:x:5:\nuser:x:1000:\n",
        )
        .unwrap();
        for path in ["upper", "work"] {
            fs::create_dir(directory.path().join(path)).unwrap();
        }
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn plan(&self) -> RootfsPlan {
        RootfsPlan::Overlay {
            lowers: vec![self.path("base")],
            upper: Some(self.path("upper")),
            work: Some(self.path("work")),
            userxattr: false,
        }
    }

    /// A spec that runs `script` with the shell.
    pub(crate) fn script(&self, script: &str) -> RunSpec {
        self.spec(&["/bin/sh", "-c", script])
    }

    pub(crate) fn spec(&self, argv: &[&str]) -> RunSpec {
        RunSpec {
            rootfs: self.plan(),
            argv: argv.iter().map(ToString::to_string).collect(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: "/".into(),
            credentials: Credentials::default(),
            hostname: "bench".into(),
            network: Network::Host,
            extra_hosts: Vec::new(),
            dns: Dns::default(),
            mounts: Vec::new(),
            limits: Limits::default(),
            ulimits: BTreeMap::new(),
            shm_size: 64 << 20,
            insecure: false,
            confinement: Confinement::default(),
            isolation: Isolation::Sandbox,
            hooks: None,
            stdio: Stdio::Piped,
            redactor: Redactor::default(),
            timeout: None,
            stop_signal: 15,
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Ran {
    pub(crate) fn text(&self) -> String {
        self.stdout.join("\n")
    }
}

/// Runs `spec` to its end.
pub(crate) fn try_run(spec: &RunSpec) -> Result<Ran, SandboxError> {
    let lines = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let kept = Arc::clone(&lines);
    let running = spawn(
        spec,
        Box::new(move |stream, line| {
            let line = String::from_utf8_lossy(line).into_owned();
            let mut lines = kept.lock().unwrap();
            match stream {
                Stream::Stdout => lines.0.push(line),
                Stream::Stderr => lines.1.push(line),
            }
        }),
    )?;
    let outcome = running.wait()?;
    let (stdout, stderr) = std::mem::take(&mut *lines.lock().unwrap());
    Ok(Ran {
        outcome,
        stdout,
        stderr,
    })
}

/// The same; a failure of the sandbox fails the test.
pub(crate) fn run(spec: &RunSpec) -> Ran {
    match try_run(spec) {
        Ok(ran) => ran,
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.extend([": ", &error.to_string()]);
        cause = error.source();
    }
    text
}
