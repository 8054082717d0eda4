//! The snapshotter for hosts where overlayfs can't be mounted: the stack of layers is copied out
//! into a plain tree, a command runs in it, and what it changed is moved into an overlay upper
//! directory, as the kernel would have made it.
//!
//! What changed is found by inode and change time, which no program can set: [`copy_out`] notes them
//! in a [`Baseline`]. A file whose inode or change time is another one is compared: type, mode, owner,
//! time, attributes, target, and its content whatever its size and time say.
//!
//! Layers are those that overlayfs gives, once they are [settled](crate::layer), but for one thing: writing
//! to one name of a hard link from a lower layer changes its other names, too, as on any plain file
//! system.

mod compare;
mod copy;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

pub use compare::compare;
pub(crate) use compare::{relevant, same_content};
pub use copy::copy_out;

/// What [`copy_out`] left behind, for [`compare()`] to tell what was touched since.
#[derive(Debug, Default)]
pub struct Baseline {
    files: HashMap<PathBuf, Known>,
    /// Devices of the view that could not be made: their absence is no deletion.
    skipped: HashSet<PathBuf>,
}

/// A file as it was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    inode: (u64, u64),
    ctime: (i64, u32),
    /// As the file system stored it, which may be coarser than what was asked for.
    mtime: (i64, u32),
}

#[cfg(test)]
mod tests;
