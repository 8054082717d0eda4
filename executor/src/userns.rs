//! The user namespace that an ordinary user's strata runs in as a whole.
//!
//! Mounts need the rights of a namespace's root. An ordinary user gets them in a user namespace
//! of its own, in which the user is root, and the ranges of ids that the administrator has given
//! to the user (`/etc/subuid`, `/etc/subgid`) are the other ids of images. Without ranges, or
//! without the set-id programs that may map them, there is only the one id, and every other owner
//! is out of reach.
//!
//! **Limitations**: user names come from `/etc/passwd` and `$USER`, not from directory services.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sched::CloneFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::{Pid, WaitOptions, getegid, geteuid, waitpid};
use rustix::thread::CapabilitySet;

use crate::sys::{self, Fork};

/// How ids inside relate to the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMapping {
    /// This process was root already, of the host or of a user namespace that somebody else has
    /// set up; nothing was changed.
    Root,
    /// The user is root inside, and this many further ids are there.
    Ranges {
        /// User ids, the user's own included.
        uids: u64,
        /// Group ids, the user's own included.
        gids: u64,
    },
    /// The user is root inside, and the only user there.
    OneId {
        /// Why there are no ranges, for people.
        reason: String,
    },
}

impl fmt::Display for IdMapping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("root"),
            Self::Ranges { uids, gids } => {
                write!(
                    formatter,
                    "user namespace with {uids} user and {gids} group ids"
                )
            }
            Self::OneId { reason } => {
                write!(formatter, "user namespace with one id, because {reason}")
            }
        }
    }
}

/// Why no user namespace could be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsernsError {
    /// The kernel or the administrator doesn't let this user make one.
    #[error("make a user namespace: {hint}")]
    Refused {
        /// What may be the reason, and what to do.
        hint: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The ids could not be mapped.
    #[error("map ids into the user namespace ({detail})")]
    Map {
        /// What was written or run.
        detail: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The namespace gives no rights.
    #[error("use the rights of a new user namespace: {hint}")]
    Powerless {
        /// What may be the reason, and what to do.
        hint: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Enters a user and a mount namespace of its own if this process lacks the rights that sandboxes
/// need. Must be called while the process has one thread: the kernel refuses otherwise.
///
/// Environment, working directory and open files stay as they are; afterwards this process has
/// the user id 0, which is the user's own id on the host. Mounts made from here on are seen by no
/// other process.
///
/// # Errors
/// There is no way to get the rights; strata can't run commands then.
pub fn enter_user_namespace_if_needed() -> Result<IdMapping, UsernsError> {
    let own = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |capabilities| {
        capabilities.effective
    });
    let root = geteuid().is_root();
    if root && own.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(IdMapping::Root);
    }
    let plan = if root && own.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        // Root of a container that may not mount: all its ids can come along.
        Map::identity()
    } else {
        Map::from_ranges()
    };
    // Started first, as it must be outside.
    let plan = plan.and_then(|map| match Helper::start(&map) {
        Ok(helper) => Ok((map, helper)),
        Err(error) => Err(format!("no helper could be started: {error}")),
    });
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|error| {
        UsernsError::Refused {
            hint: refusal(error),
            source: error.into(),
        }
    })?;
    OUTSIDE.get_or_init(|| (uid, gid));
    let mapped = plan.and_then(|(map, helper)| {
        helper
            .finish()
            .map(|()| map.mapping())
            .map_err(|error| error.to_string())
    });
    let mapping = match mapped {
        Ok(mapping) => mapping,
        Err(reason) => {
            map_one(uid, gid)?;
            IdMapping::OneId { reason }
        }
    };
    rustix::mount::mount_change(
        "/",
        MountPropagationFlags::REC | MountPropagationFlags::PRIVATE,
    )
    .map_err(|error| UsernsError::Powerless {
        hint: "a security module seems to take them away; on Ubuntu see \
               `kernel.apparmor_restrict_unprivileged_userns`",
        source: error.into(),
    })?;
    Ok(mapping)
}

/// User and group that this process was before it entered a user namespace of its own; none if it has
/// entered none.
pub fn user_outside() -> Option<(u32, u32)> {
    OUTSIDE.get().copied()
}

