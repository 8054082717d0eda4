//! The command's process, from the fork to the exec: who it is, what it may do, where it is.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::unistd::{Gid, Uid};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use super::protocol::{Failure, Report, Stage, quoted, send};
use super::{HookKind, RunSpec, capability, confinement};
use crate::sys;

/// Where programs are looked for if the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Exit codes that shells use.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// The command's standard streams.
#[derive(Debug)]
pub(super) enum Streams {
    /// stdout and stderr are in place already; stdin, or none.
    Given {
        /// Standard input.
        stdin: Option<OwnedFd>,
    },
    /// A terminal is all three.
    Terminal(OwnedFd),
}

/// Everything that is needed to become the command. It belongs to the process that starts the command's:
/// the two may share their memory, but not their descriptors.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub spec: &'a RunSpec,
    pub streams: &'a Streams,
    /// Files to write `0` to, to be in the sandbox's control groups.
    pub joins: &'a [OwnedFd],
    /// Show version 2 control groups.
    pub unified: bool,
    pub control: BorrowedFd<'a>,
}

impl Program<'_> {
    /// Becomes the command. Returns only on a failure, which is reported, with an exit status.
    pub(super) fn become_it(&self) -> i32 {
        let control = self.control;
        match self.prepare_and_exec() {
            Ok(status) => status,
            Err(failure) => {
                send(control, &Report::Failed(failure), &[]).ok();
                1
            }
        }
    }

    fn prepare_and_exec(&self) -> Result<i32, Failure> {
        let Self {
            spec,
            streams,
            joins,
            unified,
            ..
        } = *self;
        sys::unblock_signals();
        for join in joins {
            rustix::io::write(join, b"0").during("join the control group")?;
        }
        super::cgroup::enter_namespace();
        if unified {
            super::cgroup::show_unified();
        }
        rustix::process::setsid().during("start a session")?;
        connect(streams)?;
        for (name, (soft, hard)) in &spec.ulimits {
            limit(name, *soft, *hard)?;
        }
        if !spec.insecure {
            spec.confinement.narrow()?;
        }
        rustix::process::umask(Mode::from_raw_mode(0o022));
        enter(&spec.cwd, spec.credentials.uid, spec.credentials.gid)?;
        let has_home = spec.env.iter().any(|(name, _)| name == "HOME");
        let home = (!has_home).then(|| home(spec.credentials.uid));
        // Everything that comes from the spec is turned into C strings before the filter is on.
        let environment = environment(spec, home)?;
        let argv = spec
            .argv
            .iter()
            .map(|argument| c_string(argument.as_str(), "an argument"))
            .collect::<Result<Vec<_>, _>>()?;
        let filter = if spec.insecure {
            None
        } else {
            spec.confinement.filter()?
        };
        let hooks = super::hooks::ready(spec, HookKind::StartContainer, "created")?;
        spec.confinement.label()?;
        change_groups(spec)?;
        if !spec.insecure {
            spec.confinement.lock()?;
        }
        if let Some(filter) = &filter {
            confinement::install(filter)?;
        }
        change_user(spec)?;
        sys::close_from(3, true).during("mark descriptors close-on-exec")?;
        for hook in hooks {
            hook.run()?;
        }
        Ok(exec(spec, &argv, &environment))
    }
}

/// Puts the streams into place.
fn connect(streams: &Streams) -> Result<(), Failure> {
    match streams {
        Streams::Given { stdin } => {
            if let Some(stdin) = stdin {
                return sys::dup_onto(stdin.as_fd(), 0).during("connect stdin");
            }
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let nothing =
                rustix::fs::open("/dev/null", flags, Mode::empty()).during("open `/dev/null`")?;
            sys::dup_onto(nothing.as_fd(), 0).during("connect stdin")
        }
        Streams::Terminal(terminal) => {
            rustix::process::ioctl_tiocsctty(terminal).during("take the terminal")?;
            for target in 0..=2 {
                sys::dup_onto(terminal.as_fd(), target).during("connect the terminal")?;
            }
            Ok(())
        }
    }
}

