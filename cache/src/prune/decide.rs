//! Which things go: on a snapshot of the index, without touching anything.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::needed::{is_pinned, layers_by_chain, layers_of, leftover};
use super::survivors::Survivors;
use super::{PruneKind, PruneOptions};
use crate::index::usage::{Snapshot, Victims};
use crate::usage::{MountUsage, items};
use crate::{CacheRecord, Digest, LayerId, Room};

/// What goes, and the mounts that go.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) victims: Victims,
    pub(super) mounts: Vec<MountUsage>,
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

pub(super) fn decide(
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
        if snapshot.pins.is_empty() && chosen.is_none() {
            return true;
        }
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
                && !is_pinned(snapshot, &record.layer)
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
        while let Some((_, Reverse(index))) = leaves.pop() {
            if !bounds.want_more(total, inodes) {
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
