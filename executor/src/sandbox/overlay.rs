//! Mounting a stack of layers.
//!
//! Layers are named to the kernel as descriptors, so that neither the length of a path nor a `:`
//! or `,` in it matters, and no host path can be read from the sandbox's own mount table. Since
//! Linux 6.7 the layers are given one by one; before that all must fit into one page, which short
//! names relative to `/proc/self/fd` make enough for the 500 layers that overlayfs itself allows.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags};

use super::mount::{PLAIN, attach, mount_new, proc_path};
use super::protocol::{Failure, Stage, quoted};

/// An overlay to mount; the fields are those of [`strata_cache::RootfsPlan::Overlay`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Overlay<'a> {
    pub lowers: &'a [PathBuf],
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

/// An overlay in place.
#[derive(Debug)]
pub(super) struct Mounted {
    /// The root of its tree.
    pub root: OwnedFd,
    /// The empty tmpfs below it, if it needed one.
    base: Option<OwnedFd>,
}

impl Mounted {
    /// Takes it away, once nothing uses it.
    pub(super) fn detach(&self) -> io::Result<()> {
        // What is mounted on the tmpfs goes with it.
        super::mount::detach(self.base.as_ref().unwrap_or(&self.root).as_fd())
    }
}

/// Mounts `overlay` on top of the directory `target`.
pub(super) fn mount_overlay(overlay: Overlay<'_>, target: &OwnedFd) -> Result<Mounted, Failure> {
    let stage = || match overlay.upper {
        Some(upper) => format!("mount overlay for {}", quoted(upper)),
        None => "mount overlay".to_owned(),
    };
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
    if overlay.lowers.is_empty() {
        return Err(Failure::new(stage(), "no lower directory"));
    }
    // Without an upper directory overlayfs insists on two lower ones. The one there is may be what
    // is about to be covered, so it is opened before.
    let (first, base) = match (overlay.lowers, &upper) {
        ([only], None) => (
            Some(open_directory(only)?),
            Some(mount_new(
                "tmpfs",
                &[],
                PLAIN,
                target,
                "the place of an overlay",
            )?),
        ),
        _ => (None, None),
    };
    let layers = Layers {
        lowers: if first.is_some() { &[] } else { overlay.lowers },
        open: [first.as_ref(), base.as_ref()]
            .into_iter()
            .flatten()
            .collect(),
        upper,
        work,
        userxattr: overlay.userxattr,
    };
    let mounted = layers.mount(target, stage);
    mounted.map(|root| Mounted { root, base })
}

/// What went wrong.
enum Trouble {
    /// A layer could not be opened.
    Layer(Failure),
    /// The mount was refused, and what the kernel had to say.
    Mount(io::Error, String),
}

impl<E: Into<io::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Mount(error.into(), String::new())
    }
}

struct Layers<'a> {
    lowers: &'a [PathBuf],
    /// Open already; below the others.
    open: Vec<&'a OwnedFd>,
    upper: Option<OwnedFd>,
    work: Option<OwnedFd>,
    userxattr: bool,
}

impl Layers<'_> {
    fn mount(&self, target: &OwnedFd, stage: impl Fn() -> String) -> Result<OwnedFd, Failure> {
        // An older kernel would refuse, and complain in its log at each step of each build.
        let first = if takes_layers_one_by_one() {
            self.mount_one_by_one()
        } else {
            Err(io::Error::from_raw_os_error(libc::EINVAL).into())
        };
        let (first, words) = match first {
            Ok(mount) => {
                attach(&mount, target).stage(&stage)?;
                return Ok(mount);
            }
            Err(Trouble::Layer(failure)) => return Err(failure),
            Err(Trouble::Mount(error, words)) => (error, words),
        };
        match self.mount_at_once(target) {
            Ok(mount) => Ok(mount),
            Err(Trouble::Layer(failure)) => Err(failure),
            Err(Trouble::Mount(second, _)) => {
                let cause = if words.is_empty() { second } else { first };
                let mut failure = Err::<(), _>(cause)
                    .stage(&stage)
                    .expect_err("made from an error");
                failure.detail = words;
                Err(failure)
            }
        }
    }

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

    /// With the mount API: any number of layers, one open at a time.
    fn mount_one_by_one(&self) -> Result<OwnedFd, Trouble> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        self.configure(&context).map_err(|trouble| match trouble {
            Trouble::Mount(error, _) => Trouble::Mount(error, kernel_words(&context)),
            trouble @ Trouble::Layer(_) => trouble,
        })
    }

    fn configure(&self, context: &OwnedFd) -> Result<OwnedFd, Trouble> {
        use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};
        for lower in self.lowers {
            let lower = open_directory(lower).map_err(Trouble::Layer)?;
            fsconfig_set_string(context, "lowerdir+", proc_path(lower.as_fd()))?;
        }
        for lower in &self.open {
            fsconfig_set_string(context, "lowerdir+", proc_path(lower.as_fd()))?;
        }
        if let Some(upper) = &self.upper {
            fsconfig_set_string(context, "upperdir", proc_path(upper.as_fd()))?;
            if let Some(work) = &self.work {
                fsconfig_set_string(context, "workdir", proc_path(work.as_fd()))?;
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
    fn mount_at_once(&self, target: &OwnedFd) -> Result<OwnedFd, Trouble> {
        let name = |descriptor: &OwnedFd| descriptor.as_raw_fd().to_string();
        let lowers = self
            .lowers
            .iter()
            .map(|path| open_directory(path).map_err(Trouble::Layer))
            .collect::<Result<Vec<_>, _>>()?;
        let names: Vec<String> = lowers
            .iter()
            .chain(self.open.iter().copied())
            .map(name)
            .collect();
        let mut options = format!("lowerdir={}", names.join(":"));
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
            let text = format!("{} layers are too many for this kernel", self.lowers.len());
            return Err(io::Error::other(text).into());
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
        Ok(mounted?)
    }
}

/// Whether this kernel's overlayfs knows `lowerdir+`.
fn takes_layers_one_by_one() -> bool {
    let kernel = rustix::system::uname();
    // Whatever has no such number is no kernel from before it.
    release(&kernel.release().to_string_lossy()).is_none_or(|release| release >= (6, 7))
}

/// The first two numbers of a kernel's release, such as `6.1.0-13-amd64`.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(release("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(release("6.12-rc3"), Some((6, 12)));
        assert!(release("6.12.1") > release("6.7.0"));
        assert_eq!(release("custom"), None);
    }
}
