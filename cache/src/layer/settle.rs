//! One form for one change: what overlayfs left in an upper directory that says nothing.
//!
//! The kernel copies a file up when it is opened for writing, whether anything is written or not, and
//! marks a directory that was removed and made again as opaque, where naming what is gone says the same.
//! Both depend on how a command went about its work, and on how layers are stacked here. So a layer is
//! settled before it is committed: entries that are in every respect what the layers below have are
//! taken out, and opaque marks become whiteouts for what is gone. Then equal results have equal layers,
//! with the [native](crate::snapshot::native) snapshotter too.
//!
//! The cost is a look-up below for each entry of a directory that was there before; new directories are
//! not looked into.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};

use crate::attributes::set_times;
use crate::beneath;
use crate::diff::DiffError;
use crate::snapshot::native::{relevant, same_content};
use crate::view::{Entry, FileKind, LayerView, Metadata, is_opaque, is_whiteout};
use crate::xattr;

/// Overlayfs's names for the mark.
const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// Settles what a mount left in `upper`, which stood on `below`.
pub(super) fn settle(upper: &Path, below: &LayerView) -> Result<(), DiffError> {
    let mut settling = Settling {
        upper: beneath::open_root(upper).map_err(fail("open", upper))?,
        below,
        visited: Vec::new(),
    };
    // Parents come before what is in them.
    let mut pending = vec![(PathBuf::new(), below.root()?, None, false)];
    while let Some((path, entry, parent, hidden)) = pending.pop() {
        let place = settling.visited.len();
        for (path, entry, hidden) in settling.visit(path, entry, parent, hidden)? {
            pending.push((path, entry, Some(place), hidden));
        }
    }
    settling.finish()
}

struct Settling<'a> {
    upper: OwnedFd,
    below: &'a LayerView,
    visited: Vec<Visited>,
}

/// A directory that is there below, too.
struct Visited {
    path: PathBuf,
    /// What is there below.
    below: Entry,
    /// Its place in the list of those visited.
    parent: Option<usize>,
    /// As it was before anything was done here.
    metadata: Metadata,
    /// Something in it was added or removed here, which changed its times.
    touched: bool,
}

