//! Hard links.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, OFlags};

use super::{Applier, failed_at, io_error};
use crate::attributes::Attributes;
use crate::beneath;
use crate::clone::clone_file;
use crate::diff::read::ArchiveEntry;
use crate::diff::{DiffError, WHITEOUT_PREFIX};
use crate::view::{Entry, FileKind};

impl Applier<'_> {
    pub(super) fn hard_link(
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
}
