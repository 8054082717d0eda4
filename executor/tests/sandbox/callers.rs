//! Callers of all sorts: killed ones, ordinary users, terminals.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Test;
use crate::basics::processes_with;
use crate::driver;
use crate::limits::left_groups;
use crate::support::Bench;

pub(crate) const TESTS: &[Test] = &[
    (
        "the_program_can_not_be_overwritten",
        the_program_can_not_be_overwritten,
    ),
    (
        "a_caller_killed_at_any_moment_leaves_nothing",
        a_caller_killed_at_any_moment,
    ),
    (
        "a_killed_caller_leaves_nothing",
        a_killed_caller_leaves_nothing,
    ),
    (
        "an_ordinary_user_with_ranges_runs_commands",
        an_ordinary_user_with_ranges,
    ),
    (
        "an_ordinary_user_with_one_id_runs_commands",
        an_ordinary_user_with_one_id,
    ),
    (
        "limits_without_delegation_say_so",
        limits_without_delegation_say_so,
    ),
    (
        "root_without_the_right_to_mount_uses_a_user_namespace",
        root_without_sys_admin,
    ),
    (
        "without_user_namespaces_the_reason_is_told",
        without_user_namespaces,
    ),
    ("a_covered_proc_is_explained", a_covered_proc_is_explained),
    (
        "streams_can_be_the_callers_own",
        streams_can_be_the_callers_own,
    ),
    ("a_terminal_is_a_terminal", a_terminal_is_a_terminal),
];

fn wait_for(mut condition: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn a_killed_caller_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let marker = format!("779.{}", std::process::id());
    let mut child = driver::command(scratch.path(), "hold", None)
        .arg(&marker)
        .spawn()
        .unwrap();
    let sleep = |marker: &str| {
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let text = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            text.starts_with(b"sleep") && processes_with(marker)
        })
    };
    assert!(wait_for(|| sleep(&marker)), "the command is up");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(wait_for(|| !processes_with(&marker)), "processes are left");
    assert!(
        wait_for(|| left_groups().is_empty()),
        "control groups are left: {:?}",
        left_groups()
    );
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !mounts.contains(scratch.path().to_str().unwrap()),
        "{mounts}"
    );
}

fn a_caller_killed_at_any_moment() {
    let scratch = tempfile::tempdir().unwrap();
    let marker = format!("780.{}", std::process::id());
    for round in 0..30 {
        let mut child = driver::command(scratch.path(), "hold", None)
            .arg(&marker)
            .env("TMPDIR", scratch.path())
            .spawn()
            .unwrap();
        // From before the sandbox's first process to well after its command's start.
        std::thread::sleep(Duration::from_micros(round * 1500));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(wait_for(|| !processes_with(&marker)), "processes are left");
    assert!(
        wait_for(|| left_groups().is_empty()),
        "control groups are left"
    );
    // The sandboxes' own processes: those that had nothing to run yet.
    let ours = |entry: &fs::DirEntry| {
        let line = fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        line.contains(scratch.path().to_str().unwrap())
    };
    let left = || {
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|entry| ours(&entry))
    };
    assert!(wait_for(|| !left()), "mounts are left");
}

/// The program behind a sandbox's processes: what a command that got hold of one would try to
/// overwrite.
fn the_program_can_not_be_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let marker = format!("781.{}", std::process::id());
    let mut child = driver::command(scratch.path(), "hold", None)
        .arg(&marker)
        .env("TMPDIR", scratch.path())
        .spawn()
        .unwrap();
    let parent = format!("PPid:\t{}\n", child.id());
    let mut program = None;
    let found = wait_for(|| {
        program = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let read = |name: &str| fs::read_to_string(entry.path().join(name));
            let ours = read("status").is_ok_and(|status| status.contains(&parent))
                && read("cmdline").is_ok_and(|line| line.starts_with("strata-sandbox"));
            let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
            let exe = entry.path().join("exe");
            ours.then(|| rustix::fs::open(exe, flags, rustix::fs::Mode::empty()).unwrap())
        });
        program.is_some()
    });
    assert!(found && wait_for(|| processes_with(&marker)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(wait_for(|| !processes_with(&marker)));
    // While it runs nobody can write to it. Now nobody runs it any more.
    let path = |descriptor: &OwnedFd| {
        format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(descriptor)
        )
    };
    let write = |path: &str| fs::OpenOptions::new().write(true).open(path);
    let mut answer = None;
    wait_for(|| {
        let error = write(&path(program.as_ref().unwrap())).unwrap_err();
        answer = error.raw_os_error();
        answer != Some(libc::ETXTBSY)
    });
    assert_eq!(answer, Some(libc::EROFS));
    write(scratch.path().join("driver").to_str().unwrap()).unwrap();
}

