//! Control groups: limits on what a sandbox uses, by version 1 or 2, whichever the host has.
//!
//! A group is made only if a limit is set. The sandbox's first process makes it and takes it away;
//! the command joins it just before it is started, so that nothing of the sandbox itself counts or
//! can be picked when memory runs out.

mod directory;
mod hierarchy;
mod limits;
mod unified;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;

use self::directory::Directory;
use self::hierarchy::Hierarchies;
use super::SandboxError;
use super::protocol::{Failure, Stage, quoted};

pub(super) use limits::check;
pub use limits::{DeviceLimit, Limits, Rate};

/// Enters a cgroup namespace whose root is where this process is.
pub(super) fn enter_namespace() {
    // Without it the command sees the host's group names, and can do no more for that.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).ok();
}

/// Whether a kind of limit can be set.
#[derive(Debug)]
pub struct LimitProspect {
    /// The kernel's name for what is limited: `memory`, `cpu`, `cpuset`, `io` or `pids`.
    pub controller: &'static str,
    /// The version of the control groups that would do it; nothing if the host has none for it.
    pub version: Option<u8>,
    /// Why it can't be set.
    pub hindrance: Option<SandboxError>,
}

/// Looks, without changing anything, which limits a sandbox of this process could have.
pub fn limit_prospects() -> Vec<LimitProspect> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let hierarchies = Hierarchies::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    let prospect = |controller| {
        if let Some(own) = hierarchies.v1(controller) {
            return (Some(1), may_make_in(own));
        }
        match &hierarchies.unified {
            Some(place) => (Some(2), unified::prospect(place, controller)),
            None => (None, Err(no_controller(controller))),
        }
    };
    let controllers = ["memory", "cpu", "cpuset", "io", "pids"].into_iter();
    controllers
        .map(|controller| {
            let (version, answer) = prospect(controller);
            LimitProspect {
                controller,
                version,
                hindrance: answer.err().map(|failure| failure.into_error(Vec::new())),
            }
        })
        .collect()
}

/// Whether this process may make groups in one of version 1.
fn may_make_in(group: &Path) -> Result<(), Failure> {
    rustix::fs::access(group, rustix::fs::Access::WRITE_OK).map_err(|errno| {
        let error = io::Error::from(errno);
        Failure {
            stage: format!("make a control group in {}", quoted(group)),
            errno: error.raw_os_error(),
            detail: explain(&error).into(),
        }
    })
}

/// Whether the host shows version 2 where programs look for it.
pub(super) fn host_is_unified() -> bool {
    const CGROUP2: u32 = 0x6367_7270;
    rustix::fs::statfs("/sys/fs/cgroup")
        .is_ok_and(|stat| u32::try_from(stat.f_type).is_ok_and(|kind| kind == CGROUP2))
}

