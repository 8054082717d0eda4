//! Pushing an image: blobs, config, manifest.

use strata_cache::codec::Codec;
use strata_cache::diff::WriteOptions;
use strata_cache::{Digest, Lease};

use super::RegistryError;
use crate::{BuiltImage, ExportError, Images, Progress, Reference};

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
    /// For layers that have no blob yet.
    pub codec: Codec,
    /// Clamps the times of layers that are made into blobs here.
    pub write: WriteOptions,
    /// Compress layers anew with `codec`, even those that came with a blob.
    pub force_codec: bool,
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
        let _ = (lease, image, target, options, progress);
        todo!()
    }
}
