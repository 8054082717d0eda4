//! Rows of cache mounts.
//!
//! What a command does to a cache mount, nobody knows. A mount that was used since it was last flushed may
//! hold, after a power cut, files that lost their content. So its row has the boot in which it was used, as
//! other rows have, until a sync at which nobody used it.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, int};
use crate::StoreError;
use crate::lock::FileLock;
use crate::prune::mount_lock;
use crate::store::now_ms;

/// A mount at some moment: its directory, and when it was last used.
pub(super) type UsedMount = (String, i64);

impl Index {
    /// Notes that a cache mount is used. One that a power cut may have damaged is given to `discard`
    /// first, under the write lock.
    pub(crate) fn touch_mount(
        &self,
        directory: &str,
        id: &str,
        discard: impl Fn() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let now = int(now_ms());
        self.rely_on(true);
        self.try_write(|transaction| {
            let sql = |source| self.error(source);
            if self.is_doubtful(transaction, directory).map_err(sql)? {
                discard()?;
            }
            // Later than any other use: a sync tells by this whether it was used meanwhile.
            transaction
                .prepare_cached(
                    "INSERT INTO mounts (directory, id, created, last_used, boot) \
                     VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (directory) \
                     DO UPDATE SET boot = ?4, last_used = \
                     CASE last_used WHEN ?3 THEN ?3 + 1 ELSE ?3 END",
                )
                .and_then(|mut statement| {
                    statement.execute(params![directory, id, now, self.boot()])
                })
                .map_err(sql)?;
            Ok(())
        })
    }

    /// Whether a power cut may have damaged what the mount holds.
    pub(crate) fn is_doubtful_mount(&self, directory: &str) -> Result<bool, StoreError> {
        self.read(|index| self.is_doubtful(index, directory))
    }

    fn is_doubtful(&self, index: &Connection, directory: &str) -> rusqlite::Result<bool> {
        let found: Option<bool> = index
            .prepare_cached(
                "SELECT boot IS NOT NULL AND boot <> ?2 FROM mounts WHERE directory = ?1",
            )?
            .query_row(params![directory, self.boot()], |row| row.get(0))
            .optional()?;
        Ok(found == Some(true))
    }

    /// Directories and ids of mounts that a power cut may have damaged.
    pub(crate) fn doubtful_mounts(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(
                    "SELECT directory, id FROM mounts WHERE boot IS NOT NULL AND boot <> ?1",
                )?
                .query_map([self.boot()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Mounts that were used in this boot since the last sync, without those that are in use.
    pub(super) fn unsynced_mounts(&self) -> Result<Vec<UsedMount>, StoreError> {
        let used: Vec<(String, UsedMount)> = self.read(|index| {
            index
                .prepare_cached("SELECT id, directory, last_used FROM mounts WHERE boot = ?1")?
                .query_map([self.boot()], |row| {
                    Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
                })?
                .collect()
        })?;
        let mut unused = Vec::with_capacity(used.len());
        for (id, mount) in used {
            let lock = self
                .root
                .join("locks")
                .join(crate::lock::named(&mount_lock(&id)));
            if FileLock::try_acquire(lock, false)?.is_some() {
                unused.push(mount);
            }
        }
        Ok(unused)
    }

    /// Forgets a cache mount.
    pub(crate) fn remove_mount(&self, directory: &str) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM mounts WHERE directory = ?1", [directory])?;
            Ok(())
        })
    }
}

/// Says that what these mounts hold is on the disk, unless they were used since.
pub(super) fn set_synced(index: &Connection, mounts: &[UsedMount]) -> rusqlite::Result<()> {
    for (directory, last_used) in mounts {
        index
            .prepare_cached(
                "UPDATE mounts SET boot = NULL WHERE directory = ?1 AND last_used = ?2",
            )?
            .execute(params![directory, last_used])?;
    }
    Ok(())
}
