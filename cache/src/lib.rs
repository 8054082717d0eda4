//! The store: layers, blobs, records and leases, shared by any number of processes.
//!
//! Everything that strata keeps between two runs is here. The crate knows nothing of Dockerfiles
//! or registries: it hands out layers (directories that the kernel can union-mount), blobs (files
//! named by their digest), and records (which layer a cache key stands for), and it decides what
//! may be removed. `docs/store.md` describes the directory tree, the locks and the crash states.

mod attributes;
pub mod beneath;
pub mod blob;
pub mod brief;
mod clone;
pub mod codec;
mod collect;
mod content;
pub mod contents;
pub mod diff;
mod digest;
mod error;
mod failpoint;
pub mod gc;
pub mod image;
pub mod index;
pub mod layer;
pub mod lease;
pub mod lock;
pub mod mount;
pub mod owner;
pub mod pipe;
pub mod prune;
pub mod record;
mod room;
pub mod slot;
pub mod snapshot;
pub mod statcache;
pub mod store;
mod tree;
pub mod usage;
pub mod verify;
pub mod view;
pub mod walks;
mod xattr;

pub use clone::{append_file, clone_file, clone_file_in_steps};
pub use contents::{FileSet, KnownLayer};
pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher, LayerId, StackId};
pub use layer::{HardLinks, Scratch};
pub use lease::Lease;
pub use record::{CacheKey, CacheRecord, KeyPart, NewRecord, RecordInputs, Resources, StepKind};
pub use room::Room;
pub use snapshot::{RootfsPlan, Snapshotter};
pub use store::{Flavour, OpenOptions, Store, StoreError};
pub use view::LayerView;
