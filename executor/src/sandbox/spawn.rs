//! The caller's side: starts a sandbox, passes its output on, waits for it.

use std::borrow::Cow;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::process::{Pid, Signal};

use super::lines::Lines;
use super::protocol::{self, Exit, Order, Report, RequestRef, receive, send};
use super::redact::Redacted;
use super::terminal::Relay;
use super::{Ended, Outcome, Resources, RunSpec, SandboxError, Stdio, Stream, init};
use crate::sys;

/// How long after the stop time-out a sandbox that doesn't react is given before it is killed from
/// outside.
const GRACE: Duration = Duration::from_secs(2);

/// Receives output: one line at a time, without its end. While it works, the sandbox's other events wait.
pub type Sink<'a> = Box<dyn FnMut(Stream, &[u8]) + Send + 'a>;

/// What a sandbox's process is told, and how.
pub(super) struct Prepared<'s> {
    pub spec: Cow<'s, RunSpec>,
    pub request: OwnedFd,
    /// The control socket.
    pub ours: OwnedFd,
    pub theirs: OwnedFd,
}

impl<'s> Prepared<'s> {
    pub(super) fn new(spec: &'s RunSpec) -> Result<Self, SandboxError> {
        super::cgroup::check(&spec.limits)?;
        let helpers = super::network::helpers_for(&spec.network)?;
        let spec = super::open_files::with_given(spec);
        let start = |source| SandboxError::Start { source };
        let request = protocol::request_file(&RequestRef::Run {
            spec: &spec,
            helpers: &helpers,
        })
        .map_err(start)?;
        let (ours, theirs) = protocol::pair().map_err(start)?;
        Ok(Self {
            spec,
            request,
            ours,
            theirs,
        })
    }
}

/// Starts a sandbox. Its set-up goes on beside the caller: what goes wrong in it is told by
/// [`Running::wait`], which also does all the passing on of output, in the thread that calls it.
///
/// # Errors
/// The process could not be started.
pub fn spawn<'a>(spec: &RunSpec, sink: Sink<'a>) -> Result<Running<'a>, SandboxError> {
    let Prepared {
        spec,
        request,
        ours,
        theirs,
    } = Prepared::new(spec)?;
    let start = |source| SandboxError::Start { source };
    let mut command = command(theirs).map_err(start)?;
    let mut streams = None;
    let mut stdin = None;
    match spec.stdio {
        Stdio::Piped => {
            let (stdout, writer) = io::pipe().map_err(start)?;
            command.stdout(writer);
            let (stderr, writer) = io::pipe().map_err(start)?;
            command.stderr(writer);
            streams = Some([stdout, stderr]);
        }
        Stdio::Inherit { stdin: pass } => {
            command
                .stdout(ProcessStdio::inherit())
                .stderr(ProcessStdio::inherit());
            if pass {
                stdin = Some(io::stdin().as_fd().try_clone_to_owned().map_err(start)?);
            }
        }
        Stdio::Terminal { .. } => {
            command
                .stdout(ProcessStdio::null())
                .stderr(ProcessStdio::inherit());
        }
    }
    let child = command.spawn().map_err(start)?;
    // The writing ends of the pipes are the command's alone now.
    drop(command);
    let process = Process {
        pid: Pid::from_child(&child),
        is_init: false,
    };
    let running = Running::new(&spec, process, ours, streams, sink)?;
    let mut descriptors = vec![request.as_fd()];
    descriptors.extend(stdin.as_ref().map(AsFd::as_fd));
    send(running.shared.control.as_fd(), &(), &descriptors).map_err(start)?;
    Ok(running)
}

/// The child of this process that a sandbox is.
#[derive(Debug)]
pub(super) struct Process {
    pub pid: Pid,
    /// It is the sandbox's init, and all that the sandbox has used counts as its own. Otherwise it is
    /// a first process, which tells what was used.
    pub is_init: bool,
}

impl Process {
    fn kill(&self) -> io::Result<()> {
        // It was not waited for, so the number is still its own.
        Ok(rustix::process::kill_process(self.pid, Signal::KILL)?)
    }

    fn wait(&self) -> io::Result<(ExitStatus, Option<Resources>)> {
        let (status, usage) = sys::wait_for(self.pid)?;
        Ok((status, self.is_init.then(|| init::resources(&usage))))
    }
}

