//! The store's root directory.
//!
//! ```text
//! ROOT/
//!   version          format and flavour: "strata-store 1 root" or "strata-store 1 user"
//!   index.db         SQLite in WAL mode: records, layers, images, blobs, lease references
//!   layers/<id>/     committed layers: overlay upper directories, never written again
//!   blobs/sha256/    files by digest: manifests, configs, compressed layers
//!   scratch/<name>/  work in progress of one process; <name>.lock is locked while it lives
//!   locks/           one file for each key being built
//!   leases/          one locked file for each running build
//!   mounts/<id>/     cache mounts
//!   statcache/       two files for each context: digests of its files, and what was seen in walks of it
//!   reserve/         room that a prune of a full store needs
//!   stub-<n>/        mount points for images that lack them; made by the sandbox
//! ```
//!
//! The version file is made last: a root without it is not finished, and whoever opens it next
//! finishes it.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

use crate::blob::Blobs;
pub use crate::error::StoreError;
use crate::index::Index;
use crate::layer::EmptyLayers;
use crate::lock::FileLock;
use crate::snapshot::Snapshotter;
use crate::{Digest, LayerId, brief, owner, tree};

/// Version of the directory layout; the index has its own.
const FORMAT: u32 = 1;

const DIRECTORIES: [&str; 8] = [
    "layers",
    "blobs",
    "blobs/sha256",
    "scratch",
    "locks",
    "leases",
    "mounts",
    "statcache",
];

/// Whose xattrs the store's layers carry. Layers of the two flavours can't be mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Made by root of the machine: `trusted.overlay.*`.
    Root,
    /// Made by an ordinary user, by root of a user namespace, or by a container's root without
    /// `CAP_SYS_ADMIN`: `user.overlay.*`.
    User,
}

impl Flavour {
    /// The word in the version file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
        }
    }

    /// The flavour that this process makes: `Root` for uid 0 with all ids of the machine and
    /// `CAP_SYS_ADMIN`, without which `trusted.*` can't be written (a container's root, as a rule).
    pub fn of_process() -> Self {
        let identity = brief::read_to_string(Path::new("/proc/self/uid_map"))
            .is_ok_and(|map| map.split_whitespace().eq(["0", "0", "4294967295"]));
        let admin = rustix::thread::capabilities(None).is_ok_and(|sets| {
            sets.effective
                .contains(rustix::thread::CapabilitySet::SYS_ADMIN)
        });
        if identity && admin && rustix::process::geteuid().is_root() {
            Self::Root
        } else {
            Self::User
        }
    }
}

/// What [`Store::open_with`] may be told instead of finding it out.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The boot that rows are marked with; the kernel's boot id by default.
    pub boot_id: Option<String>,
    /// The flavour; that of the process by default.
    pub flavour: Option<Flavour>,
    /// Never write, even where it would be possible.
    pub read_only: bool,
}

/// An open store. Cheap to share: every method takes `&self`, from any thread.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    blobs: Blobs,
    /// True for [`Snapshotter::Native`].
    native: AtomicBool,
}

