//! What may go. Never what a lease holds, a named image needs, or a surviving record stands on.
//!
//! | | by default | with `all` |
//! |---|---|---|
//! | images without a name | go | go |
//! | records | go unless a named image has their layer | go |
//! | layers | go when no record, image or lease needs them | same |
//! | blobs of an image or of a layer that stays | stay | only an image's stay: layers can be packed again |
//! | other blobs | go if nobody used them for ten minutes | same |
//! | cache mounts | stay | go unless they are in use |
//!
//! This is what `docker builder prune` and `docker image prune` do together, except that cache
//! mounts are kept unless they are asked for. A record goes only if no surviving record has its layer as
//! parent, the least useful first: unused for long, large, and quickly made again. It ends when all
//! bounds are kept. What is pinned stays, and so does what it stands on.
//!
//! A prune takes a lock of its own, so two don't collide. It decides on a snapshot of the index,
//! without a lock, and takes the rows away in short transactions that check each one again: what was
//! claimed since stays. Only then are the files touched.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::time::Duration;

use crate::failpoint::failpoint;
use crate::index::usage::{Image, Snapshot, Victims};
use crate::lock::FileLock;
use crate::store::now_ms;
use crate::usage::{ItemFilter, MountUsage, items, mounts};
use crate::{CacheRecord, ChainId, Digest, LayerId, Room, Store, StoreError, tree};

/// Blobs that no one refers to stay this long: whoever wrote them may be about to refer to them.
const GRACE: Duration = Duration::from_mins(10);

/// A kind of thing that [`prune`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PruneKind {
    /// Finished steps, and their layers.
    Records,
    /// Images without a name.
    Images,
    /// Blobs that nothing needs.
    Blobs,
    /// Cache mounts.
    Mounts,
}

/// What to prune.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// Records of named images, blobs that can be made again, and cache mounts, too.
    pub all: bool,
    /// Only what was not used for this long.
    pub older_than: Option<Duration>,
    /// Stop removing records and mounts when layers, blobs and mounts take no more bytes than this.
    pub keep_bytes: Option<u64>,
    /// Stop when this much is free on the file system.
    pub min_free: Option<u64>,
    /// Stop when this many inodes are free on the file system.
    pub min_free_inodes: Option<u64>,
    /// Never take records and mounts when all takes no more bytes than this.
    pub reserved_bytes: u64,
    /// Only what this chooses. Cache mounts are among it without `all`, too.
    pub filter: Option<ItemFilter>,
    /// At most so many records.
    pub most_records: Option<usize>,
    /// Nothing at all, if another prune is at work.
    pub unless_busy: bool,
    /// What asks for it, for the log: `strata cache prune`.
    pub why: String,
    /// Only these kinds; empty means all, mounts under `all` only.
    pub kinds: Vec<PruneKind>,
    /// Only say what would go.
    pub dry_run: bool,
}

impl PruneOptions {
    fn wants(&self, kind: PruneKind) -> bool {
        if self.kinds.is_empty() {
            match kind {
                PruneKind::Mounts => self.all || self.filter.is_some(),
                PruneKind::Images => self.filter.is_none(),
                PruneKind::Records | PruneKind::Blobs => true,
            }
        } else {
            self.kinds.contains(&kind)
        }
    }
}

/// One removed (or, in a dry run, removable) step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunedRecord {
    /// The layer it stood for.
    pub layer: LayerId,
    /// The step as people know it.
    pub text: String,
    /// Milliseconds since the epoch.
    pub last_used_ms: u64,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Config digests of images.
    pub images: Vec<Digest>,
    /// Records, in the order in which they were given up.
    pub records: Vec<PrunedRecord>,
    /// Layers and their sizes.
    pub layers: Vec<(LayerId, u64)>,
    /// Blobs and their sizes.
    pub blobs: Vec<(Digest, u64)>,
    /// Ids of cache mounts and their sizes.
    pub mounts: Vec<(String, u64)>,
    /// Bytes of all of these together.
    pub bytes: u64,
    /// Names of images that would not be built from the cache any more.
    pub missed: Vec<String>,
}

