//! Why the store failed.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::{Digest, Room};

/// Why the store can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory of the store could not be read or written.
    #[error("{action} `{path}`")]
    Io {
        /// What was tried: `create`, `rename` …
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The file system is full, or a quota is used up.
    #[error(
        "no space left to {action} `{path}`{}; `strata cache prune` frees some",
        .room.map(|room| format!(" ({room})")).unwrap_or_default()
    )]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// How full the file system was right then.
        room: Option<Room>,
        /// The kernel's or SQLite's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The disk could not do it.
    #[error(
        "{action} `{path}`: the disk fails; the kernel's log (`dmesg`) may say why, and when it is mended \
         `strata cache verify` says what was damaged"
    )]
    Disk {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The kernel's or SQLite's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The index answered with an error.
    #[error("cache index `{path}`")]
    Index {
        /// The database file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// The directory holds something else, or a store of another version or flavour.
    #[error("`{path}` is not a store that this strata can use: {reason}")]
    Foreign {
        /// The root.
        path: PathBuf,
        /// What was found and what to do.
        reason: String,
    },
    /// The store can be read only: a read-only file system, or a directory of somebody else.
    #[error(
        "store `{path}` can't be written to: it is read-only, or somebody else's; a file system becomes \
         read-only by itself when its disk fails"
    )]
    ReadOnly {
        /// The root, or the file that could not be written.
        path: PathBuf,
    },
    /// The file system does not support file locks, which everything here relies on.
    #[error("`{path}` can't be locked; put the store on a local file system with `--root`")]
    Locking {
        /// The lock file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Content is not what its digest says.
    #[error("expected {expected}, found {found}")]
    Corrupt {
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// The store has no such blob.
    #[error("blob {digest} is not in the store")]
    NoBlob {
        /// Its digest.
        digest: Digest,
    },
    /// The store has no such layer.
    #[error("layer {layer} is not in the store")]
    NoLayer {
        /// Its name.
        layer: crate::LayerId,
    },
    /// What was found in the store was pruned before it could be held.
    #[error("what was found in the store was pruned meanwhile; try again")]
    Pruned,
    /// A finished step left something in its layer that can't be kept.
    #[error("`{path}` can't become part of a layer: {reason}")]
    Layer {
        /// The path from the layer's root.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The layers below could not be read, copied or compared.
    #[error(transparent)]
    Diff(#[from] crate::diff::DiffError),
}

impl StoreError {
    /// An I/O error on `path`, sorted into the kinds that need another answer.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let path = path.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::NoSpace {
                action,
                room: Room::of(&path),
                path,
                source: Box::new(source),
            },
            Some(Errno::ROFS) => Self::ReadOnly { path },
            Some(Errno::IO) => Self::Disk {
                action,
                path,
                source: Box::new(source),
            },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    /// True if there was no room to write.
    pub const fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }

    /// True if the store could not be written to at all.
    pub(crate) const fn is_read_only(&self) -> bool {
        matches!(self, Self::ReadOnly { .. })
    }
}
