//! Copying from a stack of layers: `COPY --from`.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use strata_cache::view::{Entry, FileKind};
use strata_cache::{Digest, HardLinks, LayerView, slot};

use super::{SourceTree, TreeError, Xattr, keeps_xattr, neutral_mode};

/// A stack of layers as a tree to copy from. Its files never change and have owners of their own.
#[derive(Debug)]
pub struct LayerTree {
    view: LayerView,
    /// (layer, path) to a group of that layer. Inode numbers can't tell: the store links equal
    /// files.
    groups: HashMap<(usize, Vec<u8>), u64>,
    linkable: bool,
    neutral: bool,
    /// For each thread, the directory that it last asked for attributes in: neighbours have it in common.
    last_directory: [Mutex<Option<(PathBuf, OwnedFd)>>; slot::SLOTS],
}

impl LayerTree {
    /// A tree over `view`. `links` are the hard links of its layers, base first, as
    /// [`strata_cache::Store::hard_links`] gives them; layers without any may be left out at the end.
    pub fn new(view: LayerView, links: &[HardLinks]) -> Self {
        let mut groups = HashMap::new();
        for (layer, links) in links.iter().enumerate() {
            for (group, paths) in (0..).zip(&links.0) {
                for path in paths {
                    groups.insert((layer, path.clone()), group);
                }
            }
        }
        Self {
            view,
            groups,
            linkable: true,
            neutral: false,
            last_directory: Default::default(),
        }
    }

    /// The same tree for a target that is written to afterwards, such as a cache mount: its files
    /// are always copied. A link there would be a way to change a layer.
    #[must_use]
    pub fn without_links(mut self) -> Self {
        self.linkable = false;
        self
    }

    /// The same tree as a build context, with [neutral](crate::context::ContextTree::neutral) modes and
    /// owners if `neutral`.
    #[must_use]
    pub fn neutral(mut self, neutral: bool) -> Self {
        self.neutral = neutral;
        self
    }

    /// The view that is read.
    pub fn view(&self) -> &LayerView {
        &self.view
    }
}

impl SourceTree for LayerTree {
    fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, TreeError> {
        Ok(self.view.lookup(path, follow)?)
    }

    fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, TreeError> {
        Ok(self.view.read_dir(directory)?)
    }

    fn read_link(&self, entry: &Entry) -> Result<PathBuf, TreeError> {
        Ok(self.view.read_link(entry)?)
    }

    fn open(&self, entry: &Entry) -> Result<File, TreeError> {
        Ok(self.view.open(entry)?)
    }

    fn open_parent(&self, entry: &Entry) -> Option<OwnedFd> {
        self.view.open_parent(entry).ok()
    }

    fn xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>, TreeError> {
        let mut xattrs = match entry.host_path.parent() {
            // The root's parent is no directory of a layer.
            Some(parent) if !entry.path.as_os_str().is_empty() => {
                let last = &self.last_directory[slot::of_thread()];
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.as_ref().is_none_or(|(known, _)| known != parent) {
                    *last = Some((parent.to_owned(), self.view.open_parent(entry)?));
                }
                match &*last {
                    Some((_, parent)) => self.view.xattrs_in(parent.as_fd(), entry)?,
                    None => Vec::new(),
                }
            }
            _ => self.view.xattrs(entry)?,
        };
        xattrs.retain(|(name, _)| keeps_xattr(name));
        Ok(xattrs)
    }

    fn owner(&self, entry: &Entry) -> (u32, u32) {
        if self.neutral {
            return (0, 0);
        }
        (entry.metadata.uid, entry.metadata.gid)
    }

    fn mode(&self, entry: &Entry) -> u32 {
        if self.neutral {
            return neutral_mode(entry);
        }
        entry.metadata.mode
    }

    fn known_digest(&self, _entry: &Entry) -> Option<Digest> {
        None
    }

    fn immutable(&self) -> bool {
        self.linkable
    }

    fn link_group(&self, entry: &Entry) -> Option<(u64, u64)> {
        if self.groups.is_empty() || entry.metadata.kind != FileKind::File {
            return None;
        }
        let key = (entry.layer, entry.path.as_os_str().as_bytes().to_vec());
        let group = self.groups.get(&key)?;
        Some((entry.layer as u64, *group))
    }
}
