//! Isolated networks: a namespace, and a program that is its way out.
//!
//! ```text
//! sandbox's first process ── fork ──> keeper ── fork ──> process 1 of a pid namespace
//!    │ enters the network               │ makes the network       │ in the caller's network
//!    └── socket ────────────────────────┘                         └── pasta or slirp4netns
//! ```
//!
//! The helper is alone with its process 1 in a pid namespace that nothing of the sandbox is in: the
//! command can neither see nor touch it, and whatever becomes of the others, it ends. The keeper dies
//! with the first process, process 1 with the keeper, and the kernel then kills the helper, even one
//! that made itself a daemon.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::super::protocol::{self, Failure, Stage, receive, send};
use super::names::needs_forwarder;
use super::{Installed, Isolated, Link, NetworkHelper, gateway};
use crate::sys::{self, Fork};

/// How long a helper may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An address that pasta passes on to the host's name server.
const FORWARDER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);

/// Where slirp4netns answers for the host's name servers.
const SLIRP_NAMESERVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 2, 3);

/// From the keeper to the sandbox's first process.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    /// The namespace comes along.
    Made,
    /// It has its way out.
    Up(Link),
    /// It hasn't.
    Failed(Failure),
}

/// What process 1 tells the keeper.
type Answer = Result<NetworkHelper, Failure>;

/// An isolated network's keeper. When it is dropped, the network's helper has ended.
#[derive(Debug)]
pub(in super::super) struct Keeper {
    process: Option<Pid>,
    socket: OwnedFd,
}

impl Keeper {
    /// Lets go of it in a forked child, which has no say in when it ends.
    pub(in super::super) fn forget(mut self) {
        self.process = None;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let Some(process) = self.process else {
            return;
        };
        // Whoever else still has this end.
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).ok();
        wait(process);
    }
}

/// Makes an isolated network with one of `helpers` as its way out, and enters it. This process must
/// have one thread.
pub(in super::super) fn start(
    isolated: Isolated,
    helpers: &[Installed],
) -> Result<(Keeper, Link), Failure> {
    let stage = "make an isolated network";
    let forwards = needs_forwarder();
    let (ours, theirs) = protocol::pair().during(stage)?;
    let keeper = match sys::fork().during(stage)? {
        Fork::Child => sys::exit_now(keep(&theirs, isolated, helpers, forwards)),
        Fork::Parent(process) => Keeper {
            process: Some(process),
            socket: ours,
        },
    };
    drop(theirs);
    let lost = || Failure::new(stage, "its process ended without a word");
    let next = || {
        let message = receive::<Told>(keeper.socket.as_fd(), true).during(stage)?;
        message.ok_or_else(lost)
    };
    match next()? {
        (Told::Made, namespace) => {
            let namespace = namespace.first().ok_or_else(lost)?;
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET)
                .during("enter an isolated network")?;
        }
        (Told::Failed(failure), _) => return Err(failure),
        (Told::Up(_), _) => return Err(lost()),
    }
    match next()? {
        (Told::Up(link), _) => Ok((keeper, link)),
        (Told::Failed(failure), _) => Err(failure),
        (Told::Made, _) => Err(lost()),
    }
}

/// The keeper's life; gives its exit status.
fn keep(socket: &OwnedFd, isolated: Isolated, helpers: &[Installed], forwards: bool) -> i32 {
    let Ok(socket) = leave_all_but(socket) else {
        return 2;
    };
    let told = match make(&socket, isolated, helpers, forwards) {
        Ok((one, link)) => {
            let sent = send(socket.as_fd(), &Told::Up(link), &[]);
            if sent.is_ok() {
                wait_for_end(&socket);
            }
            drop(one);
            return 0;
        }
        Err(failure) => Told::Failed(failure),
    };
    // The first process may be gone: then nobody is left to tell.
    send(socket.as_fd(), &told, &[]).map_or(2, |()| 1)
}

/// Lets go of everything that this process was born with, the command's streams and the caller's
/// socket among it, but for `socket`.
fn leave_all_but(socket: &OwnedFd) -> io::Result<OwnedFd> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    sys::reset_signals();
    sys::dup_onto(socket.as_fd(), 0)?;
    sys::close_from(3, false)?;
    let socket = {
        let lowest = sys::take_fd(0)?;
        rustix::io::fcntl_dupfd_cloexec(&lowest, 3)?
    };
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())?;
    for target in 0..=2 {
        sys::dup_onto(null.as_fd(), target)?;
    }
    // The lowest free number, 0: it stays open as this process's standard input.
    #[expect(clippy::mem_forget, reason = "descriptor 0 must stay open for good")]
    std::mem::forget(null);
    Ok(socket)
}

