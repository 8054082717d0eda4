//! Files that need no writing because a layer of the store has them as they are to be.
//!
//! A link is the whole work: mode, owner, times and attributes are the inode's. So it is made only
//! where all of them are to be what they are. It is no hard link of the image: those are recorded apart.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use strata_cache::contents::Lookup;
use strata_cache::view::Entry;
use strata_cache::{Digest, Hasher, KnownLayer, beneath};

use super::destination::Attributes;
use crate::tree::SourceTree;

/// Changes whenever what is hashed for a file does: what older layers hold is then not recognised.
const VERSION: &[u8] = b"strata file 1\0";

/// What a layer's [`strata_cache::FileSet`] has for a regular file at `path` with this content. None if the file
/// can't be told by its digest: attributes may be set in part only.
pub(super) fn identity(path: &Path, content: Digest, attributes: &Attributes) -> Option<Digest> {
    if !attributes.xattrs.is_empty() {
        return None;
    }
    let mut hasher = Hasher::default();
    hasher.update(VERSION);
    hasher.update(content.as_bytes());
    let mut metadata = [0; 24];
    metadata[..4].copy_from_slice(&attributes.mode.to_le_bytes());
    metadata[4..8].copy_from_slice(&attributes.owner.0.to_le_bytes());
    metadata[8..12].copy_from_slice(&attributes.owner.1.to_le_bytes());
    metadata[12..20].copy_from_slice(&attributes.mtime.0.to_le_bytes());
    metadata[20..].copy_from_slice(&attributes.mtime.1.to_le_bytes());
    hasher.update(&metadata);
    hasher.update(path.as_os_str().as_bytes());
    Some(hasher.finish())
}

/// A layer that an earlier run of the same copy made.
pub(super) struct Earlier<'a> {
    root: OwnedFd,
    files: Lookup<'a>,
}

impl<'a> Earlier<'a> {
    /// None if it is gone: then everything is written.
    pub(super) fn open(layer: &'a KnownLayer) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&layer.directory, flags, Mode::empty()).ok()?;
        Some(Self {
            root,
            files: layer.files.lookup(),
        })
    }

    pub(super) fn holds(&self, file: &Digest) -> bool {
        self.files.holds(file)
    }
}

/// The directory of a source that was last linked from: neighbours have it in common.
#[derive(Default)]
pub(super) struct LastDirectory(Option<(PathBuf, OwnedFd)>);

impl LastDirectory {
    /// Links the file `old` of the directory known as `from`, which `open` opens, as `name` into `directory`.
    /// False if that can't be done (it is gone, on another file system, has too many names already): then
    /// the file is to be written.
    fn link(
        &mut self,
        (from, open): (&Path, impl FnOnce() -> Option<OwnedFd>),
        old: &OsStr,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> bool {
        if self.0.as_ref().is_none_or(|(known, _)| known != from) {
            self.0 = open().map(|opened| (from.to_owned(), opened));
        }
        self.0.as_ref().is_some_and(|(_, from)| {
            rustix::fs::linkat(from, old, directory, name, AtFlags::empty()).is_ok()
        })
    }

    /// Links the file that `layer` has at `path` as it is to be.
    pub(super) fn link_earlier(
        &mut self,
        layer: &Earlier<'_>,
        path: &Path,
        directory: BorrowedFd<'_>,
    ) -> bool {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            beneath::open(layer.root.as_fd(), parent, flags).ok()
        };
        self.link((parent, open), name, directory, name)
    }

    /// Links a file of a tree that never changes.
    pub(super) fn link_source(
        &mut self,
        tree: &dyn SourceTree,
        entry: &Entry,
        directory: BorrowedFd<'_>,
        name: &OsStr,
    ) -> bool {
        let host = &entry.host_path;
        let (Some(parent), Some(old)) = (host.parent(), host.file_name()) else {
            return false;
        };
        self.link((parent, || tree.open_parent(entry)), old, directory, name)
    }
}
