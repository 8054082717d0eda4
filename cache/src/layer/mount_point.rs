//! Taking back the mount points that a sandbox had to make in the upper directory.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::measure::own_xattrs;
use super::{HandedOut, Scratch};
use crate::view::{Entry, is_opaque};
use crate::{StoreError, collect, tree};

impl Scratch<'_> {
    /// Removes the directory at `path` (relative to the root) from the diff if the diff holds
    /// nothing else there than the empty directory (or empty file) that a mount point needed, and
    /// its parents that only differ from the layers below in their times because of it.
    ///
    /// `path` is one that the sandbox resolved: a symlink in it means that the step changed
    /// things since, and nothing is removed. What the layers below had there shows again; nothing
    /// else is restored.
    pub fn forget_mount_point(&mut self, path: &Path) -> Result<(), StoreError> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Ok(()),
            }
        }
        let root = match &self.handed_out {
            HandedOut::Tree { tree, .. } => tree.clone(),
            HandedOut::Nothing | HandedOut::Overlay => self.upper().to_owned(),
        };
        // All directories on the way must be there, and real.
        for depth in 1..names.len() {
            match stat(&under(&root, &names[..depth]))? {
                Some(stat) if is_directory(&stat) => {}
                _ => return Ok(()),
            }
        }
        let whole_tree = matches!(self.handed_out, HandedOut::Tree { .. });
        for depth in (1..=names.len()).rev() {
            let is_mount_point = depth == names.len();
            let names = &names[..depth];
            if !self.forget_one(&root, names, is_mount_point, whole_tree)? {
                break;
            }
        }
        if whole_tree {
            for depth in (0..names.len()).rev() {
                self.restore_times(&root, &names[..depth])?;
            }
        }
        Ok(())
    }

    /// Removes one entry if it is only there for a mount. False if it stays.
    fn forget_one(
        &self,
        root: &Path,
        names: &[&OsStr],
        is_mount_point: bool,
        whole_tree: bool,
    ) -> Result<bool, StoreError> {
        let path = under(root, names);
        // A mount point that the step removed itself leaves parents to look at.
        let Some(found) = stat(&path)? else {
            return Ok(is_mount_point);
        };
        let directory = is_directory(&found);
        let removable = directory || (is_mount_point && is_empty_file(&found));
        if !removable {
            return Ok(false);
        }
        match self.below(root, names)? {
            None => {
                // Made for the mount: a step can't have made it before that, and a parent without
                // which there was no mount point was made with it. If the step changed it
                // since, it is the step's.
                let plain = !directory
                    || (found.st_mode & 0o7777 == 0o755
                        && (found.st_uid, found.st_gid) == (0, 0)
                        && own_xattrs(&path)?.is_empty());
                if !plain {
                    return Ok(false);
                }
            }
            // In a copy of the whole stack it was there all along.
            Some(_) if whole_tree => return Ok(false),
            Some(below) => {
                if !is_copied_up(&path, &found, &below)? || opaque(&path)? {
                    return Ok(false);
                }
            }
        }
        let removed = if directory {
            rustix::fs::rmdir(&path)
        } else {
            rustix::fs::unlink(&path)
        };
        match removed {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(source) => Err(StoreError::io("remove", &path, source)),
        }
    }

    /// In a copy of the whole stack: a directory that holds what it held, and is what it was, gets
    /// back the time that making the mount point changed.
    fn restore_times(&self, root: &Path, names: &[&OsStr]) -> Result<(), StoreError> {
        let path = under(root, names);
        let (Some(found), Some(below)) = (stat(&path)?, self.below(root, names)?) else {
            return Ok(());
        };
        if !is_directory(&found) || !is_copied_up(&path, &found, &below)? {
            return Ok(());
        }
        let view = self.view_below();
        let before = view
            .read_dir(&below)
            .map_err(crate::diff::DiffError::from)?;
        let before: BTreeSet<&OsStr> = before
            .iter()
            .filter_map(|entry| entry.path.file_name())
            .collect();
        let now = collect::names(&path)?;
        if !now.iter().map(OsString::as_os_str).eq(before) {
            return Ok(());
        }
        let (seconds, nanoseconds) = below.metadata.mtime;
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| StoreError::io("set times of", &path, source))
    }

    /// What the layers below show at a path that has no symlink in it.
    pub(super) fn below(&self, root: &Path, names: &[&OsStr]) -> Result<Option<Entry>, StoreError> {
        // An opaque directory on the way hides them.
        for depth in 1..names.len() {
            if opaque(&under(root, &names[..depth]))? {
                return Ok(None);
            }
        }
        let path: PathBuf = names.iter().collect();
        let found = self
            .view_below()
            .lookup(&path, false)
            .map_err(crate::diff::DiffError::from)?;
        Ok(found.filter(|entry| entry.path == path))
    }
}

pub(super) fn under(root: &Path, names: &[&OsStr]) -> PathBuf {
    let mut path = root.to_owned();
    path.extend(names);
    path
}

/// True if the entry differs from the one below in nothing but its times.
pub(super) fn is_copied_up(path: &Path, found: &Stat, below: &Entry) -> Result<bool, StoreError> {
    let Some(below_stat) = stat(&below.host_path)? else {
        return Ok(false);
    };
    Ok(found.st_mode == below_stat.st_mode
        && found.st_uid == below_stat.st_uid
        && found.st_gid == below_stat.st_gid
        && (is_directory(found) || found.st_size == below_stat.st_size)
        && own_xattrs(path)? == own_xattrs(&below.host_path)?)
}

pub(super) fn stat(path: &Path) -> Result<Option<Stat>, StoreError> {
    match rustix::fs::lstat(path) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(source) => Err(StoreError::io("stat", path, source)),
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_empty_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0
}

pub(super) fn opaque(path: &Path) -> Result<bool, StoreError> {
    match rustix::fs::openat(CWD, path, tree::DIRECTORY, Mode::empty()) {
        Ok(directory) => Ok(is_opaque(directory.as_fd())),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(false),
        Err(source) => Err(StoreError::io("open", path, source)),
    }
}

#[cfg(test)]
mod tests;
