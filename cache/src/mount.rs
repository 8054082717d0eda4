//! Cache mounts from outside of a build: emptied, carried away, brought back.
//!
//! Each takes the mount's lock, so none meets a step that has it.

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use crate::diff::{self, Limits, WriteOptions};
use crate::prune::{mount_lock, remove_mount};
use crate::usage::{MountUsage, mounts};
use crate::{HardLinks, LayerView, Store, StoreError, codec, tree};

impl Store {
    /// The directory of the cache mount `id`, if there is one.
    pub fn existing_mount(&self, id: &str) -> Result<Option<PathBuf>, StoreError> {
        let mount = self.mount(id)?;
        Ok(mount.map(|mount| self.root().join("mounts").join(mount.directory)))
    }

    /// Removes the cache mount `id`. False if a step has it, or there is none.
    pub fn clear_mount(&self, id: &str) -> Result<bool, StoreError> {
        match self.mount(id)? {
            Some(mount) => remove_mount(self, &mount),
            None => Ok(false),
        }
    }

    /// Writes what the cache mount `id` holds as a tar. Waits for steps that have it alone; `on_wait`
    /// is called then. False if there is no such mount.
    pub fn export_mount(
        &self,
        id: &str,
        output: &mut dyn Write,
        on_wait: &mut dyn FnMut(),
    ) -> Result<bool, StoreError> {
        let _lock = self.lock_named(&mount_lock(id), true, on_wait)?;
        let Some(path) = self.existing_mount(id)? else {
            return Ok(false);
        };
        let links = HardLinks::default();
        diff::write_layer(&path, &links, WriteOptions::default(), output)?;
        Ok(true)
    }

    /// Puts what a tar holds, compressed or not, in the place of what the cache mount `id` holds; the
    /// mount is made if there is none. Waits until no step has it. Nothing is changed if the tar can't
    /// be read to its end.
    pub fn import_mount(
        &self,
        id: &str,
        input: Box<dyn Read + Send + '_>,
        on_wait: &mut dyn FnMut(),
    ) -> Result<(), StoreError> {
        let _lock = self.lock_named(&mount_lock(id), false, on_wait)?;
        let owner = self.shared.owner()?;
        let fresh = owner.fresh("mount");
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&fresh)
            .map_err(|source| StoreError::io("create", &fresh, source))?;
        let unpacked = codec::decoder(input)
            .map_err(|source| StoreError::io("read an archive for", &fresh, source))
            .and_then(|mut input| {
                let limits = Limits {
                    entries: u64::MAX,
                    bytes: u64::MAX,
                };
                let below = LayerView::new(Vec::new());
                Ok(diff::apply_layer(
                    &mut input,
                    &fresh,
                    &below,
                    self.userxattr(),
                    limits,
                )?)
            });
        if let Err(error) = unpacked {
            drop(tree::remove(&fresh));
            return Err(error);
        }
        let path = self.cache_mount_path(id)?;
        // Owner and mode are what the step asked for when it was first filled.
        if let Ok(old) = path.metadata() {
            drop(std::os::unix::fs::chown(
                &fresh,
                Some(old.uid()),
                Some(old.gid()),
            ));
            let mode = std::fs::Permissions::from_mode(old.mode() & 0o7777);
            drop(std::fs::set_permissions(&fresh, mode));
        }
        let trash = owner.fresh("trash");
        let rename = |from: &PathBuf, to: &PathBuf| {
            std::fs::rename(from, to).map_err(|source| StoreError::io("rename", from, source))
        };
        rename(&path, &trash)?;
        rename(&fresh, &path)?;
        let ready = path.with_extension("ready");
        std::fs::write(&ready, b"").map_err(|source| StoreError::io("write", &ready, source))?;
        tree::remove(&trash)
    }

    fn mount(&self, id: &str) -> Result<Option<MountUsage>, StoreError> {
        let snapshot = self.index().snapshot()?;
        Ok(mounts(self, &snapshot)
            .into_iter()
            .find(|mount| mount.id == id))
    }
}
