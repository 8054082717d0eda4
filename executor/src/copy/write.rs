//! Putting a selection into an upper directory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use rustix::fs::{AtFlags, Mode};
use strata_cache::diff::Arrivals;
use strata_cache::view::{Entry, FileKind, ViewError};
use strata_cache::{Digest, HardLinks, LayerView};

use super::content::Copying;
use super::destination::{
    Attributes, Destination, Owners, clamp, failed, open_directory, set_attributes,
    set_attributes_at,
};
use super::foretold::Plan;
use super::linked::{Earlier, LastDirectory, identity};
use super::writeback::Writeback;
use super::{CopyError, CopySpec, Group, Item, Selection, Written, clean, on_pool, shown};
use crate::archive;
use crate::tree::SourceTree;

/// Below these, threads cost more than they save.
const SERIAL_FILES: usize = 16;
const SERIAL_BYTES: u64 = 1 << 20;

/// Bytes in a file on the average from which on hashing the archive takes longer than all the rest: it gets a core
/// of its own.
const HASH_BOUND: u64 = 32 << 10;

/// Files that one job writes at most.
const CHUNK: usize = 64;

/// The same, if they are in one directory.
const LARGEST_CHUNK: usize = 256;

pub(super) fn write(
    selection: &Selection,
    groups: &[Group],
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
    below: &LayerView,
    upper: &Path,
) -> Result<Written, CopyError> {
    let nothing = LayerView::new(Vec::new());
    // A linked copy stands for itself: whatever is below, its path is made of plain directories.
    let below = if spec.link { &nothing } else { below };
    let mut writer = Writer {
        selection,
        tree,
        spec,
        destination: Destination::new(below, upper, spec.epoch)?,
        links: Links::default(),
        earlier: spec.earlier.and_then(Earlier::open),
        files: Vec::new(),
        plan: Plan::none(),
    };
    if let [only] = groups
        && only.directory
        && !only.parents
    {
        writer.plan = Plan::new(spec, writer.destination.upper());
    }
    for group in groups {
        writer.group(group, below)?;
    }
    writer.destination.finish()?;
    let owners = writer.destination.owners;
    let (links, replaced) = writer.links.finish();
    if !replaced.is_empty() {
        // Which of the files were replaced by which is not worth knowing: it is the rare case.
        writer.files.clear();
    }
    Ok(Written {
        links,
        owners,
        files: writer.files,
        replaced,
    })
}

/// Names in the layer that are one file.
#[derive(Default)]
pub(crate) struct Links {
    /// Path to group.
    names: BTreeMap<Vec<u8>, usize>,
    groups: usize,
    replaced: BTreeSet<Vec<u8>>,
}

impl Links {
    /// A new group.
    pub(crate) fn group(&mut self) -> usize {
        self.groups += 1;
        self.groups
    }

    pub(crate) fn add(&mut self, group: usize, path: &Path) {
        self.names
            .insert(path.as_os_str().as_bytes().to_vec(), group);
    }

    /// The group of a path, if it is in one.
    pub(crate) fn of(&self, path: &Path) -> Option<usize> {
        self.names.get(path.as_os_str().as_bytes()).copied()
    }

    /// Forgets a name that was replaced.
    pub(crate) fn remove(&mut self, path: &Path) {
        let name = path.as_os_str().as_bytes();
        self.names.remove(name);
        self.replaced.insert(name.to_vec());
    }

    /// Forgets every name below a directory that was removed.
    pub(crate) fn remove_below(&mut self, directory: &Path) {
        self.names
            .retain(|name, _| !Path::new(OsStr::from_bytes(name)).starts_with(directory));
        self.replaced
            .insert(directory.as_os_str().as_bytes().to_vec());
    }

    fn finish(self) -> (HardLinks, BTreeSet<Vec<u8>>) {
        let mut groups: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for (name, group) in self.names {
            groups.entry(group).or_default().push(name);
        }
        let mut groups: Vec<_> = groups
            .into_values()
            .filter(|names| names.len() > 1)
            .collect();
        groups.sort();
        (HardLinks(groups), self.replaced)
    }
}

