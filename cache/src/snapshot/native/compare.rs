//! What changed in a copied-out tree, as an overlay upper directory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Baseline;
use super::copy::fail;
use crate::attributes::{Attributes, Tolerated, set_times};
use crate::beneath;
use crate::diff::DiffError;
use crate::layer::HardLinks;
use crate::view::{Entry, FileKind, LayerView, Metadata, is_whiteout};
use crate::xattr::{self, Xattr};

/// Moves what changed in `tree`, which [`copy_out`](super::copy_out) made of `view`, into the
/// directory `upper` on the same file system: new and changed files, their parents, and 0/0 devices
/// for what is gone. `tree` is of no use afterwards. Returns the hard links among what was moved: if
/// one name of a file changed or is new, all of its names are.
///
/// Overlayfs's own xattrs, which a command could have set here, are taken off. No opaque marks are
/// made: whatever is gone is named.
pub fn compare(
    view: &LayerView,
    baseline: &Baseline,
    tree: &Path,
    upper: &Path,
) -> Result<HardLinks, DiffError> {
    let tree_root = beneath::open_root(tree).map_err(fail("open", tree))?;
    let mut scan = Scan {
        view,
        baseline,
        tree: tree_root,
        directories: HashMap::new(),
        changed: BTreeMap::new(),
        inodes: HashMap::new(),
    };
    scan.run()?;
    let links = scan.complete_groups();
    let Scan {
        tree,
        directories,
        changed,
        ..
    } = scan;
    let mut moving = Move {
        tree,
        upper: beneath::open_root(upper).map_err(fail("open", upper))?,
        directories,
        made: BTreeSet::new(),
    };
    for (path, change) in &changed {
        moving.apply(path, *change)?;
    }
    moving.finish()?;
    Ok(links)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Directory,
    File,
    Gone,
}

/// The first half: nothing is moved yet, so that times can be trusted.
struct Scan<'a> {
    view: &'a LayerView,
    baseline: &'a Baseline,
    tree: OwnedFd,
    /// All directories of the tree as they are.
    directories: HashMap<PathBuf, Metadata>,
    changed: BTreeMap<PathBuf, Change>,
    /// Names of files that have several.
    inodes: HashMap<(u64, u64), Vec<PathBuf>>,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<(), DiffError> {
        let root = self.view.root()?;
        let stat = rustix::fs::fstat(&self.tree).map_err(fail("stat", Path::new("")))?;
        let metadata = Metadata::of_file(&stat, self.tree.as_fd());
        let top = beneath::open_dir(self.tree.as_fd(), Path::new(""))
            .map_err(fail("open", Path::new("")))?;
        if self.differs(top.as_fd(), &metadata, &root)? {
            self.changed.insert(PathBuf::new(), Change::Directory);
        }
        self.directories.insert(PathBuf::new(), metadata);
        // Directories of the tree, with what the view has there if it is one, too.
        let mut pending = vec![(PathBuf::new(), Some(root))];
        while let Some((path, below)) = pending.pop() {
            self.directory(&path, below.as_ref(), &mut pending)?;
        }
        Ok(())
    }

    fn directory(
        &mut self,
        path: &Path,
        below: Option<&Entry>,
        pending: &mut Vec<(PathBuf, Option<Entry>)>,
    ) -> Result<(), DiffError> {
        let directory = beneath::open_dir(self.tree.as_fd(), path).map_err(fail("open", path))?;
        let names = beneath::names(directory.as_fd()).map_err(fail("read directory", path))?;
        let mut before: HashMap<PathBuf, Entry> = match below {
            Some(below) => {
                let children = self.view.read_dir(below)?.into_iter();
                children.map(|child| (child.path.clone(), child)).collect()
            }
            None => HashMap::new(),
        };
        for (name, _) in names {
            let path = beneath::join(path, &name);
            let found = beneath::find(directory.as_fd(), Path::new(OsStr::from_bytes(&name)));
            let Some((file, stat)) = found.map_err(fail("look up", &path))? else {
                continue;
            };
            if is_whiteout(&stat) {
                return Err(DiffError::Unrepresentable {
                    path,
                    reason: "a character device 0/0 means a deletion in a layer",
                });
            }
            let metadata = Metadata::of_file(&stat, file.as_fd());
            let old = before.remove(&path);
            let is_directory = metadata.kind == FileKind::Directory;
            let differs = match &old {
                Some(old) => self.differs(file.as_fd(), &metadata, old)?,
                None => true,
            };
            if is_directory {
                if differs {
                    self.changed.insert(path.clone(), Change::Directory);
                }
                self.directories.insert(path.clone(), metadata);
                pending.push((path, old.filter(Entry::is_dir)));
            } else {
                if differs {
                    self.changed.insert(path.clone(), Change::File);
                }
                if metadata.links > 1 {
                    self.inodes.entry(metadata.inode).or_default().push(path);
                }
            }
        }
        for path in before.into_keys() {
            if !self.baseline.skipped.contains(&path) {
                self.changed.insert(path, Change::Gone);
            }
        }
        Ok(())
    }

    /// Whether the file is another one than the view has.
    fn differs(
        &self,
        file: BorrowedFd<'_>,
        now: &Metadata,
        old: &Entry,
    ) -> Result<bool, DiffError> {
        let path = &old.path;
        let before = &old.metadata;
        let Some(known) = self.baseline.files.get(path) else {
            return Ok(true);
        };
        // Nothing but the kernel can set these. A file that took another's place is compared.
        if known.inode == now.inode && known.ctime == now.ctime {
            return Ok(false);
        }
        if (now.kind, now.uid, now.gid) != (before.kind, before.uid, before.gid)
            || now.mtime != known.mtime
            || now.rdev != before.rdev
            || (now.kind != FileKind::Symlink && now.mode != before.mode)
        {
            return Ok(true);
        }
        let attributes = xattr::list(file).map_err(fail("read attributes of", path))?;
        if relevant(attributes) != relevant(self.view.xattrs(old)?) {
            return Ok(true);
        }
        match now.kind {
            FileKind::File => {
                if now.size != before.size {
                    return Ok(true);
                }
                // The time says nothing: whoever rewrote it may have put it back.
                let one = beneath::open_file(self.tree.as_fd(), path);
                let one = one.map_err(fail("open", path))?;
                let other = self.view.open(old)?;
                let same = same_content(one, other).map_err(|source| DiffError::Io {
                    action: "compare",
                    path: path.clone(),
                    source,
                })?;
                Ok(!same)
            }
            FileKind::Symlink => {
                let target = rustix::fs::readlinkat(file, "", Vec::new());
                let target = target.map_err(fail("read link", path))?;
                let before = self.view.read_link(old)?;
                Ok(target.as_bytes() != before.as_os_str().as_bytes())
            }
            _ => Ok(false),
        }
    }

    /// Adds the unchanged names of changed files, or the layer would tear them apart. Returns the
    /// groups among what changed.
    fn complete_groups(&mut self) -> HardLinks {
        let mut groups = Vec::new();
        for names in self.inodes.values() {
            if names.len() > 1 && names.iter().any(|name| self.changed.contains_key(name)) {
                let mut group: Vec<Vec<u8>> = Vec::new();
                for name in names {
                    self.changed.insert(name.clone(), Change::File);
                    group.push(name.as_os_str().as_bytes().to_vec());
                }
                group.sort();
                groups.push(group);
            }
        }
        groups.sort();
        HardLinks(groups)
    }
}

