//! Layers in the making.
//!
//! A layer is a directory that nobody writes to any more. It comes into being in one way: a
//! [`Scratch`] is renamed into `layers/` and a row is inserted, in that order. A crash between the
//! two leaves a directory without a row, which the next collection removes.

mod empty;
pub(crate) mod fingerprint;
mod ignored;
mod measure;
mod mount_point;
mod settle;

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

use crate::diff::Foretelling;
use crate::failpoint::failpoint;
use crate::index::{NewLayer, Published};
use crate::snapshot::native::{self, Baseline};
use crate::snapshot::{RootfsPlan, Snapshotter};
use crate::store::{Owner, random_u64};
use crate::view::Metadata;
use crate::{
    ChainId, DiffId, LayerId, LayerView, Lease, NewRecord, Store, StoreError, tree, xattr,
};

pub(crate) use empty::EmptyLayers;
use measure::{Wanted, measure};

/// Groups of names that are one file: what a tar must write as hard links. Paths are relative to
/// the layer's root, `/` separators, raw bytes; groups and their members are sorted.
///
/// Link counts on disk can't tell: the store links equal files of different layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HardLinks(pub Vec<Vec<Vec<u8>>>);

/// A layer being made: an empty upper directory on a stack of layers.
///
/// A directory step (COPY, ADD, WORKDIR, unpacking) writes into [`upper`](Self::upper) itself. A
/// command gets [`rootfs`](Self::rootfs), which its sandbox mounts. Dropped without a commit, it
/// leaves nothing.
#[derive(Debug)]
#[must_use = "a scratch layer that is not committed is thrown away"]
pub struct Scratch<'store> {
    store: &'store Store,
    /// Keeps the process's scratch directory.
    _owner: Arc<Owner>,
    stack: Vec<LayerId>,
    directory: PathBuf,
    upper: PathBuf,
    private: PathBuf,
    /// What [`Scratch::rootfs`] has handed out.
    handed_out: HandedOut,
    /// Paths that are no part of the layer.
    ignored: Box<[PathBuf]>,
}

/// What is known of a layer that is committed.
enum Known {
    Nothing,
    /// It comes from an image.
    Origin(ChainId, DiffId),
    Foretold(Foretelling),
}

/// Who writes into a scratch layer, which decides what has to be looked for at the commit.
#[derive(Debug)]
enum HandedOut {
    /// Only the callers of [`Scratch::upper`].
    Nothing,
    /// The kernel's overlayfs, with xattrs of its own.
    Overlay,
    /// A copy of the whole stack, to be compared with it.
    Tree { tree: PathBuf, baseline: Baseline },
}

impl Store {
    /// Starts a layer on `stack` (base first). The upper directory's own mode, owner and times are
    /// those of the root below it (0755 0:0 on an empty stack).
    pub fn scratch(&self, stack: &[LayerId]) -> Result<Scratch<'_>, StoreError> {
        let owner = self.shared.owner()?;
        let directory = owner.fresh("layer");
        let scratch = Scratch {
            store: self,
            _owner: owner,
            stack: stack.to_vec(),
            upper: directory.join("upper"),
            private: directory.join("private"),
            directory,
            handed_out: HandedOut::Nothing,
            ignored: Box::default(),
        };
        // From here on a failure drops `scratch`, which removes what there is.
        make_directory(&scratch.directory, 0o700)?;
        make_directory(&scratch.upper, 0o755)?;
        let below = stack.last().map(|top| self.layer_path(*top));
        copy_root_metadata(below.as_deref(), &scratch.upper)?;
        failpoint!("scratch.made");
        Ok(scratch)
    }

    /// Removes what committed scratch layers have left, if that was not done: for a thread that nobody
    /// waits for. What is left then goes when the store is closed.
    pub fn remove_leavings(&self) {
        for directory in self.shared.leavings() {
            // What can't be removed now is collected when this process is gone.
            drop(tree::remove(&directory));
        }
    }

    /// The hard links of a committed layer.
    pub fn hard_links(&self, layer: LayerId) -> Result<HardLinks, StoreError> {
        self.index()
            .links(layer)?
            .ok_or(StoreError::NoLayer { layer })
    }

    /// Removes layers that `lease` made and has no use for, unless a record, an image or somebody
    /// else's lease has one meanwhile.
    pub fn discard_layers(&self, lease: &Lease, layers: &[LayerId]) -> Result<(), StoreError> {
        if layers.is_empty() || self.is_read_only() {
            return Ok(());
        }
        for layer in self.index().drop_orphans(lease, layers)? {
            self.discard_layer_directory(layer)?;
        }
        Ok(())
    }

    /// Paths of `stack`, base first: what a [`LayerView`] is made of.
    pub fn layer_paths(&self, stack: &[LayerId]) -> Vec<PathBuf> {
        stack.iter().map(|layer| self.layer_path(*layer)).collect()
    }
}

