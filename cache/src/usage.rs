//! What the store holds and how much room it takes: `cache du` and `cache ls`.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::index::usage::Snapshot;
use crate::prune::{mount_lock, reclaimable};
use crate::{CacheKey, LayerId, StepKind, Store, StoreError, tree};

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Bytes allocated on disk.
    pub bytes: u64,
}

/// What takes how much room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Committed layers. A file that several share by hard links counts once.
    pub layers: Amount,
    /// Blobs.
    pub blobs: Amount,
    /// Cache mounts.
    pub mounts: Amount,
    /// Work in progress, and what dead processes left.
    pub scratch: Amount,
    /// The index with its log, the stat caches, the reserve for pruning a full store, and whatever else
    /// there is.
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "a row of a listing: each is a column of its own"
)]
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
    /// True if it is kept whatever is pruned.
    pub pinned: bool,
    /// True if more than one step or image has it.
    pub shared: bool,
    /// Recent builds that ended with it, latest first: by a tag in full, or by context.
    pub builds: Vec<String>,
    /// ID of the layer that a step was made on.
    pub parent: Option<String>,
    /// The recipe key of a step.
    pub key: Option<CacheKey>,
    /// Wall-clock milliseconds that a step took.
    pub cost_ms: Option<u64>,
}

/// Chooses among [`Item`]s.
#[derive(Clone)]
pub struct ItemFilter(pub Arc<dyn Fn(&Item) -> bool + Send + Sync>);

impl std::fmt::Debug for ItemFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ItemFilter")
    }
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
    let root = store.root();
    let mounts = mounts(store, &snapshot);
    // The layers' own sizes would count twice what they share.
    let mut seen = HashSet::new();
    let (layers, reclaimable) = rayon::join(
        || tree::usage_of_children(&root.join("layers"), &mut seen).0,
        || reclaimable(store, &snapshot, &mounts),
    );
    let mut measure = |name: &str| tree::usage_but(&root.join(name), &mut seen).0;
    let mut usage = Usage {
        reclaimable,
        layers: Amount {
            count: snapshot.layers.len() as u64,
            bytes: layers,
        },
        blobs: Amount {
            count: snapshot.blobs.len() as u64,
            bytes: measure("blobs"),
        },
        mounts: Amount {
            count: snapshot.mounts.len() as u64,
            bytes: measure("mounts"),
        },
        ..Usage::default()
    };
    let (bytes, count) = tree::usage_but(&root.join("scratch"), &mut seen);
    usage.scratch = Amount { count, bytes };
    // Whatever else is there: the index, stat caches, locks, the reserve.
    for name in crate::collect::names(root)? {
        let path = root.join(&name);
        if ["layers", "blobs", "mounts", "scratch"]
            .iter()
            .any(|known| name == *known)
        {
            usage.index.bytes += file_bytes(&path).unwrap_or(0);
            continue;
        }
        let (bytes, count) = tree::usage_but(&path, &mut seen);
        usage.index.count += count + 1;
        usage.index.bytes += bytes + file_bytes(&path).unwrap_or(0);
    }
    usage.index.bytes += file_bytes(root).unwrap_or(0);
    usage.total = usage.layers.bytes
        + usage.blobs.bytes
        + usage.mounts.bytes
        + usage.scratch.bytes
        + usage.index.bytes;
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
    let mounts = mounts(store, &snapshot);
    Ok(items(&snapshot, &mounts))
}

/// [`list`] of a snapshot that is there.
pub(crate) fn items(snapshot: &Snapshot, mounts: &[MountUsage]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut listed: HashSet<LayerId> = HashSet::new();
    let mut owners: HashMap<LayerId, u32> = HashMap::new();
    let layers_of_images = snapshot.images.iter().flat_map(|image| &image.layers);
    for layer in snapshot
        .records
        .iter()
        .map(|record| &record.layer)
        .chain(layers_of_images)
    {
        *owners.entry(*layer).or_default() += 1;
    }
    let shared = |layer: LayerId| owners.get(&layer).is_some_and(|count| *count > 1);
    let mut ends: HashMap<LayerId, Vec<String>> = HashMap::new();
    for build in &snapshot.builds {
        let names = ends.entry(build.layer).or_default();
        names.push(build.name.clone());
    }
    let builds = |layer: LayerId| ends.get(&layer).cloned().unwrap_or_default();
    let pinned = |id: &str| snapshot.pins.contains(id);
    let sizes: HashMap<LayerId, u64> = snapshot
        .layers
        .iter()
        .map(|layer| (layer.id, layer.size))
        .collect();
    let name_of = crate::prune::names_by_layer(snapshot);
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
            pinned: pinned(&record.layer.to_string()),
            shared: shared(record.layer),
            builds: builds(record.layer),
            parent: record.parent.map(|parent| parent.to_string()),
            key: Some(record.key),
            cost_ms: Some(record.cost_ms),
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
            pinned: pinned(&layer.id.to_string()),
            shared: shared(layer.id),
            builds: builds(layer.id),
            parent: None,
            key: None,
            cost_ms: None,
        });
    }
    let mut blob_owners: HashMap<crate::Digest, Vec<&crate::index::usage::Image>> = HashMap::new();
    for image in &snapshot.images {
        let blobs = image.blobs.iter().copied();
        for blob in blobs.chain([image.config]).chain(image.manifest) {
            blob_owners.entry(blob).or_default().push(image);
        }
    }
    for blob in &snapshot.blobs {
        let owners = blob_owners.get(&blob.digest).map_or(&[][..], Vec::as_slice);
        let name = owners.iter().find_map(|image| image.names.first());
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
            pinned: pinned(&blob.digest.to_string()),
            shared: owners.len() > 1,
            builds: Vec::new(),
            parent: None,
            key: None,
            cost_ms: None,
        });
    }
    for mount in mounts {
        items.push(Item {
            kind: ItemKind::Mount,
            id: mount.id.clone(),
            text: String::new(),
            size: mount.size,
            created_ms: mount.created_ms,
            last_used_ms: mount.last_used_ms,
            uses: None,
            in_use: mount.in_use,
            named: false,
            pinned: pinned(&mount.id),
            shared: false,
            builds: Vec::new(),
            parent: None,
            key: None,
            cost_ms: None,
        });
    }
    items
}
