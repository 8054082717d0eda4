//! The one walk over a finished upper directory: its size, its hard links, and whether overlayfs
//! left something in it that would not mean the same elsewhere.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

use crate::layer::HardLinks;
use crate::layer::fingerprint::Fingerprint;
use crate::view::Metadata;
use crate::{Flavour, StoreError, tree, xattr};

/// The kernel gives no longer list of names.
const LONGEST_NAMES: usize = 64 * 1024;

/// What the walk found.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Bytes allocated, each inode counted once.
    pub(crate) size: u64,
    /// Entries, the root not counted.
    pub(crate) entries: u64,
    /// Names that are one inode. Empty if that was not asked for.
    pub(crate) links: HardLinks,
    /// Of all entries, if it was asked for.
    pub(crate) fingerprint: Fingerprint,
}

/// What is asked of the walk besides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Group the names of each inode.
    pub(crate) links: bool,
    pub(crate) fingerprint: bool,
}

/// Marks that overlayfs keeps for its own book-keeping between an upper and its lowers. They mean
/// nothing in another stack.
const PRIVATE: [&[u8]; 6] = [
    b"origin",
    b"impure",
    b"nlink",
    b"uuid",
    b"protattr",
    b"upper",
];

/// Marks that make a directory or file stand for another one elsewhere. Mounts ask for neither.
const REFUSED: [&[u8]; 2] = [b"redirect", b"metacopy"];

/// Walks the tree at `root`. `mounted`: it was the upper directory of an overlay that was mounted for
/// a store of this flavour.
pub(crate) fn measure(
    root: &Path,
    mounted: Option<Flavour>,
    wanted: Wanted,
) -> Result<Measured, StoreError> {
    let fd = rustix::fs::openat(CWD, root, tree::DIRECTORY, Mode::empty())
        .map_err(|source| StoreError::io("open", root, source))?;
    let walk = Walk {
        root: fd,
        path: root,
        mounted,
        wanted,
    };
    let mut sum = Sum::default();
    // Paths from the root, so that any depth needs one open directory.
    let mut pending = vec![Vec::new()];
    while !pending.is_empty() {
        let all: Vec<Result<Found, StoreError>> = if pending.len() < SERIAL {
            pending.iter().map(|path| walk.directory(path)).collect()
        } else {
            pending
                .par_iter()
                .map(|path| walk.directory(path))
                .collect()
        };
        pending.clear();
        for found in all {
            sum.add(found?, wanted.links, &mut pending);
        }
    }
    Ok(sum.finish())
}

/// Directories below which threads cost more than they save.
const SERIAL: usize = 8;

struct Walk<'a> {
    root: OwnedFd,
    path: &'a Path,
    mounted: Option<Flavour>,
    wanted: Wanted,
}

/// What one directory has.
#[derive(Default)]
struct Found {
    directories: Vec<Vec<u8>>,
    entries: u64,
    /// Bytes of what has one name.
    size: u64,
    /// What has several names: inode, bytes, and the name if that is wanted.
    linked: Vec<((u64, u64), u64, Vec<u8>)>,
    fingerprint: Fingerprint,
}

/// What all directories have so far.
#[derive(Default)]
struct Sum {
    /// Names of each inode that has several.
    inodes: HashMap<(u64, u64), Vec<Vec<u8>>>,
    measured: Measured,
}

impl Sum {
    fn add(&mut self, mut found: Found, links: bool, pending: &mut Vec<Vec<u8>>) {
        pending.append(&mut found.directories);
        self.measured.entries += found.entries;
        self.measured.size += found.size;
        self.measured.fingerprint.merge(found.fingerprint);
        for (inode, size, name) in found.linked {
            let names = match self.inodes.entry(inode) {
                Entry::Vacant(vacant) => {
                    self.measured.size += size;
                    vacant.insert(Vec::new())
                }
                Entry::Occupied(names) => names.into_mut(),
            };
            if links {
                names.push(name);
            }
        }
    }

    fn finish(mut self) -> Measured {
        let mut groups: Vec<_> = self
            .inodes
            .into_values()
            .filter(|names| names.len() > 1)
            .collect();
        for names in &mut groups {
            names.sort_unstable();
        }
        groups.sort_unstable();
        self.measured.links = HardLinks(groups);
        self.measured
    }
}

