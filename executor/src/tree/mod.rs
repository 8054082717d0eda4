//! What COPY reads from: a build context on disk, or a stack of layers. One trait, so that
//! selection, hashing and copying are written once.

mod file;
mod layers;
mod memory;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use strata_cache::Digest;
use strata_cache::view::{Entry, FileKind, Metadata, ViewError};

pub use file::FileTree;
pub use layers::LayerTree;
pub use memory::MemoryTree;

/// An extended attribute: name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Reading failed.
    #[error("{action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Path on the host.
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
        /// The component, from the tree's root.
        path: PathBuf,
    },
    /// What was a regular file is one no more.
    #[error("`{path}` is not a regular file any more")]
    NotAFile {
        /// Path on the host.
        path: PathBuf,
    },
    /// A layer can't be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// A tree of files to copy from. Paths are relative to its root, without a leading `/`. Symlinks
/// are resolved inside the root, whatever they say.
pub trait SourceTree: Send + Sync {
    /// See [`strata_cache::LayerView::lookup`].
    fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, TreeError>;

    /// The children of a directory, sorted by name's bytes, without what the tree hides
    /// (`.dockerignore`).
    fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, TreeError>;

    /// The target of a symlink.
    fn read_link(&self, entry: &Entry) -> Result<PathBuf, TreeError>;

    /// Opens a regular file, never through a symlink.
    fn open(&self, entry: &Entry) -> Result<File, TreeError>;

    /// Opens the directory that has an entry of a tree that [never changes](Self::immutable), so that the
    /// entry can be linked from there. None if the tree has no such directories.
    fn open_parent(&self, _entry: &Entry) -> Option<OwnedFd> {
        None
    }

    /// Extended attributes that a copy keeps, sorted by name.
    fn xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>, TreeError>;

    /// What is known of an entry as soon as it is found: its content's digest, if the tree has
    /// that at hand, and its extended attributes. One look-up where both come from one place.
    fn known(&self, entry: &Entry) -> Result<(Option<Digest>, Vec<Xattr>), TreeError> {
        Ok((None, self.xattrs(entry)?))
    }

    /// The owner that a copy gets without `--chown`: 0:0 from a context, its own from layers.
    fn owner(&self, entry: &Entry) -> (u32, u32);

    /// The permission bits that a copy gets without `--chmod`.
    fn mode(&self, entry: &Entry) -> u32 {
        entry.metadata.mode
    }

    /// The content digest of a regular file if it is known without reading it.
    fn known_digest(&self, entry: &Entry) -> Option<Digest>;

    /// True if files of this tree never change: they may be hard-linked into a layer when their
    /// metadata is to be the same.
    fn immutable(&self) -> bool;

    /// Whether a file that still has the metadata with which it was hashed is known to be what was hashed. A
    /// tree whose files change and that can't tell says no: such a file is hashed once more when it is copied.
    fn shows_changes(&self, _metadata: &Metadata) -> bool {
        false
    }

    /// What hard links of one file have in common, none for a file with one name. Link counts
    /// decide, unless the tree knows better.
    fn link_group(&self, entry: &Entry) -> Option<(u64, u64)> {
        let metadata = &entry.metadata;
        (metadata.kind == FileKind::File && metadata.links > 1).then_some(metadata.inode)
    }
}

/// The permission bits that a checkout has whatever its owner's umask: 0755 for directories and for what
/// the owner may execute, 0644 for everything else. Links keep theirs, which mean nothing.
pub(crate) fn neutral_mode(entry: &Entry) -> u32 {
    match entry.metadata.kind {
        FileKind::Symlink => entry.metadata.mode,
        FileKind::Directory => 0o755,
        _ if entry.metadata.mode & 0o100 != 0 => 0o755,
        _ => 0o644,
    }
}

/// True for an extended attribute that a copy keeps: file capabilities, and whatever is in no
/// name space of the system. Overlay's own marks and noted owners change what a layer means, so they never pass.
pub(crate) fn keeps_xattr(name: &[u8]) -> bool {
    if name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || name == strata_cache::owner::ATTRIBUTE
    {
        return false;
    }
    if name.starts_with(b"security.") {
        return name == b"security.capability";
    }
    !name.starts_with(b"system.")
}

#[cfg(test)]
mod tests {
    use super::keeps_xattr;

    #[test]
    fn xattrs_of_the_system_and_of_overlayfs_stay_behind() {
        for kept in ["user.comment", "security.capability", "trusted.note"] {
            assert!(keeps_xattr(kept.as_bytes()), "{kept}");
        }
        for dropped in [
            "security.selinux",
            "system.posix_acl_access",
            "trusted.overlay.opaque",
            "user.overlay.redirect",
            "user.strata.owner",
        ] {
            assert!(!keeps_xattr(dropped.as_bytes()), "{dropped}");
        }
    }
}
