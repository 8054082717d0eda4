//! Steps that don't end by themselves, or not alone: whatever they do, nothing of them is left when the
//! build ends, is cancelled, or is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::support::world::World;
use crate::support::{Gate, Running, Sandbox, Who, cases, run_case, skip, wait_until};

cases! { Root, User =>
    nothing_is_left_of_a_build_that_is_cancelled,
    nothing_is_left_of_a_build_that_is_killed,
    nothing_is_left_of_an_isolated_network,
    nothing_is_left_of_a_step_that_ends,
    a_flood_of_output_takes_no_memory,
}

/// A kind of step. All say `at-it` once they are at it.
struct Runaway {
    name: &'static str,
    script: &'static str,
    /// Flags that bound it, for root and for others, who may have no control groups. Without one that says
    /// so, it has the host's network.
    flags: [&'static [&'static str]; 2],
    /// It goes on when it is asked to end, and says `not-now`.
    stubborn: bool,
}

const NETWORK: &str = "--network=none";

const RUNAWAYS: &[Runaway] = &[
    Runaway {
        name: "never ends",
        script: "trap 'echo not\"\"-now' TERM INT HUP; echo at''-it; while :; do sleep 1000 & wait; done",
        flags: [&[NETWORK, "--pids-limit=50"], &[NETWORK]],
        stubborn: true,
    },
    Runaway {
        name: "makes daemons",
        script: "trap '' TERM INT HUP\n\
                 for i in 1 2 3; do setsid sh -c '(setsid sleep 1000 &) &' > /dev/null 2>&1; done\n\
                 setsid sh -c 'while :; do sleep 1000; done' & trap 'echo not\"\"-now' TERM\n\
                 echo at''-it; while :; do wait; done",
        flags: [&[NETWORK, "--memory=64m"], &[NETWORK]],
        stubborn: true,
    },
    Runaway {
        name: "forks for ever",
        script: "echo at''-it; (b() { b | b & }; b) 2> /dev/null; exec sleep 1000",
        flags: [&[NETWORK, "--pids-limit=60"], &["--ulimit=nproc=60"]],
        stubborn: false,
    },
    Runaway {
        name: "eats memory",
        script: "echo at''-it; while :; do sh -c 'x=aaaaaaaa; while :; do x=$x$x; done' 2> /dev/null; done",
        flags: [
            &["--memory=48m", "--memory-swap=48m"],
            &["--ulimit=data=60000000", NETWORK],
        ],
        stubborn: false,
    },
    Runaway {
        name: "writes for ever",
        script: "echo at''-it; yes a line that does not end > /dev/stderr & exec yes another",
        flags: [&["--cpus=0.5"], &[]],
        stubborn: false,
    },
];

/// What a running build has of its own.
struct Own {
    /// With the times at which they were started: numbers are given anew.
    processes: BTreeMap<u32, String>,
    /// Links of `/proc/PROCESS/ns`.
    namespaces: BTreeSet<PathBuf>,
}

/// Those that a process has left when it has ended, though nobody may have asked yet how.
const KINDS: [&str; 4] = ["pid", "mnt", "net", "ipc"];

fn namespaces(process: &Path) -> BTreeSet<PathBuf> {
    let links = KINDS.iter().map(|kind| process.join("ns").join(kind));
    links.filter_map(|link| fs::read_link(link).ok()).collect()
}

/// Namespaces that a process holds without being in them: by descriptors, and mounted somewhere.
fn held(process: &Path) -> BTreeSet<PathBuf> {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
    let links = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
    let mounted = roots.filter(|root| root.contains(":[")).map(PathBuf::from);
    links.chain(mounted).collect()
}

/// When a process was started, if it is there and not a zombie that somebody has yet to ask for.
fn started(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit(") ").next()?.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18).unwrap_or_default().to_owned())
}

/// All processes by their parents.
fn children() -> BTreeMap<u32, Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything.
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(process);
        }
    }
    children
}

