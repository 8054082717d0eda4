use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::{LayerId, Snapshotter, Store};

fn layer(store: &Store, stack: &[LayerId], fill: impl Fn(&Path)) -> LayerId {
    let lease = store.lease("test").unwrap();
    let scratch = store.scratch(stack).unwrap();
    fill(scratch.upper());
    scratch.commit(&lease, None, None).unwrap()
}

fn mkdir(path: &Path) {
    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn empty_mount_point_goes_with_the_parents_that_were_made_or_copied_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base = layer(&store, &[], |root| mkdir(&root.join("a")));
    let mut scratch = store.scratch(&[base]).unwrap();
    let upper = scratch.upper().to_owned();
    for path in ["a", "a/new", "a/new/mnt"] {
        mkdir(&upper.join(path));
    }
    scratch.forget_mount_point(Path::new("/a/new/mnt")).unwrap();
    assert_eq!(std::fs::read_dir(&upper).unwrap().count(), 0);
    // A file that was made to mount a file on.
    mkdir(&upper.join("a"));
    std::fs::write(upper.join("a/file"), "").unwrap();
    scratch.forget_mount_point(Path::new("a/file")).unwrap();
    assert_eq!(std::fs::read_dir(&upper).unwrap().count(), 0);
}

#[test]
fn what_the_step_made_or_changed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base = layer(&store, &[], |root| {
        mkdir(&root.join("a"));
        mkdir(&root.join("there"));
    });
    let mut scratch = store.scratch(&[base]).unwrap();
    let upper = scratch.upper().to_owned();
    // Something was written into the mount point itself.
    mkdir(&upper.join("full"));
    std::fs::write(upper.join("full/file"), "x").unwrap();
    scratch.forget_mount_point(Path::new("full")).unwrap();
    assert!(upper.join("full/file").exists());
    // The parent's mode was changed.
    mkdir(&upper.join("a"));
    std::fs::set_permissions(upper.join("a"), PermissionsExt::from_mode(0o700)).unwrap();
    mkdir(&upper.join("a/mnt"));
    scratch.forget_mount_point(Path::new("a/mnt")).unwrap();
    assert!(!upper.join("a/mnt").exists());
    assert!(upper.join("a").exists());
    // The mount point's own mode was changed, on one that the image has.
    mkdir(&upper.join("there"));
    std::fs::set_permissions(upper.join("there"), PermissionsExt::from_mode(0o711)).unwrap();
    scratch.forget_mount_point(Path::new("there")).unwrap();
    assert!(upper.join("there").exists());
    // An opaque directory hides what the image has: removing it would show that again.
    std::fs::remove_dir(upper.join("there")).unwrap();
    mkdir(&upper.join("there"));
    rustix::fs::lsetxattr(
        upper.join("there"),
        "user.overlay.opaque",
        b"y",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    scratch.forget_mount_point(Path::new("there")).unwrap();
    assert!(upper.join("there").exists());
    // A file with content, and paths that are none.
    std::fs::write(upper.join("file"), "x").unwrap();
    std::os::unix::fs::symlink("full", upper.join("link")).unwrap();
    for path in [
        "file",
        "link",
        "link/file",
        "../upper/file",
        "missing/deep",
        "",
    ] {
        scratch.forget_mount_point(Path::new(path)).unwrap();
    }
    assert!(upper.join("file").exists() && upper.join("link").symlink_metadata().is_ok());
}

#[test]
fn copied_tree_loses_its_mount_points_without_a_trace_in_the_layer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let base = layer(&store, &[], |root| {
        mkdir(&root.join("a"));
        std::fs::write(root.join("a/file"), "x").unwrap();
    });
    store.set_snapshotter(Snapshotter::Native);
    let mut scratch = store.scratch(&[base]).unwrap();
    let crate::RootfsPlan::Native { tree } = scratch.rootfs(None).unwrap() else {
        panic!("the native snapshotter was asked for");
    };
    assert_eq!(std::fs::read(tree.join("a/file")).unwrap(), b"x");
    for path in ["a/new", "a/new/mnt", "top"] {
        mkdir(&tree.join(path));
    }
    std::fs::write(tree.join("made"), "by the step").unwrap();
    scratch.forget_mount_point(Path::new("a/new/mnt")).unwrap();
    scratch.forget_mount_point(Path::new("top")).unwrap();
    let lease = store.lease("test").unwrap();
    let made = scratch.commit(&lease, None, None).unwrap();
    let names = collect::names(&store.layer_path(made)).unwrap();
    assert_eq!(names, ["made"]);
    let top = std::fs::metadata(store.layer_path(made)).unwrap();
    assert_eq!((top.mode() & 0o7777, top.uid()), (0o755, 0));
}

#[test]
fn native_rootfs_of_an_empty_stack_is_an_empty_tree() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.set_snapshotter(Snapshotter::Native);
    let mut scratch = store.scratch(&[]).unwrap();
    let crate::RootfsPlan::Native { tree } = scratch.rootfs(None).unwrap() else {
        panic!("the native snapshotter was asked for");
    };
    assert_eq!(std::fs::read_dir(&tree).unwrap().count(), 0);
    std::fs::write(tree.join("one"), "x").unwrap();
    std::fs::hard_link(tree.join("one"), tree.join("two")).unwrap();
    let lease = store.lease("test").unwrap();
    let made = scratch.commit(&lease, None, None).unwrap();
    assert_eq!(
        store.hard_links(made).unwrap().0,
        [[b"one".to_vec(), b"two".to_vec()]]
    );
}
