//! What COPY reads from: a build context on disk, or a stack of layers. One trait, so that
//! selection, hashing and copying are written once.

use std::fs::File;
use std::path::{Path, PathBuf};

use strata_cache::Digest;
use strata_cache::view::{Entry, ViewError};

/// A tree of files to copy from. Paths are relative to its root, without a leading `/`. Symlinks
/// are resolved inside the root, whatever they say.
pub trait SourceTree: Send + Sync {
    /// See [`strata_cache::LayerView::lookup`].
    fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, ViewError>;

    /// The children of a directory, sorted by name's bytes, without what the tree hides
    /// (`.dockerignore`).
    fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, ViewError>;

    /// The target of a symlink.
    fn read_link(&self, entry: &Entry) -> Result<PathBuf, ViewError>;

    /// Opens a regular file, never through a symlink.
    fn open(&self, entry: &Entry) -> Result<File, ViewError>;

    /// Extended attributes that a copy keeps.
    fn xattrs(&self, entry: &Entry) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ViewError>;

    /// The owner that a copy gets without `--chown`: 0:0 from a context, its own from layers.
    fn owner(&self, entry: &Entry) -> (u32, u32);

    /// The content digest of a regular file if it is known without reading it.
    fn known_digest(&self, entry: &Entry) -> Option<Digest>;

    /// True if files of this tree never change: they may be hard-linked into a layer when their
    /// metadata is to be the same.
    fn immutable(&self) -> bool;
}
