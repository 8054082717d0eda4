//! Making the files of a layer, and making room for them.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Applier, attributes, failed_at, io_error, is_directory, open_child};
use crate::attributes::Attributes;
use crate::diff::DiffError;
use crate::diff::header::EntryType;
use crate::diff::read::ArchiveEntry;
use crate::{beneath, xattr};

impl Applier<'_> {
    pub(super) fn create_in(
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

    pub(super) fn create_file(
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
    pub(super) fn make_directory(
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
    pub(super) fn refresh_directory(
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

    /// Removes what the upper layer has at `path`.
    pub(super) fn make_room(
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
                let below = self.times.range(path.to_owned()..);
                let below = below.map(|(other, _)| other.clone());
                let below: Vec<PathBuf> =
                    below.take_while(|other| other.starts_with(path)).collect();
                for other in below {
                    self.times.remove(&other);
                }
                remove_tree(self.upper.as_fd(), path)
            }
            Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(|source| io_error("remove", path, source)),
        }
    }
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