/// Removes what nobody needs, and leftovers of dead processes.
pub fn prune(store: &Store, options: &PruneOptions) -> Result<PruneReport, StoreError> {
    if options.dry_run {
        let snapshot = store.index().snapshot()?;
        let mounts = mounts(store, &snapshot);
        let plan = decide(&snapshot, &mounts, options, store.room(), now_ms());
        return Ok(report(&snapshot, &plan.victims, &plan.mounts));
    }
    store.give_up_reserve()?;
    let lock = store.locks_dir().join("prune");
    let lock = if options.unless_busy {
        match FileLock::try_acquire(lock, false)? {
            Some(lock) => lock,
            None => return Ok(PruneReport::default()),
        }
    } else {
        FileLock::acquire(lock, false, &mut || {})?
    };
    store.collect_leftovers()?;
    let snapshot = store.index().snapshot()?;
    let all_mounts = mounts(store, &snapshot);
    let plan = decide(&snapshot, &all_mounts, options, store.room(), now_ms());
    failpoint!("prune.decided");
    let gone = store.index().take_away(&plan.victims)?;
    failpoint!("prune.rows");
    for layer in &gone.layers {
        store.discard_layer_directory(*layer)?;
    }
    for digest in &gone.blobs {
        store.discard_blob_file(*digest)?;
    }
    let mut removed = Vec::new();
    for mount in plan.mounts {
        if remove_mount(store, &mount)? {
            removed.push(mount);
        }
    }
    store.index().trim_log()?;
    store.keep_reserve();
    drop(lock);
    Ok(report(&snapshot, &gone, &removed))
}

/// Removes a cache mount that nobody uses.
pub(crate) fn remove_mount(store: &Store, mount: &MountUsage) -> Result<bool, StoreError> {
    let Some(_lock) = store.try_lock_named(&mount_lock(&mount.id), false)? else {
        return Ok(false);
    };
    let path = store.root().join("mounts").join(&mount.directory);
    let trash = store.shared.owner()?.fresh("trash");
    // ORDER: the mark that says the mount was filled goes first. Without it, a mount that is still
    // there is filled once more; with it, an empty one would never be.
    let ready = path.with_extension("ready");
    match std::fs::remove_file(&ready) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(StoreError::io("remove", &ready, source)),
    }
    match std::fs::rename(&path, &trash) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(StoreError::io("rename", &path, source)),
    }
    store.index().remove_mount(&mount.directory)?;
    tree::remove(&trash)?;
    Ok(true)
}

/// The name of the lock of a cache mount, for [`Store::lock_named`].
pub fn mount_lock(id: &str) -> String {
    format!("mount {id}")
}

/// What goes, and the mounts that go.
#[derive(Debug, Default)]
struct Plan {
    victims: Victims,
    mounts: Vec<MountUsage>,
}

/// When enough is gone.
struct Bounds<'a> {
    options: &'a PruneOptions,
    /// Bytes to begin with.
    start: u64,
    free: Option<Room>,
}

impl Bounds<'_> {
    /// Whether more has to go, with `total` bytes left and so many inodes given back.
    fn want_more(&self, total: u64, inodes: u64) -> bool {
        let options = self.options;
        if total <= options.reserved_bytes && options.reserved_bytes > 0 {
            return false;
        }
        let bounds = [
            options.keep_bytes.map(|keep| total > keep),
            options.min_free.map(|wanted| {
                self.free
                    .is_some_and(|room| room.free + (self.start - total.min(self.start)) < wanted)
            }),
            options.min_free_inodes.map(|wanted| {
                self.free
                    .is_some_and(|room| room.inodes > 0 && room.free_inodes + inodes < wanted)
            }),
        ];
        bounds.iter().all(Option::is_none) || bounds.contains(&Some(true))
    }
}

/// How little a record is worth keeping: how long it was not used and how much it takes, by the time
/// that making it again would cost. Larger goes first.
fn burden(record: &CacheRecord, size: u64, now: u64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "an order is wanted, not a number"
    )]
    let [age, size, cost, uses] = [
        now.saturating_sub(record.last_used_ms) + 1_000,
        size + (64 << 10),
        record.cost_ms + 50,
        record.uses,
    ]
    .map(|number| number as f64);
    // The bits of numbers that are not negative have the numbers' order.
    (age * size / (cost * (1.0 + (1.0 + uses).ln()))).to_bits()
}

