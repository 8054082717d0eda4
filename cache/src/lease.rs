//! Leases: what a running build may still need.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use crate::lock::FileLock;
use crate::store::{Shared, random_name};
use crate::{LayerId, Store, StoreError};

/// A running build's claim. While it lives, pruning leaves alone what was claimed or published
/// under it. It dies with its process: it is a locked file.
///
/// Layers are claimed by name of the lease. Blobs that this store handle finds, opens or writes
/// while a lease of it lives are claimed for that lease without being asked.
#[derive(Debug)]
#[must_use = "a lease that is dropped protects nothing"]
pub struct Lease {
    id: String,
    shared: Arc<Shared>,
    /// None in a store that can't be written to.
    lock: Option<FileLock>,
    /// What was built, by name, and the layer that came out.
    built: Mutex<Option<(String, LayerId)>>,
}

impl Store {
    /// Starts a lease: until it is dropped (or its process dies) nothing that was claimed or
    /// published under it is removed. `what` is for people who look into `leases/`.
    pub fn lease(&self, what: &str) -> Result<Lease, StoreError> {
        loop {
            let id = random_name()?;
            let lock = if self.is_read_only() {
                None
            } else {
                let path = self.root().join("leases").join(&id);
                let Some(lock) = FileLock::try_acquire(path, false)? else {
                    continue;
                };
                // For people only; nothing reads it.
                drop(writeln!(lock.file(), "{} {what}", std::process::id()));
                Some(lock)
            };
            self.shared.index.hold(&id);
            return Ok(Lease {
                id,
                shared: Arc::clone(&self.shared),
                lock,
                built: Mutex::default(),
            });
        }
    }
}

impl Lease {
    /// Its name in the index.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Notes that the build of `name` is done, and its topmost layer. A dry prune tells of it by that
    /// name. It is written when the lease ends.
    pub fn note_build(&self, name: String, layer: LayerId) {
        *self.built.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, layer));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // ORDER: the claims go before the lock. The other way round is no danger, either: claims of
        // a lease without a locked file are void, and collected.
        let built = self.built.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(self.shared.index.release(&self.id, built.take()));
        drop(self.lock.take());
    }
}
