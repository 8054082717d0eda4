//! Leases: what a running build may still need.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// A claim for which there is no room is a mere look-up.
    looks: AtomicBool,
    /// The first one that was.
    no_room: Mutex<Option<StoreError>>,
}

impl Store {
    /// Starts a lease: until it is dropped (or its process dies) nothing that was claimed or
    /// published under it is removed. `what` is for people who look into `leases/`.
    pub fn lease(&self, what: &str) -> Result<Lease, StoreError> {
        let lease = self.lease_or_look(what)?;
        lease.must_hold()?;
        Ok(lease)
    }

    /// A lease for somebody who perhaps only looks: where there is no room to claim anything, look-ups
    /// go on without. Before anything is done that relies on what was found, it
    /// [must hold](Lease::must_hold).
    pub fn lease_or_look(&self, what: &str) -> Result<Lease, StoreError> {
        loop {
            let id = random_name()?;
            let mut no_room = None;
            let lock = if self.is_read_only() {
                None
            } else {
                let path = self.root().join("leases").join(&id);
                match FileLock::try_acquire(path, false) {
                    Ok(None) => continue,
                    Ok(Some(lock)) => {
                        // For people only; nothing reads it.
                        drop(writeln!(lock.file(), "{} {what}", std::process::id()));
                        Some(lock)
                    }
                    Err(error) if error.is_no_space() => {
                        no_room = Some(error);
                        None
                    }
                    Err(error) => return Err(error),
                }
            };
            self.shared.index.hold(&id);
            return Ok(Lease {
                id,
                shared: Arc::clone(&self.shared),
                lock,
                built: Mutex::default(),
                looks: AtomicBool::new(true),
                no_room: Mutex::new(no_room),
            });
        }
    }
}

impl Lease {
    /// From now on whatever is claimed is held, or the claim fails. Fails if that was not so before.
    pub fn must_hold(&self) -> Result<(), StoreError> {
        self.looks.store(false, Ordering::Relaxed);
        let mut no_room = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
        no_room.take().map_or(Ok(()), Err)
    }

    /// Whether a claim that failed with `error` may go on as a look-up: in a store that can't be written
    /// to, and where there is no room while this lease only looks.
    pub(crate) fn may_look(&self, error: StoreError) -> Result<(), StoreError> {
        if error.is_read_only() {
            return Ok(());
        }
        if error.is_no_space() && self.looks.load(Ordering::Relaxed) {
            let mut no_room = self.no_room.lock().unwrap_or_else(PoisonError::into_inner);
            no_room.get_or_insert(error);
            return Ok(());
        }
        Err(error)
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
        drop(self.lock.take());
    }
}
