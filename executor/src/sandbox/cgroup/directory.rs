//! A group as a directory: made, kept by a lock, taken away.
//!
//! The lock is how a group that nobody takes away any more is told from one in use: the kernel frees
//! it when its holder dies, however that comes. Whoever makes the next group beside it removes it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::super::protocol::{Failure, Stage, quoted};

/// What the name of each group begins with; a process's number and a count follow.
const PREFIX: &str = "strata-";

/// How deep groups in a group are looked for, to be removed.
const DEPTH: u32 = 16;

/// A group of this process's.
#[derive(Debug)]
pub(super) struct Directory {
    parent: OwnedFd,
    own: OwnedFd,
    name: String,
    path: PathBuf,
}

impl Directory {
    /// Makes a group in `parent`, under a name of its own. `explain` says more about a refusal.
    pub(super) fn make(
        parent: &Path,
        explain: impl Fn(&io::Error) -> &'static str,
    ) -> Result<Self, Failure> {
        let stage = || format!("make a control group in {}", quoted(parent));
        let refused = |error: &io::Error| Failure {
            stage: stage(),
            errno: error.raw_os_error(),
            detail: explain(error).into(),
        };
        let directory = open(rustix::fs::CWD, parent).stage(stage)?;
        remove_abandoned(&directory);
        for attempt in 0..100 {
            let name = format!("{PREFIX}{}-{attempt}", std::process::id());
            match rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) => continue,
                answer => answer.map_err(|error| refused(&error.into()))?,
            }
            // Before the lock is held another process may take it for abandoned.
            let Ok(own) = open(&directory, &name) else {
                continue;
            };
            if lock(&own) && is_at(&own, &directory, &name) {
                return Ok(Self {
                    path: parent.join(&name),
                    parent: directory,
                    own,
                    name,
                });
            }
        }
        Err(Failure::new(stage(), "no name is free"))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens one of its files.
    pub(super) fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let file = rustix::fs::openat(&self.own, name, flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(file.into())
    }

    /// Takes it away, and what groups were made in it. Its processes must have ended.
    pub(super) fn remove(self) {
        // The kernel may still be busy with the last process for a moment.
        for wait in [0, 1, 2, 5, 10, 20, 50, 100] {
            std::thread::sleep(Duration::from_millis(wait));
            // Nothing better can be done about other errors than to leave it.
            if remove_tree(self.parent.as_fd(), &self.name, DEPTH) != Err(Errno::BUSY) {
                break;
            }
        }
    }
}

fn open(at: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(
        at,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn lock(directory: &OwnedFd) -> bool {
    rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn is_at(directory: &OwnedFd, parent: &OwnedFd, name: &str) -> bool {
    let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let here = rustix::fs::fstat(directory);
    matches!((here, there), (Ok(here), Ok(there)) if here.st_ino == there.st_ino)
}

/// Removes groups whose sandboxes were killed before they could do it.
fn remove_abandoned(parent: &OwnedFd) {
    for name in directories(parent.as_fd()) {
        let ours = name.strip_prefix(PREFIX).is_some_and(|rest| {
            rest.split_once('-').is_some_and(|(process, count)| {
                process.parse::<u32>().is_ok() && count.parse::<u32>().is_ok()
            })
        });
        // Held by whoever uses it.
        if ours && open(parent, &name).is_ok_and(|group| lock(&group)) {
            remove_tree(parent.as_fd(), &name, DEPTH).ok();
        }
    }
}

/// Removes a group and those in it.
fn remove_tree(parent: BorrowedFd<'_>, name: &str, depth: u32) -> rustix::io::Result<()> {
    let answer = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
    if answer != Err(Errno::BUSY) || depth == 0 {
        return answer;
    }
    let group = open(parent, name)?;
    for inner in directories(group.as_fd()) {
        remove_tree(group.as_fd(), &inner, depth - 1)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// The names of the groups in a group. What can't be read isn't there.
fn directories(group: BorrowedFd<'_>) -> Vec<String> {
    let Ok(entries) = Dir::read_from(group) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type() == FileType::Directory)
        .filter_map(|entry| entry.file_name().to_str().ok().map(ToOwned::to_owned))
        .filter(|name| name != "." && name != "..")
        .collect()
}

/// Makes a group with a plain name, if it isn't there.
pub(super) fn make_plain(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Control groups are directories as any others, as far as making and locking them goes.
    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let used = Directory::make(scratch.path(), |_| "").unwrap();
        let others = ["strata-main", "strata-7-x", "other-7-1"];
        for name in others.iter().chain(&["strata-7-0", "strata-4194304-12"]) {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let second = Directory::make(scratch.path(), |_| "").unwrap();
        assert!(used.path().exists());
        assert_ne!(used.path(), second.path());
        assert!(!scratch.path().join("strata-7-0").exists());
        assert!(!scratch.path().join("strata-4194304-12").exists());
        for name in others {
            assert!(scratch.path().join(name).exists(), "{name}");
        }
        used.remove();
        second.remove();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), others.len());
    }
}
