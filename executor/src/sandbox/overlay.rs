//! Mounting a stack of layers.
//!
//! Layers are named to the kernel as descriptors, so that neither the length of a path nor a `:`
//! or `,` in it matters, and no host path can be read from the sandbox's own mount table. Since
//! Linux 6.7 the layers are given one by one; before that all must fit into one page, which short
//! names relative to `/proc/self/fd` make enough for the 500 layers that overlayfs itself allows.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use super::mount::{attach, proc_path};
use super::protocol::{Failure, Stage, quoted};

/// An overlay to mount; the fields are those of [`strata_cache::RootfsPlan::Overlay`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Overlay<'a> {
    pub lowers: &'a [std::path::PathBuf],
    pub upper: Option<&'a Path>,
    pub work: Option<&'a Path>,
    pub userxattr: bool,
}

/// Opens a directory of the host to name it by its descriptor.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .stage(|| format!("open layer {}", quoted(path)))
}

/// Mounts `overlay` on top of the directory `target`; gives the root of the mount.
pub(super) fn mount_overlay(overlay: Overlay<'_>, target: &OwnedFd) -> Result<OwnedFd, Failure> {
    let stage = || match overlay.upper {
        Some(upper) => format!("mount overlay for {}", quoted(upper)),
        None => "mount overlay".to_owned(),
    };
    let lowers = overlay
        .lowers
        .iter()
        .map(|path| open_directory(path))
        .collect::<Result<Vec<_>, _>>()?;
    let upper = overlay.upper.map(open_directory).transpose()?;
    let work = overlay.work.map(open_directory).transpose()?;
    if let Some(work) = &work {
        // The mark that a volatile mount leaves keeps a second one from using the same directory,
        // in case something was lost in between; here nothing is kept that was not committed.
        let mark = "work/incompat/volatile";
        if rustix::fs::unlinkat(work, format!("{mark}/dirty"), AtFlags::empty()).is_ok() {
            rustix::fs::unlinkat(work, mark, AtFlags::REMOVEDIR).ok();
        }
    }
    if lowers.is_empty() {
        return Err(Failure::new(stage(), "no lower directory"));
    }
    let layers = Layers {
        lowers,
        upper,
        work,
        userxattr: overlay.userxattr,
    };
    let (first, words) = match layers.mount_one_by_one() {
        Ok(mount) => {
            attach(&mount, target).stage(stage)?;
            return Ok(mount);
        }
        Err(failed) => failed,
    };
    // Kernels before 6.7 don't know `lowerdir+`: EINVAL, or EOPNOTSUPP without the mount API.
    match layers.mount_at_once(target) {
        Ok(mount) => Ok(mount),
        Err(second) => {
            let cause = if words.is_empty() { second } else { first };
            let mut failure = Err::<(), _>(cause)
                .stage(stage)
                .expect_err("made from an error");
            failure.detail = words;
            Err(failure)
        }
    }
}

struct Layers {
    lowers: Vec<OwnedFd>,
    upper: Option<OwnedFd>,
    work: Option<OwnedFd>,
    userxattr: bool,
}

impl Layers {
    /// What is asked of overlayfs besides the directories. A layer must hold nothing that only
    /// this kernel's overlayfs could read, and redirects in lower layers are not followed.
    fn switches(&self) -> &'static [(&'static str, &'static str)] {
        if self.userxattr {
            // Implies the rest, and refuses to be told.
            &[("userxattr", ""), ("index", "off"), ("xino", "off")]
        } else {
            &[
                ("redirect_dir", "nofollow"),
                ("metacopy", "off"),
                ("index", "off"),
                ("xino", "off"),
            ]
        }
    }

    /// With the mount API: any number of layers. On an error also what the kernel had to say.
    fn mount_one_by_one(&self) -> Result<OwnedFd, (io::Error, String)> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| (error.into(), String::new()))?;
        self.configure(&context)
            .map_err(|error| (error, kernel_words(&context)))
    }

    fn configure(&self, context: &OwnedFd) -> io::Result<OwnedFd> {
        use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
        for lower in &self.lowers {
            fsconfig_set_string(context, "lowerdir+", proc_path(lower))?;
        }
        if let Some(upper) = &self.upper {
            fsconfig_set_string(context, "upperdir", proc_path(upper))?;
            if let Some(work) = &self.work {
                fsconfig_set_string(context, "workdir", proc_path(work))?;
            }
            // No fsync inside the sandbox reaches the disk: the store syncs what it publishes.
            fsconfig_set_flag(context, "volatile")?;
        }
        for (name, value) in self.switches() {
            if value.is_empty() {
                fsconfig_set_flag(context, *name)?;
            } else {
                fsconfig_set_string(context, *name, *value)?;
            }
        }
        fsconfig_create(context)?;
        Ok(rustix::mount::fsmount(
            context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?)
    }

    /// With mount(2): all options in one page.
    fn mount_at_once(&self, target: &OwnedFd) -> io::Result<OwnedFd> {
        let name = |descriptor: &OwnedFd| descriptor.as_raw_fd().to_string();
        let lowers = self.lowers.iter().map(name).collect::<Vec<_>>().join(":");
        let mut options = format!("lowerdir={lowers}");
        if let (Some(upper), Some(work)) = (&self.upper, &self.work) {
            options += ",upperdir=";
            options += &name(upper);
            options += ",workdir=";
            options += &name(work);
        }
        for (name, value) in self.switches() {
            options += ",";
            options += name;
            if !value.is_empty() {
                options += "=";
                options += value;
            }
        }
        if options.len() > 4000 {
            return Err(io::Error::other(format!(
                "{} layers are too many for this kernel",
                self.lowers.len()
            )));
        }
        // The directory is this process's alone: the sandbox has one thread, and goes to its new
        // root afterwards.
        let before = rustix::fs::open(
            ".",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        rustix::process::chdir("/proc/self/fd")?;
        let place = name(target);
        let try_with = |options: String| -> io::Result<()> {
            let options = std::ffi::CString::new(options)?;
            Ok(rustix::mount::mount(
                "overlay",
                place.as_str(),
                "overlay",
                MountFlags::empty(),
                options.as_c_str(),
            )?)
        };
        let mut answer = Err(io::Error::from_raw_os_error(libc::EINVAL));
        if self.upper.is_some() {
            // Known since 5.10.
            answer = try_with(format!("{options},volatile"));
        }
        if answer.is_err() {
            answer = try_with(options);
        }
        // `target` is what lies below the mount; its path now leads to the mount's root.
        let mounted = answer.and_then(|()| {
            let path = rustix::fs::readlinkat(CWD, place.as_str(), Vec::new())?;
            Ok(rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?)
        });
        rustix::process::fchdir(&before)?;
        mounted
    }
}

/// What the kernel has written about a failed mount, in its own words.
fn kernel_words(context: &OwnedFd) -> String {
    let mut words = Vec::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        if length == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&buffer[..length]);
        let line = line.trim_end();
        // A line starts with its level: `e `, `w ` or `i `.
        words.push(line.get(2..).unwrap_or(line).to_owned());
    }
    words.join("; ")
}
