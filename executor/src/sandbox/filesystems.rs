//! The file systems that every sandbox has: /proc, /sys, /dev.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::RunSpec;
use super::mount::{OF_DEVICES, PLAIN, attach, clone_path, clone_tree, mount_new, set_attributes};
use super::protocol::{Failure, Stage};
use super::target::{Root, Want, is_directory};

/// Hidden behind /dev/null or an empty directory: they tell about, or change, the whole host.
const MASKED_IN_PROC: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// The same below /sys.
const MASKED_IN_SYS: &[&str] = &["devices/virtual/powercap", "firmware"];

/// Readable, as programs look into them, but not writable.
const READ_ONLY_IN_PROC: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Character devices.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Links below /dev.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts them all. Called by the sandbox's init, whose /proc is still the host's.
pub(super) fn mount_standard(root: &mut Root, spec: &RunSpec) -> Result<(), Failure> {
    let dev = mount_dev(root, spec)?;
    let proc = mount_proc(root)?;
    let sys = mount_sys(root, spec)?;
    if !spec.insecure {
        let mut masks = Masks {
            null: open_below(&dev, "null").during("open /dev/null")?,
            empty: None,
        };
        let unmasked = &spec.confinement.unmasked;
        for (filesystem, place, list) in [
            (&proc, "/proc", MASKED_IN_PROC),
            (&sys, "/sys", MASKED_IN_SYS),
        ] {
            for name in list {
                let path = format!("{place}/{name}");
                if !unmasked.has(&path) {
                    masks
                        .hide(filesystem, name)
                        .stage(|| format!("hide `{path}`"))?;
                }
            }
        }
        for name in READ_ONLY_IN_PROC {
            let path = format!("/proc/{name}");
            if !unmasked.has(&path) {
                protect(&proc, name).stage(|| format!("make `{path}` read-only"))?;
            }
        }
    }
    Ok(())
}

fn mount_proc(root: &mut Root) -> Result<OwnedFd, Failure> {
    let target = root.target(Path::new("/proc"), Want::Directory)?;
    mount_new("proc", &[], PLAIN, target, "/proc").map_err(|mut failure| {
        if failure.errno == Some(libc::EPERM) {
            failure.detail = "the kernel lets a user namespace mount /proc only where the outer \
                              /proc is not covered in part, as most containers have it: run \
                              the outer container with unmasked paths, or as root"
                .into();
        }
        failure
    })
}

fn mount_sys(root: &mut Root, spec: &RunSpec) -> Result<OwnedFd, Failure> {
    let target = root.target(Path::new("/sys"), Want::Directory)?;
    let mut attributes = PLAIN;
    if !spec.insecure && !spec.confinement.unmasked.has("/sys") {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    match super::mount::new_filesystem("sysfs", &[], attributes) {
        Ok(mount) => {
            attach(&mount, target).during("mount sysfs on `/sys`")?;
            Ok(mount)
        }
        // A user namespace that shares the host's network doesn't own what sysfs shows.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let stage = "bind the host's /sys";
            let mount = clone_path(Path::new("/sys"), true).during(stage)?;
            set_attributes(&mount, true, attributes).during(stage)?;
            attach(&mount, target).during(stage)?;
            Ok(mount)
        }
        Err(error) => Err(error).during("mount sysfs on `/sys`"),
    }
}

fn mount_dev(root: &mut Root, spec: &RunSpec) -> Result<OwnedFd, Failure> {
    let target = root.target(Path::new("/dev"), Want::Directory)?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !spec.insecure);
    let dev = mount_new(
        "tmpfs",
        &[("mode", "0755"), ("size", "65536k")],
        attributes,
        &target,
        "/dev",
    )?;
    for name in DEVICES {
        bind_device(&dev, name).stage(|| format!("make `/dev/{name}`"))?;
    }
    for (name, to) in LINKS {
        rustix::fs::symlinkat(*to, &dev, *name).stage(|| format!("make `/dev/{name}`"))?;
    }
    // For devpts, too: devices are what it is for.
    let pts = make_below(&dev, "pts")?;
    let options = [("mode", "0620"), ("ptmxmode", "0666"), ("gid", "5")];
    let devpts = super::mount::new_filesystem("devpts", &options, OF_DEVICES)
        // Group 5 (tty) may have no meaning in this user namespace.
        .or_else(|_| super::mount::new_filesystem("devpts", &options[..2], OF_DEVICES))
        .during("mount devpts on `/dev/pts`")?;
    attach(&devpts, pts).during("mount devpts on `/dev/pts`")?;
    let shm = make_below(&dev, "shm")?;
    let size = spec.shm_size.to_string();
    let options = [("mode", "1777"), ("size", size.as_str())];
    // A size of zero would mean no limit.
    mount_new(
        "tmpfs",
        &options[..=usize::from(spec.shm_size > 0)],
        PLAIN,
        shm,
        "/dev/shm",
    )?;
    let mqueue = make_below(&dev, "mqueue")?;
    mount_new("mqueue", &[], PLAIN, mqueue, "/dev/mqueue")?;
    Ok(dev)
}

/// Shows the host's device `name`. Not a node of its own: the file system it would be on must not
/// open devices, as the command's root may make nodes there.
fn bind_device(dev: &OwnedFd, name: &str) -> io::Result<()> {
    rustix::fs::openat(
        dev,
        name,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o666),
    )?;
    let mount = clone_path(Path::new(&format!("/dev/{name}")), false)?;
    set_attributes(&mount, false, OF_DEVICES)?;
    attach(mount, open_below(dev, name)?)
}

fn make_below(dev: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))
        .stage(|| format!("make `/dev/{name}`"))?;
    open_below(dev, name).stage(|| format!("open `/dev/{name}`"))
}

/// Opens a path of a file system that this process has just made: nothing in it is foreign.
fn open_below(directory: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        directory,
        path,
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?)
}

struct Masks {
    null: OwnedFd,
    empty: Option<OwnedFd>,
}

impl Masks {
    fn hide(&mut self, filesystem: &OwnedFd, path: &str) -> io::Result<()> {
        match open_below(filesystem, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => self.cover(answer?),
        }
    }

    fn cover(&mut self, target: OwnedFd) -> io::Result<()> {
        if !is_directory(&target)? {
            return attach(clone_tree(&self.null, false)?, target);
        }
        if let Some(empty) = &self.empty {
            return attach(clone_tree(empty, false)?, target);
        }
        let empty = super::mount::new_filesystem(
            "tmpfs",
            &[("size", "4k"), ("mode", "0755")],
            PLAIN | MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?;
        attach(&empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }
}

fn protect(filesystem: &OwnedFd, path: &str) -> io::Result<()> {
    let target = match open_below(filesystem, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        answer => answer?,
    };
    let mount = clone_tree(&target, true)?;
    set_attributes(&mount, true, PLAIN | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    attach(mount, target)
}

/// Hides the paths that were asked for besides the usual ones. Called when everything is in place.
pub(super) fn mask_requested(root: &Root, spec: &RunSpec) -> Result<(), Failure> {
    if spec.insecure || spec.confinement.masks.is_empty() {
        return Ok(());
    }
    let null = root
        .existing(Path::new("/dev/null"))
        .during("open /dev/null")?
        .ok_or_else(|| Failure::new("open /dev/null", "it is not there"))?;
    let mut masks = Masks { null, empty: None };
    for path in &spec.confinement.masks {
        let stage = || format!("hide `{}`", path.display());
        if let Some(target) = root.existing(path).stage(stage)? {
            masks.cover(target).stage(stage)?;
        }
    }
    Ok(())
}
