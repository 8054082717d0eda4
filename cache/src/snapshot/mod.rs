//! How a stack of layers becomes a root file system.

pub mod native;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which way of stacking layers this host allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Snapshotter {
    /// Kernel overlayfs, with `trusted.overlay.*` or `user.overlay.*` xattrs by the store's flavour.
    Overlay,
    /// The stack is copied out and compared afterwards. Same results, slower.
    Native,
}

/// What a sandbox has to mount as its root: the one value through which a step sees the layers
/// below it, so that something else (a tracer) could stand in for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootfsPlan {
    /// Mount an overlay. `redirect_dir`, `metacopy` and `index` are asked to be off.
    Overlay {
        /// Lower directories, topmost first. Never empty: an empty stack has an empty directory.
        lowers: Vec<PathBuf>,
        /// Upper directory, or none for a read-only root.
        upper: Option<PathBuf>,
        /// Work directory, on the same file system as the upper one.
        work: Option<PathBuf>,
        /// Ask for `userxattr`.
        userxattr: bool,
    },
    /// A plain directory, ready to use.
    Native {
        /// The directory.
        tree: PathBuf,
    },
}
