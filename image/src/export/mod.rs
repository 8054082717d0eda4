//! Gives layers their diff IDs and blobs, and writes images: to the store, to files.

mod archive;
mod directory;
mod encoding;
mod layer;
mod list;
mod local;
mod output;
mod place;
mod set;
mod stored;

use std::path::{Path, PathBuf};

pub(crate) use archive::{Archive, LAYOUT, blob_name, json, named};
pub use encoding::{Annotations, Encoding, MediaTypes, PlatformAnnotations};
pub(crate) use layer::{blob_for, is_present, open_at, plain_size};
pub use layer::{diff_id, image_blob, known_diff_id, layer_blob, small_diff_id};
pub(crate) use list::{built, index_of, member_manifest, parsed};
pub use set::{Artifact, Beside, ImageSet, reencoded};
pub(crate) use set::{Document, manifest_of};
pub use stored::{Statements, StoredSet, store_image, store_images, stored};

use strata_cache::diff::{DiffError, WriteOptions};
use strata_cache::image::{StoredImage, StoredLayer};
use strata_cache::{Digest, LayerId, Lease, Store, StoreError};

use crate::attest::Subject;
use crate::list::List;
use crate::manifest::{Descriptor, ManifestError};
use crate::{ImageConfig, Platform, Progress};

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
    /// A manifest of the store can't be used.
    #[error("manifest {digest}")]
    Manifest {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// A member of a list is not in the store, or a part of it.
    #[error(
        "{blob} of the image for {platform} is not in the store: pull the name again, with all its \
         platforms"
    )]
    MemberGone {
        /// The member's platform.
        platform: String,
        /// What lacks.
        blob: Digest,
    },
    /// Docker archives have no place for an index.
    #[error(
        "an archive for docker holds one image, and this is an index of {count}: write `type=oci`, \
         or one archive for each platform"
    )]
    DockerIndex {
        /// How many images.
        count: usize,
    },
    /// Two platforms have a file of one name, and there is one tree for both.
    #[error(
        "`{path}` is in the images for {first} and {second}: without `platform-split=false` each \
         platform has a directory of its own"
    )]
    PlatformConflict {
        /// The file, from the root of the images.
        path: PathBuf,
        /// Whose file is there.
        first: Box<Platform>,
        /// Whose file has no place.
        second: Box<Platform>,
    },
    /// A file about the image has the name of one of its own.
    #[error(
        "`/{name}` is in the image, and is the name of a file about it, too: give the output an \
         `attestation-prefix`"
    )]
    FileConflict {
        /// The name.
        name: String,
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
    /// A blob can't be read, or can't be written to where it is to go.
    #[error("send blob {blob}")]
    Unread {
        /// The blob.
        blob: Digest,
        /// The kernel's answer.
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
    /// What is said of an image can't be read.
    #[error("statement {digest} about the image can't be parsed")]
    Statement {
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
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
    platform: Platform,
}

impl BuiltImage {
    /// An image of `layers` (base first) with `config`, whose diff IDs are set from the layers.
    pub fn new(mut config: ImageConfig, layers: Vec<StoredLayer>) -> Self {
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let config_bytes = config.to_bytes();
        Self {
            config_digest: Digest::of(&config_bytes),
            config_bytes,
            platform: config.platform(),
            config,
            layers,
        }
    }

    /// The same image as the one for `platform` in an index, whatever its config says.
    #[must_use]
    pub fn for_platform(self, platform: Platform) -> Self {
        Self { platform, ..self }
    }

    /// What an index says that it runs on: what its config says, unless something else was asked for.
    pub fn platform(&self) -> &Platform {
        &self.platform
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
            platform: config.platform(),
            config,
            layers: image.layers.clone(),
        })
    }

    /// The same with other layers.
    fn with_layers(&self, layers: Vec<StoredLayer>) -> Self {
        let mut config = self.config.clone();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let config_bytes = config.to_bytes();
        Self {
            config_digest: Digest::of(&config_bytes),
            config_bytes,
            config,
            layers,
            ..self.clone()
        }
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
    /// For the tar and local forms: each platform's files in a directory of its own, such as
    /// `linux_arm64`. Without, they are put into one tree, and no file may be in two of them. None
    /// means a directory each wherever there would be an index.
    pub platform_split: Option<bool>,
    /// For the local form: what is in the directory and not in the result is removed.
    pub delete: bool,
    /// For the tar and local forms: files about each image, beside its own.
    pub files: Option<FilesBeside<'a>>,
}

/// Makes files that say something of an image, of its platform (if several share one tree) and of
/// all its files: names without slashes, and contents.
#[derive(Clone, Copy)]
pub struct FilesBeside<'a>(pub &'a MakeFiles<'a>);

/// See [`FilesBeside`].
pub type MakeFiles<'a> =
    dyn Fn(&BuiltImage, Option<&Platform>, &[Subject]) -> Vec<(String, Vec<u8>)> + Sync + 'a;

impl std::fmt::Debug for FilesBeside<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FilesBeside")
            .finish_non_exhaustive()
    }
}

/// Writes the images. Answers the descriptor of their index, or of the manifest of an image without
/// one, for the forms that have manifests.
pub fn export(
    store: &Store,
    lease: &Lease,
    set: &ImageSet<'_>,
    options: &ExportOptions<'_>,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<Option<Descriptor>, ExportError> {
    for image in set.images {
        claim(store, lease, image)?;
    }
    match options.format {
        Format::OciArchive | Format::DockerArchive => {
            let mut set = *set;
            if options.format == Format::DockerArchive {
                if set.index || set.images.len() != 1 {
                    return Err(ExportError::DockerIndex {
                        count: set.images.len(),
                    });
                }
                // The format has no place for them.
                set.beside = None;
            }
            let one = set::assemble(store, &set, options.encoding, options.write, progress)?;
            let root = one.root.clone();
            let named = [(options.names, one)];
            archive::write(store, &named, options, destination, progress)?;
            Ok(Some(root))
        }
        Format::OciDirectory => {
            let path = directory_of(destination)?;
            directory::write(store, set, options, path, progress).map(Some)
        }
        Format::Tar => {
            let trees = local::Trees::open(store, set, options)?;
            output::write(destination, &mut |output| {
                trees.write_tar(options.write, output, progress)
            })?;
            Ok(None)
        }
        Format::Local => {
            let trees = local::Trees::open(store, set, options)?;
            let directory = directory_of(destination)?;
            trees.copy_to(directory, options.write, options.delete, progress)?;
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

/// What [`save`] writes under one or several names.
#[derive(Debug, Clone, Copy)]
pub enum Saved<'a> {
    /// An image.
    Image(&'a BuiltImage),
    /// All images of a list.
    List(&'a List),
}

/// Writes several images, or lists of some, into one archive ([`Format::OciArchive`] or
/// [`Format::DockerArchive`]), each under its names: `strata save`.
pub fn save(
    store: &Store,
    lease: &Lease,
    saved: &[(Saved<'_>, &[String])],
    options: &ExportOptions<'_>,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    let mut assembled = Vec::with_capacity(saved.len());
    for (what, names) in saved {
        let one = match what {
            Saved::Image(image) => {
                claim(store, lease, image)?;
                let set = ImageSet::one(image);
                set::assemble(store, &set, options.encoding, options.write, progress)?
            }
            Saved::List(list) if options.format == Format::DockerArchive => {
                return Err(ExportError::DockerIndex {
                    count: list.members.len(),
                });
            }
            Saved::List(list) => list::assemble(store, list, options.encoding, progress)?,
        };
        assembled.push((*names, one));
    }
    archive::write(store, &assembled, options, destination, progress)
}
