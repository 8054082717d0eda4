//! Control groups: limits on what a sandbox uses.

use std::os::fd::OwnedFd;

use super::Limits;
use super::protocol::Failure;

/// Enters a cgroup namespace whose root is where this process is.
pub(super) fn enter_namespace() {
    // Without it the command sees the host's group names, and can do no more for that.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).ok();
}

/// A control group for one sandbox.
#[derive(Debug)]
pub(super) struct Group {}

impl Group {
    pub(super) fn create(limits: &Limits) -> Result<Option<Self>, Failure> {
        if *limits == Limits::default() {
            return Ok(None);
        }
        Err(Failure::new("set limits", "limits come later"))
    }
    pub(super) fn joins(&self) -> Result<Vec<OwnedFd>, Failure> {
        Ok(Vec::new())
    }
    pub(super) fn usage(&self) -> (Option<u64>, u64) {
        (None, 0)
    }
    pub(super) fn remove(self) {}
}
