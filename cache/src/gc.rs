//! Pruning by policy, after builds.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use crate::prune::{PruneOptions, PruneReport, prune};
use crate::{Store, StoreError};

/// What only has become old is looked for this often.
const INTERVAL: Duration = Duration::from_hours(24);

/// Prunes by each of `rules` in turn, if that is needed: a rule's bound is broken, or no rule was
/// looked at for a day. Otherwise this is a look at the file system and one sum. Nothing is done if
/// another prune is at work.
///
/// A store that is not pressed gets about as much time as `budget`: the next build waits for none of it.
/// What there was no time for is left to the next call.
pub fn collect_garbage(
    store: &Store,
    rules: &[PruneOptions],
    budget: Duration,
) -> Result<Vec<PruneReport>, StoreError> {
    let until = Instant::now() + budget;
    if store.is_read_only() {
        return Ok(Vec::new());
    }
    let pressed = pressed(store, rules)?;
    if !pressed && !due(store) {
        return Ok(Vec::new());
    }
    // A stamp that can't be made only means that this is done again.
    drop(File::create(stamp(store)));
    let mut reports = Vec::new();
    for rule in rules {
        let options = PruneOptions {
            unless_busy: true,
            until: (!pressed).then_some(until),
            ..rule.clone()
        };
        let report = prune(store, &options)?;
        let cut_short = report.cut_short;
        reports.push(report);
        if cut_short {
            // As if the last look were long ago.
            let stamp = File::options().write(true).open(stamp(store));
            drop(stamp.and_then(|stamp| stamp.set_modified(SystemTime::UNIX_EPOCH)));
            break;
        }
    }
    Ok(reports)
}

/// Whether a bound of a rule is broken, as far as that can be told without measuring mounts.
fn pressed(store: &Store, rules: &[PruneOptions]) -> Result<bool, StoreError> {
    let room = store.room();
    let mut total = None;
    for rule in rules {
        if let Some(keep) = rule.keep_bytes {
            let total = match total {
                Some(total) => total,
                None => *total.insert(store.index().total_bytes()?),
            };
            if total > keep {
                return Ok(true);
            }
        }
        let Some(room) = room else { continue };
        if rule.min_free.is_some_and(|wanted| room.free < wanted)
            || rule
                .min_free_inodes
                .is_some_and(|wanted| room.inodes > 0 && room.free_inodes < wanted)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn stamp(store: &Store) -> std::path::PathBuf {
    store.root().join("pruned")
}

/// Whether the last look is long ago, or in the future: clocks jump.
fn due(store: &Store) -> bool {
    let last = std::fs::metadata(stamp(store)).and_then(|metadata| metadata.modified());
    let Ok(last) = last else {
        // A new store has nothing old.
        drop(File::create(stamp(store)));
        return false;
    };
    !SystemTime::now()
        .duration_since(last)
        .is_ok_and(|age| age < INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CacheKey, Digest, NewRecord, StackId, StepKind};

    const BUDGET: Duration = Duration::from_mins(1);

    fn step(store: &Store, text: &str) {
        let lease = store.lease("build").unwrap();
        let scratch = store.scratch(&[]).unwrap();
        std::fs::write(scratch.upper().join("file"), vec![1; 50_000]).unwrap();
        let record = NewRecord {
            key: CacheKey(Digest::of(text.as_bytes())),
            operation: Digest::of(b"operation"),
            content: CacheKey(Digest::of(b"content")),
            parent: None,
            stack: StackId::empty(),
            inputs: Vec::new(),
            selection: None,
            kind: StepKind::Run,
            text: text.to_owned(),
            parts: Vec::new(),
            cost_ms: 1,
            resources: None,
            made_ms: None,
        };
        scratch.commit(&lease, None, Some(record)).unwrap();
    }

    #[test]
    fn only_a_broken_bound_or_a_new_day_prunes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        step(&store, "a");
        step(&store, "b");
        let by_age = PruneOptions {
            older_than: Some(Duration::ZERO),
            ..PruneOptions::default()
        };
        let by_size = |keep: u64| PruneOptions {
            keep_bytes: Some(keep),
            ..PruneOptions::default()
        };
        assert_eq!(
            collect_garbage(&store, std::slice::from_ref(&by_age), BUDGET).unwrap(),
            []
        );
        assert_eq!(
            collect_garbage(&store, &[by_size(1 << 30)], BUDGET).unwrap(),
            []
        );
        let reports = collect_garbage(&store, &[by_size(60_000)], BUDGET).unwrap();
        assert_eq!(reports[0].records.len(), 1);
        let yesterday = SystemTime::now() - INTERVAL;
        File::options()
            .write(true)
            .open(stamp(&store))
            .unwrap()
            .set_modified(yesterday)
            .unwrap();
        let reports = collect_garbage(&store, std::slice::from_ref(&by_age), BUDGET).unwrap();
        assert_eq!(reports[0].records.len(), 1);
        assert_eq!(collect_garbage(&store, &[by_age], BUDGET).unwrap(), []);
    }

    #[test]
    fn a_store_that_is_not_pressed_is_pruned_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for number in 0..50 {
            step(&store, &format!("step {number}"));
        }
        let by_age = PruneOptions {
            older_than: Some(Duration::ZERO),
            ..PruneOptions::default()
        };
        File::create(stamp(&store))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        // No time at all: something is done each time until nothing is left.
        let gone: Vec<usize> = (0..4)
            .map(|_| {
                let rules = std::slice::from_ref(&by_age);
                let reports = collect_garbage(&store, rules, Duration::ZERO).unwrap();
                let layers: usize = reports.iter().map(|report| report.layers.len()).sum();
                let records: usize = reports.iter().map(|report| report.records.len()).sum();
                assert_eq!(layers, records);
                records
            })
            .collect();
        assert_eq!(gone, [20, 20, 10, 0]);
        // A ceiling is no matter of time.
        for number in 0..50 {
            step(&store, &format!("again {number}"));
        }
        let ceiling = PruneOptions {
            keep_bytes: Some(60_000),
            ..PruneOptions::default()
        };
        let reports = collect_garbage(&store, &[ceiling], Duration::ZERO).unwrap();
        assert_eq!(reports[0].records.len(), 49);
    }
}
