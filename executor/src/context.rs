//! A build context on disk as a tree to copy from.
//!
//! Everything is read relative to one directory descriptor, component by component or with
//! `openat2`: a symlink that leads out of the context, also one that is put there while the build
//! reads, is resolved inside it or refused. What the ignore file hides does not exist here.

mod trace;
#[cfg(test)]
mod trace_tests;

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use strata_cache::beneath;
use strata_cache::statcache::StatCache;
use strata_cache::view::{Entry, FileKind, Metadata};
use strata_cache::walks::{Walk, Walks};
use strata_cache::{Digest, Store, StoreError, slot};

use crate::tree::{SourceTree, TreeError, Xattr, keeps_xattr, neutral_mode};
use trace::{Listing, Trace};

/// Says whether a path (relative to the context) is ignored; the second argument is "is a
/// directory".
pub type Ignored = Box<dyn Fn(&str, bool) -> bool + Send + Sync>;

/// Says whether an ignored directory may hold files that a later pattern takes back in.
pub type MayReinclude = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The kernel's own limit on symlinks in one path.
const MAX_LINKS: usize = 40;

/// A directory on disk, read as a build context: owned by 0:0, without what is ignored.
pub struct ContextTree {
    root: OwnedFd,
    path: PathBuf,
    ignored: Ignored,
    may_reinclude: MayReinclude,
    stat: Option<StatCache>,
    /// Ignored directories that were looked through for something re-included.
    reincluding: Mutex<HashMap<PathBuf, bool>>,
    /// The directory that each thread last read extended attributes in, and the file system's word
    /// that it has none at all.
    last_directory: [Mutex<Option<(PathBuf, OwnedFd)>>; slot::SLOTS],
    no_xattrs: AtomicBool,
    neutral: bool,
    walks: Option<Mutex<Walks>>,
    /// What the walk that goes on has seen.
    trace: Mutex<Option<Trace>>,
    traced: AtomicBool,
}

/// Entries from which on it is worth noting what a walk saw.
const WORTH_NOTING: usize = 500;

