//! A step without namespaces, for containers that allow none: another root, fewer rights, no more.
//!
//! The tree is a plain directory, and nothing can be mounted: what a sandbox mounts is written there
//! and taken away afterwards, so that the diff is the same. Whatever needs a mount or a namespace is
//! refused.
//!
//! What is lost, and can't be had otherwise: the step shares the processes, the network, the host
//! name and the message queues of the container that strata runs in, may signal its processes, and
//! has no `/proc`, no `/sys` and no terminal. With the capabilities that would lead out of the root it
//! would be no wall at all, so `SYS_CHROOT` and `MKNOD` are taken from it.
//!
//! Orphans of the command become children of the sandbox's process, which kills them all at the end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::CapabilitySet;
use strata_cache::RootfsPlan;

use super::command::{Program, Streams};
use super::network::{Link, hosts, resolv_conf};
use super::overlay::open_directory;
use super::protocol::{Failure, Report, Stage, quoted, send};
use super::target::{Root, Want, open_in};
use super::{MountKind, Network, RunSpec, Seccomp, Stdio, pid1};
use crate::sys::{self, Fork};

/// What a step needs to be run in this way.
pub(super) const NEEDED: CapabilitySet = CapabilitySet::SYS_CHROOT.union(CapabilitySet::MKNOD);

/// Character devices: name, major and minor number.
const DEVICES: &[(&str, u32, u32)] = &[
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
];

/// Where the scripts of a Dockerfile are put.
const SCRIPTS: &str = "/dev/pipes";

/// Runs the command and waits for everything that it started.
pub(super) fn run(
    mut spec: RunSpec,
    control: &OwnedFd,
    stdin: Option<OwnedFd>,
    joins: Vec<OwnedFd>,
) -> Result<(), Failure> {
    check(&mut spec)?;
    let RootfsPlan::Native { tree } = &spec.rootfs else {
        return Err(refused("the layers are mounted, not copied"));
    };
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .during("become the reaper of the command's orphans")?;
    let tree = open_directory(tree)?;
    let mut placed = Placed::new(tree.try_clone().during("open the root directory")?)?;
    let answer = placed
        .fill(&spec)
        .and_then(|()| start(&spec, &tree, control, stdin, &joins));
    drop((spec, joins));
    let answer = answer.and_then(|running| running.watch(control).during("watch the command"));
    end_all();
    let created = placed.take_away();
    for path in created.during("take away what the command had been given")? {
        let report = Report::Created(path.as_os_str().as_bytes().to_vec());
        // A caller that is gone has no use for the diff.
        send(control.as_fd(), &report, &[]).ok();
    }
    answer
}

fn refused(what: impl Into<String>) -> Failure {
    Failure::new("run the step without namespaces", what)
}

/// Refuses what can't be had, and takes from the command what would undo the rest.
fn check(spec: &mut RunSpec) -> Result<(), Failure> {
    let own = rustix::thread::capabilities(None)
        .during("look at the capabilities")?
        .effective;
    if !own.contains(NEEDED) {
        return Err(refused(
            "it takes the capabilities SYS_CHROOT and MKNOD, which strata doesn't have here",
        ));
    }
    if spec.network != Network::Host {
        return Err(refused(format!(
            "the network `{}` takes a namespace: only `host` can be had here",
            spec.network
        )));
    }
    if matches!(spec.stdio, Stdio::Terminal { .. }) {
        return Err(refused("a terminal takes a mount of devpts"));
    }
    if !spec.confinement.masks.is_empty() {
        return Err(refused("masks take mounts"));
    }
    if spec.hooks.is_some() {
        return Err(refused("hooks are for namespaces"));
    }
    for mount in &spec.mounts {
        let what = match &mount.kind {
            MountKind::Secret { .. } if mount.target.starts_with(SCRIPTS) => continue,
            MountKind::Secret { .. } => {
                "a secret would lie on a disk: give it as a variable (`env=NAME`)"
            }
            _ => "the right to mount is missing",
        };
        return Err(refused(format!(
            "the mount on {} can't be made: {what}",
            quoted(&mount.target)
        )));
    }
    let capabilities = &mut spec.confinement.capabilities;
    *capabilities = capabilities.but(NEEDED);
    spec.insecure = false;
    if !own.contains(CapabilitySet::SYS_ADMIN) && !spec.confinement.no_new_privileges {
        // The kernel takes a filter only from those who can't gain by it.
        match spec.confinement.seccomp {
            Seccomp::Usual => spec.confinement.seccomp = Seccomp::Unconfined,
            Seccomp::Unconfined => {}
            Seccomp::Profile(_) => {
                return Err(refused(
                    "a filter of system calls takes `--security-opt no-new-privileges` here",
                ));
            }
        }
    }
    Ok(())
}

