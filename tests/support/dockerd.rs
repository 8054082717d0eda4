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
        fs::create_dir(&directory).unwrap();
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
