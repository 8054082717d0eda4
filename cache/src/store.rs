//! The store's root directory.
//!
//! ```text
//! ROOT/
//!   version          format and flavour: "strata-store 1 root" or "strata-store 1 user"
//!   index.db         SQLite in WAL mode: records, layers, images, blobs, lease references
//!   layers/<id>/     committed layers: overlay upper directories, never written again
//!   blobs/sha256/    files by digest: manifests, configs, compressed layers
//!   scratch/<name>/  work in progress, with a locked file that says its owner lives
//!   locks/           one file for each key being built
//!   leases/          one locked file for each running build
//!   mounts/<id>/     cache mounts
//!   statcache/       one file for each context
//! ```

use std::path::{Path, PathBuf};

use crate::blob::Blobs;
use crate::index::Index;
use crate::lease::Lease;
use crate::lock::KeyGuard;
use crate::snapshot::Snapshotter;
use crate::{CacheKey, LayerId};

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
        source: std::io::Error,
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
}

/// An open store. Cheap to share: every method takes `&self`, from any thread.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// Opens the store at `root`, making it if it is not there.
    ///
    /// Does nothing that a fully cached build does not need: no pruning, no probe for overlayfs.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let _ = root;
        todo!()
    }

    /// The root directory, absolute.
    pub fn root(&self) -> &Path {
        todo!()
    }

    /// The index.
    pub fn index(&self) -> &Index {
        todo!()
    }

    /// The files named by digest.
    pub fn blobs(&self) -> &Blobs {
        todo!()
    }

    /// The directory of a committed layer.
    pub fn layer_path(&self, layer: LayerId) -> PathBuf {
        let _ = layer;
        todo!()
    }

    /// The directory of the cache mount `id`, made on first use, and locked or shared as asked by
    /// the caller through [`crate::lock`].
    pub fn cache_mount_path(&self, id: &str) -> Result<PathBuf, StoreError> {
        let _ = id;
        todo!()
    }

    /// Starts a lease: until it is dropped (or its process dies) nothing that was claimed or
    /// published under it is removed.
    pub fn lease(&self, what: &str) -> Result<Lease, StoreError> {
        let _ = what;
        todo!()
    }

    /// Takes the lock for `key`, or waits until whoever holds it is done; `on_wait` is called once
    /// if it has to wait.
    ///
    /// After waiting, look the key up again: the other build has most likely stored it.
    pub fn lock_key(
        &self,
        key: CacheKey,
        on_wait: &mut dyn FnMut(),
    ) -> Result<KeyGuard, StoreError> {
        let _ = (key, on_wait);
        todo!()
    }

    /// The snapshotter that this host allows, found by one probe (an overlay mounted for a moment
    /// in a child's own mount namespace is the executor's business: it passes the answer in).
    pub fn snapshotter(&self) -> Snapshotter {
        todo!()
    }

    /// Flushes layers and blobs to the disk with one `syncfs` and marks this boot's records as
    /// safe from a power cut.
    pub fn sync(&self) -> Result<(), StoreError> {
        todo!()
    }

    /// Collects what dead processes left: scratch directories, leases, lock files, layers without
    /// a row. Called after a build that ran something, never on the no-op path.
    pub fn collect_leftovers(&self) -> Result<(), StoreError> {
        todo!()
    }
}
