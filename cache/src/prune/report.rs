//! What went, or would go.

use std::collections::HashMap;

use super::needed::names_by_layer;
use super::{PruneReport, PrunedRecord};
use crate::index::usage::{Snapshot, Victims};
use crate::usage::MountUsage;
use crate::{Digest, LayerId};

pub(super) fn report(snapshot: &Snapshot, gone: &Victims, mounts: &[MountUsage]) -> PruneReport {
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
    report.bytes = report.layers.iter().map(|(_, size)| size).sum::<u64>()
        + report.blobs.iter().map(|(_, size)| size).sum::<u64>()
        + report.mounts.iter().map(|(_, size)| size).sum::<u64>();
    report
}
