//! Records: looking up keys and claiming what they stand for.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use super::{Index, int, uint};
use crate::store::now_ms;
use crate::{
    CacheKey, CacheRecord, Digest, KeyPart, LayerId, Lease, NewRecord, RecordInputs, Resources,
    StackId, StepKind, StoreError,
};

pub(super) const COLUMNS: &str = "r.key, r.layer, r.parent, r.kind, r.text, r.created, r.last_used, r.uses, r.cost_ms, r.made, \
     r.stack";

/// Records and layers whose files a power cut can't have taken.
pub(super) const TRUSTED: &str = "(r.boot IS NULL OR r.boot = ?1) AND EXISTS (SELECT 1 FROM layers l \
                       WHERE l.id = r.layer AND (l.boot IS NULL OR l.boot = ?1))";

/// Whether a power cut may still take the record or its layer.
const UNSYNCED: &str = "r.boot IS NOT NULL OR EXISTS (SELECT 1 FROM layers l \
                        WHERE l.id = r.layer AND l.boot IS NOT NULL)";

/// A record by its key.
const FIND: &str = "SELECT r.key, r.layer, r.parent, r.kind, r.text, r.created, r.last_used, r.uses, r.cost_ms, \
                    r.made, r.stack, r.boot IS NOT NULL OR l.boot IS NOT NULL AS unsynced \
                    FROM records r JOIN layers l ON l.id = r.layer \
                    WHERE r.key = ?2 AND (r.boot IS NULL OR r.boot = ?1) AND (l.boot IS NULL OR l.boot = ?1)";

impl Index {
    /// Looks up `keys` and claims what is found for `lease`, in one transaction: after it, pruning
    /// leaves those records and layers alone. Marks them as used now. For a lease that only looks they
    /// are noted, and held when it is to.
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
        if self.is_read_only() || self.only_looks(lease.id()) {
            let _state = self.one_state()?;
            let found = self.read(look_up)?;
            if self.is_read_only() || self.note_records(lease.id(), &found) {
                return Ok(found);
            }
        }
        let claimed = self.write(|transaction| {
            let found = look_up(transaction)?;
            for record in found.iter().flatten() {
                Self::used(transaction, lease.id(), record.key, record.layer)?;
            }
            Ok(found)
        });
        claimed.or_else(|error| {
            if error.is_read_only() {
                self.read(look_up)
            } else {
                Err(error)
            }
        })
    }

    /// One record without claiming it.
    pub fn record(&self, key: CacheKey) -> Result<Option<CacheRecord>, StoreError> {
        self.read(|index| self.find(index, key))
    }

    pub(super) fn find(
        &self,
        index: &Connection,
        key: CacheKey,
    ) -> rusqlite::Result<Option<CacheRecord>> {
        // The same as with `TRUSTED` and `UNSYNCED`, in one look at the layer: each key of a build is asked for.
        let record = index
            .prepare_cached(FIND)?
            .query_row(params![self.boot(), key.0], |row| self.relied_on(row))
            .optional()?;
        // A directory that somebody deleted by hand is a miss, not a failing mount later.
        Ok(record.filter(|record| self.has_directory(record.layer)))
    }

    /// A record, of [`COLUMNS`] and [`UNSYNCED`], that somebody takes for a hit.
    fn relied_on(&self, row: &Row<'_>) -> rusqlite::Result<CacheRecord> {
        self.rely_on(row.get("unsynced")?);
        from_row(row)
    }

    /// The newest record with this content key, claimed for `lease` and marked as used now: the same
    /// operation on the very same layers, whatever recipes made those.
    pub fn claim_content(
        &self,
        lease: &Lease,
        content: CacheKey,
    ) -> Result<Option<CacheRecord>, StoreError> {
        let values = params![self.boot(), content.0];
        self.claim_newest(lease, "r.content = ?2", values)
    }

    /// The newest trusted record of which `condition` holds, claimed for `lease` and marked as used
    /// now. `values` begin with the boot.
    fn claim_newest(
        &self,
        lease: &Lease,
        condition: &str,
        values: &[&dyn ToSql],
    ) -> Result<Option<CacheRecord>, StoreError> {
        if self.is_read_only() {
            return Ok(None);
        }
        self.write(|transaction| {
            let found = transaction
                .prepare_cached(&format!(
                    "SELECT {COLUMNS}, {UNSYNCED} AS unsynced FROM records r \
                     WHERE {condition} AND {TRUSTED} ORDER BY r.seq DESC LIMIT 1"
                ))?
                .query_row(values, |row| self.relied_on(row))
                .optional()?
                .filter(|record| self.has_directory(record.layer));
            if let Some(record) = &found {
                Self::used(transaction, lease.id(), record.key, record.layer)?;
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

    /// The newest record of `operation` on `stack` that read the files with the digest `selection`,
    /// claimed for `lease` and marked as used now.
    pub fn claim_selection(
        &self,
        lease: &Lease,
        operation: Digest,
        stack: StackId,
        selection: Digest,
    ) -> Result<Option<CacheRecord>, StoreError> {
        let values = params![self.boot(), operation, stack.0, selection];
        let condition = "r.operation = ?2 AND r.stack = ?3 AND r.selection = ?4";
        self.claim_newest(lease, condition, values)
    }

    /// True if there is a record of `operation` on `stack`.
    pub fn has_record_on(&self, operation: Digest, stack: StackId) -> Result<bool, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT 1 FROM records r WHERE r.operation = ?2 AND r.stack = ?3 AND {TRUSTED}"
                ))?
                .exists(params![self.boot(), operation, stack.0])
        })
    }

    /// The newest records of `operation` on `stack` of which nobody knows yet what they read, with the
    /// stacks that they read it from.
    pub fn records_without_selection(
        &self,
        operation: Digest,
        stack: StackId,
        limit: usize,
    ) -> Result<Vec<RecordInputs>, StoreError> {
        self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT r.key, r.inputs FROM records r WHERE r.operation = ?2 AND r.stack = ?3 \
                     AND r.selection IS NULL AND r.inputs IS NOT NULL AND {TRUSTED} \
                     ORDER BY r.seq DESC LIMIT ?4"
                ))?
                .query_map(
                    params![self.boot(), operation, stack.0, int(limit as u64)],
                    |row| {
                        let inputs: Vec<u8> = row.get(1)?;
                        Ok(RecordInputs {
                            key: CacheKey(row.get(0)?),
                            stacks: decode_stacks(&inputs),
                        })
                    },
                )?
                .collect()
        })
    }

    /// Remembers what the step of a record read.
    pub fn set_selection(&self, key: CacheKey, selection: Digest) -> Result<(), StoreError> {
        self.write(|transaction| {
            transaction
                .prepare_cached("UPDATE records SET selection = ?2 WHERE key = ?1")?
                .execute(params![key.0, selection])?;
            Ok(())
        })
    }

    /// Inside a transaction: `lease` uses a record and its layer now.
    pub(super) fn used(
        index: &Connection,
        lease: &str,
        key: CacheKey,
        layer: LayerId,
    ) -> rusqlite::Result<()> {
        Self::touch_record(index, key)?;
        Self::claim_layer(index, lease, layer)
    }

    /// Inside a transaction: counts one more use of a record, now.
    pub(super) fn touch_record(index: &Connection, key: CacheKey) -> rusqlite::Result<()> {
        index
            .prepare_cached("UPDATE records SET last_used = ?2, uses = uses + 1 WHERE key = ?1")?
            .execute(params![key.0, int(now_ms())])?;
        Ok(())
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
                .prepare_cached(
                    "SELECT p.parts FROM records r JOIN record_parts p USING (seq) \
                     WHERE r.key = ?1",
                )?
                .query_row([key.0], |row| row.get(0))
                .optional()
        })?;
        // Parts only explain; ones that can't be read explain nothing.
        Ok(text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default())
    }

    /// What the step of a record used, if that is known.
    pub fn resources(&self, key: CacheKey) -> Result<Option<Resources>, StoreError> {
        self.find_resources("key = ?1", &key.0)
    }

    /// What the step that made a layer used, if that is known.
    pub fn resources_of_layer(&self, layer: LayerId) -> Result<Option<Resources>, StoreError> {
        self.find_resources("layer = ?1", &layer)
    }

    fn find_resources(
        &self,
        condition: &str,
        value: &dyn ToSql,
    ) -> Result<Option<Resources>, StoreError> {
        let text: Option<String> = self.read(|index| {
            index
                .prepare_cached(&format!(
                    "SELECT resources FROM records WHERE {condition} AND resources IS NOT NULL \
                     ORDER BY seq LIMIT 1"
                ))?
                .query_row([value], |row| row.get(0))
                .optional()
        })?;
        // Only shown: what can't be read is not known.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
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
                     substr(r.text, 1, 64) = substr(?3, 1, 64) AND \
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
                 boot, operation, content, made, stack, inputs, selection, resources) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?11, ?6, ?7, ?8, ?9, ?10, ?12, ?13, ?14, ?15, ?16)",
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
                record.operation,
                record.content.0,
                created,
                record.made_ms.map_or(now, int),
                record.stack.0,
                encode_stacks(&record.inputs),
                record.selection,
                record
                    .resources
                    .and_then(|resources| serde_json::to_string(&resources).ok()),
            ])?;
        index
            .prepare_cached("INSERT INTO record_parts (seq, parts) VALUES (?1, ?2)")?
            .execute(params![index.last_insert_rowid(), parts])?;
        Ok(())
    }
}

