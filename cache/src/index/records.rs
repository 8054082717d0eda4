//! Records: looking up keys and claiming what they stand for.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Index, int, uint};
use crate::store::now_ms;
use crate::{
    CacheKey, CacheRecord, Digest, KeyPart, LayerId, Lease, NewRecord, StepKind, StoreError,
};

pub(super) const COLUMNS: &str =
    "r.key, r.layer, r.parent, r.kind, r.text, r.created, r.last_used, r.uses, r.cost_ms, r.made";

/// Records and layers whose files a power cut can't have taken.
pub(super) const TRUSTED: &str = "(r.boot IS NULL OR r.boot = ?1) AND EXISTS (SELECT 1 FROM layers l \
                       WHERE l.id = r.layer AND (l.boot IS NULL OR l.boot = ?1))";

/// Whether a power cut may still take the record or its layer.
const UNSYNCED: &str = "r.boot IS NOT NULL OR EXISTS (SELECT 1 FROM layers l \
                        WHERE l.id = r.layer AND l.boot IS NOT NULL)";

impl Index {
    /// Looks up `keys` and claims what is found for `lease`, in one transaction: after it, pruning
    /// leaves those records and layers alone. Marks them as used now.
    ///
    /// The answer has one entry for each key, in order. Records that a power cut made doubtful are
    /// not found. In a store that can't be written to, this is a plain look-up, which holds nothing.
    pub fn claim(
        &self,
        lease: &Lease,
        keys: &[CacheKey],
    ) -> Result<Vec<Option<CacheRecord>>, StoreError> {
        let look_up = |index: &Connection| -> rusqlite::Result<Vec<Option<CacheRecord>>> {
            keys.iter().map(|key| self.find(index, *key)).collect()
        };
        if self.is_read_only() {
            return self.read(look_up);
        }
        let now = int(now_ms());
        let claimed = self.write(|transaction| {
            let found = look_up(transaction)?;
            for record in found.iter().flatten() {
                transaction
                    .prepare_cached(
                        "UPDATE records SET last_used = ?2, uses = uses + 1 WHERE key = ?1",
                    )?
                    .execute(params![record.key.0, now])?;
                Self::claim_layer(transaction, lease.id(), record.layer)?;
            }
            Ok(found)
        });
        match claimed {
            Err(error) if error.is_read_only() => self.read(look_up),
            other => other,
        }
    }

    /// One record without claiming it.
    pub fn record(&self, key: CacheKey) -> Result<Option<CacheRecord>, StoreError> {
        self.read(|index| self.find(index, key))
    }

    fn find(&self, index: &Connection, key: CacheKey) -> rusqlite::Result<Option<CacheRecord>> {
        let record = index
            .prepare_cached(&format!(
                "SELECT {COLUMNS}, {UNSYNCED} FROM records r WHERE r.key = ?2 AND {TRUSTED}"
            ))?
            .query_row(params![self.boot(), key.0], |row| self.relied_on(row))
            .optional()?;
        // A directory that somebody deleted by hand is a miss, not a failing mount later.
        Ok(record.filter(|record| self.has_directory(record.layer)))
    }

    /// A record, of [`COLUMNS`] and [`UNSYNCED`], that somebody takes for a hit.
    fn relied_on(&self, row: &Row<'_>) -> rusqlite::Result<CacheRecord> {
        self.rely_on(row.get(10)?);
        from_row(row)
    }

    /// The newest record with this content key, claimed for `lease` and marked as used now: the same
    /// operation on the very same layers, whatever recipes made those.
    pub fn claim_content(
        &self,
        lease: &Lease,
        content: CacheKey,
    ) -> Result<Option<CacheRecord>, StoreError> {
        if self.is_read_only() {
            return Ok(None);
        }
        let now = int(now_ms());
        self.write(|transaction| {
            let found = transaction
                .prepare_cached(&format!(
                    "SELECT {COLUMNS}, {UNSYNCED} FROM records r WHERE r.content = ?2 AND {TRUSTED} \
                     ORDER BY r.seq DESC LIMIT 1"
                ))?
                .query_row(params![self.boot(), content.0], |row| self.relied_on(row))
                .optional()?
                .filter(|record| self.has_directory(record.layer));
            if let Some(record) = &found {
                transaction
                    .prepare_cached(
                        "UPDATE records SET last_used = ?2, uses = uses + 1 WHERE key = ?1",
                    )?
                    .execute(params![record.key.0, now])?;
                Self::claim_layer(transaction, lease.id(), record.layer)?;
            }
            Ok(found)
        })
    }