/// Shows the command its own group, read-only, where programs look for their limits.
pub(super) fn show_unified() {
    let show = || -> io::Result<()> {
        let target = rustix::fs::open(
            "/sys/fs/cgroup",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let attributes = super::mount::PLAIN | MountAttrFlags::MOUNT_ATTR_RDONLY;
        super::mount::attach(
            super::mount::new_filesystem("cgroup2", &[], attributes)?,
            target,
        )
    };
    // A program that finds no limits takes what it finds.
    show().ok();
}

/// One hierarchy's part of a group.
#[derive(Debug)]
struct Part {
    directory: Directory,
    unified: bool,
}

/// A control group for one sandbox.
#[derive(Debug)]
pub(super) struct Group {
    parts: Vec<Part>,
}

impl Group {
    /// Makes a group with `limits`; none if there are none.
    pub(super) fn create(limits: &Limits) -> Result<Option<Self>, Failure> {
        let needed = limits.controllers();
        if needed.is_empty() {
            return Ok(None);
        }
        let groups = fs::read_to_string("/proc/self/cgroup").during("find control groups")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").during("find control groups")?;
        let mut hierarchies = Hierarchies::parse(&groups, &mounts);
        if let Some(parent) = &limits.parent {
            hierarchies.move_to(parent);
        }
        let mut group = Self { parts: Vec::new() };
        let answer = group.fill(&hierarchies, &needed, limits);
        if let Err(failure) = answer {
            group.remove();
            return Err(failure);
        }
        Ok(Some(group))
    }

    fn fill(
        &mut self,
        hierarchies: &Hierarchies,
        needed: &[&'static str],
        limits: &Limits,
    ) -> Result<(), Failure> {
        let mut by_version_2 = Vec::new();
        for &controller in needed {
            if let Some(own) = hierarchies.v1(controller) {
                // cpu and cpuacct, for example, may be one hierarchy: then the group is there.
                if !self.parts.iter().any(|part| part.is_in(own)) {
                    if limits.parent.is_some() {
                        make_all(own, explain)?;
                    }
                    self.parts.push(Part {
                        directory: Directory::make(own, explain)?,
                        unified: false,
                    });
                }
            } else {
                by_version_2.push(controller);
            }
        }
        if !by_version_2.is_empty() {
            let place = hierarchies
                .unified
                .as_ref()
                .ok_or_else(|| no_controller(by_version_2[0]))?;
            let parent = if limits.parent.is_some() {
                make_all(&place.group, unified::explain)?;
                unified::given(place, &by_version_2)?
            } else {
                unified::parent(place, &by_version_2)?
            };
            self.parts.push(Part {
                directory: Directory::make(&parent, unified::explain)?,
                unified: true,
            });
        }
        for &controller in needed {
            let own = hierarchies.v1(controller);
            let part = self
                .parts
                .iter()
                .find(|part| match own {
                    Some(own) => !part.unified && part.is_in(own),
                    None => part.unified,
                })
                .ok_or_else(|| no_controller(controller))?;
            part.limit(controller, limits)?;
        }
        Ok(())
    }

    /// The files to write `0` to, to join.
    pub(super) fn joins(&self) -> Result<Vec<OwnedFd>, Failure> {
        self.parts
            .iter()
            .map(|part| {
                let file = part.directory.open("cgroup.procs", OFlags::WRONLY);
                file.map(OwnedFd::from)
                    .stage(|| format!("open `cgroup.procs` of {}", quoted(part.directory.path())))
            })
            .collect()
    }

    /// Peak memory in bytes, and how many processes were killed for want of memory.
    pub(super) fn usage(&self) -> (Option<u64>, u64) {
        let peak = self.parts.iter().find_map(|part| {
            let name = if part.unified {
                "memory.peak"
            } else {
                "memory.max_usage_in_bytes"
            };
            part.read(name)?.trim().parse().ok()
        });
        let kills = self.parts.iter().find_map(|part| {
            let name = if part.unified {
                "memory.events"
            } else {
                "memory.oom_control"
            };
            oom_kills(&part.read(name)?)
        });
        (peak, kills.unwrap_or(0))
    }

    /// Takes it away. Its processes must have ended.
    pub(super) fn remove(self) {
        for part in self.parts {
            part.directory.remove();
        }
    }
}

fn no_controller(controller: &str) -> Failure {
    Failure::new(
        format!("limit {controller}"),
        format!("this host offers no `{controller}` controller for control groups"),
    )
}

/// Explains that groups of version 1 can't be made.
fn explain(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "control groups are read-only here, as in most containers: start the container with a \
             writable `/sys/fs/cgroup` (`--privileged`), or strata without limits"
        }
        ErrorKind::PermissionDenied => {
            "this user may not make control groups here, and with version 1 only root can hand \
             some over: start strata as root, or without limits"
        }
        _ => "",
    }
}

/// Makes a group that was given, and those above it.
fn make_all(group: &Path, explain: impl Fn(&io::Error) -> &'static str) -> Result<(), Failure> {
    fs::create_dir_all(group).map_err(|error| Failure {
        stage: format!("make the control group {}", quoted(group)),
        errno: error.raw_os_error(),
        detail: explain(&error).into(),
    })
}

impl Part {
    /// Whether it was made in this group.
    fn is_in(&self, group: &Path) -> bool {
        self.directory.path().parent() == Some(group)
    }

    fn read(&self, name: &str) -> Option<String> {
        io::read_to_string(self.directory.open(name, OFlags::RDONLY).ok()?).ok()
    }

    fn write(&self, name: &str, value: u64) -> Result<(), Failure> {
        self.write_text(name, &value.to_string())
    }

    fn write_text(&self, name: &str, value: &str) -> Result<(), Failure> {
        use std::io::Write;
        self.directory
            .open(name, OFlags::WRONLY)
            .and_then(|mut file| file.write_all(value.as_bytes()))
            .stage(|| format!("set `{name}` of a control group to {value}"))
    }

