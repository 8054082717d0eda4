//! The mounts that a step asks for, and the files that every sandbox gets to see.
//!
//! They are made before anything covers the new root's /dev, which serves as the place where file
//! systems are attached that only a part of is wanted; they are moved into place afterwards.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::mount::{MountAttrFlags, MountPropagationFlags};
use strata_cache::RootfsPlan;

use super::files::PrivateFiles;
use super::mount::{
    OF_DEVICES, attach, clone_path, clone_tree, new_filesystem, set_attributes, set_propagation,
};
use super::network::{Link, hosts, resolv_conf};
use super::overlay::{Overlay, mount_overlay, open_directory};
use super::owner::give;
use super::protocol::{Failure, Stage, quoted};
use super::target::{Root, Want, is_directory, open_in};
use super::{Credentials, DeviceNode, Mount, MountKind, Propagation, RunSpec};

/// A mount that is made but not yet in place.
#[derive(Debug)]
struct Ready {
    mount: OwnedFd,
    target: PathBuf,
    want: Want,
}

/// Copies of the host's mounts that still hear from the host, by the mount's number.
///
/// They are made before the sandbox's mounts are cut off from the host's.
#[derive(Debug)]
pub(super) struct Listening(HashMap<usize, OwnedFd>);

impl Listening {
    /// Copies what mounts of `spec` want to hear from.
    pub(super) fn new(spec: &RunSpec) -> Result<Self, Failure> {
        let mut copies = HashMap::new();
        for (number, mount) in spec.mounts.iter().enumerate() {
            if let MountKind::Bind { source } = &mount.kind
                && mount.options.propagation == Some(Propagation::Slave)
            {
                let copy = || -> io::Result<OwnedFd> {
                    let tree = clone_path(source, !mount.options.no_recursion)?;
                    // At once, so that nothing of what is done to it shows on the host.
                    set_propagation(&tree, true, MountPropagationFlags::DOWNSTREAM)?;
                    Ok(tree)
                };
                let copy = copy().stage(|| format!("bind {}", quoted(source)))?;
                copies.insert(number, copy);
            }
        }
        Ok(Self(copies))
    }
}

/// All of them, in the order in which they are put into place.
#[derive(Debug)]
pub(super) struct Requested(Vec<Ready>);

impl Requested {
    /// Makes the mounts. `stage` is a directory of the new root that nothing is mounted on yet,
    /// `aside` one of the old root that nobody looks into any more.
    pub(super) fn prepare(
        spec: &RunSpec,
        link: &Link,
        stage: &OwnedFd,
        aside: Option<&OwnedFd>,
        mut listening: Listening,
    ) -> Result<Self, Failure> {
        let mut ready = Vec::with_capacity(spec.mounts.len() + 2);
        let files = PrivateFiles::new(aside, stage)?;
        for (path, content) in [
            ("/etc/hosts", hosts(spec, link)?.into_bytes()),
            ("/etc/resolv.conf", resolv_conf(spec, link)),
        ] {
            let name = path.trim_start_matches("/etc/");
            ready.push(Ready {
                mount: files.add(name, &content, 0o644, None, true)?,
                target: path.into(),
                want: Want::File,
            });
        }
        for (number, mount) in spec.mounts.iter().enumerate() {
            if let MountKind::Secret {
                content,
                mode,
                uid,
                gid,
            } = &mount.kind
            {
                let name = format!("secret-{number}");
                let owner = Some((*uid, *gid));
                ready.push(Ready {
                    mount: files.add(&name, &content.0, *mode, owner, mount.read_only)?,
                    target: mount.target.clone(),
                    want: Want::File,
                });
            }
        }
        // Nodes are made there, too.
        let mut devices = Vec::new();
        for (number, mount) in spec.mounts.iter().enumerate() {
            if let MountKind::Device { source, node } = &mount.kind {
                devices.push(device(
                    &files,
                    number,
                    &mount.target,
                    source.as_deref(),
                    *node,
                )?);
            }
        }
        files.close()?;
        let mut secrets = ready.split_off(2).into_iter();
        let mut devices = devices.into_iter();
        for (number, mount) in spec.mounts.iter().enumerate() {
            match &mount.kind {
                MountKind::Secret { .. } => ready.extend(secrets.next()),
                MountKind::Device { .. } => ready.extend(devices.next()),
                _ => {
                    let copy = listening.0.remove(&number);
                    ready.push(prepare(mount, stage, spec, copy)?);
                }
            }
        }
        Ok(Self(ready))
    }

    /// Puts them into place.
    pub(super) fn attach(self, root: &mut Root) -> Result<(), Failure> {
        for ready in self.0 {
            let target = root.target(&ready.target, ready.want)?;
            attach(ready.mount, target).stage(|| format!("mount on {}", quoted(&ready.target)))?;
        }
        Ok(())
    }
}