struct Writer<'a> {
    selection: &'a Selection,
    tree: &'a dyn SourceTree,
    spec: &'a CopySpec<'a>,
    destination: Destination,
    links: Links,
    earlier: Option<Earlier<'a>>,
    /// What is told of each file that was written or linked.
    files: Vec<Digest>,
    plan: Plan,
}

/// A regular file that is to be written: item and path.
struct Job {
    item: usize,
    path: PathBuf,
}

impl Writer<'_> {
    fn group(&mut self, group: &Group, below: &LayerView) -> Result<(), CopyError> {
        let source = &self.selection.items[group.items.start];
        if group.directory {
            return self.directory(group, source);
        }
        if self.spec.unpack && source.kind() == FileKind::File {
            let file = self.tree.open(&source.entry)?;
            if let Some(archive) = archive::sniff(file).map_err(|source_error| CopyError::Io {
                action: "read",
                path: source.entry.host_path.clone(),
                source: source_error,
            })? {
                let (entry, missing) = self.destination.resolve(&clean(self.spec.destination))?;
                let root = self.created(&entry, &missing)?;
                return archive::unpack(
                    &archive,
                    &source.source(),
                    &root,
                    self.spec,
                    below,
                    &mut self.destination,
                    &mut self.links,
                );
            }
        }
        self.file(group, source)
    }

    /// Makes the missing part of a destination.
    fn created(&mut self, entry: &Entry, missing: &Path) -> Result<PathBuf, CopyError> {
        let (mode, owner) = (self.spec.parent_mode, self.spec.owner);
        self.destination.create_parents(entry, missing, mode, owner)
    }

    /// The contents of a source directory go into the destination, which is a directory or
    /// becomes one.
    fn directory(&mut self, group: &Group, source: &Item) -> Result<(), CopyError> {
        let (entry, missing) = self.destination.resolve(&clean(self.spec.destination))?;
        if missing.as_os_str().is_empty() && entry.metadata.kind != FileKind::Directory {
            return Err(CopyError::Kind {
                what: "directory",
                from: source.source(),
                onto: "file",
                to: shown(&Path::new("/").join(&entry.path)),
            });
        }
        let root = self.created(&entry, &missing)?;
        // An existing destination keeps mode and owner; its time becomes the source's.
        if !group.parents {
            let mtime = self.destination.clamp(source.entry.metadata.mtime);
            if let Some(attributes) = self.destination.attributes(&root) {
                attributes.mtime = mtime;
            }
        }
        // Directories that this group has made: nothing can be in the way there.
        let mut fresh: HashSet<PathBuf> = HashSet::new();
        if !missing.as_os_str().is_empty() {
            fresh.insert(root.clone());
        }
        let mut jobs = Vec::new();
        for index in group.items.clone().skip(1) {
            self.spec.go_on()?;
            let item = &self.selection.items[index];
            let path = root.join(item.name());
            let is_fresh = path.parent().is_some_and(|parent| fresh.contains(parent));
            let existing = if is_fresh {
                None
            } else {
                self.destination.lookup(&path)?
            };
            if item.kind() == FileKind::Directory {
                match existing {
                    None => {
                        let attributes = self.attributes(item);
                        self.plan.add(&path, item, &attributes);
                        self.destination.create(&path, attributes)?;
                        fresh.insert(path);
                    }
                    Some(entry) if entry.metadata.kind == FileKind::Directory => {
                        self.destination.enter(&path)?;
                        let new = self.attributes(item);
                        self.plan.add(&path, item, &new);
                        if let Some(attributes) = self.destination.attributes(&path) {
                            if group.parents {
                                attributes.mode = new.mode;
                            } else {
                                *attributes = new;
                            }
                        }
                    }
                    Some(_) => {
                        return Err(CopyError::Kind {
                            what: "directory",
                            from: item.source(),
                            onto: "file",
                            to: shown(&Path::new("/").join(&path)),
                        });
                    }
                }
            } else {
                self.clear(item, &path, existing.as_ref())?;
                self.leaf(index, path, &mut jobs)?;
            }
        }
        let arrivals = self.plan.begin(&root, &mut self.destination, self.spec);
        self.run(jobs, arrivals.as_ref())
    }

    /// A single file.
    fn file(&mut self, group: &Group, source: &Item) -> Result<(), CopyError> {
        let written = self.spec.destination;
        let destination = clean(written);
        let wants_directory = written.ends_with('/') || written.ends_with("/.");
        let (entry, missing) = self.destination.resolve(&destination)?;
        let path = if missing.as_os_str().is_empty() {
            if entry.metadata.kind == FileKind::Directory {
                self.destination.enter(&entry.path)?;
                entry.path.join(&group.name)
            } else if wants_directory {
                return Err(ViewError::NotADirectory { path: entry.path }.into());
            } else {
                let parent = entry.path.parent().unwrap_or(Path::new(""));
                self.destination.enter(parent)?;
                entry.path.clone()
            }
        } else if wants_directory {
            self.created(&entry, &missing)?.join(&group.name)
        } else {
            let parents = missing.parent().unwrap_or(Path::new(""));
            let parent = self.created(&entry, parents)?;
            match missing.file_name() {
                Some(name) => parent.join(name),
                None => parent.join(&group.name),
            }
        };
        let existing = self.destination.lookup(&path)?;
        self.clear(source, &path, existing.as_ref())?;
        let mut jobs = Vec::new();
        self.leaf(group.items.start, path, &mut jobs)?;
        self.run(jobs, None)
    }

    /// Makes room for something that is no directory.
    fn clear(
        &mut self,
        item: &Item,
        path: &Path,
        existing: Option<&Entry>,
    ) -> Result<(), CopyError> {
        let Some(existing) = existing else {
            return Ok(());
        };
        if existing.metadata.kind == FileKind::Directory {
            return Err(CopyError::Kind {
                what: "file",
                from: item.source(),
                onto: "directory",
                to: shown(&Path::new("/").join(path)),
            });
        }
        if self.destination.in_upper(existing) {
            self.destination.unlink(path)?;
            self.links.remove(path);
        }
        Ok(())
    }

    fn attributes(&self, item: &Item) -> Attributes {
        attributes(self.tree, self.spec, item)
    }

    /// Makes links and special files at once, and notes regular files as jobs.
    fn leaf(&mut self, index: usize, path: PathBuf, jobs: &mut Vec<Job>) -> Result<(), CopyError> {
        let item = &self.selection.items[index];
        let attributes = self.attributes(item);
        self.plan.add(&path, item, &attributes);
        if item.kind() == FileKind::File {
            jobs.push(Job { item: index, path });
            return Ok(());
        }
        let (parent, name) = self.destination.parent(&path)?;
        let is_link = item.kind() == FileKind::Symlink;
        if is_link {
            let target = item.target.as_deref().unwrap_or(Path::new(""));
            rustix::fs::symlinkat(target, &*parent, &name).map_err(failed("create", &path))?;
        } else {
            make_special(parent.as_fd(), &name, &path, item)?;
        }
        let owners = set_attributes_at(parent.as_fd(), &name, &path, &attributes, is_link)?;
        self.destination.owners += owners;
        Ok(())
    }

    /// Writes the regular files of a group, in parallel if that pays, then their hard links.
    /// They are told to `arrivals`.
    fn run(&mut self, jobs: Vec<Job>, arrivals: Option<&Arrivals>) -> Result<(), CopyError> {
        let items = &self.selection.items;
        let (links, jobs): (Vec<Job>, Vec<Job>) = jobs
            .into_iter()
            .partition(|job| items[job.item].same_as.is_some());
        let bytes: u64 = jobs
            .iter()
            .map(|job| items[job.item].entry.metadata.size)
            .fold(0, u64::saturating_add);
        let files = Files {
            tree: self.tree,
            spec: self.spec,
            items,
            upper: self.destination.upper(),
            earlier: self.earlier.as_ref(),
            arrivals,
        };
        let done = if jobs.len() <= 1 || (jobs.len() < SERIAL_FILES && bytes < SERIAL_BYTES) {
            files.write(&jobs, 0..jobs.len())?
        } else {
            let chunks = chunks(&jobs);
            let next = AtomicUsize::new(0);
            // In order, so that an archive that is made meanwhile need not wait for what comes later.
            let some = |_| -> Result<Done, CopyError> {
                let mut done = Done::default();
                while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let written = files.write(&jobs, chunk.clone());
                    if written.is_err() {
                        next.store(chunks.len(), Ordering::Relaxed);
                    }
                    done = done.and(written?);
                }
                Ok(done)
            };
            let hash_bound = arrivals.is_some() && bytes / HASH_BOUND >= jobs.len() as u64;
            on_pool(|| {
                let threads = rayon::current_num_threads() - usize::from(hash_bound);
                (0..threads.max(1))
                    .into_par_iter()
                    .with_max_len(1)
                    .map(some)
                    .try_reduce(Done::default, |left, right| Ok(left.and(right)))
            })?
        };
        self.destination.owners += done.owners;
        self.files.extend(done.files);
        let written: BTreeMap<usize, &Path> = if links.is_empty() {
            BTreeMap::new()
        } else {
            jobs.iter().map(|job| (job.item, &*job.path)).collect()
        };
        let mut groups: BTreeMap<usize, usize> = BTreeMap::new();
        for job in &links {
            let Some((first, existing)) = items[job.item]
                .same_as
                .and_then(|first| Some((first, *written.get(&first)?)))
            else {
                continue;
            };
            let group = *groups.entry(first).or_insert_with(|| self.links.group());
            self.links.add(group, existing);
            self.links.add(group, &job.path);
            let from = open_directory(self.destination.upper(), parent_of(existing))?;
            let (to, name) = self.destination.parent(&job.path)?;
            let old = existing.file_name().unwrap_or_default();
            rustix::fs::linkat(&from, old, &*to, &name, AtFlags::empty())
                .map_err(failed("link", &job.path))?;
        }
        Ok(())
    }
}

