//! One layer of a view, and overlayfs's marks in it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::{Metadata, ViewError};
use crate::{beneath, xattr};

/// Whether this is overlayfs's mark for a name that is gone: a character device 0/0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether this directory hides what lower layers have in it. An attribute that can't be read is
/// none: the kernel sees it the same way.
pub(crate) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .into_iter()
        .any(|name| matches!(xattr::get(directory, name.as_bytes()), Ok(Some(value)) if value == b"y"))
}

/// The root of a layer: its path and, once needed, its descriptor.
#[derive(Debug)]
pub(super) struct LayerRoot {
    path: PathBuf,
    /// Whether the descriptor may stay open.
    hold: bool,
    root: OnceLock<OwnedFd>,
}

impl LayerRoot {
    pub(super) fn new(path: PathBuf, hold: bool) -> Self {
        Self {
            path,
            hold,
            root: OnceLock::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A [`ViewError`] for `path` in this layer.
    pub(super) fn error(&self, action: &'static str, path: &Path, source: Errno) -> ViewError {
        ViewError::Io {
            action,
            path: self.path.join(path),
            source: source.into(),
        }
    }

    fn with<T>(&self, work: impl FnOnce(BorrowedFd<'_>) -> T) -> Result<T, ViewError> {
        if let Some(root) = self.root.get() {
            return Ok(work(root.as_fd()));
        }
        let root = beneath::open_root(&self.path)
            .map_err(|source| self.error("open", Path::new(""), source))?;
        Ok(if self.hold {
            work(self.root.get_or_init(|| root).as_fd())
        } else {
            work(root.as_fd())
        })
    }

    pub(super) fn root_metadata(&self) -> Result<Metadata, ViewError> {
        self.with(|root| rustix::fs::fstat(root).map(|stat| Metadata::of_file(&stat, root)))?
            .map_err(|source| self.error("stat", Path::new(""), source))
    }

    /// What is at `path`, whiteouts included.
    pub(super) fn find(&self, path: &Path) -> Result<Option<(OwnedFd, Stat)>, ViewError> {
        self.with(|root| beneath::find(root, path))?
            .map_err(|source| self.error("look up", path, source))
    }

    /// Opens the directory at `path` for reading; none if it is gone.
    pub(super) fn open_dir(&self, path: &Path) -> Result<Option<OwnedFd>, ViewError> {
        match self.with(|root| beneath::open_dir(root, path))? {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if beneath::is_absent(error) => Ok(None),
            Err(source) => Err(self.error("open", path, source)),
        }
    }

    pub(super) fn open_file(&self, path: &Path) -> Result<File, ViewError> {
        self.with(|root| beneath::open_file(root, path))?
            .map_err(|source| self.error("open", path, source))
    }

    /// Whether the directory at `path` is marked opaque.
    pub(super) fn is_opaque(&self, path: &Path) -> bool {
        matches!(self.find(path), Ok(Some((directory, _))) if is_opaque(directory.as_fd()))
    }
}