/// What a store's handles have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    pub(crate) flavour: Flavour,
    pub(crate) index: Index,
    /// This process's part of `scratch/`, made when it is first needed.
    owner: Mutex<Option<Arc<Owner>>>,
    /// Directories in there that are to be removed.
    leavings: Mutex<Vec<PathBuf>>,
    pub(crate) empty_layers: EmptyLayers,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there.
    ///
    /// Does nothing that a fully cached build does not need: no pruning, no probe for overlayfs.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_with(root, OpenOptions::default())
    }

    /// [`open`](Self::open) with some answers given.
    ///
    /// A store that can't be written to (a read-only file system, somebody else's directory) opens
    /// for reading: look-ups work, everything that would publish is [`StoreError::ReadOnly`].
    pub fn open_with(root: &Path, options: OpenOptions) -> Result<Self, StoreError> {
        let root = std::path::absolute(root)
            .map_err(|source| StoreError::io("find the absolute path of", root, source))?;
        let flavour = options.flavour.unwrap_or_else(Flavour::of_process);
        let version = root.join("version");
        let mut text = read_version(&version)?;
        if text.is_empty() && !options.read_only {
            create(&root, flavour)?;
            text = read_version(&version)?;
        }
        check_version(&root, &text, flavour)?;
        let read_only = options.read_only
            || match rustix::fs::accessat(CWD, &root, Access::WRITE_OK, AtFlags::EACCESS) {
                Ok(()) => false,
                Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => true,
                Err(source) => return Err(StoreError::io("look at", &root, source)),
            };
        owner::opened(&root, read_only)
            .map_err(|source| StoreError::io("look for noted owners in", &root, source))?;
        let boot = match options.boot_id {
            Some(boot) => boot,
            None => boot_id()?,
        };
        let index = Index::open(&root, boot, read_only)?;
        let shared = Arc::new(Shared {
            root,
            flavour,
            index,
            owner: Mutex::new(None),
            leavings: Mutex::default(),
            empty_layers: EmptyLayers::default(),
        });
        Ok(Self {
            blobs: Blobs::new(Arc::clone(&shared)),
            shared,
            native: AtomicBool::new(false),
        })
    }

    /// The root directory, absolute.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// Whose xattrs the layers carry.
    pub fn flavour(&self) -> Flavour {
        self.shared.flavour
    }

    /// True if overlays on this store's layers need the `userxattr` option.
    pub fn userxattr(&self) -> bool {
        self.shared.flavour == Flavour::User
    }

    /// True if nothing can be published here.
    pub fn is_read_only(&self) -> bool {
        self.shared.index.is_read_only()
    }

    /// The kernel's name for this boot.
    pub fn boot_id(&self) -> &str {
        self.shared.index.boot()
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.shared.index
    }

    /// The files named by digest.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// The directory of a committed layer.
    pub fn layer_path(&self, layer: LayerId) -> PathBuf {
        self.shared.layer_path(layer)
    }

    /// The directory of the cache mount `id`, made on first use (0755, owned by the caller).
    ///
    /// Take the lock named [`mount_lock`](crate::prune::mount_lock) first, shared or not, and hold
    /// it while the mount is used: that keeps it from being pruned. What a power cut may have damaged
    /// is thrown away first. A file beside the directory with
    /// the extension `ready` is the caller's, to note that it was filled; it goes with the directory.
    pub fn cache_mount_path(&self, id: &str) -> Result<PathBuf, StoreError> {
        let name = Digest::of(id.as_bytes()).hex()[..32].to_owned();
        let path = self.root().join("mounts").join(&name);
        let mut trash = None;
        if self.shared.index.is_doubtful_mount(&name)? {
            trash = Some(self.shared.owner()?.fresh("trash"));
        }
        self.shared.index.touch_mount(&name, id, || match &trash {
            Some(trash) => crate::prune::move_mount_away(&path, trash),
            None => Ok(()),
        })?;
        if let Some(trash) = trash {
            tree::remove(&trash)?;
        }
        match DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::io("create", &path, source)),
        }
        Ok(path)
    }

    /// The way of stacking layers that [`set_snapshotter`](Self::set_snapshotter) was told;
    /// `Overlay` before.
    pub fn snapshotter(&self) -> Snapshotter {
        if self.native.load(Ordering::Relaxed) {
            Snapshotter::Native
        } else {
            Snapshotter::Overlay
        }
    }

    /// Says which way of stacking layers this host allows. Finding out takes a mount, which is the
    /// sandbox's business.
    pub fn set_snapshotter(&self, snapshotter: Snapshotter) {
        self.native
            .store(snapshotter == Snapshotter::Native, Ordering::Relaxed);
    }

    pub(crate) fn locks_dir(&self) -> PathBuf {
        self.root().join("locks")
    }
}

impl Shared {
    pub(crate) fn layer_path(&self, layer: LayerId) -> PathBuf {
        self.root.join("layers").join(layer.to_string())
    }

    /// Leaves a directory of this process's to be removed when there is time.
    pub(crate) fn leave(&self, directory: PathBuf) {
        let mut leavings = self.leavings.lock().unwrap_or_else(PoisonError::into_inner);
        leavings.push(directory);
    }