impl Own {
    /// `world`, if it runs on another host than this.
    fn of(running: &Running, world: Option<&World>) -> Self {
        let children = children();
        let mut processes = BTreeMap::new();
        let mut ahead = vec![u32::try_from(running.pid().as_raw()).unwrap()];
        while let Some(process) = ahead.pop() {
            processes.extend(started(process).map(|time| (process, time)));
            ahead.extend(children.get(&process).into_iter().flatten());
        }
        let mut ours = namespaces(Path::new("/proc/self"));
        ours.extend(world.map(|world| fs::read_link(world.path()).unwrap()));
        let theirs = processes
            .keys()
            .flat_map(|process| namespaces(&PathBuf::from(format!("/proc/{process}"))));
        let namespaces: BTreeSet<_> = theirs.filter(|link| !ours.contains(link)).collect();
        // The sandbox is up.
        assert!(
            processes.len() > 3 && namespaces.len() > 2,
            "{processes:?} {namespaces:?}"
        );
        if world.is_some() {
            assert!(namespaces.iter().any(|link| is_network(link)));
        }
        Self {
            processes,
            namespaces,
        }
    }

    /// Processes of it, and others that are in one of its namespaces or hold one.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let is_its = |entry: &fs::DirEntry| {
            let number = entry.file_name().to_str().and_then(|it| it.parse().ok());
            let process = number.and_then(|number| Some((number, self.processes.get(&number)?)));
            process.is_some_and(|(number, time)| started(number).as_ref() == Some(time))
        };
        entries
            .filter(|entry| {
                let path = entry.path();
                is_its(entry)
                    || !namespaces(&path).is_disjoint(&self.namespaces)
                    || !held(&path).is_disjoint(&self.namespaces)
            })
            .map(|entry| fs::read_to_string(entry.path().join("comm")).unwrap_or_default())
            .collect()
    }

    /// Control groups of one of its processes.
    fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut ahead = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(directory) = ahead.pop() {
            // Others' come and go.
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    let process = name
                        .strip_prefix("strata-")
                        .and_then(|rest| rest.split('-').next());
                    let process = process.and_then(|process| process.parse().ok());
                    if process.is_some_and(|process| self.processes.contains_key(&process)) {
                        found.push(entry.path());
                    }
                    ahead.push(entry.path());
                }
            }
        }
        found
    }

    /// Waits until nothing is left.
    #[track_caller]
    fn is_gone(&self, sandbox: &Sandbox, what: &str) {
        wait_until(
            &format!("{what}: its processes and namespaces are gone"),
            || self.left().is_empty(),
        );
        wait_until(&format!("{what}: its control groups are gone"), || {
            self.groups().is_empty()
        });
        assert_eq!(sandbox.mounts(), Vec::<String>::new(), "{what}");
        assert_eq!(sandbox.processes(), Vec::<String>::new(), "{what}");
    }
}

fn is_network(link: &Path) -> bool {
    link.to_str().is_some_and(|link| link.starts_with("net:["))
}

/// Starts a build of the step; it is at it.
fn start(sandbox: &Sandbox, runaway: &Runaway) -> (Running, Own) {
    start_on(sandbox, runaway, None)
}

/// The same on another host, if given, and with this network then.
fn start_on(
    sandbox: &Sandbox,
    runaway: &Runaway,
    network: Option<(&World, &str)>,
) -> (Running, Own) {
    let script = runaway.script;
    sandbox.dockerfile(&format!("FROM busybox\nRUN <<'EOT'\n{script}\nEOT\n"));
    let flags = runaway.flags[usize::from(sandbox.who() != Who::Root)];
    let mut strata = sandbox.strata().args(["build", "--progress=plain"]);
    let mut running = match network {
        None => strata.args(flags).arg(sandbox.context()).spawn(),
        Some((world, network)) => {
            let flags = flags.iter().filter(|flag| **flag != NETWORK);
            strata = strata
                .args(flags)
                .args(["--no-cache", "--network", network]);
            world.on_host(|| strata.arg(sandbox.context()).spawn())
        }
    };
    running.wait_for_line("at-it");
    let own = Own::of(&running, network.map(|(world, _)| world));
    if flags
        .iter()
        .any(|flag| flag.contains("limit=") || flag.contains("memory="))
        && sandbox.who() == Who::Root
    {
        assert!(!own.groups().is_empty(), "{}", runaway.name);
    }
    (running, own)
}

fn nothing_is_left_of_a_build_that_is_cancelled(sandbox: &Sandbox) {
    sandbox.busybox();
    for runaway in RUNAWAYS {
        let (mut running, own) = start(sandbox, runaway);
        running.signal_group(Signal::SIGINT);
        if runaway.stubborn {
            running.wait_for_line("not-now");
            running.signal_group(Signal::SIGINT);
        }
        running.wait().failure(130);
        own.is_gone(sandbox, runaway.name);
    }
    sandbox.dockerfile("FROM busybox\nRUN true\n");
    sandbox.steps(&[]);
    let check = sandbox.run(&["cache", "verify", "--format", "json"]).json();
    assert_eq!(check["leftovers"], 0, "{check}");
}