/// A command that re-executes this program as a sandbox process with `socket` as its stdin.
pub(super) fn command(socket: OwnedFd) -> io::Result<Command> {
    let program = program()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    // Without a hook between fork and exec, the standard library takes posix_spawn, whose cost
    // doesn't grow with this process's memory.
    command
        .arg0(protocol::ARGV0)
        .env_clear()
        .stdin(socket)
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::inherit())
        // Ctrl-C on the terminal is for the caller to act on.
        .process_group(0);
    Ok(command)
}

/// This program's file, as it was when first asked: an upgrade in the middle of a build can't mix
/// two versions.
pub(crate) fn program() -> io::Result<BorrowedFd<'static>> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.as_fd());
    }
    let program = open_program()?;
    Ok(PROGRAM.get_or_init(|| program).as_fd())
}

fn open_program() -> io::Result<OwnedFd> {
    let path = "/proc/self/exe";
    // Through a mount of its own that can't be written to: a command that got hold of the program
    // behind its sandbox's processes could otherwise overwrite it on the host.
    let program = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let same_here = || -> io::Result<OwnedFd> {
        // Where this process has gone to a mount namespace of its own, its program is still on a
        // mount of the old one, which can't be cloned from here.
        let name = rustix::fs::readlinkat(CWD, path, Vec::new())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = rustix::fs::open(name, flags, Mode::empty())?;
        let (found_is, program_is) = (rustix::fs::fstat(&found)?, rustix::fs::fstat(&program)?);
        if (found_is.st_dev, found_is.st_ino) == (program_is.st_dev, program_is.st_ino) {
            Ok(found)
        } else {
            // It was replaced meanwhile: nobody will start the old one again.
            Err(io::ErrorKind::NotFound.into())
        }
    };
    let read_only = |file: &OwnedFd| -> io::Result<OwnedFd> {
        let mount = super::mount::clone_tree(file, false)?;
        super::mount::set_attributes(&mount, false, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        Ok(mount)
    };
    Ok(read_only(&program)
        .or_else(|_| read_only(&same_here()?))
        .unwrap_or(program))
}

#[derive(Debug)]
struct Shared {
    control: OwnedFd,
    wake: OwnedFd,
    cancelled: AtomicBool,
}

/// Ends a running sandbox, from any thread.
#[derive(Debug, Clone)]
pub struct Canceller {
    shared: Weak<Shared>,
}

impl Canceller {
    /// Asks the command to end with its stop signal; when its stop time-out has passed, everything
    /// in the sandbox is killed. Returns at once; a second call, or one after the end, does nothing.
    pub fn cancel(&self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if shared.cancelled.swap(true, Ordering::SeqCst) {
            return;
        }
        // If nobody is there to receive it, the sandbox is at its end already.
        send(shared.control.as_fd(), &Order::Cancel, &[]).ok();
        rustix::io::write(&shared.wake, &1_u64.to_ne_bytes()).ok();
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: i32) {
        if let Some(shared) = self.shared.upgrade() {
            send(shared.control.as_fd(), &Order::Signal(signal), &[]).ok();
        }
    }
}

/// A sandbox that was started. Dropped without [`wait`](Self::wait), it is killed.
#[must_use = "a sandbox that is not waited for is killed"]
pub struct Running<'a> {
    process: Process,
    shared: Arc<Shared>,
    outputs: Vec<Output>,
    /// What both outputs are read into.
    buffer: Vec<u8>,
    relay: Option<Relay>,
    sink: Sink<'a>,
    stop_timeout: Duration,
    /// When it has taken too long.
    deadline: Option<Instant>,
    waited: bool,
}

impl std::fmt::Debug for Running<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Running")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}

/// What the sandbox has told so far.
#[derive(Default)]
struct Told {
    failure: Option<protocol::Failure>,
    created: Vec<PathBuf>,
    exit: Option<Exit>,
    usage: Resources,
    oom_kills: u64,
    timed_out: bool,
}

