//! The seccomp filter: which system calls a command may make.
//!
//! The same calls are let through as by the common container engines' default profiles. The rest is
//! answered, never killed for: `EPERM` for calls that are refused, `ENOSYS` for calls that are newer
//! than the table, and for `clone3`, whose flags a filter can't see, so that libraries fall back to
//! `clone`. Calls of the machine's 32-bit architectures are filtered alike.

mod bpf;
mod profile;
mod table;

use std::borrow::Cow;
use std::sync::OnceLock;

use rustix::thread::CapabilitySet;

pub use self::profile::{Profile, ProfileError};

use self::bpf::{Action, Architecture, assemble};
use self::table::{NONE, TABLE};
use super::capability::Capabilities;
use crate::sys::BpfInstruction;

const REFUSED: Action = Action::Errno(1);
const UNKNOWN: Action = Action::Errno(38);

/// Flags of `clone` that make namespaces.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// `personality`: to ask, Linux, with and without address randomisation, 32-bit.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// `AF_VSOCK`: sockets to the hypervisor, which no namespace separates.
const VSOCK: u32 = 40;

/// What is done with a call.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Allow,
    Refuse,
    /// Allowed with this capability.
    With(Capability),
    /// Allowed with this capability, or with `CAP_SYS_ADMIN`, which it was once a part of.
    WithAdminOr(Capability),
    /// Allowed for a few values.
    Personality,
    /// Without `CAP_SYS_ADMIN`, only without namespaces.
    Clone,
    /// Without `CAP_SYS_ADMIN`, unknown.
    Clone3,
    /// All families but one.
    Socket,
}

/// Capabilities that calls depend on.
#[derive(Debug, Clone, Copy)]
enum Capability {
    Bpf,
    DacReadSearch,
    Perfmon,
    SysAdmin,
    SysBoot,
    SysChroot,
    SysModule,
    SysNice,
    SysPacct,
    SysPtrace,
    SysRawio,
    SysTime,
    SysTtyConfig,
    Syslog,
}

impl Capability {
    fn bit(self) -> CapabilitySet {
        match self {
            Self::Bpf => CapabilitySet::BPF,
            Self::Perfmon => CapabilitySet::PERFMON,
            Self::Syslog => CapabilitySet::SYSLOG,
            Self::DacReadSearch => CapabilitySet::DAC_READ_SEARCH,
            Self::SysAdmin => CapabilitySet::SYS_ADMIN,
            Self::SysBoot => CapabilitySet::SYS_BOOT,
            Self::SysChroot => CapabilitySet::SYS_CHROOT,
            Self::SysModule => CapabilitySet::SYS_MODULE,
            Self::SysNice => CapabilitySet::SYS_NICE,
            Self::SysPacct => CapabilitySet::SYS_PACCT,
            Self::SysPtrace => CapabilitySet::SYS_PTRACE,
            Self::SysRawio => CapabilitySet::SYS_RAWIO,
            Self::SysTime => CapabilitySet::SYS_TIME,
            Self::SysTtyConfig => CapabilitySet::SYS_TTY_CONFIG,
        }
    }
}

impl Rule {
    fn action(self, capabilities: CapabilitySet) -> Action {
        let admin = capabilities.contains(CapabilitySet::SYS_ADMIN);
        match self {
            Self::Allow => Action::Allow,
            Self::Refuse => REFUSED,
            Self::With(capability) if capabilities.contains(capability.bit()) => Action::Allow,
            Self::WithAdminOr(capability) if admin || capabilities.contains(capability.bit()) => {
                Action::Allow
            }
            Self::With(_) | Self::WithAdminOr(_) => REFUSED,
            Self::Clone | Self::Clone3 if admin => Action::Allow,
            Self::Clone => Action::FirstHasNone(CLONE_NAMESPACES),
            Self::Clone3 => UNKNOWN,
            Self::Personality => Action::FirstIsOneOf(PERSONALITIES),
            Self::Socket => Action::FirstIsNot(VSOCK),
        }
    }
}

/// An architecture as the kernel's audit numbers name it, and the columns of the table whose calls
/// it makes, with what is added to their numbers.
type Columns = (u32, Vec<(usize, u32)>);

/// The machine's own architecture first.
fn architectures(machine: &str) -> &'static [(u32, &'static [(usize, u32)])] {
    match machine {
        "x86_64" => &[
            (0xc000_003e, &[(0, 0), (2, 0x4000_0000)]),
            (0x4000_0003, &[(1, 0)]),
        ],
        "aarch64" => &[(0xc000_00b7, &[(3, 0)]), (0x4000_0028, &[(4, 0)])],
        _ => &[],
    }
}

/// The filter for a command that has `capabilities`. Empty on a machine whose calls the table
/// doesn't hold.
pub(super) fn filter(capabilities: CapabilitySet) -> Cow<'static, [BpfInstruction]> {
    if capabilities == Capabilities::default().set()
        && let Some(usual) = USUAL.get()
    {
        return Cow::Borrowed(usual);
    }
    Cow::Owned(filter_for(std::env::consts::ARCH, capabilities))
}

/// The filter for a command with the usual capabilities.
static USUAL: OnceLock<Vec<BpfInstruction>> = OnceLock::new();

/// Makes the usual filter ahead, for this process and those that it forks.
pub(super) fn prepare() {
    USUAL.get_or_init(|| filter_for(std::env::consts::ARCH, Capabilities::default().set()));
}

