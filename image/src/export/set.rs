//! What one output writes: an image, or an index of several and of what is said about them.

use strata_cache::diff::WriteOptions;
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::{Digest, Store};

use super::layer::{annotations, archive_of, blob_for, is_present};
use super::{BuiltImage, Encoding, ExportError, MediaTypes};
use crate::Progress;
use crate::manifest::{Descriptor, Index, Manifest};
use crate::parallel::in_parallel;

/// Layers that are packed at a time. Each uses all cores while it compresses: this is for the many
/// small ones, which mostly wait.
const PACKERS: usize = 4;

/// The images of one output, in the order in which their index lists them.
#[derive(Clone, Copy)]
pub struct ImageSet<'a> {
    /// One for each platform.
    pub images: &'a [BuiltImage],
    /// Makes an index even of one image.
    pub index: bool,
    /// Says what stands beside each image in the index. If that is anything, there is an index.
    pub beside: Option<&'a Beside<'a>>,
}

/// Makes what stands beside an image, of the image, the descriptor of its manifest, and how it is
/// written. It is called once for each image and encoding, in the order of the images.
pub type Beside<'a> = dyn Fn(&BuiltImage, &Descriptor, &Encoding) -> Vec<Artifact> + Sync + 'a;

/// A manifest that is no image: what it says is in its blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// How the index names it: digest and size are those of `manifest`, annotations and platform as
    /// its kind has them.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Its config and layers.
    pub blobs: Vec<Vec<u8>>,
}

impl std::fmt::Debug for ImageSet<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ImageSet")
            .field("images", &self.images)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<'a> ImageSet<'a> {
    /// One image, which needs no index.
    pub fn one(image: &'a BuiltImage) -> Self {
        Self {
            images: std::slice::from_ref(image),
            index: false,
            beside: None,
        }
    }

    /// What stands beside `image`, whose manifest has this descriptor.
    pub(crate) fn beside(
        &self,
        image: &BuiltImage,
        descriptor: &Descriptor,
        encoding: &Encoding,
    ) -> Vec<Artifact> {
        self.beside
            .map(|beside| beside(image, descriptor, encoding))
            .unwrap_or_default()
    }

    /// The index of these members, if there has to be one. Artifacts come after all images.
    pub(crate) fn index_of(
        &self,
        images: &[Descriptor],
        artifacts: &[Descriptor],
        encoding: &Encoding,
    ) -> Option<Document> {
        if !self.index && images.len() == 1 && artifacts.is_empty() {
            return None;
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(encoding.types.index().to_owned()),
            manifests: images.iter().chain(artifacts).cloned().collect(),
            annotations: encoding.annotations.index.clone(),
        };
        let mut document = Document::new(encoding.types.index(), &index);
        document
            .descriptor
            .annotations
            .clone_from(&encoding.annotations.index_descriptor);
        Some(document)
    }
}

/// The bytes of a manifest or an index, with the descriptor by which others name it.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
}

impl Document {
    pub(super) fn new(media_type: &str, content: &impl serde::Serialize) -> Self {
        let bytes = serde_json::to_vec_pretty(content)
            .expect("string keys and plain values always serialise");
        Self::of_bytes(media_type, bytes)
    }

    pub(super) fn of_bytes(media_type: &str, bytes: Vec<u8>) -> Self {
        Self {
            descriptor: Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64),
            bytes,
        }
    }
}

/// The manifest of an image with these blobs.
pub(crate) fn manifest_of(
    store: &Store,
    image: &BuiltImage,
    layers: &[StoredBlob],
    encoding: &Encoding,
) -> Document {
    let types = encoding.types;
    let platform = image.platform().clone();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(types.manifest().to_owned()),
        artifact_type: None,
        config: config_descriptor(image, encoding),
        layers: layers
            .iter()
            .map(|blob| {
                let media_type = types.layer(&blob.media_type);
                let mut layer = Descriptor::new(media_type, blob.digest, blob.size);
                // Docker's manifests have none.
                if types == MediaTypes::Oci {
                    layer.annotations = annotations(store, blob.digest);
                }
                layer
            })
            .collect(),
        subject: None,
        annotations: encoding.annotations.manifest_of(&platform),
    };
    let mut document = Document::new(types.manifest(), &manifest);
    document.descriptor.annotations = encoding.annotations.descriptor_of(&platform);
    document.descriptor.platform = Some(platform);
    document
}

