//! A containerd of the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Sandbox;

/// A running containerd with its data in a sandbox. Ended when dropped.
#[derive(Debug)]
pub(crate) struct Containerd {
    child: Child,
    directory: PathBuf,
}

impl Containerd {
    /// Starts one; why it can't be.
    pub(crate) fn start(sandbox: &Sandbox) -> Result<Self, String> {
        let directory = sandbox.path("containerd");
        fs::create_dir(&directory).unwrap();
        let config = directory.join("config.toml");
        // It is to run no containers: what it would need for that stays out.
        let text = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{0}/s'\n[ttrpc]\naddress = '{0}/t'\n",
            directory.display()
        );
        fs::write(&config, text).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("containerd: {error}: run `make deps`"))?;
        let mut containerd = Self { child, directory };
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            if containerd
                .command()
                .arg("version")
                .output()
                .is_ok_and(|output| output.status.success())
            {
                return Ok(containerd);
            }
            if containerd.child.try_wait().unwrap().is_some() || Instant::now() > end {
                let log = fs::read_to_string(containerd.directory.join("log")).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or_default().to_owned();
                return Err(format!("containerd does not start: {last}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Its socket.
    pub(crate) fn address(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// `ctr` for it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.address());
        command
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}
