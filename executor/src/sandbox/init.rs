//! The re-executed process: the sandbox's first, outside its pid namespace.
//!
//! It has one thread from birth, so it may fork and enter namespaces. It makes the namespaces and
//! the control group, forks the [init](super::pid1) and stays to take the control group away
//! afterwards, whatever has become of the caller.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::network::{self, Installed, Link};
use super::pid1::{self, Handover};
use super::protocol::{self, Failure, Report, Request, Stage, receive, send};
use super::{Isolation, Network, Resources, RunSpec};
use crate::sys::{self, Fork};

/// Becomes a sandbox's first process if this process was started to be one, and then never
/// returns. Must be the first thing in `main`: no thread may have been started, no argument read.
pub fn init_if_asked() {
    let asked = std::env::args_os()
        .next()
        .is_some_and(|name| name == protocol::ARGV0);
    if asked {
        sys::exit_now(serve());
    }
}

fn serve() -> i32 {
    // Whatever leaked into this process through a careless ancestor goes no further.
    if sys::close_from(3, false).is_err() {
        return 2;
    }
    let Ok(control) = control() else { return 2 };
    let answer = match request(&control) {
        Ok(Some((Request::Run { spec, helpers }, stdin))) => run(*spec, &helpers, &control, stdin),
        // It reports to nobody: without it, sandboxes are started one by one.
        Ok(Some((Request::Spawner, _))) => {
            return i32::from(super::spawner::serve(control).is_err());
        }
        Ok(Some((
            Request::ProbeOverlay {
                directory,
                userxattr,
            },
            _,
        ))) => super::probe::serve(&directory, userxattr).and_then(|()| {
            send(control.as_fd(), &Report::Probed, &[]).during("report to the caller")
        }),
        // The caller is gone already.
        Ok(None) => return 0,
        Err(error) => Err(error).during("read the request"),
    };
    match answer {
        Ok(()) => 0,
        // The caller may be gone: then nobody is left to tell.
        Err(failure) => send(control.as_fd(), &Report::Failed(failure), &[]).map_or(2, |()| 1),
    }
}

/// Moves the control socket away from stdin.
fn control() -> io::Result<OwnedFd> {
    let stdin = sys::take_fd(0)?;
    let control = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    drop(stdin);
    // The lowest free number: stdin.
    let null = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDWR,
        rustix::fs::Mode::empty(),
    )?;
    // Standard input belongs to nobody and stays open.
    #[expect(clippy::mem_forget, reason = "descriptor 0 must stay open for good")]
    std::mem::forget(null);
    Ok(control)
}

type Asked = (Request, Option<OwnedFd>);

fn request(control: &OwnedFd) -> io::Result<Option<Asked>> {
    let Some(((), descriptors)) = receive::<()>(control.as_fd(), true)? else {
        return Ok(None);
    };
    let mut descriptors = descriptors.into_iter();
    let file = descriptors
        .next()
        .ok_or_else(|| io::Error::other("no request came along"))?;
    Ok(Some((protocol::read_request(file)?, descriptors.next())))
}

/// A signal to the caller's process group is the caller's to act on.
pub(super) fn ignore_signals() {
    for signal in [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGTSTP,
    ] {
        sys::ignore_signal(signal);
    }
}

/// The namespaces that an init is made in; none if the network takes more than that.
pub(super) fn namespaces(network: &Network) -> Option<CloneFlags> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    match network {
        Network::Host => Some(all),
        Network::None => Some(all | CloneFlags::CLONE_NEWNET),
        Network::Namespace(_) | Network::Isolated(_) => None,
    }
}

/// The first process's work, from its request to the end of its init.
pub(super) fn run(
    spec: RunSpec,
    helpers: &[Installed],
    control: &OwnedFd,
    stdin: Option<OwnedFd>,
) -> Result<(), Failure> {
    ignore_signals();
    let group = super::cgroup::Group::create(&spec.limits)?;
    let result = run_in(spec, helpers, control, stdin, group.as_ref());
    let mut usage = result.as_ref().copied().unwrap_or_default();
    let mut oom_kills = 0;
    if let Some(group) = &group {
        let (peak, kills) = group.usage();
        oom_kills = kills;
        if let Some(peak) = peak {
            usage.peak_memory = peak;
            usage.group = true;
        }
    }
    // A caller that is gone doesn't want to know.
    send(control.as_fd(), &Report::Usage { usage, oom_kills }, &[]).ok();
    if let Some(group) = group {
        group.remove();
    }
    result.map(drop)
}

