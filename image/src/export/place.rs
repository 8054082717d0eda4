//! A directory of this machine that an image is copied into. It may hold anything, symbolic links
//! too: all is opened from its root without following any.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use strata_cache::LayerView;
use strata_cache::view::Entry;

use super::ExportError;
use super::output::failed;

/// The directory, open.
pub(super) struct Place<'a> {
    target: &'a Path,
    root: OwnedFd,
}

impl<'a> Place<'a> {
    /// Opens the directory, which is made if it is not there.
    pub(super) fn open(target: &'a Path) -> Result<Self, ExportError> {
        std::fs::create_dir_all(target).map_err(|source| failed("create", target, source))?;
        let root = rustix::fs::open(
            target,
            OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| failed("open", target, error.into()))?;
        Ok(Self { target, root })
    }

    /// Where something is, for people.
    pub(super) fn path(&self, path: &Path) -> PathBuf {
        self.target.join(path)
    }

    pub(super) fn failed(&self, action: &'static str, path: &Path, error: Errno) -> ExportError {
        failed(action, &self.path(path), error.into())
    }

    /// Opens a directory below.
    pub(super) fn directory(&self, path: &Path) -> Result<OwnedFd, ExportError> {
        let name = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        loop {
            let opened = rustix::fs::openat2(
                &self.root,
                name,
                OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            );
            match opened {
                Ok(directory) => return Ok(directory),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(self.failed("open", path, error)),
            }
        }
    }

    /// What is in a directory: names, and whether each is a directory.
    fn list(&self, path: &Path) -> Result<Vec<(OsString, bool)>, ExportError> {
        let directory = self.directory(path)?;
        let reader =
            Dir::read_from(&directory).map_err(|error| self.failed("read", path, error))?;
        let mut found = Vec::new();
        for entry in reader {
            let entry = entry.map_err(|error| self.failed("read", path, error))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
                    match stat {
                        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                        Err(Errno::NOENT) => continue,
                        Err(error) => return Err(self.failed("stat", &path.join(name), error)),
                    }
                }
                kind => kind,
            };
            found.push((name.to_owned(), kind == FileType::Directory));
        }
        Ok(found)
    }

    fn unlink(&self, path: &Path, is_directory: bool) -> Result<(), ExportError> {
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let flags = if is_directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        match rustix::fs::unlinkat(&parent, path.file_name().unwrap_or_default(), flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed("remove", path, error)),
        }
    }

    /// Removes a directory with all that is in it. One descriptor is open at a time, however deep
    /// it is.
    pub(super) fn remove_directory(&self, path: &Path) -> Result<(), ExportError> {
        let mut waiting = vec![path.to_owned()];
        while let Some(next) = waiting.last().cloned() {
            let before = waiting.len();
            for (name, is_directory) in self.list(&next)? {
                let path = next.join(name);
                if is_directory {
                    waiting.push(path);
                } else {
                    self.unlink(&path, false)?;
                }
            }
            if waiting.len() == before {
                self.unlink(&next, true)?;
                waiting.pop();
            }
        }
        Ok(())
    }

    /// Removes what is in none of the trees, each of which belongs into the directory beside it
    /// (or, with an empty name, right here).
    pub(super) fn remove_stale(&self, trees: &[(&str, &LayerView)]) -> Result<(), ExportError> {
        let mut top = Names::default();
        for (directory, view) in trees {
            let root = view.root()?;
            if directory.is_empty() {
                top.add_children(view, &root)?;
            } else {
                top.0.insert(directory.into(), vec![(*view, root)]);
            }
        }
        let mut waiting = vec![(PathBuf::new(), top)];
        while let Some((path, names)) = waiting.pop() {
            for (name, is_directory) in self.list(&path)? {
                let below = path.join(&name);
                match names.0.get(&name) {
                    Some(directories) if is_directory && !directories.is_empty() => {
                        let mut inside = Names::default();
                        for (view, entry) in directories {
                            inside.add_children(view, entry)?;
                        }
                        waiting.push((below, inside));
                    }
                    Some(_) if !is_directory => {}
                    _ if is_directory => self.remove_directory(&below)?,
                    _ => self.unlink(&below, false)?,
                }
            }
        }
        Ok(())
    }
}

/// Names that stay, each with the directories of trees that it stands for: none for anything else.
#[derive(Default)]
struct Names<'a>(HashMap<OsString, Vec<(&'a LayerView, Entry)>>);

impl<'a> Names<'a> {
    fn add_children(&mut self, view: &'a LayerView, parent: &Entry) -> Result<(), ExportError> {
        for entry in view.read_dir(parent)? {
            let name = entry.path.file_name().unwrap_or_default().to_owned();
            let directories = self.0.entry(name).or_default();
            if entry.is_dir() {
                directories.push((view, entry));
            }
        }
        Ok(())
    }
}
