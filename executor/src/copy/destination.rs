//! The upper directory that a copy writes into, seen on top of the layers below.
//!
//! A directory that exists below gets a twin in the upper directory with the same metadata before
//! anything is put into it, so that the layer differs in nothing but what was copied. Modes, owners
//! and times of directories are set at the very end: until then they are ours alone (0700), and
//! what is written into them can't change their times any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;
use strata_cache::LayerView;
use strata_cache::beneath;
use strata_cache::owner;
use strata_cache::view::{Entry, FileKind, ViewError};

use super::CopyError;
use crate::archive::create;
use crate::tree::{Xattr, keeps_xattr};

/// Metadata that a directory gets when everything is in it.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<Xattr>,
}

/// The bit by which a directory hands its group down.
const SET_GROUP: u32 = 0o2000;

pub(crate) struct Destination {
    upper: OwnedFd,
    merged: LayerView,
    /// Index of the upper directory in the merged view.
    top: usize,
    epoch: Option<i64>,
    now: (i64, u32),
    /// Those of the directories below that were there before.
    entered: BTreeSet<PathBuf>,
    /// Every directory of the upper one that this copy has made or used.
    directories: BTreeMap<PathBuf, Attributes>,
    /// Look-ups of directories, kept until they are made in the upper one.
    parents: HashMap<PathBuf, Entry>,
    /// The directory that was last written to: most entries have it in common.
    last_parent: Option<(PathBuf, Arc<OwnedFd>)>,
    pub(crate) owners: Owners,
}

/// Entries whose owner is no id of this user namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owners {
    /// Those that have it noted (see [`strata_cache::owner`]): images get it.
    pub noted: u64,
    /// Those that belong to root instead.
    pub lost: u64,
}

impl std::ops::AddAssign for Owners {
    fn add_assign(&mut self, other: Self) {
        self.noted += other.noted;
        self.lost += other.lost;
    }
}

