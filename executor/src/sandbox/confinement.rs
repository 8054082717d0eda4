//! What is asked for beside the default walls: other capabilities, another filter, labels of the
//! kernel's security modules, other masks.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::capability::{self, Capabilities};
use super::protocol::{Failure, Stage};
use super::seccomp::{self, Profile};
use crate::sys::{self, BpfInstruction};

/// How a command is confined. The default is what container users expect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// Capabilities that it may have.
    pub capabilities: Capabilities,
    /// Set-id bits and file capabilities mean nothing to it.
    pub no_new_privileges: bool,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// The `AppArmor` profile that it changes to.
    pub apparmor: Option<String>,
    /// The `SELinux` label that it gets.
    pub label: Label,
    /// Absolute paths that are hidden besides the usual ones, if they are there.
    pub masks: Vec<PathBuf>,
    /// Usual masks and read-only paths that are left out.
    pub unmasked: Unmasked,
}

/// See [`Confinement::seccomp`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Seccomp {
    /// The usual one, which knows of the capabilities.
    #[default]
    Usual,
    /// None.
    Unconfined,
    /// The user's own.
    Profile(Box<Profile>),
}

/// Parts of an `SELinux` label; those that are not given are those of strata itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Label {
    /// User.
    pub user: Option<String>,
    /// Role.
    pub role: Option<String>,
    /// Type.
    pub kind: Option<String>,
    /// Level, such as `s0:c1,c2`.
    pub level: Option<String>,
}

/// See [`Confinement::unmasked`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unmasked {
    /// These paths, such as `/proc/kcore`.
    Paths(Vec<PathBuf>),
    /// All, those with `masks` too.
    All,
}

impl Default for Unmasked {
    fn default() -> Self {
        Self::Paths(Vec::new())
    }
}

impl Unmasked {
    /// Whether the usual mask at `path` is left out.
    pub(super) fn has(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths.iter().any(|it| it == Path::new(path)),
        }
    }
}

impl Confinement {
    /// What is not as usual, each in a form that is the same for the same: for keys and for people.
    pub fn words(&self) -> Vec<String> {
        let usual = Self::default();
        let mut words = Vec::new();
        if self.capabilities != usual.capabilities {
            words.push(format!("capabilities {}", self.capabilities));
        }
        if self.no_new_privileges {
            words.push("no-new-privileges".to_owned());
        }
        match &self.seccomp {
            Seccomp::Usual => {}
            Seccomp::Unconfined => words.push("seccomp unconfined".to_owned()),
            Seccomp::Profile(profile) => words.push(format!("seccomp {}", profile.digest())),
        }
        if let Some(profile) = &self.apparmor {
            words.push(format!("apparmor {profile}"));
        }
        let Label {
            user,
            role,
            kind,
            level,
        } = &self.label;
        for (name, part) in [
            ("user", user),
            ("role", role),
            ("type", kind),
            ("level", level),
        ] {
            words.extend(part.iter().map(|part| format!("label {name} {part}")));
        }
        words.extend(
            self.masks
                .iter()
                .map(|path| format!("mask {}", path.display())),
        );
        match &self.unmasked {
            Unmasked::All => words.push("unmask all".to_owned()),
            Unmasked::Paths(paths) => {
                words.extend(
                    paths
                        .iter()
                        .map(|path| format!("unmask {}", path.display())),
                );
            }
        }
        words
    }

    /// The filter, if there is to be one.
    pub(super) fn filter(&self) -> Result<Option<Cow<'static, [BpfInstruction]>>, Failure> {
        let filter = match &self.seccomp {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::Usual => seccomp::filter(self.capabilities.set()),
            Seccomp::Profile(profile) => profile
                .compile(self.capabilities)
                .map(Cow::Owned)
                .map_err(|error| Failure::new("make the seccomp filter", error.to_string()))?,
        };
        if filter.is_empty() {
            return Err(Failure::new(
                "make the seccomp filter",
                "the system calls of this kind of machine are not known; only \
                 `--security=insecure` and `--security-opt seccomp=unconfined` work here",
            ));
        }
        Ok(Some(filter))
    }

    /// Narrows what this process hands on to its command.
    pub(super) fn narrow(&self) -> Result<(), Failure> {
        if let Some(missing) =
            capability::missing(self.capabilities).during("look at the capabilities")?
        {
            return Err(Failure::new(
                format!("give the capabilities {missing}"),
                "strata itself may not have them here",
            ));
        }
        capability::drop_bounding(self.capabilities).during("drop capabilities")
    }

    /// Asks for the labels that the command is to have from its start on.
    pub(super) fn label(&self) -> Result<(), Failure> {
        if let Some(profile) = &self.apparmor {
            apparmor(profile)?;
        }
        if self.label != Label::default() {
            selinux(&self.label)?;
        }
        Ok(())
    }

    /// The last thing before the filter.
    pub(super) fn lock(&self) -> Result<(), Failure> {
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).during("set no_new_privs")?;
        }
        Ok(())
    }
}