/// What one thread does at a time. A few large files are spread as well as many small ones; of many, those of one
/// directory belong together: who adds names to a directory keeps others from it.
fn chunks(jobs: &[Job]) -> Vec<Range<usize>> {
    let size = (jobs.len() / 64).clamp(1, CHUNK);
    let most = if size == CHUNK { LARGEST_CHUNK } else { size };
    let mut chunks = Vec::new();
    let mut begin = 0;
    for end in 1..=jobs.len() {
        let long = end - begin;
        let whole = match jobs.get(end) {
            Some(next) if long >= size => {
                long >= most || parent_of(&next.path) != parent_of(&jobs[end - 1].path)
            }
            Some(_) => false,
            None => true,
        };
        if whole {
            chunks.push(begin..end);
            begin = end;
        }
    }
    chunks
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn attributes(tree: &dyn SourceTree, spec: &CopySpec<'_>, item: &Item) -> Attributes {
    let (mode, owner) = super::attributes(tree, spec, &item.entry);
    Attributes {
        mode,
        owner,
        mtime: clamp(spec.epoch, item.entry.metadata.mtime),
        xattrs: item.xattrs.clone(),
    }
}

/// Makes a fifo, socket or device.
fn make_special(
    parent: BorrowedFd<'_>,
    name: &OsString,
    path: &Path,
    item: &Item,
) -> Result<(), CopyError> {
    let (kind, action) = match item.kind() {
        FileKind::Fifo => (rustix::fs::FileType::Fifo, "create fifo"),
        FileKind::Socket => (rustix::fs::FileType::Socket, "create socket"),
        FileKind::BlockDevice => (rustix::fs::FileType::BlockDevice, "create block device"),
        _ => (
            rustix::fs::FileType::CharacterDevice,
            "create character device",
        ),
    };
    let (major, minor) = item.entry.metadata.rdev;
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)
        .map_err(failed(action, path))
}