impl Destination {
    pub(crate) fn new(
        below: &LayerView,
        upper: &Path,
        epoch: Option<i64>,
    ) -> Result<Self, CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(upper, flags, Mode::empty()).map_err(|errno| CopyError::Io {
            action: "open",
            path: upper.to_owned(),
            source: errno.into(),
        })?;
        let merged = below.with_upper(upper.to_owned());
        let top = merged.root()?.layer;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Ok(Self {
            upper: fd,
            merged,
            top,
            epoch,
            now: (
                i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
                now.subsec_nanos(),
            ),
            entered: BTreeSet::new(),
            directories: BTreeMap::new(),
            parents: HashMap::new(),
            last_parent: None,
            owners: Owners::default(),
        })
    }

    pub(crate) fn upper(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }

    /// `time`, or the epoch if that is earlier.
    pub(crate) fn clamp(&self, time: (i64, u32)) -> (i64, u32) {
        clamp(self.epoch, time)
    }

    /// The time of what has no other.
    pub(crate) fn now(&self) -> (i64, u32) {
        self.clamp(self.now)
    }

    /// Follows `path`, symlinks included, as far as it exists; see [`LayerView::resolve`].
    pub(crate) fn resolve(&self, path: &Path) -> Result<(Entry, PathBuf), ViewError> {
        self.merged.resolve(path, true)
    }

    /// What is at `path`, whose parent is a directory that was entered or made, with no symlinks
    /// on the way.
    pub(crate) fn lookup(&mut self, path: &Path) -> Result<Option<Entry>, ViewError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.merged.lookup(path, false);
        };
        if let Some(parent) = self.parents.get(parent) {
            return self.merged.child(parent, name);
        }
        match self.merged.lookup(parent, false)? {
            Some(entry) if entry.metadata.kind == FileKind::Directory => {
                let child = self.merged.child(&entry, name);
                self.parents.insert(parent.to_owned(), entry);
                child
            }
            _ => Ok(None),
        }
    }

    /// True if `entry` lies in the upper directory.
    pub(crate) fn in_upper(&self, entry: &Entry) -> bool {
        entry.layer == self.top
    }

    /// Makes sure that the existing directory at `path` (symlink-free) is in the upper directory,
    /// with its parents, each as it is below.
    pub(crate) fn enter(&mut self, path: &Path) -> Result<(), CopyError> {
        let mut missing = Vec::new();
        for ancestor in path.ancestors() {
            if self.directories.contains_key(ancestor) {
                break;
            }
            missing.push(ancestor);
        }
        for ancestor in missing.into_iter().rev() {
            let entry = match self.lookup(ancestor)? {
                Some(entry) if entry.metadata.kind == FileKind::Directory => entry,
                _ => {
                    return Err(ViewError::NotADirectory {
                        path: ancestor.to_owned(),
                    }
                    .into());
                }
            };
            let attributes = Attributes {
                mode: entry.metadata.mode,
                owner: (entry.metadata.uid, entry.metadata.gid),
                mtime: entry.metadata.mtime,
                xattrs: self.merged.xattrs(&entry)?,
            };
            if !self.in_upper(&entry) {
                self.make(ancestor)?;
            }
            self.directories.insert(ancestor.to_owned(), attributes);
            self.entered.insert(ancestor.to_owned());
        }
        Ok(())
    }

    /// Makes a directory that isn't there. Its parent has been entered or made.
    pub(crate) fn create(&mut self, path: &Path, attributes: Attributes) -> Result<(), CopyError> {
        self.make(path)?;
        self.directories.insert(path.to_owned(), attributes);
        Ok(())
    }

    /// The attributes that an entered directory will get.
    pub(crate) fn attributes(&mut self, path: &Path) -> Option<&mut Attributes> {
        self.directories.get_mut(path)
    }

    /// Makes the directories `missing` below the existing directory `entry`: parents that nobody
    /// described. Gives the path of the last. As with mkdir(2), a directory in one with the set-group-ID bit
    /// has that bit too, and its group, unless an owner was asked for.
    pub(crate) fn create_parents(
        &mut self,
        entry: &Entry,
        missing: &Path,
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> Result<PathBuf, CopyError> {
        if entry.metadata.kind != FileKind::Directory {
            return Err(ViewError::NotADirectory {
                path: entry.path.clone(),
            }
            .into());
        }
        self.enter(&entry.path)?;
        let mut path = entry.path.clone();
        let above = self.directories.get(&path);
        let group = above
            .filter(|above| above.mode & SET_GROUP != 0)
            .map(|above| above.owner.1);
        let mode = mode | group.map_or(0, |_| SET_GROUP);
        let owner = owner.unwrap_or((0, group.unwrap_or(0)));
        for component in missing.components() {
            if let Component::Normal(name) = component {
                path.push(name);
                let attributes = Attributes {
                    mode,
                    owner,
                    mtime: self.now(),
                    xattrs: Vec::new(),
                };
                self.create(&path, attributes)?;
            }
        }
        Ok(path)
    }

    fn make(&mut self, path: &Path) -> Result<(), CopyError> {
        let (parent, name) = self.parent(path)?;
        self.parents.remove(path);
        rustix::fs::mkdirat(&*parent, &name, Mode::RWXU).map_err(failed("create", path))
    }

    /// The open directory that holds `path`, which is in the upper directory, and the last name.
    pub(crate) fn parent(&mut self, path: &Path) -> Result<(Arc<OwnedFd>, OsString), CopyError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(failed("create", path)(Errno::EXIST));
        };
        if let Some((last, fd)) = &self.last_parent
            && last == parent
        {
            return Ok((Arc::clone(fd), name.to_owned()));
        }
        let fd = Arc::new(open_directory(self.upper(), parent)?);
        self.last_parent = Some((parent.to_owned(), Arc::clone(&fd)));
        Ok((fd, name.to_owned()))
    }

    /// Removes what is at `path` in the upper directory. Not for directories.
    pub(crate) fn unlink(&mut self, path: &Path) -> Result<(), CopyError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::unlinkat(&*parent, &name, AtFlags::empty()).map_err(failed("replace", path))
    }

    /// True if the upper directory has something at `path`, whose parent it has.
    pub(crate) fn has(&mut self, path: &Path) -> Result<bool, CopyError> {
        let (parent, name) = self.parent(path)?;
        match rustix::fs::statat(&*parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("look up", path)(errno)),
        }
    }

    /// The target of a symlink.
    pub(crate) fn read_link(&self, entry: &Entry) -> Result<PathBuf, ViewError> {
        self.merged.read_link(entry)
    }

    /// Brings a file or link from below into the upper directory as it is.
    pub(crate) fn copy_up(&mut self, entry: &Entry) -> Result<(), CopyError> {
        let path = &entry.path;
        self.enter(path.parent().unwrap_or(Path::new("")))?;
        let metadata = &entry.metadata;
        let attributes = Attributes {
            mode: metadata.mode,
            owner: (metadata.uid, metadata.gid),
            mtime: metadata.mtime,
            xattrs: self.merged.xattrs(entry)?,
        };
        let (parent, name) = self.parent(path)?;
        let owners = match metadata.kind {
            FileKind::File => {
                let mut source = self.merged.open(entry)?;
                let mut file = create(parent.as_fd(), &name, path)?;
                std::io::copy(&mut source, &mut file).map_err(failed("write", path))?;
                set_attributes(file.as_fd(), path, &attributes)?
            }
            FileKind::Symlink => {
                let target = self.merged.read_link(entry)?;
                rustix::fs::symlinkat(&target, &*parent, &name).map_err(failed("create", path))?;
                set_attributes_at(parent.as_fd(), &name, path, &attributes, true)?
            }
            _ => return Err(failed("link", path)(Errno::NOTSUP)),
        };
        // It has the owner that it had, if that could be noted.
        self.owners.lost += owners.lost;
        Ok(())
    }

    /// Hides what lower layers have in the directory at `path`. A store of root's has its marks
    /// in `trusted.`, one of an ordinary user's (who can't set those) in `user.`.
    pub(crate) fn make_opaque(&mut self, path: &Path) -> Result<(), CopyError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = beneath::open(self.upper(), path, flags).map_err(failed("open", path))?;
        let none = XattrFlags::empty();
        match rustix::fs::fsetxattr(&fd, "trusted.overlay.opaque", b"y", none) {
            Err(Errno::PERM | Errno::NOTSUP) => {
                rustix::fs::fsetxattr(&fd, "user.overlay.opaque", b"y", none)
            }
            result => result,
        }
        .map_err(failed("mark as opaque", path))
    }

    /// Removes a directory with everything in it from the upper directory. What is below stays,
    /// and has to be hidden by what comes in its place.
    pub(crate) fn remove_tree(&mut self, path: &Path) -> Result<(), CopyError> {
        self.last_parent = None;
        self.parents.clear();
        self.directories.retain(|known, _| !known.starts_with(path));
        // A stack of our own: an archive may nest thousands of directories.
        let mut pending = vec![(path.to_owned(), false)];
        while let Some((path, emptied)) = pending.pop() {
            let above = path.parent().unwrap_or(Path::new(""));
            let name = path.file_name().unwrap_or_default();
            if emptied {
                let parent = open_directory(self.upper(), above)?;
                rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
                    .map_err(failed("remove", &path))?;
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = match beneath::open(self.upper(), &path, flags) {
                Ok(fd) => fd,
                // It is only below.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed("open", &path)(error)),
            };
            pending.push((path.clone(), true));
            for entry in rustix::fs::Dir::read_from(&fd).map_err(failed("read", &path))? {
                let entry = entry.map_err(failed("read", &path))?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                match rustix::fs::unlinkat(&fd, name, AtFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::ISDIR | Errno::PERM) => {
                        pending.push((path.join(OsStr::from_bytes(name.to_bytes())), false));
                    }
                    Err(errno) => return Err(failed("remove", &path)(errno)),
                }
            }
        }
        Ok(())
    }

    /// Gives every directory its metadata, children before their parents: once a parent has a
    /// mode of its own, an ordinary user may not get through it any more.
    pub(crate) fn finish(&mut self) -> Result<(), CopyError> {
        self.last_parent = None;
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = beneath::open(self.upper(), &path, flags).map_err(failed("open", &path))?;
            let owners = set_attributes(fd.as_fd(), &path, &attributes)?;
            // It has the owner that it had.
            if owners.lost > 0 || !self.entered.contains(&path) {
                self.owners += owners;
            }
        }
        Ok(())
    }
}