fn nothing_is_left_of_a_build_that_is_killed(sandbox: &Sandbox) {
    sandbox.busybox();
    for runaway in RUNAWAYS {
        let (running, own) = start(sandbox, runaway);
        running.signal(Signal::SIGKILL);
        running.wait();
        own.is_gone(sandbox, runaway.name);
    }
    sandbox.dockerfile("FROM busybox\nRUN true\n");
    sandbox.steps(&[]);
    let check = sandbox.run(&["cache", "verify", "--format", "json"]).json();
    assert_eq!(check["leftovers"], 0, "{check}");
}

/// Nor of the program that is its way out.
fn nothing_is_left_of_an_isolated_network(sandbox: &Sandbox) {
    sandbox.busybox();
    let world = match World::new(sandbox) {
        Ok(world) => world,
        Err(reason) => return skip(&reason),
    };
    for (network, signal) in [
        ("pasta", Signal::SIGKILL),
        ("slirp4netns", Signal::SIGINT),
        ("none", Signal::SIGKILL),
    ] {
        for runaway in RUNAWAYS {
            let what = format!("{}, with the network {network}", runaway.name);
            let (mut running, own) = start_on(sandbox, runaway, Some((&world, network)));
            let helper = own.processes.keys().any(|process| {
                let line = fs::read_to_string(format!("/proc/{process}/cmdline"));
                let program = line.unwrap_or_default();
                let program = program.split('\0').next().unwrap_or_default();
                program.rsplit('/').next() == Some(network)
            });
            assert_eq!(helper, network != "none", "{what}");
            if signal == Signal::SIGKILL {
                running.signal(signal);
                running.wait();
            } else {
                running.signal_group(signal);
                if runaway.stubborn {
                    running.wait_for_line("not-now");
                    running.signal_group(signal);
                }
                running.wait().failure(130);
            }
            own.is_gone(sandbox, &what);
        }
    }
}

fn nothing_is_left_of_a_step_that_ends(sandbox: &Sandbox) {
    sandbox.busybox();
    // The command ends well; what it started would not.
    for daemons in [
        "sleep 1000 & sleep 1000 &",
        "(setsid sleep 1000 &); setsid sh -c '(trap \"\" TERM HUP INT; sleep 1000) &'",
        "trap '' TERM; (while :; do sleep 1000; done) & disown 2> /dev/null; nohup sleep 1000 > /dev/null &",
        // Stopped, and waiting in the kernel.
        "sleep 1000 & kill -STOP $!; mkfifo /tmp/fifo; cat /tmp/fifo &",
    ] {
        let gate = Gate::new();
        let command = gate.command();
        let line = format!("echo at''-it; {daemons}\n{command}\nrm -f /tmp/fifo");
        sandbox.dockerfile(&format!("FROM busybox\nRUN <<'EOT'\n{line}\nEOT\n"));
        let strata = sandbox.strata().args(["build", "--progress=plain"]);
        let running = strata.arg(sandbox.context()).spawn();
        let waiting = gate.wait();
        let own = Own::of(&running, None);
        waiting.open();
        running.wait().success();
        own.is_gone(sandbox, daemons);
    }
}

fn a_flood_of_output_takes_no_memory(sandbox: &Sandbox) {
    flood(sandbox, 60_000_000);
}

#[test]
#[ignore = "takes a minute: `make test-flood`"]
fn a_gigabyte_of_output_takes_no_memory() {
    run_case(Who::Root, |sandbox| flood(sandbox, 500_000_000));
}

/// So many bytes in lines as long as those of a minified script, and as many without an end of line.
fn flood(sandbox: &Sandbox, bytes: u64) {
    sandbox.busybox();
    let gate = Gate::new();
    let line = "0123456789abcdef".repeat(1000);
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN yes {line} | head -c {bytes}; head -c {bytes} /dev/zero; {}\n",
        gate.command()
    ));
    let strata = sandbox.strata().args(["build", "--progress=plain"]);
    let running = strata.arg(sandbox.context()).spawn_unread();
    let waiting = gate.wait_long();
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    waiting.open();
    running.wait().success();
    let most = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let most: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(most < 100_000, "{most} kB");
}
