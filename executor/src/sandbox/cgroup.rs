//! Control groups: limits on what a sandbox uses, by version 1 or 2, whichever the host has.
//!
//! A group is made only if a limit is set. The sandbox's first process makes it and takes it away;
//! the command joins it just before it is started, so that nothing of the sandbox itself counts or
//! can be picked when memory runs out.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::protocol::{Failure, Stage, quoted};
use super::{Limits, SandboxError};

/// Length of the periods in which processor time is dealt out, in microseconds.
const PERIOD: u64 = 100_000;

/// Where a delegated group's own processes go, as version 2 wants them in leaves.
const MAIN: &str = "strata-main";

/// How an ordinary user gets control groups.
const DELEGATION: &str = "this user may not make control groups here: start strata with \
                          `systemd-run --user --scope -p Delegate=yes`, or as root, or without \
                          limits";

/// Enters a cgroup namespace whose root is where this process is.
pub(super) fn enter_namespace() {
    // Without it the command sees the host's group names, and can do no more for that.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).ok();
}

/// Refuses numbers that mean nothing. On the caller's side: not every number survives the way.
pub(super) fn check(limits: &Limits) -> Result<(), SandboxError> {
    match limits.cpus {
        Some(cpus) if !(cpus.is_finite() && cpus > 0.0) => {
            let detail = format!("{cpus} is not a number of CPUs");
            Err(Failure::new("limit processor time", detail).into_error(Vec::new()))
        }
        _ => Ok(()),
    }
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
    parent: OwnedFd,
    directory: OwnedFd,
    name: String,
    path: PathBuf,
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
        let needed = needed(limits);
        if needed.is_empty() {
            return Ok(None);
        }
        let groups = fs::read_to_string("/proc/self/cgroup").during("find control groups")?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").during("find control groups")?;
        let hierarchies = Hierarchies::parse(&groups, &mounts);
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
        let mut unified = Vec::new();
        for &controller in needed {
            if let Some(own) = hierarchies.v1(controller) {
                // cpu and cpuacct, for example, may be one hierarchy: then the group is there.
                if !self
                    .parts
                    .iter()
                    .any(|part| part.path.parent() == Some(own))
                {
                    self.parts.push(make(own, false)?);
                }
            } else {
                unified.push(controller);
            }
        }
        if !unified.is_empty() {
            let own = hierarchies
                .unified
                .as_deref()
                .ok_or_else(|| no_controller(unified[0]))?;
            let parent = delegated_parent(own, &unified)?;
            self.parts.push(make(&parent, true)?);
        }
        for &controller in needed {
            let own = hierarchies.v1(controller);
            let part = self
                .parts
                .iter()
                .find(|part| match own {
                    Some(own) => !part.unified && part.path.parent() == Some(own),
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
                rustix::fs::openat(
                    &part.directory,
                    "cgroup.procs",
                    OFlags::WRONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .stage(|| format!("open `cgroup.procs` of {}", quoted(&part.path)))
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
            drop(part.directory);
            // The kernel may still be busy with the last process for a moment.
            for wait in [0, 1, 2, 5, 10, 20, 50, 100] {
                std::thread::sleep(Duration::from_millis(wait));
                match rustix::fs::unlinkat(&part.parent, &part.name, AtFlags::REMOVEDIR) {
                    Err(rustix::io::Errno::BUSY) => {}
                    // Nothing better can be done about other errors than to leave it.
                    _ => break,
                }
            }
        }
    }
}

fn needed(limits: &Limits) -> Vec<&'static str> {
    let mut needed = Vec::new();
    if limits.memory.is_some() || limits.memory_swap.is_some() {
        needed.push("memory");
    }
    if limits.cpus.is_some() {
        needed.push("cpu");
    }
    if limits.pids.is_some() {
        needed.push("pids");
    }
    needed
}

fn no_controller(controller: &str) -> Failure {
    Failure::new(
        format!("limit {controller}"),
        format!("this host offers no `{controller}` controller for control groups"),
    )
}

/// Makes a group below `parent`, under a name of its own.
fn make(parent: &Path, unified: bool) -> Result<Part, Failure> {
    let open = |path: &Path| {
        rustix::fs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    };
    let process = std::process::id();
    for attempt in 0..100 {
        let name = format!("strata-{process}-{attempt}");
        let path = parent.join(&name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            answer => answer.map_err(|error| denied(&error, parent))?,
        }
        let stage = || format!("open control group {}", quoted(&path));
        return Ok(Part {
            parent: open(parent).stage(stage)?,
            directory: open(&path).stage(stage)?,
            name,
            path,
            unified,
        });
    }
    Err(Failure::new(
        format!("make a control group in {}", quoted(parent)),
        "no name is free",
    ))
}

fn denied(error: &io::Error, parent: &Path) -> Failure {
    let detail = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => DELEGATION,
        _ => "",
    };
    Failure {
        stage: format!("make a control group in {}", quoted(parent)),
        errno: error.raw_os_error(),
        detail: detail.into(),
    }
}

