//! Layer archives to overlay upper directories.
//!
//! No path of the archive reaches the kernel as it stands. The parent of each entry is resolved
//! through the view of the layers below with the new one on top, symlinks inside that root only; the
//! result, which holds no symlink, is opened below the new layer's directory without following
//! anything; and the entry's own name is used with `*at` calls that create or fail.

mod hide;
mod link;
mod node;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::header::EntryType;
use super::read::{ArchiveEntry, ArchiveReader};
use super::{Applied, DiffError, Limits, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::attributes::{Attributes, Failure, Tolerated, set_times};
use crate::beneath;
use crate::layer::HardLinks;
use crate::view::{Entry, LayerView, ViewError};
use crate::xattr;

/// What the files of aufs itself begin with: some old images hold them. They mean nothing.
const AUFS_PREFIX: &[u8] = b".wh..wh.";

pub(super) fn apply_layer(
    input: &mut dyn Read,
    directory: &Path,
    below: &LayerView,
    userxattr: bool,
    limits: Limits,
) -> Result<Applied, DiffError> {
    let upper = beneath::open_root(directory).map_err(|source| DiffError::Io {
        action: "open",
        path: directory.to_owned(),
        source: source.into(),
    })?;
    let root = rustix::fs::fstat(&upper).map_err(|source| DiffError::Io {
        action: "stat",
        path: directory.to_owned(),
        source: source.into(),
    })?;
    let mut times = BTreeMap::new();
    // Filling it must not touch the root's own time.
    let nanoseconds = u32::try_from(root.st_mtime_nsec).unwrap_or(0);
    times.insert(PathBuf::new(), (root.st_mtime, nanoseconds));
    let mut applier = Applier {
        archive: ArchiveReader::new(input, limits),
        view: below.with_upper(directory.to_owned()),
        upper,
        opaque: if userxattr {
            b"user.overlay.opaque"
        } else {
            b"trusted.overlay.opaque"
        },
        limits,
        applied: Applied::default(),
        tolerated: Tolerated::default(),
        times,
        linked: BTreeSet::new(),
        copies: HashMap::new(),
        copied_bytes: 0,
        parent: None,
        buffer: vec![0; 256 * 1024],
    };
    while let Some(mut entry) = applier.archive.next()? {
        entry.xattrs.retain(|(name, _)| xattr::is_portable(name));
        applier.apply(&entry)?;
    }
    applier.finish()
}

/// What an entry's header says of its file, as far as it is part of an image.
fn attributes(entry: &ArchiveEntry) -> Attributes<'_> {
    Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        xattrs: &entry.xattrs,
    }
}

/// The directory that the last entry went into. Neighbours in an archive mostly share it. Nothing
/// that is done inside a directory can move it, so this needs no care.
struct Parent {
    /// As the archive names it.
    name: PathBuf,
    /// As it was resolved.
    path: PathBuf,
    directory: OwnedFd,
}

struct Applier<'a> {
    archive: ArchiveReader<'a>,
    /// The layers below with `upper` on top.
    view: LayerView,
    upper: OwnedFd,
    opaque: &'static [u8],
    limits: Limits,
    applied: Applied,
    tolerated: Tolerated,
    /// Times of directories, set when nothing is added to them any more.
    times: BTreeMap<PathBuf, (i64, u32)>,
    /// Names that had to do with a hard link.
    linked: BTreeSet<PathBuf>,
    /// Files of lower layers that hard links made copies of: where the copy is and its inode.
    copies: HashMap<PathBuf, (PathBuf, u64)>,
    copied_bytes: u64,
    parent: Option<Parent>,
    buffer: Vec<u8>,
}

