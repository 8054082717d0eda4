//! The command under test, and what it answered.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Sandbox, Steps, redact};

/// A `strata` command for a sandbox's store, run as the sandbox's user.
#[derive(Debug)]
pub(crate) struct Strata {
    command: Command,
    stdin: Vec<u8>,
}

impl Strata {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        Self::of(sandbox, sandbox.binary())
    }

    /// The same of another copy of the program.
    pub(crate) fn of(sandbox: &Sandbox, binary: &Path) -> Self {
        let mut command = Command::new(binary);
        command
            .arg("--root")
            .arg(sandbox.path("store"))
            .current_dir(sandbox.context())
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", sandbox.path("home"))
            .env("USER", &sandbox.account().name)
            .env("RUST_BACKTRACE", "1");
        if !sandbox.account().is_me() {
            // Supplementary groups go with the uid: std drops them when root sets another.
            command
                .uid(sandbox.account().uid)
                .gid(sandbox.account().gid);
        }
        Self {
            command,
            stdin: Vec::new(),
        }
    }

    /// The same command, to be started as a member of these control groups.
    ///
    /// Only root may put a process there, so a shell does it before it becomes the sandbox's user.
    pub(crate) fn within(self, sandbox: &Sandbox, groups: &[PathBuf]) -> Self {
        let mut joins = String::new();
        for group in groups {
            joins += &format!("echo $$ > {}/cgroup.procs && ", group.display());
        }
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{joins}exec \"$@\""), "sh"]);
        if !sandbox.account().is_me() {
            let (uid, gid) = (sandbox.account().uid, sandbox.account().gid);
            command.arg("setpriv").arg(format!("--reuid={uid}"));
            command.args([&format!("--regid={gid}"), "--clear-groups"]);
        }
        command
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .current_dir(sandbox.context())
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        Self {
            command,
            stdin: self.stdin,
        }
    }

    /// The same command, started by a program that is given it as its last arguments.
    pub(crate) fn through(self, sandbox: &Sandbox, program: &[&str]) -> Self {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .current_dir(sandbox.context())
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        if !sandbox.account().is_me() {
            command
                .uid(sandbox.account().uid)
                .gid(sandbox.account().gid);
        }
        Self {
            command,
            stdin: self.stdin,
        }
    }

    /// A shell script that may start the command as `"$@"`, by itself or through another program.
    pub(crate) fn under(self, program: &[&str], script: &str) -> Self {
        let mut command = Command::new(program[0]);
        command
            .args(&program[1..])
            .args(["bash", "-c", script, "bash"])
            .arg(self.command.get_program())
            .args(self.command.get_args())
            .env_clear()
            .envs(
                self.command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        Self {
            command,
            stdin: self.stdin,
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it is started, in place of the context.
    pub(crate) fn directory(mut self, path: impl AsRef<Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it to the end.
    pub(crate) fn output(mut self) -> Output {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = std::mem::take(&mut self.stdin);
        let feeder = std::thread::spawn(move || {
            // A command that doesn't read its input closes the pipe: not an error of the test.
            stdin.write_all(&bytes).ok();
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Output {
            command: format!("{:?}", self.command),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it with its stdout in a file; it must succeed.
    #[track_caller]
    pub(crate) fn output_to_file(mut self, path: &Path) {
        let file = fs::File::create(path).unwrap();
        let output = self
            .command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(Stdio::piped());
        let output = output.spawn().unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}\n{stderr}", self.command);
    }

    /// Starts it in a process group of its own; nobody keeps what it says.
    pub(crate) fn spawn_unread(mut self) -> Running {
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Running {
            command: format!("{:?}", self.command),
            child: Some(child),
            lines: channel().1,
            seen: String::new(),
        }
    }

    /// Starts it and reads its stderr line by line.
    ///
    /// It gets a process group of its own, as a shell gives a job, so that a signal can be sent to it
    /// and all its children at once.
    pub(crate) fn spawn(mut self) -> Running {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.split(b'\n') {
                let Ok(line) = line else { return };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Running {
            command: format!("{:?}", self.command),
            child: Some(child),
            lines,
            seen: String::new(),
        }
    }
}

/// How long to wait for something that should come soon. Generous: the machine may be busy, and
/// nothing is measured.
const PATIENCE: Duration = Duration::from_mins(1);

/// A command that was started. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    command: String,
    child: Option<Child>,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Waits until a line of stderr contains `text`.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{} never said `{text}`, only:\n{}", self.command, self.seen);
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for this many lines, or for the end if there are fewer.
    pub(crate) fn skip_lines(&mut self, count: u32) {
        for _ in 0..count {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                return;
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
    }

    /// The process id, which is also that of its group.
    pub(crate) fn pid(&self) -> Pid {
        let pid = self.child.as_ref().unwrap().id();
        Pid::from_raw(i32::try_from(pid).unwrap())
    }

    /// Sends `signal` to the command alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Sends `signal` to the whole process group, as a terminal does for Ctrl-C.
    pub(crate) fn signal_group(&self, signal: Signal) {
        kill(Pid::from_raw(-self.pid().as_raw()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Output {
        let mut child = self.child.take().unwrap();
        let mut stdout = Vec::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut stdout)
            .unwrap();
        let status = child.wait().unwrap();
        for line in &self.lines {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        Output {
            command: std::mem::take(&mut self.command),
            status,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: std::mem::take(&mut self.seen),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // The test has failed already; its message matters more than this one's.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What a command answered.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }

    /// Fails the test unless the command ended with this exit code, without a panic.
    #[track_caller]
    pub(crate) fn failure(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        assert!(!self.stderr.contains("panicked at"), "{self}");
        self
    }

    /// The exit code, or minus the signal.
    pub(crate) fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| -self.status.signal().unwrap_or_default())
    }

    /// stderr without digests, times and the sandbox's paths.
    pub(crate) fn stderr_redacted(&self, sandbox: &Sandbox) -> String {
        redact(&self.stderr, sandbox)
    }

    /// What the build did, if it was asked for `--progress json`.
    pub(crate) fn steps(&self) -> Steps {
        Steps::read(&self.stderr)
    }

    /// stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    /// Fails the test unless stderr has `text`.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no `{text}` in {self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            status,
            stdout,
            stderr,
        } = self;
        write!(
            formatter,
            "{command}\n{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// Waits until `done` holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