fn decide(
    snapshot: &Snapshot,
    mounts: &[MountUsage],
    options: &PruneOptions,
    free_room: Option<Room>,
    now: u64,
) -> Plan {
    let chosen: Option<HashSet<String>> = options.filter.as_ref().map(|filter| {
        items(snapshot, mounts)
            .into_iter()
            .filter(|item| filter.0(item))
            .map(|item| match item.key {
                Some(key) => key.0.to_string(),
                None => item.id,
            })
            .collect()
    });
    let chosen = |id: &dyn Fn() -> String| {
        let id = id();
        !snapshot.pins.contains(&id) && chosen.as_ref().is_none_or(|chosen| chosen.contains(&id))
    };
    let old = |last_used: u64| {
        options.older_than.is_none_or(|age| {
            last_used.saturating_add(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)) <= now
        })
    };
    let mut plan = Plan::default();
    plan.victims.why.clone_from(&options.why);

    // Images: without a name, and not the work of a build that is still running.
    let mut kept_images = Vec::new();
    for image in &snapshot.images {
        if options.wants(PruneKind::Images)
            && image.names.is_empty()
            && old(image.created_ms)
            && !snapshot.leased_blobs.contains(&image.config)
        {
            plan.victims.images.push(image.config);
        } else {
            kept_images.push(image);
        }
    }
    let by_chain = layers_by_chain(snapshot);
    let mut image_layers: HashSet<LayerId> = HashSet::new();
    let mut named_layers: HashSet<LayerId> = HashSet::new();
    let mut image_blobs: HashSet<Digest> = HashSet::new();
    for image in kept_images {
        image_blobs.insert(image.config);
        image_blobs.extend(image.manifest);
        image_blobs.extend(&image.blobs);
        let layers = layers_of(image, &by_chain);
        if !image.names.is_empty() {
            named_layers.extend(&layers);
        }
        image_layers.extend(layers);
    }

    let sizes: HashMap<LayerId, u64> = snapshot
        .layers
        .iter()
        .map(|layer| (layer.id, layer.size))
        .collect();
    let mut total = sizes.values().sum::<u64>()
        + snapshot.blobs.iter().map(|blob| blob.size).sum::<u64>()
        + mounts.iter().map(|mount| mount.size).sum::<u64>();
    let bounds = Bounds {
        options,
        start: total,
        free: free_room,
    };
    let mut inodes = 0;
    let entries: HashMap<LayerId, u64> = snapshot
        .layers
        .iter()
        .map(|layer| (layer.id, layer.entries + 1))
        .collect();
    // Bytes that go whatever happens to the records count as gone already.
    let mut survivors = Survivors::new(snapshot);
    let blob_sizes: HashMap<Digest, u64> = snapshot
        .blobs
        .iter()
        .map(|blob| (blob.digest, blob.size))
        .collect();
    let free = |survivors: &Survivors| {
        leftover(
            snapshot,
            survivors,
            &image_layers,
            &image_blobs,
            options,
            &chosen,
            now,
        )
    };
    let (layers, blobs) = free(&survivors);
    total -= layers.iter().filter_map(|id| sizes.get(id)).sum::<u64>();
    inodes += layers.iter().filter_map(|id| entries.get(id)).sum::<u64>();
    total -= blobs
        .iter()
        .filter_map(|id| blob_sizes.get(id))
        .sum::<u64>();

    if options.wants(PruneKind::Records) {
        let candidate = |index: usize| {
            let record = &snapshot.records[index];
            (options.all || !named_layers.contains(&record.layer))
                && old(record.last_used_ms)
                && !snapshot.leased_layers.contains(&record.layer)
                && !snapshot.pins.contains(&record.layer.to_string())
                && chosen(&|| record.key.0.to_string())
        };
        let weight = |index: usize| {
            let record = &snapshot.records[index];
            let size = sizes.get(&record.layer).copied().unwrap_or(0);
            (burden(record, size, now), Reverse(index))
        };
        let mut leaves = BinaryHeap::new();
        for index in 0..snapshot.records.len() {
            if survivors.is_leaf(index) && candidate(index) {
                leaves.push(weight(index));
            }
        }
        let most = options.most_records.unwrap_or(usize::MAX);
        while let Some((_, Reverse(index))) = leaves.pop() {
            if !bounds.want_more(total, inodes) || plan.victims.records.len() >= most {
                break;
            }
            let record = &snapshot.records[index];
            survivors.remove(index);
            plan.victims.records.push(record.clone());
            // Its layer, and the unpacked one below if this was the last step on it.
            for layer in [Some(record.layer), record.parent].into_iter().flatten() {
                if !survivors.needs(layer)
                    && !image_layers.contains(&layer)
                    && !snapshot.leased_layers.contains(&layer)
                {
                    total = total.saturating_sub(sizes.get(&layer).copied().unwrap_or(0));
                    inodes += entries.get(&layer).copied().unwrap_or(0);
                }
            }
            for parent in survivors.records_of_parent(record) {
                if survivors.is_leaf(parent) && candidate(parent) {
                    leaves.push(weight(parent));
                }
            }
        }
    }

    if options.wants(PruneKind::Mounts) {
        let mut oldest: Vec<&MountUsage> = mounts
            .iter()
            .filter(|mount| {
                !mount.in_use && old(mount.last_used_ms) && chosen(&|| mount.id.clone())
            })
            .collect();
        oldest.sort_by_key(|mount| mount.last_used_ms);
        for mount in oldest {
            if !bounds.want_more(total, inodes) {
                break;
            }
            total = total.saturating_sub(mount.size);
            plan.mounts.push(mount.clone());
        }
    }
    (plan.victims.layers, plan.victims.blobs) = free(&survivors);
    plan
}