/// A directory of the user's own with a root file system in it.
fn user_directory(uid: u32) -> Bench {
    let bench = Bench::new();
    let give = |path: &Path| {
        std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap();
    };
    fs::set_permissions(bench.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for name in ["upper", "work"] {
        fs::remove_dir(bench.path(name)).unwrap();
    }
    let output = Command::new("find")
        .arg(bench.directory.path())
        .output()
        .unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        give(Path::new(line));
    }
    bench
}

/// Runs `script` as the user that the options of setpriv describe.
fn as_user(options: &[&str], uid: u32, inner_uid: u32, limit: &str, script: &str) -> Vec<String> {
    let bench = user_directory(uid);
    let output = driver::command(bench.directory.path(), "user", Some(options))
        .arg(bench.directory.path())
        .args([&inner_uid.to_string(), limit, script])
        .env("TMPDIR", bench.directory.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    text.lines()
        .chain(errors.lines())
        .map(ToOwned::to_owned)
        .collect()
}

/// A user with ranges of subordinate ids: name and number.
fn user_with_ranges() -> Option<(String, u32)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (users, groups, passwd) = (
        read("/etc/subuid"),
        read("/etc/subgid"),
        read("/etc/passwd"),
    );
    users.lines().find_map(|line| {
        let name = line.split(':').next()?;
        groups
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let entry = passwd
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let uid = entry.split(':').nth(2)?.parse().ok()?;
        (uid != 0).then(|| (name.to_owned(), uid))
    })
}

fn an_ordinary_user_with_ranges() {
    let Some((name, uid)) = user_with_ranges() else {
        assert!(std::env::var_os("STRATA_TEST_REQUIRE").is_none());
        println!(
            "  skipped: no user has ranges in /etc/subuid and /etc/subgid (useradd makes one)"
        );
        return;
    };
    let id = uid.to_string();
    let options = [
        "--reuid",
        &id,
        "--regid",
        &id,
        "--init-groups",
        "--reset-env",
    ];
    let script = "id -u; id -G; touch /root/x && chown 1000:1000 /root/x && stat -c %u /root/x; \
                  rm /etc/group; ls /dev/null /dev/pts/ptmx; touch /proc/sys/vm/swappiness; \
                  grep -c NoNewPrivs:.0 /proc/self/status; head -c1 /dev/zero | wc -c";
    let lines = as_user(&options, uid, 0, "-", script);
    assert!(
        lines[0].starts_with("mapping: user namespace with 65537"),
        "{name}: {lines:?}"
    );
    assert_eq!(
        lines[1..8],
        ["0", "0", "1000", "/dev/null", "/dev/pts/ptmx", "1", "1"],
        "{lines:?}"
    );
    assert!(lines[8].contains("Read-only"), "{lines:?}");
    assert_eq!(lines[9], "Exit(0)", "{lines:?}");
    let lines = as_user(&options, uid, 1000, "-", "id -u; id -g; id -G; echo $HOME");
    assert_eq!(
        lines[1..],
        ["1000", "1000", "1000", "/home/user", "Exit(0)"],
        "{lines:?}"
    );
}

/// Nobody has this number.
const STRANGER: u32 = 54_321;
const AS_STRANGER: &[&str] = &["--reuid", "54321", "--regid", "54321", "--clear-groups"];

fn an_ordinary_user_with_one_id() {
    let script = "id -u; id -g; touch /root/x && echo made; chown 1 /root/x; rm /etc/group; \
                  ls /dev/pts/ptmx; cat /proc/self/setgroups";
    let lines = as_user(AS_STRANGER, STRANGER, 0, "-", script);
    assert!(
        lines[0].starts_with("mapping: user namespace with one id, because"),
        "{lines:?}"
    );
    assert!(lines[0].contains("no range for user 54321"), "{lines:?}");
    assert_eq!(
        lines[1..6],
        ["0", "0", "made", "/dev/pts/ptmx", "deny"],
        "{lines:?}"
    );
    assert!(lines[6].contains("Invalid argument"), "{lines:?}");
    // Another user doesn't exist there: said, with the way out.
    let lines = as_user(AS_STRANGER, STRANGER, 1000, "-", "true");
    assert!(
        lines[1].contains("not mapped") && lines[1].contains("/etc/subuid"),
        "{lines:?}"
    );
}

