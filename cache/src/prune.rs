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

mod clock;
mod decide;
mod needed;
mod report;
mod survivors;

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failpoint::failpoint;
use crate::index::usage::{Snapshot, Victims};
use crate::lock::FileLock;
use crate::store::now_ms;
use crate::usage::{ItemFilter, MountUsage, mounts};
use crate::{Digest, LayerId, Store, StoreError, tree};

use decide::{Plan, decide};
pub(crate) use needed::names_by_layer;
use report::report;

/// So many records go at once when there is little time.
const FEW: usize = 20;

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
    /// Begin nothing more after this time. Something is done all the same, so that several tries get
    /// somewhere.
    pub until: Option<Instant>,
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
    /// Builds of the last days of which steps would run again: names, and when they were built last
    /// (milliseconds since the epoch). Those of `missed` are not among them.
    pub builds: Vec<(String, u64)>,
    /// True if there was no time for all of it.
    pub cut_short: bool,
}

/// Removes what nobody needs, and leftovers of dead processes.
pub fn prune(store: &Store, options: &PruneOptions) -> Result<PruneReport, StoreError> {
    if options.dry_run {
        let (snapshot, plan) = plan(store, options)?;
        return Ok(report(&snapshot, &plan.victims, &plan.mounts, now_ms()));
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
    if options.all {
        store.collect_partial(Duration::ZERO)?;
    }
    let (snapshot, plan) = plan(store, options)?;
    failpoint!("prune.decided");
    let mut gone = Victims::default();
    let mut removed = Vec::new();
    let late = || options.until.is_some_and(|until| Instant::now() >= until);
    let mut cut_short = false;
    let mut begun = false;
    for round in rounds(plan.victims, options.until.is_some()) {
        if begun && late() {
            cut_short = true;
            break;
        }
        begun = true;
        remove(store, &round, &mut gone)?;
    }
    for mount in plan.mounts {
        if cut_short || (begun && late()) {
            cut_short = true;
            break;
        }
        begun = true;
        if remove_mount(store, &mount)? {
            removed.push(mount);
        }
    }
    store.index().trim_log()?;
    store.keep_reserve();
    drop(lock);
    Ok(PruneReport {
        cut_short,
        ..report(&snapshot, &gone, &removed, now_ms())
    })
}

/// Bytes that a prune of everything would free.
pub(crate) fn reclaimable(store: &Store, snapshot: &Snapshot, mounts: &[MountUsage]) -> u64 {
    let options = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    let now = now_ms();
    let plan = decide(snapshot, mounts, &options, store.room(), now);
    report(snapshot, &plan.victims, &plan.mounts, now).bytes
}

fn plan(store: &Store, options: &PruneOptions) -> Result<(Snapshot, Plan), StoreError> {
    let now = now_ms();
    let mut snapshot = store.index().snapshot()?;
    clock::tame(&mut snapshot, now);
    let mounts = mounts(store, &snapshot);
    let plan = decide(&snapshot, &mounts, options, store.room(), now);
    Ok((snapshot, plan))
}

/// What is to go in pieces that take little time each, or in one piece.
fn rounds(victims: Victims, small: bool) -> Vec<Victims> {
    if !small {
        return vec![victims];
    }
    let mut layers: HashSet<LayerId> = victims.layers.iter().copied().collect();
    let mut rounds = Vec::new();
    for records in victims.records.chunks(FEW) {
        // A layer goes with the last record that needs it; a try before that takes nothing.
        let of_records = records
            .iter()
            .flat_map(|record| [Some(record.layer), record.parent])
            .flatten()
            .filter(|layer| layers.contains(layer));
        rounds.push(Victims {
            layers: of_records.collect(),
            records: records.to_vec(),
            why: victims.why.clone(),
            ..Victims::default()
        });
    }
    for layer in rounds.iter().flat_map(|round| &round.layers) {
        layers.remove(layer);
    }
    let rest = Victims {
        layers: victims
            .layers
            .into_iter()
            .filter(|it| layers.contains(it))
            .collect(),
        records: Vec::new(),
        ..victims
    };
    if !rest.images.is_empty() || !rest.layers.is_empty() || !rest.blobs.is_empty() {
        rounds.push(rest);
    }
    rounds
}

/// Takes `victims` away, rows first. Notes in `gone` what went.
fn remove(store: &Store, victims: &Victims, gone: &mut Victims) -> Result<(), StoreError> {
    let removed = store.index().take_away(victims)?;
    failpoint!("prune.rows");
    for layer in &removed.layers {
        store.discard_layer_directory(*layer)?;
    }
    for digest in &removed.blobs {
        store.discard_blob_file(*digest)?;
    }
    gone.images.extend(removed.images);
    gone.records.extend(removed.records);
    gone.layers.extend(removed.layers);
    gone.blobs.extend(removed.blobs);
    Ok(())
}

/// Removes a cache mount that nobody uses.
pub(crate) fn remove_mount(store: &Store, mount: &MountUsage) -> Result<bool, StoreError> {
    let Some(_lock) = store.try_lock_named(&mount_lock(&mount.id), false)? else {
        return Ok(false);
    };
    discard_mount(store, &mount.directory)?;
    Ok(true)
}

/// Removes a cache mount whose lock the caller has.
pub(crate) fn discard_mount(store: &Store, directory: &str) -> Result<(), StoreError> {
    let path = store.root().join("mounts").join(directory);
    let trash = store.shared.owner()?.fresh("trash");
    move_mount_away(&path, &trash)?;
    store.index().remove_mount(directory)?;
    tree::remove(&trash)
}

/// Moves the directory of a cache mount to `trash`, if there is one.
pub(crate) fn move_mount_away(path: &Path, trash: &Path) -> Result<(), StoreError> {
    // ORDER: the mark that says the mount was filled goes first. Without it, a mount that is still
    // there is filled once more; with it, an empty one would never be.
    let ready = path.with_extension("ready");
    match std::fs::remove_file(&ready) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(StoreError::io("remove", &ready, source)),
    }
    match std::fs::rename(path, trash) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("rename", path, error))
        }
        _ => Ok(()),
    }
}

/// The name of the lock of a cache mount, for [`Store::lock_named`].
pub fn mount_lock(id: &str) -> String {
    format!("mount {id}")
}

#[cfg(test)]
mod tests;
