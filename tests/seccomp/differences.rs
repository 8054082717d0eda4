//! What is known to differ, and why it is to stay so. Debian 12's docker.io is version 20.10, whose
//! profile is of 2021; later versions of the engines have changed theirs, and strata goes with them.

/// Calls that are answered otherwise than by docker.io.
#[derive(Debug)]
pub(super) struct Difference {
    /// `own`, `i386` or `x32`.
    architecture: &'static str,
    /// First and last numbers; for calls with one argument that counts, the second is that.
    calls: &'static [(u32, u32)],
    /// Whether the second of `calls` is an argument.
    argument: bool,
    /// Docker's answer.
    docker: &'static [i64],
    /// Whether strata lets the call through, whatever the kernel then says.
    allows: Verdict,
    /// Why.
    pub(super) why: &'static str,
}

/// What strata does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It goes to the kernel.
    Allowed,
    /// `EPERM`.
    Refused,
    /// `ENOSYS`.
    Unknown,
}

const EPERM: i64 = 1;
const ENOSYS: i64 = 38;

impl Difference {
    /// Whether it explains these answers.
    pub(super) fn is(&self, architecture: &str, call: &str, docker: i64, strata: i64) -> bool {
        let (number, argument) = match call.split_once(":0x") {
            Some((number, argument)) => (number, u32::from_str_radix(argument, 16).ok()),
            None => (call, None),
        };
        let Ok(number) = number.parse::<u32>() else {
            return false;
        };
        let named = self.calls.iter().any(|(first, last)| {
            if self.argument {
                *first == number && argument == Some(*last)
            } else {
                argument.is_none() && (*first..=*last).contains(&number)
            }
        });
        let verdict = match strata {
            EPERM => Verdict::Refused,
            ENOSYS => Verdict::Unknown,
            _ => Verdict::Allowed,
        };
        self.architecture == architecture
            && named
            && self.docker.contains(&docker)
            && self.allows == verdict
    }
}

const fn of(
    architecture: &'static str,
    calls: &'static [(u32, u32)],
    docker: &'static [i64],
    allows: Verdict,
    why: &'static str,
) -> Difference {
    Difference {
        architecture,
        calls,
        argument: false,
        docker,
        allows,
        why,
    }
}

const NO_CALL: &str = "no call has the number: libraries that probe for one expect ENOSYS";
const LATER: &str = "the call is newer than docker.io's libseccomp; later profiles allow it";
const IO_URING: &str = "io_uring: later profiles refuse it, as too many holes were found in it";
const POLICY: &str = "set_mempolicy_home_node: newer than docker.io; later profiles want SYS_NICE";
const KEYS: &str = "pkey_mprotect, pkey_alloc, pkey_free: later profiles allow them";
const HANDLE: &str =
    "name_to_handle_at: later profiles allow it, as open_by_handle_at is what matters";
const MEMORY: &str = "process_vm_readv, process_vm_writev: later profiles allow them with ptrace";
const SIGNALS: &str =
    "i386's old calls of signals: later profiles allow them, as old programs use them";

/// All of them.
pub(super) const DIFFERENCES: &[Difference] = &[
    of("own", &[(337, 423)], &[EPERM], Verdict::Unknown, NO_CALL),
    of(
        "i386",
        &[(222, 223), (251, 251), (285, 285), (387, 392), (415, 415)],
        &[EPERM],
        Verdict::Unknown,
        NO_CALL,
    ),
    // Where the kernel has no x32, as Debian's, that is the answer to what is let through, too.
    of(
        "x32",
        &[(0, 599)],
        &[EPERM],
        Verdict::Unknown,
        "x32: a number that x32 has not, or a call that docker.io refuses and later profiles allow",
    ),
    of("own", &[(425, 427)], &[14, 22], Verdict::Refused, IO_URING),
    of("i386", &[(425, 427)], &[14, 22], Verdict::Refused, IO_URING),
    of("x32", &[(425, 427)], &[ENOSYS], Verdict::Refused, IO_URING),
    of("own", &[(450, 450)], &[ENOSYS], Verdict::Refused, POLICY),
    of("i386", &[(450, 450)], &[ENOSYS], Verdict::Refused, POLICY),
    of(
        "own",
        &[(451, 452), (454, 456), (462, 466)],
        &[ENOSYS],
        Verdict::Allowed,
        LATER,
    ),
    of(
        "i386",
        &[(451, 452), (454, 456), (462, 466)],
        &[ENOSYS],
        Verdict::Allowed,
        LATER,
    ),
    of("own", &[(329, 331)], &[EPERM], Verdict::Allowed, KEYS),
    of("i386", &[(380, 382)], &[EPERM], Verdict::Allowed, KEYS),
    of("own", &[(303, 303)], &[EPERM], Verdict::Allowed, HANDLE),
    of("i386", &[(341, 341)], &[EPERM], Verdict::Allowed, HANDLE),
    of("own", &[(310, 311)], &[EPERM], Verdict::Allowed, MEMORY),
    of("i386", &[(347, 348)], &[EPERM], Verdict::Allowed, MEMORY),
    of(
        "i386",
        &[(48, 48), (67, 67), (72, 73)],
        &[EPERM],
        Verdict::Allowed,
        SIGNALS,
    ),
    of(
        "own",
        &[(135, 135)],
        &[EPERM],
        Verdict::Allowed,
        "personality: docker compares a half of the argument that the kernel does not look at",
    ),
    Difference {
        architecture: "own",
        calls: &[(41, 40)],
        argument: true,
        docker: &[0, 22, 93, 94, 97],
        allows: Verdict::Refused,
        why: "socket: AF_VSOCK leads to the hypervisor past every namespace; later profiles refuse it",
    },
];
