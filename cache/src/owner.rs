//! Owners that a user namespace has no id for.
//!
//! In a user namespace with one id every file belongs to its root. The owner that a file of an image
//! is to have is then noted in an extended attribute of the file, [`ATTRIBUTE`], as `UID:GID`. Whatever
//! reads layers takes the attribute's word for the owner; it never leaves the store and is never taken
//! from outside. Overlayfs copies it up with the file, so that a step that changes a file keeps its
//! owner, as it would if it were a real one.
//!
//! A store in which such notes may be has a file `owners`: in all others nobody looks for them.
//!
//! **Limitations**: the kernel lets users put attributes on regular files and directories only. Links,
//! devices, fifos and sockets belong to root.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

use crate::xattr;

/// The attribute.
pub const ATTRIBUTE: &[u8] = b"user.strata.owner";

/// The file in the root of a store that says that its layers may have noted owners.
pub(crate) const MARK: &str = "owners";

/// Whether a store with noted owners is open.
static NOTED: AtomicBool = AtomicBool::new(false);

/// Whether this process is in a user namespace that has one user or one group.
pub fn has_one_id() -> bool {
    static ONE: OnceLock<bool> = OnceLock::new();
    *ONE.get_or_init(|| {
        ["/proc/self/uid_map", "/proc/self/gid_map"]
            .iter()
            .any(|path| fs::read_to_string(path).is_ok_and(|map| ids(&map) == 1))
    })
}

/// How many ids a map has.
fn ids(map: &str) -> u64 {
    let counts = map
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2));
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// To be called when a store is opened: from then on noted owners are read, if it may have any or is to
/// get some.
pub(crate) fn opened(store: &Path, read_only: bool) -> std::io::Result<()> {
    let mark = store.join(MARK);
    if fs::exists(&mark)? {
        NOTED.store(true, Ordering::Relaxed);
    } else if has_one_id() && !read_only {
        // ORDER: the mark is there before the first note.
        fs::File::create(&mark)?.sync_all()?;
        NOTED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Notes the owner of an open regular file or directory. False if that can't be done here, or not for this
/// kind of file.
pub fn note(file: BorrowedFd<'_>, owner: (u32, u32)) -> Result<bool> {
    if !NOTED.load(Ordering::Relaxed) {
        return Ok(false);
    }
    match xattr::set(
        file,
        ATTRIBUTE,
        format!("{}:{}", owner.0, owner.1).as_bytes(),
    ) {
        Ok(()) => Ok(true),
        // A kind of file, or a file system, that takes none.
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes a note away, after the file got a real owner.
pub fn forget(file: BorrowedFd<'_>) -> Result<()> {
    if !NOTED.load(Ordering::Relaxed) {
        return Ok(());
    }
    match xattr::remove(file, ATTRIBUTE) {
        // Never was one.
        Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        result => result,
    }
}

/// The noted owner of an open file (`O_PATH` too), which `stat` is of.
pub(crate) fn noted(stat: &Stat, file: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !NOTED.load(Ordering::Relaxed)
        || !matches!(kind, FileType::RegularFile | FileType::Directory)
    {
        return None;
    }
    parse(&xattr::get(file, ATTRIBUTE).ok()??)
}

/// The same for `name` in the directory `parent`.
pub(crate) fn noted_at(stat: &Stat, parent: BorrowedFd<'_>, name: &OsStr) -> Option<(u32, u32)> {
    if !NOTED.load(Ordering::Relaxed) {
        return None;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty()).ok()?;
    noted(stat, file.as_fd())
}

/// A step can write the attribute, too: anything but two numbers is none.
fn parse(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // The last one means "leave it" to chown(2) and is nobody's.
        (digits.then(|| text.parse().ok())?).filter(|id| *id != u32::MAX)
    };
    Some((number(uid)?, number(gid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_are_an_owner_and_nothing_else_is() {
        assert_eq!(parse(b"0:0"), Some((0, 0)));
        assert_eq!(parse(b"1000:4294967294"), Some((1000, 4_294_967_294)));
        for wrong in [
            &b""[..],
            b":",
            b"1",
            b"1:",
            b":1",
            b"+1:1",
            b"-1:1",
            b"1:1:1",
            b"1:4294967295",
            b"4294967296:1",
            b"1:1\n",
            b"\xff:1",
        ] {
            assert_eq!(parse(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn ids_of_a_map_are_counted() {
        assert_eq!(ids("         0       1000          1\n"), 1);
        assert_eq!(ids("0 1000 1\n1 100000 65536\n"), 65537);
        assert_eq!(ids("         0          0 4294967295\n"), 4_294_967_295);
        assert_eq!(ids(""), 0);
    }
}