/// Sets one resource limit.
fn limit(name: &str, soft: u64, hard: u64) -> Result<(), Failure> {
    let resource = match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return Err(Failure::new(format!("set limit `{name}`"), "no such limit")),
    };
    // As everywhere, the largest number means no limit.
    let value = |number: u64| (number != u64::MAX).then_some(number);
    rustix::process::setrlimit(
        resource,
        Rlimit {
            current: value(soft),
            maximum: value(hard),
        },
    )
    .stage(|| format!("set limit `{name}` to {soft}:{hard}"))
}

/// Goes to the working directory, which is made if missing and then belongs to the command's user.
fn enter(cwd: &Path, uid: u32, gid: u32) -> Result<(), Failure> {
    let stage = || format!("go to working directory {}", quoted(cwd));
    if let Err(error) = rustix::process::chdir(cwd) {
        if error != rustix::io::Errno::NOENT {
            return Err(error).stage(stage);
        }
        make(cwd, uid, gid).stage(|| format!("make working directory {}", quoted(cwd)))?;
        rustix::process::chdir(cwd).stage(stage)?;
    }
    // A working directory that the root doesn't hold would be a way out of the sandbox.
    let here = rustix::process::getcwd(Vec::new()).stage(stage)?;
    if here.as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(Failure::new(stage(), "it is outside the root file system"))
    }
}

/// Makes a directory and those above it that are missing.
fn make(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        std::fs::create_dir(path)?;
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// The home directory of `uid` by the root's passwd file, or `/`.
fn home(uid: u32) -> Vec<u8> {
    const LONGEST: u64 = 4 * 1024 * 1024;
    let read = || -> io::Result<Vec<u8>> {
        // The image may have put anything there, a FIFO or a device too.
        let file = rustix::fs::open(
            "/etc/passwd",
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Ok(Vec::new());
        }
        let mut content = Vec::new();
        file.take(LONGEST).read_to_end(&mut content)?;
        Ok(content)
    };
    home_in(&read().unwrap_or_default(), uid)
}

fn home_in(passwd: &[u8], uid: u32) -> Vec<u8> {
    passwd
        .split(|&byte| byte == b'\n')
        .find_map(|line| {
            let mut fields = line.split(|&byte| byte == b':');
            let number = std::str::from_utf8(fields.nth(2)?)
                .ok()?
                .parse::<u32>()
                .ok()?;
            let home = fields.nth(2)?;
            (number == uid && home.starts_with(b"/") && !home.contains(&0)).then(|| home.to_vec())
        })
        .unwrap_or_else(|| b"/".to_vec())
}

fn c_string(text: impl Into<Vec<u8>>, what: &str) -> Result<CString, Failure> {
    CString::new(text)
        .map_err(|_| Failure::new("start the command", format!("{what} holds a zero byte")))
}

fn environment(spec: &RunSpec, home: Option<Vec<u8>>) -> Result<Vec<CString>, Failure> {
    let mut list = Vec::with_capacity(spec.env.len() + 1);
    for (name, value) in &spec.env {
        list.push(c_string(
            format!("{name}={value}"),
            "an environment variable",
        )?);
    }
    if let Some(home) = home {
        list.push(c_string(
            [b"HOME=".as_slice(), &home].concat(),
            "the home directory",
        )?);
    }
    Ok(list)
}

/// Changes groups, while there is still the right to.
///
/// The command's own group is among the supplementary ones, too: a set-group-id program must not be a
/// way out of a group that files deny access to.
fn change_groups(spec: &RunSpec) -> Result<(), Failure> {
    let credentials = &spec.credentials;
    let others = credentials.groups.iter().copied();
    let others = others.filter(|group| *group != credentials.gid);
    let groups: Vec<Gid> = std::iter::once(credentials.gid)
        .chain(others)
        .map(Gid::from_raw)
        .collect();
    if let Err(error) = nix::unistd::setgroups(&groups) {
        // A user namespace with one id may not change groups at all: the command then keeps the
        // user's own, as the kernel insists.
        if !setgroups_denied() {
            let all: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
            return Err(unmapped(error, format!("set groups {all:?}")));
        }
    }
    let gid = Gid::from_raw(credentials.gid);
    nix::unistd::setresgid(gid, gid, gid)
        .map_err(|error| unmapped(error, format!("run as group {}", credentials.gid)))
}

fn change_user(spec: &RunSpec) -> Result<(), Failure> {
    let uid = Uid::from_raw(spec.credentials.uid);
    nix::unistd::setresuid(uid, uid, uid)
        .map_err(|error| unmapped(error, format!("run as user {uid}")))?;
    capability::clear_inheritable().during("drop capabilities")
}

fn unmapped(error: nix::errno::Errno, stage: String) -> Failure {
    let detail = if error == nix::errno::Errno::EINVAL {
        "the id is not mapped in this user namespace; give the user a range in /etc/subuid and \
         /etc/subgid, and install newuidmap and newgidmap"
    } else {
        ""
    };
    Failure {
        stage,
        errno: Some(error as i32),
        detail: detail.into(),
    }
}

fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

/// Starts the program; on a failure tells the command's stderr why, as a shell would, and gives
/// the status that a shell would give.
fn exec(spec: &RunSpec, argv: &[CString], environment: &[CString]) -> i32 {
    let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = environment.iter().map(CString::as_c_str).collect();
    let Some(program) = argv.first().copied() else {
        return complain(NOT_FOUND, "no command was given");
    };
    let name = program.to_string_lossy();
    if name.is_empty() {
        return complain(NOT_FOUND, "the command's name is empty");
    }
    if program.to_bytes().contains(&b'/') {
        let error = sys::exec(program, &argv, &environment);
        return explain(&name, program, &error);
    }
    let path = spec
        .env
        .iter()
        .rev()
        .find_map(|(name, value)| (name == "PATH").then_some(value.as_str()))
        .unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = [directory.as_bytes(), b"/", program.to_bytes()].concat();
        let Ok(candidate) = CString::new(candidate) else {
            continue;
        };
        let error = sys::exec(&candidate, &argv, &environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) if !exists(&candidate) => {}
            Some(libc::EACCES) => denied = denied.or(Some((candidate, error))),
            _ => return explain(&name, &candidate, &error),
        }
    }
    match denied {
        Some((candidate, error)) => explain(&name, &candidate, &error),
        None => complain(
            NOT_FOUND,
            &format!("`{name}` was not found in PATH ({path})"),
        ),
    }
}

