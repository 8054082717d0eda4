//! Giving the files of a mount to the command's user.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::Errno;

/// Makes `uid` and `gid` the owner of everything in the mount that `tree` is the root of. Links are not
/// followed, and other mounts are not entered. Others may work on the files meanwhile: what is gone when its turn
/// comes is left out.
pub(super) fn give(tree: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let to = Owner {
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(gid),
        mount: identity(tree.as_fd())?.0,
    };
    let (_, kind) = to.take(tree.as_fd())?;
    if kind != FileType::Directory {
        return Ok(());
    }
    // One open directory for each level, with the names in it that are still to be gone into.
    let mut levels = vec![to.children(open_directory(tree, c".")?)?];
    while let Some((directory, names)) = levels.last_mut() {
        let Some(name) = names.pop() else {
            levels.pop();
            continue;
        };
        match open_directory(&*directory, &name) {
            Ok(below) => levels.push(to.children(below)?),
            // Gone, or something else by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

struct Owner {
    uid: Uid,
    gid: Gid,
    mount: u64,
}

impl Owner {
    /// Gives one file away, unless it is on another mount. Tells whether it is on ours, and what it is.
    fn take(&self, file: impl AsFd) -> io::Result<(bool, FileType)> {
        let (mount, kind, owner) = identity(file.as_fd())?;
        let ours = mount == self.mount;
        // A file that overlayfs would have to copy for nothing is left as it is.
        if ours && owner != (self.uid.as_raw(), self.gid.as_raw()) {
            rustix::fs::chownat(
                file,
                "",
                Some(self.uid),
                Some(self.gid),
                AtFlags::EMPTY_PATH,
            )?;
        }
        Ok((ours, kind))
    }

    /// Gives away what is in `directory`; answers with the directories there.
    fn children(&self, directory: OwnedFd) -> io::Result<(OwnedFd, Vec<CString>)> {
        let mut below = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(&directory, name, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                answer => answer?,
            };
            if let (true, FileType::Directory) = self.take(&file)? {
                below.push(name.to_owned());
            }
        }
        Ok((directory, below))
    }
}

fn open_directory(at: impl AsFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Which mount a file is on, what it is, and whose.
fn identity(file: impl AsFd) -> io::Result<(u64, FileType, (u32, u32))> {
    let wanted = StatxFlags::MNT_ID | StatxFlags::BASIC_STATS;
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    let found = rustix::fs::statx(file, "", flags, wanted)?;
    let kind = FileType::from_raw_mode(found.stx_mode.into());
    Ok((found.stx_mnt_id, kind, (found.stx_uid, found.stx_gid)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use super::*;

    /// Only root can give files away; anybody can give their own to themselves.
    #[test]
    fn everything_below_is_reached_and_links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        std::fs::write(&outside, "").unwrap();
        let tree = scratch.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).unwrap();
        std::fs::write(tree.join("a/b/file"), "").unwrap();
        symlink("/outside", tree.join("a/link")).unwrap();
        symlink("..", tree.join("a/b/up")).unwrap();
        let mut own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let before = own;
        if own.0 == 0 {
            own = (7, 8);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&tree, flags, Mode::empty()).unwrap();
        give(&directory, own.0, own.1).unwrap();
        let owner = |path: &Path| {
            let found = path.symlink_metadata().unwrap();
            (found.uid(), found.gid())
        };
        for path in ["", "a", "a/b", "a/b/c", "a/b/file", "a/link", "a/b/up"] {
            assert_eq!(owner(&tree.join(path)), own, "{path}");
        }
        assert_eq!(owner(&outside), before);
    }
}
