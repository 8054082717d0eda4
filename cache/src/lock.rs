//! Locks between processes: flock on small files, freed by the kernel when their holder dies.

/// The lock of one cache key, held until dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct KeyGuard {}
