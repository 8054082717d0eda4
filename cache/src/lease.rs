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
    what: String,
    shared: Arc<Shared>,
    /// None while it only looks, and in a store that can't be written to.
    lock: Mutex<Option<FileLock>>,
    /// What was built, by name, and the layer that came out.
    built: Mutex<Option<(String, LayerId)>>,
}

impl Store {
    /// Starts a lease: until it is dropped (or its process dies) nothing that was claimed or
    /// published under it is removed. `what` is for people who look into `leases/`.
    pub fn lease(&self, what: &str) -> Result<Lease, StoreError> {
        let lease = self.lease_or_look(what)?;
        lease.must_hold()?;
        Ok(lease)
    }

    /// A lease for somebody who perhaps only looks: what is found is noted, and nothing is written.
    /// Before anything is done that relies on what was found, it [must hold](Lease::must_hold).
    pub fn lease_or_look(&self, what: &str) -> Result<Lease, StoreError> {
        let id = random_name()?;
        self.shared.index.look(&id);
        Ok(Lease {
            id,
            what: what.to_owned(),
            shared: Arc::clone(&self.shared),
            lock: Mutex::default(),
            built: Mutex::default(),
        })
    }
}

impl Lease {
    /// From now on what was found is held, and whatever is claimed later. [`StoreError::Pruned`] if some
    /// of it is gone: then look again, under a lease that holds from the beginning.
    pub fn must_hold(&self) -> Result<(), StoreError> {
        // What is looked up from now on is to be what others leave.
        self.shared.index.end_state()?;
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            return Ok(());
        }
        if !self.shared.index.is_read_only() {
            // ORDER: the locked file comes before its claims, which are void without.
            let path = self.shared.root.join("leases").join(&self.id);
            let made = loop {
                // A collection may have it for a moment.
                if let Some(made) = FileLock::try_acquire(path.clone(), false)? {
                    break made;
                }
                std::thread::yield_now();
            };
            // For people only; nothing reads it.
            drop(writeln!(
                made.file(),
                "{} {}",
                std::process::id(),
                self.what
            ));
            *lock = Some(made);
        }
        let held = self.shared.index.hold(&self.id);
        if held.is_err() {
            *lock = None;
        }
        held
    }

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
        let lock = self.lock.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(lock.take());
    }
}
