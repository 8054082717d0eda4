//! Layer archives to overlay upper directories.
//!
//! No path of the archive reaches the kernel as it stands. The parent of each entry is resolved
//! through the view of the layers below with the new one on top, symlinks inside that root only; the
//! result, which holds no symlink, is opened below the new layer's directory without following
//! anything; and the entry's own name is used with `*at` calls that create or fail.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::header::EntryType;
use super::read::{ArchiveEntry, ArchiveReader};
use super::{Applied, DiffError, Limits, OPAQUE_NAME, WHITEOUT_PREFIX};
use crate::attributes::{Attributes, Failure, Tolerated, set_times};
use crate::beneath;
use crate::clone::clone_file;
use crate::layer::HardLinks;
use crate::view::{Entry, FileKind, LayerView, ViewError, is_whiteout};
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
            // aufs made its whiteouts as hard links.
            if !matches!(entry.kind, EntryType::File | EntryType::HardLink) {
                if last.starts_with(AUFS_PREFIX) {
                    return Ok(());
                }
                return Err(self.refuse("a whiteout is no regular file"));
            }
            if *last == OPAQUE_NAME {
                return self.hide_directory(&parent);
            }
            if last.starts_with(AUFS_PREFIX) {
                return Ok(());
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

    // Parents.

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

    // Entries.

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

    fn create_in(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        entry: &ArchiveEntry,
    ) -> Result<(), DiffError> {
        if path.as_os_str().len() >= 4096 {
            return Err(self.refuse("the path is longer than 4095 bytes"));
        }
        let attributes = attributes(entry);
        match entry.kind {
            EntryType::Directory => {
                self.make_directory(parent, name, path, &attributes)?;
                return Ok(());
            }
            EntryType::HardLink => return self.hard_link(parent, name, path, entry),
            EntryType::Symlink if entry.link.is_empty() => {
                return Err(self.refuse("the symbolic link has no target"));
            }
            EntryType::CharDevice if entry.device == (0, 0) => {
                return Err(self.refuse("a character device 0/0 means a deletion to overlayfs"));
            }
            _ => {}
        }
        self.make_room(parent, name, path)?;
        match entry.kind {
            EntryType::File => {
                let file = Self::create_file(parent, name, path)?;
                let mut file = std::fs::File::from(file);
                loop {
                    let count = self.archive.read(&mut self.buffer)?;
                    if count == 0 {
                        break;
                    }
                    let written = file.write_all(&self.buffer[..count]);
                    written.map_err(|source| DiffError::Io {
                        action: "write",
                        path: path.to_owned(),
                        source,
                    })?;
                }
                attributes
                    .set_with_times(file.as_fd(), &mut self.tolerated)
                    .map_err(failed_at(path))
            }
            EntryType::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                rustix::fs::symlinkat(target, parent, name)
                    .map_err(|source| io_error("create", path, source))?;
                attributes
                    .set_node(parent, name, true, &mut self.tolerated)
                    .map_err(failed_at(path))
            }
            kind => {
                let (kind, device) = match kind {
                    EntryType::CharDevice => (FileType::CharacterDevice, entry.device),
                    EntryType::BlockDevice => (FileType::BlockDevice, entry.device),
                    _ => (FileType::Fifo, (0, 0)),
                };
                let device = rustix::fs::makedev(device.0, device.1);
                match rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device) {
                    Ok(()) => {}
                    // A user namespace can't have devices of its own.
                    Err(Errno::PERM) if kind != FileType::Fifo => {
                        self.applied.skipped_devices += 1;
                        return Ok(());
                    }
                    Err(source) => return Err(io_error("create", path, source)),
                }
                attributes
                    .set_node(parent, name, false, &mut self.tolerated)
                    .map_err(failed_at(path))
            }
        }
    }

    fn create_file(
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<OwnedFd, DiffError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|source| io_error("create", path, source))
    }

    /// Makes the directory `name`, or gives the one that is there new attributes. One that takes
    /// the place of a whiteout or of another file hides what is below.
    fn make_directory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        attributes: &Attributes<'_>,
    ) -> Result<OwnedFd, DiffError> {
        let fail = |action, source| io_error(action, path, source);
        let existing = beneath::stat_at(parent, name).map_err(|source| fail("stat", source))?;
        let replaced = match &existing {
            Some(stat) if is_directory(stat) => {
                let directory = open_child(parent, name).map_err(|source| fail("open", source))?;
                self.refresh_directory(directory.as_fd(), path, attributes)?;
                return Ok(directory);
            }
            Some(_) => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())
                    .map_err(|source| fail("remove", source))?;
                true
            }
            None => false,
        };
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700))
            .map_err(|source| fail("create", source))?;
        let directory = open_child(parent, name).map_err(|source| fail("open", source))?;
        if replaced {
            xattr::set(directory.as_fd(), self.opaque, b"y")
                .map_err(|source| fail("mark", source))?;
        }
        attributes
            .set(directory.as_fd(), &mut self.tolerated)
            .map_err(failed_at(path))?;
        self.times.insert(path.to_owned(), attributes.mtime);
        Ok(directory)
    }

    /// Gives an existing directory the attributes of its entry, and no others.
    fn refresh_directory(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        attributes: &Attributes<'_>,
    ) -> Result<(), DiffError> {
        let old = xattr::list(directory)
            .map_err(|source| io_error("read attributes of", path, source))?;
        for (name, _) in old {
            let kept = attributes.xattrs.iter().any(|(new, _)| *new == name);
            if xattr::is_portable(&name) && !kept {
                xattr::remove(directory, &name)
                    .map_err(|source| io_error("remove an attribute of", path, source))?;
            }
        }
        attributes
            .set(directory, &mut self.tolerated)
            .map_err(failed_at(path))?;
        self.times.insert(path.to_owned(), attributes.mtime);
        Ok(())
    }

    fn hard_link(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        entry: &ArchiveEntry,
    ) -> Result<(), DiffError> {
        let names = self.names(&entry.link)?;
        if names.is_empty() {
            return Err(self.refuse("the hard link has no target"));
        }
        if names.iter().any(|name| name.starts_with(WHITEOUT_PREFIX)) {
            return Err(self.refuse("the hard link's target is a whiteout"));
        }
        let target: PathBuf = names.iter().map(|name| OsStr::from_bytes(name)).collect();
        let Some(target) = self.judge(self.view.lookup(&target, false))? else {
            return Err(self.refuse("the hard link's target is missing"));
        };
        if target.is_dir() {
            return Err(self.refuse("the hard link's target is a directory"));
        }
        if target.path == path {
            return Err(self.refuse("the hard link is its own target"));
        }
        if path.starts_with(&target.path) || target.path.starts_with(path) {
            return Err(self.refuse("the hard link takes the place of its target's parent"));
        }
        let is_upper = target.layer + 1 == self.view.layers().len();
        let source = if is_upper {
            Some(target.path.clone())
        } else {
            self.live_copy(&target.path)
        };
        if source.as_deref() == Some(path) {
            // The same link twice.
            return Ok(());
        }
        self.make_room(parent, name, path)?;
        match source {
            Some(source) => {
                let directory = source.parent().unwrap_or(Path::new(""));
                let directory = beneath::open(
                    self.upper.as_fd(),
                    directory,
                    OFlags::PATH | OFlags::DIRECTORY,
                )
                .map_err(|error| io_error("open", directory, error))?;
                let old = source.file_name().unwrap_or_default();
                rustix::fs::linkat(&directory, old, parent, name, AtFlags::empty())
                    .map_err(|error| io_error("link", path, error))?;
                self.linked.insert(source);
                self.linked.insert(path.to_owned());
                Ok(())
            }
            None => self.copy_from_below(parent, name, path, &target),
        }
    }

    /// The copy that was made of a lower layer's file, if it is still there.
    fn live_copy(&self, target: &Path) -> Option<PathBuf> {
        let (path, inode) = self.copies.get(target)?;
        match beneath::find(self.upper.as_fd(), path) {
            Ok(Some((_, stat))) if stat.st_ino == *inode => Some(path.clone()),
            _ => None,
        }
    }

    /// Makes `name` a copy of a lower layer's file: a hard link can't reach into another layer.
    fn copy_from_below(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        target: &Entry,
    ) -> Result<(), DiffError> {
        let xattrs = self.view.xattrs(target)?;
        let attributes = Attributes::of(&target.metadata, &xattrs);
        match target.metadata.kind {
            FileKind::File => {
                self.copied_bytes += target.metadata.size;
                if self.archive.bytes() + self.copied_bytes > self.limits.bytes {
                    return Err(self.refuse(format!("more than {} bytes", self.limits.bytes)));
                }
                let from = self.view.open(target)?;
                let file = std::fs::File::from(Self::create_file(parent, name, path)?);
                clone_file(&from, &file).map_err(|source| DiffError::Io {
                    action: "copy",
                    path: path.to_owned(),
                    source,
                })?;
                attributes
                    .set_with_times(file.as_fd(), &mut self.tolerated)
                    .map_err(failed_at(path))?;
            }
            FileKind::Symlink => {
                let link = self.view.read_link(target)?;
                rustix::fs::symlinkat(&link, parent, name)
                    .map_err(|source| io_error("create", path, source))?;
                attributes
                    .set_node(parent, name, true, &mut self.tolerated)
                    .map_err(failed_at(path))?;
            }
            _ => return Err(self.refuse("the hard link's target is a lower layer's device")),
        }
        if let Some(stat) =
            beneath::stat_at(parent, name).map_err(|source| io_error("stat", path, source))?
        {
            let copy = (path.to_owned(), stat.st_ino);
            self.copies.insert(target.path.clone(), copy);
        }
        Ok(())
    }

    /// Removes what the upper layer has at `path`.
    fn make_room(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), DiffError> {
        let existing = beneath::stat_at(parent, name);
        match existing.map_err(|source| io_error("stat", path, source))? {
            None => Ok(()),
            Some(stat) if is_directory(&stat) => {
                // What is forgotten here is set at the end otherwise.
                self.times.retain(|other, _| !other.starts_with(path));
                remove_tree(self.upper.as_fd(), path)
            }
            Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(|source| io_error("remove", path, source)),
        }
    }

    // Deletions.

    /// A whiteout: hides what the layers below have, never what this one has.
    fn hide(&mut self, parent: &Path, name: &OsStr) -> Result<(), DiffError> {
        let (directory, missing) = match self.view.resolve(parent, true) {
            // Nothing can be there.
            Err(ViewError::NotADirectory { .. }) => return Ok(()),
            answer => self.judge(answer)?,
        };
        if !missing.as_os_str().is_empty() || !directory.is_dir() {
            return Ok(());
        }
        if !self.view.is_below(&directory, name)? {
            return Ok(());
        }
        self.hide_child(&directory, name)
    }

    /// Hides what is known to be below.
    fn hide_child(&mut self, directory: &Entry, name: &OsStr) -> Result<(), DiffError> {
        let path = directory.path.join(name);
        let fail = |action, source| io_error(action, &path, source);
        let existing = beneath::find(self.upper.as_fd(), &path);
        match existing.map_err(|source| fail("look up", source))? {
            Some((_, stat)) if is_directory(&stat) => self.make_opaque(&path),
            Some(_) => Ok(()),
            None => {
                let parent = self.copy_up(directory)?;
                let mode = Mode::empty();
                rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, mode, 0)
                    .map_err(|source| fail("create whiteout", source))
            }
        }
    }

    /// An opaque mark: hides all that the layers below have in the directory.
    fn hide_directory(&mut self, directory: &Path) -> Result<(), DiffError> {
        let (entry, missing) = match self.view.resolve(directory, true) {
            Err(ViewError::NotADirectory { .. }) => return Ok(()),
            answer => self.judge(answer)?,
        };
        if !missing.as_os_str().is_empty() || !entry.is_dir() {
            return Ok(());
        }
        if entry.path.as_os_str().is_empty() {
            // overlayfs does not look for a mark on the root: each name is hidden by itself.
            for child in self.view.children_below(&entry)? {
                self.hide_child(&entry, child.path.file_name().unwrap_or_default())?;
            }
            return Ok(());
        }
        self.copy_up(&entry)?;
        self.make_opaque(&entry.path)
    }

    /// Marks a directory of the upper layer and takes away the whiteouts below it, which hide
    /// nothing any more: in a directory that is not merged the kernel would list them.
    fn make_opaque(&mut self, path: &Path) -> Result<(), DiffError> {
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            let directory = beneath::open_dir(self.upper.as_fd(), &path)
                .map_err(|source| io_error("open", &path, source))?;
            for (name, kind) in beneath::names(directory.as_fd())
                .map_err(|source| io_error("read directory", &path, source))?
            {
                if !matches!(
                    kind,
                    FileType::Directory | FileType::CharacterDevice | FileType::Unknown
                ) {
                    continue;
                }
                let name = OsStr::from_bytes(&name);
                let stat = beneath::stat_at(directory.as_fd(), name)
                    .map_err(|source| io_error("stat", &path, source))?;
                match stat {
                    Some(stat) if is_directory(&stat) => pending.push(path.join(name)),
                    Some(stat) if is_whiteout(&stat) => {
                        rustix::fs::unlinkat(&directory, name, AtFlags::empty())
                            .map_err(|source| io_error("remove", &path, source))?;
                    }
                    _ => {}
                }
            }
        }
        let directory = beneath::open_dir(self.upper.as_fd(), path)
            .map_err(|source| io_error("open", path, source))?;
        xattr::set(directory.as_fd(), self.opaque, b"y")
            .map_err(|source| io_error("mark", path, source))
    }

    // The end.

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