fn run_in(
    spec: RunSpec,
    helpers: &[Installed],
    control: &OwnedFd,
    stdin: Option<OwnedFd>,
    group: Option<&super::cgroup::Group>,
) -> Result<Resources, Failure> {
    let joins = match group {
        Some(group) => group.joins()?,
        None => Vec::new(),
    };
    if spec.isolation == Isolation::Chroot {
        super::chroot::run(spec, control, stdin, joins)?;
        return Ok(used());
    }
    let (keeper, link) = match &spec.network {
        Network::Host | Network::None => (None, Link::default()),
        Network::Namespace(path) => (None, network::enter(path)?),
        Network::Isolated(isolated) => {
            let (keeper, link) = network::start(*isolated, helpers)?;
            (Some(keeper), link)
        }
    };
    // The others have entered theirs.
    let namespaces = namespaces(&spec.network).or_else(|| namespaces(&Network::Host));
    nix::sched::unshare(namespaces.unwrap_or(CloneFlags::empty())).map_err(|error| Failure {
        stage: "make namespaces".into(),
        errno: Some(error as i32),
        detail: match error {
            nix::errno::Errno::EPERM => {
                "not allowed here; an ordinary user needs a user namespace".into()
            }
            nix::errno::Errno::ENOSPC => "a limit in /proc/sys/user is reached".into(),
            _ => String::new(),
        },
    })?;
    let handover_control = control.try_clone().during("share the control socket")?;
    let init = match sys::fork().during("start the sandbox's init")? {
        Fork::Child => {
            if let Some(keeper) = keeper {
                keeper.forget();
            }
            let status = pid1::run(Handover {
                spec,
                link,
                control: handover_control,
                stdin,
                joins,
            });
            sys::exit_now(status);
        }
        Fork::Parent(init) => init,
    };
    drop((handover_control, stdin, joins));
    for target in 1..=2 {
        sys::dup_onto(rustix::stdio::stdin(), target).during("let go of the command's streams")?;
    }
    drop(spec);
    let ended = wait(init, control).during("wait for the sandbox's init");
    // The init has waited for everything in the sandbox, and nothing else was waited for yet.
    let usage = used();
    drop(keeper);
    ended.map(|()| usage)
}

/// What the processes that were waited for have used.
fn used() -> Resources {
    let who = nix::sys::resource::UsageWho::RUSAGE_CHILDREN;
    nix::sys::resource::getrusage(who)
        .map_or_else(|_| Resources::default(), |usage| resources(usage.as_ref()))
}

/// The kernel's figures in ours.
pub(super) fn resources(usage: &libc::rusage) -> Resources {
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    let time = |time: libc::timeval| number(time.tv_sec) * 1_000_000 + number(time.tv_usec);
    Resources {
        // In kilobytes, and blocks of 512 bytes.
        peak_memory: number(usage.ru_maxrss) * 1024,
        group: false,
        cpu_us: time(usage.ru_utime) + time(usage.ru_stime),
        read_bytes: number(usage.ru_inblock) * 512,
        written_bytes: number(usage.ru_oublock) * 512,
    }
}

/// Waits for the init to end; ends it when the caller is gone.
fn wait(init: Pid, control: &OwnedFd) -> io::Result<()> {
    let pidfd = rustix::process::pidfd_open(init, PidfdFlags::empty())?;
    loop {
        let gone = {
            let mut events = [
                PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
                // Messages are the init's to read; only the end is of interest here.
                PollFd::from_borrowed_fd(control.as_fd(), PollFlags::RDHUP),
            ];
            match rustix::event::poll(&mut events, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = !events[0].revents().is_empty();
            !ended && !events[1].revents().is_empty()
        };
        if gone {
            rustix::process::pidfd_send_signal(&pidfd, Signal::KILL)?;
        }
        // Returns when every process of the namespace is gone: the kernel ends them before it
        // lets go of their init.
        let options = if gone {
            WaitOptions::empty()
        } else {
            WaitOptions::NOHANG
        };
        match rustix::process::waitpid(Some(init), options) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