    /// What is to be removed.
    pub(crate) fn leavings(&self) -> Vec<PathBuf> {
        let mut leavings = self.leavings.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut leavings)
    }

    /// This process's part of `scratch/`.
    pub(crate) fn owner(&self) -> Result<Arc<Owner>, StoreError> {
        if self.index.is_read_only() {
            return Err(StoreError::ReadOnly {
                path: self.root.clone(),
            });
        }
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(owner) = &*owner {
            return Ok(Arc::clone(owner));
        }
        let made = Arc::new(Owner::new(&self.root.join("scratch"))?);
        *owner = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// The part of `scratch/` that one process (one open store, to be exact) works in.
#[derive(Debug)]
pub(crate) struct Owner {
    directory: PathBuf,
    next: std::sync::atomic::AtomicU64,
    /// Dropped after the directory is gone.
    _lock: FileLock,
}

impl Owner {
    fn new(scratch: &Path) -> Result<Self, StoreError> {
        loop {
            let name = random_name()?;
            // ORDER: locked before the directory exists. A collector takes the lock first, so a
            // directory that it finds unlocked belongs to nobody.
            let Some(lock) = FileLock::try_acquire(scratch.join(format!("{name}.lock")), false)?
            else {
                continue;
            };
            let directory = scratch.join(name);
            match DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => {
                    return Ok(Self {
                        directory,
                        next: 0.into(),
                        _lock: lock,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreError::io("create", &directory, source)),
            }
        }
    }

    /// A path in the directory that was not given before. Nothing is there yet.
    pub(crate) fn fresh(&self, what: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{what}{number}"))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // What can't be removed now is collected once the lock is gone.
        drop(tree::remove(&self.directory));
    }
}

/// Sixteen random hex digits.
pub(crate) fn random_name() -> Result<String, StoreError> {
    Ok(format!("{:016x}", random_u64()?))
}

/// A random number from the kernel.
pub(crate) fn random_u64() -> Result<u64, StoreError> {
    let mut bytes = [0_u8; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(source) => return Err(StoreError::io("read", Path::new("getrandom"), source)),
        }
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| {
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
}

fn boot_id() -> Result<String, StoreError> {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    if let Ok(id) = std::env::var("STRATA_BOOT_ID") {
        return Ok(id);
    }
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    brief::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .map_err(|source| StoreError::io("read", path, source))
}

/// Makes the directories, the index and, last, the version file.
fn create(root: &Path, flavour: Flavour) -> Result<(), StoreError> {
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(|source| StoreError::io("create", parent, source))?;
    }
    // Closed to others: layers hold set-uid programs of images, and secrets that got into one.
    match DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(StoreError::io("create", root, source)),
    }
    refuse_foreign(root)?;
    let lock = FileLock::acquire(root.join(".creating"), false, &mut || {})?;
    let version = root.join("version");
    if !read_version(&version)?.is_empty() {
        return Ok(());
    }
    for name in DIRECTORIES {
        let path = root.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::io("create", &path, source)),
        }
    }
    drop(Index::open(root, String::new(), false)?);
    // ORDER: the version file comes last and whole. Who sees it may rely on all the rest.
    let draft = root.join(".version");
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            writeln!(file, "strata-store {FORMAT} {}", flavour.as_str())?;
            // A power cut may leave a file that was renamed and never flushed with nothing in it.
            file.sync_all()
        })
        .map_err(|source| StoreError::io("write", &draft, source))?;
    fs::rename(&draft, &version).map_err(|source| StoreError::io("rename", &draft, source))?;
    drop(lock);
    Ok(())
}

/// What the version file says; nothing if there is none, or one that a power cut emptied.
fn read_version(path: &Path) -> Result<String, StoreError> {
    match brief::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(|source| StoreError::io("read", path, source)),
    }
}

/// A directory with anything in it that is not ours is somebody's, and never becomes a store.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(root).map_err(|source| StoreError::io("read", root, source))?;
    for entry in entries {
        let name = entry
            .map_err(|source| StoreError::io("read", root, source))?
            .file_name();
        let ours = name.to_str().is_some_and(|name| {
            DIRECTORIES.contains(&name)
                || name.starts_with("index.db")
                || name.starts_with("stub-")
                || matches!(
                    name,
                    "version"
                        | ".version"
                        | ".creating"
                        | "snapshotter"
                        | "reserve"
                        | "collected"
                        | "pruned"
                        | owner::MARK
                        | "lost+found"
                )
        });
        if !ours {
            return Err(StoreError::Foreign {
                path: root.to_owned(),
                reason: format!(
                    "it is not empty (it holds `{}`); give an empty or a new directory",
                    name.display()
                ),
            });
        }
    }
    Ok(())
}

fn check_version(root: &Path, text: &str, flavour: Flavour) -> Result<(), StoreError> {
    let foreign = |reason: String| StoreError::Foreign {
        path: root.to_owned(),
        reason,
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [name, format, found] = words[..] else {
        return Err(foreign("its `version` file is not a store's".to_owned()));
    };
    if name != "strata-store" {
        return Err(foreign("its `version` file is not a store's".to_owned()));
    }
    if format != FORMAT.to_string() {
        return Err(foreign(format!(
            "its format is {format}, this strata knows {FORMAT}; use another root or the strata \
             that made it"
        )));
    }
    if found != flavour.as_str() {
        return Err(foreign(match flavour {
            Flavour::Root => {
                "it was made by an ordinary user (or without CAP_SYS_ADMIN), and root \
                              can't use its layers; give another directory with `--root`"
                    .to_owned()
            }
            Flavour::User => "it was made by root, and an ordinary user (or root without \
                              CAP_SYS_ADMIN) can't use its layers; give another directory with \
                              `--root`"
                .to_owned(),
        }));
    }
    Ok(())
}