/// Removes the directory at `path` below `root` and all in it. Holds one descriptor at a time,
/// however deep it goes.
fn remove_tree(root: BorrowedFd<'_>, path: &Path) -> Result<(), DiffError> {
    let mut pending = vec![(path.to_owned(), false)];
    while let Some((path, emptied)) = pending.pop() {
        if emptied {
            let parent = path.parent().unwrap_or(Path::new(""));
            let parent = beneath::open(root, parent, OFlags::PATH | OFlags::DIRECTORY)
                .map_err(|source| io_error("open", parent, source))?;
            let name = path.file_name().unwrap_or_default();
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)
                .map_err(|source| io_error("remove", &path, source))?;
            continue;
        }
        let directory = beneath::open_dir(root, &path);
        let directory = directory.map_err(|source| io_error("open", &path, source))?;
        let names = beneath::names(directory.as_fd())
            .map_err(|source| io_error("read directory", &path, source))?;
        pending.push((path.clone(), true));
        for (name, _) in names {
            let name = OsStr::from_bytes(&name);
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) => {}
                // EPERM is what POSIX asks for; Linux says EISDIR.
                Err(Errno::ISDIR | Errno::PERM) => pending.push((path.join(name), false)),
                Err(source) => return Err(io_error("remove", &path.join(name), source)),
            }
        }
    }
    Ok(())
}
