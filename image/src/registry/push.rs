//! Pushing images: layers, config, manifest, and the index last, so that a registry never has a
//! manifest whose blobs it lacks, or an index whose manifests it lacks.

use std::io::{self, Read};

use strata_cache::diff::WriteOptions;
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::{Digest, Lease, StoreError};

use super::stream::BlobStream;
use super::{RegistryError, Upload};
use crate::export::{self, Document, Encoding, ImageSet, blob_for, is_present, open_at};
use crate::manifest::Descriptor;
use crate::parallel::in_parallel;
use crate::{BuiltImage, ExportError, Images, NoProgress, Progress, Reference};

/// Uploads at a time.
const UPLOADS: usize = 4;
/// Repositories that are asked for a blob before it is sent.
const MOUNTS: usize = 3;

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
    /// Repositories that may hold layers of the image (its bases), besides those that the store knows
    /// of: asked to mount from if they are on the same registry, read from if the store does not have a
    /// blob.
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
            let layers = self.push_blobs(image, target, options, progress)?;
            let manifest = export::manifest_of(self.store(), image, &layers, &options.encoding);
            artifacts.extend(set.beside(image, &manifest.descriptor, &options.encoding));
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

    /// Pushes layers and config of an image, and answers the blobs of its layers.
    pub(super) fn push_blobs(
        &self,
        image: &BuiltImage,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<StoredBlob>, PushError> {
        let layers = in_parallel(UPLOADS, image.layers(), |layer| {
            self.push_layer(layer, target, options, progress)
        })?;
        self.push_bytes(target, image.id(), image.config_bytes())?;
        Ok(layers)
    }

    /// Pushes a blob that is in memory.
    pub(super) fn push_bytes(
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
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<StoredBlob, PushError> {
        let store = self.store();
        if let Some(blob) = &layer.blob
            && !is_present(store, layer)
            && let Some(blob) = self.push_absent(layer, blob, target, options, progress)?
        {
            return Ok(blob);
        }
        let blob = blob_for(store, layer, &options.encoding, options.write, progress)?;
        let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
            let reader: Box<dyn Read> = open_at(store, blob.digest, offset)?;
            Ok(reader)
        };
        let origins = self.origins(blob.digest, &options.sources)?;
        let mount_from = neighbours(&origins, target);
        self.send(&blob, &open, &mount_from, target, progress)?;
        Ok(blob)
    }

    /// Pushes the layer as the blob that it came as, which the store has not kept (or never had): the
    /// registry may have it or can take it from a neighbour, or else it is passed on from where it is
    /// without being kept. None if it can't be had, or is to be compressed anew.
    fn push_absent(
        &self,
        layer: &StoredLayer,
        blob: &StoredBlob,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Option<StoredBlob>, PushError> {
        let origins = self.origins(blob.digest, &options.sources)?;
        if options.encoding.force_codec {
            if !self.fetch_blob(blob, &options.sources, progress)? && layer.layer.is_none() {
                return Err(gone(layer).into());
            }
            return Ok(None);
        }
        if origins.is_empty() {
            let there = self.client().blob_size(target, blob.digest, "pull,push")?;
            return Ok(there
                .filter(|size| *size == blob.size)
                .map(|_| blob.clone()));
        }
        let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
            let stream = BlobStream::open(self.client(), &origins, blob.digest, blob.size, offset)
                .map_err(io::Error::other)?;
            Ok(Box::new(stream))
        };
        let mount_from = neighbours(&origins, target);
        match self.send(blob, &open, &mount_from, target, progress) {
            Ok(()) => Ok(Some(blob.clone())),
            // What is unpacked can be packed again, if not always to the same bytes.
            Err(PushError::Registry(error @ RegistryError::Payload { .. }))
                if layer.layer.is_some() =>
            {
                tracing::warn!("{error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn send<'a>(
        &self,
        blob: &StoredBlob,
        open: &'a dyn Fn(u64) -> io::Result<Box<dyn Read + 'a>>,
        mount_from: &'a [String],
        target: &Reference,
        progress: &dyn Progress,
    ) -> Result<(), PushError> {
        let upload = Upload {
            digest: blob.digest,
            size: blob.size,
            open,
            mount_from,
        };
        self.client().upload(target, &upload, progress)?;
        self.store()
            .index()
            .add_origins(&target.name(), &[blob.digest])?;
        Ok(())
    }
}

/// The repositories that `target`'s registry may take a blob from.
pub(super) fn neighbours(origins: &[Reference], target: &Reference) -> Vec<String> {
    let neighbours = origins.iter().filter(|origin| {
        origin.registry == target.registry && origin.repository != target.repository
    });
    neighbours
        .map(|origin| origin.repository.clone())
        .take(MOUNTS)
        .collect()
}

fn gone(layer: &StoredLayer) -> ExportError {
    ExportError::LayerGone {
        diff_id: layer.diff_id.0,
    }
}
