//! The whole file system of an image: as one tar, or copied into a directory.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use strata_cache::diff::{self, DiffError, WriteOptions};
use strata_cache::view::{Entry, FileKind, Metadata};
use strata_cache::{Digest, HardLinks, LayerId, LayerView, Scratch, Store};

use super::output::failed;
use super::place::Place;
use super::{BuiltImage, ExportError, ExportOptions, FilesBeside, ImageSet};
use crate::attest::Subject;
use crate::parallel::in_parallel;
use crate::{Platform, Progress};

/// The merged trees of images, each with the directory that it goes to.
pub(super) struct Trees<'store> {
    trees: Vec<Tree<'store>>,
}

/// The merged tree of an image's layers.
struct Tree<'store> {
    platform: Platform,
    /// Empty, or the directory of its platform.
    directory: String,
    view: LayerView,
    /// Hard links of each layer, base first.
    links: Vec<HardLinks>,
    /// The layers, base first.
    stack: Vec<LayerId>,
    /// Holds what is put on top of them.
    beside: Option<Scratch<'store>>,
}

impl<'store> Tree<'store> {
    fn open(store: &'store Store, image: &BuiltImage, split: bool) -> Result<Self, ExportError> {
        let mut stack = Vec::with_capacity(image.layers().len());
        let mut links = Vec::with_capacity(image.layers().len());
        for layer in image.layers() {
            let id = layer.layer.ok_or(ExportError::NotUnpacked {
                diff_id: layer.diff_id.0,
            })?;
            stack.push(id);
            links.push(store.hard_links(id)?);
        }
        let platform = image.platform().clone();
        Ok(Self {
            directory: if split {
                // A config may say anything of itself.
                let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
                let name = platform.to_string();
                name.replace(|letter| !plain(letter), "_")
            } else {
                String::new()
            },
            platform,
            view: LayerView::new(store.layer_paths(&stack)),
            links,
            stack,
            beside: None,
        })
    }

    /// Puts files about the image beside its own, as a layer on top. They have the image's time.
    fn put_beside(
        &mut self,
        store: &'store Store,
        image: &BuiltImage,
        platform: Option<&Platform>,
        files: FilesBeside<'_>,
    ) -> Result<(), ExportError> {
        let files = (files.0)(image, platform, &self.subjects()?);
        if files.is_empty() {
            return Ok(());
        }
        let created = image.config().created.as_ref();
        let created = created.and_then(crate::config::Time::timestamp);
        let seconds = created.map_or(0, |created| created.as_second().max(0).unsigned_abs());
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let scratch = store.scratch(&self.stack)?;
        for (name, content) in files {
            if self.view.lookup(Path::new(&name), false)?.is_some() {
                return Err(ExportError::FileConflict { name });
            }
            let path = scratch.upper().join(&name);
            let written = File::create_new(&path).and_then(|mut file| {
                file.write_all(&content)?;
                file.set_permissions(Permissions::from_mode(0o644))?;
                file.set_modified(time)
            });
            written.map_err(|source| failed("write", &path, source))?;
        }
        self.view = self.view.with_upper(scratch.upper().to_owned());
        self.links.push(HardLinks::default());
        self.beside = Some(scratch);
        Ok(())
    }

    /// Every regular file of the image, with its digest.
    fn subjects(&self) -> Result<Vec<Subject>, ExportError> {
        let mut files = Vec::new();
        let root = self.view.root()?;
        self.view.walk(&root, &mut |entry| {
            if entry.metadata.kind == FileKind::File {
                files.push(entry.clone());
            }
            Ok(())
        })?;
        in_parallel(HASHERS, &files, |entry| {
            let mut file = self.view.open(entry)?;
            let (digest, _) = Digest::of_reader(&mut file)
                .map_err(|source| failed("read", &entry.host_path, source))?;
            Ok(Subject {
                name: entry.path.to_string_lossy().into_owned(),
                digest,
            })
        })
    }
}

/// Files that are read at a time, to have their digests.
const HASHERS: usize = 4;