fn prepare(
    mount: &Mount,
    stage: &OwnedFd,
    spec: &RunSpec,
    listening: Option<OwnedFd>,
) -> Result<Ready, Failure> {
    let place = || format!("mount on {}", quoted(&mount.target));
    let options = mount.options;
    let tree = match &mount.kind {
        MountKind::Bind { source } => match listening {
            Some(copy) => copy,
            None => clone_path(source, !options.no_recursion)
                .stage(|| format!("bind {}", quoted(source)))?,
        },
        MountKind::Host {
            source, recursive, ..
        } => clone_path(source, *recursive).stage(|| format!("bind {}", quoted(source)))?,
        MountKind::Layers { plan, source } => layers(plan, source, stage)?,
        MountKind::Tmpfs { size, mode } => {
            let mode = format!("{:o}", mode & 0o7777);
            let size = size.map(|size| size.to_string());
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|size| ("size", size)));
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
            new_filesystem("tmpfs", &options, attributes).stage(place)?
        }
        MountKind::Secret { .. } | MountKind::Device { .. } => {
            return Err(Failure::new(place(), "it is a private file"));
        }
    };
    let mut attributes = MountAttrFlags::empty();
    if let MountKind::Host {
        no_programs,
        no_set_ids,
        ..
    } = mount.kind
    {
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, no_programs);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, no_set_ids);
    }
    if options.chown {
        // Before the mount may become read-only.
        let Credentials { uid, gid, .. } = spec.credentials;
        give(&tree, uid, gid)
            .stage(|| format!("give {} to the user {uid}:{gid}", quoted(&mount.target)))?;
    }
    if options.no_exec {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    if options.no_suid {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID;
    }
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.read_only);
    // As everywhere in a sandbox, device nodes open nothing.
    let devices = spec.insecure || options.devices;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !devices);
    if !attributes.is_empty() {
        set_attributes(&tree, true, attributes).stage(place)?;
    }
    match options.propagation {
        // Those that listen do so already; whatever else there is, is private already.
        None | Some(Propagation::Private | Propagation::Slave) => {}
        Some(Propagation::Shared { recursive }) => {
            // Among themselves: nothing outside is of their group.
            set_propagation(&tree, recursive, MountPropagationFlags::SHARED).stage(place)?;
        }
        Some(Propagation::Unbindable { recursive }) => {
            set_propagation(&tree, recursive, MountPropagationFlags::UNBINDABLE).stage(place)?;
        }
    }
    let want = if is_directory(&tree).stage(place)? {
        Want::Directory
    } else {
        Want::File
    };
    Ok(Ready {
        mount: tree,
        target: mount.target.clone(),
        want,
    })
}

/// A device node: made as it is described, or else the host's.
fn device(
    files: &PrivateFiles,
    number: usize,
    target: &Path,
    source: Option<&Path>,
    node: Option<DeviceNode>,
) -> Result<Ready, Failure> {
    let made = node.map(|node| files.add_node(&format!("device-{number}"), node));
    let mount = match (made, source) {
        (Some(Ok(mount)), _) => mount,
        (Some(Err(error)), Some(_)) if error.raw_os_error() != Some(libc::EPERM) => {
            return Err(error).stage(|| format!("make the device {}", quoted(target)));
        }
        (_, Some(source)) => {
            let bind = || -> io::Result<OwnedFd> {
                let mount = clone_path(source, false)?;
                set_attributes(&mount, false, OF_DEVICES)?;
                Ok(mount)
            };
            bind().stage(|| format!("show the device {}", quoted(source)))?
        }
        (Some(Err(error)), None) => {
            return Err(error).stage(|| {
                format!(
                    "make the device {}, which the host has no equal of",
                    quoted(target)
                )
            });
        }
        (None, None) => {
            let stage = format!("show the device {}", quoted(target));
            return Err(Failure::new(stage, "neither a path nor a number is known"));
        }
    };
    Ok(Ready {
        mount,
        target: target.to_owned(),
        want: Want::File,
    })
}

/// A part of a stack of layers, as a mount of its own.
fn layers(plan: &RootfsPlan, source: &Path, stage: &OwnedFd) -> Result<OwnedFd, Failure> {
    let find = |whole: &OwnedFd| {
        let part = open_in(whole, source, OFlags::empty())
            .stage(|| format!("find {} in the layers to mount", quoted(source)))?;
        clone_tree(part, false).stage(|| format!("bind {} of the layers to mount", quoted(source)))
    };
    match plan {
        RootfsPlan::Overlay {
            lowers,
            upper,
            work,
            userxattr,
        } => {
            let overlay = Overlay {
                lowers,
                upper: upper.as_deref(),
                work: work.as_deref(),
                userxattr: *userxattr,
            };
            let whole = mount_overlay(overlay, stage)?;
            let part = find(&whole.root)?;
            whole.detach().during("detach the layers to mount")?;
            Ok(part)
        }
        RootfsPlan::Native { tree } => find(&open_directory(tree)?),
    }
}