impl<'a> Running<'a> {
    /// A sandbox that `process` is, with its standard output and error if they are pipes.
    pub(super) fn new(
        spec: &RunSpec,
        process: Process,
        control: OwnedFd,
        streams: Option<[PipeReader; 2]>,
        sink: Sink<'a>,
    ) -> Result<Self, SandboxError> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let outputs = streams.into_iter().flatten();
        let outputs = outputs.zip([Stream::Stdout, Stream::Stderr]);
        let relay = match spec.stdio {
            Stdio::Terminal { stdin } => Some(Relay::new(stdin)),
            Stdio::Piped | Stdio::Inherit { .. } => None,
        };
        Ok(Self {
            process,
            shared: Arc::new(Shared {
                control,
                wake: wake.map_err(|error| SandboxError::Start {
                    source: error.into(),
                })?,
                cancelled: AtomicBool::new(false),
            }),
            outputs: outputs
                .map(|(pipe, stream)| Output::new(stream, pipe, spec))
                .collect(),
            buffer: Vec::new(),
            relay,
            sink,
            stop_timeout: spec.stop_timeout,
            deadline: spec
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            waited: false,
        })
    }

    /// A handle to end it from elsewhere.
    pub fn canceller(&self) -> Canceller {
        Canceller {
            shared: Arc::downgrade(&self.shared),
        }
    }

    /// Sends a signal to the command.
    pub fn signal(&self, signal: i32) {
        self.canceller().signal(signal);
    }

    /// Passes output on until everything in the sandbox has ended. Then no process, mount or
    /// control group of it is left.
    ///
    /// # Errors
    /// The sandbox could not be set up, or has died on the way.
    pub fn wait(mut self) -> Result<Outcome, SandboxError> {
        let told = self.relay();
        if told.is_err() {
            self.end();
        }
        self.waited = true;
        let lost = |source| SandboxError::Lost { source };
        let (status, usage) = self.process.wait().map_err(lost)?;
        let mut told = told.map_err(lost)?;
        told.usage = usage.unwrap_or(told.usage);
        for output in &mut self.outputs {
            output.drain(&mut self.buffer, &mut self.sink);
        }
        if let Some(relay) = self.relay.take() {
            relay.finish();
        }
        let cancelled = self.shared.cancelled.load(Ordering::SeqCst);
        if let Some(failure) = told.failure
            && !(cancelled && told.exit.is_some())
            && !told.timed_out
        {
            return Err(failure.into_error(told.created));
        }
        let ended = match told.exit {
            _ if cancelled => Ended::Cancelled,
            Some(Exit::Code(0)) => Ended::Exit(0),
            _ if told.timed_out => Ended::TimedOut,
            Some(_) if told.oom_kills > 0 => Ended::OutOfMemory,
            None if told.oom_kills > 0 => Ended::OutOfMemory,
            Some(Exit::Code(code)) => Ended::Exit(code),
            Some(Exit::Signal(signal)) => Ended::Signal(signal),
            None => {
                return Err(SandboxError::Lost {
                    source: io::Error::other(format!(
                        "the sandbox's own processes were killed ({status})"
                    )),
                });
            }
        };
        Ok(Outcome {
            ended,
            created: told.created,
            usage: told.usage,
        })
    }

    /// Handles events until the sandbox has closed its end of the control socket.
    fn relay(&mut self) -> io::Result<Told> {
        let mut told = Told::default();
        let mut kill_at: Option<Instant> = None;
        loop {
            let next = kill_at.or(self.deadline);
            let timeout = next.and_then(|at| {
                Timespec::try_from(at.saturating_duration_since(Instant::now())).ok()
            });
            let shared = Arc::clone(&self.shared);
            let wake = if kill_at.is_none() {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            let mut events = Vec::with_capacity(6);
            events.push(PollFd::from_borrowed_fd(
                shared.control.as_fd(),
                PollFlags::IN,
            ));
            events.push(PollFd::from_borrowed_fd(shared.wake.as_fd(), wake));
            let fixed = events.len();
            for output in &self.outputs {
                if let Some(pipe) = &output.pipe {
                    events.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
                }
            }
            if let Some(relay) = &self.relay {
                relay.watch(&mut events);
            }
            match rustix::event::poll(&mut events, timeout.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let happened: Vec<PollFlags> = events.iter().map(PollFd::revents).collect();
            drop(events);
            let ready: Vec<bool> = happened.iter().map(|flags| !flags.is_empty()).collect();
            let mut position = fixed;
            for output in &mut self.outputs {
                if output.pipe.is_some() {
                    if happened[position] == PollFlags::HUP {
                        // All writers are gone, and nothing is left.
                        output.pipe = None;
                    } else if ready[position] {
                        output.read(&mut self.buffer, &mut self.sink);
                    }
                    position += 1;
                }
            }
            if let Some(relay) = &mut self.relay {
                relay.handle(&ready[position..]);
            }
            if ready[1] && kill_at.is_none() {
                kill_at = Some(Instant::now() + self.stop_timeout + GRACE);
            }
            if kill_at.is_none() && self.deadline.is_some_and(|at| Instant::now() >= at) {
                told.timed_out = true;
                // If nobody is there to receive it, the sandbox is at its end already.
                send(self.shared.control.as_fd(), &Order::Kill, &[]).ok();
                kill_at = Some(Instant::now() + GRACE);
            }
            if kill_at.is_some_and(|at| Instant::now() >= at) {
                // Its parts are bound to this process's life.
                self.process.kill()?;
                kill_at = Some(Instant::now() + GRACE);
            }
            if ready[0] && !self.listen(&mut told)? {
                return Ok(told);
            }
        }
    }

    /// Takes one message; false at the end.
    fn listen(&mut self, told: &mut Told) -> io::Result<bool> {
        let message = match receive::<Report>(self.shared.control.as_fd(), false) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            message => message?,
        };
        let Some((report, descriptors)) = message else {
            return Ok(false);
        };
        match report {
            Report::Failed(failure) => {
                told.failure.get_or_insert(failure);
            }
            Report::Created(path) => {
                told.created.push(std::ffi::OsString::from_vec(path).into());
            }
            Report::Exited(exit) => told.exit = Some(exit),
            Report::Usage { usage, oom_kills } => {
                told.usage = usage;
                told.oom_kills = oom_kills;
            }
            Report::Terminal => {
                if let (Some(relay), Some(master)) =
                    (&mut self.relay, descriptors.into_iter().next())
                {
                    relay.start(master)?;
                }
            }
            Report::Probed => {}
        }
        Ok(true)
    }

    /// Makes the sandbox end: without a caller it has no reason to live.
    fn end(&self) {
        rustix::net::shutdown(&self.shared.control, rustix::net::Shutdown::Both).ok();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.waited {
            self.end();
            self.process.wait().ok();
        }
    }
}