/// The attributes that can be a change: not labels that the host puts on every new file.
pub(crate) fn relevant(mut xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.retain(|(name, _)| xattr::is_portable(name) || name.starts_with(b"system."));
    xattrs
}

pub(crate) fn same_content(mut one: File, mut other: File) -> std::io::Result<bool> {
    let mut buffers = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let count = read_full(&mut one, &mut buffers.0)?;
        if count != read_full(&mut other, &mut buffers.1)?
            || buffers.0[..count] != buffers.1[..count]
        {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The second half.
struct Move {
    tree: OwnedFd,
    upper: OwnedFd,
    directories: HashMap<PathBuf, Metadata>,
    /// Directories made so far, or, for the root, given their attributes.
    made: BTreeSet<PathBuf>,
}

impl Move {
    fn apply(&mut self, path: &Path, change: Change) -> Result<(), DiffError> {
        if change == Change::Directory {
            return self.make(path);
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        self.make(parent)?;
        let name = path.file_name().unwrap_or_default();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let to = beneath::open(self.upper.as_fd(), parent, flags).map_err(fail("open", parent))?;
        if change == Change::Gone {
            let mode = Mode::empty();
            return rustix::fs::mknodat(&to, name, FileType::CharacterDevice, mode, 0)
                .map_err(|error| fail(crate::diff::whiteout(error), path)(error));
        }
        let from = beneath::open(self.tree.as_fd(), parent, flags).map_err(fail("open", parent))?;
        rustix::fs::renameat(&from, name, &to, name).map_err(fail("move", path))?;
        let moved = beneath::find(to.as_fd(), Path::new(name)).map_err(fail("look up", path))?;
        let Some((file, _)) = moved else {
            return Err(fail("look up", path)(Errno::NOENT));
        };
        for (name, _) in xattr::list(file.as_fd()).map_err(fail("read attributes of", path))? {
            if xattr::is_overlay(&name) {
                xattr::remove(file.as_fd(), &name).map_err(fail("remove an attribute of", path))?;
            }
        }
        Ok(())
    }

    /// Makes the directory at `path` in the upper directory, and its parents, like those of the
    /// tree.
    fn make(&mut self, path: &Path) -> Result<(), DiffError> {
        let mut missing: Vec<&Path> = path
            .ancestors()
            .take_while(|path| !self.made.contains(*path))
            .collect();
        while let Some(path) = missing.pop() {
            let Some(metadata) = self.directories.get(path) else {
                return Err(fail("look up", path)(Errno::NOENT));
            };
            let from = beneath::open_dir(self.tree.as_fd(), path).map_err(fail("open", path))?;
            let mut xattrs = xattr::list(from.as_fd()).map_err(fail("read attributes of", path))?;
            xattrs.retain(|(name, _)| !xattr::is_overlay(name));
            if let Some(name) = path.file_name() {
                let parent = path.parent().unwrap_or(Path::new(""));
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                let parent = beneath::open(self.upper.as_fd(), parent, flags)
                    .map_err(fail("open", parent))?;
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))
                    .map_err(fail("create", path))?;
            }
            let made = beneath::open_dir(self.upper.as_fd(), path).map_err(fail("open", path))?;
            Attributes::of(metadata, &xattrs)
                .set(made.as_fd(), &mut Tolerated::default())
                .map_err(|(action, source)| fail(action, path)(source))?;
            self.made.insert(path.to_owned());
        }
        Ok(())
    }

    fn finish(self) -> Result<(), DiffError> {
        for path in &self.made {
            let directory =
                beneath::open_dir(self.upper.as_fd(), path).map_err(fail("open", path))?;
            if let Some(metadata) = self.directories.get(path) {
                set_times(directory.as_fd(), metadata.mtime)
                    .map_err(|(action, source)| fail(action, path)(source))?;
            }
        }
        Ok(())
    }
}