impl Part {
    fn read(&self, name: &str) -> Option<String> {
        let file = rustix::fs::openat(
            &self.directory,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()?;
        io::read_to_string(fs::File::from(file)).ok()
    }

    fn write(&self, name: &str, value: u64) -> Result<(), Failure> {
        self.write_text(name, &value.to_string())
    }

    fn write_text(&self, name: &str, value: &str) -> Result<(), Failure> {
        use std::io::Write;
        let write = || -> io::Result<()> {
            let file = rustix::fs::openat(
                &self.directory,
                name,
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            fs::File::from(file).write_all(value.as_bytes())
        };
        write().stage(|| format!("set `{name}` of a control group to {value}"))
    }

    fn limit(&self, controller: &str, limits: &Limits) -> Result<(), Failure> {
        match controller {
            "memory" => self.limit_memory(limits),
            "cpu" => {
                let quota = quota(limits.cpus.unwrap_or(1.0));
                if self.unified {
                    self.write_text("cpu.max", &format!("{quota} {PERIOD}"))
                } else {
                    self.write("cpu.cfs_period_us", PERIOD)?;
                    self.write("cpu.cfs_quota_us", quota)
                }
            }
            _ => limits
                .pids
                .map_or(Ok(()), |pids| self.write("pids.max", pids)),
        }
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

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "checked to be positive and finite; conversion saturates"
)]
fn quota(cpus: f64) -> u64 {
    // The kernel takes no less than a millisecond.
    ((cpus * PERIOD as f64).round() as u64).max(1000)
}

fn oom_kills(events: &str) -> Option<u64> {
    events
        .lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where this process is in each hierarchy, as paths of the host.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hierarchies {
    /// Version 1: controller and directory.
    v1: Vec<(String, PathBuf)>,
    /// Version 2.
    unified: Option<PathBuf>,
}

impl Hierarchies {
    fn v1(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|(name, _)| name == controller)
            .map(|(_, path)| path.as_path())
    }

    /// From the texts of /proc/self/cgroup and /proc/self/mountinfo.
    fn parse(groups: &str, mounts: &str) -> Self {
        let mut found = Self::default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if controllers.is_empty() {
                found.unified = place(mounts, None, path);
                continue;
            }
            for controller in controllers.split(',') {
                if let Some(place) = place(mounts, Some(controller), path) {
                    found.v1.push((controller.to_owned(), place));
                }
            }
        }
        found
    }
}

/// Where `group` of a hierarchy is mounted: that of a version 1 `controller`, or version 2's.
fn place(mounts: &str, controller: Option<&str>, group: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        // id parent dev root mount-point options [tags] - type source super-options
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (unescape(left.next()?), unescape(left.next()?));
        let mut right = right.split(' ');
        let kind = right.next()?;
        let options = right.nth(1)?;
        let fits = match controller {
            Some(controller) => kind == "cgroup" && options.split(',').any(|o| o == controller),
            None => kind == "cgroup2",
        };
        if !fits {
            return None;
        }
        let group = Path::new(group);
        // In a container without a cgroup namespace the mount shows only the container's part.
        let below = group.strip_prefix(&root).unwrap_or(Path::new(""));
        Some(if below.as_os_str().is_empty() {
            PathBuf::from(point)
        } else {
            Path::new(&point).join(below)
        })
    })
}

/// Takes mountinfo's octal escapes back.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out += before;
        let code = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(code) = code {
            out.push(char::from(code));
            rest = &after[3..];
        } else {
            out.push('\\');
            rest = after;
        }
    }
    out + rest
}

