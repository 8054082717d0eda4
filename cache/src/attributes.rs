//! Giving a file that was just made its owner, extended attributes, mode and times.
//!
//! The order is one in which no step undoes another: a change of owner clears set-id bits and
//! capabilities, and everything before the times would change them.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::beneath;
use crate::owner;
use crate::view::Metadata;
use crate::xattr::{self, Xattr};

/// What a file's metadata is to be.
pub(crate) struct Attributes<'a> {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: &'a [Xattr],
}

/// What could not be set, and was let pass.
#[derive(Debug, Default)]
pub(crate) struct Tolerated {
    /// Owners that are not mapped into this user namespace, and could not be noted either.
    pub(crate) foreign_owners: u64,
    /// Attributes that the file system or the kernel didn't take.
    pub(crate) dropped_xattrs: u64,
}

/// A failure: what was tried (for "… `path`"), and the kernel's answer.
pub(crate) type Failure = (&'static str, Errno);

impl<'a> Attributes<'a> {
    pub(crate) fn of(metadata: &Metadata, xattrs: &'a [Xattr]) -> Self {
        Self {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            xattrs,
        }
    }

    /// Sets all but the times of an open file or directory.
    pub(crate) fn set(
        &self,
        file: BorrowedFd<'_>,
        tolerated: &mut Tolerated,
    ) -> Result<(), Failure> {
        let owner = rustix::fs::fchown(
            file,
            Some(Uid::from_raw(self.uid)),
            Some(Gid::from_raw(self.gid)),
        );
        self.own(file, owner, tolerated)?;
        self.set_xattrs(file, tolerated)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))
            .map_err(|source| ("set mode of", source))
    }

    /// Sets everything of an open file that nobody writes to any more.
    pub(crate) fn set_with_times(
        &self,
        file: BorrowedFd<'_>,
        tolerated: &mut Tolerated,
    ) -> Result<(), Failure> {
        self.set(file, tolerated)?;
        set_times(file, self.mtime)
    }

    /// Sets everything of what can't be opened: a symlink (which has no mode), a device, a fifo or
    /// a socket.
    pub(crate) fn set_node(
        &self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        is_symlink: bool,
        tolerated: &mut Tolerated,
    ) -> Result<(), Failure> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|source| ("open", source))?;
        let node = std::os::fd::AsFd::as_fd(&node);
        let owner = rustix::fs::chownat(
            parent,
            name,
            Some(Uid::from_raw(self.uid)),
            Some(Gid::from_raw(self.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        );
        self.own(node, owner, tolerated)?;
        self.set_xattrs(node, tolerated)?;
        if !is_symlink {
            // fchmod takes no `O_PATH` descriptor, and chmod would follow a name.
            let mode = Mode::from_raw_mode(self.mode);
            rustix::fs::chmod(beneath::proc_path(node), mode)
                .map_err(|source| ("set mode of", source))?;
        }
        let times = timestamps(self.mtime);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| ("set times of", source))
    }

    /// What follows from the answer to a change of owner.
    fn own(
        &self,
        file: BorrowedFd<'_>,
        changed: rustix::io::Result<()>,
        tolerated: &mut Tolerated,
    ) -> Result<(), Failure> {
        let noted = match changed {
            Ok(()) => owner::forget(file).map(|()| true),
            // The id is not mapped into this user namespace.
            Err(Errno::INVAL | Errno::PERM) => owner::note(file, (self.uid, self.gid)),
            Err(source) => Err(source),
        };
        let noted = noted.map_err(|source| ("set owner of", source))?;
        tolerated.foreign_owners += u64::from(!noted);
        Ok(())
    }

    fn set_xattrs(&self, file: BorrowedFd<'_>, tolerated: &mut Tolerated) -> Result<(), Failure> {
        for (name, value) in self.xattrs {
            match xattr::set(file, name, value) {
                Ok(()) => {}
                // Not on this file system, not on this kind of file, or not for us.
                Err(Errno::OPNOTSUPP | Errno::PERM) => tolerated.dropped_xattrs += 1,
                Err(source) => return Err(("set an attribute of", source)),
            }
        }
        Ok(())
    }
}

/// Sets the times of an open file or directory: that of access, too.
pub(crate) fn set_times(file: BorrowedFd<'_>, mtime: (i64, u32)) -> Result<(), Failure> {
    rustix::fs::futimens(file, &timestamps(mtime)).map_err(|source| ("set times of", source))
}

fn timestamps(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.0,
        tv_nsec: mtime.1.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
