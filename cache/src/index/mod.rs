//! The index: SQLite in WAL mode, one file, many processes.
//!
//! Writes are `BEGIN IMMEDIATE` transactions, short, never held across anything slow.

use crate::image::StoredImage;
use crate::{CacheKey, CacheRecord, ChainId, DiffId, Digest, KeyPart, LayerId, Lease, StoreError};

/// A layer as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// Its name in this store.
    pub id: LayerId,
    /// Digest of its uncompressed tar, once that was made.
    pub diff_id: Option<DiffId>,
    /// Chain ID for layers that were unpacked from an image.
    pub chain_id: Option<ChainId>,
    /// Bytes that the layer's files take (blocks allocated, hard links counted once).
    pub size: u64,
    /// Entries in the layer's directory tree.
    pub entries: u64,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
}

/// A layer's tar in one encoding, kept as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Codec, level and implementation, such as `gzip-6-zlibrs1` (see [`crate::codec`]).
    pub encoding: String,
}

/// The index of a store.
#[derive(Debug)]
pub struct Index {}

impl Index {
    /// Looks up `keys` and claims what is found for `lease`, in one transaction: after it, pruning
    /// leaves those records and layers alone. Marks them as used now.
    ///
    /// The answer has one entry for each key, in order. Records that a power cut made doubtful are
    /// not found.
    pub fn claim(
        &self,
        lease: &Lease,
        keys: &[CacheKey],
    ) -> Result<Vec<Option<CacheRecord>>, StoreError> {
        let _ = (lease, keys);
        todo!()
    }

    /// One record without claiming it.
    pub fn record(&self, key: CacheKey) -> Result<Option<CacheRecord>, StoreError> {
        let _ = key;
        todo!()
    }

    /// What the key of a record was made of.
    pub fn parts(&self, key: CacheKey) -> Result<Vec<KeyPart>, StoreError> {
        let _ = key;
        todo!()
    }

    /// All records, newest first.
    pub fn records(&self) -> Result<Vec<CacheRecord>, StoreError> {
        todo!()
    }

    /// The row of a layer.
    pub fn layer(&self, id: LayerId) -> Result<Option<LayerRow>, StoreError> {
        let _ = id;
        todo!()
    }

    /// The unpacked layer with this chain ID, claimed for `lease`.
    pub fn claim_chain(
        &self,
        lease: &Lease,
        chain: ChainId,
    ) -> Result<Option<LayerId>, StoreError> {
        let _ = (lease, chain);
        todo!()
    }

    /// Remembers the diff ID of a layer.
    pub fn set_diff_id(&self, id: LayerId, diff_id: DiffId) -> Result<(), StoreError> {
        let _ = (id, diff_id);
        todo!()
    }

    /// The blob that holds `id` in `encoding`, if it was made before and is still there.
    pub fn layer_blob(&self, id: LayerId, encoding: &str) -> Result<Option<LayerBlob>, StoreError> {
        let _ = (id, encoding);
        todo!()
    }

    /// Every blob that holds `id`, the one that it was pulled as first.
    pub fn layer_blobs(&self, id: LayerId) -> Result<Vec<LayerBlob>, StoreError> {
        let _ = id;
        todo!()
    }

    /// Remembers that `blob` holds `id`.
    pub fn add_layer_blob(&self, id: LayerId, blob: &LayerBlob) -> Result<(), StoreError> {
        let _ = (id, blob);
        todo!()
    }

    /// Stores an image (its config blob must be in the store already), or replaces it, and makes
    /// `names` point to it. A name that pointed elsewhere is moved.
    pub fn put_image(&self, image: &StoredImage, names: &[String]) -> Result<(), StoreError> {
        let _ = (image, names);
        todo!()
    }

    /// The image that `name` points to.
    pub fn image_by_name(&self, name: &str) -> Result<Option<StoredImage>, StoreError> {
        let _ = name;
        todo!()
    }

    /// The image whose config digest begins with these hex digits (`sha256:` allowed in front);
    /// `Err` only for I/O: several matches give all of them.
    pub fn images_by_id(&self, prefix: &str) -> Result<Vec<StoredImage>, StoreError> {
        let _ = prefix;
        todo!()
    }

    /// All images with their names, newest first.
    pub fn images(&self) -> Result<Vec<(StoredImage, Vec<String>)>, StoreError> {
        todo!()
    }

    /// Takes a name away. An image without names stays until it is pruned. True if it was there.
    pub fn remove_name(&self, name: &str) -> Result<bool, StoreError> {
        let _ = name;
        todo!()
    }

    /// Removes an image and all its names.
    pub fn remove_image(&self, config: Digest) -> Result<(), StoreError> {
        let _ = config;
        todo!()
    }
}
