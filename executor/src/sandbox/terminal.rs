//! The command's terminal: a pty of the sandbox's own devpts, relayed to the caller's terminal.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::termios::{OptionalActions, Termios};

use super::Credentials;
use super::protocol::{Failure, Stage};
use crate::sys::WindowChanges;

/// Group `tty`, which may write to terminals.
const TTY: u32 = 5;

/// What a terminal's driver takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// Opens a pty of the sandbox's devpts; gives both ends. Called by the init, in its new root.
pub(super) fn open(credentials: &Credentials) -> Result<(OwnedFd, OwnedFd), Failure> {
    let make = || -> io::Result<(OwnedFd, OwnedFd)> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = rustix::fs::open(
            ptsname_r(&master)?,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        // The command's user may reopen it by its path. Ids that have no meaning in this user
        // namespace fail later, with a better message.
        let (user, group) = (Uid::from_raw(credentials.uid), Gid::from_raw(TTY));
        if rustix::fs::fchown(&slave, Some(user), Some(group)).is_err() {
            rustix::fs::fchown(&slave, Some(user), None).ok();
        }
        rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620))?;
        let master = rustix::io::fcntl_dupfd_cloexec(master.as_fd(), 3)?;
        Ok((master, slave))
    };
    make().during("open a terminal")
}

/// Passes bytes between the caller's terminal and the command's.
///
/// The caller's terminal is in raw mode from [`start`](Self::start) until this is dropped: keys go
/// to the command as they are, Ctrl-C too.
#[derive(Debug)]
pub(super) struct Relay {
    wants_stdin: bool,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    master: OwnedFd,
    /// Nothing more comes from the command.
    ended: bool,
    stdin: bool,
    /// Read from stdin, not yet taken by the command's terminal.
    pending: VecDeque<u8>,
    changes: Option<WindowChanges>,
    /// Dropped last: the caller's terminal as it was.
    _raw: Option<RawMode>,
}

impl Relay {
    /// A relay that waits for the command's terminal; `stdin` says whether keys are passed on.
    pub(super) fn new(stdin: bool) -> Self {
        Self {
            wants_stdin: stdin,
            link: None,
        }
    }

    /// The command's terminal is there.
    pub(super) fn start(&mut self, master: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let raw = if self.wants_stdin {
            RawMode::enter()?
        } else {
            None
        };
        let link = Link {
            master,
            ended: false,
            stdin: self.wants_stdin,
            pending: VecDeque::new(),
            changes: WindowChanges::watch()?,
            _raw: raw,
        };
        link.copy_size();
        self.link = Some(link);
        Ok(())
    }

    /// Adds what to wait for; [`handle`](Self::handle) wants the answers in the same order.
    pub(super) fn watch<'a>(&'a self, events: &mut Vec<PollFd<'a>>) {
        let Some(link) = &self.link else { return };
        let mut flags = PollFlags::empty();
        if !link.ended {
            flags |= PollFlags::IN;
            if !link.pending.is_empty() {
                flags |= PollFlags::OUT;
            }
        }
        // A hang-up is reported whatever is asked for, so an ended one must not be asked about.
        if !link.ended {
            events.push(PollFd::from_borrowed_fd(link.master.as_fd(), flags));
        }
        if link.reads_stdin() {
            events.push(PollFd::from_borrowed_fd(
                rustix::stdio::stdin(),
                PollFlags::IN,
            ));
        }
        if let Some(changes) = &link.changes {
            events.push(PollFd::from_borrowed_fd(changes.as_fd(), PollFlags::IN));
        }
    }

    /// Acts on what happened.
    pub(super) fn handle(&mut self, ready: &[bool]) {
        let Some(link) = &mut self.link else { return };
        let mut ready = ready.iter().copied();
        let mut next = |watched: bool| watched && ready.next().unwrap_or(false);
        let (master, stdin) = (next(!link.ended), next(link.reads_stdin()));
        let change = next(link.changes.is_some());
        if master {
            link.write_pending();
            link.read_master();
        }
        if stdin {
            link.read_stdin();
        }
        if change {
            if let Some(changes) = &link.changes {
                changes.clear();
            }
            link.copy_size();
        }
    }

    /// Passes on what is left.
    pub(super) fn finish(mut self) {
        if let Some(link) = &mut self.link {
            while !link.ended && link.read_master() {}
        }
    }
}

impl Link {
    fn reads_stdin(&self) -> bool {
        self.stdin && !self.ended && self.pending.is_empty()
    }

    /// The command's terminal gets the size of the caller's.
    fn copy_size(&self) {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
            .or_else(|_| rustix::termios::tcgetwinsize(rustix::stdio::stdout()));
        if let Ok(size) = size {
            // A size is a comfort: programs run without.
            rustix::termios::tcsetwinsize(&self.master, size).ok();
        }
    }

    /// Reads once; whether there was something.
    fn read_master(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(&self.master, &mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                if write_all(rustix::stdio::stdout(), &buffer[..length]).is_err() {
                    self.ended = true;
                }
                return true;
            }
            Err(rustix::io::Errno::INTR) => return true,
            Err(rustix::io::Errno::AGAIN) => {}
            // EIO: the last process has closed its end.
            Err(_) => self.ended = true,
        }
        false
    }

    fn read_stdin(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
            Ok(0) => {
                self.stdin = false;
                self.pending.push_back(END_OF_INPUT);
            }
            Ok(length) => self.pending.extend(&buffer[..length]),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => self.stdin = false,
        }
        self.write_pending();
    }

    fn write_pending(&mut self) {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.master, self.pending.as_slices().0) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
    }
}

fn write_all(target: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut events = [PollFd::from_borrowed_fd(target, PollFlags::OUT)];
                rustix::event::poll(&mut events, None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The caller's terminal in raw mode; dropped, it is as it was.
#[derive(Debug)]
struct RawMode {
    before: Termios,
}

impl RawMode {
    /// None if stdin is no terminal.
    fn enter() -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = rustix::termios::tcgetattr(stdin) else {
            return Ok(None);
        };
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone: then there is nothing to put right.
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before).ok();
    }
}
