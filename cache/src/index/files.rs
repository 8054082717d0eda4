//! Content digests of single files of layers: a copy from a stage is known by what it reads, and no file
//! is read for that twice. They are made for the files that were asked for, and go with their layer.

use std::collections::HashMap;

use rusqlite::params;

use super::Index;
use crate::{Digest, LayerId, StoreError};

impl Index {
    /// The digests that are known of files of `layer`, by path from its root.
    pub fn file_digests(&self, layer: LayerId) -> Result<HashMap<Vec<u8>, Digest>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached("SELECT path, digest FROM layer_files WHERE layer = ?1")?
                .query_map([layer], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Remembers digests of files. Of a layer that is gone meanwhile nothing is kept.
    pub fn add_file_digests(&self, files: &[(LayerId, Vec<u8>, Digest)]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO layer_files (layer, path, digest) \
                 SELECT id, ?2, ?3 FROM layers WHERE id = ?1",
            )?;
            for (layer, path, digest) in files {
                insert.execute(params![layer, path, digest])?;
            }
            Ok(())
        })
    }
}