impl Scratch<'_> {
    /// The layers below, base first.
    pub fn stack(&self) -> &[LayerId] {
        &self.stack
    }

    /// The directory that becomes the layer.
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// A private directory beside the upper one, on the same file system, gone with the scratch.
    ///
    /// # Errors
    /// It can't be made.
    pub fn work_dir(&self) -> Result<&Path, StoreError> {
        if !self.private.is_dir() {
            make_directory(&self.private, 0o700)?;
        }
        Ok(&self.private)
    }

    /// What a sandbox has to mount to see the stack with this scratch on top. With the native
    /// snapshotter this is where the stack is copied out. `stub` is the lowest layer that holds
    /// mount points which the image may lack; the native snapshotter has no use for it, the mount
    /// points are made in the copy.
    pub fn rootfs(&mut self, stub: Option<&Path>) -> Result<RootfsPlan, StoreError> {
        match self.store.snapshotter() {
            Snapshotter::Overlay => {
                let mut lowers: Vec<PathBuf> = Vec::with_capacity(self.stack.len() + 1);
                // The kernel mounts no directory twice. What a layer holds hides all that it holds
                // further down, so its topmost place is enough.
                let mut seen = HashSet::with_capacity(self.stack.len());
                for layer in self.store.layers_that_tell(&self.stack)?.into_iter().rev() {
                    if seen.insert(layer) {
                        lowers.push(self.store.layer_path(layer));
                    }
                }
                lowers.extend(stub.map(Path::to_owned));
                if lowers.is_empty() {
                    let empty = self.directory.join("empty");
                    make_directory(&empty, 0o755)?;
                    lowers.push(empty);
                }
                let work = self.directory.join("work");
                make_directory(&work, 0o700)?;
                self.handed_out = HandedOut::Overlay;
                Ok(RootfsPlan::Overlay {
                    lowers,
                    upper: Some(self.upper.clone()),
                    work: Some(work),
                    userxattr: self.store.userxattr(),
                })
            }
            Snapshotter::Native => {
                let links = self
                    .stack
                    .iter()
                    .map(|layer| self.store.hard_links(*layer))
                    .collect::<Result<Vec<_>, _>>()?;
                let tree = self.directory.join("tree");
                let baseline = native::copy_out(&self.view_below(), &links, &tree)?;
                self.handed_out = HandedOut::Tree {
                    tree: tree.clone(),
                    baseline,
                };
                Ok(RootfsPlan::Native { tree })
            }
        }
    }

    /// Makes the upper directory a layer: native trees are compared with the stack, hard links are
    /// recorded (from inode numbers when `links` is none), overlay's private xattrs are checked,
    /// the directory is renamed and `record` is published with it, claimed for `lease`.
    #[expect(clippy::needless_pass_by_value, reason = "a record is published once")]
    pub fn commit(
        self,
        lease: &Lease,
        links: Option<HardLinks>,
        record: Option<NewRecord>,
    ) -> Result<LayerId, StoreError> {
        let published = self.publish(lease, links, record.as_ref(), Known::Nothing);
        published.map(|(id, _)| id)
    }

    /// The same for a layer whose diff ID is [foretold](Foretelling). That is given back if the layer is what was
    /// to come.
    pub fn commit_foretold(
        self,
        lease: &Lease,
        links: Option<HardLinks>,
        record: &NewRecord,
        foretold: Option<Foretelling>,
    ) -> Result<(LayerId, Option<Foretelling>), StoreError> {
        let known = foretold.map_or(Known::Nothing, Known::Foretold);
        self.publish(lease, links, Some(record), known)
    }

    /// The same for a layer unpacked from an image. If another process published the same chain
    /// meanwhile, its layer is taken and this one is dropped.
    pub fn commit_unpacked(
        self,
        lease: &Lease,
        links: HardLinks,
        chain: ChainId,
        diff_id: DiffId,
    ) -> Result<LayerId, StoreError> {
        let known = Known::Origin(chain, diff_id);
        let published = self.publish(lease, Some(links), None, known);
        published.map(|(id, _)| id)
    }

    /// The layers below as one tree.
    fn view_below(&self) -> LayerView {
        LayerView::new(self.store.layer_paths(&self.stack))
    }

    fn publish(
        mut self,
        lease: &Lease,
        links: Option<HardLinks>,
        record: Option<&NewRecord>,
        known: Known,
    ) -> Result<(LayerId, Option<Foretelling>), StoreError> {
        let links = match &self.handed_out {
            HandedOut::Tree { tree, baseline } => Some(native::compare(
                &self.view_below(),
                baseline,
                tree,
                &self.upper,
            )?),
            HandedOut::Nothing | HandedOut::Overlay => links,
        };
        let links = self.drop_ignored(links)?;
        if matches!(self.handed_out, HandedOut::Overlay) {
            let below = self.store.layers_that_tell(&self.stack)?;
            let below = LayerView::new(self.store.layer_paths(&below));
            settle::settle(&self.upper, &below)?;
        }
        let mounted = matches!(self.handed_out, HandedOut::Overlay).then(|| self.store.flavour());
        let (origin, foretold) = match known {
            Known::Nothing => (None, None),
            Known::Origin(chain, diff_id) => (Some((chain, diff_id)), None),
            Known::Foretold(foretold) => (None, Some(foretold)),
        };
        let wanted = Wanted {
            links: links.is_none(),
            fingerprint: foretold.is_some(),
        };
        let measured = measure(&self.upper, mounted, wanted)?;
        let foretold = foretold.filter(|foretold| {
            foretold.holds_for(&measured.fingerprint) && has_usual_root(&self.upper)
        });
        failpoint!("layer.measured");
        let mut layer = NewLayer {
            id: LayerId(0),
            diff_id: origin.map(|(_, diff_id)| diff_id),
            chain_id: origin.map(|(chain, _)| chain),
            size: measured.size,
            entries: measured.entries,
            links: links.unwrap_or(measured.links),
        };
        loop {
            layer.id = LayerId(random_u64()?);
            let target = self.store.layer_path(layer.id);
            let published =
                self.store
                    .index()
                    .publish_layer(lease, &layer, record, &self.upper, &target)?;
            match published {
                Published::New(id) | Published::Existing(id) => {
                    if matches!(published, Published::New(_)) {
                        self.store.shared.empty_layers.note(id, layer.entries == 0);
                    }
                    if !matches!(self.handed_out, HandedOut::Tree { .. }) {
                        // Next to nothing is left in it, and nobody has to wait until that is gone.
                        self.store.shared.leave(std::mem::take(&mut self.directory));
                    }
                    return Ok((id, foretold));
                }
                Published::NameTaken => {}
            }
        }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if self.directory.as_os_str().is_empty() {
            return;
        }
        // What can't be removed now is collected when this process is gone.
        drop(tree::remove(&self.directory));
    }
}