impl<'store> Trees<'store> {
    pub(super) fn open(
        store: &'store Store,
        set: &ImageSet<'_>,
        options: &ExportOptions<'_>,
    ) -> Result<Self, ExportError> {
        let split = options
            .platform_split
            .unwrap_or(set.index || set.images.len() > 1);
        let images = set.images.iter();
        let trees = images.map(|image| Tree::open(store, image, split));
        let mut trees = Self {
            trees: trees.collect::<Result<_, _>>()?,
        };
        if let Some(files) = options.files {
            let shared = set.images.len() > 1 && !split;
            for (tree, image) in trees.trees.iter_mut().zip(set.images) {
                let platform = shared.then(|| tree.platform.clone());
                tree.put_beside(store, image, platform.as_ref(), files)?;
            }
        }
        if !split {
            trees.check_disjoint()?;
        }
        Ok(trees)
    }

    /// An error if a file is in two of the trees.
    fn check_disjoint(&self) -> Result<(), ExportError> {
        if self.trees.len() < 2 {
            return Ok(());
        }
        let mut seen: HashMap<PathBuf, &Platform> = HashMap::new();
        for tree in &self.trees {
            let root = tree.view.root()?;
            tree.view.try_walk(&root, &mut |entry| {
                if entry.is_dir() {
                    return Ok(());
                }
                match seen.insert(entry.path.clone(), &tree.platform) {
                    None => Ok(()),
                    Some(first) => Err(ExportError::PlatformConflict {
                        path: Path::new("/").join(&entry.path),
                        first: Box::new(first.clone()),
                        second: Box::new(tree.platform.clone()),
                    }),
                }
            })?;
        }
        Ok(())
    }

    /// Writes the trees as one tar.
    pub(super) fn write_tar(
        &self,
        options: WriteOptions,
        output: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<(), ExportError> {
        let links: Vec<HardLinks> = self
            .trees
            .iter()
            .map(|tree| {
                let groups = tree.links.iter().flat_map(|links| links.0.iter().cloned());
                HardLinks(groups.collect())
            })
            .collect();
        let trees: Vec<diff::Tree<'_>> = self
            .trees
            .iter()
            .zip(&links)
            .map(|(tree, links)| diff::Tree {
                view: &tree.view,
                links,
                directory: &tree.directory,
            })
            .collect();
        let mut counted = Counted {
            inner: output,
            done: 0,
            progress,
        };
        diff::write_trees(&trees, options, &mut counted).map_err(|error| match error {
            DiffError::View(error) => ExportError::View(error),
            source => ExportError::Tree { source },
        })?;
        let done = counted.done;
        progress.update(WHAT, done, Some(done));
        Ok(())
    }

    /// Copies the trees into the directory `target`, made if it is not there. What is there and in
    /// none of the trees stays, or with `delete` goes. Owners are kept by root only.
    pub(super) fn copy_to(
        &self,
        target: &Path,
        options: WriteOptions,
        delete: bool,
        progress: &dyn Progress,
    ) -> Result<(), ExportError> {
        let mut done = 0;
        for tree in &self.trees {
            let target = target.join(&tree.directory);
            if target.symlink_metadata().is_ok_and(|at| at.is_symlink())
                && !tree.directory.is_empty()
            {
                return Err(ExportError::Destination {
                    path: target,
                    reason: "is a symbolic link where a platform's directory has to be: remove it",
                });
            }
            done = tree.copy_to(&target, options, delete, progress, done)?;
        }
        if delete {
            let trees = self.trees.iter();
            let trees: Vec<_> = trees
                .map(|tree| (tree.directory.as_str(), &tree.view))
                .collect();
            Place::open(target)?.remove_stale(&trees)?;
        }
        progress.update(WHAT, done, Some(done));
        Ok(())
    }
}

impl Tree<'_> {
    /// Copies the tree, after `done` bytes of others. Answers how many bytes are copied then.
    fn copy_to(
        &self,
        target: &Path,
        options: WriteOptions,
        delete: bool,
        progress: &dyn Progress,
        done: u64,
    ) -> Result<u64, ExportError> {
        let mut groups = HashMap::new();
        for (layer, links) in self.links.iter().enumerate() {
            for (group, members) in links.0.iter().enumerate() {
                for member in members {
                    let path = PathBuf::from(OsStr::from_bytes(member));
                    groups.insert((layer, path), (layer, group));
                }
            }
        }
        let mut copy = Copy {
            view: &self.view,
            place: Place::open(target)?,
            options,
            delete,
            privileged: rustix::process::geteuid().is_root(),
            groups,
            first: HashMap::new(),
            serial: 0,
            done,
            progress,
        };
        copy.children(&self.view.root()?)?;
        Ok(copy.done)
    }
}

