//! Leases: what a running build may still need.

/// A running build's claim. While it lives, pruning leaves alone what was claimed or published
/// under it. It dies with its process: it is a locked file.
#[derive(Debug)]
#[must_use = "a lease that is dropped protects nothing"]
pub struct Lease {}

impl Lease {
    /// Its name in the index.
    pub fn id(&self) -> &str {
        todo!()
    }
}