/// One of the command's output streams.
struct Output {
    stream: Stream,
    pipe: Option<PipeReader>,
    redacted: Redacted,
    lines: Lines,
}

impl Output {
    fn new(stream: Stream, pipe: PipeReader, spec: &RunSpec) -> Self {
        Self {
            stream,
            pipe: Some(pipe),
            redacted: spec.redactor.stream(),
            lines: Lines::default(),
        }
    }

    /// Reads once; the pipe is ready.
    fn read(&mut self, buffer: &mut Vec<u8>, sink: &mut Sink<'_>) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(at_hand(buffer)) {
            Ok(length) if length > 0 => self.pass_on(&buffer[..length], sink),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            // The end.
            _ => self.pipe = None,
        }
    }

    /// Reads what is left once all writers should be gone. One that isn't (the pipe was passed out
    /// of the sandbox) is not waited for.
    fn drain(&mut self, buffer: &mut Vec<u8>, sink: &mut Sink<'_>) {
        if let Some(pipe) = &self.pipe
            && rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK).is_err()
        {
            self.pipe = None;
        }
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(at_hand(buffer)) {
                Ok(length) if length > 0 => self.pass_on(&buffer[..length], sink),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => self.pipe = None,
            }
        }
        let Self {
            stream,
            redacted,
            lines,
            pipe: _,
        } = self;
        redacted.finish(&mut |bytes| lines.push(bytes, &mut |line| sink(*stream, line)));
        lines.finish(&mut |line| sink(*stream, line));
    }

    fn pass_on(&mut self, bytes: &[u8], sink: &mut Sink<'_>) {
        let Self {
            stream,
            redacted,
            lines,
            pipe: _,
        } = self;
        redacted.push(bytes, &mut |bytes| {
            lines.push(bytes, &mut |line| sink(*stream, line));
        });
    }
}

/// A buffer that is made when something is there to be read: most commands say nothing.
fn at_hand(buffer: &mut Vec<u8>) -> &mut [u8] {
    if buffer.is_empty() {
        buffer.resize(64 * 1024, 0);
    }
    buffer
}
