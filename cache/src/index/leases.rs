//! What leases hold, and what those saw that only look.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, int, uint};
use crate::failpoint::failpoint;
use crate::store::now_ms;
use crate::{CacheKey, CacheRecord, Digest, LayerId, StoreError};

/// Times of use are kept to this many milliseconds, so that what is busy is not rewritten by every
/// build.
const GRAIN_MS: u64 = 60_000;

/// What this process's live leases hold, so that a blob is claimed once and not at every look.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Those whose claims are rows.
    leases: Vec<String>,
    /// What all of those hold.
    blobs: HashSet<Digest>,
    /// Those that only look, and what they saw.
    looking: Vec<(String, Seen)>,
}

/// What a lease that only looks has found. Nothing of it is held.
#[derive(Debug, Default)]
struct Seen {
    /// Records, their layers, and whether their time of use is to be moved.
    records: HashMap<CacheKey, (LayerId, bool)>,
    /// Layers that were asked for by themselves.
    layers: HashMap<LayerId, bool>,
    blobs: HashMap<Digest, bool>,
}

impl Held {
    fn seen(&mut self, lease: &str) -> Option<&mut Seen> {
        let mut looking = self.looking.iter_mut();
        looking.find(|(id, _)| id == lease).map(|(_, seen)| seen)
    }

    /// From now on what is found is claimed for `lease`. Gives what it saw before.
    fn looks_no_more(&mut self, lease: &str) -> Option<Seen> {
        let at = self.looking.iter().position(|(id, _)| id == lease);
        let seen = at.map(|at| self.looking.swap_remove(at).1);
        self.leases.push(lease.to_owned());
        // Held by the earlier leases only.
        self.blobs.clear();
        seen
    }
}

impl Index {
    /// What this process finds from now on is noted for `lease`, and written nowhere until it is to
    /// [hold](Self::hold) it.
    pub(crate) fn look(&self, lease: &str) {
        self.held()
            .looking
            .push((lease.to_owned(), Seen::default()));
    }

    /// All that was noted for `lease` is held from now on, and whatever is found later. Fails if some of
    /// it is gone: then nothing is held that was not before.
    pub(crate) fn hold(&self, lease: &str) -> Result<(), StoreError> {
        {
            let mut held = self.held();
            let Some(seen) = held.seen(lease) else {
                return Ok(());
            };
            let nothing =
                seen.records.is_empty() && seen.layers.is_empty() && seen.blobs.is_empty();
            if nothing || self.is_read_only() {
                held.looks_no_more(lease);
                return Ok(());
            }
        }
        failpoint!("lease.hold");
        let mut claimed = None;
        let result = self.try_write(|transaction| {
            // Whoever notes something meanwhile waits, and then finds that it has to be claimed.
            let mut held = self.held();
            let Some(seen) = held.seen(lease) else {
                return Ok(());
            };
            let all = self.claim_seen(transaction, lease, seen);
            if !all.map_err(|source| self.error(source))? {
                return Err(StoreError::Pruned);
            }
            claimed = held.looks_no_more(lease);
            Ok(())
        });
        if result.is_err()
            && let Some(seen) = claimed
        {
            // The commit failed, most likely for want of room: it goes on looking.
            let mut held = self.held();
            held.leases.retain(|other| other != lease);
            held.looking.push((lease.to_owned(), seen));
        }
        result
    }

    /// Inside a transaction: claims what was seen. False if some of it is not there any more.
    fn claim_seen(&self, index: &Connection, lease: &str, seen: &Seen) -> rusqlite::Result<bool> {
        for (key, (layer, _)) in &seen.records {
            let found = self.find(index, *key)?;
            if found.is_none_or(|record| record.layer != *layer) {
                return Ok(false);
            }
            Self::used(index, lease, *key, *layer)?;
        }
        for layer in seen.layers.keys() {
            if self.find_layer(index, *layer)?.is_none() {
                return Ok(false);
            }
            Self::claim_layer(index, lease, *layer)?;
        }
        for digest in seen.blobs.keys() {
            if self.find_blob(index, *digest)?.is_none() {
                return Ok(false);
            }
            Self::touch_blob(index, *digest)?;
            insert_blob(index, lease, *digest)?;
        }
        Ok(true)
    }

    /// Notes records that a lease found. False if it does not only look (any more): then they are to be
    /// claimed.
    pub(super) fn note_records(&self, lease: &str, records: &[Option<CacheRecord>]) -> bool {
        let mut held = self.held();
        let Some(seen) = held.seen(lease) else {
            return false;
        };
        let now = now_ms();
        for record in records.iter().flatten() {
            // That it was found again at all is worth a write.
            let old = record.uses == 0 || is_old(record.last_used_ms, now);
            seen.records.insert(record.key, (record.layer, old));
        }
        true
    }

    /// Notes a layer that a lease found, as [`note_records`](Self::note_records) does.
    pub(super) fn note_layer(&self, lease: &str, layer: Option<(LayerId, u64)>) -> bool {
        let mut held = self.held();
        let Some(seen) = held.seen(lease) else {
            return false;
        };
        if let Some((layer, last_used)) = layer {
            seen.layers.insert(layer, is_old(last_used, now_ms()));
        }
        true
    }

    /// True if `lease` only looks.
    pub(super) fn only_looks(&self, lease: &str) -> bool {
        self.held().seen(lease).is_some()
    }