/// `time`, or the epoch if that is earlier.
pub(crate) fn clamp(epoch: Option<i64>, time: (i64, u32)) -> (i64, u32) {
    match epoch {
        Some(epoch) if time.0 >= epoch => (epoch, 0),
        _ => time,
    }
}

/// Opens a directory of the upper one to create something in it.
pub(crate) fn open_directory(upper: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, CopyError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    beneath::open(upper, path, flags).map_err(failed("open", path))
}

/// Sets owner, mode, extended attributes and times of an open file or directory, in the order in
/// which none undoes another. Tells if the owner could not be set.
pub(crate) fn set_attributes(
    fd: BorrowedFd<'_>,
    path: &Path,
    attributes: &Attributes,
) -> Result<Owners, CopyError> {
    let (uid, gid) = ids(attributes.owner);
    let noted = match rustix::fs::fchown(fd, Some(uid), Some(gid)) {
        Ok(()) => owner::forget(fd).map(|()| None),
        // This user namespace has no such id, or we are nobody special: the file stays ours.
        Err(Errno::INVAL | Errno::PERM) => owner::note(fd, attributes.owner).map(Some),
        Err(error) => Err(error),
    };
    let owners = match noted.map_err(failed("change owner of", path))? {
        None => Owners::default(),
        Some(true) => Owners { noted: 1, lost: 0 },
        Some(false) => Owners { noted: 0, lost: 1 },
    };
    for (name, value) in &attributes.xattrs {
        if keeps_xattr(name) {
            let name = OsStr::from_bytes(name);
            best_effort(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()));
        }
    }
    rustix::fs::fchmod(fd, Mode::from_raw_mode(attributes.mode))
        .map_err(failed("change mode of", path))?;
    rustix::fs::futimens(fd, &times(attributes.mtime)).map_err(failed("set times of", path))?;
    Ok(owners)
}

