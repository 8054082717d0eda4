//! Blobs that are not here, but known to be in a registry.

use strata_cache::image::StoredBlob;
use strata_cache::{Digest, StoreError};

use crate::parallel::in_parallel;
use crate::registry::RegistryError;
use crate::{BuiltImage, Images, Progress, Reference};

/// Layers that are fetched at a time.
const DOWNLOADS: usize = 4;

impl Images<'_> {
    /// The repositories that are known to have `blob`, those of `first` before others.
    pub(crate) fn origins(
        &self,
        blob: Digest,
        first: &[Reference],
    ) -> Result<Vec<Reference>, StoreError> {
        let mut origins = first.to_vec();
        for repository in self.store().index().origins(blob)? {
            let Ok(origin) = Reference::parse(&repository) else {
                continue;
            };
            if !origins.iter().any(|known| known.name() == origin.name()) {
                origins.push(origin);
            }
        }
        Ok(origins)
    }

    /// Sees to it that `blob` is in the store, from the first repository that has it. False if none
    /// is known, or none of them has it any more.
    pub(crate) fn fetch_blob(
        &self,
        blob: &StoredBlob,
        first: &[Reference],
        progress: &dyn Progress,
    ) -> Result<bool, RegistryError> {
        let store = self.store();
        if store.blobs().contains(blob.digest) {
            return Ok(true);
        }
        let origins = self.origins(blob.digest, first)?;
        let mut failure = None;
        for origin in &origins {
            let result = self
                .client()
                .download(origin, blob.digest, blob.size, store, progress);
            match result {
                Ok(()) => {
                    store.index().add_origins(&origin.name(), &[blob.digest])?;
                    return Ok(true);
                }
                Err(error @ RegistryError::Store(_)) => return Err(error),
                // The first is where the image came from: what is wrong there says most.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(false),
        }
    }

    /// Fetches what is needed to write out the layers of `image` as blobs: those that are neither
    /// unpacked nor here as a blob, and those that were unpacked from one that is gone, which is the
    /// only thing with their digest.
    pub fn fetch_missing(
        &self,
        image: &BuiltImage,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        in_parallel(DOWNLOADS, image.layers(), |layer| {
            let Some(blob) = &layer.blob else {
                return Ok(());
            };
            match self.fetch_blob(blob, &[], progress) {
                // What is unpacked may do.
                Err(RegistryError::Store(error)) => Err(error.into()),
                Err(error) if layer.layer.is_some() => {
                    tracing::warn!("layer {}: {error}", blob.digest);
                    Ok(())
                }
                other => other.map(|_| ()),
            }
        })?;
        Ok(())
    }
}