/// See [`user_outside`].
static OUTSIDE: OnceLock<(u32, u32)> = OnceLock::new();

fn refusal(error: nix::errno::Errno) -> &'static str {
    use nix::errno::Errno;
    match error {
        Errno::EPERM | Errno::EACCES => {
            "not allowed here; a container's seccomp profile or `kernel.unprivileged_userns_clone` \
             may forbid it"
        }
        Errno::ENOSPC | Errno::EUSERS => {
            "the limit `/proc/sys/user/max_user_namespaces` is reached"
        }
        Errno::EINVAL => "the process has several threads, or the kernel was built without them",
        _ => "the kernel refused",
    }
}

/// Maps the user's own ids alone.
fn map_one(uid: u32, gid: u32) -> Result<(), UsernsError> {
    let write = |path: &str, text: String| {
        fs::write(path, &text).map_err(|source| UsernsError::Map {
            detail: format!("`{text}` to `{path}`"),
            source,
        })
    };
    // The kernel wants this before it lets an ordinary user map a group: groups that deny access
    // could be shed otherwise.
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))
}

/// A run of ids: the first inside, the first outside, how many.
type Run = (u64, u64, u64);

/// Which ids to map, and how.
#[derive(Debug, PartialEq, Eq)]
struct Map {
    uids: Vec<Run>,
    gids: Vec<Run>,
    /// The set-id programs that map users and groups; none if this user may do so itself.
    programs: Option<[PathBuf; 2]>,
}

impl Map {
    fn mapping(&self) -> IdMapping {
        let count = |runs: &[Run]| runs.iter().map(|run| run.2).sum();
        IdMapping::Ranges {
            uids: count(&self.uids),
            gids: count(&self.gids),
        }
    }

    /// Every id of this namespace as itself.
    fn identity() -> Result<Self, String> {
        let read = |path: &str| -> Result<Vec<Run>, String> {
            let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            Ok(identity_of(&text))
        };
        Ok(Self {
            uids: read("/proc/self/uid_map")?,
            gids: read("/proc/self/gid_map")?,
            programs: None,
        })
    }

    /// The user's own ids as root, the ranges that were given to the user after that.
    fn from_ranges() -> Result<Self, String> {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let names = user_names(uid);
        let read = |path: &str, own: u32| -> Result<Vec<Run>, String> {
            let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
            let ranges = subordinate(&text, uid, &names);
            if ranges.is_empty() {
                return Err(format!("`{path}` has no range for user {uid}"));
            }
            Ok(runs(own, &ranges))
        };
        let (uids, gids) = (read("/etc/subuid", uid)?, read("/etc/subgid", gid)?);
        let find = |name: &str| {
            find_program(name).ok_or_else(|| {
                format!("the program `{name}` is not installed (Debian: the package uidmap)")
            })
        };
        Ok(Self {
            uids,
            gids,
            programs: Some([find("newuidmap")?, find("newgidmap")?]),
        })
    }
}

/// Maps every id of the namespace that `map` (a `uid_map`) belongs to as itself.
fn identity_of(map: &str) -> Vec<Run> {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u64>);
            let (first, _, count) = (
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
            );
            Some((first, first, count))
        })
        .collect()
}

/// The ranges of a user in the text of `/etc/subuid`: by name or by number.
fn subordinate(text: &str, uid: u32, names: &[String]) -> Vec<(u64, u64)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let (owner, first, count) = (fields.next()?, fields.next()?, fields.next()?);
            let ours = owner.parse() == Ok(uid) || names.iter().any(|name| name.as_str() == owner);
            let (first, count): (u64, u64) = (first.parse().ok()?, count.parse().ok()?);
            (ours && count > 0).then_some((first, count))
        })
        .collect()
}

/// The runs to map: `own` as 0, then the ranges one after the other.
fn runs(own: u32, ranges: &[(u64, u64)]) -> Vec<Run> {
    let mut runs = vec![(0, u64::from(own), 1)];
    let mut next = 1;
    for &(first, count) in ranges {
        runs.push((next, first, count));
        next += count;
    }
    runs
}

