//! Flushing what this boot wrote, and collecting what dead processes left.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::failpoint::failpoint;
use crate::lock::FileLock;
use crate::prune::{discard_mount, mount_lock};
use crate::{Digest, LayerId, Store, StoreError, tree};

impl Store {
    /// Flushes layers and blobs to the disk with one `syncfs` and marks this boot's records as
    /// safe from a power cut. Nothing is done if there is nothing to mark.
    pub fn sync(&self) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        self.index().sync()
    }

    /// [`sync`](Self::sync), unless all that was found, claimed or published through this open store
    /// is safe already: what other processes are at work on is their business.
    pub fn sync_what_was_used(&self) -> Result<(), StoreError> {
        if self.index().relies_on_unsynced() {
            self.sync()
        } else {
            Ok(())
        }
    }

    /// Collects what dead processes left: scratch directories, leases, lock files, layers and blobs
    /// without a row, and rows that a power cut made doubtful.
    pub fn collect_leftovers(&self) -> Result<(), StoreError> {
        self.collect(true)
    }

    /// The same, but does not look through all layers and blobs unless a process has died since that
    /// was last done. Called after a build that ran something, never on the no-op path: its cost must
    /// not grow with the store.
    pub fn collect_leftovers_of_the_dead(&self) -> Result<(), StoreError> {
        self.collect(false)
    }

    fn collect(&self, everything: bool) -> Result<(), StoreError> {
        if self.is_read_only() {
            return Ok(());
        }
        // Two collectors would only get in each other's way; the other one is doing the work.
        let Some(_lock) = FileLock::try_acquire(self.locks_dir().join("collect"), false)? else {
            return Ok(());
        };
        // ORDER: the locks of the dead go last, as they tell that there is something to collect.
        let dead = self.collect_scratch()?;
        self.collect_leases()?;
        self.collect_locks()?;
        // Whoever leaves a directory or a file without a row dies with a scratch directory, or in a
        // power cut.
        if everything || !dead.is_empty() || !self.was_collected_in_this_boot() {
            self.index().drop_doubtful()?;
            self.collect_mounts()?;
            self.collect_layers()?;
            self.collect_blobs()?;
            self.note_collection();
        }
        drop(dead);
        self.keep_reserve();
        Ok(())
    }

    /// Where the boot of the last whole collection is noted.
    fn collected(&self) -> PathBuf {
        self.root().join("collected")
    }

    fn was_collected_in_this_boot(&self) -> bool {
        std::fs::read_to_string(self.collected()).is_ok_and(|boot| boot == self.index().boot())
    }

    fn note_collection(&self) {
        if !self.was_collected_in_this_boot() {
            // What can't be noted is done again.
            std::fs::write(self.collected(), self.index().boot()).ok();
        }
    }

    /// Removes scratch directories whose lock file nobody holds. Gives the locks of those, which are
    /// held now.
    fn collect_scratch(&self) -> Result<Vec<FileLock>, StoreError> {
        let scratch = self.root().join("scratch");
        let mut dead: Vec<(String, FileLock)> = Vec::new();
        for name in names(&scratch)? {
            let Some(name) = name.to_str() else { continue };
            let owner = name.strip_suffix(".lock").unwrap_or(name);
            if dead.iter().any(|(known, _)| known == owner) {
                continue;
            }
            // ORDER: the lock first, as those who make a directory here take it first, too.
            if let Some(lock) = FileLock::try_acquire(scratch.join(format!("{owner}.lock")), false)?
            {
                tree::remove(&scratch.join(owner))?;
                dead.push((owner.to_owned(), lock));
            }
        }
        Ok(dead.into_iter().map(|(_, lock)| lock).collect())
    }

    /// How many scratch directories nobody owns.
    pub(crate) fn dead_scratch(&self) -> Result<u64, StoreError> {
        let scratch = self.root().join("scratch");
        let mut count = 0;
        for name in names(&scratch)? {
            let Some(owner) = name.to_str() else { continue };
            if owner.strip_suffix(".lock").is_some() {
                continue;
            }
            let lock = scratch.join(format!("{owner}.lock"));
            count +=
                u64::from(self.is_read_only() || FileLock::try_acquire(lock, false)?.is_some());
        }
        Ok(count)
    }

    /// Leases whose file nobody holds, and claims whose lease has no file.
    fn collect_leases(&self) -> Result<(), StoreError> {
        let leases = self.root().join("leases");
        for id in self.index().leases()? {
            if let Some(lock) = FileLock::try_acquire(leases.join(&id), false)? {
                self.index().release(&id, None)?;
                drop(lock);
            }
        }
        for name in names(&leases)? {
            // Taking a dead lease's lock and dropping it removes the file.
            drop(FileLock::try_acquire(leases.join(name), false)?);
        }
        Ok(())
    }

    fn collect_locks(&self) -> Result<(), StoreError> {
        let locks = self.locks_dir();
        for name in names(&locks)? {
            if name != OsStr::new("collect") {
                drop(FileLock::try_acquire(locks.join(name), false)?);
            }
        }
        Ok(())
    }

    /// Cache mounts that a power cut may have damaged.
    fn collect_mounts(&self) -> Result<(), StoreError> {
        for (directory, id) in self.index().doubtful_mounts()? {
            let lock = self.try_lock_named(&mount_lock(&id), false)?;
            // Somebody may have emptied it for themselves meanwhile.
            if lock.is_some() && self.index().is_doubtful_mount(&directory)? {
                discard_mount(self, &directory)?;
            }
        }
        Ok(())
    }

    /// Layer directories without a row.
    fn collect_layers(&self) -> Result<(), StoreError> {
        // ORDER: first the directories, then the rows. A row that comes later belongs to a directory
        // that is not in the list, or is found when the candidate is looked up again.
        let directories = names(&self.root().join("layers"))?;
        let known = self.index().layer_ids()?;
        for name in directories {
            let id: Option<LayerId> = name.to_str().and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|id| !known.contains(id)) {
                self.discard_layer_directory(id)?;
            }
        }
        Ok(())
    }

    fn collect_blobs(&self) -> Result<(), StoreError> {
        let files = names(&self.root().join("blobs/sha256"))?;
        let known = self.index().blob_digests()?;
        for name in files {
            let digest: Option<Digest> = name
                .to_str()
                .and_then(|name| format!("sha256:{name}").parse().ok());
            if let Some(digest) = digest.filter(|digest| !known.contains(digest)) {
                self.discard_blob_file(digest)?;
            }
        }
        Ok(())
    }

    /// Removes the directory of a layer that has no row. True if there was one.
    pub(crate) fn discard_layer_directory(&self, id: LayerId) -> Result<bool, StoreError> {
        if self.index().has_layer_row(id)? {
            return Ok(false);
        }
        let path = self.layer_path(id);
        let trash = self.shared.owner()?.fresh("trash");
        let moved = self.index().move_away_layer(id, &path, &trash)?;
        if moved {
            failpoint!("trash.moved");
            tree::remove(&trash)?;
        }
        Ok(moved)
    }

    /// Removes the file of a blob that has no row. True if there was one.
    pub(crate) fn discard_blob_file(&self, digest: Digest) -> Result<bool, StoreError> {
        if self.index().has_blob_row(digest)? {
            return Ok(false);
        }
        self.index().unlink_blob(digest, &self.blobs().path(digest))
    }
}

/// The names in a directory of the store. A directory that is missing is empty.
pub(crate) fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, StoreError> {
    let fail = |source: std::io::Error| StoreError::io("read", directory, source);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(fail(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(fail)?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}