fn filter_for(machine: &str, capabilities: CapabilitySet) -> Vec<BpfInstruction> {
    let architectures = architectures(machine);
    if architectures.is_empty() {
        return Vec::new();
    }
    let parts = architectures
        .iter()
        .map(|(audit, columns)| Architecture {
            audit: *audit,
            calls: columns
                .iter()
                .flat_map(|(column, offset)| {
                    TABLE.iter().filter(|row| row.2[*column] != NONE).map(
                        move |(_, rule, numbers)| {
                            (numbers[*column] + offset, rule.action(capabilities))
                        },
                    )
                })
                .collect(),
        })
        .collect();
    assemble(parts, &UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::bpf::interpret;
    use super::*;

    fn default() -> CapabilitySet {
        Capabilities::default().set()
    }

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;
    const AARCH64: u32 = 0xc000_00b7;
    const ARM: u32 = 0x4000_0028;
    const X32: u32 = 0x4000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;
    const ENOSYS: u32 = 0x0005_0026;

    /// The kernel takes 4096 instructions, and time for each of them before each command.
    #[test]
    fn the_programs_are_no_longer_than_they_have_to_be() {
        for machine in ["x86_64", "aarch64"] {
            let length = filter_for(machine, default()).len();
            assert!((100..400).contains(&length), "{machine}: {length}");
        }
        assert!(filter_for("pdp11", default()).is_empty());
    }

    #[test]
    fn calls_get_what_the_table_says_on_every_architecture() {
        let cases: &[(&str, u32, u32, u64, u32)] = &[
            ("read", X86_64, 0, 0, ALLOW),
            ("clone3", X86_64, 435, 0, ENOSYS),
            ("clone3", I386, 435, 0, ENOSYS),
            ("a call of the future", X86_64, 600, 0, ENOSYS),
            ("no call", X86_64, u32::MAX, 0, ENOSYS),
            ("mount", X86_64, 165, 0, EPERM),
            ("mount", I386, 21, 0, EPERM),
            ("mount", X86_64, X32 + 165, 0, EPERM),
            ("mount", AARCH64, 40, 0, EPERM),
            ("mount", ARM, 21, 0, EPERM),
            ("fsopen", X86_64, 430, 0, EPERM),
            ("keyctl", X86_64, 250, 0, EPERM),
            ("io_uring_setup", X86_64, 425, 0, EPERM),
            ("chroot", X86_64, 161, 0, ALLOW),
            ("ptrace", X86_64, 101, 0, ALLOW),
            ("ptrace", X86_64, X32 + 521, 0, ALLOW),
            ("an x32 number without its bit", X86_64, 521, 0, ENOSYS),
            ("execve", X86_64, X32 + 520, 0, ALLOW),
            ("execve", I386, 11, 0, ALLOW),
            ("execve", ARM, 11, 0, ALLOW),
            ("set_tls", ARM, 0x000f_0005, 0, ALLOW),
            ("open", AARCH64, 1024, 0, ENOSYS),
            ("clone, a thread", X86_64, 56, 0x003d_0f00, ALLOW),
            ("clone, a user namespace", X86_64, 56, 0x1000_0011, EPERM),
            ("clone, a mount namespace", I386, 120, 0x0002_0011, EPERM),
            ("clone, high bits", X86_64, 56, 0x7e02_0000_0000_0011, ALLOW),
            ("personality, ask", X86_64, 135, 0xffff_ffff, ALLOW),
            (
                "personality, no randomisation",
                X86_64,
                135,
                0x0004_0000,
                EPERM,
            ),
            ("personality, high bits", X86_64, 135, 0x1_0004_0000, EPERM),
            ("socket, inet", X86_64, 41, 2, ALLOW),
            ("socket, vsock", X86_64, 41, 40, EPERM),
            ("socket, vsock, high bits", X86_64, 41, 0x1_0000_0028, EPERM),
            ("socket, vsock", I386, 359, 40, EPERM),
        ];
        for (name, audit, number, first, expected) in cases {
            let machine = if [AARCH64, ARM].contains(audit) {
                "aarch64"
            } else {
                "x86_64"
            };
            let program = filter_for(machine, default());
            let found = interpret(&program, *audit, *number, *first);
            assert_eq!(found, *expected, "{name} on {audit:#x}: {found:#x}");
        }
    }

    #[test]
    fn capabilities_open_what_they_are_for() {
        let program = filter_for("x86_64", default() | CapabilitySet::SYS_ADMIN);
        assert_eq!(interpret(&program, X86_64, 165, 0), ALLOW, "mount");
        assert_eq!(interpret(&program, X86_64, 435, 0), ALLOW, "clone3");
        assert_eq!(interpret(&program, X86_64, 56, 0x1000_0011), ALLOW, "clone");
        assert_eq!(interpret(&program, X86_64, 175, 0), EPERM, "init_module");
        assert_eq!(interpret(&program, X86_64, 103, 0), ALLOW, "syslog");
        let program = filter_for("x86_64", default() | CapabilitySet::SYSLOG);
        assert_eq!(interpret(&program, X86_64, 103, 0), ALLOW, "syslog");
        assert_eq!(interpret(&program, X86_64, 321, 0), EPERM, "bpf");
    }

    #[test]
    fn the_table_has_no_number_twice() {
        for column in 0..5 {
            let mut numbers: Vec<u32> = TABLE
                .iter()
                .map(|(_, _, numbers)| numbers[column])
                .filter(|number| *number != NONE)
                .collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "column {column}");
        }
        assert!(TABLE.is_sorted_by_key(|(name, _, _)| *name));
    }
}