/// A group of version 2, in whose children `controllers` work: this process's own, or one above
/// it.
fn delegated_parent(own: &Path, controllers: &[&str]) -> Result<PathBuf, Failure> {
    let lists = |path: &Path, name: &str| -> Vec<String> {
        let text = fs::read_to_string(path.join(name)).unwrap_or_default();
        text.split_whitespace().map(ToOwned::to_owned).collect()
    };
    let has_all = |list: &[String]| {
        controllers
            .iter()
            .all(|controller| list.iter().any(|name| name == controller))
    };
    let offered = lists(own, "cgroup.controllers");
    if let Some(missing) = controllers
        .iter()
        .find(|name| !offered.iter().any(|have| have == *name))
    {
        let mut failure = no_controller(missing);
        if !rustix::process::geteuid().is_root() || own.join("cgroup.type").exists() {
            failure.detail += ", or doesn't delegate it: ";
            failure.detail += DELEGATION;
        }
        return Err(failure);
    }
    let writable = |path: &Path| {
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
            && rustix::fs::access(path.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
    };
    // Where they work already. Not further up than what is ours to change.
    let ready = own
        .ancestors()
        .take_while(|path| path.join("cgroup.procs").exists() && writable(path))
        .take(3)
        .find(|path| has_all(&lists(path, "cgroup.subtree_control")));
    if let Some(ready) = ready {
        return Ok(ready.to_owned());
    }
    let enable = || -> io::Result<()> {
        let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        fs::write(own.join("cgroup.subtree_control"), text.join(" "))
    };
    let mut answer = enable();
    // A group other than the root may not both have processes and deal out resources.
    for _ in 0..3 {
        let busy = answer
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY));
        if !busy {
            break;
        }
        move_to_leaf(own).stage(|| format!("empty control group {}", quoted(own)))?;
        answer = enable();
    }
    answer.map_err(|error| denied(&error, own))?;
    Ok(own.to_owned())
}

/// Moves the processes of a delegated group to a leaf of it.
fn move_to_leaf(own: &Path) -> io::Result<()> {
    let leaf = own.join(MAIN);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    for process in fs::read_to_string(own.join("cgroup.procs"))?.lines() {
        match fs::write(leaf.join("cgroup.procs"), process) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            answer => answer?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_hierarchies_are_found_by_controller() {
        let groups = "4:memory:/jobs/a\n3:cpu,cpuacct:/\n1:name=systemd:/init\n0::/\n";
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
38 31 0:41 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let found = Hierarchies::parse(groups, mounts);
        assert_eq!(
            found.v1("memory"),
            Some(Path::new("/sys/fs/cgroup/memory/jobs/a"))
        );
        assert_eq!(
            found.v1("cpu"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert_eq!(found.v1("pids"), None);
        assert_eq!(
            found.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_understood() {
        let mounts = "35 31 0:32 /docker/abc /sys/fs/my\\040groups rw - cgroup2 cgroup2 rw\n";
        let at = |group: &str| Hierarchies::parse(&format!("0::{group}\n"), mounts).unified;
        assert_eq!(
            at("/docker/abc").as_deref(),
            Some(Path::new("/sys/fs/my groups"))
        );
        assert_eq!(
            at("/docker/abc/x").as_deref(),
            Some(Path::new("/sys/fs/my groups/x"))
        );
        assert_eq!(
            at("/elsewhere").as_deref(),
            Some(Path::new("/sys/fs/my groups"))
        );
    }

    #[test]
    fn a_group_that_deals_out_the_controllers_is_used_as_it_is() {
        let scratch = tempfile::tempdir().unwrap();
        let own = scratch.path().join("app.slice/shell.scope");
        fs::create_dir_all(&own).unwrap();
        for path in [&own, own.parent().unwrap()] {
            fs::write(path.join("cgroup.procs"), "").unwrap();
        }
        fs::write(own.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        fs::write(own.join("cgroup.subtree_control"), "\n").unwrap();
        let above = own.parent().unwrap();
        fs::write(above.join("cgroup.subtree_control"), "memory pids\n").unwrap();
        assert_eq!(delegated_parent(&own, &["memory", "pids"]).unwrap(), above);
        // Not all of them: switched on in its own group.
        assert_eq!(delegated_parent(&own, &["memory", "cpu"]).unwrap(), own);
        let written = fs::read_to_string(own.join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+memory +cpu");
        let failure = delegated_parent(&own, &["io"]).unwrap_err();
        assert!(failure.detail.contains("`io`"), "{failure:?}");
    }

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

    #[test]
    fn quotas_are_parts_of_the_period() {
        assert_eq!(quota(1.5), 150_000);
        assert_eq!(quota(0.000_1), 1000);
    }
}