impl Settling<'_> {
    /// Settles what is directly in a directory. Answers the directories in it that are to be visited, and
    /// whether what is below them is hidden.
    fn visit(
        &mut self,
        path: PathBuf,
        below: Entry,
        parent: Option<usize>,
        hidden: bool,
    ) -> Result<Vec<(PathBuf, Entry, bool)>, DiffError> {
        let directory =
            beneath::open_dir(self.upper.as_fd(), &path).map_err(fail("open", &path))?;
        let stat = rustix::fs::fstat(&directory).map_err(fail("stat", &path))?;
        // On the root the mark means nothing.
        let opaque = parent.is_some() && is_opaque(directory.as_fd());
        let hidden = hidden || opaque;
        let names = beneath::names(directory.as_fd()).map_err(fail("read directory", &path))?;
        let mut touched = false;
        if hidden {
            let there: BTreeSet<&[u8]> = names.iter().map(|(name, _)| name.as_slice()).collect();
            for gone in self.below.read_dir(&below)? {
                let name = gone.path.file_name().unwrap_or_default();
                if !there.contains(name.as_encoded_bytes()) {
                    let kind = FileType::CharacterDevice;
                    rustix::fs::mknodat(&directory, name, kind, Mode::empty(), 0)
                        .map_err(fail("create whiteout", &gone.path))?;
                    touched = true;
                }
            }
        }
        let mut further = Vec::new();
        for (name, _) in names {
            let name = OsStr::from_bytes(&name);
            let path = path.join(name);
            let Some(stat) =
                beneath::stat_at(directory.as_fd(), name).map_err(fail("stat", &path))?
            else {
                continue;
            };
            if is_whiteout(&stat) {
                continue;
            }
            let is_directory = Metadata::of(&stat).kind == FileKind::Directory;
            match self.below.child(&below, name)? {
                Some(old) if is_directory && old.is_dir() => further.push((path, old, hidden)),
                // Nothing is below it that a mark could hide.
                _ if is_directory => self.unmark(&path)?,
                Some(old) if self.is_unchanged(directory.as_fd(), &path, &stat, &old)? => {
                    rustix::fs::unlinkat(&directory, name, AtFlags::empty())
                        .map_err(fail("remove", &path))?;
                    touched = true;
                }
                _ => {}
            }
        }
        if opaque {
            // ORDER: only now that all it hid is named. A failure before leaves what was said.
            self.unmark(&path)?;
        }
        self.visited.push(Visited {
            path,
            below,
            parent,
            metadata: Metadata::of_file(&stat, directory.as_fd()),
            touched,
        });
        Ok(further)
    }

    /// Takes the mark off a directory.
    fn unmark(&self, path: &Path) -> Result<(), DiffError> {
        let directory = beneath::open_dir(self.upper.as_fd(), path).map_err(fail("open", path))?;
        if is_opaque(directory.as_fd()) {
            for name in OPAQUE {
                if xattr::get(directory.as_fd(), name)
                    .map_err(fail("read attributes of", path))?
                    .is_some()
                {
                    xattr::remove(directory.as_fd(), name)
                        .map_err(fail("remove an attribute of", path))?;
                }
            }
        }
        Ok(())
    }

    /// True if what is no directory is what the layers below have.
    fn is_unchanged(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        stat: &Stat,
        old: &Entry,
    ) -> Result<bool, DiffError> {
        let name = path.file_name().unwrap_or_default();
        let (now, before) = (Metadata::of_name(stat, directory, name), &old.metadata);
        // One of several names: the others may be new.
        if now.kind != before.kind || now.links > 1 || !same_attributes(&now, before) {
            return Ok(false);
        }
        if now.rdev != before.rdev || (now.kind == FileKind::File && now.size != before.size) {
            return Ok(false);
        }
        let found = beneath::find(directory, Path::new(name)).map_err(fail("look up", path))?;
        let Some((file, _)) = found else {
            return Ok(false);
        };
        if !self.same_xattrs(file.as_fd(), path, old)? {
            return Ok(false);
        }
        match now.kind {
            FileKind::File => {
                let one = beneath::open_file(directory, Path::new(name));
                let one = one.map_err(fail("open", path))?;
                let other = self.below.open(old)?;
                same_content(one, other).map_err(|source| DiffError::Io {
                    action: "compare",
                    path: path.to_owned(),
                    source,
                })
            }
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(&file, "", Vec::new());
                let target = target.map_err(fail("read link", path))?;
                let before = self.below.read_link(old)?;
                Ok(target.as_bytes() == before.as_os_str().as_encoded_bytes())
            }
            _ => Ok(true),
        }
    }

    fn same_xattrs(
        &self,
        file: BorrowedFd<'_>,
        path: &Path,
        old: &Entry,
    ) -> Result<bool, DiffError> {
        let now = xattr::list(file).map_err(fail("read attributes of", path))?;
        Ok(relevant(now) == relevant(self.below.xattrs(old)?))
    }

    /// Takes out directories that say nothing any more, and gives the others their times back.
    fn finish(mut self) -> Result<(), DiffError> {
        while let Some(visited) = self.visited.pop() {
            let path = &visited.path;
            let directory =
                beneath::open_dir(self.upper.as_fd(), path).map_err(fail("open", path))?;
            let now = &visited.metadata;
            if let Some(parent) = visited.parent
                && same_attributes(now, &visited.below.metadata)
                && beneath::names(directory.as_fd())
                    .map_err(fail("read directory", path))?
                    .is_empty()
                && self.same_xattrs(directory.as_fd(), path, &visited.below)?
            {
                let above = path.parent().unwrap_or(Path::new(""));
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let above =
                    beneath::open(self.upper.as_fd(), above, flags).map_err(fail("open", above))?;
                let name = path.file_name().unwrap_or_default();
                rustix::fs::unlinkat(&above, name, AtFlags::REMOVEDIR)
                    .map_err(fail("remove", path))?;
                self.visited[parent].touched = true;
            } else if visited.touched {
                set_times(directory.as_fd(), now.mtime)
                    .map_err(|(action, source)| fail(action, path)(source))?;
            }
        }
        Ok(())
    }
}

/// Equal in owner, mode and time. A symbolic link has no mode.
fn same_attributes(now: &Metadata, before: &Metadata) -> bool {
    (now.uid, now.gid, now.mtime) == (before.uid, before.gid, before.mtime)
        && (now.kind == FileKind::Symlink || now.mode == before.mode)
}

fn fail(action: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> DiffError {
    let path = path.to_owned();
    move |source| DiffError::Io {
        action,
        path,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests;
