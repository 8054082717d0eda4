//! How long-running work tells how far it is.

/// Receives how far a download, an upload or an export has come. Called from several threads, often
/// enough to draw a bar and not more.
pub trait Progress: Sync {
    /// `what` is being moved (a short digest, a file); `done` of `total` bytes are. The last call
    /// for a `what` has `done` equal to `total`.
    fn update(&self, what: &str, done: u64, total: Option<u64>);
}

impl<F: Fn(&str, u64, Option<u64>) + Sync> Progress for F {
    fn update(&self, what: &str, done: u64, total: Option<u64>) {
        self(what, done, total);
    }
}

/// For callers who do not want to know.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn update(&self, _: &str, _: u64, _: Option<u64>) {}
}
