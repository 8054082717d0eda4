//! A view's tree as a plain directory.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Baseline, Known};
use crate::attributes::{Attributes, Tolerated, set_times};
use crate::beneath;
use crate::clone::clone_file;
use crate::diff::DiffError;
use crate::layer::HardLinks;
use crate::view::{Entry, FileKind, LayerView, Metadata};

/// The coarsest tick of the kernel's clock that times of files are taken from, twice.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// Copies all that `view` shows into the directory `to`, which is made if it is not there and must
/// be empty. Mode, owner, times, attributes and devices are kept; so are the hard links of each
/// layer (`links`, in the order of the view's layers). Content is shared with the layers where the
/// file system can (`FICLONE`).
///
/// Devices that may not be made (in a user namespace) are left out.
pub fn copy_out(view: &LayerView, links: &[HardLinks], to: &Path) -> Result<Baseline, DiffError> {
    match rustix::fs::mkdirat(CWD, to, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(source) => return Err(fail("create", to)(source)),
    }
    let root = beneath::open_root(to).map_err(fail("open", to))?;
    let mut groups = HashMap::new();
    for (layer, links) in links.iter().enumerate() {
        for (index, group) in links.0.iter().enumerate() {
            for path in group {
                groups.insert((layer, path.as_slice()), index);
            }
        }
    }
    let mut copy = Copy {
        view,
        root,
        parent: None,
        groups,
        firsts: HashMap::new(),
        directories: Vec::new(),
        baseline: Baseline::default(),
        paths: BTreeSet::new(),
    };
    let start = view.root()?;
    view.try_walk(&start, &mut |entry| copy.entry(entry))?;
    copy.finish()
}

struct Copy<'a> {
    view: &'a LayerView,
    root: OwnedFd,
    /// The directory that the last entry went into.
    parent: Option<(PathBuf, OwnedFd)>,
    /// The group of a path in a layer, and the first name that was made for it.
    groups: HashMap<(usize, &'a [u8]), usize>,
    firsts: HashMap<(usize, usize), PathBuf>,
    /// Directories and their times, which are set at the end.
    directories: Vec<(PathBuf, (i64, u32))>,
    baseline: Baseline,
    paths: BTreeSet<PathBuf>,
}

impl Copy<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), DiffError> {
        let path = &entry.path;
        let xattrs = self.view.xattrs(entry)?;
        let attributes = Attributes::of(&entry.metadata, &xattrs);
        // What can't be set here can't be seen as changed either.
        let mut tolerated = Tolerated::default();
        let failed = |(action, source)| fail(action, path)(source);
        self.paths.insert(path.clone());
        if path.as_os_str().is_empty() {
            let root = beneath::open_dir(self.root.as_fd(), path).map_err(fail("open", path))?;
            attributes
                .set(root.as_fd(), &mut tolerated)
                .map_err(failed)?;
            self.directories.push((path.clone(), entry.metadata.mtime));
            return Ok(());
        }
        let (directory, name) = (
            path.parent().unwrap_or(Path::new("")),
            path.file_name().unwrap_or_default(),
        );
        if self
            .parent
            .as_ref()
            .is_none_or(|parent| parent.0 != directory)
        {
            let opened = open_directory(&self.root, directory)?;
            self.parent = Some((directory.to_owned(), opened));
        }
        let Some((_, parent)) = &self.parent else {
            return Err(fail("open", directory)(Errno::STALE));
        };
        let parent = parent.as_fd();

        if entry.metadata.kind != FileKind::Directory
            && let Some(group) = self.groups.get(&(entry.layer, path.as_os_str().as_bytes()))
        {
            let key = (entry.layer, *group);
            if let Some(first) = self.firsts.get(&key) {
                let from = open_directory(&self.root, first.parent().unwrap_or(Path::new("")))?;
                let old = first.file_name().unwrap_or_default();
                return rustix::fs::linkat(&from, old, parent, name, AtFlags::empty())
                    .map_err(fail("link", path));
            }
            self.firsts.insert(key, path.clone());
        }
        let kind = match entry.metadata.kind {
            FileKind::Directory => {
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
                    .map_err(fail("create", path))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let made = beneath::open(parent, Path::new(name), flags);
                let made = made.map_err(fail("open", path))?;
                attributes
                    .set(made.as_fd(), &mut tolerated)
                    .map_err(failed)?;
                self.directories.push((path.clone(), entry.metadata.mtime));
                return Ok(());
            }
            FileKind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(fail("create", path))?;
                let file = std::fs::File::from(file);
                let from = self.view.open(entry)?;
                clone_file(&from, &file).map_err(|source| DiffError::Io {
                    action: "copy",
                    path: path.clone(),
                    source,
                })?;
                return attributes
                    .set_with_times(file.as_fd(), &mut tolerated)
                    .map_err(failed);
            }
            FileKind::Symlink => {
                let target = self.view.read_link(entry)?;
                rustix::fs::symlinkat(&target, parent, name).map_err(fail("create", path))?;
                return attributes
                    .set_node(parent, name, true, &mut tolerated)
                    .map_err(failed);
            }
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            FileKind::CharDevice => FileType::CharacterDevice,
            FileKind::BlockDevice => FileType::BlockDevice,
        };
        let device = rustix::fs::makedev(entry.metadata.rdev.0, entry.metadata.rdev.1);
        match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device) {
            Ok(()) => {}
            Err(Errno::PERM)
                if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) =>
            {
                self.baseline.skipped.insert(path.clone());
                self.paths.remove(path);
                return Ok(());
            }
            Err(source) => return Err(fail("create", path)(source)),
        }
        attributes
            .set_node(parent, name, false, &mut tolerated)
            .map_err(failed)
    }

    fn finish(mut self) -> Result<Baseline, DiffError> {
        for (path, mtime) in &self.directories {
            let directory =
                beneath::open_dir(self.root.as_fd(), path).map_err(fail("open", path))?;
            set_times(directory.as_fd(), *mtime)
                .map_err(|(action, source)| fail(action, path)(source))?;
        }
        // Only now: each further name of a file moved its change time.
        let mut latest = (0, 0);
        for path in self.paths {
            let found = beneath::find(self.root.as_fd(), &path).map_err(fail("look up", &path))?;
            let Some((_, stat)) = found else {
                return Err(fail("look up", &path)(Errno::NOENT));
            };
            let metadata = Metadata::of(&stat);
            latest = latest.max(metadata.ctime);
            let known = Known {
                inode: metadata.inode,
                ctime: metadata.ctime,
                mtime: metadata.mtime,
            };
            self.baseline.files.insert(path, known);
        }
        wait_past(latest);
        Ok(self.baseline)
    }
}

/// Waits until the clock of file times shows something later: a change in the same tick as the copy
/// could not be told from it.
fn wait_past(time: (i64, u32)) {
    let Ok(seconds) = u64::try_from(time.0) else {
        return;
    };
    let end = SystemTime::UNIX_EPOCH + Duration::new(seconds, time.1) + CLOCK_TICK;
    if let Ok(left) = end.duration_since(SystemTime::now()) {
        std::thread::sleep(left.min(CLOCK_TICK));
    }
}

fn open_directory(root: &OwnedFd, path: &Path) -> Result<OwnedFd, DiffError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    beneath::open(root.as_fd(), path, flags).map_err(fail("open", path))
}

pub(super) fn fail(action: &'static str, path: &Path) -> impl Fn(Errno) -> DiffError {
    move |source| DiffError::Io {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}
