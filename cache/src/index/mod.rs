//! The index: SQLite in WAL mode, one file, many processes.
//!
//! Writes are `BEGIN IMMEDIATE` transactions, short, never held across anything slow. (A deferred
//! transaction that reads and then writes fails at once if another process wrote in between,
//! whatever the timeout.) A rename that publishes a layer or a blob happens inside its transaction:
//! so whoever holds the write lock and sees a directory without a row knows that it is a leftover.
//!
//! Commits are not flushed one by one (`synchronous=NORMAL`): after a power cut the index is
//! consistent but may lack the last transactions, which only ever makes things look unmade. Where a
//! lost transaction would make the index name files that are gone (pruning), the commit is flushed.

mod blobs;
mod files;
mod images;
mod layers;
mod leases;
mod lists;
mod migrate;
mod mounts;
mod origins;
mod pins;
mod records;
mod schema;
mod sweep;
pub(crate) mod usage;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use rustix::io::Errno;

use crate::{ChainId, DiffId, Digest, LayerId, Room, StoreError};

pub(crate) use layers::{NewLayer, Published};

/// A layer as the index knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRow {
    /// Its name in this store.
    pub id: LayerId,
    /// Digest of its uncompressed tar, once that was made.
    pub diff_id: Option<DiffId>,
    /// Chain ID for layers that were unpacked from an image.
    pub chain_id: Option<ChainId>,
    /// Bytes that the layer's files take (blocks allocated, hard links counted once).
    pub size: u64,
    /// Entries in the layer's directory tree.
    pub entries: u64,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
}

/// A layer's tar in one encoding, kept as a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBlob {
    /// Digest of the blob as stored.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Codec, level and implementation, such as `gzip-4-strata1` (see [`crate::codec`]).
    pub encoding: String,
}

/// What the encoding of a [`LayerBlob`] begins with that holds no layer, but the text of a diff ID that the
/// layer has under some condition. It can't be found out again what that was, so it stays as long as the
/// layer.
pub const DIFF_ID: &str = "diffid";

/// Commits are not flushed one by one.
const NORMAL: &str = "PRAGMA synchronous=NORMAL";

/// The same, for the first time. And SQLite writes the log back by itself, in the middle of a build and
/// with two flushes, when it has grown to these pages (16 MiB): a build of a thousand steps gets to
/// its end before, where the log is written back together with the sync.
const FIRST: &str = "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=4096";

/// The index of a store.
#[derive(Debug)]
pub struct Index {
    root: PathBuf,
    path: PathBuf,
    connection: Mutex<Connection>,
    boot: String,
    read_only: bool,
    /// Whether SQLite was told how commits are flushed, which only those who write need.
    told: AtomicBool,
    held: Mutex<leases::Held>,
    /// Rows were found or written whose files a power cut may still take.
    unsynced: AtomicBool,
}

impl Index {
    /// Opens the index of the store at `root`. `boot` marks the rows that are written.
    pub(crate) fn open(root: &Path, boot: String, read_only: bool) -> Result<Self, StoreError> {
        let path = root.join("index.db");
        let fail = |source| index_error(&path, source);
        let (mut connection, read_only) = if read_only {
            (open_read_only(&path).map_err(fail)?, true)
        } else {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
                | OpenFlags::SQLITE_OPEN_CREATE
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            (
                Connection::open_with_flags(&path, flags).map_err(fail)?,
                false,
            )
        };
        connection.busy_handler(Some(wait_a_little)).map_err(fail)?;
        connection.set_prepared_statement_cache_capacity(64);
        // A plan holds for every value: else each look-up is prepared again for its key.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(fail)?;
        if !read_only {
            // The last process to close would otherwise write the log back and flush it, at the end
            // of every build.
            connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
                .map_err(fail)?;
            if let migrate::Outcome::Newer(version) = migrate::run(&mut connection).map_err(fail)? {
                return Err(StoreError::Foreign {
                    path: root.to_owned(),
                    reason: format!(
                        "its index is of version {version}, made by a later strata; use that or \
                         another root"
                    ),
                });
            }
        }
        Ok(Self {
            root: root.to_owned(),
            path,
            connection: Mutex::new(connection),
            boot,
            read_only,
            told: AtomicBool::new(false),
            held: Mutex::default(),
            unsynced: AtomicBool::new(false),
        })
    }

