//! How much room the store's file system has, and a little that is kept for pruning.
//!
//! Taking rows out of the index needs room itself: the log grows before anything is freed. So the
//! store keeps a reserve, a file with blocks and some empty ones for their inodes, which a prune
//! gives up when it finds the file system full.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use crate::{Store, StoreError, tree};

/// Bytes kept for pruning.
const RESERVE: u64 = 4 << 20;

/// Files kept for pruning, each an inode: locks, a scratch directory, a log.
const FILES: u32 = 8;

/// With less than this nothing of use can be written.
const FULL: u64 = 64 << 10;

/// Room of a file system, for those who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes in all.
    pub total: u64,
    /// Files that can still be made; 0 of 0 where the file system sets no bound.
    pub free_inodes: u64,
    /// Files in all.
    pub inodes: u64,
}

impl Room {
    /// The room where `path` is, or where the nearest directory above it is.
    pub fn of(path: &Path) -> Option<Self> {
        let found = path
            .ancestors()
            .find_map(|path| rustix::fs::statvfs(path).ok())?;
        Some(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free_inodes: found.f_favail,
            inodes: found.f_files,
        })
    }

    /// True if there is next to no room.
    pub fn is_full(&self) -> bool {
        self.free < FULL || (self.inodes > 0 && self.free_inodes == 0)
    }

    /// True if a prune may fail for want of room.
    fn is_tight(&self) -> bool {
        self.free < RESERVE || (self.inodes > 0 && self.free_inodes < u64::from(2 * FILES))
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inodes > 0 && self.free_inodes == 0 {
            return write!(f, "all {} inodes are used", self.inodes);
        }
        let mib = |bytes: u64| {
            let tenths = bytes.saturating_mul(10) >> 20;
            format!("{}.{} MiB", tenths / 10, tenths % 10)
        };
        write!(f, "{} of {} are free", mib(self.free), mib(self.total))
    }
}

impl Store {
    /// The room that the store's file system has.
    pub fn room(&self) -> Option<Room> {
        Room::of(self.root())
    }

    fn reserve(&self) -> PathBuf {
        self.root().join("reserve")
    }

    /// Makes the reserve if it is not there and there is plenty of room. What fails is tried again
    /// another time.
    pub(crate) fn keep_reserve(&self) {
        let path = self.reserve();
        let plenty = self
            .room()
            .is_some_and(|room| room.free > 4 * RESERVE && !room.is_tight());
        if !plenty || path.exists() {
            return;
        }
        if DirBuilder::new().mode(0o700).create(&path).is_err() {
            return;
        }
        for number in 0..FILES {
            let Ok(file) = File::create(path.join(number.to_string())) else {
                return;
            };
            if number == 0 {
                // Where blocks can't be set aside there is no reserve of them.
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE).ok();
            }
        }
    }

    /// Gives the reserve up if there is no other room.
    pub(crate) fn give_up_reserve(&self) -> Result<(), StoreError> {
        if self.room().is_some_and(|room| room.is_tight()) {
            tree::remove(&self.reserve())?;
        }
        Ok(())
    }
}
