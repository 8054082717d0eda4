//! Times that a clock which jumped has left.
//!
//! A time in the future says nothing of when something was used, but the order in which rows were made is
//! known. So what claims to come from the future counts as made when its elders were, and as not used
//! since: neither is it kept for ever, nor does a clock that is far behind make everything old.

use crate::index::usage::Snapshot;

/// Clocks of one machine differ by less than this from one boot to the next, as a rule.
const SKEW_MS: u64 = 3_600_000;

/// Puts times from the future where they most likely belong.
pub(super) fn tame(snapshot: &mut Snapshot, now: u64) {
    let latest = now.saturating_add(SKEW_MS);
    let records = snapshot.records.iter_mut().rev();
    straighten(
        records.map(|it| (it.made_ms, &mut it.last_used_ms)),
        now,
        latest,
    );
    let layers = snapshot.layers.iter_mut();
    straighten(
        layers.map(|it| (it.created_ms, &mut it.last_used_ms)),
        now,
        latest,
    );
    let blobs = snapshot.blobs.iter_mut();
    straighten(
        blobs.map(|it| (it.created_ms, &mut it.last_used_ms)),
        now,
        latest,
    );
    let images = snapshot.images.iter_mut().rev();
    straighten(
        images.map(|it| (it.created_ms, &mut it.created_ms)),
        now,
        latest,
    );
    for mount in &mut snapshot.mounts {
        if mount.last_used_ms > latest {
            mount.last_used_ms = mount.created_ms.min(now);
        }
    }
}

/// Rows in the order in which they were made: when each says that it was made and used.
fn straighten<'a>(rows: impl Iterator<Item = (u64, &'a mut u64)>, now: u64, latest: u64) {
    // Nothing sane before: the clock is behind, and nothing is old.
    let mut elders = None;
    for (made, last_used) in rows {
        if made <= latest {
            elders = elders.max(Some(made));
        }
        if *last_used > latest {
            *last_used = elders.unwrap_or(now).min(now);
        }
    }
}