/// Layers that were unpacked from images.
fn layers_by_chain(snapshot: &Snapshot) -> HashMap<ChainId, LayerId> {
    snapshot
        .layers
        .iter()
        .filter_map(|layer| Some((layer.chain?, layer.id)))
        .collect()
}

/// The layers of an image that are in the store, whether its row names them or they were unpacked
/// for another image with the same lower layers.
fn layers_of(image: &Image, by_chain: &HashMap<ChainId, LayerId>) -> Vec<LayerId> {
    let mut layers = image.layers.clone();
    let mut chain: Option<ChainId> = None;
    for diff_id in &image.diff_ids {
        let next = match chain {
            None => ChainId(diff_id.0),
            Some(below) => below.push(*diff_id),
        };
        layers.extend(by_chain.get(&next));
        chain = Some(next);
    }
    layers
}

/// For each layer of a named image, one name.
pub(crate) fn names_by_layer(snapshot: &Snapshot) -> HashMap<LayerId, String> {
    let by_chain = layers_by_chain(snapshot);
    let mut names = HashMap::new();
    for image in &snapshot.images {
        if let Some(name) = image.names.first() {
            for layer in layers_of(image, &by_chain) {
                names.entry(layer).or_insert_with(|| name.clone());
            }
        }
    }
    names
}

/// Layers and blobs that nothing needs once only `survivors` are left.
fn leftover(
    snapshot: &Snapshot,
    survivors: &Survivors,
    image_layers: &HashSet<LayerId>,
    image_blobs: &HashSet<Digest>,
    options: &PruneOptions,
    chosen: &dyn Fn(&dyn Fn() -> String) -> bool,
    now: u64,
) -> (Vec<LayerId>, Vec<Digest>) {
    let grace = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
    let age = options
        .older_than
        .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let unused = |last_used: u64, least: u64| last_used.saturating_add(least) <= now;
    let mut kept: HashSet<LayerId> = HashSet::new();
    let mut layers = Vec::new();
    for layer in &snapshot.layers {
        let goes = options.wants(PruneKind::Records)
            && !survivors.needs(layer.id)
            && !image_layers.contains(&layer.id)
            && !snapshot.leased_layers.contains(&layer.id)
            && !snapshot.pins.contains(&layer.id.to_string())
            && (survivors.had(layer.id) || chosen(&|| layer.id.to_string()))
            && unused(layer.last_used_ms, age);
        if goes {
            layers.push(layer.id);
        } else {
            kept.insert(layer.id);
        }
    }
    if !options.wants(PruneKind::Blobs) {
        return (layers, Vec::new());
    }
    let mut needed: HashSet<Digest> = image_blobs.clone();
    needed.extend(&snapshot.leased_blobs);
    let mut packed: HashSet<Digest> = HashSet::new();
    for (layer, digest) in &snapshot.layer_blobs {
        packed.insert(*digest);
        if kept.contains(layer) && !options.all {
            needed.insert(*digest);
        }
    }
    let blobs = snapshot
        .blobs
        .iter()
        .filter(|blob| {
            // A packed layer has been referred to already: nobody is about to.
            let least = if packed.contains(&blob.digest) {
                age
            } else {
                grace.max(age)
            };
            // What a layer was packed into goes with it.
            !needed.contains(&blob.digest)
                && unused(blob.last_used_ms, least)
                && (packed.contains(&blob.digest) || chosen(&|| blob.digest.to_string()))
                && !snapshot.pins.contains(&blob.digest.to_string())
        })
        .map(|blob| blob.digest)
        .collect();
    (layers, blobs)
}

