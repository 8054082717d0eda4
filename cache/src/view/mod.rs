//! A stack of layers seen as one tree, without mounting it.
//!
//! The rules are overlayfs's: the topmost layer that has a name decides; a 0/0 character device
//! hides the name; an opaque directory hides what lower layers have below it; directories merge
//! with directories only. COPY resolves destinations with it, `COPY --from` and exports read
//! through it. Layers are untrusted: every path is resolved component by component, symlinks inside
//! the view's root only, and no component is ever followed by the kernel.
//!
//! All layers but the topmost are taken to be immutable, and look-ups of their directories are kept.
//! The topmost is asked anew by every look-up, so a view may be used while its upper directory is
//! being written. An [`Entry`] is a snapshot: after a change of the directory that it stands for,
//! look it up again.
//!
//! As in the kernel, an opaque mark on a layer's own root means nothing. Whiteouts in the form of
//! xattrs (`overlay.whiteout`, Linux 6.7 and later, made only when layers are composed by hand) are
//! not looked for.

mod layer;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Stat};

use crate::diff::Coming;
pub use crate::xattr::Xattr;
use crate::{beneath, owner, xattr};
use layer::LayerRoot;
pub(crate) use layer::{is_opaque, is_whiteout};

/// The kernel's bound on symlinks in one path.
const MAX_SYMLINKS: usize = 40;

/// Directories of the lower layers that are remembered before starting over.
const MAX_CACHED: usize = 1 << 16;

/// What kind of file an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device (never overlay's whiteout).
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Metadata of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Type.
    pub kind: FileKind,
    /// Permission bits, 0..=0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes (files and link targets).
    pub size: u64,
    /// Modification time: seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Change time, same form.
    pub ctime: (i64, u32),
    /// Device and inode number on the host: equal for hard links.
    pub inode: (u64, u64),
    /// Host link count.
    pub links: u64,
    /// Device number (major, minor) of devices.
    pub rdev: (u32, u32),
}

/// An entry of the view: its in-root path, metadata and where it really lies.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path from the root of the view, without a leading `/`; empty for the root. Contains no
    /// symlink, `.` or `..`.
    pub path: PathBuf,
    /// Metadata of the topmost layer that has it.
    pub metadata: Metadata,
    /// Path on the host. Open it with `O_NOFOLLOW`.
    pub host_path: PathBuf,
    /// Index of the layer in the view, base first.
    pub layer: usize,
    /// For a directory: the layers whose directories make it up, topmost first. Merging has already
    /// stopped at opaque marks, whiteouts and files.
    merged: Vec<usize>,
}

impl Entry {
    /// An entry of a tree that is no view of layers, such as a build context: `path` in that
    /// tree, and `host_path` where it lies.
    pub fn outside_layers(path: PathBuf, metadata: Metadata, host_path: PathBuf) -> Self {
        Self {
            path,
            metadata,
            host_path,
            layer: 0,
            merged: Vec::new(),
        }
    }

    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.metadata.kind == FileKind::Directory
    }
}

impl Metadata {
    /// What `stat` says.
    pub fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::CharacterDevice => FileKind::CharDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::RegularFile | FileType::Unknown => FileKind::File,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            ctime: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
            inode: (stat.st_dev, stat.st_ino),
            links: link_count(stat),
            rdev: (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
        }
    }

    /// What `stat` says of an open file of a layer, and what is noted of its [owner].
    pub(crate) fn of_file(stat: &Stat, file: BorrowedFd<'_>) -> Self {
        Self::of(stat).owned_by(owner::noted(stat, file))
    }

    /// The same for `name` in an open directory.
    pub(crate) fn of_name(stat: &Stat, parent: BorrowedFd<'_>, name: &OsStr) -> Self {
        Self::of(stat).owned_by(owner::noted_at(stat, parent, name))
    }

    /// What an entry will have once its layer is made. Only what an archive says of it.
    pub(crate) fn coming(entry: &Coming) -> Self {
        Self {
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.owner.0,
            gid: entry.owner.1,
            size: entry.size,
            mtime: (entry.mtime, 0),
            ..Self::empty_root()
        }
    }

    fn owned_by(self, owner: Option<(u32, u32)>) -> Self {
        let (uid, gid) = owner.unwrap_or((self.uid, self.gid));
        Self { uid, gid, ..self }
    }

    /// What an empty stack has as its root.
    fn empty_root() -> Self {
        Self {
            kind: FileKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            ctime: (0, 0),
            inode: (0, 0),
            links: 2,
            rdev: (0, 0),
        }
    }
}