fn start(
    spec: &RunSpec,
    tree: &OwnedFd,
    control: &OwnedFd,
    stdin: Option<OwnedFd>,
    joins: &[OwnedFd],
) -> Result<pid1::Running, Failure> {
    let children = pid1::watch_children()?;
    // The command must not read or change this process, which has more rights: not even if it has
    // the same user id.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .during("protect the sandbox's process")?;
    let (stop_signal, stop_timeout) = (spec.stop_signal, spec.stop_timeout);
    let command = match sys::fork().during("start the command's process")? {
        Fork::Child => {
            let entered = enter(tree);
            if let Err(failure) = entered {
                send(control.as_fd(), &Report::Failed(failure), &[]).ok();
                sys::exit_now(1);
            }
            let program = Program {
                spec,
                streams: &Streams::Given { stdin },
                joins,
                unified: false,
                control: control.as_fd(),
            };
            sys::exit_now(program.become_it());
        }
        Fork::Parent(command) => command,
    };
    // The caller sees the end of the output when the command's processes are gone.
    for target in 1..=2 {
        sys::dup_onto(rustix::stdio::stdin(), target).during("let go of the command's streams")?;
    }
    Ok(pid1::Running::new(
        command,
        children,
        stop_signal,
        stop_timeout,
    ))
}

/// Makes `tree` this process's root.
fn enter(tree: &OwnedFd) -> Result<(), Failure> {
    sys::reset_signals();
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .during("bind the command to its parent's life")?;
    rustix::process::fchdir(tree).during("go to the new root")?;
    rustix::process::chroot(".").during("change the root")?;
    rustix::process::chdir("/").during("go to the new root")
}

/// Kills every process below this one, and waits for them.
fn end_all() {
    loop {
        for process in descendants() {
            rustix::process::kill_process(process, Signal::KILL).ok();
        }
        // A killed process's children become this one's, so none is left when there are none.
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// All processes that stem from this one.
fn descendants() -> Vec<Pid> {
    let own = rustix::process::getpid();
    let mut all: Vec<(Pid, Pid)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(process) = number.and_then(Pid::from_raw) else {
            continue;
        };
        let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent_in(&stat) {
            all.push((process, parent));
        }
    }
    let mut found = vec![own];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        at += 1;
        let children = all.iter().filter(|(_, its)| *its == parent);
        found.extend(children.map(|(process, _)| *process));
    }
    found.split_off(1)
}

/// The parent, by the text of a process's `stat`. Its name, in parentheses, may hold anything.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    Pid::from_raw(rest.split_whitespace().nth(1)?.parse().ok()?)
}

/// What was put into the tree for the command.
struct Placed {
    tree: OwnedFd,
    root: Option<Root>,
    /// Files of the image that say something else for as long as the command runs.
    overwritten: Vec<Overwritten>,
    /// Files that were made.
    files: Vec<PathBuf>,
    /// Names in /dev.
    nodes: Vec<&'static str>,
    /// /dev/shm was made.
    shm: bool,
}

struct Overwritten {
    path: PathBuf,
    inode: u64,
    content: Vec<u8>,
    times: Timestamps,
}

impl Placed {
    fn new(tree: OwnedFd) -> Result<Self, Failure> {
        let root = Root::new(tree.try_clone().during("open the root directory")?)?;
        Ok(Self {
            tree,
            root: Some(root),
            overwritten: Vec::new(),
            files: Vec::new(),
            nodes: Vec::new(),
            shm: false,
        })
    }

    fn fill(&mut self, spec: &RunSpec) -> Result<(), Failure> {
        let link = Link::default();
        for directory in ["/dev", "/proc", "/sys"] {
            self.make(directory, Want::Directory)?;
        }
        self.put(
            Path::new("/etc/hosts"),
            hosts(spec, &link)?.as_bytes(),
            0o644,
        )?;
        self.put(
            Path::new("/etc/resolv.conf"),
            &resolv_conf(spec, &link),
            0o644,
        )?;
        for mount in &spec.mounts {
            if let MountKind::Secret { content, mode, .. } = &mount.kind {
                self.put(&mount.target, &content.0, *mode)?;
            }
        }
        let stage = || "make devices";
        let dev = open_in(&self.tree, Path::new("/dev"), OFlags::DIRECTORY).stage(stage)?;
        for (name, major, minor) in DEVICES {
            let path = Path::new("/dev").join(name);
            if !self.is_missing(&path).stage(stage)? {
                continue;
            }
            self.make(&path, Want::File)?;
            rustix::fs::unlinkat(&dev, *name, AtFlags::empty()).stage(stage)?;
            let number = rustix::fs::makedev(*major, *minor);
            let mode = Mode::from_raw_mode(0o666);
            let made = rustix::fs::mknodat(&dev, *name, FileType::CharacterDevice, mode, number);
            made.map_err(|error| Failure {
                stage: format!("make {}", quoted(&path)),
                errno: Some(error.raw_os_error()),
                detail: match error {
                    Errno::PERM => "no device can be made in a user namespace".into(),
                    _ => String::new(),
                },
            })?;
            self.nodes.push(name);
            rustix::fs::chmodat(&dev, *name, mode, AtFlags::empty()).stage(stage)?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            rustix::fs::openat(&dev, *name, flags, Mode::empty()).map_err(|error| Failure {
                stage: format!("open {}", quoted(&path)),
                errno: Some(error.raw_os_error()),
                detail: "devices can't be opened on the store's file system, which is mounted \
                         `nodev`: put the store (`--root`) elsewhere"
                    .into(),
            })?;
        }
        if self.is_missing(Path::new("/dev/shm")).stage(stage)? {
            self.make("/dev/shm", Want::Directory)?;
            self.shm = true;
            let mode = Mode::from_raw_mode(0o1777);
            rustix::fs::chmodat(&dev, "shm", mode, AtFlags::empty()).stage(stage)?;
        }
        Ok(())
    }

