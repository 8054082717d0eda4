//! What a layer holds, times aside: the identity by which a step that was run again is recognised as
//! having made nothing new.

use crate::diff::{self, WriteOptions};
use crate::{Digest, Hasher, LayerId, Store, StoreError};

/// Version of the digest below.
const VERSION: &[u8] = b"strata content 1\n";

impl Store {
    /// Digest of the layer's changeset with all times at zero: names, types, modes, owners, contents,
    /// link targets, attributes, hard links and deletions. Made once for each layer, by reading it.
    pub fn content_digest(&self, layer: LayerId) -> Result<Digest, StoreError> {
        if let Some(digest) = self.index().content_digest(layer)? {
            return Ok(digest);
        }
        let mut hasher = Hasher::default();
        hasher.update(VERSION);
        let links = self.hard_links(layer)?;
        let options = WriteOptions { epoch: Some(0) };
        diff::write_layer(&self.layer_path(layer), &links, options, &mut hasher)?;
        let digest = hasher.finish();
        self.index().set_content_digest(layer, digest)?;
        Ok(digest)
    }
}
