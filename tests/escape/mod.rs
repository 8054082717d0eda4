//! Attempts to get out of the sandbox. Each has to fail, and to work once its wall is taken away:
//! a probe that fails for a reason of its own shows nothing.
//!
//! `probe.c` makes the attempts; [`attempts`] is the table of them. [`paths`] has those that are made
//! of instructions, contexts, images and archives.

mod attempts;
mod paths;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use self::attempts::{ALL, Attempt};
use crate::support::{Sandbox, Strata, Who, cases, run, skip};

cases! { Root, User =>
    every_attempt_fails_and_would_work_without_its_wall,
    a_build_step_has_the_walls_of_a_run,
    the_program_behind_the_sandbox_can_not_be_changed,
    signals_to_everybody_stay_inside,
    set_id_programs_of_layers_are_out_of_reach,
}

/// Where an attempt works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Control {
    /// In a sandbox with these flags.
    Flags(&'static [&'static str]),
    /// In one that has the host's network.
    HostNetwork,
    /// In a privileged one.
    Privileged,
    /// Outside, as the tests' own user.
    Outside,
    /// Outside, in a directory that is its root, and nothing more.
    Chroot,
    /// Outside, with a descriptor that nobody closed. The attempt is made with such a one, too.
    Leak,
    /// Outside, in a terminal.
    Terminal,
}

/// An errno, 0, or a signal below zero.
type Results = BTreeMap<String, i32>;

/// What attempts reach for, and what makes them.
struct World<'a> {
    sandbox: &'a Sandbox,
    directory: PathBuf,
    server: Child,
    variables: Vec<(&'static str, String)>,
}

impl<'a> World<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        sandbox.busybox().dockerfile("FROM busybox\n");
        sandbox.steps(&["-t", "it"]);
        let directory = sandbox.path("probe");
        fs::create_dir_all(directory.join("tmp")).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/escape/probe.c");
        run(Command::new("cc")
            .args(["-static", "-O1", "-o"])
            .arg(directory.join("probe"))
            .arg(source));
        let file = directory.join("outside");
        fs::write(&file, "outside").unwrap();
        for path in [&directory, &directory.join("probe")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let name = directory.display().to_string();
        let mut variables = vec![
            ("OUTSIDE_FILE", file.display().to_string()),
            ("OUTSIDE_NAME", name),
            ("OUTSIDE_KEY", std::process::id().to_string()),
        ];
        let mut server = Command::new(directory.join("probe"))
            .arg("serve")
            .envs(variables.clone())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut port)
            .unwrap();
        variables.push(("OUTSIDE_PORT", port.trim().to_owned()));
        variables.push(("OUTSIDE_PID", server.id().to_string()));
        Self {
            sandbox,
            directory,
            server,
            variables,
        }
    }

    /// Results of attempts in a sandbox with these flags.
    fn inside(&self, flags: &[&str], names: &[&str]) -> Results {
        let mut strata = self.sandbox.strata().arg("run").args(flags);
        for (name, value) in &self.variables {
            strata = strata.args(["-e", &format!("{name}={value}")]);
        }
        let volume = format!("{}:/probe:ro", self.directory.display());
        let output = strata
            .args(["-v", &volume, "it", "/probe/probe"])
            .args(names)
            .output()
            .success();
        read(&output.stdout)
    }

    /// Results of attempts without a sandbox.
    fn outside(&self, mut command: Command) -> Results {
        command.envs(self.variables.clone());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        read(&String::from_utf8(output.stdout).unwrap())
    }

    fn control(&self, control: Control, flags: &[&str], names: &[&str]) -> Results {
        let probe = self.directory.join("probe");
        let mut command = Command::new(&probe);
        match control {
            Control::Flags(more) => return self.inside(&[flags, more].concat(), names),
            Control::HostNetwork => return self.inside(&[], names),
            Control::Privileged => {
                return self.inside(&[flags, &["--privileged"]].concat(), names);
            }
            Control::Outside => {}
            Control::Leak => {
                let leak = leak();
                let results = self.outside(with_args(command, names));
                drop(leak);
                return results;
            }
            Control::Chroot => {
                command = Command::new("chroot");
                command.arg(&self.directory).arg("/probe");
            }
            Control::Terminal => {
                let line = format!("{} {}", probe.display(), names.join(" "));
                command = Command::new("script");
                command.args(["-qec", &line, "/dev/null"]);
                return self.outside(command);
            }
        }
        self.outside(with_args(command, names))
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        // The end of its input.
        drop(self.server.stdin.take());
        self.server.wait().ok();
    }
}