impl std::fmt::Debug for ContextTree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ContextTree")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the locks guard are caches: half an update is still a right cache.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ContextTree {
    /// Opens the context at `root`; `root` itself may be a symlink, nothing below is followed out
    /// of it. Paths are given to `ignored` with the characters that are not UTF-8 replaced.
    pub fn open(
        root: &Path,
        ignored: Ignored,
        may_reinclude: MayReinclude,
        stat: Option<StatCache>,
    ) -> Result<Self, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(|errno| TreeError::Io {
            action: "open context",
            path: root.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self {
            root: fd,
            path: root.to_owned(),
            ignored,
            may_reinclude,
            stat,
            reincluding: Mutex::default(),
            last_directory: Default::default(),
            no_xattrs: AtomicBool::new(false),
            neutral: false,
            walks: None,
            trace: Mutex::default(),
            traced: AtomicBool::new(false),
        })
    }

    /// The same tree. If `neutral`, its modes are those that a checkout has under the umask 022, so that
    /// checkouts of other people and machines are copied alike: 0755 for directories and what the owner
    /// may execute, 0644 for all else.
    #[must_use]
    pub fn neutral(mut self, neutral: bool) -> Self {
        self.neutral = neutral;
        self
    }

    /// The same tree, which knows what came of earlier walks.
    #[must_use]
    pub fn with_walks(mut self, walks: Walks) -> Self {
        self.walks = Some(Mutex::new(walks));
        self
    }

    /// What the last walk that asked `question` found, if everything that it saw is as it was.
    /// `question` has to cover all that a walk goes by, but what is on the disk.
    pub fn recall(&self, question: Digest) -> Option<Digest> {
        let walks = lock(self.walks.as_ref()?);
        let walk = walks.find(question)?;
        let lookup = |path: &Path, follow| self.find(path, follow).ok();
        trace::is_as_seen(&self.root, walk.seen, &lookup).then_some(walk.answer)
    }

    /// Begins to note what a walk sees.
    pub fn note_walk(&self) {
        // Which times are old enough is known to the stat cache.
        if self.walks.is_some() && self.stat.is_some() {
            // Directories that were looked through before have to be seen in this walk as well.
            lock(&self.reincluding).clear();
            *lock(&self.trace) = Some(Trace::default());
            self.traced.store(true, Ordering::Relaxed);
        }
    }

    /// The walk that was [noted](Self::note_walk) is over. `found`: its question, and what it found.
    pub fn end_walk(&self, found: Option<(Digest, Digest)>) {
        self.traced.store(false, Ordering::Relaxed);
        let trace = lock(&self.trace).take();
        if let (Some(walks), Some(trace), Some((question, answer))) = (&self.walks, trace, found)
            && let Some(seen) = trace.finish(WORTH_NOTING)
        {
            lock(walks).insert(Walk {
                question,
                answer,
                seen,
            });
        }
    }

    /// Does something with what is noted of the walk that goes on.
    fn trace(&self, note: impl FnOnce(&mut Trace)) {
        if self.traced.load(Ordering::Relaxed)
            && let Some(trace) = lock(&self.trace).as_mut()
        {
            note(trace);
        }
    }

    /// Notes a directory's children, of which those are there that `shown` says yes of.
    fn trace_directory(
        &self,
        directory: &Path,
        children: &[(CString, Stat)],
        shown: impl Fn(usize) -> bool,
    ) {
        if !self.traced.load(Ordering::Relaxed) {
            return;
        }
        let mut listing = Listing::default();
        let mut young = false;
        for (place, (name, stat)) in children.iter().enumerate() {
            if shown(place) {
                young |= !self.shows_changes(&Metadata::of(stat));
                listing.shown(name.to_bytes(), stat);
            } else {
                listing.hidden(name.to_bytes(), kind(stat) == FileKind::Directory);
            }
        }
        self.trace(|trace| {
            trace.directory(directory, &listing);
            if young {
                trace.is_unsure();
            }
        });
    }

    /// Remembers the content digest of a file for the next build.
    ///
    /// Not for a file with extended attributes, which [`Selection::digest`](crate::copy::Selection::digest) sees
    /// to: so a digest that is known also says that there are none, as setting one changes the ctime. It spares
    /// asking for them.
    pub fn learn(&self, entry: &Entry, digest: Digest) {
        if let Some(stat) = &self.stat {
            let path = entry.path.as_os_str().as_bytes();
            stat.insert(path, &entry.metadata, digest);
        }
    }

    /// Saves what was learned.
    pub fn finish(self, store: &Store) -> Result<(), StoreError> {
        if let Some(walks) = self.walks {
            let walks = walks.into_inner().unwrap_or_else(PoisonError::into_inner);
            walks.save(store)?;
        }
        match self.stat {
            Some(stat) => stat.save(store),
            None => Ok(()),
        }
    }

    fn failed(&self, action: &'static str, path: &Path, source: std::io::Error) -> TreeError {
        TreeError::Io {
            action,
            path: self.host_path(path),
            source,
        }
    }

    fn host_path(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() {
            self.path.clone()
        } else {
            self.path.join(path)
        }
    }

    fn entry(&self, path: PathBuf, stat: &Stat) -> Entry {
        let host_path = self.host_path(&path);
        Entry::outside_layers(path, Metadata::of(stat), host_path)
    }

    /// Names and metadata of everything in a directory, ignored or not, in the order of the kernel.
    fn list(&self, directory: &Path) -> Result<Vec<(CString, Stat)>, TreeError> {
        let failed = |errno: Errno| self.failed("read directory", directory, errno.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = beneath::open(self.root.as_fd(), directory, flags)
            .map_err(|errno| self.failed("read directory", directory, errno.into()))?;
        let mut names: Vec<CString> = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = rustix::fs::RawDir::new(&fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                names.push(name.to_owned());
            }
        }
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            match rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => list.push((name, stat)),
                // Removed since it was listed.
                Err(Errno::NOENT) => self.trace(Trace::is_unsure),
                Err(errno) => {
                    let path = directory.join(OsStr::from_bytes(name.to_bytes()));
                    return Err(self.failed("read", &path, errno.into()));
                }
            }
        }
        Ok(list)
    }

    /// Whether the context has `path`: it is not ignored, or a directory on the way to something
    /// that is not.
    fn visible(&self, path: &Path, is_directory: bool) -> Result<bool, TreeError> {
        let text = path.to_string_lossy();
        if !(self.ignored)(&text, is_directory) {
            return Ok(true);
        }
        if !is_directory || !(self.may_reinclude)(&text) {
            return Ok(false);
        }
        if let Some(known) = lock(&self.reincluding).get(path) {
            return Ok(*known);
        }
        let mut found = false;
        let list = self.list(path)?;
        self.trace_directory(path, &list, |_| false);
        for (name, stat) in list {
            let child = path.join(OsStr::from_bytes(name.to_bytes()));
            if self.visible(&child, kind(&stat) == FileKind::Directory)? {
                found = true;
                break;
            }
        }
        lock(&self.reincluding).insert(path.to_owned(), found);
        Ok(found)
    }

    /// Reads the extended attributes of `name` in the open `directory`, by way of /proc because
    /// the kernel has no call that takes a directory and a name.
    fn read_xattrs(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Vec<Xattr> {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.as_bytes());
        let path = OsString::from_vec(path);
        let mut names = vec![0; 1024];
        let length = loop {
            match rustix::fs::llistxattr(&path, &mut names[..]) {
                Ok(length) => break length,
                Err(Errno::RANGE) if names.len() < 1 << 20 => names.resize(names.len() * 4, 0),
                Err(Errno::NOTSUP) => {
                    self.no_xattrs.store(true, Ordering::Relaxed);
                    return Vec::new();
                }
                // A file that has gone is found when it is opened.
                Err(_) => return Vec::new(),
            }
        };
        let mut xattrs = Vec::new();
        for name in names[..length].split(|byte| *byte == 0) {
            if name.is_empty() || !keeps_xattr(name) {
                continue;
            }
            let mut value = vec![0; 64 * 1024];
            // Values that may not be read are left out, as those that can't be written are.
            if let Ok(size) = rustix::fs::lgetxattr(&path, OsStr::from_bytes(name), &mut value[..])
            {
                value.truncate(size);
                xattrs.push((name.to_vec(), value));
            }
        }
        xattrs.sort();
        xattrs
    }
}

