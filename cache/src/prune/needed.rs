//! What images need, and what nothing needs.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::survivors::Survivors;
use super::{PruneKind, PruneOptions};
use crate::index::usage::{Image, Snapshot};
use crate::{ChainId, Digest, LayerId};

/// Blobs that no one refers to stay this long: whoever wrote them may be about to refer to them.
const GRACE: Duration = Duration::from_mins(10);

/// True if people want the thing with this ID kept.
pub(super) fn is_pinned(snapshot: &Snapshot, id: &dyn std::fmt::Display) -> bool {
    !snapshot.pins.is_empty() && snapshot.pins.contains(&id.to_string())
}

/// Layers that were unpacked from images.
pub(super) fn layers_by_chain(snapshot: &Snapshot) -> HashMap<ChainId, LayerId> {
    snapshot
        .layers
        .iter()
        .filter_map(|layer| Some((layer.chain?, layer.id)))
        .collect()
}

/// The layers of an image that are in the store, whether its row names them or they were unpacked
/// for another image with the same lower layers.
pub(super) fn layers_of(image: &Image, by_chain: &HashMap<ChainId, LayerId>) -> Vec<LayerId> {
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
pub(super) fn leftover(
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
            && !is_pinned(snapshot, &layer.id)
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
    needed.extend(&snapshot.list_blobs);
    let mut packed: HashSet<Digest> = HashSet::new();
    for (layer, digest, is_diff_id) in &snapshot.layer_blobs {
        packed.insert(*digest);
        if kept.contains(layer) && (*is_diff_id || !options.all) {
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
                && !is_pinned(snapshot, &blob.digest)
        })
        .map(|blob| blob.digest)
        .collect();
    (layers, blobs)
}
