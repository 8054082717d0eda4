//! What leases hold.

use rusqlite::{Connection, params};

use super::{Index, int};
use crate::store::now_ms;
use crate::{Digest, LayerId, StoreError};

/// A layer's time of use is kept to this many milliseconds, so that a busy layer is not rewritten
/// by every build.
const GRAIN_MS: u64 = 60_000;

impl Index {
    /// Blobs that this process reads or writes are held by its leases from now on.
    pub(crate) fn hold(&self, lease: &str) {
        let mut held = self.held();
        held.leases.push(lease.to_owned());
        // Held by the earlier leases only.
        held.blobs.clear();
    }

    /// Lets go of everything that a lease held, and notes what was built under it.
    pub(crate) fn release(
        &self,
        lease: &str,
        built: Option<(String, LayerId)>,
    ) -> Result<(), StoreError> {
        self.held().leases.retain(|other| other != lease);
        if self.is_read_only() {
            return Ok(());
        }
        self.write(|transaction| {
            for table in ["lease_layers", "lease_blobs"] {
                transaction
                    .prepare_cached(&format!("DELETE FROM {table} WHERE lease = ?1"))?
                    .execute([lease])?;
            }
            if let Some((name, layer)) = built {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO builds (name, at, layer) VALUES (?1, ?2, ?3)",
                    )?
                    .execute(params![name, int(now_ms()), layer])?;
            }
            Ok(())
        })
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
        let now = now_ms();
        index
            .prepare_cached(
                "UPDATE layers SET last_used = ?2 \
                 WHERE id = ?1 AND last_used NOT BETWEEN ?3 AND ?2",
            )?
            .execute(params![layer, int(now), int(now.saturating_sub(GRAIN_MS))])?;
        Ok(())
    }

    /// Inside a transaction: all leases of this process need the blob.
    pub(super) fn hold_blob(&self, index: &Connection, digest: Digest) -> rusqlite::Result<()> {
        let mut held = self.held();
        for lease in &held.leases {
            index
                .prepare_cached(
                    "INSERT OR IGNORE INTO lease_blobs (lease, digest) VALUES (?1, ?2)",
                )?
                .execute(params![lease, digest])?;
        }
        if !held.leases.is_empty() {
            held.blobs.insert(digest);
        }
        Ok(())
    }

    /// True if nothing needs to be written to hold the blob.
    pub(super) fn holds_blob(&self, digest: Digest) -> bool {
        let held = self.held();
        held.leases.is_empty() || held.blobs.contains(&digest)
    }

    /// Forgets that a blob is held, after a transaction that said so was rolled back.
    pub(super) fn forget_blob(&self, digest: Digest) {
        self.held().blobs.remove(&digest);
    }
}
