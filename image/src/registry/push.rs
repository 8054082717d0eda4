//! Pushing images: layers, config, manifest, and the index last, so that a registry never has a
//! manifest whose blobs it lacks, or an index whose manifests it lacks.

use std::io::{self, Read};

use strata_cache::diff::WriteOptions;
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::{Digest, Lease, StoreError};

use super::{RegistryError, Upload};
use crate::export::{self, Document, Encoding, ImageSet, blob_for, is_present, open_at};
use crate::manifest::Descriptor;
use crate::parallel::in_parallel;
use crate::{BuiltImage, ExportError, Images, NoProgress, Progress, Reference};

/// Uploads at a time.
const UPLOADS: usize = 4;

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A blob could not be made.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The registry did not take it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// How blobs and the manifest are written.
    pub encoding: Encoding,
    /// Clamps the times of layers that are made into blobs here.
    pub write: WriteOptions,
    /// Give the manifest no tag: it is there by its digest only, for an index to be made later.
    pub by_digest: bool,
    /// Repositories that are known to hold layers of the image (its bases): asked to mount from if
    /// they are on the same registry, read from if the store has not kept a blob.
    pub sources: Vec<Reference>,
}

impl Images<'_> {
    /// Pushes images to `target` (its tag, or `latest`), and answers the descriptor of what has that
    /// name then: an index, or the manifest of an image that needs none. Blobs that the registry has
    /// are left out.
    pub fn push(
        &self,
        lease: &Lease,
        set: &ImageSet<'_>,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Descriptor, PushError> {
        let mut manifests = Vec::with_capacity(set.images.len());
        let mut artifacts = Vec::new();
        for image in set.images {
            export::claim(self.store(), lease, image)?;
            let manifest = self.push_blobs(image, target, options, progress)?;
            artifacts.extend(set.beside(image, &manifest.descriptor));
            manifests.push(manifest);
        }
        let described = |documents: &[Document]| -> Vec<Descriptor> {
            let descriptors = documents.iter().map(|one| one.descriptor.clone());
            descriptors.collect()
        };
        let images = described(&manifests);
        for artifact in &artifacts {
            for blob in &artifact.blobs {
                self.push_bytes(target, Digest::of(blob), blob)?;
            }
        }
        let artifacts: Vec<Document> = artifacts
            .into_iter()
            .map(|artifact| Document {
                descriptor: artifact.descriptor,
                bytes: artifact.manifest,
            })
            .collect();
        let index = set.index_of(&images, &described(&artifacts), &options.encoding);
        let (members, root) = match index {
            Some(index) => (manifests.into_iter().chain(artifacts).collect(), index),
            None => (Vec::new(), manifests.swap_remove(0)),
        };
        for member in &members {
            self.put_document(member, target, true)?;
        }
        self.put_document(&root, target, options.by_digest)?;
        Ok(root.descriptor)
    }

    pub(super) fn put_document(
        &self,
        document: &Document,
        target: &Reference,
        by_digest: bool,
    ) -> Result<(), PushError> {
        let Document { descriptor, bytes } = document;
        let named;
        let target = if by_digest {
            named = target.with_digest(descriptor.digest);
            &named
        } else {
            target
        };
        self.client()
            .put_manifest(target, &descriptor.media_type, bytes)?;
        Ok(())
    }

    /// Pushes layers and config of an image, and answers its manifest.
    pub(super) fn push_blobs(
        &self,
        image: &BuiltImage,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Document, PushError> {
        let mount_from: Vec<String> = options
            .sources
            .iter()
            .filter(|source| source.registry == target.registry)
            .map(|source| source.repository.clone())
            .collect();
        let layers = in_parallel(UPLOADS, image.layers(), |layer| {
            self.push_layer(layer, target, &mount_from, options, progress)
        })?;
        self.push_bytes(target, image.id(), image.config_bytes())?;
        Ok(export::manifest_of(image, &layers, &options.encoding))
    }

    /// Pushes a blob that is in memory.
    fn push_bytes(
        &self,
        target: &Reference,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(), PushError> {
        let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            Ok(Box::new(bytes.get(start..).unwrap_or_default()))
        };
        let upload = Upload {
            digest,
            size: bytes.len() as u64,
            open: &open,
            mount_from: &[],
        };
        self.client().upload(target, &upload, &NoProgress)?;
        Ok(())
    }

    fn push_layer(
        &self,
        layer: &StoredLayer,
        target: &Reference,
        mount_from: &[String],
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<StoredBlob, PushError> {
        let store = self.store();
        // A blob that the store has not kept may be in the registry, where it can stay.
        if !is_present(store, layer)
            && !options.encoding.force_codec
            && let Some(blob) = &layer.blob
            && let Some(size) = self.client().blob_size(target, blob.digest, "pull,push")?
            && size == blob.size
        {
            return Ok(blob.clone());
        }
        let blob = match blob_for(store, layer, &options.encoding, options.write, progress) {
            Ok(blob) => blob,
            Err(gone @ ExportError::LayerGone { .. }) => {
                self.fetch_again(layer, &options.sources, gone, progress)?
            }
            Err(error) => return Err(error.into()),
        };
        let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
            let reader: Box<dyn Read> = open_at(store, blob.digest, offset)?;
            Ok(reader)
        };
        let upload = Upload {
            digest: blob.digest,
            size: blob.size,
            open: &open,
            mount_from,
        };
        self.client().upload(target, &upload, progress)?;
        Ok(blob)
    }

    /// Reads a layer's blob from a repository that has it.
    fn fetch_again(
        &self,
        layer: &StoredLayer,
        sources: &[Reference],
        gone: ExportError,
        progress: &dyn Progress,
    ) -> Result<StoredBlob, PushError> {
        let Some(blob) = &layer.blob else {
            return Err(gone.into());
        };
        for source in sources {
            let fetched =
                self.client()
                    .download(source, blob.digest, blob.size, self.store(), progress);
            match fetched {
                Ok(()) => return Ok(blob.clone()),
                Err(RegistryError::NotFound { .. } | RegistryError::Denied { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(gone.into())
    }
}
