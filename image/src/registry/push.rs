//! Pushing an image: layers, config, manifest, in this order, so that a registry never has a
//! manifest whose blobs it lacks.

use std::io::{self, Read};

use strata_cache::diff::WriteOptions;
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::{Digest, Lease, StoreError};

use super::stream::BlobStream;
use super::{RegistryError, Upload};
use crate::export::{self, Encoding, blob_for, is_present, open_at};
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

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl From<StoreError> for PushError {
    fn from(error: StoreError) -> Self {
        Self::Registry(error.into())
    }
}

impl Images<'_> {
    /// Pushes `image` to `target` (its tag, or `latest`). Blobs that the registry has are left out.
    pub fn push(
        &self,
        lease: &Lease,
        image: &BuiltImage,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Pushed, PushError> {
        export::claim(self.store(), lease, image)?;
        let layers = in_parallel(UPLOADS, image.layers(), |layer| {
            self.push_layer(layer, target, options, progress)
        })?;

        let config = image.config_bytes();
        let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            Ok(Box::new(config.get(start..).unwrap_or_default()))
        };
        let upload = Upload {
            digest: image.id(),
            size: config.len() as u64,
            open: &open,
            mount_from: &[],
        };
        self.client().upload(target, &upload, &NoProgress)?;

        let encoding = &options.encoding;
        let manifest = export::manifest_of(image, &layers, encoding);
        let digest = if options.by_digest {
            let target = target.with_digest(Digest::of(&manifest));
            self.client()
                .put_manifest(&target, encoding.types.manifest(), &manifest)?
        } else {
            self.client()
                .put_manifest(target, encoding.types.manifest(), &manifest)?
        };
        Ok(Pushed {
            manifest: digest,
            size: manifest.len() as u64,
        })
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
fn neighbours(origins: &[Reference], target: &Reference) -> Vec<String> {
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
