//! Removing and measuring directory trees that a hostile step may have shaped.
//!
//! Nothing here follows a symlink, recurses on the call stack, or holds more than a few file
//! descriptors, however deep the tree is.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSlice;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::StoreError;

/// How many directories are held open at once. Deeper ones are first moved up.
const MAX_OPEN: usize = 64;

/// Flags that open a directory and never anything behind a symlink.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes whatever is at `path`, which need not exist. The caller makes sure that nobody else
/// works in the tree.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    remove_errno(path).map_err(|source| StoreError::io("remove", path, source))
}

fn remove_errno(path: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR, POSIX would say EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let root = match open_directory(CWD, path) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    empty(&root)?;
    let removed = rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR);
    // Only now, as it is then that its blocks are freed, which some file systems take long for:
    // within the call above, whoever makes something in the directory above would wait for that.
    drop(root);
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// One directory that is being emptied.
struct Level {
    fd: OwnedFd,
    /// Names of directories still to be emptied.
    directories: Vec<CString>,
    /// Its own name in the level above.
    name: CString,
}

/// Removes everything below `root`.
fn empty(root: &OwnedFd) -> Result<(), Errno> {
    let mut moved = 0_u64;
    loop {
        // Each round may move directories from the deep up to the root; they are next.
        rustix::fs::seek(root, rustix::fs::SeekFrom::Start(0))?;
        let mut levels = vec![Level {
            fd: root.try_clone().map_err(|error| errno_of(&error))?,
            directories: unlink_files(root)?,
            name: CString::default(),
        }];
        if levels[0].directories.is_empty() {
            return Ok(());
        }
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else {
                break;
            };
            if let Some(name) = level.directories.pop() {
                if depth >= MAX_OPEN {
                    // Too deep to keep every directory open: becomes a child of the root.
                    loop {
                        let target = format!(".deep-{moved}");
                        moved += 1;
                        let renamed = rustix::fs::renameat_with(
                            &level.fd,
                            name.as_c_str(),
                            root,
                            target.as_str(),
                            rustix::fs::RenameFlags::NOREPLACE,
                        );
                        match renamed {
                            Err(Errno::EXIST) => {}
                            other => break other?,
                        }
                    }
                    continue;
                }
                let fd = open_directory(&level.fd, name.as_c_str())?;
                let directories = unlink_files(&fd)?;
                levels.push(Level {
                    fd,
                    directories,
                    name,
                });
            } else {
                let done = levels.pop();
                if let (Some(done), Some(above)) = (done, levels.last()) {
                    with_permission(&above.fd, || {
                        rustix::fs::unlinkat(&above.fd, done.name.as_c_str(), AtFlags::REMOVEDIR)
                    })?;
                }
            }
        }
    }
}

/// Opens a directory for reading, giving its owner the permission first where that is missing: the
/// kernel's own `work/work` has mode 000.
fn open_directory<P: rustix::path::Arg + Copy>(at: impl AsFd, name: P) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(&at, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // It is a directory, or the open would have said ENOTDIR or ELOOP... after the check of
            // permissions, so look first: chmod follows symlinks.
            let stat = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Errno::ACCESS);
            }
            rustix::fs::chmodat(&at, name, Mode::RWXU, AtFlags::empty())?;
            rustix::fs::openat(&at, name, DIRECTORY, Mode::empty())
        }
        other => other,
    }
}

/// Unlinks all entries of a directory that are no directories, and names the others.
fn unlink_files(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut directories = Vec::new();
    for_each_entry(directory, |name, kind| {
        let kind = match kind {
            FileType::Unknown => FileType::from_raw_mode(
                rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode,
            ),
            known => known,
        };
        if kind == FileType::Directory {
            directories.push(name.to_owned());
            return Ok(());
        }
        with_permission(directory, || {
            match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(()),
                other => other,
            }
        })
    })?;
    Ok(directories)
}

/// Tries again with the directory made writable if the first try was not allowed.
fn with_permission(
    directory: &OwnedFd,
    action: impl Fn() -> Result<(), Errno>,
) -> Result<(), Errno> {
    match action() {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(directory, Mode::RWXU)?;
            action()
        }
        other => other,
    }
}