fn kind(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        _ => FileKind::File,
    }
}

impl ContextTree {
    /// See [`SourceTree::lookup`].
    fn find(&self, path: &Path, follow: bool) -> Result<Option<Entry>, TreeError> {
        let mut pending: Vec<OsString> = Vec::new();
        push_components(&mut pending, path);
        // Directories that were entered: name and descriptor. `..` leaves them again, so it can't
        // go above the root nor back through a link.
        let mut entered: Vec<(PathBuf, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                entered.pop();
                continue;
            }
            let (current, directory) = match entered.last() {
                Some((path, fd)) => (path.join(&name), fd.as_fd()),
                None => (PathBuf::from(&name), self.root.as_fd()),
            };
            let stat = match rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NAMETOOLONG | Errno::INVAL) => return Ok(None),
                Err(errno) => return Err(self.failed("read", &current, errno.into())),
            };
            let kind = kind(&stat);
            if !self.visible(&current, kind == FileKind::Directory)? {
                return Ok(None);
            }
            match kind {
                FileKind::Symlink if follow || !pending.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(TreeError::Loop {
                            path: path.to_owned(),
                        });
                    }
                    let target = rustix::fs::readlinkat(directory, &name, Vec::new())
                        .map_err(|errno| self.failed("read link", &current, errno.into()))?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        entered.clear();
                    }
                    push_components(&mut pending, &target);
                }
                FileKind::Directory => {
                    let flags =
                        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd = rustix::fs::openat(directory, &name, flags, Mode::empty())
                        .map_err(|errno| self.failed("open", &current, errno.into()))?;
                    entered.push((current, fd));
                }
                _ if pending.is_empty() => return Ok(Some(self.entry(current, &stat))),
                _ => return Err(TreeError::NotADirectory { path: current }),
            }
        }
        let (path, stat) = match entered.pop() {
            Some((path, fd)) => {
                let stat = rustix::fs::fstat(&fd);
                (path, stat)
            }
            None => (PathBuf::new(), rustix::fs::fstat(&self.root)),
        };
        let stat = stat.map_err(|errno| self.failed("read", &path, errno.into()))?;
        Ok(Some(self.entry(path, &stat)))
    }
}