/// The same for what is not opened: links, devices, fifos, sockets.
pub(crate) fn set_attributes_at(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
    attributes: &Attributes,
    is_link: bool,
) -> Result<Owners, CopyError> {
    let (uid, gid) = ids(attributes.owner);
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let lost = match rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags) {
        Ok(()) => 0,
        Err(Errno::INVAL | Errno::PERM) => 1,
        Err(error) => return Err(failed("change owner of", path)(error)),
    };
    if !attributes.xattrs.is_empty() {
        let mut by_descriptor = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        by_descriptor.extend_from_slice(name.as_bytes());
        let by_descriptor = OsString::from_vec(by_descriptor);
        for (name, value) in &attributes.xattrs {
            if keeps_xattr(name) {
                let name = OsStr::from_bytes(name);
                let flags = XattrFlags::empty();
                best_effort(rustix::fs::lsetxattr(&by_descriptor, name, value, flags));
            }
        }
    }
    if !is_link {
        // Nobody else has access to the upper directory: the name is still what was made.
        let mode = Mode::from_raw_mode(attributes.mode);
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
            .map_err(failed("change mode of", path))?;
    }
    let times = times(attributes.mtime);
    rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("set times of", path))?;
    Ok(Owners { noted: 0, lost })
}

/// Extended attributes that the file system or our rights don't allow are left out, as every engine
/// does.
fn best_effort(_: rustix::io::Result<()>) {}

fn ids(owner: (u32, u32)) -> (rustix::fs::Uid, rustix::fs::Gid) {
    (
        rustix::fs::Uid::from_raw(owner.0),
        rustix::fs::Gid::from_raw(owner.1),
    )
}

fn times(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.0,
            tv_nsec: mtime.1.into(),
        },
    }
}

/// Turns the kernel's answer into an error about `path` in the image.
pub(crate) fn failed<E: Into<std::io::Error>>(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> CopyError + use<E> {
    let path = Path::new("/").join(path);
    move |error| CopyError::Io {
        action,
        path,
        source: error.into(),
    }
}
