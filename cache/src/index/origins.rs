//! Where blobs came from: repositories of registries that are known to have them.
//!
//! A row is a hint. A repository that does not have the blob any more says so when it is asked, so
//! nothing here has to outlive a power cut, and a blob without a file is no damage while it has one.

use rusqlite::{Connection, params};

use super::{Index, int};
use crate::store::now_ms;
use crate::{Digest, StoreError};

impl Index {
    /// Notes that `repository` (`HOST/PATH`) has `blobs`.
    pub fn add_origins(&self, repository: &str, blobs: &[Digest]) -> Result<(), StoreError> {
        let unknown = |index: &Connection| -> rusqlite::Result<Vec<Digest>> {
            let mut statement = index
                .prepare_cached("SELECT 1 FROM origins WHERE blob = ?1 AND repository = ?2")?;
            let mut unknown = Vec::new();
            for blob in blobs {
                if !statement.exists(params![blob, repository])? {
                    unknown.push(*blob);
                }
            }
            Ok(unknown)
        };
        let unknown = self.read(unknown)?;
        if unknown.is_empty() || self.is_read_only() {
            return Ok(());
        }
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT OR IGNORE INTO origins (blob, repository, seen) VALUES (?1, ?2, ?3)",
            )?;
            for blob in &unknown {
                insert.execute(params![blob, repository, int(now_ms())])?;
            }
            Ok(())
        })
    }

    /// Repositories that have `blob`, the latest seen first.
    pub fn origins(&self, blob: Digest) -> Result<Vec<String>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(
                    "SELECT repository FROM origins WHERE blob = ?1 ORDER BY seen DESC, repository",
                )?
                .query_map([blob], |row| row.get(0))?
                .collect()
        })
    }

    /// How many layers of named images are neither unpacked nor here as blobs: those that a registry
    /// is known to have, and the others.
    pub(crate) fn absent_layers(&self) -> Result<(u64, u64), StoreError> {
        let known: Vec<bool> = self.read(|index| {
            index
                .prepare(
                    "SELECT DISTINCT coalesce(i.blob, i.diff_id), \
                     EXISTS (SELECT 1 FROM origins o WHERE o.blob = i.blob) \
                     FROM image_layers i WHERE i.config IN \
                     (SELECT config FROM names UNION SELECT config FROM list_members) \
                     AND (i.layer IS NULL OR i.layer NOT IN (SELECT id FROM layers)) \
                     AND (i.blob IS NULL OR i.blob NOT IN (SELECT digest FROM blobs))",
                )?
                .query_map([], |row| row.get(1))?
                .collect()
        })?;
        let remote = known.iter().filter(|known| **known).count();
        Ok((remote as u64, (known.len() - remote) as u64))
    }
}

/// Forgets where blobs came from that neither an image nor a layer names any more.
pub(super) fn forget(index: &Connection) -> rusqlite::Result<()> {
    index.execute_batch(
        "DELETE FROM origins WHERE NOT EXISTS (SELECT 1 FROM image_layers i WHERE i.blob = origins.blob)
             AND NOT EXISTS (SELECT 1 FROM layer_blobs l WHERE l.digest = origins.blob);",
    )
}
