//! What went, or would go.

use std::collections::{HashMap, HashSet};

use super::needed::names_by_layer;
use super::{PruneReport, PrunedRecord};
use crate::index::usage::{Snapshot, Victims};
use crate::usage::MountUsage;
use crate::{CacheRecord, Digest, LayerId};

/// Older builds are nobody's concern: their steps may have gone long ago.
const RECENT_MS: u64 = 14 * 86_400_000;

pub(super) fn report(
    snapshot: &Snapshot,
    gone: &Victims,
    mounts: &[MountUsage],
    now: u64,
) -> PruneReport {
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
        builds: Vec::new(),
        cut_short: false,
    };
    let names = names_by_layer(snapshot);
    report.missed = gone
        .records
        .iter()
        .filter_map(|record| names.get(&record.layer).cloned())
        .collect();
    report.missed.sort_unstable();
    report.missed.dedup();
    report.builds = builds(snapshot, gone, now);
    report
        .builds
        .retain(|(name, _)| !report.missed.contains(name));
    report.bytes = report.layers.iter().map(|(_, size)| size).sum::<u64>()
        + report.blobs.iter().map(|(_, size)| size).sum::<u64>()
        + report.mounts.iter().map(|(_, size)| size).sum::<u64>();
    report
}

/// Recent builds that stand on a record that goes.
fn builds(snapshot: &Snapshot, gone: &Victims, now: u64) -> Vec<(String, u64)> {
    if gone.records.is_empty() {
        return Vec::new();
    }
    let gone: HashSet<_> = gone.records.iter().map(|record| record.key).collect();
    let mut by_layer: HashMap<LayerId, Vec<&CacheRecord>> = HashMap::new();
    for record in &snapshot.records {
        by_layer.entry(record.layer).or_default().push(record);
    }
    let misses = |top: LayerId| {
        let mut pending = vec![top];
        let mut seen = HashSet::new();
        while let Some(layer) = pending.pop() {
            let records = by_layer.get(&layer).map_or(&[][..], Vec::as_slice);
            if records.iter().any(|record| gone.contains(&record.key)) {
                return true;
            }
            let parents = records.iter().filter_map(|record| record.parent);
            pending.extend(parents.filter(|parent| seen.insert(*parent)));
        }
        false
    };
    let recent = snapshot
        .builds
        .iter()
        .filter(|build| now.saturating_sub(build.at_ms) < RECENT_MS && misses(build.layer));
    recent
        .map(|build| (build.name.clone(), build.at_ms))
        .collect()
}