    fn limit(&self, controller: &str, limits: &Limits) -> Result<(), Failure> {
        match controller {
            "memory" => self.limit_memory(limits),
            "cpu" => self.limit_processors(limits),
            "cpuset" => self.limit_sets(limits),
            "io" => self.limit_devices(limits),
            _ => limits
                .pids
                .map_or(Ok(()), |pids| self.write("pids.max", pids)),
        }
    }

    fn limit_processors(&self, limits: &Limits) -> Result<(), Failure> {
        if let Some((quota, period)) = limits.quota() {
            if self.unified {
                self.write_text("cpu.max", &format!("{quota} {period}"))?;
            } else {
                self.write("cpu.cfs_period_us", period)?;
                self.write("cpu.cfs_quota_us", quota)?;
            }
        }
        match limits.cpu_shares {
            Some(shares) if self.unified => self.write("cpu.weight", limits::cpu_weight(shares)),
            Some(shares) => self.write("cpu.shares", shares),
            None => Ok(()),
        }
    }

    fn limit_sets(&self, limits: &Limits) -> Result<(), Failure> {
        let sets = [
            ("cpuset.cpus", &limits.cpuset_cpus),
            ("cpuset.mems", &limits.cpuset_mems),
        ];
        for (name, given) in sets {
            if let Some(set) = given {
                self.write_text(name, set)?;
            } else if !self.unified {
                // A new group of version 1 has nothing, and takes no process before it has something.
                let parent = self.directory.path().with_file_name(name);
                let all =
                    fs::read_to_string(&parent).stage(|| format!("read {}", quoted(&parent)))?;
                self.write_text(name, all.trim())?;
            }
        }
        Ok(())
    }

    fn limit_devices(&self, limits: &Limits) -> Result<(), Failure> {
        for limit in &limits.devices {
            let device = format!("{}:{}", limit.major, limit.minor);
            if self.unified {
                let word = limit.what.word();
                self.write_text("io.max", &format!("{device} {word}={}", limit.rate))?;
            } else {
                self.write_text(limit.what.file(), &format!("{device} {}", limit.rate))?;
            }
        }
        let Some(weight) = limits.io_weight else {
            return Ok(());
        };
        // By which file depends on the scheduler that the kernel has.
        let files = if self.unified {
            [
                (
                    "io.weight",
                    format!("default {}", limits::io_weight(weight)),
                ),
                ("io.bfq.weight", weight.to_string()),
            ]
        } else {
            ["blkio.weight", "blkio.bfq.weight"].map(|name| (name, weight.to_string()))
        };
        let there = files
            .iter()
            .find(|(name, _)| self.directory.path().join(name).exists());
        let (name, text) = there.ok_or_else(|| {
            Failure::new(
                "limit a share of disks",
                "this kernel has no I/O scheduler that knows shares, such as BFQ; a rate of a \
                 device can be limited",
            )
        })?;
        self.write_text(name, text)
    }

    /// With a limit on memory alone, as much swap as memory may be used, as container users know
    /// it.
    fn limit_memory(&self, limits: &Limits) -> Result<(), Failure> {
        let total = limits
            .memory_swap
            .or(limits.memory.map(|memory| memory.saturating_mul(2)));
        if let (Some(memory), Some(total)) = (limits.memory, total)
            && total < memory
        {
            return Err(Failure::new(
                "limit memory",
                "memory and swap together can't be less than memory alone",
            ));
        }
        let memory = limits.memory.or(limits.memory_swap);
        if let Some(memory) = memory {
            let name = if self.unified {
                "memory.max"
            } else {
                "memory.limit_in_bytes"
            };
            self.write(name, memory)?;
        }
        if let Some(total) = total {
            let answer = if self.unified {
                self.write("memory.swap.max", total.saturating_sub(memory.unwrap_or(0)))
            } else {
                self.write("memory.memsw.limit_in_bytes", total)
            };
            // A kernel without swap accounting has no such file. That matters if it was asked for.
            if limits.memory_swap.is_some() {
                answer?;
            }
        }
        Ok(())
    }
}

fn oom_kills(events: &str) -> Option<u64> {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_kills_are_counted_in_both_versions() {
        assert_eq!(
            oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            Some(2)
        );
        assert_eq!(
            oom_kills("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n"),
            Some(1)
        );
        assert_eq!(oom_kills(""), None);
    }
}