/// Calls `visit` with each name of a directory but `.` and `..`, and its type if the file system
/// tells it in the listing.
pub(crate) fn for_each_entry(
    directory: impl AsFd,
    mut visit: impl FnMut(&CStr, FileType) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            visit(name, entry.file_type())?;
        }
    }
    Ok(())
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// Bytes that a file takes on disk.
pub(crate) fn allocated(stat: &rustix::fs::Stat) -> u64 {
    // In units of 512 bytes, whatever the block size (stat(2)).
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// Bytes on disk and entries below `path`, itself not counted; a file with several names counts
/// once. A tree that others change meanwhile gives an approximate answer, never an error.
pub(crate) fn usage(path: &Path) -> (u64, u64) {
    usage_but(path, &mut HashSet::new())
}

/// [`usage`] without the files of several names that are in `seen`, to which the others are added.
pub(crate) fn usage_but(path: &Path, seen: &mut HashSet<(u64, u64)>) -> (u64, u64) {
    walk(path, &mut |stat| {
        if has_more_names(stat) && !seen.insert((stat.st_dev, stat.st_ino)) {
            return 0;
        }
        allocated(stat)
    })
}

/// [`usage_but`] of a directory that holds many trees, several of which are walked at once.
pub(crate) fn usage_of_children(path: &Path, seen: &mut HashSet<(u64, u64)>) -> (u64, u64) {
    let names = crate::collect::names(path).unwrap_or_default();
    let parts: Vec<_> = names
        .par_chunks(64)
        .map(|names| {
            let (mut bytes, mut entries) = (0, 0);
            let mut shared = Vec::new();
            for name in names {
                let child = path.join(name);
                let Ok(stat) = rustix::fs::lstat(&child) else {
                    continue;
                };
                let below = walk(&child, &mut |stat| {
                    if has_more_names(stat) {
                        shared.push((stat.st_dev, stat.st_ino, allocated(stat)));
                        return 0;
                    }
                    allocated(stat)
                });
                bytes += allocated(&stat) + below.0;
                entries += 1 + below.1;
            }
            (bytes, entries, shared)
        })
        .collect();
    let (mut bytes, mut entries) = (0, 0);
    for part in parts {
        bytes += part.0;
        entries += part.1;
        for (device, inode, size) in part.2 {
            if seen.insert((device, inode)) {
                bytes += size;
            }
        }
    }
    (bytes, entries)
}

fn has_more_names(stat: &rustix::fs::Stat) -> bool {
    stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
}

/// Visits everything below `path`, which need be no directory. Gives the sum of what `visit` gives, and
/// how many entries there were.
fn walk(path: &Path, visit: &mut dyn FnMut(&rustix::fs::Stat) -> u64) -> (u64, u64) {
    let Ok(root) = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty()) else {
        return (0, 0);
    };
    let (mut bytes, mut entries) = (0, 0);
    let mut pending = vec![Vec::new()];
    while let Some(relative) = pending.pop() {
        let name: &[u8] = if relative.is_empty() { b"." } else { &relative };
        let Ok(directory) = rustix::fs::openat(&root, name, DIRECTORY, Mode::empty()) else {
            continue;
        };
        // What can't be listed (any more) counts for nothing.
        for_each_entry(&directory, |name, _| {
            let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                return Ok(());
            };
            entries += 1;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let mut child = relative.clone();
                if !child.is_empty() {
                    child.push(b'/');
                }
                child.extend_from_slice(name.to_bytes());
                pending.push(child);
            }
            bytes += visit(&stat);
            Ok(())
        })
        .unwrap_or(());
    }
    (bytes, entries)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn tree_with_closed_directories_and_symlinks_is_removed_and_targets_stay() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), "x").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("work/work/inner")).unwrap();
        std::fs::write(tree.join("work/work/inner/file"), "x").unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        for closed in ["work/work/inner", "work/work", "work"] {
            std::fs::set_permissions(tree.join(closed), PermissionsExt::from_mode(0o000)).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("keep").exists());
        remove(&tree).unwrap();
    }

    #[test]
    fn symlink_at_the_top_is_removed_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        remove(&link).unwrap();
        assert!(outside.exists());
        assert!(link.symlink_metadata().is_err());
    }

    #[test]
    fn tree_deeper_than_any_path_may_be_long_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        let mut at = rustix::fs::openat(CWD, &tree, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "directory", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "directory", DIRECTORY, Mode::empty()).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
