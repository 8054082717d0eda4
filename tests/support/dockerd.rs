//! A Docker daemon of the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Sandbox;

/// A running dockerd with its data in a sandbox. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Dockerd {
    child: Child,
    directory: PathBuf,
}

impl Dockerd {
    /// Starts one; why it can't be.
    pub(crate) fn start(sandbox: &Sandbox) -> Result<Self, String> {
        let directory = sandbox.path("dockerd");
        fs::create_dir_all(&directory).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = Command::new("dockerd")
            .arg("--host")
            .arg(format!("unix://{}", directory.join("s").display()))
            .arg("--data-root")
            .arg(directory.join("data"))
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("dockerd: {error}: run `make deps`"))?;
        let mut docker = Self { child, directory };
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            if docker
                .command()
                .arg("info")
                .output()
                .is_ok_and(|output| output.status.success())
            {
                return Ok(docker);
            }
            if docker.child.try_wait().unwrap().is_some() || Instant::now() > end {
                let log = fs::read_to_string(docker.directory.join("log")).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or_default().to_owned();
                return Err(format!("dockerd does not start: {last}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// Kills it, as a crash does. [`start`](Self::start) finds its data again.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Its containerd would live on, and keep the next one's from starting.
        let state = self.directory.join("exec/containerd");
        let pid = fs::read_to_string(state.join("containerd.pid")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        super::wait_until("its containerd is gone", || {
            nix::sys::signal::kill(pid, None).is_err()
        });
        // A new one would take the process ids that they left for its own, if those live again.
        fs::remove_file(state.join("containerd.pid")).unwrap();
        fs::remove_file(self.directory.join("pid")).ok();
    }

    /// `docker` for this daemon.
    pub(crate) fn command(&self) -> Command {
        // Debian's own before any other, as it fits Debian's dockerd.
        let own = "/usr/bin/docker";
        let mut command = Command::new(if fs::exists(own).unwrap() {
            own
        } else {
            "docker"
        });
        command
            .arg("--host")
            .arg(format!("unix://{}", self.directory.join("s").display()));
        command
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // TERM, so that it takes its containerd and its mounts with it.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}
