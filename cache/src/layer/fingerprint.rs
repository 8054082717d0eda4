//! What a layer's archive says of its entries, in one number.
//!
//! It tells whether a layer came out as it was to, in the process that made it. It is never kept, and no proof
//! against anybody: who makes a layer and who looks at it are the same program.

use std::hash::{DefaultHasher, Hash, Hasher as _};

use crate::view::FileKind;

/// Entries in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    entries: u64,
    sum: u64,
}

impl Fingerprint {
    /// Adds the entry `name` of the directory `parent`: its mode, owner, size and time in seconds. The size of a
    /// directory and the mode of a symlink are no part of it.
    pub(crate) fn add(
        &mut self,
        parent: &[u8],
        name: &[u8],
        kind: FileKind,
        (mode, owner, size, mtime): (u32, (u32, u32), u64, i64),
    ) {
        let mode = if kind == FileKind::Symlink { 0 } else { mode };
        let size = if kind == FileKind::Directory { 0 } else { size };
        let mut hasher = DefaultHasher::new();
        (parent, name).hash(&mut hasher);
        (kind as u8, mode, owner, size, mtime).hash(&mut hasher);
        self.sum = self.sum.wrapping_add(hasher.finish());
        self.entries += 1;
    }

    /// Adds what another one has.
    pub(crate) fn merge(&mut self, other: Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.entries += other.entries;
    }
}
