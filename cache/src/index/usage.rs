//! Everything the index knows at one moment: what pruning decides on and listings show.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::{Index, records, uint};
use crate::{CacheRecord, ChainId, DiffId, Digest, LayerId, Lease, StoreError};

/// One state of the index. Rows that a power cut made doubtful are not in it.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) layers: Vec<Layer>,
    /// Newest first.
    pub(crate) records: Vec<CacheRecord>,
    pub(crate) images: Vec<Image>,
    /// Blobs that named lists of images are made of.
    pub(crate) list_blobs: HashSet<Digest>,
    pub(crate) blobs: Vec<Blob>,
    /// (layer, blob) of layers kept as blobs, and whether the blob holds just a diff ID.
    pub(crate) layer_blobs: Vec<(LayerId, Digest, bool)>,
    pub(crate) leased_layers: HashSet<LayerId>,
    pub(crate) leased_blobs: HashSet<Digest>,
    pub(crate) mounts: Vec<Mount>,
    /// Latest first.
    pub(crate) builds: Vec<Build>,
    /// IDs that people want kept.
    pub(crate) pins: HashSet<String>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) id: LayerId,
    pub(crate) chain: Option<ChainId>,
    pub(crate) size: u64,
    pub(crate) entries: u64,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) config: Digest,
    pub(crate) manifest: Option<Digest>,
    pub(crate) created_ms: u64,
    pub(crate) names: Vec<String>,
    pub(crate) diff_ids: Vec<DiffId>,
    pub(crate) layers: Vec<LayerId>,
    pub(crate) blobs: Vec<Digest>,
}

#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
}

/// The latest build of a name.
#[derive(Debug)]
pub(crate) struct Build {
    pub(crate) name: String,
    pub(crate) at_ms: u64,
    /// The topmost layer that came out.
    pub(crate) layer: LayerId,
}

#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) directory: String,
    pub(crate) id: String,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
}

/// What a prune wants to take away.
#[derive(Debug, Default)]
pub(crate) struct Victims {
    pub(crate) images: Vec<Digest>,
    /// Leaves first.
    pub(crate) records: Vec<CacheRecord>,
    pub(crate) layers: Vec<LayerId>,
    pub(crate) blobs: Vec<Digest>,
    /// What asks for it, for the log.
    pub(crate) why: String,
}

/// How many rows one transaction takes away: others wait for it.
const BATCH: usize = 500;

