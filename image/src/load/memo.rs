//! What an archive held when it was last read, so that a build from an unchanged archive does not
//! read it again.
//!
//! Whether it is unchanged is the stat cache's judgement; what it held is the digest of a config,
//! whose image is in the store without a name.

use std::path::Path;

use strata_cache::image::{StoredImage, StoredLayer};
use strata_cache::statcache::StatCache;
use strata_cache::view::{FileKind, Metadata};
use strata_cache::{Digest, Store, StoreError};

use super::Selector;
use crate::Platform;

/// The memory of one archive, one image in it and one platform.
pub(crate) struct Memo {
    cache: StatCache,
    metadata: Metadata,
    key: Vec<u8>,
}

impl Memo {
    /// None if `path` is no regular file: a layout's index is read each time, which costs nothing.
    pub(crate) fn open(
        store: &Store,
        path: &Path,
        selector: &Selector,
        platform: &Platform,
    ) -> Option<Self> {
        let metadata = Metadata::of(&rustix::fs::stat(path).ok()?);
        (metadata.kind == FileKind::File).then(|| Self {
            cache: StatCache::load(store, path),
            metadata,
            key: format!("image 1 {platform} {selector:?}").into_bytes(),
        })
    }

    /// The image, if the archive is unchanged and everything of it is still in the store.
    pub(crate) fn image(&self, store: &Store) -> Result<Option<StoredImage>, StoreError> {
        let Some(config) = self.cache.get(&self.key, &self.metadata) else {
            return Ok(None);
        };
        let mut found = store.index().images_by_id(&config.to_string())?;
        let image = found.pop();
        let is_here = |layer: &StoredLayer| {
            let blob = layer.blob.as_ref();
            blob.is_some_and(|blob| store.blobs().contains(blob.digest))
        };
        Ok(image.filter(|image| image.layers.iter().all(is_here)))
    }

    /// Remembers that the archive, as it was when this was opened, holds `config`.
    pub(crate) fn remember(self, store: &Store, config: Digest) -> Result<(), StoreError> {
        self.cache.insert(&self.key, &self.metadata, config);
        self.cache.save(store)
    }
}
