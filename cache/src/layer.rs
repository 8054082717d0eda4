//! Layers in the making.
//!
//! A layer is a directory that nobody writes to any more. It comes into being in one way: a
//! [`Scratch`] is renamed into `layers/` and a row is inserted, in that order. A crash between the
//! two leaves a directory without a row, which the next collection removes.

use std::path::{Path, PathBuf};

use crate::snapshot::RootfsPlan;
use crate::{ChainId, DiffId, LayerId, Lease, NewRecord, Store, StoreError};

/// Groups of names that are one file: what a tar must write as hard links. Paths are relative to
/// the layer's root, `/` separators, raw bytes; groups and their members are sorted.
///
/// Link counts on disk can't tell: the store links equal files of different layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HardLinks(pub Vec<Vec<Vec<u8>>>);

/// A layer being made: an empty upper directory on a stack of layers.
///
/// A directory step (COPY, ADD, WORKDIR, unpacking) writes into [`upper`](Self::upper) itself. A
/// command gets [`rootfs`](Self::rootfs), which its sandbox mounts. Dropped without a commit, it
/// leaves nothing.
#[derive(Debug)]
#[must_use = "a scratch layer that is not committed is thrown away"]
pub struct Scratch<'store> {
    store: &'store Store,
}

impl Store {
    /// Starts a layer on `stack` (base first). The upper directory's own mode, owner and times are
    /// those of the root below it (0755 0:0 on an empty stack).
    pub fn scratch(&self, stack: &[LayerId]) -> Result<Scratch<'_>, StoreError> {
        let _ = stack;
        todo!()
    }
}

impl Scratch<'_> {
    /// The layers below, base first.
    pub fn stack(&self) -> &[LayerId] {
        let _ = self.store;
        todo!()
    }

    /// The directory that becomes the layer.
    pub fn upper(&self) -> &Path {
        todo!()
    }

    /// A private directory beside the upper one, on the same file system, gone with the scratch.
    pub fn work_dir(&self) -> &Path {
        todo!()
    }

    /// What a sandbox has to mount to see the stack with this scratch on top. With the native
    /// snapshotter this is where the stack is copied out. `stub` is the lowest layer that holds
    /// mount points which the image may lack.
    pub fn rootfs(&mut self, stub: Option<&Path>) -> Result<RootfsPlan, StoreError> {
        let _ = stub;
        todo!()
    }

    /// Removes the directory at `path` (relative to the root) from the diff if the diff holds
    /// nothing else there than the empty directory (or empty file) that a mount point needed, and
    /// its parents that only differ from the layers below in their times because of it.
    pub fn forget_mount_point(&mut self, path: &Path) -> Result<(), StoreError> {
        let _ = path;
        todo!()
    }

    /// Makes the upper directory a layer: native trees are compared with the stack, hard links are
    /// recorded (from inode numbers when `links` is none), overlay's private xattrs are checked,
    /// the directory is renamed and `record` is published with it, claimed for `lease`.
    pub fn commit(
        self,
        lease: &Lease,
        links: Option<HardLinks>,
        record: Option<NewRecord>,
    ) -> Result<LayerId, StoreError> {
        let _ = (lease, links, record);
        todo!()
    }

    /// The same for a layer unpacked from an image. If another process published the same chain
    /// meanwhile, its layer is taken and this one is dropped.
    pub fn commit_unpacked(
        self,
        lease: &Lease,
        links: HardLinks,
        chain: ChainId,
        diff_id: DiffId,
    ) -> Result<LayerId, StoreError> {
        let _ = (lease, links, chain, diff_id);
        todo!()
    }
}

impl Store {
    /// The hard links of a committed layer.
    pub fn hard_links(&self, layer: LayerId) -> Result<HardLinks, StoreError> {
        let _ = layer;
        todo!()
    }

    /// Paths of `stack`, base first: what a [`LayerView`](crate::LayerView) is made of.
    pub fn layer_paths(&self, stack: &[LayerId]) -> Vec<PathBuf> {
        stack.iter().map(|layer| self.layer_path(*layer)).collect()
    }
}