/// Changes to a profile at the next exec.
fn apparmor(profile: &str) -> Result<(), Failure> {
    let enabled = fs::read("/sys/module/apparmor/parameters/enabled");
    if !enabled.is_ok_and(|text| text.starts_with(b"Y")) {
        return Err(Failure::new(
            format!("change to the AppArmor profile `{profile}`"),
            "this host's kernel has no AppArmor, or it is switched off",
        ));
    }
    // The first is there since Linux 5.8; the second is shared by all modules.
    let order = format!("exec {profile}");
    let written = write_attribute("apparmor/exec", &order).or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            write_attribute("exec", &order)
        } else {
            Err(error)
        }
    });
    written.map_err(|error| {
        let detail = if error.kind() == io::ErrorKind::NotFound {
            "no such profile is loaded: see `aa-status`"
        } else {
            ""
        };
        Failure {
            stage: format!("change to the AppArmor profile `{profile}`"),
            errno: error.raw_os_error(),
            detail: detail.to_owned(),
        }
    })
}

fn selinux(label: &Label) -> Result<(), Failure> {
    // What the file system of SELinux would tell is out of sight in a container.
    let own = fs::read("/proc/self/attr/current").unwrap_or_default();
    let own = String::from_utf8_lossy(&own);
    let Some(whole) = label.over(own.trim_end_matches(['\0', '\n'])) else {
        return Err(Failure::new(
            "set an SELinux label",
            "this host's kernel has no SELinux, or it is switched off",
        ));
    };
    write_attribute("exec", &whole).stage(|| format!("set the SELinux label `{whole}`"))
}

impl Label {
    /// The whole label, with the rest as in `own`; none if that is no label of `SELinux`.
    fn over(&self, own: &str) -> Option<String> {
        let mut parts = own.splitn(4, ':');
        let (user, role, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let level = self.level.as_deref().or(parts.next());
        let part =
            |given: &Option<String>, own: &str| given.clone().unwrap_or_else(|| own.to_owned());
        let mut whole = [
            part(&self.user, user),
            part(&self.role, role),
            part(&self.kind, kind),
        ]
        .join(":");
        if let Some(level) = level {
            whole.push(':');
            whole.push_str(level);
        }
        Some(whole)
    }
}

fn write_attribute(name: &str, text: &str) -> io::Result<()> {
    // One write: the kernel takes each as an order of its own.
    let path = Path::new("/proc/self/attr").join(OsStr::from_bytes(name.as_bytes()));
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let length = rustix::io::write(&file, text.as_bytes())?;
    if length == text.len() {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::WriteZero))
    }
}

/// Installs the filter.
pub(super) fn install(filter: &[BpfInstruction]) -> Result<(), Failure> {
    sys::seccomp_install(filter).during("install the seccomp filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_takes_what_is_not_given_from_strata_itself() {
        let label = Label {
            kind: Some("container_t".into()),
            level: Some("s0:c1,c2".into()),
            ..Label::default()
        };
        let own = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023";
        assert_eq!(
            label.over(own).unwrap(),
            "unconfined_u:unconfined_r:container_t:s0:c1,c2"
        );
        let user = Label {
            user: Some("system_u".into()),
            ..Label::default()
        };
        assert_eq!(
            user.over(own).unwrap(),
            "system_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"
        );
        // Without levels, without SELinux.
        assert_eq!(user.over("a:b:c").unwrap(), "system_u:b:c");
        assert_eq!(user.over("unconfined"), None);
        assert_eq!(user.over(""), None);
    }

    #[test]
    fn words_tell_what_is_not_as_usual() {
        assert!(Confinement::default().words().is_empty());
        let other = Confinement {
            capabilities: Capabilities::with(&["KILL".into()], &["ALL".into()]).unwrap(),
            no_new_privileges: true,
            seccomp: Seccomp::Unconfined,
            masks: vec!["/a".into()],
            unmasked: Unmasked::All,
            ..Confinement::default()
        };
        assert_eq!(
            other.words(),
            [
                "capabilities KILL",
                "no-new-privileges",
                "seccomp unconfined",
                "mask /a",
                "unmask all"
            ]
        );
    }

    #[test]
    fn paths_are_unmasked_one_by_one_or_all() {
        assert!(!Unmasked::default().has("/proc/kcore"));
        assert!(Unmasked::All.has("/proc/kcore"));
        let some = Unmasked::Paths(vec!["/proc/kcore".into()]);
        assert!(some.has("/proc/kcore") && !some.has("/proc/keys"));
    }
}