/// The names of a user: of `/etc/passwd`, and `$USER`, for users that come from elsewhere. The
/// set-id programs look for themselves whose range it is.
fn user_names(uid: u32) -> Vec<String> {
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let mut names = names_in(&String::from_utf8_lossy(&passwd), uid);
    if names.is_empty() {
        names.extend(std::env::var("USER").ok());
    }
    names
}

fn names_in(passwd: &str, uid: u32) -> Vec<String> {
    passwd
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
        .collect()
}

pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok())
}

/// A process that stays in the outer user namespace and maps this process's ids from there.
#[derive(Debug)]
struct Helper {
    process: Pid,
    go: io::PipeWriter,
    complaint: io::PipeReader,
}

impl Helper {
    /// Forks it: this process has one thread, or it could not make a user namespace anyway.
    fn start(map: &Map) -> io::Result<Self> {
        let (wait, go) = io::pipe()?;
        let (complaint, mut complain) = io::pipe()?;
        let target = std::process::id();
        match sys::fork()? {
            Fork::Parent(process) => Ok(Self {
                process,
                go,
                complaint,
            }),
            Fork::Child => {
                drop((go, complaint));
                let code = match serve(wait, target, map) {
                    Ok(()) => 0,
                    // Without a reader there is nobody to tell.
                    Err(text) => complain.write_all(text.as_bytes()).map_or(2, |()| 1),
                };
                sys::exit_now(code)
            }
        }
    }

    /// Lets it do its work, now that there is a namespace.
    fn finish(self) -> io::Result<()> {
        let Self {
            process,
            mut go,
            mut complaint,
        } = self;
        go.write_all(b"g")?;
        drop(go);
        let mut text = String::new();
        complaint.read_to_string(&mut text)?;
        let status = loop {
            match waitpid(Some(process), WaitOptions::empty()) {
                Err(rustix::io::Errno::INTR) => {}
                answer => break answer?,
            }
        };
        if status.is_some_and(|(_, status)| status.exit_status() == Some(0)) {
            return Ok(());
        }
        let text = text.trim();
        Err(io::Error::other(if text.is_empty() {
            "ids could not be mapped".to_owned()
        } else {
            text.replace('\n', "; ")
        }))
    }
}

/// The helper's work. Groups first: if that fails nothing is mapped yet, and one id still can be.
fn serve(mut wait: io::PipeReader, target: u32, map: &Map) -> Result<(), String> {
    match wait.read(&mut [0]) {
        Ok(1) => {}
        // The caller has no namespace, or is gone.
        _ => return Ok(()),
    }
    for (kind, runs, position) in [("gid", &map.gids, 1), ("uid", &map.uids, 0)] {
        let lines: Vec<String> = runs
            .iter()
            .map(|run| format!("{} {} {}", run.0, run.1, run.2))
            .collect();
        if let Some(programs) = &map.programs {
            let program = &programs[position];
            let output = Command::new(program)
                .arg(target.to_string())
                .args(lines.iter().flat_map(|line| line.split(' ')))
                .env_clear()
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("{}: {error}", program.display()))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{}: {}", program.display(), text.trim()));
            }
        } else {
            let path = format!("/proc/{target}/{kind}_map");
            fs::write(&path, lines.join("\n")).map_err(|error| format!("{path}: {error}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:200000:10\n1000:300000:5\n# x\nalice:x:1\nalice:7:0\n\
                    10001:1:1\n";
        let names = ["alice".to_owned()];
        assert_eq!(
            subordinate(text, 1000, &names),
            [(100_000, 65536), (300_000, 5)]
        );
        assert_eq!(subordinate(text, 3, &[]), []);
    }

    #[test]
    fn ranges_follow_the_users_own_id() {
        assert_eq!(
            runs(1000, &[(100_000, 65536), (300_000, 5)]),
            [(0, 1000, 1), (1, 100_000, 65536), (65537, 300_000, 5)]
        );
    }

    #[test]
    fn a_map_onto_itself_has_the_same_ids() {
        let text = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(identity_of(text), [(0, 0, 1), (1, 1, 65536)]);
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbad\na:x:1000:1::/:/bin/sh\nb:x:1000:1::/:/x\n";
        assert_eq!(names_in(passwd, 1000), ["a", "b"]);
        assert!(names_in(passwd, 5).is_empty());
    }
}
