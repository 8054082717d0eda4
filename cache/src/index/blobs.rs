//! Rows of blobs.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Index, int, is_there, uint};
use crate::failpoint::failpoint;
use crate::store::now_ms;
use crate::{Digest, StoreError};

/// A blob that is there.
#[derive(Debug)]
pub(super) struct Found {
    size: u64,
    last_used_ms: u64,
}

impl Index {
    /// The size of a blob that can be relied on, held for this process's leases.
    pub(crate) fn claim_blob(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        let Some(found) = self.read(|index| self.find_blob(index, digest))? else {
            return Ok(None);
        };
        let size = found.size;
        if self.is_read_only() || self.note_blob(digest, found.last_used_ms) {
            return Ok(Some(size));
        }
        // It may have been pruned since the look-up.
        let claimed = self.write(|transaction| {
            let found = self.find_blob(transaction, digest)?;
            if found.is_some() {
                Self::touch_blob(transaction, digest)?;
                self.hold_blob(transaction, digest)?;
            }
            Ok(found.map(|found| found.size))
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

    /// Inside a transaction: says that the blob is used now.
    pub(super) fn touch_blob(index: &Connection, digest: Digest) -> rusqlite::Result<()> {
        index
            .prepare_cached("UPDATE blobs SET last_used = ?2 WHERE digest = ?1")?
            .execute(params![digest, int(now_ms())])?;
        Ok(())
    }

    pub(super) fn find_blob(
        &self,
        index: &Connection,
        digest: Digest,
    ) -> rusqlite::Result<Option<Found>> {
        let found: Option<(Found, bool)> = index
            .prepare_cached(
                "SELECT size, last_used, boot IS NOT NULL FROM blobs \
                 WHERE digest = ?1 AND (boot IS NULL OR boot = ?2)",
            )?
            .query_row(params![digest, self.boot()], |row| {
                let found = Found {
                    size: uint(row.get(0)?),
                    last_used_ms: uint(row.get(1)?),
                };
                Ok((found, row.get(2)?))
            })
            .optional()?;
        // A file that somebody deleted by hand is missing, whatever the row says.
        Ok(found.and_then(|(found, unsynced)| {
            self.rely_on(unsynced);
            let path = self.root.join("blobs/sha256").join(digest.hex());
            is_there(&path).then_some(found)
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
                return Self::touch_blob(transaction, digest)
                    .and_then(|()| self.hold_blob(transaction, digest))
                    .map_err(sql);
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
