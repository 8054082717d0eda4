//! A process that starts sandboxes, for callers that start many.
//!
//! ```text
//! caller ── exec, once ──> spawner ── clone3, a sibling ──> init (pid 1), or first process
//!    └───────── waits for every one of them itself ──────────┘
//! ```
//!
//! To execute this binary again costs more than all of a sandbox's mounts: it is large, and its
//! addresses are relocated each time. So that is done once. The spawner has one thread and next to no
//! memory of its own, which makes it cheap to fork; it reads no request, so that nothing of one
//! sandbox (a secret) is left in it for the next.
//!
//! Most sandboxes need no first process to look after them: what the spawner clones is their init,
//! in its namespaces from the start. Where there is a control group to take away or a network to keep,
//! the clone is a first process, as with [`spawn`](super::spawn()).

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::network::{Installed, Link};
use super::pid1::{self, Handover};
use super::protocol::{self, Failure, Report, Request, RequestRef, Stage, receive, send};
use super::spawn::{Prepared, Process, Running, Sink};
use super::{Isolation, RunSpec, SandboxError, Stdio, init};
use crate::sys::{self, Fork};

/// What the spawner shall start. The sandbox's end of the control socket, its request, and its
/// standard output and error come along.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Order {
    /// The namespaces (`CLONE_NEW*`) of an init; none for a first process.
    init: Option<u32>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Answer {
    /// A child of the caller's has this id.
    Started(i32),
    /// The kernel refused.
    Refused,
}

/// A process that starts sandboxes faster than [`spawn`](super::spawn()).
///
/// It stays with the thread that made it, because the kernel ends the sandboxes with that thread: those
/// that other threads start must have ended before. The borrow in [`Running`] sees to that.
#[derive(Debug)]
pub struct Spawner {
    process: Child,
    /// None once it can't be relied on.
    socket: Mutex<Option<OwnedFd>>,
    /// Not to be sent to another thread, but to be shared with it.
    _here: PhantomData<MutexGuard<'static, ()>>,
}

impl Spawner {
    /// Starts the process. What it does to get ready goes on beside the caller.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start() -> Result<Self, SandboxError> {
        let start = |source| SandboxError::Start { source };
        let request = protocol::request_file(&RequestRef::Spawner).map_err(start)?;
        let (ours, theirs) = protocol::pair().map_err(start)?;
        let process = super::spawn::command(theirs)
            .and_then(|mut command| command.spawn())
            .map_err(start)?;
        let spawner = Self {
            process,
            socket: Mutex::new(Some(ours)),
            _here: PhantomData,
        };
        if let Some(socket) = &*spawner.lock() {
            send(socket.as_fd(), &(), &[request.as_fd()]).map_err(start)?;
        }
        Ok(spawner)
    }

    /// As [`spawn`](super::spawn()), which is what is done where the spawner can't do it.
    ///
    /// # Errors
    /// The process could not be started.
    pub fn spawn<'a>(
        &'a self,
        spec: &RunSpec,
        sink: Sink<'a>,
    ) -> Result<Running<'a>, SandboxError> {
        if spec.stdio != Stdio::Piped {
            return super::spawn(spec, sink);
        }
        let start = |source| SandboxError::Start { source };
        let prepared = Prepared::new(spec)?;
        let init = init_namespaces(spec);
        let (stdout, stderr) = (io::pipe().map_err(start)?, io::pipe().map_err(start)?);
        let started = self.ask(
            Order { init },
            &[
                prepared.theirs.as_fd(),
                prepared.request.as_fd(),
                stdout.1.as_fd(),
                stderr.1.as_fd(),
            ],
        );
        let Some(pid) = started else {
            return super::spawn(spec, sink);
        };
        let process = Process {
            pid,
            is_init: init.is_some(),
        };
        let streams = Some([stdout.0, stderr.0]);
        // The other ends are the sandbox's alone now.
        drop((stdout.1, stderr.1));
        Running::new(&prepared.spec, process, prepared.ours, streams, sink)
    }

    /// Lets the process go: what is spawned from here on is started by itself. Dropping it waits for
    /// its end, which is then near.
    pub fn dismiss(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None if it couldn't.
    fn ask(&self, order: Order, descriptors: &[BorrowedFd<'_>]) -> Option<Pid> {
        let mut held = self.lock();
        let socket = held.as_ref()?.as_fd();
        let answer = send(socket, &order, descriptors)
            .and_then(|()| receive::<Answer>(socket, true))
            .ok()
            .flatten();
        match answer {
            Some((Answer::Started(pid), _)) => Pid::from_raw(pid),
            Some((Answer::Refused, _)) | None => {
                *held = None;
                None
            }
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // It ends when its socket does.
        self.dismiss();
        self.process.wait().ok();
    }
}

/// The namespaces of an init that needs no first process; none if it needs one.
fn init_namespaces(spec: &RunSpec) -> Option<u32> {
    if spec.isolation != Isolation::Sandbox || spec.limits.need_group() {
        return None;
    }
    let namespaces = init::namespaces(&spec.network)?;
    Some(namespaces.bits().cast_unsigned())
}

/// The spawner's own side: serves until the caller is gone.
pub(super) fn serve(socket: OwnedFd) -> Result<(), Failure> {
    init::ignore_signals();
    // Until the first order comes there is time for what all sandboxes need.
    super::seccomp::prepare();
    loop {
        let Some((order, descriptors)) =
            receive::<Order>(socket.as_fd(), true).during("read an order")?
        else {
            return Ok(());
        };
        let forked = sys::fork_sibling(order.init.unwrap_or(0));
        let answer = match forked {
            Ok(Fork::Child) => {
                drop(socket);
                sys::exit_now(begin(order, descriptors));
            }
            Ok(Fork::Parent(pid)) => Answer::Started(pid.as_raw_nonzero().get()),
            Err(_) => Answer::Refused,
        };
        send(socket.as_fd(), &answer, &[]).during("answer")?;
    }
}

/// The clone's side.
fn begin(order: Order, descriptors: Vec<OwnedFd>) -> i32 {
    let mut descriptors = descriptors.into_iter();
    let (Some(control), Some(request), Some(stdout), Some(stderr)) = (
        descriptors.next(),
        descriptors.next(),
        descriptors.next(),
        descriptors.next(),
    ) else {
        return 2;
    };
    let prepare = || -> Result<(RunSpec, Vec<Installed>), Failure> {
        // What the caller's terminal sends to its foreground is for the caller to act on.
        rustix::process::setpgid(None, None).during("leave the caller's process group")?;
        sys::dup_onto(stdout.as_fd(), 1).during("connect stdout")?;
        sys::dup_onto(stderr.as_fd(), 2).during("connect stderr")?;
        drop((stdout, stderr));
        match protocol::read_request(request).during("read the request")? {
            Request::Run { spec, helpers } => Ok((*spec, helpers)),
            _ => Err(Failure::new("read the request", "it is for no sandbox")),
        }
    };
    let ran = match prepare() {
        Ok((spec, _)) if order.init.is_some() => {
            return pid1::run(Handover {
                spec,
                link: Link::default(),
                control,
                stdin: None,
                joins: Vec::new(),
            });
        }
        Ok((spec, helpers)) => init::run(spec, &helpers, &control, None),
        Err(failure) => Err(failure),
    };
    match ran {
        Ok(()) => 0,
        // The caller may be gone: then nobody is left to tell.
        Err(failure) => send(control.as_fd(), &Report::Failed(failure), &[]).map_or(2, |()| 1),
    }
}