/// The records that are left, and what they stand on.
struct Survivors {
    /// How many surviving records have a layer as theirs.
    own: HashMap<LayerId, u32>,
    /// How many surviving records have a layer as parent.
    children: HashMap<LayerId, u32>,
    /// Records by their layer.
    by_layer: HashMap<LayerId, Vec<usize>>,
    layers: Vec<LayerId>,
    parents: Vec<Option<LayerId>>,
    alive: Vec<bool>,
}

impl Survivors {
    fn new(snapshot: &Snapshot) -> Self {
        let mut this = Self {
            own: HashMap::new(),
            children: HashMap::new(),
            by_layer: HashMap::new(),
            layers: Vec::new(),
            parents: Vec::new(),
            alive: vec![true; snapshot.records.len()],
        };
        for (index, record) in snapshot.records.iter().enumerate() {
            *this.own.entry(record.layer).or_default() += 1;
            this.by_layer.entry(record.layer).or_default().push(index);
            if let Some(parent) = record.parent {
                *this.children.entry(parent).or_default() += 1;
            }
            this.layers.push(record.layer);
            this.parents.push(record.parent);
        }
        this
    }

    fn is_leaf(&self, index: usize) -> bool {
        self.alive[index] && self.children.get(&self.layers[index]).copied().unwrap_or(0) == 0
    }

    fn remove(&mut self, index: usize) {
        self.alive[index] = false;
        if let Some(count) = self.own.get_mut(&self.layers[index]) {
            *count -= 1;
        }
        if let Some(count) = self.parents[index].and_then(|parent| self.children.get_mut(&parent)) {
            *count -= 1;
        }
    }

    /// Records whose layer is the parent of `record`.
    fn records_of_parent(&self, record: &CacheRecord) -> Vec<usize> {
        record
            .parent
            .and_then(|parent| self.by_layer.get(&parent))
            .cloned()
            .unwrap_or_default()
    }

    /// True if there were records of this layer: it goes with the last of them.
    fn had(&self, layer: LayerId) -> bool {
        self.own.contains_key(&layer)
    }

    /// True if a surviving record is of this layer or stands on it.
    fn needs(&self, layer: LayerId) -> bool {
        self.own.get(&layer).copied().unwrap_or(0) > 0
            || self.children.get(&layer).copied().unwrap_or(0) > 0
    }
}

fn report(snapshot: &Snapshot, gone: &Victims, mounts: &[MountUsage]) -> PruneReport {
    let layer_sizes: HashMap<LayerId, u64> = snapshot
        .layers
        .iter()
        .map(|layer| (layer.id, layer.size))
        .collect();
    let blob_sizes: HashMap<Digest, u64> = snapshot
        .blobs
        .iter()
        .map(|blob| (blob.digest, blob.size))
        .collect();
    let mut report = PruneReport {
        images: gone.images.clone(),
        records: gone
            .records
            .iter()
            .map(|record| PrunedRecord {
                layer: record.layer,
                text: record.text.clone(),
                last_used_ms: record.last_used_ms,
            })
            .collect(),
        layers: gone
            .layers
            .iter()
            .map(|id| (*id, layer_sizes.get(id).copied().unwrap_or(0)))
            .collect(),
        blobs: gone
            .blobs
            .iter()
            .map(|digest| (*digest, blob_sizes.get(digest).copied().unwrap_or(0)))
            .collect(),
        mounts: mounts
            .iter()
            .map(|mount| (mount.id.clone(), mount.size))
            .collect(),
        bytes: 0,
        missed: Vec::new(),
    };
    let names = names_by_layer(snapshot);
    report.missed = gone
        .records
        .iter()
        .filter_map(|record| names.get(&record.layer).cloned())
        .collect();
    report.missed.sort_unstable();
    report.missed.dedup();
    report.bytes = report.layers.iter().map(|(_, size)| size).sum::<u64>()
        + report.blobs.iter().map(|(_, size)| size).sum::<u64>()
        + report.mounts.iter().map(|(_, size)| size).sum::<u64>();
    report
}

#[cfg(test)]
mod tests;