fn limits_without_delegation_say_so() {
    let lines = as_user(AS_STRANGER, STRANGER, 0, "memory", "true");
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let way_out = if unified { "Delegate=yes" } else { "as root" };
    assert!(
        lines[1].contains("control group") && lines[1].contains(way_out),
        "{lines:?}"
    );
}

/// Such as root of a container: all rights over files, none to mount.
const NO_MOUNTS: &[&str] = &["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];

fn root_without_sys_admin() {
    let script = "id -u; chown 1000 /root && stat -c %u /root";
    let lines = as_user(NO_MOUNTS, 0, 0, "-", script);
    assert!(
        lines[0].starts_with("mapping: user namespace with 4294967295"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["0", "1000", "Exit(0)"], "{lines:?}");
}

fn without_user_namespaces() {
    let bench = user_directory(0);
    // In a user namespace of its own that may make no further ones.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut inner = driver::command(bench.directory.path(), "user", Some(NO_MOUNTS));
    inner.arg(bench.directory.path()).args(["0", "-", "true"]);
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("max_user_namespaces"), "{output:?}");
}

fn a_covered_proc_is_explained() {
    let bench = user_directory(STRANGER);
    // As in a container whose engine covers parts of /proc.
    let script = "mount -t tmpfs none /proc/acpi 2>/dev/null || mount --bind /dev/null /proc/keys \
                  || mount --bind /dev/null /proc/kcore; exec \"$@\"";
    let mut inner = driver::command(bench.directory.path(), "user", Some(AS_STRANGER));
    inner.arg(bench.directory.path()).args(["0", "-", "true"]);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("TMPDIR", bench.directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("mount proc on `/proc`"), "{output:?}");
    assert!(text.contains("covered in part"), "{output:?}");
}

fn streams_can_be_the_callers_own() {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = driver::command(scratch.path(), "inherit", None)
        .arg("cat; echo err >&2; exit 6")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"through\n", "{output:?}");
    assert_eq!(output.stderr, b"err\n", "{output:?}");
    assert_eq!(output.status.code(), Some(6));
}

/// Reads what a terminal shows until `wanted` appears or it ends.
fn read_until(master: &OwnedFd, shown: &mut String, wanted: &str) -> bool {
    let mut file = fs::File::from(master.try_clone().unwrap());
    let mut buffer = [0; 1024];
    while !shown.contains(wanted) {
        let mut events = [rustix::event::PollFd::new(
            &file,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut events, Some(&limit)).unwrap() == 0 {
            return false;
        }
        match file.read(&mut buffer) {
            Ok(length) if length > 0 => {
                shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
            _ => return false,
        }
    }
    true
}

fn a_terminal_is_a_terminal() {
    let scratch = tempfile::tempdir().unwrap();
    let pty = nix::pty::openpty(None, None).unwrap();
    let size = |rows, cols| rustix::termios::Winsize {
        ws_row: rows,
        ws_col: cols,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&pty.master, size(33, 77)).unwrap();
    let before = rustix::termios::tcgetattr(&pty.slave).unwrap();
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let script = "tty; stty size; while test \"$(stty size)\" != '44 88'; do sleep 0.05; done; \
                  echo resized; read x; echo got $x; \
                  trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = driver::command(scratch.path(), "terminal", None)
        .arg(script)
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let mut shown = String::new();
    assert!(read_until(&pty.master, &mut shown, "33 77"), "{shown}");
    assert!(shown.contains("/dev/pts/0"), "{shown}");
    let raw = rustix::termios::tcgetattr(&pty.slave).unwrap();
    assert!(
        !raw.local_modes
            .contains(rustix::termios::LocalModes::ICANON)
    );
    let write = |bytes: &[u8]| {
        rustix::io::write(pty.master.as_fd(), bytes).unwrap();
    };
    rustix::termios::tcsetwinsize(&pty.master, size(44, 88)).unwrap();
    // This pty is not the driver's controlling terminal, so the kernel tells nobody.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
        nix::sys::signal::Signal::SIGWINCH,
    )
    .unwrap();
    assert!(read_until(&pty.master, &mut shown, "resized"), "{shown}");
    write(b"hello\r");
    assert!(read_until(&pty.master, &mut shown, "got hello"), "{shown}");
    assert!(read_until(&pty.master, &mut shown, "ready"), "{shown}");
    // Ctrl-C is the command's.
    write(&[3]);
    assert!(
        read_until(&pty.master, &mut shown, "interrupted"),
        "{shown}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(5), "{shown}");
    let after = rustix::termios::tcgetattr(&pty.slave).unwrap();
    assert_eq!(
        after.local_modes, before.local_modes,
        "the terminal is as it was"
    );
}
