//! Gives layers their diff IDs and blobs, and writes images: to the store, to files.

mod archive;
mod directory;
mod encoding;
mod layer;
mod local;
mod output;

use std::path::{Path, PathBuf};

pub use encoding::{Annotations, Encoding, MediaTypes};
pub(crate) use layer::{blob_for, is_present, open_at};
pub use layer::{diff_id, image_blob, layer_blob};

use strata_cache::diff::{DiffError, WriteOptions};
use strata_cache::image::{StoredBlob, StoredImage, StoredLayer};
use strata_cache::{Digest, LayerId, Lease, Store, StoreError};

use crate::manifest::{Descriptor, Manifest};
use crate::parallel::in_parallel;
use crate::resolve::now_ms;
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
    /// A layer as written is not what the config says.
    #[error("layer {layer} is {found} as a tar, but the config says {expected}")]
    DiffId {
        /// The layer.
        layer: LayerId,
        /// As the config has it.
        expected: Digest,
        /// As written.
        found: Digest,
    },
    /// A blob's content is not what the config says.
    #[error("blob {blob} unpacks to {found}, but the config says {expected}")]
    BlobDiffId {
        /// The blob.
        blob: Digest,
        /// As the config has it.
        expected: Digest,
        /// As unpacked.
        found: Digest,
    },
    /// Compressing a blob anew failed.
    #[error("compress blob {blob} anew")]
    Recompress {
        /// The blob.
        blob: Digest,
        /// The answer of the compressor or the kernel.
        #[source]
        source: std::io::Error,
    },
    /// The tree could not be written.
    #[error("write the root file system")]
    Tree {
        /// What is wrong.
        #[source]
        source: DiffError,
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

/// Stores the image under `names` (in full). No blob is made: layers stay as they are.
pub fn store_image(
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    names: &[String],
) -> Result<StoredImage, ExportError> {
    claim(store, lease, image)?;
    let config = store.blobs().put(image.config_bytes())?;
    let stored = StoredImage {
        config,
        manifest: None,
        layers: image.layers.clone(),
        created_ms: now_ms(),
    };
    store.index().put_image(&stored, names)?;
    Ok(stored)
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
    /// How blobs and the manifest are written, for the forms that have them.
    pub encoding: &'a Encoding,
    /// Clamps the times of layers that are made into blobs here, and of the tar and local forms.
    pub write: WriteOptions,
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
    claim(store, lease, image)?;
    match options.format {
        Format::OciArchive | Format::DockerArchive => {
            let images = [(image, options.names)];
            let digests = archive::write(store, &images, options, destination, progress)?;
            Ok(digests.first().copied())
        }
        Format::OciDirectory => {
            let path = directory_of(destination)?;
            directory::write(store, image, options, path, progress).map(Some)
        }
        Format::Tar => {
            let tree = local::Tree::open(store, image)?;
            output::write(destination, &mut |output| {
                tree.write_tar(options.write, output, progress)
            })?;
            Ok(None)
        }
        Format::Local => {
            let tree = local::Tree::open(store, image)?;
            tree.copy_to(directory_of(destination)?, options.write, progress)?;
            Ok(None)
        }
    }
}

/// Claims the image's layers, so that nobody prunes them under our hands.
pub(crate) fn claim(store: &Store, lease: &Lease, image: &BuiltImage) -> Result<(), ExportError> {
    for id in image.layers.iter().filter_map(|layer| layer.layer) {
        if !store.index().claim_layer_id(lease, id)? {
            return Err(StoreError::NoLayer { layer: id }.into());
        }
    }
    Ok(())
}

fn directory_of(destination: &Destination) -> Result<&Path, ExportError> {
    match destination {
        Destination::Path(path) => Ok(path),
        Destination::Stdout => Err(ExportError::Destination {
            path: PathBuf::from("-"),
            reason: "is standard output: a directory can't be written there",
        }),
    }
}

/// Writes several images into one archive ([`Format::OciArchive`] or [`Format::DockerArchive`]):
/// `strata save`.
pub fn save(
    store: &Store,
    lease: &Lease,
    images: &[(BuiltImage, Vec<String>)],
    options: &ExportOptions<'_>,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    for (image, _) in images {
        claim(store, lease, image)?;
    }
    let images: Vec<(&BuiltImage, &[String])> = images
        .iter()
        .map(|(image, names)| (image, names.as_slice()))
        .collect();
    archive::write(store, &images, options, destination, progress)?;
    Ok(())
}

/// Layers that are packed at a time. Each uses all cores while it compresses: this is for the many
/// small ones, which mostly wait.
const PACKERS: usize = 4;

/// An image as a manifest describes it, all blobs being in the store.
struct Assembled {
    /// The manifest's bytes.
    manifest: Vec<u8>,
    /// Its descriptor.
    descriptor: Descriptor,
    /// Config.
    config: Descriptor,
    /// Layers, base first.
    layers: Vec<StoredBlob>,
}

/// Makes the blobs that lack, and the manifest.
fn assemble(
    store: &Store,
    image: &BuiltImage,
    encoding: &Encoding,
    write: WriteOptions,
    progress: &dyn Progress,
) -> Result<Assembled, ExportError> {
    let layers = in_parallel(PACKERS, &image.layers, |layer| {
        blob_for(store, layer, encoding, write, progress)
    })?;
    let config = Descriptor::new(
        encoding.types.config(),
        image.config_digest,
        image.config_bytes.len() as u64,
    );
    let manifest = manifest_of(image, &layers, encoding);
    let mut descriptor = Descriptor::new(
        encoding.types.manifest(),
        Digest::of(&manifest),
        manifest.len() as u64,
    );
    descriptor.platform = Some(image.config.platform());
    descriptor
        .annotations
        .clone_from(&encoding.annotations.descriptor);
    Ok(Assembled {
        manifest,
        descriptor,
        config,
        layers,
    })
}

/// The bytes of the manifest of an image with these blobs.
pub(crate) fn manifest_of(
    image: &BuiltImage,
    layers: &[StoredBlob],
    encoding: &Encoding,
) -> Vec<u8> {
    let types = encoding.types;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(types.manifest().to_owned()),
        config: Descriptor::new(
            types.config(),
            image.config_digest,
            image.config_bytes.len() as u64,
        ),
        layers: layers
            .iter()
            .map(|blob| Descriptor::new(types.layer(&blob.media_type), blob.digest, blob.size))
            .collect(),
        annotations: encoding.annotations.manifest.clone(),
    };
    serde_json::to_vec_pretty(&manifest).expect("string keys and plain values always serialise")
}
