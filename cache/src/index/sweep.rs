//! What the index does for a sync, for collecting leftovers and for pruning.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, Transaction, params};

use super::Index;
use super::mounts::UsedMount;
use crate::failpoint::failpoint;
use crate::{Digest, LayerId, StoreError};

/// Tables whose rows count only after a sync or in the boot that wrote them.
const SYNCED: [&str; 4] = ["layers", "blobs", "records", "images"];

/// Bytes of the log from which on it is emptied by a build that writes, however little: some thirty pages.
const LONG_LOG: u64 = 128 << 10;

/// The rows that were there at some moment: the highest `seq` of each table.
#[derive(Debug)]
struct Mark([i64; SYNCED.len()]);

impl Index {
    /// Notes which rows are there now, or nothing if all of them are safe.
    fn mark(&self) -> Result<Option<Mark>, StoreError> {
        self.read(|index| {
            let mut mark = Mark([0; SYNCED.len()]);
            let mut any = false;
            for (table, highest) in SYNCED.iter().zip(&mut mark.0) {
                let found: Option<i64> = index
                    .prepare_cached(&format!("SELECT max(seq) FROM {table} WHERE boot = ?1"))?
                    .query_row([self.boot()], |row| row.get(0))?;
                any |= found.is_some();
                *highest = found.unwrap_or(0);
            }
            Ok(any.then_some(mark))
        })
    }

    /// Flushes all files and says so in the rows that were there before, if there are any to be said of.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.flush(None::<fn(&Transaction<'_>) -> rusqlite::Result<()>>)
    }

    /// [`sync`](Self::sync), and then `also`, which is on the disk when this returns and relies on files that
    /// have to be there before.
    pub(super) fn sync_and(
        &self,
        also: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        self.flush(Some(also))
    }

    fn flush<Also>(&self, also: Option<Also>) -> Result<(), StoreError>
    where
        Also: FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    {
        self.unsynced.store(false, Ordering::Relaxed);
        // ORDER: first what there is, then the flush, then the mark. What another process publishes
        // after the flush has begun is not in the mark.
        let mounts = self.unsynced_mounts()?;
        let mark = self.mark()?;
        let any = mark.is_some() || !mounts.is_empty();
        if !any && also.is_none() {
            return Ok(());
        }
        let flush = || -> Result<(), StoreError> {
            if any {
                let root = File::open(&self.root)
                    .map_err(|source| StoreError::io("open", &self.root, source))?;
                failpoint!("sync.before");
                rustix::fs::syncfs(&root)
                    .map_err(|source| StoreError::io("flush", &self.root, source))?;
                failpoint!("sync.flushed");
            }
            // One transaction, as each is waited for.
            self.write_durably(|transaction| {
                self.set_synced(transaction, mark.as_ref(), &mounts)
                    .and_then(|()| also.map_or(Ok(()), |also| also(transaction)))
                    .map_err(|source| self.error(source))
            })
        };
        flush().inspect_err(|_| self.unsynced.store(true, Ordering::Relaxed))?;
        // The disk is being waited for anyway.
        self.write_log_back()
    }

    /// Notes that this process relies on a row, if its files may still be lost.
    pub(super) fn rely_on(&self, unsynced: bool) {
        if unsynced {
            self.unsynced.store(true, Ordering::Relaxed);
        }
    }

    /// True if this process found or wrote rows whose files a power cut may still take.
    pub(crate) fn relies_on_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Relaxed)
    }

    /// Says that the files of all rows up to `mark` are on the disk.
    fn set_synced(
        &self,
        transaction: &Transaction<'_>,
        mark: Option<&Mark>,
        mounts: &[UsedMount],
    ) -> rusqlite::Result<()> {
        super::mounts::set_synced(transaction, mounts)?;
        let highest = mark.iter().flat_map(|mark| mark.0);
        for (table, highest) in SYNCED.iter().zip(highest) {
            transaction
                .prepare_cached(&format!(
                    "UPDATE {table} SET boot = NULL WHERE boot = ?1 AND seq <= ?2"
                ))?
                .execute(params![self.boot(), highest])?;
        }
        Ok(())
    }

    /// Writes the log back into the index and empties it: whoever opens the index when nobody has it open
    /// reads the whole log. Frames that a reader still needs stay, and nobody is waited for.
    fn write_log_back(&self) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let result = connection
            .busy_handler(None::<fn(i32) -> bool>)
            .and_then(|()| {
                let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
                connection.busy_handler(Some(super::wait_a_little))?;
                done
            });
        result.map_err(|source| self.error(source))
    }

    /// Empties the log if it has grown: a build that only notes what it used leaves a few frames each
    /// time.
    pub(super) fn shorten_log(&self) {
        let log = self.root.join("index.db-wal");
        let long = std::fs::metadata(log).is_ok_and(|log| log.len() > LONG_LOG);
        if long {
            // The next one tries again.
            drop(self.write_log_back());
        }
    }

    /// Removes the rows that another boot wrote and did not sync, with what hangs on them.
    pub(crate) fn drop_doubtful(&self) -> Result<(), StoreError> {
        let any = self.read(|index| {
            for table in SYNCED {
                if index
                    .prepare_cached(&format!(
                        "SELECT 1 FROM {table} WHERE boot IS NOT NULL AND boot <> ?1"
                    ))?
                    .exists([self.boot()])?
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !any {
            return Ok(());
        }
        self.write_durably(|transaction| {
            for table in SYNCED {
                transaction
                    .execute(
                        &format!("DELETE FROM {table} WHERE boot IS NOT NULL AND boot <> ?1"),
                        [self.boot()],
                    )
                    .map_err(|source| self.error(source))?;
            }
            drop_dangling(transaction).map_err(|source| self.error(source))
        })
    }

    /// The layers that have a row, to be relied on or not.
    pub(crate) fn layer_ids(&self) -> Result<HashSet<LayerId>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached("SELECT id FROM layers")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// The blobs that have a row, to be relied on or not.
    pub(crate) fn blob_digests(&self) -> Result<HashSet<Digest>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached("SELECT digest FROM blobs")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
    }

    /// True if the index has any row for the layer, to be relied on or not.
    pub(crate) fn has_layer_row(&self, id: LayerId) -> Result<bool, StoreError> {
        self.read(|index| has_layer(index, id))
    }

    /// True if the index has any row for the blob, to be relied on or not.
    pub(crate) fn has_blob_row(&self, digest: Digest) -> Result<bool, StoreError> {
        self.read(|index| has_blob(index, digest))
    }

    /// Moves a layer's directory to `trash` if it has no row. Publishing holds the write lock from
    /// the rename to the row, so under that lock a directory without a row is nobody's.
    pub(crate) fn move_away_layer(
        &self,
        id: LayerId,
        path: &Path,
        trash: &Path,
    ) -> Result<bool, StoreError> {
        self.try_write(|transaction| {
            if has_layer(transaction, id).map_err(|source| self.error(source))? {
                return Ok(false);
            }
            match std::fs::rename(path, trash) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(source) => Err(StoreError::io("rename", path, source)),
            }
        })
    }

    /// Unlinks a blob's file if it has no row, by the same rule.
    pub(crate) fn unlink_blob(&self, digest: Digest, path: &Path) -> Result<bool, StoreError> {
        self.try_write(|transaction| {
            if has_blob(transaction, digest).map_err(|source| self.error(source))? {
                return Ok(false);
            }
            match std::fs::remove_file(path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                Err(source) => Err(StoreError::io("remove", path, source)),
            }
        })
    }
}

