//! Mounts by descriptor, with the mount API of Linux 5.2 and `mount_setattr` of 5.12.
//!
//! Nothing here names a mount point by a path that an image could have a say in: a mount is made
//! detached and then moved onto a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::protocol::{Failure, Stage};
use crate::sys;

/// Attributes of a mount that holds no programs and no devices.
pub(super) const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Attributes of a mount of a device node.
pub(super) const OF_DEVICES: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A new file system of type `kind`, not yet attached anywhere.
pub(crate) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *name)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *name, *value)?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// A new file system, attached at `target`.
pub(super) fn mount_new(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
    target: impl AsFd,
    place: &str,
) -> Result<OwnedFd, Failure> {
    let mount =
        new_filesystem(kind, options, attributes).stage(|| format!("mount {kind} on `{place}`"))?;
    attach(&mount, target).stage(|| format!("mount {kind} on `{place}`"))?;
    Ok(mount)
}

/// Attaches a detached mount on top of what `target` is.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    Ok(rustix::mount::move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )?)
}

/// A detached copy of the mount of what `tree` is: what a bind mount is made of.
pub(super) fn clone_tree(tree: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(tree, "", flags)?)
}

/// The same for a path of the host.
pub(super) fn clone_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// Sets attributes of a mount, and of those below it if `recursive`.
pub(super) fn set_attributes(
    mount: impl AsFd,
    recursive: bool,
    attributes: MountAttrFlags,
) -> io::Result<()> {
    sys::mount_setattr(mount.as_fd(), recursive, u64::from(attributes.bits()), 0)
}

/// Sets how events of a mount travel, and of those below it if `recursive`.
pub(super) fn set_propagation(
    mount: impl AsFd,
    recursive: bool,
    propagation: MountPropagationFlags,
) -> io::Result<()> {
    sys::mount_propagation(mount.as_fd(), recursive, u64::from(propagation.bits()))
}

/// Takes the mount that `mount` is the root of away, with those below it, once nothing uses it.
pub(super) fn detach(mount: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::mount::unmount(
        proc_path(mount),
        UnmountFlags::DETACH,
    )?)
}

/// The path by which this process can name a descriptor.
pub(super) fn proc_path(descriptor: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", descriptor.as_raw_fd())
}
