//! Images of the local store: which config, which layers.

use crate::{DiffId, Digest, LayerId};

/// One layer of a stored image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The unpacked layer, once a step needed it.
    pub layer: Option<LayerId>,
    /// The blob that it came as, and its media type and size, for images that were pulled or
    /// loaded. Layers built here have none. The blob itself may be in a registry only: see
    /// [`Index::origins`](crate::index::Index::origins).
    pub blob: Option<StoredBlob>,
}

/// A compressed layer as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlob {
    /// Digest of the blob.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Media type as the manifest had it.
    pub media_type: String,
}

/// Several images under one name, of as many platforms: a list. What it says is not the store's
/// business; what it needs is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredList {
    /// Digest of the document.
    pub id: Digest,
    /// What the list says.
    pub document: String,
    /// Configs of the images that it is made of and that are in the store.
    pub members: Vec<Digest>,
    /// Blobs that are kept with it: manifests as they came, and what those name that is no image.
    pub blobs: Vec<Digest>,
    /// Milliseconds since the epoch when it was stored.
    pub created_ms: u64,
}

/// An image of the local store. Its identity is its config's digest, as in Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Digest of the config blob: the image ID.
    pub config: Digest,
    /// The manifest that it was pulled by, if any (a blob, too).
    pub manifest: Option<Digest>,
    /// Layers, base first.
    pub layers: Vec<StoredLayer>,
    /// Milliseconds since the epoch when it was stored.
    pub created_ms: u64,
}
