//! The capabilities that a command keeps.

use std::fmt;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

/// Names in the order of their numbers, as `capabilities(7)` has them, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities. The default is what container users expect root to have: the default set
/// of the common engines.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(u64);

/// Why a set of capabilities can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// There is none of this name.
    #[error("`{name}` is no capability: expected ALL or a name such as SYS_PTRACE")]
    Unknown {
        /// The name.
        name: String,
    },
    /// Asked for and forbidden.
    #[error("`{name}` is both added and dropped")]
    Contradiction {
        /// The name.
        name: String,
    },
}

impl Default for Capabilities {
    fn default() -> Self {
        Self(
            CapabilitySet::CHOWN
                .union(CapabilitySet::DAC_OVERRIDE)
                .union(CapabilitySet::FSETID)
                .union(CapabilitySet::FOWNER)
                .union(CapabilitySet::MKNOD)
                .union(CapabilitySet::NET_RAW)
                .union(CapabilitySet::SETGID)
                .union(CapabilitySet::SETUID)
                .union(CapabilitySet::SETFCAP)
                .union(CapabilitySet::SETPCAP)
                .union(CapabilitySet::NET_BIND_SERVICE)
                .union(CapabilitySet::SYS_CHROOT)
                .union(CapabilitySet::KILL)
                .union(CapabilitySet::AUDIT_WRITE)
                .bits(),
        )
    }
}

impl Capabilities {
    /// The default set with these added and those taken out. Names are as docker's: in any case, with
    /// or without `CAP_`, and `ALL`. What is named itself wins over `ALL`.
    ///
    /// # Errors
    /// An unknown name, or one in both lists.
    pub fn with(add: &[String], drop: &[String]) -> Result<Self, CapabilityError> {
        let (add_all, added) = read(add)?;
        let (drop_all, dropped) = read(drop)?;
        let both = Self(added & dropped);
        if both.0 != 0 || (add_all && drop_all) {
            let name = if both.0 == 0 {
                "ALL".to_owned()
            } else {
                both.to_string()
            };
            return Err(CapabilityError::Contradiction { name });
        }
        let start = match (add_all, drop_all) {
            (true, _) => (1 << NAMES.len()) - 1,
            (_, true) => 0,
            _ => Self::default().0,
        };
        Ok(Self((start | added) & !dropped))
    }

    /// As the kernel has it.
    pub(super) fn set(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }

    /// Whether the one of this name, in capitals and without `CAP_`, is in it.
    pub(super) fn has(self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0 & (1 << number) != 0)
    }

    /// This set without those of another, in the kernel's form.
    pub(super) fn but(self, others: CapabilitySet) -> Self {
        Self(self.0 & !others.bits())
    }

    /// Those of this set that are not in the other.
    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Capabilities {
    /// Names, separated by blanks.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (number, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << number) != 0 {
                formatter.write_str(if first { "" } else { " " })?;
                formatter.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Capabilities({self})")
    }
}

/// The number of a name in capitals, with or without `CAP_`.
fn number(name: &str) -> Option<usize> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    NAMES.iter().position(|known| *known == name)
}

/// Whether all are named, and those that are named themselves.
fn read(names: &[String]) -> Result<(bool, u64), CapabilityError> {
    let (mut all, mut set) = (false, 0);
    for name in names {
        let upper = name.to_ascii_uppercase();
        if upper == "ALL" {
            all = true;
        } else if let Some(number) = number(&upper) {
            set |= 1 << number;
        } else {
            return Err(CapabilityError::Unknown { name: name.clone() });
        }
    }
    Ok((all, set))
}

/// Those that this thread could hand on: what it is asked for besides can't be given.
pub(super) fn missing(wanted: Capabilities) -> io::Result<Option<Capabilities>> {
    let mut bounding = 0;
    for number in 0..NAMES.len() {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(bit) {
            Ok(true) => bounding |= bit.bits(),
            Ok(false) => {}
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let missing = wanted
        .without(Capabilities(bounding))
        // What everybody gets is narrowed in silence: an engine in a container with few rights has
        // always done so.
        .without(Capabilities::default());
    Ok((missing.0 != 0).then_some(missing))
}

/// Takes all but `kept` out of the bounding set, so that no program gains more by being started,
/// and empties the ambient set.
///
/// This thread's own permitted set is left alone: with the bounding set as it is, the exec narrows
/// it for uid 0 and empties it for others.
pub(super) fn drop_bounding(kept: Capabilities) -> io::Result<()> {
    for number in 0..64_u32 {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        if kept.set().contains(bit) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(bit) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient()
}

fn clear_ambient() -> io::Result<()> {
    match rustix::thread::clear_ambient_capability_set() {
        // Kernels before 4.3 have none.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Empties the inheritable set: through it, files with inheritable capabilities would give more.
pub(super) fn clear_inheritable() -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    Ok(rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            inheritable: CapabilitySet::empty(),
            ..now
        },
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(add: &[&str], drop: &[&str]) -> Result<String, String> {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        Capabilities::with(&list(add), &list(drop))
            .map(|set| set.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn sets_are_put_together_as_docker_does() {
        let default = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP \
                       NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP";
        assert_eq!(with(&[], &[]).unwrap(), default);
        assert_eq!(
            with(&["sys_ptrace", "CAP_chown"], &["cap_mknod"]).unwrap(),
            default.replace("SYS_CHROOT MKNOD", "SYS_CHROOT SYS_PTRACE")
        );
        assert_eq!(with(&["KILL", "BPF"], &["all"]).unwrap(), "KILL BPF");
        assert_eq!(with(&[], &["ALL"]).unwrap(), "");
        let all = with(&["ALL"], &["SYS_ADMIN"]).unwrap();
        assert_eq!(all.split(' ').count(), NAMES.len() - 1);
        assert!(all.ends_with("CHECKPOINT_RESTORE") && !all.contains("SYS_ADMIN"));
    }

    #[test]
    fn names_that_mean_nothing_are_told() {
        assert!(
            with(&["SYS_EVERYTHING"], &[])
                .unwrap_err()
                .contains("`SYS_EVERYTHING`")
        );
        assert!(with(&["CAP_"], &[]).is_err() && with(&[""], &[]).is_err());
        assert!(
            with(&["KILL"], &["cap_kill"])
                .unwrap_err()
                .contains("`KILL`")
        );
        assert!(with(&["ALL"], &["ALL"]).unwrap_err().contains("`ALL`"));
    }
}