fn exists(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok()
}

fn explain(name: &str, path: &CStr, error: &io::Error) -> i32 {
    let place = path.to_string_lossy();
    match error.raw_os_error() {
        Some(libc::ENOENT) if exists(path) => complain(
            NOT_FOUND,
            &format!("`{place}` can't start: the interpreter or loader it names is missing"),
        ),
        Some(libc::ENOENT | libc::ENOTDIR) => complain(
            NOT_FOUND,
            &format!("`{name}` does not exist in the root file system"),
        ),
        Some(libc::ENOEXEC) => complain(
            NOT_EXECUTABLE,
            &format!(
                "`{place}` is no program for this machine (and has no `#!` line); programs of other \
                 architectures need an emulator: see `strata doctor`"
            ),
        ),
        _ => complain(NOT_EXECUTABLE, &format!("can't start `{place}`: {error}")),
    }
}

fn complain(status: i32, text: &str) -> i32 {
    // stderr may be closed at the other end: the status still tells.
    rustix::io::write(
        rustix::stdio::stderr(),
        format!("strata: {text}\n").as_bytes(),
    )
    .ok();
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_first_entry_of_the_user() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad line\na:x:1000:1000::/home/a:/bin/sh\n\
                       b:x:1000:1000::/home/b:/bin/sh\nrel:x:7:7::home:/bin/sh";
        assert_eq!(home_in(passwd, 0), b"/root");
        assert_eq!(home_in(passwd, 1000), b"/home/a");
        assert_eq!(home_in(passwd, 7), b"/");
        assert_eq!(home_in(passwd, 5), b"/");
        assert_eq!(home_in(b"", 0), b"/");
    }
}
