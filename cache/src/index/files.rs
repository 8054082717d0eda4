//! Content digests of single files of layers: a copy from a stage is known by what it reads, and no file
//! is read for that twice. They are made for the files that were asked for, and go with their layer.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};

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

    /// Remembers what a layer holds. Of one that is gone meanwhile nothing is kept.
    pub(crate) fn set_layer_contents(
        &self,
        layer: LayerId,
        files: &[u8],
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO layer_contents (layer, files) \
                     SELECT id, ?2 FROM layers WHERE id = ?1",
                )?
                .execute(params![layer, files])?;
            Ok(())
        })
    }

    /// What is known of the files of a layer that can be relied on.
    pub(crate) fn layer_contents(&self, layer: LayerId) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(
                    "SELECT files FROM layer_contents JOIN layers ON id = layer \
                     WHERE layer = ?1 AND (boot IS NULL OR boot = ?2)",
                )?
                .query_row(params![layer, self.boot()], |row| row.get(0))
                .optional()
        })
    }
}