/// Whether an archive of the layer at `upper` says nothing of its root.
fn has_usual_root(upper: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::open(upper, flags, Mode::empty()) else {
        return false;
    };
    let usual = rustix::fs::fstat(&root).is_ok_and(|stat| {
        let root = Metadata::of_file(&stat, root.as_fd());
        (root.mode, root.uid, root.gid) == (0o755, 0, 0)
    });
    usual && xattr::list_portable(root.as_fd()).is_ok_and(|list| list.is_empty())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), StoreError> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(|source| StoreError::io("create", path, source))?;
    // Whatever the umask took away.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        .map_err(|source| StoreError::io("chmod", path, source))
}

/// Gives `upper` the mode, owner, xattrs and times of the root below: a union mount shows the
/// topmost directory's.
fn copy_root_metadata(below: Option<&Path>, upper: &Path) -> Result<(), StoreError> {
    let (mode, uid, gid) = match below {
        None => (0o755, 0, 0),
        Some(below) => {
            let stat =
                rustix::fs::lstat(below).map_err(|source| StoreError::io("stat", below, source))?;
            for (name, value) in measure::own_xattrs(below)? {
                rustix::fs::lsetxattr(
                    upper,
                    name.as_c_str(),
                    &value,
                    rustix::fs::XattrFlags::empty(),
                )
                .map_err(|source| StoreError::io("set attribute of", upper, source))?;
            }
            (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
        }
    };
    let made = rustix::fs::lstat(upper).map_err(|source| StoreError::io("stat", upper, source))?;
    if (made.st_uid, made.st_gid) != (uid, gid) {
        let changed = rustix::fs::chownat(
            CWD,
            upper,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        );
        match changed {
            Ok(()) => {}
            // Outside of a user namespace, or in one with a single id, everything is the caller's.
            Err(Errno::PERM | Errno::INVAL) => {}
            Err(source) => return Err(StoreError::io("chown", upper, source)),
        }
    }
    if made.st_mode & 0o7777 != mode {
        rustix::fs::chmod(upper, Mode::from_raw_mode(mode))
            .map_err(|source| StoreError::io("chmod", upper, source))?;
    }
    if let Some(below) = below {
        let stat =
            rustix::fs::lstat(below).map_err(|source| StoreError::io("stat", below, source))?;
        // An empty stack has no times to keep; what a build makes of them is its business.
        let times = Timestamps {
            last_access: timespec(stat.st_atime, stat.st_atime_nsec),
            last_modification: timespec(stat.st_mtime, stat.st_mtime_nsec),
        };
        rustix::fs::utimensat(CWD, upper, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|source| StoreError::io("set times of", upper, source))?;
    }
    Ok(())
}

fn timespec(seconds: i64, nanoseconds: u64) -> rustix::fs::Timespec {
    rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    }
}

#[cfg(test)]
mod foretold_tests;
