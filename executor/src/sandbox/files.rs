//! Files that exist for one sandbox only, in memory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::MountAttrFlags;

use super::mount::{OF_DEVICES, PLAIN, clone_tree, detach, mount_new, set_attributes};
use super::protocol::{Failure, Stage};
use super::{DeviceKind, DeviceNode};

/// A tmpfs whose files are cut out as mounts of their own.
///
/// A file can only be bound from a file system that is mounted somewhere: the tmpfs is attached at
/// a directory for as long as files are added, and then taken away.
#[derive(Debug)]
pub(super) struct PrivateFiles {
    mount: OwnedFd,
    /// It goes with what it is attached to.
    goes_along: bool,
}

impl PrivateFiles {
    /// A new tmpfs, for the time being on top of the directory `aside` of the old root, with which it
    /// goes: to take a mount away, the kernel waits for all processors, so once has to be enough.
    /// Without such a directory, on top of `stage`, one of the new root's.
    pub(super) fn new(aside: Option<&OwnedFd>, stage: &OwnedFd) -> Result<Self, Failure> {
        let mount = mount_new(
            "tmpfs",
            &[("mode", "0700")],
            PLAIN,
            aside.unwrap_or(stage),
            "a place for private files",
        )?;
        Ok(Self {
            mount,
            goes_along: aside.is_some(),
        })
    }

    /// A file called `name`, as a detached mount. `owner` is user and group, if not the sandbox's
    /// root. Programs may be started from it if `mode` has an x bit.
    pub(super) fn add(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
        read_only: bool,
    ) -> Result<OwnedFd, Failure> {
        let make = || -> io::Result<OwnedFd> {
            let file = rustix::fs::openat(
                &self.mount,
                name,
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::from_raw_mode(0o600),
            )?;
            let mut file = File::from(file);
            file.write_all(content)?;
            if let Some((uid, gid)) = owner {
                rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
            // After the owner: a change of owner takes set-id bits away.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
            let mount = clone_tree(&file, false)?;
            let mut attributes = MountAttrFlags::empty();
            if read_only {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            set_attributes(&mount, false, attributes)?;
            if mode & 0o111 != 0 {
                crate::sys::mount_setattr(
                    mount.as_fd(),
                    false,
                    0,
                    u64::from(MountAttrFlags::MOUNT_ATTR_NOEXEC.bits()),
                )?;
            }
            Ok(mount)
        };
        make().stage(|| match owner {
            Some((uid, gid)) if uid != 0 || gid != 0 => {
                format!("make private file `{name}` for {uid}:{gid}")
            }
            _ => format!("make private file `{name}`"),
        })
    }

    /// A device node called `name`, as a detached mount on which it opens. The kernel lets nobody
    /// but the host's root make one.
    pub(super) fn add_node(&self, name: &str, node: DeviceNode) -> io::Result<OwnedFd> {
        let kind = match node.kind {
            DeviceKind::Character => FileType::CharacterDevice,
            DeviceKind::Block => FileType::BlockDevice,
            DeviceKind::Fifo => FileType::Fifo,
        };
        let number = rustix::fs::makedev(node.major, node.minor);
        rustix::fs::mknodat(&self.mount, name, kind, Mode::empty(), number)?;
        let at = rustix::fs::openat(
            &self.mount,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::fs::chownat(
            &at,
            "",
            Some(Uid::from_raw(node.uid)),
            Some(Gid::from_raw(node.gid)),
            AtFlags::EMPTY_PATH,
        )?;
        // The tmpfs is this process's own: nothing takes the name's place.
        let mode = Mode::from_raw_mode(node.mode & 0o7777);
        rustix::fs::chmodat(&self.mount, name, mode, AtFlags::empty())?;
        let mount = clone_tree(&at, false)?;
        crate::sys::mount_setattr(
            mount.as_fd(),
            false,
            u64::from(OF_DEVICES.bits()),
            u64::from(MountAttrFlags::MOUNT_ATTR_NODEV.bits()),
        )?;
        Ok(mount)
    }

    /// Takes the tmpfs away; what was cut out of it stays.
    pub(super) fn close(self) -> Result<(), Failure> {
        if self.goes_along {
            return Ok(());
        }
        detach(self.mount.as_fd()).during("take the private files' tmpfs away")
    }
}
