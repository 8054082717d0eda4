//! Opening what lies below a directory without following anything.
//!
//! Layers come from images and from commands that ran in a sandbox: a component of a path may be a
//! symlink to the host's `/etc` by the time it is opened. Every path here is opened relative to a
//! directory's descriptor by `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`; kernels
//! (and old seccomp filters) without that call get the same by one `O_NOFOLLOW` open for each
//! component.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, Result};

/// Opens the directory at `path` itself, which is trusted (a path of the store).
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens `path` below `root`; an empty path is `root` itself. `O_NOFOLLOW` and `O_CLOEXEC` are added
/// to `flags`.
///
/// A symlink as the last component is `ELOOP` unless `flags` hold `O_PATH`, then the link itself is
/// opened. A symlink before it is `ELOOP` or `ENOTDIR`; `..` that would leave is `EXDEV`.
pub fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if has_openat2(root) {
        loop {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
                // EAGAIN: something was renamed meanwhile and the kernel can't be sure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }
    open_stepwise(root, path, flags)
}

/// The road for kernels without `openat2`.
fn open_stepwise(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(Errno::XDEV),
        }
    }
    let last = names.pop().unwrap_or(OsStr::new("."));
    let mut directory: Option<OwnedFd> = None;
    for name in names {
        let parent = directory.as_ref().map_or(root, AsFd::as_fd);
        let next = rustix::fs::openat(
            parent,
            name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        directory = Some(next);
    }
    let parent = directory.as_ref().map_or(root, AsFd::as_fd);
    rustix::fs::openat(parent, last, flags, Mode::empty())
}

fn has_openat2(root: BorrowedFd<'_>) -> bool {
    static KNOWN: AtomicU8 = AtomicU8::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            // Some seccomp filters answer EPERM for calls that they don't know. Opening `.` can't
            // fail otherwise.
            let works = rustix::fs::openat2(
                root,
                ".",
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH,
            );
            let answer = !matches!(works, Err(Errno::NOSYS | Errno::PERM | Errno::INVAL));
            KNOWN.store(if answer { 1 } else { 2 }, Ordering::Relaxed);
            answer
        }
        known => known == 1,
    }
}

/// Opens whatever is at `path` as an `O_PATH` descriptor and its metadata; none if nothing is there.
pub(crate) fn find(root: BorrowedFd<'_>, path: &Path) -> Result<Option<(OwnedFd, Stat)>> {
    match open(root, path, OFlags::PATH) {
        Ok(file) => {
            let stat = rustix::fs::fstat(&file)?;
            Ok(Some((file, stat)))
        }
        Err(error) if is_absent(error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `error` says that nothing is at the path (or that something before it is no directory).
pub(crate) fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

/// Opens a directory for reading.
pub(crate) fn open_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a regular file for reading. `O_NONBLOCK` keeps a fifo that took its place from blocking.
pub(crate) fn open_file(root: BorrowedFd<'_>, path: &Path) -> Result<File> {
    open_regular(root, path).map(|(file, _)| file)
}

/// The same, with the file's metadata.
pub(crate) fn open_regular(root: BorrowedFd<'_>, path: &Path) -> Result<(File, Stat)> {
    let file = open(
        root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    )?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok((File::from(file), stat))
}

/// Metadata of `name` in the directory `parent`, of a link itself; none if it is not there.
pub(crate) fn stat_at(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory opened for reading with their types as far as the file system tells,
/// unsorted, without `.` and `..`.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

/// `name` appended to `path`, both raw bytes.
pub(crate) fn join(path: &Path, name: &[u8]) -> std::path::PathBuf {
    path.join(OsStr::from_bytes(name))
}

/// The path through which the kernel reaches the file behind an `O_PATH` descriptor.
pub(crate) fn proc_path(file: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn both_roads_refuse_symlinks_and_parents() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("a/b/f"), "x").unwrap();
        symlink("/etc", root.path().join("a/out")).unwrap();
        symlink("b", root.path().join("a/in")).unwrap();
        let fd = open_root(root.path()).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for road in [open, open_stepwise] {
            assert!(road(fd.as_fd(), Path::new("a/b/f"), flags).is_ok());
            for path in [
                "a/out/passwd",
                "a/in/f",
                "a/out",
                "../x",
                "/etc/passwd",
                "a/../a",
            ] {
                let answer = road(fd.as_fd(), Path::new(path), flags);
                // Inside the root `..` leads nowhere bad; openat2 lets it pass.
                assert!(answer.is_err() || path == "a/../a", "{path}");
            }
            let link = road(fd.as_fd(), Path::new("a/out"), flags | OFlags::PATH).unwrap();
            let mode = rustix::fs::fstat(&link).unwrap().st_mode;
            assert_eq!(FileType::from_raw_mode(mode), FileType::Symlink);
        }
    }
}