/// Process 1 of the helper's pid namespace. When it is dropped, everything in there has ended.
struct One {
    process: Pid,
    /// It lives as long as this is open.
    go: io::PipeWriter,
}

impl Drop for One {
    fn drop(&mut self) {
        // It can have ended, but its number is still its own: nobody else waits for it.
        rustix::process::kill_process(self.process, Signal::KILL).ok();
        wait(self.process);
    }
}

/// Makes the namespace and its way out.
fn make(
    socket: &OwnedFd,
    isolated: Isolated,
    helpers: &[Installed],
    forwards: bool,
) -> Result<(One, Link), Failure> {
    let stage = "make an isolated network";
    let (wait_for_go, go) = io::pipe().during(stage)?;
    let (answer, tell) = io::pipe().during(stage)?;
    // As /proc has it, which may be that of an outer pid namespace.
    let own = std::fs::read_link("/proc/self").during(stage)?;
    let namespace = format!("/proc/{}/ns/net", own.display());
    nix::sched::unshare(CloneFlags::CLONE_NEWPID).during("make a pid namespace")?;
    let mut one = match sys::fork().during(stage)? {
        Fork::Child => {
            drop((go, answer));
            let way = Way {
                isolated,
                forwards,
                namespace,
            };
            sys::exit_now(serve(wait_for_go, tell, helpers, &way))
        }
        Fork::Parent(process) => One { process, go },
    };
    drop((wait_for_go, tell));
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).during("make a network namespace")?;
    sys::loopback_up().during("switch the loopback interface on")?;
    // Helpers give up most of their rights before they look for the namespace by this process, which
    // the kernel lets them do only if it has no right that they lack.
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none).during("drop capabilities")?;
    let here = rustix::fs::open(
        "/proc/self/ns/net",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .during(stage)?;
    send(socket.as_fd(), &Told::Made, &[here.as_fd()]).during(stage)?;
    one.go.write_all(b"g").during(stage)?;
    let helper = listen(socket, answer).during(stage)??;
    let mut link = Link {
        gateway: gateway(),
        ..Link::default()
    };
    match helper {
        NetworkHelper::Slirp4netns => {
            link.nameserver = Some(SLIRP_NAMESERVER.into());
            link.alone = true;
        }
        NetworkHelper::Pasta if forwards => link.nameserver = Some(FORWARDER.into()),
        NetworkHelper::Pasta => {}
    }
    Ok((one, link))
}

/// Waits for what process 1 says, or for nobody to be interested any more.
fn listen(socket: &OwnedFd, mut answer: io::PipeReader) -> io::Result<Answer> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        let mut events = [
            PollFd::from_borrowed_fd(answer.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP),
        ];
        match rustix::event::poll(&mut events, left.as_ref()) {
            Ok(0) => return Err(io::Error::other("its helper gave no answer in time")),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !events[0].revents().is_empty() {
            let mut text = Vec::new();
            answer.read_to_end(&mut text)?;
            if text.is_empty() {
                return Err(io::Error::other("its helper's process was killed"));
            }
            return Ok(serde_json::from_slice(&text)?);
        }
        if !events[1].revents().is_empty() {
            return Err(io::Error::other("it is not wanted any more"));
        }
    }
}

/// Waits until the other end of `socket` is closed.
fn wait_for_end(socket: &OwnedFd) {
    loop {
        let mut events = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
        match rustix::event::poll(&mut events, None) {
            Err(rustix::io::Errno::INTR) | Ok(0) => {}
            _ => return,
        }
    }
}

fn wait(process: Pid) {
    // Any other error means that there is nothing to wait for.
    while matches!(
        rustix::process::waitpid(Some(process), WaitOptions::empty()),
        Err(rustix::io::Errno::INTR)
    ) {}
}

/// What the way out is to be like.
struct Way {
    isolated: Isolated,
    forwards: bool,
    /// Path of the namespace.
    namespace: String,
}