    /// Records of the same operation, newest first: what a step that had to run is compared with.
    pub fn records_of_operation(
        &self,
        operation: Digest,
        limit: usize,
    ) -> Result<Vec<CacheRecord>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM records r WHERE r.operation = ?2 AND {TRUSTED} \
                     ORDER BY r.seq DESC LIMIT ?3"
                ))?
                .query_map(params![self.boot(), operation, int(limit as u64)], from_row)?
                .collect()
        })
    }

    /// Lets `record` stand for a layer that is there already: the step was run again with an equal
    /// result, or its content key was known. The record gets the layer's time. False if the layer is
    /// gone.
    pub fn publish_record(
        &self,
        lease: &Lease,
        record: &NewRecord,
        layer: LayerId,
    ) -> Result<bool, StoreError> {
        let parts = serde_json::to_string(&record.parts).unwrap_or_default();
        self.write(|transaction| {
            let created: Option<i64> = transaction
                .prepare_cached(
                    "SELECT created FROM layers WHERE id = ?1 AND (boot IS NULL OR boot = ?2)",
                )?
                .query_row(params![layer, self.boot()], |row| row.get(0))
                .optional()?;
            let Some(created) = created.filter(|_| self.has_directory(layer)) else {
                return Ok(false);
            };
            self.put_record(transaction, record, layer, &parts, created)?;
            Self::claim_layer(transaction, lease.id(), layer)?;
            Ok(true)
        })
    }

    /// What the key of a record was made of.
    pub fn parts(&self, key: CacheKey) -> Result<Vec<KeyPart>, StoreError> {
        let text: Option<String> = self.read(|index| {
            index
                .prepare_cached("SELECT parts FROM records WHERE key = ?1")?
                .query_row([key.0], |row| row.get(0))
                .optional()
        })?;
        // Parts only explain; ones that can't be read explain nothing.
        Ok(text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default())
    }

    /// All records, newest first.
    pub fn records(&self) -> Result<Vec<CacheRecord>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM records r WHERE {TRUSTED} ORDER BY r.seq DESC"
                ))?
                .query_map([self.boot()], from_row)?
                .collect()
        })
    }

    /// Records of the same kind and text, newest first: the ones that a missed step is compared
    /// with when the miss is explained.
    pub fn records_like(
        &self,
        kind: StepKind,
        text: &str,
        limit: usize,
    ) -> Result<Vec<CacheRecord>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM records r WHERE r.kind = ?2 AND r.text = ?3 AND \
                     {TRUSTED} ORDER BY r.seq DESC LIMIT ?4"
                ))?
                .query_map(
                    params![self.boot(), kind.as_str(), text, int(limit as u64)],
                    from_row,
                )?
                .collect()
        })
    }

    /// Puts a record in the place of any other with its key. `created` is its layer's time, which
    /// images show: a record that comes later stands for the same layer.
    pub(super) fn put_record(
        &self,
        index: &Connection,
        record: &NewRecord,
        layer: LayerId,
        parts: &str,
        created: i64,
    ) -> rusqlite::Result<()> {
        let now = int(now_ms());
        self.rely_on(true);
        // Not an upsert: the row needs a new `seq`.
        index
            .prepare_cached("DELETE FROM records WHERE key = ?1")?
            .execute([record.key.0])?;
        index
            .prepare_cached(
                "INSERT INTO records (key, layer, parent, kind, text, created, last_used, cost_ms, \
                 boot, parts, operation, content, made) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?12, ?6, ?7, ?8, ?9, ?10, ?11, ?13)",
            )?
            .execute(params![
                record.key.0,
                layer,
                record.parent,
                record.kind.as_str(),
                record.text,
                now,
                int(record.cost_ms),
                self.boot(),
                parts,
                record.operation,
                record.content.0,
                created,
                record.made_ms.map_or(now, int),
            ])?;
        Ok(())
    }
}

pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<CacheRecord> {
    let kind: String = row.get(3)?;
    Ok(CacheRecord {
        key: CacheKey(row.get::<_, Digest>(0)?),
        layer: row.get(1)?,
        parent: row.get(2)?,
        kind: StepKind::from_word(&kind).ok_or_else(|| {
            rusqlite::Error::FromSqlConversionFailure(
                3,
                rusqlite::types::Type::Text,
                format!("unknown kind of step `{kind}`").into(),
            )
        })?,
        text: row.get(4)?,
        created_ms: uint(row.get(5)?),
        last_used_ms: uint(row.get(6)?),
        uses: uint(row.get(7)?),
        cost_ms: uint(row.get(8)?),
        made_ms: uint(row.get(9)?),
    })
}