fn config_descriptor(image: &BuiltImage, encoding: &Encoding) -> Descriptor {
    Descriptor::new(
        encoding.types.config(),
        image.id(),
        image.config_bytes().len() as u64,
    )
}

/// A set as its manifests describe it.
pub(super) struct Assembled {
    /// What stands for the set: its index, or its only manifest.
    pub(super) root: Descriptor,
    /// Index and manifests, and small blobs, each before what it names.
    pub(super) small: Vec<(Digest, Vec<u8>)>,
    /// Blobs of the store.
    pub(super) layers: Vec<StoredBlob>,
    /// Config and layers of each image of a set, for docker.
    pub(super) images: Vec<(Digest, Vec<StoredBlob>)>,
}

/// Makes the layers' blobs that lack, and the manifests.
pub(super) fn assemble(
    store: &Store,
    set: &ImageSet<'_>,
    encoding: &Encoding,
    write: WriteOptions,
    progress: &dyn Progress,
) -> Result<Assembled, ExportError> {
    let mut images = Vec::with_capacity(set.images.len());
    let mut small = Vec::new();
    let mut members = Vec::with_capacity(set.images.len());
    let mut artifacts = Vec::new();
    for image in set.images {
        let layers = in_parallel(PACKERS, image.layers(), |layer| {
            blob_for(store, layer, encoding, write, progress)
        })?;
        let manifest = manifest_of(store, image, &layers, encoding);
        artifacts.extend(set.beside(image, &manifest.descriptor, encoding));
        small.push((manifest.descriptor.digest, manifest.bytes));
        small.push((image.id(), image.config_bytes().to_vec()));
        members.push(manifest.descriptor);
        images.push((image.id(), layers));
    }
    let described: Vec<Descriptor> = artifacts.iter().map(|one| one.descriptor.clone()).collect();
    let root = match set.index_of(&members, &described, encoding) {
        Some(index) => {
            small.insert(0, (index.descriptor.digest, index.bytes));
            index.descriptor
        }
        None => members[0].clone(),
    };
    for artifact in artifacts {
        small.push((artifact.descriptor.digest, artifact.manifest));
        let blobs = artifact.blobs.into_iter();
        small.extend(blobs.map(|blob| (Digest::of(&blob), blob)));
    }
    let layers = images.iter().flat_map(|(_, layers)| layers.clone());
    Ok(Assembled {
        root,
        small,
        layers: layers.collect(),
        images,
    })
}

/// `images` as `encoding` has them, if it changes what their layers unpack to (estargz): with other diff
/// IDs, and so other configs and IDs. None if it changes nothing.
pub fn reencoded(
    store: &Store,
    images: &[BuiltImage],
    encoding: &Encoding,
    write: WriteOptions,
    progress: &dyn Progress,
) -> Result<Option<Vec<BuiltImage>>, ExportError> {
    if !encoding.codec.changes_archive() {
        return Ok(None);
    }
    let reencoded = images.iter().map(|image| {
        let layers = in_parallel(PACKERS, image.layers(), |layer| {
            // What is in a registry only stays as it is.
            if layer.layer.is_none() && !encoding.force_codec && !is_present(store, layer) {
                return Ok(layer.clone());
            }
            let blob = blob_for(store, layer, encoding, write, progress)?;
            Ok::<_, ExportError>(StoredLayer {
                diff_id: archive_of(store, layer, &blob)?,
                layer: layer.layer,
                blob: Some(blob),
            })
        })?;
        Ok(image.with_layers(layers))
    });
    reencoded.collect::<Result<_, ExportError>>().map(Some)
}