/// What became of some files.
#[derive(Default)]
struct Done {
    /// Those that could not get their owner.
    owners: Owners,
    /// What is told of those that are exactly as they are to be.
    files: Vec<Digest>,
}

impl Done {
    fn and(mut self, mut other: Self) -> Self {
        self.owners += other.owners;
        self.files.append(&mut other.files);
        self
    }
}

/// The regular files of a group on their way into the upper directory, from any thread.
struct Files<'a> {
    tree: &'a dyn SourceTree,
    spec: &'a CopySpec<'a>,
    items: &'a [Item],
    upper: BorrowedFd<'a>,
    earlier: Option<&'a Earlier<'a>>,
    arrivals: Option<&'a Arrivals>,
}

impl Files<'_> {
    /// Writes or links some files.
    fn write(&self, jobs: &[Job], chunk: Range<usize>) -> Result<Done, CopyError> {
        let first = chunk.start;
        let mut contents = Vec::new();
        let mut buffer = Vec::new();
        let mut done = Done::default();
        let mut last: Option<(&Path, OwnedFd)> = None;
        let mut from = LastDirectory::default();
        for job in &jobs[chunk] {
            self.spec.go_on()?;
            let parent = parent_of(&job.path);
            if last.as_ref().is_none_or(|(path, _)| *path != parent) {
                last = Some((parent, open_directory(self.upper, parent)?));
            }
            let Some((_, directory)) = &last else {
                continue;
            };
            let directory = directory.as_fd();
            let item = &self.items[job.item];
            let attributes = attributes(self.tree, self.spec, item);
            let known = item
                .digest
                .and_then(|content| identity(&job.path, content, &attributes));
            let linked = match (self.earlier, &known) {
                (Some(earlier), Some(file)) if earlier.holds(file) => {
                    from.link_earlier(earlier, &job.path, directory)
                }
                _ => {
                    self.is_as_wanted(item, &attributes) && {
                        let name = job.path.file_name().unwrap_or_default();
                        from.link_source(self.tree, &item.entry, directory, name)
                    }
                }
            };
            let (owners, content) = if linked {
                (Owners::default(), None)
            } else {
                self.write_file(job, &attributes, directory, &mut buffer)?
            };
            if self.arrivals.is_some() {
                contents.push(content);
            }
            done.owners += owners;
            done.files
                .extend(known.filter(|_| owners == Owners::default()));
        }
        if let Some(arrivals) = self.arrivals {
            arrivals.arrived(first, contents);
        }
        Ok(done)
    }

    /// Whether a file of the tree may be linked: it never changes, and has the metadata that it is to have.
    fn is_as_wanted(&self, item: &Item, attributes: &Attributes) -> bool {
        let metadata = &item.entry.metadata;
        self.tree.immutable()
            && attributes.mode == metadata.mode
            && attributes.owner == (metadata.uid, metadata.gid)
            && attributes.mtime == metadata.mtime
    }

    /// Writes one regular file. Tells if it could not get its owner, and what is in it if somebody takes that.
    fn write_file(
        &self,
        job: &Job,
        attributes: &Attributes,
        parent: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<(Owners, Option<Vec<u8>>), CopyError> {
        let item = &self.items[job.item];
        let path = &*job.path;
        let source = self.tree.open(&item.entry)?;
        let name = path.file_name().unwrap_or_default();
        let mut copying = Copying {
            tree: self.tree,
            spec: self.spec,
            item,
            path,
            source,
            target: archive::create(parent, name, path)?,
            writeback: Writeback::of(parent, name, item.entry.metadata.size),
        };
        let whole = copying.all(buffer)?;
        let owners = set_attributes(copying.target.as_fd(), path, attributes)?;
        let content = whole
            .filter(|size| self.arrivals.is_some_and(|arrivals| arrivals.takes(*size)))
            .and_then(|size| buffer.get(..usize::try_from(size).ok()?))
            .map(<[u8]>::to_vec);
        Ok((owners, content))
    }
}

/// `WORKDIR`: makes `path` (absolute) and its missing parents in `upper`, 0755, owned by `owner`,
/// on top of `below`; without an owner by root, or by the group of a directory that hands its group down. None if everything was there already (an empty layer).
pub fn make_directory(
    path: &str,
    owner: Option<(u32, u32)>,
    epoch: Option<i64>,
    below: &LayerView,
    upper: &Path,
) -> Result<Option<Owners>, CopyError> {
    let mut destination = Destination::new(below, upper, epoch)?;
    let (entry, missing) = destination.resolve(&clean(path))?;
    if entry.metadata.kind != FileKind::Directory {
        return Err(ViewError::NotADirectory { path: entry.path }.into());
    }
    if missing.as_os_str().is_empty() {
        return Ok(None);
    }
    destination.create_parents(&entry, &missing, 0o755, owner)?;
    destination.finish()?;
    Ok(Some(destination.owners))
}