fn nanoseconds(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(0)
}

fn link_count(stat: &Stat) -> u64 {
    // The field is 32 or 64 bits wide, depending on the architecture.
    #[allow(
        clippy::useless_conversion,
        reason = "not useless on every architecture"
    )]
    u64::from(stat.st_nlink)
}

/// Why a path has no entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// Reading a layer failed.
    #[error("{action} `{path}` in a layer")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Host path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// More than 40 symlinks (the kernel's own limit).
    #[error("too many symbolic links in `{path}`")]
    Loop {
        /// The path asked for.
        path: PathBuf,
    },
    /// A component that is not a directory has something below it.
    #[error("`{path}` is not a directory")]
    NotADirectory {
        /// The component, from the view's root.
        path: PathBuf,
    },
}

/// What the lower layers have at a path.
#[derive(Debug, Clone)]
struct Found {
    metadata: Metadata,
    layer: usize,
    merged: Vec<usize>,
}

/// A stack of layers as one tree.
#[derive(Debug)]
pub struct LayerView {
    layers: Vec<Arc<LayerRoot>>,
    /// Directories that the layers below the topmost have, by path.
    lower: Mutex<HashMap<PathBuf, Found>>,
}

impl LayerView {
    /// A view of `layers`, base first (a scratch's upper directory may be the last). Opaque marks
    /// are `user.overlay.opaque` or `trusted.overlay.opaque`: both are honoured. With no layers at
    /// all it has an empty root.
    pub fn new(layers: Vec<PathBuf>) -> Self {
        // Descriptors are scarce (1024 by default) and views are many: a tall stack opens the
        // roots of its upper part anew each time.
        let layers = layers.into_iter().enumerate();
        let layers = layers.map(|(index, path)| Arc::new(LayerRoot::new(path, index < 64)));
        Self {
            layers: layers.collect(),
            lower: Mutex::default(),
        }
    }

    /// This stack with one more layer on top.
    #[must_use]
    pub fn with_upper(&self, upper: PathBuf) -> Self {
        let mut layers = self.layers.clone();
        layers.push(Arc::new(LayerRoot::new(upper, true)));
        Self {
            layers,
            lower: Mutex::default(),
        }
    }

