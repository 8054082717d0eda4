//! Rows of blobs.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, int, is_there, uint};
use crate::failpoint::failpoint;
use crate::store::now_ms;
use crate::{Digest, StoreError};

impl Index {
    /// The size of a blob that can be relied on, held for this process's leases.
    pub(crate) fn claim_blob(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let look_up = |index: &Connection| self.find_blob(index, digest);
        let Some(size) = self.read(look_up)? else {
            return Ok(None);
        };
        if self.is_read_only() || self.holds_blob(digest) {
            return Ok(Some(size));
        }
        // It may have been pruned since the look-up.
        let claimed = self.write(|transaction| {
            let found = look_up(transaction)?;
            if found.is_some() {
                self.touch_blob(transaction, digest)?;
            }
            Ok(found)
        });
        match claimed {
            // Not held then. A blob that goes meanwhile is missed when it is read.
            Err(error) if error.is_read_only() || error.is_no_space() => {
                self.forget_blob(digest);
                Ok(Some(size))
            }
            Err(error) => {
                self.forget_blob(digest);
                Err(error)
            }
            found => found,
        }
    }

    fn touch_blob(&self, index: &Connection, digest: Digest) -> rusqlite::Result<()> {
        index
            .prepare_cached("UPDATE blobs SET last_used = ?2 WHERE digest = ?1")?
            .execute(params![digest, int(now_ms())])?;
        self.hold_blob(index, digest)
    }

    fn find_blob(&self, index: &Connection, digest: Digest) -> rusqlite::Result<Option<u64>> {
        let found: Option<(i64, bool)> = index
            .prepare_cached(
                "SELECT size, boot IS NOT NULL FROM blobs \
                 WHERE digest = ?1 AND (boot IS NULL OR boot = ?2)",
            )?
            .query_row(params![digest, self.boot()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        // A file that somebody deleted by hand is missing, whatever the row says.
        Ok(found.and_then(|(size, unsynced)| {
            self.rely_on(unsynced);
            let path = self.root.join("blobs/sha256").join(digest.hex());
            is_there(&path).then_some(uint(size))
        }))
    }

    /// Moves the finished file at `from` to `to` and inserts its row, unless the blob is there.
    pub(crate) fn publish_blob(
        &self,
        digest: Digest,
        size: u64,
        from: &Path,
        to: &Path,
    ) -> Result<(), StoreError> {
        let result = self.try_write(|transaction| {
            let sql = |source| self.error(source);
            let found = self.find_blob(transaction, digest).map_err(sql)?;
            if found.is_some() {
                return self.touch_blob(transaction, digest).map_err(sql);
            }
            // ORDER: the file has its name before a row says so, as with layers. A file that a
            // power cut made doubtful is replaced.
            std::fs::rename(from, to).map_err(|source| StoreError::io("rename", from, source))?;
            self.rely_on(true);
            failpoint!("blob.renamed");
            transaction
                .execute("DELETE FROM blobs WHERE digest = ?1", [digest])
                .map_err(sql)?;
            transaction
                .prepare_cached(
                    "INSERT INTO blobs (digest, size, created, last_used, boot) \
                     VALUES (?1, ?2, ?3, ?3, ?4)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![digest, int(size), int(now_ms()), self.boot()])
                })
                .map_err(sql)?;
            self.hold_blob(transaction, digest).map_err(sql)
        });
        failpoint!("blob.published");
        if result.is_err() {
            self.forget_blob(digest);
        }
        result
    }
}
