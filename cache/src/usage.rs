//! What the store holds and how much room it takes: `cache du` and `cache ls`.

use std::collections::HashSet;
use std::path::Path;

use crate::index::usage::Snapshot;
use crate::prune::{PruneOptions, mount_lock, prune};
use crate::{LayerId, StepKind, Store, StoreError, tree};

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes allocated on disk for files, or their length for blobs.
    pub bytes: u64,
}

/// What takes how much room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Committed layers. A file that two layers share by a hard link counts for both.
    pub layers: Amount,
    /// Blobs.
    pub blobs: Amount,
    /// Cache mounts.
    pub mounts: Amount,
    /// Work in progress, and what dead processes left.
    pub scratch: Amount,
    /// The index with its log, the stat caches, and the reserve for pruning a full store.
    pub index: Amount,
    /// Bytes of all together.
    pub total: u64,
    /// Bytes that pruning all would free.
    pub reclaimable: u64,
}

/// What kind of thing a row of the listing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A finished step with its layer.
    Step(StepKind),
    /// A layer that was unpacked from an image.
    Unpacked,
    /// A layer that no record or image names any more.
    Orphan,
    /// A blob.
    Blob,
    /// A cache mount.
    Mount,
}

impl ItemKind {
    /// The word that listings use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Step(kind) => kind.as_str(),
            Self::Unpacked => "image",
            Self::Orphan => "orphan",
            Self::Blob => "blob",
            Self::Mount => "mount",
        }
    }
}

/// One thing in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// Layer id, digest, or cache mount id.
    pub id: String,
    /// The step's text; a name of an image that has the layer or blob; empty otherwise.
    pub text: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Milliseconds since the epoch.
    pub last_used_ms: u64,
    /// How often a record was hit; none for other things.
    pub uses: Option<u64>,
    /// True if a running build holds it.
    pub in_use: bool,
    /// True if a named image needs it.
    pub named: bool,
}

/// A cache mount and its room.
#[derive(Debug, Clone)]
pub(crate) struct MountUsage {
    pub(crate) directory: String,
    pub(crate) id: String,
    pub(crate) size: u64,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
    pub(crate) in_use: bool,
}

/// Measures the cache mounts of `snapshot`.
pub(crate) fn mounts(store: &Store, snapshot: &Snapshot) -> Vec<MountUsage> {
    snapshot
        .mounts
        .iter()
        .map(|mount| MountUsage {
            directory: mount.directory.clone(),
            id: mount.id.clone(),
            size: tree::usage(&store.root().join("mounts").join(&mount.directory)).0,
            created_ms: mount.created_ms,
            last_used_ms: mount.last_used_ms,
            in_use: matches!(
                store.try_lock_named(&mount_lock(&mount.id), false),
                Ok(None)
            ),
        })
        .collect()
}

/// Measures the store.
pub fn usage(store: &Store) -> Result<Usage, StoreError> {
    let snapshot = store.index().snapshot()?;
    let mut usage = Usage::default();
    for layer in &snapshot.layers {
        usage.layers.count += 1;
        usage.layers.bytes += layer.size;
    }
    for blob in &snapshot.blobs {
        usage.blobs.count += 1;
        usage.blobs.bytes += blob.size;
    }
    for mount in mounts(store, &snapshot) {
        usage.mounts.count += 1;
        usage.mounts.bytes += mount.size;
    }
    let (bytes, entries) = tree::usage(&store.root().join("scratch"));
    usage.scratch = Amount {
        count: entries,
        bytes,
    };
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        if let Some(bytes) = file_bytes(&store.root().join(name)) {
            usage.index.count += 1;
            usage.index.bytes += bytes;
        }
    }
    for name in ["statcache", "reserve"] {
        let (bytes, entries) = tree::usage(&store.root().join(name));
        usage.index.count += entries;
        usage.index.bytes += bytes;
    }
    usage.total = usage.layers.bytes
        + usage.blobs.bytes
        + usage.mounts.bytes
        + usage.scratch.bytes
        + usage.index.bytes;
    usage.reclaimable = prune(
        store,
        &PruneOptions {
            all: true,
            dry_run: true,
            ..PruneOptions::default()
        },
    )?
    .bytes;
    Ok(usage)
}

fn file_bytes(path: &Path) -> Option<u64> {
    rustix::fs::lstat(path)
        .ok()
        .map(|stat| tree::allocated(&stat))
}

/// Everything in the store: steps newest first, then layers of images, blobs, and cache mounts.
pub fn list(store: &Store) -> Result<Vec<Item>, StoreError> {
    let snapshot = store.index().snapshot()?;
    let mut items = Vec::new();
    let mut listed: HashSet<LayerId> = HashSet::new();
    let sizes: std::collections::HashMap<LayerId, u64> = snapshot
        .layers
        .iter()
        .map(|layer| (layer.id, layer.size))
        .collect();
    let name_of = crate::prune::names_by_layer(&snapshot);
    for record in &snapshot.records {
        items.push(Item {
            kind: ItemKind::Step(record.kind),
            id: record.layer.to_string(),
            text: record.text.clone(),
            // A second record of one layer takes no room of its own.
            size: if listed.insert(record.layer) {
                sizes.get(&record.layer).copied().unwrap_or(0)
            } else {
                0
            },
            created_ms: record.created_ms,
            last_used_ms: record.last_used_ms,
            uses: Some(record.uses),
            in_use: snapshot.leased_layers.contains(&record.layer),
            named: name_of.contains_key(&record.layer),
        });
    }
    for layer in &snapshot.layers {
        if listed.contains(&layer.id) {
            continue;
        }
        let name = name_of.get(&layer.id);
        items.push(Item {
            kind: if layer.chain.is_some() || name.is_some() {
                ItemKind::Unpacked
            } else {
                ItemKind::Orphan
            },
            id: layer.id.to_string(),
            text: name.cloned().unwrap_or_default(),
            size: layer.size,
            created_ms: layer.created_ms,
            last_used_ms: layer.last_used_ms,
            uses: None,
            in_use: snapshot.leased_layers.contains(&layer.id),
            named: name.is_some(),
        });
    }
    for blob in &snapshot.blobs {
        let name = snapshot
            .images
            .iter()
            .find(|image| {
                image.config == blob.digest
                    || image.manifest == Some(blob.digest)
                    || image.blobs.contains(&blob.digest)
            })
            .and_then(|image| image.names.first());
        items.push(Item {
            kind: ItemKind::Blob,
            id: blob.digest.to_string(),
            text: name.cloned().unwrap_or_default(),
            size: blob.size,
            created_ms: blob.created_ms,
            last_used_ms: blob.last_used_ms,
            uses: None,
            in_use: snapshot.leased_blobs.contains(&blob.digest),
            named: name.is_some(),
        });
    }
    for mount in mounts(store, &snapshot) {
        items.push(Item {
            kind: ItemKind::Mount,
            id: mount.id,
            text: String::new(),
            size: mount.size,
            created_ms: mount.created_ms,
            last_used_ms: mount.last_used_ms,
            uses: None,
            in_use: mount.in_use,
            named: false,
        });
    }
    Ok(items)
}