    /// The directories of the layers, base first.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.layers.iter().map(|layer| layer.path())
    }

    /// The root directory.
    pub fn root(&self) -> Result<Entry, ViewError> {
        let Some(top) = self.layers.len().checked_sub(1) else {
            return Ok(Entry {
                path: PathBuf::new(),
                metadata: Metadata::empty_root(),
                host_path: PathBuf::new(),
                layer: 0,
                merged: Vec::new(),
            });
        };
        let layer = &self.layers[top];
        let metadata = layer.root_metadata()?;
        let merged = (0..self.layers.len()).rev().collect();
        Ok(self.entry(
            PathBuf::new(),
            Found {
                metadata,
                layer: top,
                merged,
            },
        ))
    }

    /// The entry at `path`; symlinks in all components but the last are followed inside the root,
    /// and the last too if `follow`. None if nothing is there. A trailing slash changes nothing.
    pub fn lookup(&self, path: &Path, follow: bool) -> Result<Option<Entry>, ViewError> {
        match self.resolve(path, follow) {
            Ok((entry, missing)) => Ok(missing.as_os_str().is_empty().then_some(entry)),
            Err(ViewError::NotADirectory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows `path` as far as it exists: the resolved existing part as an entry, and the
    /// components that are missing. `follow` as in [`lookup`](Self::lookup). A dangling symlink
    /// at the end is followed to where its target would be. `..` takes back a missing
    /// component, and stays at the root.
    pub fn resolve(&self, path: &Path, follow: bool) -> Result<(Entry, PathBuf), ViewError> {
        // Components still to go, the next one last.
        let mut pending: Vec<OsString> = Vec::new();
        push_components(&mut pending, path);
        let mut trail = vec![self.root()?];
        let mut missing: Vec<OsString> = Vec::new();
        let mut symlinks = 0;
        while let Some(name) = pending.pop() {
            let current = trail.last().expect("the root is never popped");
            if missing.is_empty() && !current.is_dir() {
                return Err(ViewError::NotADirectory {
                    path: current.path.clone(),
                });
            }
            if name == ".." {
                if missing.pop().is_none() && trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            if !missing.is_empty() {
                missing.push(name);
                continue;
            }
            let Some(entry) = self.fresh_child(current, &name)? else {
                missing.push(name);
                continue;
            };
            if entry.metadata.kind == FileKind::Symlink && (follow || !pending.is_empty()) {
                symlinks += 1;
                if symlinks > MAX_SYMLINKS {
                    return Err(ViewError::Loop {
                        path: path.to_owned(),
                    });
                }
                let target = self.read_link(&entry)?;
                if target.is_absolute() {
                    trail.truncate(1);
                }
                push_components(&mut pending, &target);
            } else {
                trail.push(entry);
            }
        }
        let entry = trail.pop().expect("the root is never popped");
        Ok((entry, missing.into_iter().collect()))
    }

    /// The children of a directory entry, merged, sorted by name's bytes.
    pub fn read_dir(&self, directory: &Entry) -> Result<Vec<Entry>, ViewError> {
        let mut names: BTreeMap<Vec<u8>, Merging> = BTreeMap::new();
        for &index in &directory.merged {
            let layer = &self.layers[index];
            let fail = |source| layer.error("read directory", &directory.path, source);
            let Some(file) = layer.open_dir(&directory.path)? else {
                continue;
            };
            for (name, kind) in beneath::names(file.as_fd()).map_err(fail)? {
                let os_name = OsStr::from_bytes(&name);
                let stat = || beneath::stat_at(file.as_fd(), os_name).map_err(fail);
                let Some(known) = names.get_mut(&name) else {
                    if let Some(stat) = stat()? {
                        let metadata = (!is_whiteout(&stat))
                            .then(|| Metadata::of_name(&stat, file.as_fd(), os_name));
                        names.insert(name, Merging::new(metadata, index));
                    }
                    continue;
                };
                if !known.open {
                    continue;
                }
                let is_dir = match kind {
                    FileType::Directory => true,
                    FileType::Unknown => stat()?.is_some_and(|stat| is_directory(&stat)),
                    _ => false,
                };
                // The mark of the directory above is read only now, when it matters.
                let above = known.layers.last().map(|above| &self.layers[*above]);
                let path = directory.path.join(os_name);
                if is_dir && above.is_some_and(|above| !above.is_opaque(&path)) {
                    known.layers.push(index);
                } else {
                    known.open = false;
                }
            }
        }
        let mut entries = Vec::with_capacity(names.len());
        for (name, merging) in names {
            if let Some(metadata) = merging.metadata {
                let found = Found {
                    metadata,
                    layer: merging.layers[0],
                    merged: if merging.directory {
                        merging.layers
                    } else {
                        Vec::new()
                    },
                };
                entries.push(self.entry(beneath::join(&directory.path, &name), found));
            }
        }
        Ok(entries)
    }

    /// The child `name` of a directory entry. A `name` with a slash, `.` and `..` have no child.
    pub fn child(&self, directory: &Entry, name: &OsStr) -> Result<Option<Entry>, ViewError> {
        if !is_plain_name(name) {
            return Ok(None);
        }
        self.fresh_child(directory, name)
    }

    /// The target of a symlink entry.
    pub fn read_link(&self, entry: &Entry) -> Result<PathBuf, ViewError> {
        let (layer, file) = self.open_path(entry)?;
        let target = rustix::fs::readlinkat(&file, "", Vec::new())
            .map_err(|source| layer.error("read link", &entry.path, source))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Opens a regular file.
    pub fn open(&self, entry: &Entry) -> Result<File, ViewError> {
        let layer = self.layer_of(entry)?;
        layer.open_file(&entry.path)
    }

    /// Opens the directory that has an entry, in the layer where the entry lies, as an `O_PATH` descriptor.
    pub fn open_parent(&self, entry: &Entry) -> Result<OwnedFd, ViewError> {
        let layer = self.layer_of(entry)?;
        layer.open_path(entry.path.parent().unwrap_or(Path::new("")))
    }

    /// The extended attributes of an entry as (name, value), sorted, without overlay's own and the store's.
    pub fn xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>, ViewError> {
        if self.layers.is_empty() {
            return Ok(Vec::new());
        }
        let (layer, file) = self.open_path(entry)?;
        let list = xattr::list(file.as_fd());
        kept(list).map_err(|source| layer.error("read attributes of", &entry.path, source))
    }

    /// [`xattrs`](Self::xattrs) of an entry whose [parent](Self::open_parent) is open.
    pub fn xattrs_in(
        &self,
        parent: BorrowedFd<'_>,
        entry: &Entry,
    ) -> Result<Vec<Xattr>, ViewError> {
        let layer = self.layer_of(entry)?;
        let list = xattr::list_at(parent, entry.path.file_name().unwrap_or(OsStr::new(".")));
        kept(list).map_err(|source| layer.error("read attributes of", &entry.path, source))
    }

    /// The attributes of an entry that belong to an image, as it carries them.
    pub(crate) fn portable_xattrs(&self, entry: &Entry) -> Result<Vec<Xattr>, ViewError> {
        if self.layers.is_empty() {
            return Ok(Vec::new());
        }
        let (layer, file) = self.open_path(entry)?;
        xattr::list_portable(file.as_fd())
            .map_err(|source| layer.error("read attributes of", &entry.path, source))
    }

    /// Visits every entry below `start` (itself included), parents first, siblings sorted by bytes.
    pub fn walk(
        &self,
        start: &Entry,
        visit: &mut dyn FnMut(&Entry) -> Result<(), ViewError>,
    ) -> Result<(), ViewError> {
        self.try_walk(start, visit)
    }

    /// [`walk`](Self::walk) for a visitor with errors of its own.
    pub fn try_walk<E: From<ViewError>>(
        &self,
        start: &Entry,
        visit: &mut dyn FnMut(&Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        // A stack of our own: a hostile layer may be thousands of directories deep.
        let mut pending = vec![start.clone()];
        while let Some(entry) = pending.pop() {
            visit(&entry)?;
            if entry.is_dir() {
                pending.extend(self.read_dir(&entry)?.into_iter().rev());
            }
        }
        Ok(())
    }

    /// Whether the layers below the topmost have `name` in this directory.
    pub(crate) fn is_below(&self, directory: &Entry, name: &OsStr) -> Result<bool, ViewError> {
        let (_, rest) = self.split_top(&directory.merged);
        Ok(self.scan(rest, &directory.path.join(name))?.is_some())
    }

    /// The directory entry's children in the layers below the topmost.
    pub(crate) fn children_below(&self, directory: &Entry) -> Result<Vec<Entry>, ViewError> {
        let (_, rest) = self.split_top(&directory.merged);
        self.read_dir(&Entry {
            merged: rest.to_vec(),
            ..directory.clone()
        })
    }

    /// The child, with the part that can't change taken from the cache.
    fn fresh_child(&self, directory: &Entry, name: &OsStr) -> Result<Option<Entry>, ViewError> {
        let path = directory.path.join(name);
        let (top, rest) = self.split_top(&directory.merged);
        let upper = match top {
            Some(top) => self.layers[top].find(&path)?,
            None => None,
        };
        let found = match upper {
            Some((_, stat)) if is_whiteout(&stat) => None,
            Some((file, stat)) => {
                let top = top.expect("found in the topmost layer");
                let mut merged = Vec::new();
                if is_directory(&stat) {
                    merged.push(top);
                    if !rest.is_empty()
                        && let Some(lower) = self.lower(rest, &path)?
                        && !is_opaque(file.as_fd())
                    {
                        merged.extend_from_slice(&lower.merged);
                    }
                }
                Some(Found {
                    metadata: Metadata::of_file(&stat, file.as_fd()),
                    layer: top,
                    merged,
                })
            }
            None => self.lower(rest, &path)?,
        };
        Ok(found.map(|found| self.entry(path, found)))
    }

    /// What the layers `rest` (all below the topmost) have at `path`. Their parent directory at a
    /// path is always the same or, if the topmost layer hides it, empty: the path alone is the key.
    fn lower(&self, rest: &[usize], path: &Path) -> Result<Option<Found>, ViewError> {
        if rest.is_empty() {
            return Ok(None);
        }
        let cache = || self.lower.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = cache().get(path) {
            return Ok(Some(found.clone()));
        }
        let found = self.scan(rest, path)?;
        if let Some(found) = &found
            && found.metadata.kind == FileKind::Directory
        {
            let mut cache = cache();
            if cache.len() >= MAX_CACHED {
                cache.clear();
            }
            cache.insert(path.to_owned(), found.clone());
        }
        Ok(found)
    }

    /// What `stack` (topmost first, all of them having the parent directory) has at `path`.
    fn scan(&self, stack: &[usize], path: &Path) -> Result<Option<Found>, ViewError> {
        let mut found: Option<(Metadata, Vec<usize>)> = None;
        let mut above: Option<OwnedFd> = None;
        for &index in stack {
            let Some((file, stat)) = self.layers[index].find(path)? else {
                continue;
            };
            match &mut found {
                _ if is_whiteout(&stat) => break,
                None => {
                    found = Some((Metadata::of_file(&stat, file.as_fd()), vec![index]));
                    if !is_directory(&stat) {
                        break;
                    }
                }
                // The mark of the directory above is read only now, when it matters.
                Some((_, layers)) => {
                    if !is_directory(&stat) || above.is_some_and(|above| is_opaque(above.as_fd())) {
                        break;
                    }
                    layers.push(index);
                }
            }
            above = Some(file);
        }
        Ok(found.map(|(metadata, layers)| Found {
            layer: layers[0],
            merged: if metadata.kind == FileKind::Directory {
                layers
            } else {
                Vec::new()
            },
            metadata,
        }))
    }

    /// The topmost layer if it is in `merged`, and the others.
    fn split_top<'a>(&self, merged: &'a [usize]) -> (Option<usize>, &'a [usize]) {
        match merged.split_first() {
            Some((first, rest)) if first + 1 == self.layers.len() => (Some(*first), rest),
            _ => (None, merged),
        }
    }

    fn entry(&self, path: PathBuf, found: Found) -> Entry {
        let root = self.layers[found.layer].path();
        Entry {
            host_path: if path.as_os_str().is_empty() {
                root.to_owned()
            } else {
                root.join(&path)
            },
            path,
            metadata: found.metadata,
            layer: found.layer,
            merged: found.merged,
        }
    }

    fn layer_of(&self, entry: &Entry) -> Result<&LayerRoot, ViewError> {
        let layer = self.layers.get(entry.layer).map(AsRef::as_ref);
        layer.ok_or_else(|| ViewError::Io {
            action: "find",
            path: entry.path.clone(),
            source: rustix::io::Errno::NOENT.into(),
        })
    }

    fn open_path(&self, entry: &Entry) -> Result<(&LayerRoot, OwnedFd), ViewError> {
        let layer = self.layer_of(entry)?;
        match layer.find(&entry.path)? {
            Some((file, _)) => Ok((layer, file)),
            None => Err(layer.error("open", &entry.path, rustix::io::Errno::NOENT)),
        }
    }
}

/// A name while the layers that have it are gathered, topmost first.
struct Merging {
    /// None for a whiteout.
    metadata: Option<Metadata>,
    directory: bool,
    layers: Vec<usize>,
    /// Whether layers below may still add to it.
    open: bool,
}

impl Merging {
    fn new(metadata: Option<Metadata>, layer: usize) -> Self {
        let directory = metadata
            .as_ref()
            .is_some_and(|metadata| metadata.kind == FileKind::Directory);
        Self {
            metadata,
            directory,
            layers: vec![layer],
            open: directory,
        }
    }
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Without overlay's own and the store's.
fn kept(list: rustix::io::Result<Vec<Xattr>>) -> rustix::io::Result<Vec<Xattr>> {
    let mut list = list?;
    list.retain(|(name, _)| !xattr::is_overlay(name) && name != owner::ATTRIBUTE);
    Ok(list)
}

fn is_plain_name(name: &OsStr) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.as_bytes().contains(&b'/')
}

/// Puts the components of `path` on the stack, the first one on top.
fn push_components(pending: &mut Vec<OsString>, path: &Path) {
    let components = path
        .as_os_str()
        .as_bytes()
        .split(|byte| *byte == b'/')
        .rev();
    let components = components.filter(|name| !name.is_empty() && *name != b".");
    pending.extend(components.map(|name| OsStr::from_bytes(name).to_owned()));
}

#[cfg(test)]
mod tests;
