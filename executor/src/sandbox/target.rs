//! The new root, and paths inside it.
//!
//! Paths are walked component by component; the kernel keeps every step inside the root
//! (`RESOLVE_IN_ROOT`), so that neither a symlink of the image nor a rename by another process
//! that shares a cache mount can lead outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::protocol::{Failure, Stage, quoted};

/// Symlinks followed in one path; the kernel's own limit.
const MOST_LINKS: u32 = 40;

/// What has to be at a path to mount there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A directory.
    Directory,
    /// Anything but a directory; an empty file is made.
    File,
}

/// The root that is being prepared.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    mount: u64,
    created: Vec<PathBuf>,
}

impl Root {
    /// The tree whose root is `directory`.
    pub(super) fn new(directory: OwnedFd) -> Result<Self, Failure> {
        let mount = mount_id(&directory).during("look at the new root")?;
        Ok(Self {
            directory,
            mount,
            created: Vec::new(),
        })
    }

    /// The paths that were made, from the root and without a leading `/`, deepest first.
    pub(super) fn into_created(self) -> (OwnedFd, Vec<PathBuf>) {
        let mut created = self.created;
        created.reverse();
        (self.directory, created)
    }

    /// What is at `path`, if anything is.
    pub(super) fn existing(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match open_in(&self.directory, path, OFlags::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            answer => Ok(Some(answer?)),
        }
    }

    /// What is at `path`, made if nothing is.
    pub(super) fn target(&mut self, path: &Path, want: Want) -> Result<OwnedFd, Failure> {
        let found = match open_in(&self.directory, path, OFlags::empty()) {
            Err(Errno::NOENT) => self
                .make(path, want)
                .stage(|| format!("make mount point {}", quoted(path)))?,
            answer => answer.stage(|| format!("open mount point {}", quoted(path)))?,
        };
        let is_directory =
            is_directory(&found).stage(|| format!("look at mount point {}", quoted(path)))?;
        match (want, is_directory) {
            (Want::Directory, false) => Err(Failure::new(
                format!("mount on {}", quoted(path)),
                "it is not a directory, and what is to be mounted is one",
            )),
            (Want::File, true) => Err(Failure::new(
                format!("mount on {}", quoted(path)),
                "it is a directory, and what is to be mounted is a file",
            )),
            _ => Ok(found),
        }
    }

    /// Walks `path` and makes what is missing.
    fn make(&mut self, path: &Path, want: Want) -> io::Result<OwnedFd> {
        let mut ahead = components(path);
        // Where the walk is, without symlinks.
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&name);
            match open_in(&self.directory, &next, OFlags::NOFOLLOW) {
                Ok(found) => {
                    if file_type(&found)? == FileType::Symlink {
                        links += 1;
                        if links > MOST_LINKS {
                            return Err(Errno::LOOP.into());
                        }
                        let to = rustix::fs::readlinkat(&found, "", Vec::new())?;
                        let to = PathBuf::from(OsString::from_vec(to.into_bytes()));
                        if to.is_absolute() {
                            here.clear();
                        }
                        for name in components(&to).into_iter().rev() {
                            ahead.push_front(name);
                        }
                        continue;
                    }
                }
                Err(Errno::NOENT) => {
                    let parent = open_in(&self.directory, &here, OFlags::DIRECTORY)?;
                    let directory = !ahead.is_empty() || want == Want::Directory;
                    let made = make_one(&parent, &name, directory)?;
                    if made && mount_id(&parent)? == self.mount {
                        self.created.push(next.clone());
                    }
                }
                Err(error) => return Err(error.into()),
            }
            here = next;
        }
        Ok(open_in(&self.directory, &here, OFlags::empty())?)
    }
}

/// Makes a directory or an empty file; false if something of that name appeared meanwhile.
fn make_one(parent: &OwnedFd, name: &OsStr, directory: bool) -> io::Result<bool> {
    let answer = if directory {
        rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))
    } else {
        rustix::fs::openat(
            parent,
            name,
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        )
        .map(drop)
    };
    match answer {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

/// Opens `path` inside `root` as a mere reference (`O_PATH`).
pub(super) fn open_in(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let root = root.as_fd();
    let path = if path.as_os_str().as_bytes().is_empty() {
        Path::new("/")
    } else {
        path
    };
    loop {
        // EAGAIN: something was renamed during the walk, so the kernel could not be sure.
        match rustix::fs::openat2(
            root,
            path,
            OFlags::PATH | OFlags::CLOEXEC | flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        ) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
}

/// Type of what a descriptor refers to.
pub(super) fn file_type(descriptor: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(
        rustix::fs::fstat(descriptor)?.st_mode,
    ))
}

/// Whether a descriptor refers to a directory.
pub(super) fn is_directory(descriptor: &OwnedFd) -> io::Result<bool> {
    Ok(file_type(descriptor)? == FileType::Directory)
}

/// Which mount a descriptor is on.
fn mount_id(descriptor: &OwnedFd) -> io::Result<u64> {
    let statx = rustix::fs::statx(descriptor, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(statx.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(directory: &Path) -> Root {
        Root::new(
            rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn missing_targets_are_made_and_listed_deepest_first() {
        let scratch = tempfile::tempdir().unwrap();
        let mut root = root(scratch.path());
        root.target(Path::new("/a/b/file"), Want::File).unwrap();
        root.target(Path::new("/a/c"), Want::Directory).unwrap();
        root.target(Path::new("/a/c"), Want::Directory).unwrap();
        assert!(scratch.path().join("a/b/file").is_file());
        assert!(scratch.path().join("a/c").is_dir());
        let expected = ["a/c", "a/b/file", "a/b", "a"].map(PathBuf::from);
        assert_eq!(root.into_created().1, expected);
    }

    #[test]
    fn links_that_lead_outside_stay_inside() {
        let scratch = tempfile::tempdir().unwrap();
        let inside = scratch.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        symlink("/../../outside", inside.join("absolute")).unwrap();
        symlink("../../../outside2/x", inside.join("relative")).unwrap();
        let mut root = root(&inside);
        root.target(Path::new("/absolute/deep"), Want::Directory)
            .unwrap();
        root.target(Path::new("/relative"), Want::File).unwrap();
        assert!(inside.join("outside/deep").is_dir());
        assert!(inside.join("outside2/x").is_file());
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
        let expected = ["outside2/x", "outside2", "outside/deep", "outside"].map(PathBuf::from);
        assert_eq!(root.into_created().1, expected);
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("b", scratch.path().join("a")).unwrap();
        symlink("a", scratch.path().join("b")).unwrap();
        let error = root(scratch.path())
            .target(Path::new("/a"), Want::File)
            .unwrap_err();
        assert_eq!(error.errno, Some(libc::ELOOP));
    }

    #[test]
    fn the_kind_of_a_target_must_fit() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "").unwrap();
        let mut root = root(scratch.path());
        assert!(root.target(Path::new("/file"), Want::Directory).is_err());
        assert!(root.target(Path::new("/"), Want::File).is_err());
        assert!(root.target(Path::new("/file/below"), Want::File).is_err());
    }
}