/// What progress calls it.
const WHAT: &str = "export";

/// Reports what is written through it.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    done: u64,
    progress: &'a dyn Progress,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        let before = self.done >> 20;
        self.done += count as u64;
        if self.done >> 20 != before {
            self.progress.update(WHAT, self.done, None);
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A copy under way.
struct Copy<'a> {
    view: &'a LayerView,
    place: Place<'a>,
    options: WriteOptions,
    /// A directory makes way for a file.
    delete: bool,
    privileged: bool,
    /// Which group of hard links (layer, number) a file of a layer belongs to.
    groups: HashMap<(usize, PathBuf), (usize, usize)>,
    /// The member of a group that was copied first.
    first: HashMap<(usize, usize), PathBuf>,
    serial: u64,
    done: u64,
    progress: &'a dyn Progress,
}

impl Copy<'_> {
    /// Copies everything below a directory that is there already. One descriptor is open at a
    /// time, however deep the tree is.
    fn children(&mut self, parent: &Entry) -> Result<(), ExportError> {
        let mut directories = Vec::new();
        {
            let there = self.place.directory(&parent.path)?;
            for entry in self.view.read_dir(parent)? {
                if entry.is_dir() {
                    self.make_directory(&there, &entry)?;
                    directories.push(entry);
                } else {
                    self.copy_entry(&there, &entry)?;
                }
            }
        }
        for entry in directories {
            self.children(&entry)?;
            let there = self.place.directory(&entry.path)?;
            self.finish(&there, &entry)?;
        }
        Ok(())
    }

    fn make_directory(&self, parent: &OwnedFd, entry: &Entry) -> Result<(), ExportError> {
        let name = name_of(entry);
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(self.place.failed("create", &entry.path, error)),
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.place.failed("stat", &entry.path, error))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        rustix::fs::unlinkat(parent, name, AtFlags::empty())
            .and_then(|()| rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)))
            .map_err(|error| self.place.failed("replace", &entry.path, error))
    }

    fn copy_entry(&mut self, parent: &OwnedFd, entry: &Entry) -> Result<(), ExportError> {
        let kind = entry.metadata.kind;
        // A socket is nothing without its process; a device takes privileges to make.
        let device = matches!(kind, FileKind::CharDevice | FileKind::BlockDevice);
        if kind == FileKind::Socket || (device && !self.privileged) {
            return Ok(());
        }
        self.serial += 1;
        let temporary = format!(".strata-{}-{}.tmp", std::process::id(), self.serial);
        let made = self.make(parent, &temporary, entry).and_then(|made| {
            if !made {
                return Ok(());
            }
            let rename = || rustix::fs::renameat(parent, &temporary, parent, name_of(entry));
            let renamed = match rename() {
                Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) if self.delete => {
                    self.place.remove_directory(&entry.path)?;
                    rename()
                }
                renamed => renamed,
            };
            renamed.map_err(|error| match error {
                Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST => ExportError::Destination {
                    path: self.place.path(&entry.path),
                    reason: "is a directory where the image has a file: remove it first",
                },
                error => self.place.failed("rename", &entry.path, error),
            })
        });
        // Two names of one file: the rename has done nothing, and both are still there.
        let _gone = rustix::fs::unlinkat(parent, &temporary, AtFlags::empty());
        made
    }

    /// Makes the entry under a temporary name. False if this user can't have it.
    fn make(&mut self, parent: &OwnedFd, name: &str, entry: &Entry) -> Result<bool, ExportError> {
        let metadata = &entry.metadata;
        let group = self.groups.get(&(entry.layer, entry.path.clone())).copied();
        if let Some(first) = group.and_then(|group| self.first.get(&group)) {
            let directory = self
                .place
                .directory(first.parent().unwrap_or(Path::new("")))?;
            let first = first.file_name().unwrap_or_default();
            return rustix::fs::linkat(&directory, first, parent, name, AtFlags::empty())
                .map(|()| true)
                .map_err(|error| self.place.failed("link", &entry.path, error));
        }
        match metadata.kind {
            FileKind::File => {
                let from = self.view.open(entry)?;
                let to = rustix::fs::openat(
                    parent,
                    name,
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
                    Mode::from_raw_mode(0o600),
                )
                .map_err(|error| self.place.failed("create", &entry.path, error))?;
                let to = File::from(to);
                self.done += strata_cache::clone_file(&from, &to)
                    .map_err(|source| failed("write", &self.place.path(&entry.path), source))?;
                self.finish(&to, entry)?;
                self.progress.update(WHAT, self.done, None);
            }
            FileKind::Symlink => {
                let link = self.view.read_link(entry)?;
                rustix::fs::symlinkat(&link, parent, name)
                    .map_err(|error| self.place.failed("create", &entry.path, error))?;
                self.set_owner_and_times(parent, name, entry)?;
            }
            FileKind::Fifo | FileKind::CharDevice | FileKind::BlockDevice => {
                let kind = match metadata.kind {
                    FileKind::CharDevice => FileType::CharacterDevice,
                    FileKind::BlockDevice => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let (major, minor) = metadata.rdev;
                let mode = Mode::from_raw_mode(metadata.mode);
                let device = rustix::fs::makedev(major, minor);
                match rustix::fs::mknodat(parent, name, kind, mode, device) {
                    Ok(()) => {}
                    // The root of a user namespace makes no devices.
                    Err(Errno::PERM) if kind != FileType::Fifo => return Ok(false),
                    Err(error) => return Err(self.place.failed("create", &entry.path, error)),
                }
                self.set_owner_and_times(parent, name, entry)?;
                // The umask took something away, and a change of owner the setuid bits.
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                    .map_err(|error| self.place.failed("chmod", &entry.path, error))?;
            }
            FileKind::Directory | FileKind::Socket => {}
        }
        if let Some(group) = group {
            self.first.insert(group, entry.path.clone());
        }
        Ok(true)
    }

    /// Owner, mode, xattrs and times of an open file or directory, in the order in which one does
    /// not undo the other.
    fn finish(&self, file: &impl AsFd, entry: &Entry) -> Result<(), ExportError> {
        let metadata = &entry.metadata;
        if self.privileged {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            match rustix::fs::fchown(file, Some(uid), Some(gid)) {
                // The root of a user namespace has only the owners that are mapped into it.
                Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => return Err(self.place.failed("chown", &entry.path, error)),
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode))
            .map_err(|error| self.place.failed("chmod", &entry.path, error))?;
        for (name, value) in self.view.xattrs(entry)? {
            match rustix::fs::fsetxattr(file, name.as_slice(), &value, XattrFlags::empty()) {
                // The target's file system, or this user, can't have it.
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {}
                Err(error) => {
                    return Err(self.place.failed("set an attribute of", &entry.path, error));
                }
            }
        }
        rustix::fs::futimens(file, &self.times(metadata))
            .map_err(|error| self.place.failed("set the times of", &entry.path, error))
    }

    fn set_owner_and_times(
        &self,
        parent: &OwnedFd,
        name: &str,
        entry: &Entry,
    ) -> Result<(), ExportError> {
        let metadata = &entry.metadata;
        if self.privileged {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::chownat(parent, name, Some(uid), Some(gid), flags) {
                Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => return Err(self.place.failed("chown", &entry.path, error)),
            }
        }
        rustix::fs::utimensat(
            parent,
            name,
            &self.times(metadata),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|error| self.place.failed("set the times of", &entry.path, error))
    }

    fn times(&self, metadata: &Metadata) -> Timestamps {
        let (seconds, nanoseconds) = metadata.mtime;
        let time = match self.options.epoch {
            Some(epoch) if seconds >= epoch => Timespec {
                tv_sec: epoch,
                tv_nsec: 0,
            },
            _ => Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds.into(),
            },
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }
}

fn name_of(entry: &Entry) -> &OsStr {
    entry.path.file_name().unwrap_or_default()
}