/// Each stack is the number of its layers and then their names, in 8 bytes each. None without stacks.
fn encode_stacks(stacks: &[Vec<LayerId>]) -> Option<Vec<u8>> {
    if stacks.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    for stack in stacks {
        bytes.extend_from_slice(&(stack.len() as u64).to_le_bytes());
        for layer in stack {
            bytes.extend_from_slice(&layer.0.to_le_bytes());
        }
    }
    Some(bytes)
}

/// What [`encode_stacks`] wrote. Of anything else, nothing.
fn decode_stacks(bytes: &[u8]) -> Vec<Vec<LayerId>> {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut numbers = chunks.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let mut stacks = Vec::new();
    while let Some(length) = numbers.next() {
        let stack: Vec<LayerId> = numbers
            .by_ref()
            .take(usize::try_from(length).unwrap_or(usize::MAX))
            .map(LayerId)
            .collect();
        if stack.len() as u64 != length {
            return Vec::new();
        }
        stacks.push(stack);
    }
    if rest.is_empty() { stacks } else { Vec::new() }
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
        stack: row.get::<_, Option<Digest>>(10)?.map(StackId),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacks_round_trip_and_what_is_no_list_of_stacks_is_none() {
        let stacks = vec![
            vec![LayerId(1), LayerId(u64::MAX)],
            vec![],
            vec![LayerId(0)],
        ];
        let bytes = encode_stacks(&stacks).unwrap();
        assert_eq!(decode_stacks(&bytes), stacks);
        assert_eq!(encode_stacks(&[]), None);
        for broken in [
            &bytes[..bytes.len() - 1],
            &bytes[..bytes.len() - 8],
            &[0xff; 8],
        ] {
            assert_eq!(decode_stacks(broken), Vec::<Vec<LayerId>>::new());
        }
    }
}
