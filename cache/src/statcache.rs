//! Digests of context files that have not changed since they were last hashed.
//!
//! One file for each context directory. A file counts as unchanged if device, inode, size, mtime
//! and ctime are equal, and if it was not as young as the cache when it was hashed: a change within
//! the clock's grain of the hashing would not be seen.

use std::path::Path;

use crate::view::Metadata;
use crate::{Digest, Store, StoreError};

/// The stat cache of one context.
#[derive(Debug)]
pub struct StatCache {}

impl StatCache {
    /// Loads the cache for the context at `root`. A missing or damaged file is an empty cache.
    pub fn load(store: &Store, root: &Path) -> Self {
        let _ = (store, root);
        todo!()
    }

    /// The digest of the file at `path` (relative to the context) if it is unchanged.
    pub fn get(&self, path: &[u8], metadata: &Metadata) -> Option<Digest> {
        let _ = (path, metadata);
        todo!()
    }

    /// Remembers a digest.
    pub fn insert(&mut self, path: &[u8], metadata: &Metadata, digest: Digest) {
        let _ = (path, metadata, digest);
        todo!()
    }

    /// Writes the cache back if anything was inserted (scratch file, then rename).
    pub fn save(self, store: &Store) -> Result<(), StoreError> {
        let _ = store;
        todo!()
    }
}