impl SourceTree for ContextTree {
    fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, TreeError> {
        let found = self.find(path, follow)?;
        self.trace(|trace| {
            if found
                .as_ref()
                .is_some_and(|entry| !self.shows_changes(&entry.metadata))
            {
                trace.is_unsure();
            }
            trace.lookup(path, follow, found.as_ref());
        });
        Ok(found)
    }

    fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, TreeError> {
        let list = self.list(&directory.path)?;
        let mut entries = Vec::with_capacity(list.len());
        let mut shown = Vec::with_capacity(list.len());
        for (name, stat) in &list {
            let path = directory.path.join(OsStr::from_bytes(name.to_bytes()));
            let visible = self.visible(&path, kind(stat) == FileKind::Directory)?;
            shown.push(visible);
            if visible {
                entries.push(self.entry(path, stat));
            }
        }
        self.trace_directory(&directory.path, &list, |place| shown[place]);
        let start = directory.path.as_os_str().len();
        entries.sort_unstable_by(|a, b| {
            let [a, b] = [a, b].map(|entry| entry.path.as_os_str().as_bytes().get(start..));
            a.cmp(&b)
        });
        Ok(entries)
    }

    fn read_link(&self, entry: &Entry) -> Result<PathBuf, TreeError> {
        let failed = |error| self.failed("read link", &entry.path, error);
        // An O_PATH descriptor of the link itself, read with an empty name.
        let link = beneath::open(self.root.as_fd(), &entry.path, OFlags::PATH)
            .map_err(|errno| failed(errno.into()))?;
        let target =
            rustix::fs::readlinkat(&link, "", Vec::new()).map_err(|errno| failed(errno.into()))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn open(&self, entry: &Entry) -> Result<File, TreeError> {
        let failed = |error| self.failed("open", &entry.path, error);
        // Non-blocking, because a fifo may have taken the file's place.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = beneath::open(self.root.as_fd(), &entry.path, flags)
            .map_err(|errno| failed(errno.into()))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed(errno.into()))?;
        if kind(&stat) != FileKind::File {
            return Err(TreeError::NotAFile {
                path: entry.host_path.clone(),
            });
        }
        Ok(File::from(fd))
    }

    fn xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>, TreeError> {
        if self.no_xattrs.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
            return Ok(Vec::new());
        };
        let mut last = lock(&self.last_directory[slot::of_thread()]);
        if last.as_ref().is_none_or(|(path, _)| path != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let fd = beneath::open(self.root.as_fd(), parent, flags)
                .map_err(|errno| self.failed("open", parent, errno.into()))?;
            *last = Some((parent.to_owned(), fd));
        }
        Ok(match &*last {
            Some((_, fd)) => self.read_xattrs(fd.as_fd(), name),
            None => Vec::new(),
        })
    }

    fn known(&self, entry: &Entry) -> Result<(Option<Digest>, Vec<Xattr>), TreeError> {
        // A digest that is known says that there are none (see `learn`).
        match self.known_digest(entry) {
            Some(digest) if entry.metadata.kind == FileKind::File => Ok((Some(digest), Vec::new())),
            _ => Ok((None, self.xattrs(entry)?)),
        }
    }

    fn owner(&self, _entry: &Entry) -> (u32, u32) {
        (0, 0)
    }

    fn mode(&self, entry: &Entry) -> u32 {
        if self.neutral {
            return neutral_mode(entry);
        }
        entry.metadata.mode
    }

    fn known_digest(&self, entry: &Entry) -> Option<Digest> {
        let stat = self.stat.as_ref()?;
        stat.get(entry.path.as_os_str().as_bytes(), &entry.metadata)
    }

    fn immutable(&self) -> bool {
        false
    }

    fn shows_changes(&self, metadata: &Metadata) -> bool {
        let stat = self.stat.as_ref();
        stat.is_some_and(|stat| stat.shows_changes(metadata))
    }
}

/// Puts the components of `path` on the stack, first on top; `.` and a leading `/` are dropped.
fn push_components(pending: &mut Vec<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => pending.push(name.to_owned()),
            Component::ParentDir => pending.push(OsString::from("..")),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}