/// The life of process 1: starts a helper, tells, and stays until the keeper is gone.
fn serve(
    mut go: io::PipeReader,
    mut tell: io::PipeWriter,
    helpers: &[Installed],
    way: &Way,
) -> i32 {
    if rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_err() {
        return 2;
    }
    // The keeper may have died before that.
    if !matches!(go.read(&mut [0]), Ok(1)) {
        return 2;
    }
    let answer = start_one(helpers, way);
    let running = answer.as_ref().map(|(helper, _)| *helper);
    let text = serde_json::to_vec(&running.map_err(Clone::clone)).unwrap_or_default();
    if tell.write_all(&text).is_err() {
        return 2;
    }
    drop(tell);
    // Until it is closed.
    while matches!(go.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::Interrupted) {}
    0
}

/// Starts the first helper that works.
fn start_one(
    helpers: &[Installed],
    way: &Way,
) -> Result<(NetworkHelper, Option<std::process::Child>), Failure> {
    let mut complaints = Vec::new();
    for installed in helpers {
        let started = match installed.helper {
            NetworkHelper::Pasta => pasta(installed, way),
            NetworkHelper::Slirp4netns => slirp4netns(installed, way),
        };
        match started {
            Ok(child) => return Ok((installed.helper, child)),
            Err(error) => complaints.push(format!("{}: {error}", installed.path.display())),
        }
    }
    let device = File::options().read(true).write(true).open(TUN);
    if let Err(error) = device {
        complaints.push(format!(
            "`{TUN}` can't be opened ({error}): root can make it usable for all with `chmod 0666 \
             {TUN}`, as it usually is"
        ));
    }
    Err(Failure::new(
        "give the isolated network its way out",
        complaints.join("; "),
    ))
}

/// The device that helpers need.
pub(super) const TUN: &str = "/dev/net/tun";

/// Starts pasta, which makes itself a daemon when all is ready.
fn pasta(installed: &Installed, way: &Way) -> io::Result<Option<std::process::Child>> {
    let mut errors = memory_file()?;
    let mut command = helper(installed, &errors)?;
    // Nothing is passed in from the host, and only to the outside from here. Root is root of its own
    // user namespace, or else pasta would lose the right to enter the network.
    command
        .args(["--config-net", "--quiet", "--runas", "0"])
        .args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    if !way.isolated.host_loopback {
        command.arg("--no-map-gw");
    }
    if way.forwards {
        command.arg("--dns-forward").arg(FORWARDER.to_string());
    }
    let status = command
        .arg("--netns")
        .arg(&way.namespace)
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(None);
    }
    Err(complaint(status, &mut errors))
}

/// Starts slirp4netns, which writes a byte when all is ready.
fn slirp4netns(installed: &Installed, way: &Way) -> io::Result<Option<std::process::Child>> {
    let mut errors = memory_file()?;
    let (mut ready, tell) = io::pipe()?;
    let mut command = helper(installed, &errors)?;
    command.args(["--configure", "--mtu=65520", "--ready-fd=0"]);
    if !way.isolated.host_loopback {
        command.arg("--disable-host-loopback");
    }
    command
        .args(["--netns-type=path", &way.namespace, "tap0"])
        .stdin(tell);
    let mut child = command.spawn()?;
    drop(command);
    let answer = loop {
        match ready.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => break answer?,
        }
    };
    if answer == 1 {
        return Ok(Some(child));
    }
    Err(complaint(child.wait()?, &mut errors))
}

fn helper(installed: &Installed, errors: &File) -> io::Result<Command> {
    let mut command = Command::new(&installed.path);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdout(Stdio::null())
        .stderr(errors.try_clone()?);
    Ok(command)
}

fn memory_file() -> io::Result<File> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    Ok(rustix::fs::memfd_create("strata-network", flags)?.into())
}

/// What a helper said before it failed.
fn complaint(status: ExitStatus, errors: &mut File) -> io::Error {
    let mut text = Vec::new();
    let read = errors
        .rewind()
        .and_then(|()| errors.take(4096).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        // Said of a host without a log, and of one without IPv6, which is no failure.
        .filter(|line| !line.is_empty() && !line.contains("syslog") && !line.ends_with("for IPv6"))
        .collect();
    if read.is_err() || lines.is_empty() {
        return io::Error::other(status.to_string());
    }
    io::Error::other(lines.join(", "))
}
