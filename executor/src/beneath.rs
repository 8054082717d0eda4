//! Opening paths that must not leave a directory.
//!
//! The paths given here are already resolved: no component may be a symlink. One that has become
//! a symlink since is an error (`ELOOP`), whoever put it there.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Set once the kernel (or a seccomp filter around us) has refused `openat2`.
static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens `path` below `root` with `flags`; `O_NOFOLLOW` and `O_CLOEXEC` are added. With `O_PATH`
/// the last component may be a symlink, which is then opened itself. An empty path is `root`.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            match rustix::fs::openat2(root, path, flags, mode, resolve) {
                Ok(file) => return Ok(file),
                // A rename or mount elsewhere in the meantime: the kernel asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                // EPERM is what some container runtimes answer to system calls that they do not
                // know. The fallback gives the honest answer if it was about the file.
                Err(Errno::NOSYS) => {
                    NO_OPENAT2.store(true, Ordering::Relaxed);
                    break;
                }
                Err(Errno::PERM) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    by_components(root, path, flags, mode)
}

fn by_components(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Errno::XDEV.into());
            }
        }
    }
    let Some((last, parents)) = names.split_last() else {
        return Ok(rustix::fs::openat(root, ".", flags, mode)?);
    };
    debug_assert!(!last.as_bytes().contains(&b'/'));
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut current: Option<OwnedFd> = None;
    for name in parents {
        let next = match &current {
            Some(directory) => rustix::fs::openat(directory, *name, step, Mode::empty())?,
            None => rustix::fs::openat(root, *name, step, Mode::empty())?,
        };
        current = Some(next);
    }
    Ok(match &current {
        Some(directory) => rustix::fs::openat(directory, *last, flags, mode)?,
        None => rustix::fs::openat(root, *last, flags, mode)?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    type Open = fn(BorrowedFd<'_>, &Path, OFlags, Mode) -> io::Result<OwnedFd>;

    #[test]
    fn links_and_dots_never_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let inside = outside.path().join("root");
        fs::create_dir_all(inside.join("a")).unwrap();
        fs::write(inside.join("a/file"), "x").unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink(outside.path().join("secret"), inside.join("a/link")).unwrap();
        let root = fs::File::open(&inside).unwrap();
        let both: [Open; 2] = [open_beneath, by_components];
        for open in both {
            let try_open = |path: &str, extra: OFlags| {
                open(
                    root.as_fd(),
                    Path::new(path),
                    OFlags::RDONLY | OFlags::NOFOLLOW | extra,
                    Mode::empty(),
                )
            };
            assert!(try_open("a/file", OFlags::empty()).is_ok());
            assert!(try_open("a/link", OFlags::empty()).is_err());
            assert!(try_open("up/secret", OFlags::empty()).is_err());
            assert!(try_open("../secret", OFlags::empty()).is_err());
            assert!(try_open("/etc/passwd", OFlags::empty()).is_err());
            assert!(try_open("a/link", OFlags::PATH).is_ok());
        }
    }
}