fn with_args(mut command: Command, names: &[&str]) -> Command {
    command.args(names);
    command
}

/// A descriptor that programs started from here inherit.
fn leak() -> fs::File {
    let file = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    assert!(file.as_raw_fd() > 2);
    file
}

fn read(text: &str) -> Results {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (name, result) = line.trim().split_once(' ').unwrap();
            (name.to_owned(), result.parse().unwrap())
        })
        .collect()
}

/// Whether the answer is that of a kernel that has not what was asked for.
fn lacks(attempt: &Attempt, error: i32) -> bool {
    match error {
        libc::ENOENT | libc::ENODEV | libc::ENOSYS | libc::ENODATA | libc::EOPNOTSUPP => {
            attempt.may_lack
        }
        // Some hypervisors' machines keep even their root from their disks' numbers.
        libc::EPERM => attempt.may_lack && attempt.name == "device_disk",
        _ => false,
    }
}

#[expect(clippy::print_stderr, reason = "what a kernel lacks should be seen")]
fn every_attempt_fails_and_would_work_without_its_wall(sandbox: &Sandbox) {
    let world = World::new(sandbox);
    let column = usize::from(sandbox.who() != Who::Root);
    // Attempts that are made alike are made at once.
    let mut made: BTreeMap<&[&str], Vec<&Attempt>> = BTreeMap::new();
    let mut controls: BTreeMap<(Control, &[&str]), Vec<&Attempt>> = BTreeMap::new();
    for attempt in ALL {
        made.entry(attempt.flags).or_default().push(attempt);
        let key = (attempt.controls[column], attempt.flags);
        controls.entry(key).or_default().push(attempt);
    }
    let names = |attempts: &[&Attempt]| -> Vec<&'static str> {
        attempts.iter().map(|attempt| attempt.name).collect()
    };
    let leak = leak();
    let mut wrong = Vec::new();
    for (flags, attempts) in &made {
        let results = world.inside(flags, &names(attempts));
        for attempt in attempts {
            // Whatever the answer is, it is an error.
            if results[attempt.name] <= 0 {
                wrong.push(format!("worked ({}): {attempt:?}", results[attempt.name]));
            }
        }
    }
    drop(leak);
    let mut shown = 0;
    for ((control, flags), attempts) in &controls {
        let root = rustix::process::geteuid().is_root();
        if !root
            && !matches!(
                control,
                Control::Flags(_) | Control::Privileged | Control::HostNetwork
            )
        {
            skip("what attempts do outside of a sandbox has to be done by root");
            return;
        }
        let results = world.control(*control, flags, &names(attempts));
        for attempt in attempts {
            match results[attempt.name] {
                0 => shown += 1,
                error if lacks(attempt, error) => {
                    eprintln!("this kernel has nothing for {}: {error}", attempt.name);
                }
                error => wrong.push(format!("its control fails ({error}): {attempt:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(shown >= 80, "only {shown} attempts are possible here");
}

fn a_build_step_has_the_walls_of_a_run(sandbox: &Sandbox) {
    let world = World::new(sandbox);
    fs::copy(
        world.directory.join("probe"),
        sandbox.context().join("probe"),
    )
    .unwrap();
    let names: Vec<&str> = ALL
        .iter()
        .filter(|attempt| attempt.flags.is_empty())
        .map(|attempt| attempt.name)
        .collect();
    let line = names.join(" ");
    let mut arguments = String::new();
    for (name, value) in &world.variables {
        arguments += &format!("ARG {name}={value}\n");
    }
    let image = sandbox.build(&format!(
        "FROM busybox\nCOPY --chmod=755 probe /probe\n{arguments}RUN /probe {line} > /out\n"
    ));
    let step = read(&image.tree().text("out"));
    let run = world.inside(&[], &names);
    assert_eq!(step, run);
    assert_eq!(step.len(), names.len());
}

/// As an attack on other engines did: a command gets hold of the program behind the sandbox's
/// processes and writes to it, for the next who starts it.
fn the_program_behind_the_sandbox_can_not_be_changed(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\n");
    sandbox.steps(&["-t", "it"]);
    // Of the user's own, so that nothing but the sandbox keeps it from being written to.
    let own = sandbox.path("home/strata");
    fs::copy(sandbox.binary(), &own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.hand_over(&own);
    let before = fs::read(&own).unwrap();
    let attempt = "chmod 700 /proc/1/exe; echo x >> /proc/1/exe; echo x > /proc/1/exe; echo end";
    // With all rights: otherwise it can't even be named.
    let attempted = |flags: &[&str]| {
        let strata = Strata::of(sandbox, &own).arg("run").args(flags);
        strata.args(["it", "sh", "-c", attempt]).output().success()
    };
    let said = attempted(&["--privileged"]);
    let refused = said.stderr.matches("Read-only file system").count();
    assert!(refused >= 2, "{said}");
    attempted(&[]).says("Permission denied");
    assert_eq!(fs::read(&own).unwrap(), before);
    let mode = || fs::metadata(&own).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o755);
    // Outside the user may, and there is no other wall.
    let account = sandbox.account();
    let line = format!("{0} --version; chmod 700 {0}; echo x >> {0}", own.display());
    let mut command = Command::new("sh");
    if !account.is_me() {
        command.uid(account.uid).gid(account.gid);
    }
    run(command.args(["-c", &line]));
    assert_eq!(mode(), 0o700);
    assert_ne!(fs::read(&own).unwrap(), before);
}

fn signals_to_everybody_stay_inside(sandbox: &Sandbox) {
    let mut world = World::new(sandbox);
    let said = sandbox
        .strata()
        .args(["run", "it", "sh", "-c"])
        .arg("sleep 1000 & kill -9 -1; kill -9 1; kill -9 $PPID; wait; echo alive")
        .output();
    assert_eq!(said.success().stdout, "alive\n");
    assert!(world.server.try_wait().unwrap().is_none());
    // In a namespace with it, the same ends everything but the sender.
    let order = "sleep 1000 & kill -9 -1; wait; echo alive; kill -0 $! 2> /dev/null || echo gone";
    let control = run(Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
        ])
        .args(["--mount-proc", "sh", "-c", order]));
    assert_eq!(control, "alive\ngone\n");
}

/// A set-id program that a build leaves in the store would be one of this machine.
fn set_id_programs_of_layers_are_out_of_reach(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox
        .dockerfile("FROM busybox\nRUN mkdir /d && cp /bin/busybox /d && chmod 6755 /d/busybox\n");
    sandbox.steps(&[]);
    let found = run(Command::new("find")
        .arg(sandbox.path("store"))
        .args(["-name", "busybox", "-perm", "-6000"]));
    let program = found.trim();
    assert!(!program.is_empty() && !program.contains('\n'), "{found}");
    if !rustix::process::geteuid().is_root() {
        skip("only root can start a program as somebody else");
        return;
    }
    // As nobody in particular.
    let start = |program: &str| {
        Command::new("setpriv")
            .args(["--reuid=64999", "--regid=64999", "--clear-groups"])
            // What starts it must have no rights left from before.
            .args(["sh", "-c", "exec \"$0\" true", program])
            .output()
            .unwrap()
    };
    assert!(!start(program).status.success());
    // The store's own directories are what holds.
    let open = sandbox.path("out/busybox");
    run(Command::new("cp").args(["-a", program]).arg(&open));
    assert!(start(open.to_str().unwrap()).status.success());
}
