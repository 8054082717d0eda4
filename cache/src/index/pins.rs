//! What people want kept, and what was pruned.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, int, uint};
use crate::store::now_ms;
use crate::{CacheKey, StoreError};

/// The log remembers this many keys.
const LONGEST_LOG: u64 = 20_000;

/// So many builds are remembered.
const MOST_BUILDS: u64 = 1_000;

impl Index {
    /// Keeps the thing with this ID, as listings show it, from being pruned. False if it was kept
    /// already.
    pub fn pin(&self, id: &str) -> Result<bool, StoreError> {
        let now = int(now_ms());
        self.write_durably(|transaction| {
            let count = transaction.execute(
                "INSERT OR IGNORE INTO pins (id, created) VALUES (?1, ?2)",
                params![id, now],
            );
            Ok(count.map_err(|source| self.error(source))? > 0)
        })
    }

    /// Lets go of what [`pin`](Self::pin) kept. False if nothing did.
    pub fn unpin(&self, id: &str) -> Result<bool, StoreError> {
        self.write_durably(|transaction| {
            let count = transaction.execute("DELETE FROM pins WHERE id = ?1", [id]);
            Ok(count.map_err(|source| self.error(source))? > 0)
        })
    }

    /// When a record with this key was pruned (milliseconds since the epoch), and by what.
    pub fn pruned(&self, key: CacheKey) -> Result<Option<(u64, String)>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached("SELECT at, why FROM pruned WHERE key = ?1")?
                .query_row([key.0], |row| Ok((uint(row.get(0)?), row.get(1)?)))
                .optional()
        })
    }

    /// Bytes of layers and blobs together, by their rows.
    pub(crate) fn total_bytes(&self) -> Result<u64, StoreError> {
        self.read(|index| {
            index.query_row(
                "SELECT (SELECT ifnull(sum(size), 0) FROM layers) \
                 + (SELECT ifnull(sum(size), 0) FROM blobs)",
                [],
                |row| Ok(uint(row.get(0)?)),
            )
        })
    }

    /// Forgets the oldest entries of the log when there are many.
    pub(crate) fn trim_log(&self) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute(
                "DELETE FROM pruned WHERE at < (SELECT at FROM pruned ORDER BY at DESC \
                 LIMIT 1 OFFSET ?1)",
                [int(LONGEST_LOG)],
            )?;
            transaction.execute(
                "DELETE FROM builds WHERE at < (SELECT at FROM builds ORDER BY at DESC \
                 LIMIT 1 OFFSET ?1)",
                [int(MOST_BUILDS)],
            )?;
            Ok(())
        })
    }
}

pub(super) fn pins(index: &Connection) -> rusqlite::Result<HashSet<String>> {
    index
        .prepare("SELECT id FROM pins")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Notes that the record with this key was pruned.
pub(super) fn log(index: &Connection, key: CacheKey, why: &str) -> rusqlite::Result<()> {
    index
        .prepare_cached("INSERT OR REPLACE INTO pruned (key, at, why) VALUES (?1, ?2, ?3)")?
        .execute(params![key.0, int(now_ms()), why])?;
    Ok(())
}