impl Index {
    /// Reads everything, in one read transaction.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.read(|index| {
            let transaction = index.unchecked_transaction()?;
            let snapshot = self.collect(&transaction)?;
            transaction.finish()?;
            Ok(snapshot)
        })
    }

    fn collect(&self, index: &Connection) -> rusqlite::Result<Snapshot> {
        let boot = [self.boot()];
        let mut snapshot = Snapshot {
            layers: index
                .prepare(
                    "SELECT id, chain_id, size, created, last_used, entries FROM layers \
                     WHERE boot IS NULL OR boot = ?1 ORDER BY seq",
                )?
                .query_map(boot, |row| {
                    Ok(Layer {
                        id: row.get(0)?,
                        chain: row.get::<_, Option<Digest>>(1)?.map(ChainId),
                        size: uint(row.get(2)?),
                        created_ms: uint(row.get(3)?),
                        last_used_ms: uint(row.get(4)?),
                        entries: uint(row.get(5)?),
                    })
                })?
                .collect::<rusqlite::Result<_>>()?,
            records: index
                .prepare(&format!(
                    "SELECT {} FROM records r WHERE r.boot IS NULL OR r.boot = ?1 \
                     ORDER BY r.seq DESC",
                    records::COLUMNS,
                ))?
                .query_map(boot, records::from_row)?
                .collect::<rusqlite::Result<_>>()?,
            blobs: index
                .prepare(
                    "SELECT digest, size, created, last_used FROM blobs \
                     WHERE boot IS NULL OR boot = ?1 ORDER BY seq",
                )?
                .query_map(boot, |row| {
                    Ok(Blob {
                        digest: row.get(0)?,
                        size: uint(row.get(1)?),
                        created_ms: uint(row.get(2)?),
                        last_used_ms: uint(row.get(3)?),
                    })
                })?
                .collect::<rusqlite::Result<_>>()?,
            layer_blobs: index
                .prepare(
                    "SELECT layer, digest, substr(encoding, 1, length(?1)) = ?1 FROM layer_blobs",
                )?
                .query_map([super::DIFF_ID], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })?
                .collect::<rusqlite::Result<_>>()?,
            leased_layers: index
                .prepare("SELECT DISTINCT layer FROM lease_layers")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?,
            leased_blobs: index
                .prepare("SELECT DISTINCT digest FROM lease_blobs")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?,
            builds: index
                .prepare("SELECT name, at, layer FROM builds ORDER BY at DESC")?
                .query_map([], |row| {
                    Ok(Build {
                        name: row.get(0)?,
                        at_ms: uint(row.get(1)?),
                        layer: row.get(2)?,
                    })
                })?
                .collect::<rusqlite::Result<_>>()?,
            mounts: index
                .prepare("SELECT directory, id, created, last_used FROM mounts ORDER BY id")?
                .query_map([], |row| {
                    Ok(Mount {
                        directory: row.get(0)?,
                        id: row.get(1)?,
                        created_ms: uint(row.get(2)?),
                        last_used_ms: uint(row.get(3)?),
                    })
                })?
                .collect::<rusqlite::Result<_>>()?,
            images: Vec::new(),
            list_blobs: index
                .prepare("SELECT blob FROM list_blobs JOIN names ON config = list")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?,
            pins: super::pins::pins(index)?,
        };
        // Looked up here, which is quicker than in a query for each record.
        let trusted: HashSet<LayerId> = snapshot.layers.iter().map(|layer| layer.id).collect();
        snapshot
            .records
            .retain(|record| trusted.contains(&record.layer));
        let mut images: Vec<Image> = index
            .prepare(
                "SELECT config, manifest, created FROM images WHERE boot IS NULL OR boot = ?1 \
                 ORDER BY seq DESC",
            )?
            .query_map(boot, |row| {
                Ok(Image {
                    config: row.get(0)?,
                    manifest: row.get(1)?,
                    created_ms: uint(row.get(2)?),
                    names: Vec::new(),
                    diff_ids: Vec::new(),
                    layers: Vec::new(),
                    blobs: Vec::new(),
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        for image in &mut images {
            image.names = index
                .prepare_cached(
                    "SELECT name FROM names WHERE config = ?1 \
                     UNION SELECT n.name FROM list_members m JOIN names n ON n.config = m.list \
                     WHERE m.config = ?1 ORDER BY 1",
                )?
                .query_map([image.config], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            let mut statement = index.prepare_cached(
                "SELECT diff_id, layer, blob FROM image_layers WHERE config = ?1 ORDER BY position",
            )?;
            let mut rows = statement.query([image.config])?;
            while let Some(row) = rows.next()? {
                image.diff_ids.push(DiffId(row.get(0)?));
                image.layers.extend(row.get::<_, Option<LayerId>>(1)?);
                image.blobs.extend(row.get::<_, Option<Digest>>(2)?);
            }
        }
        snapshot.images = images;
        Ok(snapshot)
    }

    /// Takes the rows of `victims` away, except for what was claimed or built upon since the
    /// decision. Gives what really went. What is needed by nothing else (names of layers' blobs)
    /// goes along.
    ///
    /// The files are still there afterwards, without rows: leftovers, if the process dies here.
    pub(crate) fn take_away(&self, victims: &Victims) -> Result<Victims, StoreError> {
        let mut gone = Victims::default();
        for batch in victims.images.chunks(BATCH) {
            self.batch(batch, &mut gone.images, |index, config| {
                super::lists::drop_unnamed(index, *config)?;
                let removed = index
                    .prepare_cached(
                        "DELETE FROM images WHERE config = ?1 \
                         AND NOT EXISTS (SELECT 1 FROM names WHERE config = ?1) \
                         AND NOT EXISTS (SELECT 1 FROM list_members WHERE config = ?1) \
                         AND NOT EXISTS (SELECT 1 FROM lease_blobs WHERE digest = ?1)",
                    )?
                    .execute([config])?;
                if removed > 0 {
                    index
                        .prepare_cached("DELETE FROM image_layers WHERE config = ?1")?
                        .execute([config])?;
                }
                Ok(removed > 0)
            })?;
        }
        if !gone.images.is_empty() {
            self.write(|transaction| super::origins::forget(transaction))?;
        }
        for batch in victims.records.chunks(BATCH) {
            self.batch(batch, &mut gone.records, |index, record| {
                let removed = index
                    .prepare_cached(
                        "DELETE FROM records WHERE key = ?1 AND layer = ?2 AND uses = ?3 \
                         AND NOT EXISTS (SELECT 1 FROM pins WHERE id = ?4) \
                         AND NOT EXISTS (SELECT 1 FROM lease_layers WHERE layer = ?2) \
                         AND NOT EXISTS (SELECT 1 FROM records child WHERE child.parent = ?2)",
                    )?
                    .execute(params![
                        record.key.0,
                        record.layer,
                        super::int(record.uses),
                        record.layer.to_string()
                    ])?;
                if removed > 0 {
                    super::pins::log(index, record.key, &victims.why)?;
                }
                Ok(removed > 0)
            })?;
        }
        for batch in victims.layers.chunks(BATCH) {
            self.batch(batch, &mut gone.layers, |index, layer| {
                remove_layer(index, *layer)
            })?;
        }
        for batch in victims.blobs.chunks(BATCH) {
            self.batch(batch, &mut gone.blobs, |index, digest| {
                let removed = index
                    .prepare_cached(
                        "DELETE FROM blobs WHERE digest = ?1 \
                         AND NOT EXISTS (SELECT 1 FROM lease_blobs WHERE digest = ?1) \
                         AND NOT EXISTS (SELECT 1 FROM images WHERE config = ?1 OR manifest = ?1) \
                         AND NOT EXISTS (SELECT 1 FROM list_blobs WHERE blob = ?1) \
                         AND NOT EXISTS (SELECT 1 FROM image_layers WHERE blob = ?1)",
                    )?
                    .execute([digest])?;
                if removed > 0 {
                    index
                        .prepare_cached("DELETE FROM layer_blobs WHERE digest = ?1")?
                        .execute([digest])?;
                }
                Ok(removed > 0)
            })?;
        }
        Ok(gone)
    }

    /// Takes away the rows of `layers` that only `lease` has. Gives those that went.
    pub(crate) fn drop_orphans(
        &self,
        lease: &Lease,
        layers: &[LayerId],
    ) -> Result<Vec<LayerId>, StoreError> {
        let mut gone = Vec::new();
        self.batch(layers, &mut gone, |index, layer| {
            index
                .prepare_cached("DELETE FROM lease_layers WHERE lease = ?1 AND layer = ?2")?
                .execute(params![lease.id(), layer])?;
            remove_layer(index, *layer)
        })?;
        Ok(gone)
    }

    /// Runs `remove` for each of `batch` in one flushed transaction.
    fn batch<T: Clone>(
        &self,
        batch: &[T],
        gone: &mut Vec<T>,
        remove: impl Fn(&Connection, &T) -> rusqlite::Result<bool>,
    ) -> Result<(), StoreError> {
        // ORDER: the rows are gone on the disk before a file is touched. After a power cut no row
        // may name a file that went.
        let removed = self.write_durably(|transaction| {
            let mut removed = Vec::new();
            for item in batch {
                if remove(transaction, item).map_err(|source| self.error(source))? {
                    removed.push(item.clone());
                }
            }
            Ok(removed)
        })?;
        gone.extend(removed);
        Ok(())
    }

    /// The digest and size of each blob, in the order of their digests.
    pub(crate) fn blob_rows(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        self.read(|index| {
            index
                .prepare(
                    "SELECT digest, size FROM blobs WHERE boot IS NULL OR boot = ?1 ORDER BY 1",
                )?
                .query_map([self.boot()], |row| Ok((row.get(0)?, uint(row.get(1)?))))?
                .collect()
        })
    }

    /// Rows that should not be there because a file is missing or damaged.
    pub(crate) fn drop_broken(
        &self,
        layers: &[LayerId],
        blobs: &[Digest],
    ) -> Result<(), StoreError> {
        self.write_durably(|transaction| {
            let drop = || -> rusqlite::Result<()> {
                for layer in layers {
                    transaction.execute("DELETE FROM layers WHERE id = ?1", [layer])?;
                    transaction.execute(
                        "UPDATE image_layers SET layer = NULL WHERE layer = ?1",
                        [layer],
                    )?;
                }
                for digest in blobs {
                    transaction.execute("DELETE FROM blobs WHERE digest = ?1", [digest])?;
                    transaction.execute(
                        // One that a registry has stays known by its name.
                        "UPDATE image_layers SET blob = NULL, blob_size = NULL WHERE blob = ?1 \
                         AND NOT EXISTS (SELECT 1 FROM origins WHERE blob = ?1)",
                        [digest],
                    )?;
                }
                super::sweep::drop_dangling(transaction)
            };
            drop().map_err(|source| self.error(source))
        })
    }

    /// SQLite's own check of the file. Gives its complaints.
    pub(crate) fn integrity(&self) -> Result<Vec<String>, StoreError> {
        self.read(|index| {
            let lines: Vec<String> = index
                .prepare("PRAGMA integrity_check(20)")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        })
    }

    /// All layer rows with what a check needs, in the order of their names.
    pub(crate) fn layer_rows(&self) -> Result<Vec<super::LayerRow>, StoreError> {
        let mut rows = self.layers()?;
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }

    /// Configs of images that are not in the store.
    pub(crate) fn images_without_config(&self) -> Result<Vec<Digest>, StoreError> {
        self.read(|index| {
            index
                .prepare(
                    "SELECT config FROM images WHERE (boot IS NULL OR boot = ?1) \
                     AND config NOT IN (SELECT digest FROM blobs)",
                )?
                .query_map([self.boot()], |row| row.get(0))?
                .collect()
        })
    }

    /// Records whose layer has no row.
    pub(crate) fn records_without_layer(&self) -> Result<Vec<(LayerId, String)>, StoreError> {
        self.read(|index| {
            index
                .prepare(
                    "SELECT layer, text FROM records WHERE layer NOT IN (SELECT id FROM layers)",
                )?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }
}

/// Removes a layer's row unless something needs it. True if it went.
fn remove_layer(index: &Connection, layer: LayerId) -> rusqlite::Result<bool> {
    let removed = index
        .prepare_cached(
            "DELETE FROM layers WHERE id = ?1 \
             AND NOT EXISTS (SELECT 1 FROM pins WHERE id = ?2) \
             AND NOT EXISTS (SELECT 1 FROM lease_layers WHERE layer = ?1) \
             AND NOT EXISTS (SELECT 1 FROM records WHERE layer = ?1) \
             AND NOT EXISTS (SELECT 1 FROM records WHERE parent = ?1) \
             AND NOT EXISTS (SELECT 1 FROM image_layers WHERE layer = ?1)",
        )?
        .execute(params![layer, layer.to_string()])?;
    if removed > 0 {
        index
            .prepare_cached("DELETE FROM layer_blobs WHERE layer = ?1")?
            .execute([layer])?;
        index
            .prepare_cached("DELETE FROM layer_files WHERE layer = ?1")?
            .execute([layer])?;
    }
    Ok(removed > 0)
}