impl Walk<'_> {
    fn directory(&self, relative: &[u8]) -> Result<Found, StoreError> {
        let fail = |action, name: &[u8], source: Errno| {
            StoreError::io(action, &self.path.join(OsStr::from_bytes(name)), source)
        };
        let name: &[u8] = if relative.is_empty() { b"." } else { relative };
        let directory =
            open_directory(&self.root, name).map_err(|source| fail("open", relative, source))?;
        if let Some(flavour) = self.mounted {
            clean_xattrs(&directory, flavour)
                .map_err(|source| fail("read attributes of", relative, source))?
                .map_or(Ok(()), |mark| Err(refused(relative, &mark)))?;
        }
        let mut suspects = Vec::new();
        let mut found = Found::default();
        tree::for_each_entry(&directory, |name, _| {
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let path = || join(relative, name.to_bytes());
            found.entries += 1;
            if self.wanted.fingerprint {
                let it = Metadata::of(&stat);
                let of_it = (it.mode, (it.uid, it.gid), it.size, it.mtime.0);
                let name = name.to_bytes();
                found.fingerprint.add(relative, name, it.kind, of_it);
            }
            let kind = FileType::from_raw_mode(stat.st_mode);
            let size = tree::allocated(&stat);
            if kind == FileType::Directory {
                found.directories.push(path());
                found.size += size;
            } else if stat.st_nlink > 1 {
                let name = if self.wanted.links {
                    path()
                } else {
                    Vec::new()
                };
                let inode = (stat.st_dev, stat.st_ino);
                found.linked.push((inode, size, name));
            } else {
                found.size += size;
            }
            // A file with a size and no blocks may be sparse, or stand for the file below.
            if self.mounted.is_some()
                && kind == FileType::RegularFile
                && stat.st_size > 0
                && stat.st_blocks == 0
            {
                suspects.push(path());
            }
            Ok(())
        })
        .map_err(|source| {
            StoreError::io("read", &self.path.join(OsStr::from_bytes(relative)), source)
        })?;
        for suspect in suspects {
            let path = self.path.join(OsStr::from_bytes(&suspect));
            for (mark, full) in marks(&names(&path)?) {
                if REFUSED.contains(&mark.as_slice())
                    && self.mounted.is_some_and(|flavour| is_of(flavour, &full))
                {
                    return Err(refused(&suspect, &mark));
                }
            }
        }
        Ok(found)
    }
}

/// Opens a directory of the tree; one that its owner may not read (a step's `chmod 0`) is opened
/// all the same where the caller is its owner, and keeps its mode.
fn open_directory(root: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(root, name, tree::DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            let stat = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmodat(root, name, mode | Mode::RWXU, AtFlags::empty())?;
            let opened = rustix::fs::openat(root, name, tree::DIRECTORY, Mode::empty());
            rustix::fs::chmodat(root, name, mode, AtFlags::empty())?;
            opened
        }
        other => other,
    }
}

