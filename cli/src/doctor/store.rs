//! The store's place: whether it can be written, and how much room there is.

use std::path::Path;
use std::path::PathBuf;

use strata_cache::Room;

use super::Check;
use super::State;
use crate::human;

/// Less than this, and a build of some size may fail.
const SMALL: u64 = 5_000_000_000;

/// The store's directory, or the nearest above it that exists: what is there is on the file system
/// that the store would be on.
fn nearest(root: &Path) -> &Path {
    root.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}

/// A new, empty directory where the store is or would be; whoever asks for it removes it.
pub(super) fn place(root: &Path) -> Option<PathBuf> {
    let place = nearest(root).join(format!(".strata-doctor-{}", std::process::id()));
    std::fs::create_dir(&place).ok()?;
    Some(place)
}

pub(super) fn store(root: &Path) -> Vec<Check> {
    let shown = root.display();
    let near = nearest(root);
    let state = if root.join("version").exists() {
        "in use"
    } else {
        "not made yet"
    };
    let writable = rustix::fs::access(near, rustix::fs::Access::WRITE_OK);
    let store = match writable {
        Ok(()) => Check::ok(
            "store",
            format!("`{shown}` ({state}), on {}", file_system(near)),
        ),
        Err(error) => Check::wanting(
            "store",
            State::Missing,
            format!("`{}` can't be written: {error}", near.display()),
            "nothing can be built",
            "choose another directory with `--root` or `STRATA_ROOT`",
        ),
    };
    let Some(room) = Room::of(near) else {
        return vec![store];
    };
    let bytes = format!(
        "{} of {} free",
        human::size(room.free),
        human::size(room.total)
    );
    let found = if room.inodes > 0 {
        format!("{bytes}, {} of {} inodes", room.free_inodes, room.inodes)
    } else {
        bytes
    };
    // A twentieth of the inodes, as a base image may take tens of thousands.
    let few = room.inodes > 0 && room.free_inodes < room.inodes / 20;
    let room = if room.free < SMALL || few {
        Check::wanting(
            "room",
            State::Limited,
            found,
            "large builds may fill the file system",
            "make room with `strata cache prune`, or move the store with `--root`",
        )
    } else {
        Check::ok("room", found)
    };
    vec![store, room]
}

/// The type of the file system that a directory is on.
fn file_system(path: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let device = rustix::fs::stat(path).map(|stat| stat.st_dev).ok();
    device
        .and_then(|device| {
            kind_of(
                &mounts,
                rustix::fs::major(device),
                rustix::fs::minor(device),
            )
        })
        .unwrap_or_else(|| "an unknown file system".to_owned())
}

/// The type of the mounted file system with this device number, from `/proc/self/mountinfo`.
fn kind_of(mounts: &str, major: u32, minor: u32) -> Option<String> {
    let wanted = format!("{major}:{minor}");
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (left.split(' ').nth(2)? == wanted)
            .then(|| right.split(' ').next().map(ToOwned::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_file_system_is_found_by_its_device() {
        let mounts = "\
21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:20 / /proc rw - proc proc rw
23 21 0:33 / /data rw master:2 - xfs /dev/x rw
";
        assert_eq!(kind_of(mounts, 0, 33).as_deref(), Some("xfs"));
        assert_eq!(kind_of(mounts, 254, 1).as_deref(), Some("ext4"));
        assert_eq!(kind_of(mounts, 8, 1), None);
    }

    #[test]
    fn a_store_that_is_not_there_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b");
        let place = place(&root).unwrap();
        assert_eq!(place.parent(), Some(directory.path()));
        std::fs::remove_dir(place).unwrap();
        let checks = store(&root);
        assert!(checks[0].found.contains("not made yet"), "{checks:?}");
        assert!(!root.exists());
    }
}
