//! Whiteouts and opaque marks.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode};

use super::{Applier, io_error, is_directory};
use crate::diff::DiffError;
use crate::view::{Entry, ViewError, is_opaque, is_whiteout};
use crate::{beneath, xattr};

impl Applier<'_> {
    /// A whiteout: hides what the layers below have, never what this one has.
    pub(super) fn hide(&mut self, parent: &Path, name: &OsStr) -> Result<(), DiffError> {
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
                    .map_err(|source| fail(crate::diff::whiteout(source), source))
            }
        }
    }

    /// An opaque mark: hides all that the layers below have in the directory.
    pub(super) fn hide_directory(&mut self, directory: &Path) -> Result<(), DiffError> {
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
        let upper = self.copy_up(&entry)?;
        if is_opaque(upper.as_fd()) {
            return Ok(());
        }
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
}