fn refused(path: &[u8], mark: &[u8]) -> StoreError {
    StoreError::Layer {
        path: PathBuf::from(OsStr::from_bytes(path)),
        reason: format!(
            "overlayfs marked it with `{}`, which only means something in the mount that made it",
            String::from_utf8_lossy(mark)
        ),
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Removes overlay's private marks from a directory, and all marks of the other flavour: a command
/// may set them, the kernel does not heed them in this store, and nobody else should. Gives the mark
/// that can't be kept, if any.
fn clean_xattrs(directory: impl AsFd, flavour: Flavour) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = [0_u8; 1024];
    let list = match rustix::fs::flistxattr(&directory, &mut buffer[..]) {
        Ok(count) => buffer[..count].to_vec(),
        Err(Errno::OPNOTSUPP) => return Ok(None),
        Err(Errno::RANGE) => {
            let mut large = vec![0; 64 * 1024];
            let count = rustix::fs::flistxattr(&directory, large.as_mut_slice())?;
            large.truncate(count);
            large
        }
        Err(error) => return Err(error),
    };
    for (mark, full) in marks(&list) {
        let own = is_of(flavour, &full);
        if own && REFUSED.contains(&mark.as_slice()) {
            return Ok(Some(mark));
        }
        if !own || PRIVATE.contains(&mark.as_slice()) {
            match rustix::fs::fremovexattr(&directory, full.as_c_str()) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(None)
}

/// Whether the kernel heeds the mark `name` in overlays of `flavour`.
fn is_of(flavour: Flavour, name: &CString) -> bool {
    name.as_bytes().starts_with(match flavour {
        Flavour::Root => b"trusted.".as_slice(),
        Flavour::User => b"user.".as_slice(),
    })
}

/// Overlay's marks in a list of xattr names: the short word and the whole name.
fn marks(list: &[u8]) -> Vec<(Vec<u8>, CString)> {
    list.split(|byte| *byte == 0)
        .filter_map(|name| {
            let mark = overlay_mark(name)?;
            Some((mark.to_vec(), CString::new(name).ok()?))
        })
        .collect()
}

/// `opaque` for `trusted.overlay.opaque` or `user.overlay.opaque`.
fn overlay_mark(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"trusted.overlay.")
        .or_else(|| name.strip_prefix(b"user.overlay."))
}

/// The NUL-separated xattr names of a path that is not followed.
fn names(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut list = vec![0; 1024];
    loop {
        match rustix::fs::llistxattr(path, list.as_mut_slice()) {
            Ok(count) => {
                list.truncate(count);
                return Ok(list);
            }
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if list.len() < LONGEST_NAMES => list.resize(LONGEST_NAMES, 0),
            Err(source) => return Err(StoreError::io("read attributes of", path, source)),
        }
    }
}

/// The xattrs of a path that is not followed, sorted. Overlay's own and those of the host are left out.
pub(crate) fn own_xattrs(path: &Path) -> Result<Vec<(CString, Vec<u8>)>, StoreError> {
    let mut found = Vec::new();
    for name in names(path)?.split(|byte| *byte == 0) {
        if name.is_empty() || overlay_mark(name).is_some() || xattr::is_of_host(name) {
            continue;
        }
        let Ok(name) = CString::new(name) else {
            continue;
        };
        let mut value = vec![0; 64 * 1024];
        match rustix::fs::lgetxattr(path, name.as_c_str(), value.as_mut_slice()) {
            Ok(count) => {
                value.truncate(count);
                found.push((name, value));
            }
            Err(Errno::NODATA) => {}
            Err(source) => return Err(StoreError::io("read attributes of", path, source)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINKS: Wanted = Wanted {
        links: true,
        fingerprint: false,
    };

    #[test]
    fn hard_links_are_grouped_and_their_blocks_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("b/c")).unwrap();
        std::fs::write(dir.path().join("b/one"), vec![7; 100_000]).unwrap();
        std::fs::hard_link(dir.path().join("b/one"), dir.path().join("a")).unwrap();
        std::fs::hard_link(dir.path().join("b/one"), dir.path().join("b/c/three")).unwrap();
        std::fs::write(dir.path().join("alone"), "x").unwrap();
        let measured = measure(dir.path(), None, LINKS).unwrap();
        assert_eq!(measured.entries, 6);
        assert_eq!(
            measured.links,
            HardLinks(vec![vec![
                b"a".to_vec(),
                b"b/c/three".to_vec(),
                b"b/one".to_vec()
            ]])
        );
        assert!(measured.size >= 100_000 && measured.size < 200_000);
        let again = measure(dir.path(), None, Wanted::default()).unwrap();
        assert_eq!(again.links, HardLinks::default());
        assert_eq!(again.size, measured.size);
    }

    #[test]
    fn overlays_private_marks_go_and_redirects_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let set = |path: &Path, name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
        };
        set(&inner, "user.overlay.impure", b"y").expect("TMPDIR must have user xattrs");
        set(&inner, "user.overlay.opaque", b"y").unwrap();
        set(&inner, "user.mine", b"z").unwrap();
        measure(dir.path(), Some(Flavour::User), LINKS).unwrap();
        let left = String::from_utf8(names(&inner).unwrap()).unwrap();
        assert!(left.contains("user.overlay.opaque"));
        assert!(left.contains("user.mine"));
        assert!(!left.contains("impure"));
        assert_eq!(
            own_xattrs(&inner).unwrap(),
            vec![(c"user.mine".to_owned(), b"z".to_vec())]
        );
        set(&inner, "user.overlay.redirect", b"/etc").unwrap();
        assert!(matches!(
            measure(dir.path(), Some(Flavour::User), LINKS),
            Err(StoreError::Layer { path, .. }) if path == Path::new("inner")
        ));
        // Nobody but a mount makes such marks, and without one they are not looked for.
        measure(dir.path(), None, LINKS).unwrap();
    }

    #[test]
    fn marks_that_the_kernel_does_not_heed_go() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        for mark in ["opaque", "redirect"] {
            rustix::fs::lsetxattr(
                &inner,
                format!("user.overlay.{mark}"),
                b"y",
                rustix::fs::XattrFlags::empty(),
            )
            .expect("TMPDIR must have user xattrs");
        }
        measure(dir.path(), Some(Flavour::Root), LINKS).unwrap();
        assert_eq!(marks(&names(&inner).unwrap()), []);
    }
}
