//! Extended attributes: reading all of a file's, and which of them belong to a layer.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

use crate::beneath::proc_path;
use crate::owner;

/// An extended attribute's name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// The kernel's bound on a value and on a list of names.
const MAX: usize = 65536;

const CAPABILITY: &[u8] = b"security.capability";

/// Whether `name` is overlayfs's own. Such attributes steer a mount (`redirect`, `metacopy`,
/// `opaque`): they never leave the store and are never taken from outside.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Whether an attribute is part of an image: file capabilities and what users set. Labels
/// (`security.selinux`), signatures bound to a host (`security.ima`), ACLs (`system.*`) and
/// `trusted.*` (which an ordinary user can't read) are not: a layer must be the same whoever
/// makes it, wherever. A noted [owner] is the file's owner.
///
/// A name with `=` has no place in a PAX record.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    (name == CAPABILITY || name.starts_with(b"user."))
        && !is_overlay(name)
        && name != owner::ATTRIBUTE
        && !name.contains(&b'=')
        && name.len() <= 255
}

/// Whether an attribute says what a file is to the security modules of this host. They give every file
/// its own when it is made, tell them to everybody who lists attributes, and let few set or remove them:
/// they are never copied.
pub(crate) fn is_of_host(name: &[u8]) -> bool {
    name.starts_with(b"security.") && name != CAPABILITY
}

/// The attributes of an open file (`O_PATH` too) but those [of the host](is_of_host), sorted by name. A file
/// system without attributes has none.
pub(crate) fn list(file: BorrowedFd<'_>) -> Result<Vec<Xattr>> {
    gather(
        |names| match rustix::fs::flistxattr(file, &mut *names) {
            Err(Errno::BADF) => rustix::fs::listxattr(proc_path(file), names),
            result => result,
        },
        |name| get(file, name),
    )
}

/// The same of `name` in an open directory (`O_PATH` too), of a link itself: one call for a file without any,
/// which need not be opened.
pub(crate) fn list_at(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<Xattr>> {
    // The kernel has no call that takes a directory and a name.
    let path = Path::new(&proc_path(directory)).join(name);
    gather(
        |names| rustix::fs::llistxattr(&path, names),
        |name| value(|value| rustix::fs::lgetxattr(&path, name, value)),
    )
}

fn gather(
    mut list: impl FnMut(&mut [u8]) -> Result<usize>,
    get: impl Fn(&[u8]) -> Result<Option<Vec<u8>>>,
) -> Result<Vec<Xattr>> {
    let mut few = [0; 1024];
    let mut many = Vec::new();
    let names = match list(&mut few) {
        Ok(size) => &few[..size],
        Err(Errno::RANGE) => {
            many.resize(MAX, 0);
            match list(&mut many) {
                Ok(size) => &many[..size],
                Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || is_of_host(name) {
            continue;
        }
        if let Some(value) = get(name)? {
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}

/// The attributes that belong to a layer, as an image carries them: see [`is_portable`].
pub(crate) fn list_portable(file: BorrowedFd<'_>) -> Result<Vec<Xattr>> {
    let mut list = list(file)?;
    list.retain(|(name, _)| is_portable(name));
    for (name, value) in &mut list {
        if name == CAPABILITY {
            normalise_capability(value);
        }
    }
    Ok(list)
}

/// The value of one attribute; none if the file has none of that name.
pub(crate) fn get(file: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Vec<u8>>> {
    value(
        |value| match rustix::fs::fgetxattr(file, name, &mut *value) {
            Err(Errno::BADF) => rustix::fs::getxattr(proc_path(file), name, value),
            result => result,
        },
    )
}

fn value(mut get: impl FnMut(&mut [u8]) -> Result<usize>) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match get(&mut value) {
            Ok(size) => {
                value.truncate(size);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < MAX => value.resize(MAX, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Sets one attribute of an open file (`O_PATH` too).
pub(crate) fn set(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
        Err(Errno::BADF) => rustix::fs::setxattr(proc_path(file), name, value, XattrFlags::empty()),
        result => result,
    }
}

/// Removes one attribute; it is no error if there is none.
pub(crate) fn remove(file: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let result = match rustix::fs::fremovexattr(file, name) {
        Err(Errno::BADF) => rustix::fs::removexattr(proc_path(file), name),
        result => result,
    };
    match result {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// A capability set of revision 3 names the root user of the namespace that it counts in. If that
/// is our own root, it means the same as revision 2 (capabilities(7), "File capability
/// extended attribute versioning"), which is what images hold.
fn normalise_capability(value: &mut Vec<u8>) {
    const REVISION_MASK: u32 = 0xff00_0000;
    const FLAGS_MASK: u32 = 0x00ff_ffff;
    let Some(magic) = value
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes))
    else {
        return;
    };
    if magic & REVISION_MASK == 0x0300_0000 && value.len() == 24 && value[20..] == [0; 4] {
        value.truncate(20);
        value[..4].copy_from_slice(&(0x0200_0000 | magic & FLAGS_MASK).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_of_our_own_root_becomes_revision_two() {
        let mut value = vec![
            1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        normalise_capability(&mut value);
        assert_eq!(
            value,
            [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        let mut foreign = vec![
            1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
        ];
        let before = foreign.clone();
        normalise_capability(&mut foreign);
        assert_eq!(foreign, before);
    }

    #[test]
    fn only_capabilities_and_user_attributes_are_portable() {
        assert!(is_portable(b"security.capability"));
        assert!(is_portable(b"user.note"));
        for name in [
            &b"user.overlay.opaque"[..],
            b"user.strata.owner",
            b"trusted.overlay.redirect",
            b"trusted.note",
            b"security.selinux",
            b"system.posix_acl_access",
            b"user.a=b",
        ] {
            assert!(!is_portable(name), "{}", name.escape_ascii());
        }
    }
}
