//! Pushing an image: layers, config, manifest, in this order, so that a registry never has a
//! manifest whose blobs it lacks.

use std::io::{self, Read};

use strata_cache::diff::WriteOptions;
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::{Digest, Lease};

use super::{RegistryError, Upload};
use crate::export::{self, Encoding, blob_for, is_present, open_at};
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

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Its size in bytes.
    pub size: u64,
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
        let mount_from: Vec<String> = options
            .sources
            .iter()
            .filter(|source| source.registry == target.registry)
            .map(|source| source.repository.clone())
            .collect();
        let layers = in_parallel(UPLOADS, image.layers(), |layer| {
            self.push_layer(layer, target, &mount_from, options, progress)
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
