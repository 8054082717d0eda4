//! A stack of layers seen as one tree, without mounting it.
//!
//! The rules are overlayfs's: the topmost layer that has a name decides; a 0/0 character device
//! hides the name; an opaque directory hides what lower layers have below it; directories merge
//! with directories only. COPY resolves destinations with it, `COPY --from` and exports read
//! through it. Layers are untrusted: every path is resolved component by component, symlinks inside
//! the view's root only, and no component is ever followed by the kernel.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device (never overlay's whiteout).
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Metadata of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Type.
    pub kind: FileKind,
    /// Permission bits, 0..=0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes (files and link targets).
    pub size: u64,
    /// Modification time: seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Change time, same form.
    pub ctime: (i64, u32),
    /// Device and inode number on the host: equal for hard links.
    pub inode: (u64, u64),
    /// Host link count.
    pub links: u64,
    /// Device number (major, minor) of devices.
    pub rdev: (u32, u32),
}

/// An entry of the view: its in-root path, metadata and where it really lies.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path from the root of the view, without a leading `/`; empty for the root. Contains no
    /// symlink, `.` or `..`.
    pub path: PathBuf,
    /// Metadata of the topmost layer that has it.
    pub metadata: Metadata,
    /// Path on the host. Open it with `O_NOFOLLOW`.
    pub host_path: PathBuf,
    /// Index of the layer in the view, base first.
    pub layer: usize,
}

/// Why a path has no entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// Reading a layer failed.
    #[error("{action} `{path}` in a layer")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Host path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// More than 40 symlinks (the kernel's own limit).
    #[error("too many symbolic links in `{path}`")]
    Loop {
        /// The path asked for.
        path: PathBuf,
    },
    /// A component that is not a directory has something below it.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// The component, from the view's root.
        path: PathBuf,
    },
}

/// A stack of layers as one tree.
#[derive(Debug)]
pub struct LayerView {}

impl LayerView {
    /// A view of `layers`, base first (a scratch's upper directory may be the last).
    /// `userxattr`: whether opaque marks are `user.overlay.opaque` or `trusted.overlay.opaque`;
    /// both are honoured when reading.
    pub fn new(layers: Vec<PathBuf>) -> Self {
        let _ = layers;
        todo!()
    }

    /// The entry at `path`; symlinks in all components but the last are followed inside the root,
    /// and the last too if `follow`. None if nothing is there.
    pub fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, ViewError> {
        let _ = (path, follow);
        todo!()
    }

    /// Follows `path` as far as it exists: the resolved existing part as an entry, and the
    /// components that are missing. `follow` as in [`lookup`](Self::lookup). A dangling symlink
    /// at the end is followed to where its target would be.
    pub fn resolve(&self, path: &Path, follow: bool) -> Result<(Entry, PathBuf), ViewError> {
        let _ = (path, follow);
        todo!()
    }

    /// The children of a directory entry, merged, sorted by name's bytes.
    pub fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, ViewError> {
        let _ = directory;
        todo!()
    }

    /// The child `name` of a directory entry.
    pub fn child(&self, directory: &Entry, name: &OsStr) -> Result<Option<Entry>, ViewError> {
        let _ = (directory, name);
        todo!()
    }

    /// The target of a symlink entry.
    pub fn read_link(&self, entry: &Entry) -> Result<PathBuf, ViewError> {
        let _ = entry;
        todo!()
    }

    /// Opens a regular file.
    pub fn open(&self, entry: &Entry) -> Result<File, ViewError> {
        let _ = entry;
        todo!()
    }

    /// The extended attributes of an entry as (name, value), sorted, without overlay's own.
    pub fn xattrs(&self, entry: &Entry) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ViewError> {
        let _ = entry;
        todo!()
    }

    /// Visits every entry below `start` (itself included), parents first, siblings sorted by bytes.
    pub fn walk(
        &self,
        start: &Entry,
        visit: &mut dyn FnMut(&Entry) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        let _ = (start, visit);
        todo!()
    }
}