    /// True if nothing can be written.
    pub(crate) const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The mark of this boot's rows.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction has rolled it back on its way, so the connection
        // is as good as before.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, leases::Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn error(&self, source: rusqlite::Error) -> StoreError {
        index_error(&self.path, source)
    }

    /// Reads without a transaction: each statement sees one state of the index.
    pub(crate) fn read<T>(
        &self,
        action: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        action(&self.connection()).map_err(|source| self.error(source))
    }

    /// From now on all reads see one state of the index: until the guard is dropped, or until this
    /// process writes. Not to be held across anything slow: as long as it lives the log can't be
    /// shortened.
    pub fn one_state(&self) -> Result<OneState<'_>, StoreError> {
        let connection = self.connection();
        // Inside of another one, that one counts.
        let begun = connection.is_autocommit();
        if begun {
            let result = connection.execute_batch("BEGIN");
            result.map_err(|source| self.error(source))?;
        }
        Ok(OneState { index: self, begun })
    }

    /// Reads see the newest state again, whoever wanted [one state](Self::one_state): what comes now
    /// takes long.
    pub fn end_state(&self) -> Result<(), StoreError> {
        end_state(&self.connection()).map_err(|source| self.error(source))
    }

    /// Runs `action` in a write transaction and commits it.
    pub(crate) fn write<T>(
        &self,
        action: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.try_write(|transaction| action(transaction).map_err(|source| self.error(source)))
    }

    /// [`write`](Self::write) for actions that do more than talk to SQLite. An error rolls back.
    pub(crate) fn try_write<T>(
        &self,
        action: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.read_only {
            return Err(StoreError::ReadOnly {
                path: self.root.clone(),
            });
        }
        let mut connection = self.connection();
        end_state(&connection).map_err(|source| self.error(source))?;
        if !self.told.swap(true, Ordering::Relaxed) {
            let told = connection.execute_batch(FIRST);
            told.map_err(|source| self.error(source))?;
        }
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| self.error(source))?;
        let value = action(&transaction)?;
        transaction.commit().map_err(|source| self.error(source))?;
        Ok(value)
    }

    /// [`try_write`](Self::try_write), and the commit is on the disk when this returns.
    pub(crate) fn write_durably<T>(
        &self,
        action: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let set = |level: &str| {
            let connection = self.connection();
            self.told.store(true, Ordering::Relaxed);
            end_state(&connection)
                .and_then(|()| connection.execute_batch(level))
                .map_err(|source| self.error(source))
        };
        // Another thread's commit in between is flushed, too: slower, never wrong.
        set("PRAGMA synchronous=FULL")?;
        let result = self.try_write(action);
        set(NORMAL)?;
        result
    }
}

/// While it lives, reads see one state of the index.
#[derive(Debug)]
#[must_use = "reads see later states as soon as this is dropped"]
pub struct OneState<'a> {
    index: &'a Index,
    begun: bool,
}

impl Drop for OneState<'_> {
    fn drop(&mut self) {
        if self.begun {
            // It only read: there is nothing that could be lost.
            drop(self.index.end_state());
        }
    }
}

/// Write transactions begin and end under the connection's mutex, so whoever has that and finds a
/// transaction has found a [`OneState`].
fn end_state(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() {
        return Ok(());
    }
    connection.execute_batch("COMMIT")
}

/// Waits for another process's transaction: half a minute in all, in steps that start small,
/// because transactions are short. SQLite's own handler starts with 1 ms and goes to 100 ms.
fn wait_a_little(tries: i32) -> bool {
    let micros = match tries {
        ..10 => 200,
        10..50 => 1_000,
        50..200 => 5_000,
        _ => 20_000,
    };
    std::thread::sleep(Duration::from_micros(micros));
    tries < 1_700
}

fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let probe = |connection: Connection| -> rusqlite::Result<Connection> {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    Connection::open_with_flags(path, flags)
        .and_then(probe)
        .or_else(|error| {
            // Without its log file a WAL database can't be opened on a read-only file system, unless
            // one promises that nobody writes to it, which the file system sees to.
            let mut uri = "file:".to_owned();
            for byte in path.as_os_str().as_encoded_bytes() {
                if byte.is_ascii_alphanumeric() || b"/-._".contains(byte) {
                    uri.push(char::from(*byte));
                } else {
                    uri.push('%');
                    for digit in [byte >> 4, byte & 15] {
                        uri.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
                    }
                }
            }
            uri.push_str("?immutable=1");
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
                .and_then(probe)
                .map_err(|_| error)
        })
}

fn index_error(path: &Path, source: rusqlite::Error) -> StoreError {
    let room = Room::of(path);
    let full = room.is_some_and(|room| room.is_full());
    match source.sqlite_error_code() {
        // A log that can't be made or grow is told as a failure to open or to write.
        code if code == Some(ErrorCode::DiskFull)
            || (full
                && matches!(
                    code,
                    Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure)
                )) =>
        {
            StoreError::NoSpace {
                action: "write",
                path: path.to_owned(),
                room,
                source: Box::new(source),
            }
        }
        Some(ErrorCode::ReadOnly) => StoreError::ReadOnly {
            path: path.to_owned(),
        },
        Some(ErrorCode::SystemIoFailure) => StoreError::Disk {
            action: "read or write",
            path: path.to_owned(),
            source: Box::new(source),
        },
        _ => StoreError::Index {
            path: path.to_owned(),
            source,
        },
    }
}

// How identities are stored. Kept here so that nothing outside can mix them up with plain numbers.

impl ToSql for LayerId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.cast_signed().into())
    }
}

impl FromSql for LayerId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(|id| Self(id.cast_unsigned()))
    }
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.as_bytes())))
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 32]>::column_result(value).map(Self::from_bytes)
    }
}

/// A count, size or time as SQLite's signed integer; what does not fit is capped.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`int`].
fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Whether something has this path. What the disk can't tell of counts as being there: whoever reads
/// it gets the disk's answer, rather than a miss that fetches or builds it again.
fn is_there(path: &Path) -> bool {
    !matches!(
        rustix::fs::access(path, rustix::fs::Access::EXISTS),
        Err(Errno::NOENT | Errno::NOTDIR)
    )
}

#[cfg(test)]
mod tests;
