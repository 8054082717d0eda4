//! Paths that are no part of a layer, whatever a step did there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::mount_point::{is_copied_up, is_directory, opaque, stat, under};
use super::{HardLinks, Scratch};
use crate::{StoreError, tree};

impl Scratch<'_> {
    /// Leaves `paths` (from the root, with all that is below them) out of the layer. The layers below show through there.
    pub fn ignore(&mut self, paths: &[PathBuf]) {
        self.ignored = paths.into();
    }

    /// Takes what is ignored out of the upper directory, and out of `links`. Directories on the way that only were
    /// brought up for it go with it. A symlink on the way is the step's own, and nothing is behind it in this layer.
    pub(super) fn drop_ignored(
        &self,
        links: Option<HardLinks>,
    ) -> Result<Option<HardLinks>, StoreError> {
        for path in &self.ignored {
            let names: Vec<&OsStr> = path
                .components()
                .filter_map(|component| match component {
                    Component::Normal(name) => Some(name),
                    _ => None,
                })
                .collect();
            self.drop_one(&names)?;
        }
        Ok(links.map(|HardLinks(mut groups)| {
            for group in &mut groups {
                group.retain(|name| {
                    let name = Path::new(OsStr::from_bytes(name));
                    !self
                        .ignored
                        .iter()
                        .any(|path| name.starts_with(path.strip_prefix("/").unwrap_or(path)))
                });
            }
            groups.retain(|group| group.len() > 1);
            HardLinks(groups)
        }))
    }

    fn drop_one(&self, names: &[&OsStr]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        for depth in 1..names.len() {
            match stat(&under(&self.upper, &names[..depth]))? {
                Some(found) if is_directory(&found) => {}
                _ => return Ok(()),
            }
        }
        let path = under(&self.upper, names);
        match stat(&path)? {
            None => return Ok(()),
            Some(found) if is_directory(&found) => tree::remove(&path)?,
            Some(_) => {
                rustix::fs::unlink(&path)
                    .map_err(|source| StoreError::io("remove", &path, source))?;
            }
        }
        for depth in (1..names.len()).rev() {
            let names = &names[..depth];
            let path = under(&self.upper, names);
            let (Some(found), Some(below)) = (stat(&path)?, self.below(&self.upper, names)?) else {
                break;
            };
            if !is_copied_up(&path, &found, &below)? || opaque(&path)? {
                break;
            }
            match rustix::fs::rmdir(&path) {
                Ok(()) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(source) => return Err(StoreError::io("remove", &path, source)),
            }
        }
        Ok(())
    }
}
