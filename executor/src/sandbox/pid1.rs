//! The sandbox's init: process 1 of its pid namespace.
//!
//! It prepares the root, starts the command, reaps what nobody waits for and ends when the command
//! does; the kernel then kills whatever is left in the namespace. It also ends when the caller is
//! gone: its socket is closed, or the process that forked it has died.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use strata_cache::RootfsPlan;

use super::command::{Program, Streams};
use super::filesystems::{mask_requested, mount_standard};
use super::mount::{attach, clone_tree, set_attributes};
use super::network::Link;
use super::overlay::{Overlay, mount_overlay, open_directory};
use super::protocol::{Exit, Failure, Order, Report, Stage, receive, send};
use super::requested::{Listening, Requested};
use super::target::{Root, Want};
use super::{HookKind, Network, RunSpec, Stdio, hooks};
use crate::sys::{self, Fork};

/// What the sandbox's first process hands to its init.
#[derive(Debug)]
pub(super) struct Handover {
    pub spec: RunSpec,
    /// What is known of its network.
    pub link: Link,
    pub control: OwnedFd,
    pub stdin: Option<OwnedFd>,
    /// Files to write `0` to, to be in the sandbox's control groups.
    pub joins: Vec<OwnedFd>,
}

/// Runs the sandbox; gives the process's exit status.
pub(super) fn run(handover: Handover) -> i32 {
    let Handover {
        spec,
        link,
        control,
        stdin,
        joins,
    } = handover;
    let started = start(&spec, &link, &control, stdin, &joins);
    // What the command was given is not kept while it runs.
    drop((spec, joins));
    let answer = started.and_then(|running| running.watch(&control).during("watch the command"));
    match answer {
        Ok(()) => 0,
        Err(failure) => {
            // The caller may be gone: then nobody is left to tell.
            send(control.as_fd(), &Report::Failed(failure), &[]).map_or(2, |()| 1)
        }
    }
}

/// A command that was started, and how it is ended.
pub(super) struct Running {
    command: Pid,
    children: SignalFd,
    stop_signal: i32,
    stop_timeout: Duration,
}

fn start(
    spec: &RunSpec,
    link: &Link,
    control: &OwnedFd,
    stdin: Option<OwnedFd>,
    joins: &[OwnedFd],
) -> Result<Running, Failure> {
    // A process 1 is deaf to signals that it has no handler for; the command gets the defaults
    // from here, so that even a signal before its start ends it.
    sys::reset_signals();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during("bind the sandbox to its parent's life")?;
    let listening = Listening::new(spec)?;
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .during("make mount propagation private")?;
    let mount = mount_root(&spec.rootfs)?;
    if !spec.insecure {
        // Root may make device nodes, or find some in the image: they open nothing.
        set_attributes(&mount, false, MountAttrFlags::MOUNT_ATTR_NODEV)
            .during("close devices off in the root file system")?;
    }
    let unified = super::cgroup::host_is_unified();
    let mut root = Root::new(mount)?;
    let stage = root.target(Path::new("/dev"), Want::Directory)?;
    let aside = aside(&spec.rootfs)?;
    let requested = Requested::prepare(spec, link, &stage, aside.as_ref(), listening)?;
    drop((stage, aside));
    mount_standard(&mut root, spec)?;
    requested.attach(&mut root)?;
    mask_requested(&root, spec)?;
    let (directory, created) = root.into_created();
    for path in created {
        let report = Report::Created(path.as_os_str().as_bytes().to_vec());
        send(control.as_fd(), &report, &[]).during("report to the caller")?;
    }
    for hook in hooks::ready(spec, HookKind::CreateContainer, "creating")? {
        hook.run()?;
    }
    pivot(&directory)?;
    drop(directory);
    if spec.network == Network::None {
        sys::loopback_up().during("switch the loopback interface on")?;
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).during("set the host name")?;
    }
    let streams = match spec.stdio {
        Stdio::Piped | Stdio::Inherit { .. } => Streams::Given { stdin },
        Stdio::Terminal { .. } => {
            let (master, slave) = super::terminal::open(&spec.credentials)?;
            send(control.as_fd(), &Report::Terminal, &[master.as_fd()])
                .during("hand the terminal to the caller")?;
            Streams::Terminal(slave)
        }
    };

    let children = watch_children()?;
    // The command must not read or change this process, which has the host's binary behind it and
    // more capabilities: not even if it has the same user id.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .during("protect the sandbox's init")?;
    let (stop_signal, stop_timeout) = (spec.stop_signal, spec.stop_timeout);
    let program = Program {
        spec,
        streams: &streams,
        joins,
        unified,
        control: control.as_fd(),
    };
    // Programs around the command may take their time, in which this process has to listen. And what
    // shares the memory of a process that breaks its limit of it is killed with it.
    let command = if spec.hooks.is_some() || !joins.is_empty() {
        match sys::fork().during("start the command's process")? {
            Fork::Child => sys::exit_now(program.become_it()),
            Fork::Parent(command) => command,
        }
    } else {
        sys::fork_to_exec(&mut || program.become_it()).during("start the command's process")?
    };
    // The caller sees the end of the output when the command's processes are gone.
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .during("open `/dev/null`")?;
    for target in 0..=2 {
        sys::dup_onto(null.as_fd(), target).during("let go of the command's streams")?;
    }
    Ok(Running {
        command,
        children,
        stop_signal,
        stop_timeout,
    })
}