impl Applier<'_> {
    fn apply(&mut self, entry: &ArchiveEntry) -> Result<(), DiffError> {
        self.count_entry()?;
        let names = self.names(&entry.name)?;
        let Some((last, parents)) = names.split_last() else {
            if entry.kind != EntryType::Directory {
                return Err(self.refuse("the root can only be a directory"));
            }
            let root = beneath::open_dir(self.upper.as_fd(), Path::new(""));
            let root = root.map_err(|source| io_error("open", Path::new(""), source))?;
            return self.refresh_directory(root.as_fd(), Path::new(""), &attributes(entry));
        };
        if parents.iter().any(|name| name.starts_with(AUFS_PREFIX)) {
            return Ok(());
        }
        if parents.iter().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return Err(self.refuse("something lies below a whiteout"));
        }
        let parent: PathBuf = parents.iter().map(|name| OsStr::from_bytes(name)).collect();
        if let Some(hidden) = last.strip_prefix(WHITEOUT_PREFIX) {
            if last.starts_with(AUFS_PREFIX) && *last != OPAQUE_NAME {
                return Ok(());
            }
            // aufs made its whiteouts as hard links.
            if !matches!(entry.kind, EntryType::File | EntryType::HardLink) {
                return Err(self.refuse("a whiteout is no regular file"));
            }
            if *last == OPAQUE_NAME {
                return self.hide_directory(&parent);
            }
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(self.refuse("the whiteout names nothing"));
            }
            return self.hide(&parent, OsStr::from_bytes(hidden));
        }
        self.create(&parent, OsStr::from_bytes(last), entry)
    }

    /// The components of a name, without empty ones and `.`. An absolute name counts from the root:
    /// some builders write all names so.
    fn names<'n>(&self, name: &'n [u8]) -> Result<Vec<&'n [u8]>, DiffError> {
        let mut names = Vec::new();
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(self.refuse("a name holds `..`")),
                _ if component.len() > 255 => {
                    return Err(self.refuse("a name is longer than 255 bytes"));
                }
                _ => names.push(component),
            }
        }
        Ok(names)
    }

    fn refuse(&self, reason: impl Into<String>) -> DiffError {
        self.archive.refuse(reason)
    }

    fn count_entry(&mut self) -> Result<(), DiffError> {
        self.applied.entries += 1;
        if self.applied.entries > self.limits.entries {
            return Err(self.refuse(format!("more than {} entries", self.limits.entries)));
        }
        Ok(())
    }

    /// A view's answer; where the archive is to blame, it is refused.
    fn judge<T>(&self, answer: Result<T, ViewError>) -> Result<T, DiffError> {
        answer.map_err(|error| match error {
            ViewError::Loop { .. } | ViewError::NotADirectory { .. } => {
                self.refuse(error.to_string())
            }
            error => error.into(),
        })
    }

    /// Makes sure that the directory that the archive calls `name` is in the upper layer.
    fn enter(&mut self, name: &Path, mtime: (i64, u32)) -> Result<(), DiffError> {
        if self
            .parent
            .as_ref()
            .is_some_and(|parent| parent.name == name)
        {
            return Ok(());
        }
        let (found, missing) = self.judge(self.view.resolve(name, true))?;
        if !found.is_dir() {
            return Err(self.refuse("a parent is not a directory"));
        }
        let mut directory = self.copy_up(&found)?;
        let mut path = found.path;
        for name in &missing {
            // A symlink's target may end anywhere.
            if name.as_bytes().starts_with(WHITEOUT_PREFIX) {
                return Err(self.refuse("a parent is called like a whiteout"));
            }
            self.count_entry()?;
            path.push(name);
            let attributes = Attributes {
                mode: 0o755,
                uid: 0,
                gid: 0,
                mtime,
                xattrs: &[],
            };
            directory = self.make_directory(directory.as_fd(), name, &path, &attributes)?;
        }
        self.parent = Some(Parent {
            name: name.to_owned(),
            path,
            directory,
        });
        Ok(())
    }

    /// Opens a directory of the view in the upper layer, where it is made like the one below if
    /// need be, and so are its parents.
    fn copy_up(&mut self, found: &Entry) -> Result<OwnedFd, DiffError> {
        match beneath::open_dir(self.upper.as_fd(), &found.path) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT) => {}
            Err(source) => return Err(io_error("open", &found.path, source)),
        }
        let mut path = PathBuf::new();
        let mut directory = beneath::open_dir(self.upper.as_fd(), &path)
            .map_err(|source| io_error("open", &path, source))?;
        let mut entry = self.view.root()?;
        for name in &found.path {
            path.push(name);
            entry = self.view.child(&entry, name)?.ok_or_else(|| {
                // It was there a moment ago.
                io_error("look up", &path, Errno::STALE)
            })?;
            directory = match open_child(directory.as_fd(), name) {
                Ok(child) => child,
                Err(Errno::NOENT) => {
                    self.count_entry()?;
                    let xattrs = self.view.xattrs(&entry)?;
                    let attributes = Attributes::of(&entry.metadata, &xattrs);
                    self.make_directory(directory.as_fd(), name, &path, &attributes)?
                }
                Err(source) => return Err(io_error("open", &path, source)),
            };
        }
        Ok(directory)
    }

    fn create(
        &mut self,
        parent: &Path,
        name: &OsStr,
        entry: &ArchiveEntry,
    ) -> Result<(), DiffError> {
        self.enter(parent, entry.mtime)?;
        // Taken out for the time being, so that the methods below can borrow all of `self`.
        let Some(parent) = self.parent.take() else {
            return Err(io_error("open", parent, Errno::STALE));
        };
        let path = parent.path.join(name);
        let result = self.create_in(parent.directory.as_fd(), name, &path, entry);
        self.parent = Some(parent);
        result
    }

    fn finish(mut self) -> Result<Applied, DiffError> {
        // Each open moves no other directory's time: any order will do.
        for (path, mtime) in &self.times {
            let directory = match beneath::open_dir(self.upper.as_fd(), path) {
                Ok(directory) => directory,
                Err(error) if beneath::is_absent(error) => continue,
                Err(source) => return Err(io_error("open", path, source)),
            };
            set_times(directory.as_fd(), *mtime).map_err(failed_at(path))?;
        }
        // Names may have been replaced since: what counts is which are one file now.
        let mut groups: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        for path in &self.linked {
            let found = beneath::find(self.upper.as_fd(), path);
            if let Some((_, stat)) = found.map_err(|source| io_error("look up", path, source))? {
                let group = groups.entry(stat.st_ino).or_default();
                group.push(path.as_os_str().as_bytes().to_vec());
            }
        }
        let mut groups: Vec<Vec<Vec<u8>>> = groups
            .into_values()
            .filter(|group| group.len() > 1)
            .map(|mut group| {
                group.sort();
                group
            })
            .collect();
        groups.sort();
        self.applied.links = HardLinks(groups);
        self.applied.bytes = self.archive.bytes();
        self.applied.foreign_owners = self.tolerated.foreign_owners;
        self.applied.dropped_xattrs = self.tolerated.dropped_xattrs;
        Ok(self.applied)
    }
}

fn io_error(action: &'static str, path: &Path, source: Errno) -> DiffError {
    DiffError::Io {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

fn failed_at(path: &Path) -> impl Fn(Failure) -> DiffError {
    move |(action, source)| io_error(action, path, source)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn open_child(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