fn has_layer(index: &Connection, id: LayerId) -> rusqlite::Result<bool> {
    index
        .prepare_cached("SELECT 1 FROM layers WHERE id = ?1")?
        .exists([id])
}

fn has_blob(index: &Connection, digest: Digest) -> rusqlite::Result<bool> {
    index
        .prepare_cached("SELECT 1 FROM blobs WHERE digest = ?1")?
        .exists([digest])
}

/// Removes rows that name a layer, a blob or an image which has no row.
pub(super) fn drop_dangling(index: &Connection) -> rusqlite::Result<()> {
    index.execute_batch(
        "DELETE FROM records WHERE layer NOT IN (SELECT id FROM layers);
         DELETE FROM layer_blobs WHERE layer NOT IN (SELECT id FROM layers)
             OR digest NOT IN (SELECT digest FROM blobs);
         DELETE FROM layer_files WHERE layer NOT IN (SELECT id FROM layers);
         DELETE FROM images WHERE config NOT IN (SELECT digest FROM blobs);
         DELETE FROM image_layers WHERE config NOT IN (SELECT config FROM images);
         DELETE FROM list_members WHERE config NOT IN (SELECT config FROM images)
             OR list NOT IN (SELECT id FROM lists);
         DELETE FROM list_blobs WHERE list NOT IN (SELECT id FROM lists);
         DELETE FROM names WHERE config NOT IN (SELECT config FROM images)
             AND config NOT IN (SELECT id FROM lists);",
    )
}