    fn is_missing(&self, path: &Path) -> io::Result<bool> {
        match &self.root {
            Some(root) => Ok(root.existing(path)?.is_none()),
            None => Ok(false),
        }
    }

    fn make(&mut self, path: impl AsRef<Path>, want: Want) -> Result<OwnedFd, Failure> {
        let root = self.root.as_mut();
        root.ok_or_else(|| Failure::new("make files", "the root is closed"))?
            .target(path.as_ref(), want)
    }

    /// Writes a file, or over the image's own.
    fn put(&mut self, path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
        let stage = || format!("write {}", quoted(path));
        let missing = self.is_missing(path).stage(stage)?;
        let found = self.make(path, Want::File)?;
        let mut file = reopen(&found).stage(stage)?;
        let metadata = file.metadata().stage(stage)?;
        if !metadata.is_file() {
            return Err(Failure::new(stage(), "the image has something else there"));
        }
        if missing {
            self.files.push(path.to_owned());
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).stage(stage)?;
        } else {
            let mut before = Vec::new();
            file.read_to_end(&mut before).stage(stage)?;
            let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
            self.overwritten.push(Overwritten {
                path: path.to_owned(),
                inode: metadata.ino(),
                content: before,
                times: Timestamps {
                    last_access: time(metadata.atime(), metadata.atime_nsec()),
                    last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
                },
            });
        }
        file.set_len(0).stage(stage)?;
        file.write_all_at(content, 0).stage(stage)
    }

    /// Leaves the tree as the command has left it, but for empty files and directories where it had
    /// been given something: these are answered, deepest first.
    fn take_away(mut self) -> io::Result<Vec<PathBuf>> {
        for before in std::mem::take(&mut self.overwritten) {
            // One that the command has replaced is its own.
            let Some(mut file) = self.same(&before.path, Some(before.inode))? else {
                continue;
            };
            file.set_len(0)?;
            file.write_all(&before.content)?;
            rustix::fs::futimens(&file, &before.times)?;
        }
        for path in std::mem::take(&mut self.files) {
            if let Some(file) = self.same(&path, None)? {
                file.set_len(0)?;
                rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            }
        }
        if let Ok(dev) = open_in(&self.tree, Path::new("/dev"), OFlags::DIRECTORY) {
            for name in &self.nodes {
                let found = rustix::fs::statat(&dev, *name, AtFlags::SYMLINK_NOFOLLOW);
                let is_node = found.is_ok_and(|found| {
                    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
                });
                if is_node {
                    rustix::fs::unlinkat(&dev, *name, AtFlags::empty())?;
                    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    rustix::fs::openat(&dev, *name, flags, Mode::from_raw_mode(0o644))?;
                }
            }
            if self.shm && open_in(&dev, Path::new("shm"), OFlags::DIRECTORY).is_ok() {
                // Nothing runs any more that could put something else in its place.
                let path = PathBuf::from(format!("/proc/self/fd/{}/shm", dev.as_raw_fd()));
                std::fs::remove_dir_all(&path)?;
                rustix::fs::mkdirat(&dev, "shm", Mode::from_raw_mode(0o755))?;
            }
        }
        Ok(self
            .root
            .take()
            .map(|root| root.into_created().1)
            .unwrap_or_default())
    }

    /// The regular file at `path`, if it is still there, with this inode.
    fn same(&self, path: &Path, inode: Option<u64>) -> io::Result<Option<File>> {
        let found = match open_in(&self.tree, path, OFlags::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&found)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || inode.is_some_and(|inode| inode != stat.st_ino) {
            return Ok(None);
        }
        reopen(&found).map(Some)
    }
}

/// Opens what a mere reference names, for reading and writing. It is no device and no FIFO.
fn reopen(reference: &OwnedFd) -> io::Result<File> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(reference)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::other("it is no regular file"));
    }
    File::options()
        .read(true)
        .write(true)
        .open(super::mount::proc_path(reference.as_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        let parent = |stat: &str| parent_in(stat.as_bytes()).map(|pid| pid.as_raw_nonzero().get());
        assert_eq!(parent("7 (sh) S 3 7 7"), Some(3));
        assert_eq!(parent("7 (a) b) (c) R 12 7"), Some(12));
        assert_eq!(parent("7 sh S 3"), None);
        assert_eq!(parent(""), None);
    }
}