/// Mounts the root file system somewhere in this mount namespace.
fn mount_root(plan: &RootfsPlan) -> Result<OwnedFd, Failure> {
    match plan {
        RootfsPlan::Overlay {
            lowers,
            upper,
            work,
            userxattr,
        } => {
            let overlay = Overlay {
                lowers,
                upper: upper.as_deref(),
                work: work.as_deref(),
                userxattr: *userxattr,
            };
            // Any directory would do to mount it on; in this namespace nobody looks below.
            let place = upper
                .as_ref()
                .or(lowers.first())
                .ok_or_else(|| Failure::new("mount overlay", "no layers"))?;
            Ok(mount_overlay(overlay, &open_directory(place)?)?.root)
        }
        RootfsPlan::Native { tree } => {
            let place = open_directory(tree)?;
            let mount = clone_tree(&place, false).during("bind the root directory")?;
            attach(&mount, place).during("bind the root directory")?;
            Ok(mount)
        }
    }
}

/// A directory of the old root that nothing is looked up in any more: the overlay's working directory,
/// which is the kernel's own by now.
fn aside(plan: &RootfsPlan) -> Result<Option<OwnedFd>, Failure> {
    match plan {
        RootfsPlan::Overlay {
            work: Some(work), ..
        } => open_directory(work).map(Some),
        _ => Ok(None),
    }
}

/// Makes `directory` the root and lets go of the old one.
fn pivot(directory: &OwnedFd) -> Result<(), Failure> {
    rustix::process::fchdir(directory).during("go to the new root")?;
    // The old root ends up on top of the new one, and is taken off.
    rustix::process::pivot_root(".", ".")
        .map_err(io::Error::from)
        .map_err(|error| {
            let mut failure = Err::<(), _>(error)
                .during("pivot_root")
                .expect_err("made from an error");
            if failure.errno == Some(libc::EINVAL) {
                failure.detail =
                    "the kernel can't change the root of a system that runs from its initramfs"
                        .into();
            }
            failure
        })?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).during("let go of the old root")?;
    rustix::process::chdir("/").during("go to the new root")
}

/// A descriptor that tells of children that have ended. Their signal is blocked from here on.
pub(super) fn watch_children() -> Result<SignalFd, Failure> {
    let mut mask = SigSet::empty();
    mask.add(NixSignal::SIGCHLD);
    mask.thread_block().during("block SIGCHLD")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .during("wait for signals")
}

impl Running {
    /// Watches `command`; `children` is [`watch_children`]'s.
    pub(super) fn new(
        command: Pid,
        children: SignalFd,
        stop_signal: i32,
        stop_timeout: Duration,
    ) -> Self {
        Self {
            command,
            children,
            stop_signal,
            stop_timeout,
        }
    }

    /// Waits for the command, or for the caller to have enough.
    pub(super) fn watch(&self, control: &OwnedFd) -> io::Result<()> {
        let mut kill_at: Option<Instant> = None;
        loop {
            let left = kill_at.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                self.signal(libc::SIGKILL);
            }
            let timeout = left
                .filter(|left| !left.is_zero())
                .and_then(|left| Timespec::try_from(left).ok());
            let (children, orders) = {
                let mut events = [
                    PollFd::from_borrowed_fd(self.children.as_fd(), PollFlags::IN),
                    PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN),
                ];
                match rustix::event::poll(&mut events, timeout.as_ref()) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                (
                    !events[0].revents().is_empty(),
                    !events[1].revents().is_empty(),
                )
            };
            if children {
                while self.children.read_signal()?.is_some() {}
                if let Some(exit) = self.reap()? {
                    return send(control.as_fd(), &Report::Exited(exit), &[]);
                }
            }
            if orders {
                match receive::<Order>(control.as_fd(), false) {
                    Ok(Some((Order::Signal(signal), _))) => self.signal(signal),
                    Ok(Some((Order::Cancel, _))) => {
                        if kill_at.is_none() {
                            self.signal(self.stop_signal);
                            kill_at = Some(Instant::now() + self.stop_timeout);
                        }
                    }
                    // Or the caller is gone. This process's end is the end of all others here.
                    Ok(Some((Order::Kill, _)) | None) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn signal(&self, signal: i32) {
        if let Ok(signal) = NixSignal::try_from(signal) {
            // It may have ended: then the reaping tells.
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(self.command.as_raw_nonzero().get()),
                signal,
            )
            .ok();
        }
    }

    /// Takes every ended child; tells how the command ended, if it did.
    fn reap(&self) -> io::Result<Option<Exit>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.command => {
                    if let Some(code) = status.exit_status() {
                        return Ok(Some(Exit::Code(code)));
                    }
                    if let Some(signal) = status.terminating_signal() {
                        return Ok(Some(Exit::Signal(signal)));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
