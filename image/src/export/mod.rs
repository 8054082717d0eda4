//! Gives layers their diff IDs and blobs, and writes images: to the store, to files.

use std::path::PathBuf;

use strata_cache::codec::Codec;
use strata_cache::diff::{DiffError, WriteOptions};
use strata_cache::image::{StoredBlob, StoredImage, StoredLayer};
use strata_cache::index::LayerBlob;
use strata_cache::{DiffId, Digest, LayerId, Lease, Store, StoreError};

use crate::{ImageConfig, Progress};

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The output could not be written.
    #[error("{action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The output.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The output is in the way of this form.
    #[error("`{path}` {reason}")]
    Destination {
        /// The output.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: &'static str,
    },
    /// A layer could not be turned into a tar.
    #[error("write layer {layer}")]
    Layer {
        /// The layer.
        layer: LayerId,
        /// What is wrong.
        #[source]
        source: DiffError,
    },
    /// Compressing failed.
    #[error("compress layer {layer}")]
    Compress {
        /// The layer.
        layer: LayerId,
        /// The compressor's answer.
        #[source]
        source: std::io::Error,
    },
    /// A layer is neither unpacked nor is its blob in the store.
    #[error("layer {diff_id} is not in the store any more; pull or load its image again")]
    LayerGone {
        /// Its diff ID.
        diff_id: Digest,
    },
    /// The image is for use as a whole file system, but its layers are not unpacked.
    #[error("layer {diff_id} is not unpacked")]
    NotUnpacked {
        /// Its diff ID.
        diff_id: Digest,
    },
    /// The layers do not fit the config.
    #[error("the config has {config} layers, but there are {layers}")]
    LayerCount {
        /// In the config.
        config: usize,
        /// In fact.
        layers: usize,
    },
    /// A stored config can't be parsed.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The tree could not be read.
    #[error(transparent)]
    View(#[from] strata_cache::view::ViewError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image ready to be stored, written or pushed.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    config: ImageConfig,
    config_bytes: Vec<u8>,
    config_digest: Digest,
    layers: Vec<StoredLayer>,
}

impl BuiltImage {
    /// An image of `layers` (base first) with `config`, whose diff IDs are set from the layers.
    pub fn new(mut config: ImageConfig, layers: Vec<StoredLayer>) -> Self {
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let config_bytes = config.to_bytes();
        Self {
            config_digest: Digest::of(&config_bytes),
            config_bytes,
            config,
            layers,
        }
    }

    /// An image of the store, its config byte for byte.
    pub fn from_stored(store: &Store, image: &StoredImage) -> Result<Self, ExportError> {
        let config_bytes = store.blobs().read(image.config)?;
        let config = ImageConfig::parse(&config_bytes)?;
        if config.diff_ids().len() != image.layers.len() {
            return Err(ExportError::LayerCount {
                config: config.diff_ids().len(),
                layers: image.layers.len(),
            });
        }
        Ok(Self {
            config_digest: image.config,
            config_bytes,
            config,
            layers: image.layers.clone(),
        })
    }

    /// The config.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The config as it is stored.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// Digest of the config: the image ID.
    pub fn id(&self) -> Digest {
        self.config_digest
    }

    /// Layers, base first.
    pub fn layers(&self) -> &[StoredLayer] {
        &self.layers
    }
}

/// The diff ID of a layer, made once for each layer and epoch and remembered in the index.
///
/// A layer that came from an image has the diff ID that it came with, whatever `options` say:
/// its times are the image's.
pub fn diff_id(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
) -> Result<DiffId, ExportError> {
    let _ = (store, layer, options);
    todo!()
}

/// The tar of a layer, compressed and kept as a blob: made once for each layer, codec and epoch.
/// Walking, hashing, compressing and writing run beside each other. The diff ID is made on the way.
pub fn layer_blob(
    store: &Store,
    layer: LayerId,
    codec: Codec,
    options: WriteOptions,
    progress: &dyn Progress,
) -> Result<LayerBlob, ExportError> {
    let _ = (store, layer, codec, options, progress);
    todo!()
}

/// The blob to write for a layer of an image: the one that it came as, else one in `codec`, as a
/// manifest has to name it (OCI media types).
pub fn image_blob(
    store: &Store,
    layer: &StoredLayer,
    codec: Codec,
    options: WriteOptions,
    progress: &dyn Progress,
) -> Result<StoredBlob, ExportError> {
    let _ = (store, layer, codec, options, progress);
    todo!()
}

/// Stores the image under `names` (in full). No blob is made: layers stay as they are.
pub fn store_image(
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    names: &[String],
) -> Result<StoredImage, ExportError> {
    let _ = (store, lease, image, names);
    todo!()
}

/// Where an export goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output. Not for directory forms.
    Stdout,
    /// A file or a directory, by form. A file appears whole or not at all.
    Path(PathBuf),
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout in a tar.
    OciArchive,
    /// An OCI layout directory. One that is there already gets the image added.
    OciDirectory,
    /// What `docker load` reads; an OCI layout at the same time.
    DockerArchive,
    /// The root file system as one tar.
    Tar,
    /// The root file system in a directory.
    Local,
}

/// How to export.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions<'a> {
    /// The form.
    pub format: Format,
    /// For layers that have no blob yet.
    pub codec: Codec,
    /// Clamps the times of layers that are made into blobs here, and of the tar and local forms.
    pub write: WriteOptions,
    /// Compress layers anew with `codec`, even those that came with a blob.
    pub force_codec: bool,
    /// Names in full, for the forms that have names.
    pub names: &'a [String],
}

/// Writes the image. Answers the digest of its manifest for the forms that have one.
pub fn export(
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    options: &ExportOptions<'_>,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<Option<Digest>, ExportError> {
    let _ = (store, lease, image, options, destination, progress);
    todo!()
}

/// Writes several images into one archive ([`Format::OciArchive`] or [`Format::DockerArchive`]):
/// `strata save`.
pub fn save(
    store: &Store,
    lease: &Lease,
    images: &[(BuiltImage, Vec<String>)],
    format: Format,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    let _ = (store, lease, images, format, destination, progress);
    todo!()
}