    /// Notes a blob for all leases of this process that only look. False if others need to hold it.
    pub(super) fn note_blob(&self, digest: Digest, last_used: u64) -> bool {
        let mut held = self.held();
        let old = is_old(last_used, now_ms());
        for (_, seen) in &mut held.looking {
            seen.blobs.insert(digest, old);
        }
        held.leases.is_empty() || held.blobs.contains(&digest)
    }

    /// Lets go of everything that a lease held, and notes what was built under it. Of a lease that only
    /// looked there is nothing to let go; what it used is marked as used now, where that was not said
    /// lately, and most often nothing is written.
    pub(crate) fn release(
        &self,
        lease: &str,
        built: Option<(String, LayerId)>,
    ) -> Result<(), StoreError> {
        let seen = {
            let mut held = self.held();
            held.leases.retain(|other| other != lease);
            let at = held.looking.iter().position(|(id, _)| id == lease);
            at.map(|at| held.looking.swap_remove(at).1)
        };
        if self.is_read_only() {
            return Ok(());
        }
        let built = match built {
            Some((name, layer)) if seen.is_some() && self.is_noted(&name, layer)? => None,
            built => built,
        };
        if let Some(seen) = &seen
            && built.is_none()
            && !seen.records.values().any(|(_, old)| *old)
            && !seen
                .layers
                .values()
                .chain(seen.blobs.values())
                .any(|old| *old)
        {
            return Ok(());
        }
        self.write(|transaction| {
            match &seen {
                None => {
                    for table in ["lease_layers", "lease_blobs"] {
                        transaction
                            .prepare_cached(&format!("DELETE FROM {table} WHERE lease = ?1"))?
                            .execute([lease])?;
                    }
                }
                Some(seen) => mark(transaction, seen)?,
            }
            if let Some((name, layer)) = built {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO builds (name, at, layer) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![name, int(now_ms()), layer])?;
            }
            Ok(())
        })?;
        self.shorten_log();
        Ok(())
    }

    /// True if it was noted lately that the build of `name` gave `layer`.
    fn is_noted(&self, name: &str, layer: LayerId) -> Result<bool, StoreError> {
        let found: Option<(LayerId, i64)> = self.read(|index| {
            index
                .prepare_cached("SELECT layer, at FROM builds WHERE name = ?1")?
                .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        let now = now_ms();
        Ok(found.is_some_and(|(known, at)| known == layer && !is_old(uint(at), now)))
    }

    /// Leases that the index has claims of.
    pub(crate) fn leases(&self) -> Result<Vec<String>, StoreError> {
        self.read(|index| {
            index
                .prepare("SELECT lease FROM lease_layers UNION SELECT lease FROM lease_blobs")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// Inside a transaction: `lease` needs `layer`.
    pub(super) fn claim_layer(
        index: &Connection,
        lease: &str,
        layer: LayerId,
    ) -> rusqlite::Result<()> {
        index
            .prepare_cached("INSERT OR IGNORE INTO lease_layers (lease, layer) VALUES (?1, ?2)")?
            .execute(params![lease, layer])?;
        touch_layer(index, layer)
    }

    /// Inside a transaction: all leases of this process need the blob.
    pub(super) fn hold_blob(&self, index: &Connection, digest: Digest) -> rusqlite::Result<()> {
        let mut held = self.held();
        for lease in &held.leases {
            insert_blob(index, lease, digest)?;
        }
        for (_, seen) in &mut held.looking {
            seen.blobs.insert(digest, false);
        }
        if !held.leases.is_empty() {
            held.blobs.insert(digest);
        }
        Ok(())
    }

    /// Forgets that a blob is held, after a transaction that said so was rolled back.
    pub(super) fn forget_blob(&self, digest: Digest) {
        self.held().blobs.remove(&digest);
    }
}

fn is_old(last_used: u64, now: u64) -> bool {
    !(now.saturating_sub(GRAIN_MS)..=now).contains(&last_used)
}

fn insert_blob(index: &Connection, lease: &str, digest: Digest) -> rusqlite::Result<()> {
    index
        .prepare_cached("INSERT OR IGNORE INTO lease_blobs (lease, digest) VALUES (?1, ?2)")?
        .execute(params![lease, digest])?;
    Ok(())
}

fn touch_layer(index: &Connection, layer: LayerId) -> rusqlite::Result<()> {
    let now = now_ms();
    index
        .prepare_cached(
            "UPDATE layers SET last_used = ?2 WHERE id = ?1 AND last_used NOT BETWEEN ?3 AND ?2",
        )?
        .execute(params![layer, int(now), int(now.saturating_sub(GRAIN_MS))])?;
    Ok(())
}

/// Inside a transaction: moves the times of use that are old. What is gone meanwhile is not missed.
fn mark(index: &Connection, seen: &Seen) -> rusqlite::Result<()> {
    for (key, (layer, _)) in seen.records.iter().filter(|(_, (_, old))| *old) {
        Index::touch_record(index, *key)?;
        touch_layer(index, *layer)?;
    }
    for (layer, _) in seen.layers.iter().filter(|(_, old)| **old) {
        touch_layer(index, *layer)?;
    }
    for (digest, _) in seen.blobs.iter().filter(|(_, old)| **old) {
        Index::touch_blob(index, *digest)?;
    }
    Ok(())
}
