//! The command's terminal: a pty of the sandbox's own devpts, relayed to the caller's terminal.

use std::os::fd::OwnedFd;

use rustix::event::PollFd;

use super::Credentials;
use super::protocol::Failure;

/// Opens a pty of the sandbox's devpts; gives both ends. Called by the init, in its new root.
pub(super) fn open(_credentials: &Credentials) -> Result<(OwnedFd, OwnedFd), Failure> {
    Err(Failure::new("open a terminal", "terminals come later"))
}

/// Passes bytes between the caller's terminal and the command's.
#[derive(Debug)]
pub(super) struct Relay {
    _stdin: bool,
}

impl Relay {
    pub(super) fn new(stdin: bool) -> Self {
        Self { _stdin: stdin }
    }
    pub(super) fn start(&mut self, _master: OwnedFd) -> std::io::Result<()> {
        let Self { .. } = self;
        Ok(())
    }
    pub(super) fn watch<'a>(&'a self, _events: &mut Vec<PollFd<'a>>) {}
    pub(super) fn handle(&mut self, _ready: &[bool]) {}
    pub(super) fn finish(self) {}
}
