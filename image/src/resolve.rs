//! From the name of a base image to layers that a step can stand on.

use strata_cache::image::{StoredBlob, StoredImage};
use strata_cache::{DiffId, Digest, LayerId, Lease, Store, StoreError};

use crate::registry::{Client, RegistryError, RegistryOptions};
use crate::{ImageConfig, LoadError, Platform, Progress, Reference, ReferenceError};

/// Why an image can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text is not a name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// It is not in the store, and pulling is not allowed.
    #[error("image `{name}` is not in the local store, and pulling is off")]
    NotLocal {
        /// Its name.
        name: String,
    },
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The archive or layout can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the image says of itself can't be used.
    #[error("image `{name}`")]
    Manifest {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: crate::manifest::ManifestError,
    },
    /// Its config can't be used.
    #[error("image `{name}`")]
    Config {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: crate::config::ConfigError,
    },
    /// A layer can't be unpacked.
    #[error("unpack layer {layer} of `{name}`")]
    Unpack {
        /// The image.
        name: String,
        /// The layer's blob or diff ID.
        layer: Digest,
        /// What is wrong.
        #[source]
        source: strata_cache::diff::DiffError,
    },
    /// A layer is not what the config says.
    #[error("layer {blob} of `{name}` unpacks to {found}, but the config says {expected}")]
    DiffId {
        /// The image.
        name: String,
        /// The blob.
        blob: Digest,
        /// As the config has it.
        expected: Digest,
        /// As unpacked.
        found: Digest,
    },
    /// A layer's blob is not in the store any more, and nothing says where it came from.
    #[error(
        "layer {layer} of `{name}` is neither in the store nor known to a registry; pull or load the image again"
    )]
    LayerGone {
        /// The image.
        name: String,
        /// Its blob or diff ID.
        layer: Digest,
    },
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// If the store has no image of that name.
    #[default]
    Missing,
    /// Always: the name may have moved. Layers that are there are not fetched again.
    Always,
    /// Never.
    Never,
}

/// One layer of an image that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The blob that the manifest names.
    pub blob: Option<StoredBlob>,
    /// The unpacked layer, if it is there already.
    pub layer: Option<LayerId>,
}

/// An image that was found: its config is here, its layers can be had.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// Its name in full, or the transport text that it was asked by.
    pub name: String,
    /// Its config.
    pub config: ImageConfig,
    /// Digest of the config's bytes: the image ID.
    pub config_digest: Digest,
    /// Digest of the manifest of this one platform.
    pub manifest: Option<Digest>,
    /// Layers, base first.
    pub layers: Vec<ResolvedLayer>,
    /// Where layers that are not in the store can be fetched.
    pub source: Option<Reference>,
}

/// Finds images and unpacks them. One for each build is enough; it may be used from any thread.
#[derive(Debug)]
pub struct Images<'store> {
    store: &'store Store,
    client: Client,
}

impl<'store> Images<'store> {
    /// Nothing is read and no connection made before a registry is needed.
    pub fn new(store: &'store Store, options: RegistryOptions) -> Self {
        Self {
            store,
            client: Client::new(options),
        }
    }

    /// The store.
    pub fn store(&self) -> &'store Store {
        self.store
    }

    /// The registry client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Finds the image that `text` names: `debian:12`, `localhost:5000/x@sha256:…`, or one of the
    /// transports `oci-layout:DIRECTORY[:TAG|@DIGEST]` (`oci:` for short), `oci-archive:FILE[:TAG]`,
    /// `docker-archive:FILE[:NAME]`, `docker://NAME`.
    ///
    /// The store is asked first, as `policy` allows. From a registry only manifest and config are
    /// fetched, and the name is remembered in the store.
    pub fn resolve(
        &self,
        lease: &Lease,
        text: &str,
        platform: &Platform,
        policy: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<ResolvedImage, ImageError> {
        let _ = (lease, text, platform, policy, progress);
        todo!()
    }

    /// The image of the local store that `text` means: a name, or the first digits of an ID.
    pub fn find_local(&self, text: &str) -> Result<Option<(String, StoredImage)>, ImageError> {
        let _ = text;
        todo!()
    }

    /// A stored image as [`resolve`](Self::resolve) gives it.
    pub fn resolve_stored(
        &self,
        name: &str,
        image: &StoredImage,
    ) -> Result<ResolvedImage, ImageError> {
        let _ = (name, image);
        todo!()
    }

    /// Unpacks the layers of `image` that are not unpacked yet, fetching what lacks, and claims all
    /// for `lease`. Fetches several at once and unpacks in order; two processes that want the same
    /// layer unpack it once.
    pub fn ensure_layers(
        &self,
        lease: &Lease,
        image: &ResolvedImage,
        progress: &dyn Progress,
    ) -> Result<Vec<LayerId>, ImageError> {
        let _ = (lease, image, progress);
        todo!()
    }
}
