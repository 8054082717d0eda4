//! Rows of layers, and the transaction that publishes one.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{Index, LayerBlob, LayerRow, int, is_there, uint};
use crate::failpoint::failpoint;
use crate::store::now_ms;
use crate::{ChainId, DiffId, Digest, HardLinks, LayerId, Lease, NewRecord, StoreError};

/// A layer about to be published.
#[derive(Debug)]
pub(crate) struct NewLayer {
    pub(crate) id: LayerId,
    pub(crate) diff_id: Option<DiffId>,
    pub(crate) chain_id: Option<ChainId>,
    pub(crate) size: u64,
    pub(crate) entries: u64,
    pub(crate) links: HardLinks,
}

/// What became of a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// It is in the store under this name.
    New(LayerId),
    /// Another process had published the same chain; nothing was moved.
    Existing(LayerId),
    /// The name is taken; draw another.
    NameTaken,
}

const COLUMNS: &str = "id, diff_id, chain_id, size, entries, created";

impl Index {
    /// Moves the directory at `from` to `to` and inserts the rows.
    pub(crate) fn publish_layer(
        &self,
        lease: &Lease,
        layer: &NewLayer,
        record: Option<&NewRecord>,
        from: &Path,
        to: &Path,
    ) -> Result<Published, StoreError> {
        let parts = match record {
            Some(record) => serde_json::to_string(&record.parts)
                .map_err(|error| StoreError::io("encode", to, std::io::Error::from(error)))?,
            None => String::new(),
        };
        let links = encode_links(&layer.links);
        let now = int(now_ms());
        let mut moved = false;
        let result = self.try_write(|transaction| {
            let sql = |source| self.error(source);
            if let Some(chain) = layer.chain_id {
                if let Some((existing, _)) = self.trusted_chain(transaction, chain).map_err(sql)? {
                    Self::claim_layer(transaction, lease.id(), existing).map_err(sql)?;
                    return Ok(Published::Existing(existing));
                }
                // A row that a power cut made doubtful gives up the chain's name.
                transaction
                    .execute(
                        "UPDATE layers SET chain_id = NULL WHERE chain_id = ?1",
                        [chain.0],
                    )
                    .map_err(sql)?;
            }
            // ORDER: the directory has its name before a row says so. A crash in between leaves a
            // directory without a row, which is collected; a row without a directory can't happen.
            match rustix::fs::renameat_with(
                rustix::fs::CWD,
                from,
                rustix::fs::CWD,
                to,
                rustix::fs::RenameFlags::NOREPLACE,
            ) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => return Ok(Published::NameTaken),
                Err(source) => return Err(StoreError::io("rename", from, source)),
            }
            moved = true;
            self.rely_on(true);
            failpoint!("layer.renamed");
            transaction
                .prepare_cached(
                    "INSERT INTO layers (id, diff_id, chain_id, size, entries, created, last_used, \
                     boot, links) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        layer.id,
                        layer.diff_id.map(|diff_id| diff_id.0),
                        layer.chain_id.map(|chain| chain.0),
                        int(layer.size),
                        int(layer.entries),
                        now,
                        self.boot(),
                        links,
                    ])
                })
                .map_err(sql)?;
            if let Some(record) = record {
                self.put_record(transaction, record, layer.id, &parts, now)
                    .map_err(sql)?;
            }
            Self::claim_layer(transaction, lease.id(), layer.id).map_err(sql)?;
            failpoint!("layer.inserted");
            Ok(Published::New(layer.id))
        });
        if result.is_err() && moved {
            // Back to the scratch directory, which takes it along when it goes.
            drop(std::fs::rename(to, from));
        }
        failpoint!("layer.published");
        result
    }

    /// The row of a layer.
    pub fn layer(&self, id: LayerId) -> Result<Option<LayerRow>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM layers WHERE id = ?1 AND (boot IS NULL OR boot = ?2)"
                ))?
                .query_row(params![id, self.boot()], from_row)
                .optional()
        })
    }

    /// Digest of what the layer holds, times aside, if it was made before.
    pub fn content_digest(&self, id: LayerId) -> Result<Option<Digest>, StoreError> {
        self.read(|index| {
            let digest: Option<Option<Digest>> = index
                .prepare_cached("SELECT content_digest FROM layers WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()?;
            Ok(digest.flatten())
        })
    }

    /// Remembers the digest of what a layer holds.
    pub fn set_content_digest(&self, id: LayerId, digest: Digest) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE layers SET content_digest = ?2 WHERE id = ?1")?
                .execute(params![id, digest])?;
            Ok(())
        })
    }

    /// All layers, newest first.
    pub fn layers(&self) -> Result<Vec<LayerRow>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM layers WHERE boot IS NULL OR boot = ?1 ORDER BY seq DESC"
                ))?
                .query_map([self.boot()], from_row)?
                .collect()
        })
    }

    /// The hard links of a layer; none if there is no such layer.
    pub(crate) fn links(&self, id: LayerId) -> Result<Option<HardLinks>, StoreError> {
        let blob: Option<Option<Vec<u8>>> = self.read(|index| {
            index
                .prepare_cached("SELECT links FROM layers WHERE id = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()
        })?;
        Ok(blob.map(|blob| decode_links(blob.as_deref().unwrap_or_default())))
    }

    /// The unpacked layer with this chain ID, claimed for `lease`.
    pub fn claim_chain(
        &self,
        lease: &Lease,
        chain: ChainId,
    ) -> Result<Option<LayerId>, StoreError> {
        self.claim_found(lease, |index| self.trusted_chain(index, chain))
    }

    /// Claims a layer that is known by its name. False if it is not there (any more).
    pub fn claim_layer_id(&self, lease: &Lease, id: LayerId) -> Result<bool, StoreError> {
        let found = self.claim_found(lease, |index| self.find_layer(index, id))?;
        Ok(found.is_some())
    }

    /// Claims the layer that `look_up` finds, with its time of use, or notes it if the lease only looks.
    fn claim_found(
        &self,
        lease: &Lease,
        look_up: impl Fn(&Connection) -> rusqlite::Result<Option<(LayerId, u64)>>,
    ) -> Result<Option<LayerId>, StoreError> {
        if self.is_read_only() || self.only_looks(lease.id()) {
            let found = self.read(&look_up)?;
            if self.is_read_only() || self.note_layer(lease.id(), found) {
                return Ok(found.map(|(layer, _)| layer));
            }
        }
        let claimed = self.write(|transaction| {
            let found = look_up(transaction)?;
            if let Some((layer, _)) = found {
                Self::claim_layer(transaction, lease.id(), layer)?;
            }
            Ok(found)
        });
        let found = claimed.or_else(|error| {
            if error.is_read_only() {
                self.read(&look_up)
            } else {
                Err(error)
            }
        })?;
        Ok(found.map(|(layer, _)| layer))
    }

    fn trusted_chain(
        &self,
        index: &Connection,
        chain: ChainId,
    ) -> rusqlite::Result<Option<(LayerId, u64)>> {
        self.trusted_layer(index, "chain_id = ?1", &chain.0)
    }

    /// A layer that is there, and its time of use.
    pub(super) fn find_layer(
        &self,
        index: &Connection,
        id: LayerId,
    ) -> rusqlite::Result<Option<(LayerId, u64)>> {
        self.trusted_layer(index, "id = ?1", &id)
    }

    fn trusted_layer(
        &self,
        index: &Connection,
        condition: &str,
        value: &dyn ToSql,
    ) -> rusqlite::Result<Option<(LayerId, u64)>> {
        let found: Option<(LayerId, i64, bool)> = index
            .prepare_cached(&format!(
                "SELECT id, last_used, boot IS NOT NULL FROM layers \
                 WHERE {condition} AND (boot IS NULL OR boot = ?2)"
            ))?
            .query_row(params![value, self.boot()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        Ok(found.and_then(|(layer, last_used, unsynced)| {
            self.rely_on(unsynced);
            self.has_directory(layer)
                .then_some((layer, uint(last_used)))
        }))
    }

    /// True if the layer's directory is where it should be.
    pub(super) fn has_directory(&self, layer: LayerId) -> bool {
        let path = self.root.join("layers").join(layer.to_string());
        is_there(&path)
    }

    /// Remembers the diff ID of a layer, where anything can be remembered.
    pub fn set_diff_id(&self, id: LayerId, diff_id: DiffId) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE layers SET diff_id = ?2 WHERE id = ?1")?
                .execute(params![id, diff_id.0])?;
            Ok(())
        })
    }

    /// Remembers the diff IDs of many layers, where anything can be remembered.
    pub fn set_diff_ids(&self, found: &[(LayerId, DiffId)]) -> Result<(), StoreError> {
        if self.is_read_only() || found.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut statement =
                transaction.prepare_cached("UPDATE layers SET diff_id = ?2 WHERE id = ?1")?;
            for (id, diff_id) in found {
                statement.execute(params![id, diff_id.0])?;
            }
            Ok(())
        })
    }

    /// The blob that holds `id` in `encoding`, if it was made before and is still there.
    pub fn layer_blob(&self, id: LayerId, encoding: &str) -> Result<Option<LayerBlob>, StoreError> {
        let blobs = self.layer_blobs(id)?;
        Ok(blobs.into_iter().find(|blob| blob.encoding == encoding))
    }

    /// Every blob that holds `id`, the one that it was pulled as first. They are claimed for this
    /// process's leases.
    pub fn layer_blobs(&self, id: LayerId) -> Result<Vec<LayerBlob>, StoreError> {
        let found: Vec<LayerBlob> = self.read(|index| {
            index
                .prepare_cached(
                    "SELECT digest, size, encoding FROM layer_blobs WHERE layer = ?1 \
                     ORDER BY rowid",
                )?
                .query_map([id], |row| {
                    Ok(LayerBlob {
                        digest: row.get(0)?,
                        size: uint(row.get(1)?),
                        encoding: row.get(2)?,
                    })
                })?
                .collect()
        })?;
        let mut present = Vec::with_capacity(found.len());
        for blob in found {
            if self.claim_blob(blob.digest)?.is_some() {
                present.push(blob);
            }
        }
        Ok(present)
    }

    /// Remembers that `blob` holds `id`.
    pub fn add_layer_blob(&self, id: LayerId, blob: &LayerBlob) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO layer_blobs (layer, encoding, digest, size) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (layer, encoding) DO UPDATE SET digest = ?3, size = ?4",
                )?
                .execute(params![id, blob.encoding, blob.digest, int(blob.size)])?;
            Ok(())
        })
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<LayerRow> {
    Ok(LayerRow {
        id: row.get(0)?,
        diff_id: row.get::<_, Option<Digest>>(1)?.map(DiffId),
        chain_id: row.get::<_, Option<Digest>>(2)?.map(ChainId),
        size: uint(row.get(3)?),
        entries: uint(row.get(4)?),
        created_ms: uint(row.get(5)?),
    })
}

/// Groups end with an empty name; names end with a NUL, which no path holds.
fn encode_links(links: &HardLinks) -> Option<Vec<u8>> {
    if links.0.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    for group in &links.0 {
        for name in group {
            bytes.extend_from_slice(name);
            bytes.push(0);
        }
        bytes.push(0);
    }
    Some(bytes)
}

fn decode_links(bytes: &[u8]) -> HardLinks {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    for name in bytes.split_inclusive(|byte| *byte == 0) {
        match name {
            [0] => groups.push(std::mem::take(&mut group)),
            [name @ .., 0] => group.push(name.to_vec()),
            _ => {}
        }
    }
    HardLinks(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_round_trip_with_any_bytes() {
        let links = HardLinks(vec![
            vec![b"a".to_vec(), b"dir/\xff\n\"".to_vec()],
            vec![b"b".to_vec(), b"c".to_vec(), b"d".to_vec()],
        ]);
        assert_eq!(decode_links(&encode_links(&links).unwrap()), links);
        assert_eq!(encode_links(&HardLinks::default()), None);
        assert_eq!(decode_links(b""), HardLinks::default());
    }
}
