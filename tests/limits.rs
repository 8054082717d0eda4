//! Limits on memory, processors and processes, by control group.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Delegated, Gate, Output, Running, Sandbox, cases, skip, wait_until};

cases! { Root =>
    a_memory_limit_holds,
    swap_is_limited_with_memory,
    a_limit_of_processes_holds,
    a_limit_of_processors_is_set,
    a_quota_of_processors_takes_effect,
    shares_of_processors_take_effect,
    rates_of_disks_take_effect,
    memory_nodes_are_those_asked_for,
    limits_hold_for_build_steps,
    shares_and_sets_of_processors_are_set,
    the_given_control_group_holds_those_of_sandboxes,
    rates_of_disks_are_set,
    a_killed_run_leaves_no_control_group,
    what_a_dead_sandbox_left_is_removed_by_the_next,
}

cases! { User =>
    limits_hold_in_a_part_of_the_tree_that_was_handed_over,
    limits_on_that_part_hold_for_the_sandbox,
    without_such_a_part_the_way_out_is_told,
}

/// An image named `it`.
fn image(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\n");
    sandbox.steps(&["-t", "it"]);
}

/// `strata run` of a shell command with these flags, whatever its result; in `groups`, if any.
fn runs(sandbox: &Sandbox, groups: &[PathBuf], flags: &[&str], command: &str) -> Output {
    let strata = sandbox.strata().within(sandbox, groups).arg("run");
    strata
        .args(flags)
        .args(["it", "sh", "-c", command])
        .output()
}

/// Uses 100 MB of memory at once.
const EAT: &str = "dd if=/dev/zero of=/dev/null bs=100000000 count=1 2> /dev/null && echo survived";

/// Starts 40 processes and prints how many there are.
const MANY: &str =
    "for i in $(seq 40); do sleep 50 & done 2> /dev/null; jobs | wc -l; kill $(jobs -p)";

#[track_caller]
fn memory_is_limited(sandbox: &Sandbox, groups: &[PathBuf]) {
    let killed = runs(sandbox, groups, &["--memory", "32m"], EAT);
    assert!(!killed.stdout.contains("survived"), "{killed}");
    killed.failure(137).says("more memory than its limit");
    let enough = runs(sandbox, groups, &["--memory", "256m"], EAT);
    assert_eq!(enough.success().stdout, "survived\n");
}

#[track_caller]
fn processes_are_limited(sandbox: &Sandbox, groups: &[PathBuf]) {
    let few = runs(sandbox, groups, &["--pids-limit", "20"], MANY);
    // The shell may not even be able to start what counts.
    let count = few.stdout.trim().parse().unwrap_or(0);
    assert!(count < 20, "{few}");
    let all = runs(sandbox, groups, &["--pids-limit", "100"], MANY);
    assert_eq!(all.success().stdout.trim(), "40");
}

/// Asks for a share of a processor that no other test asks for, and looks for a group that has it.
#[track_caller]
fn processors_are_limited(sandbox: &Sandbox, groups: &[PathBuf], share: &str, quota: &str) {
    let gate = Gate::new();
    let running = holds(sandbox, groups, &["--cpus", share], &gate);
    let waiting = gate.wait();
    let quotas: Vec<String> = sandboxes_groups()
        .iter()
        .flat_map(|group| ["cpu.max", "cpu.cfs_quota_us"].map(|file| group.join(file)))
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    waiting.open();
    running.wait().success();
    assert!(
        quotas
            .iter()
            .any(|found| found.split_whitespace().next() == Some(quota)),
        "{quotas:?}"
    );
}

/// `strata run` of a command that waits at the gate.
fn holds(sandbox: &Sandbox, groups: &[PathBuf], flags: &[&str], gate: &Gate) -> Running {
    let strata = sandbox.strata().within(sandbox, groups).arg("run");
    strata
        .args(flags)
        .args(["it", "sh", "-c", &gate.command()])
        .spawn()
}

/// All control groups of sandboxes on this machine.
fn sandboxes_groups() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        // Other tests take theirs away meanwhile.
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("strata-") {
                    found.push(entry.path());
                }
                walk(&entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &mut found);
    found
}

/// The sandbox's first process, a child of the command's, and its control groups.
fn first_process(running: &Running) -> (Pid, Vec<PathBuf>) {
    let parent = format!("PPid:\t{}\n", running.pid());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let process = processes
        .filter(|entry| {
            let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            read("status").contains(&parent) && read("cmdline").starts_with("strata-sandbox")
        })
        .find_map(|entry| entry.file_name().to_str()?.parse().ok())
        .unwrap();
    let name = format!("strata-{process}-");
    let groups = sandboxes_groups().into_iter().filter(|path| {
        let last = path.file_name().unwrap();
        last.to_str().unwrap().starts_with(&name)
    });
    (Pid::from_raw(process), groups.collect())
}

fn a_memory_limit_holds(sandbox: &Sandbox) {
    image(sandbox);
    memory_is_limited(sandbox, &[]);
}

fn swap_is_limited_with_memory(sandbox: &Sandbox) {
    image(sandbox);
    // As much again as memory, or what is asked for in all.
    for flags in [
        &["--memory", "40m"] as &[_],
        &["--memory", "60m", "--memory-swap", "80m"],
    ] {
        let killed = runs(sandbox, &[], flags, EAT);
        killed.failure(137).says("more memory than its limit");
    }
    // Where there is swap, what is allowed of it can be used.
    let swaps = fs::read_to_string("/proc/meminfo").unwrap();
    let free = swaps
        .lines()
        .find_map(|line| line.strip_prefix("SwapFree:"));
    let free: u64 = free
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    if free > 200_000 {
        let flags = ["--memory", "40m", "--memory-swap", "200m"];
        let enough = runs(sandbox, &[], &flags, EAT);
        assert_eq!(enough.success().stdout, "survived\n");
    }
    runs(
        sandbox,
        &[],
        &["--memory", "64m", "--memory-swap", "32m"],
        "true",
    )
    .failure(125)
    .says("can't be less than `--memory`");
}

fn a_limit_of_processes_holds(sandbox: &Sandbox) {
    image(sandbox);
    processes_are_limited(sandbox, &[]);
}

fn a_limit_of_processors_is_set(sandbox: &Sandbox) {
    image(sandbox);
    processors_are_limited(sandbox, &[], "0.37", "37000");
}

/// The values of a field in files of that name in control groups.
fn counted(groups: &[PathBuf], file: &str, field: &str) -> Vec<u64> {
    let texts = groups
        .iter()
        .filter_map(|group| fs::read_to_string(group.join(file)).ok());
    let values = |text: String| -> Vec<u64> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(field));
        lines
            .filter_map(|value| value.trim().parse().ok())
            .collect()
    };
    texts.flat_map(values).collect()
}

/// Takes some processor time: a hundredth of a second, or more.
const WORK: &str = "i=0; while [ $i -lt 15000 ]; do i=$((i+1)); done";

fn a_quota_of_processors_takes_effect(sandbox: &Sandbox) {
    image(sandbox);
    for (flags, holds_back) in [
        (&["--cpu-period", "10000", "--cpu-quota", "2000"][..], true),
        (&["--pids-limit", "90"], false),
    ] {
        let gate = Gate::new();
        let command = format!("{WORK}; {}", gate.command());
        let strata = sandbox.strata().arg("run").args(flags);
        let running = strata.args(["it", "sh", "-c", &command]).spawn();
        let waiting = gate.wait_long();
        let (_, groups) = first_process(&running);
        let throttled = counted(&groups, "cpu.stat", "nr_throttled ");
        waiting.open();
        running.wait().success();
        let held_back = throttled.iter().any(|times| *times > 0);
        assert_eq!(held_back, holds_back, "{throttled:?} in {groups:?}");
    }
}

/// Processor time of what is in a control group, in the clock's ticks.
fn time_of(groups: &[PathBuf]) -> u64 {
    let members = groups
        .iter()
        .filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
    let processes: std::collections::BTreeSet<String> = members
        .flat_map(|text| text.lines().map(ToOwned::to_owned).collect::<Vec<_>>())
        .collect();
    let times = processes.iter().filter_map(|process| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    times.sum()
}

/// Two that want the same processor all the time, and one of them has a share 256 times as large.
fn shares_of_processors_take_effect(sandbox: &Sandbox) {
    image(sandbox);
    let flags = |share| ["run", "--cpuset-cpus", "0", "--cpu-shares", share];
    let mut light = sandbox
        .strata()
        .args(flags("1024"))
        .args(["it", "sh", "-c", "echo at-it >&2; while :; do :; done"])
        .spawn();
    light.wait_for_line("at-it");
    let (begin, end) = (Gate::new(), Gate::new());
    let work = format!(
        "{}; for j in 1 2 3 4 5 6 7 8 9 10; do {WORK}; done; {}",
        begin.command(),
        end.command()
    );
    let heavy = sandbox
        .strata()
        .args(flags("262144"))
        .args(["it", "sh", "-c", &work])
        .spawn();
    let waiting = begin.wait_long();
    let groups = [&heavy, &light].map(|running| first_process(running).1);
    let before = groups.each_ref().map(|groups| time_of(groups));
    waiting.open();
    let waiting = end.wait_long();
    let after = groups.each_ref().map(|groups| time_of(groups));
    waiting.open();
    heavy.wait().success();
    light.signal(Signal::SIGKILL);
    light.wait();
    let [heavy, light] = [after[0] - before[0], after[1] - before[1]];
    assert!(heavy > 5 && light < heavy / 2, "{heavy} and {light} ticks");
}

/// The disk with the file system that this directory is on.
fn disk_of(directory: &Path) -> Option<PathBuf> {
    let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(directory).ok()?);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let blocks = Path::new("/sys/dev/block");
    let link = fs::read_link(blocks.join(format!("{major}:{minor}"))).ok()?;
    let block = blocks.join(link);
    // Rates are those of whole disks.
    let whole = if block.join("partition").exists() {
        block.parent()?.to_owned()
    } else {
        block
    };
    let node = Path::new("/dev").join(whole.file_name()?);
    node.exists().then_some(node)
}

/// A limit is a lower bound of the time that something takes, whatever else the machine does.
fn rates_of_disks_take_effect(sandbox: &Sandbox) {
    const BLOCK: usize = 16 * 1024;
    image(sandbox);
    let shared = sandbox.fresh_output("shared");
    fs::create_dir(&shared).unwrap();
    let Some(disk) = disk_of(&shared) else {
        skip("the tests' directory is not on a file system of a disk");
        return;
    };
    let file = fs::File::create(shared.join("file")).unwrap();
    std::io::Write::write_all(&mut &file, &vec![7; 32 * BLOCK]).unwrap();
    file.sync_all().unwrap();
    let volume = format!("{}:/shared", shared.display());
    let read = "dd if=/shared/file of=/dev/null bs=16k count=32 iflag=direct";
    let write = "dd if=/dev/zero of=/shared/new bs=16k count=32 oflag=direct conv=fsync";
    // 512 KiB in 32 operations.
    for (flag, limit, command, field) in [
        ("--device-read-bps", "256k", read, "rbytes="),
        ("--device-write-bps", "256k", write, "wbytes="),
        ("--device-read-iops", "16", read, "rios="),
        ("--device-write-iops", "16", write, "wios="),
    ] {
        let gate = Gate::new();
        let limit = format!("{}:{limit}", disk.display());
        let command = format!("{command} 2> /dev/null && {}", gate.command());
        let strata = sandbox.strata().args(["run", "--volume", &volume]);
        let strata = strata.args([flag, &limit, "it", "sh", "-c", &command]);
        let began = std::time::Instant::now();
        let running = strata.spawn();
        let waiting = gate.wait_long();
        let took = began.elapsed();
        let (_, groups) = first_process(&running);
        let accounts: Vec<String> = groups
            .iter()
            .flat_map(|group| {
                [
                    "io.stat",
                    "blkio.throttle.io_service_bytes",
                    "blkio.throttle.io_serviced",
                ]
                .map(|file| fs::read_to_string(group.join(file)).unwrap_or_default())
            })
            .collect();
        waiting.open();
        running.wait().success();
        // Two seconds by the limit. A part of the first one may be given at once.
        assert!(took.as_millis() > 1200, "{flag}: {took:?}, {accounts:?}");
        let accounts = accounts.concat();
        let counted = accounts.split_whitespace().filter_map(|word| {
            word.strip_prefix(field)
                .unwrap_or(word)
                .parse::<usize>()
                .ok()
        });
        let expected = if field.ends_with("bytes=") {
            32 * BLOCK
        } else {
            32
        };
        assert!(counted.max() >= Some(expected), "{flag}: {accounts}");
    }
}

fn memory_nodes_are_those_asked_for(sandbox: &Sandbox) {
    image(sandbox);
    let nodes = fs::read_to_string("/sys/devices/system/node/online").unwrap_or("0".to_owned());
    // The last one: all of them is what there is without the limit.
    let last = nodes.trim().rsplit([',', '-']).next().unwrap().to_owned();
    let command = "sed -n 's/^Mems_allowed_list:\t//p' /proc/self/status";
    let seen = runs(sandbox, &[], &["--cpuset-mems", &last], command).success();
    assert_eq!(seen.stdout.trim(), last, "of {nodes}");
    let without = runs(sandbox, &[], &[], command).success();
    assert_eq!(without.stdout.trim(), nodes.trim());
    let refused = runs(sandbox, &[], &["--cpuset-mems", "63"], "true").failure(125);
    refused.says("set `cpuset.mems` of a control group to 63");
}

fn limits_hold_for_build_steps(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile(&format!("FROM busybox\nRUN {EAT}\n"));
    let output = sandbox.try_build(&["--memory", "32m"]).failure(1);
    let told = "killed: it needed more memory than its limit of 32.0 MiB (peak: 3";
    assert!(output.stderr.contains(told), "{output}");
    // A limit is in no key.
    sandbox.steps(&["--memory", "1g"]);
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
}

/// The first lines of files of a sandbox's control groups, by name, while it runs with `flags`.
#[track_caller]
fn settings(sandbox: &Sandbox, flags: &[&str]) -> (Vec<PathBuf>, Vec<(String, String)>) {
    let gate = Gate::new();
    let running = holds(sandbox, &[], flags, &gate);
    let waiting = gate.wait();
    let (_, groups) = first_process(&running);
    let mut settings = Vec::new();
    for group in &groups {
        for entry in fs::read_dir(group).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let first = text.lines().next().unwrap_or_default().to_owned();
            settings.push((entry.file_name().to_str().unwrap().to_owned(), first));
        }
    }
    waiting.open();
    running.wait().success();
    (groups, settings)
}

/// The value of whichever of two files there is, of version 1 or 2.
#[track_caller]
fn either<'a>(settings: &'a [(String, String)], names: [&str; 2]) -> &'a str {
    let found = settings
        .iter()
        .find(|(name, _)| names.contains(&name.as_str()));
    &found
        .unwrap_or_else(|| panic!("{names:?} in {settings:?}"))
        .1
}

fn shares_and_sets_of_processors_are_set(sandbox: &Sandbox) {
    image(sandbox);
    let flags = [
        "--cpuset-cpus",
        "0",
        "--cpu-shares",
        "512",
        "--cpu-quota",
        "20000",
    ];
    let (_, settings) = settings(sandbox, &[&flags[..], &["--cpu-period", "50000"]].concat());
    assert_eq!(either(&settings, ["cpuset.cpus", ""]), "0");
    let shares = either(&settings, ["cpu.shares", "cpu.weight"]);
    assert!(["512", "20"].contains(&shares), "{shares}");
    let quota = either(&settings, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["20000", "20000 50000"].contains(&quota), "{quota}");
    let seen = runs(sandbox, &[], &["--cpuset-cpus", "0"], "nproc").success();
    assert_eq!(seen.stdout, "1\n");
    let refused = runs(sandbox, &[], &["--cpuset-cpus", "9999"], "true").failure(125);
    refused.says("set `cpuset.cpus` of a control group to 9999");
}

fn the_given_control_group_holds_those_of_sandboxes(sandbox: &Sandbox) {
    image(sandbox);
    let name = format!("strata-e2e-parent-{}", std::process::id());
    let parent = format!("/{name}/inner");
    let flags = ["--cgroup-parent", &parent, "--pids-limit", "77"];
    let (groups, settings) = settings(sandbox, &flags);
    assert_eq!(either(&settings, ["pids.max", ""]), "77");
    assert!(!groups.is_empty());
    for group in groups {
        let place = group.parent().unwrap();
        assert!(place.ends_with(&parent[1..]), "{}", group.display());
        assert!(!group.exists());
        // What was made for it stays, as a place that somebody has named.
        fs::remove_dir(place).unwrap();
        fs::remove_dir(place.parent().unwrap()).unwrap();
    }
    runs(sandbox, &[], &["--cgroup-parent", "/a/../b"], "true")
        .failure(125)
        .says("`/a/../b` leads up");
}

/// A block device of this machine.
fn disk() -> Option<PathBuf> {
    let blocks = fs::read_dir("/sys/class/block").ok()?.flatten();
    blocks
        .filter(|block| !block.path().join("partition").exists())
        .map(|block| Path::new("/dev").join(block.file_name()))
        .find(|device| device.exists())
}

fn rates_of_disks_are_set(sandbox: &Sandbox) {
    image(sandbox);
    let Some(disk) = disk() else {
        skip("there is no block device");
        return;
    };
    let limit = format!("{}:1m", disk.display());
    let (_, settings) = settings(sandbox, &["--device-write-bps", &limit]);
    let set = either(&settings, ["blkio.throttle.write_bps_device", "io.max"]);
    assert!(set.contains("1048576"), "{set}");
}

const ALL: &[&str] = &["--memory", "64m", "--cpus", "0.9", "--pids-limit", "50"];

fn a_killed_run_leaves_no_control_group(sandbox: &Sandbox) {
    image(sandbox);
    let gate = Gate::new();
    let running = holds(sandbox, &[], ALL, &gate);
    let waiting = gate.wait();
    let (_, groups) = first_process(&running);
    assert!(!groups.is_empty());
    running.signal(Signal::SIGKILL);
    running.wait();
    waiting.wait_for_end();
    wait_until("the groups are gone", || {
        groups.iter().all(|group| !group.exists())
    });
}

fn what_a_dead_sandbox_left_is_removed_by_the_next(sandbox: &Sandbox) {
    image(sandbox);
    let gate = Gate::new();
    let running = holds(sandbox, &[], ALL, &gate);
    let waiting = gate.wait();
    let (process, groups) = first_process(&running);
    // Whoever would take the groups away.
    kill(process, Signal::SIGKILL).unwrap();
    waiting.wait_for_end();
    assert!(!running.wait().status.success());
    // Its processes may still be dying for a moment; then it's for the one after the next.
    wait_until("the groups are gone", || {
        runs(sandbox, &[], ALL, "true").success();
        groups.iter().all(|group| !group.exists())
    });
}

/// Control groups of the sandbox's user.
fn delegated(sandbox: &Sandbox) -> Option<Delegated> {
    if sandbox.account().is_me() {
        skip("only root can hand control groups over");
        return None;
    }
    image(sandbox);
    Some(Delegated::new(sandbox.account()))
}

fn limits_hold_in_a_part_of_the_tree_that_was_handed_over(sandbox: &Sandbox) {
    let Some(delegated) = delegated(sandbox) else {
        return;
    };
    let shell = delegated.shell();
    memory_is_limited(sandbox, &shell);
    processes_are_limited(sandbox, &shell);
    processors_are_limited(sandbox, &shell, "0.43", "43000");
    // Nothing is left of them; what was handed over is as free as before.
    drop(delegated);
}

fn limits_on_that_part_hold_for_the_sandbox(sandbox: &Sandbox) {
    let Some(delegated) = delegated(sandbox) else {
        return;
    };
    let scope = delegated.small_scope();
    // The kernel would let this limit be dealt out beside processes, but then none could join.
    let strata = runs(sandbox, &scope, &["--pids-limit", "50"], "echo fine");
    assert_eq!(strata.success().stdout, "fine\n");
    // A part of the tree can't both be divided and have processes: whoever started strata is in a leaf
    // now, as strata was.
    let leaf: Vec<PathBuf> = scope
        .iter()
        .map(|group| group.join("strata-main"))
        .filter(|leaf| leaf.exists())
        .collect();
    assert_eq!(!leaf.is_empty(), Delegated::is_version_2());
    let inside = if leaf.is_empty() { &scope } else { &leaf };
    let killed = runs(sandbox, inside, &["--memory", "256m"], EAT);
    killed.failure(137).says("more memory than its limit");
    runs(sandbox, inside, ALL, "true").success();
}

fn without_such_a_part_the_way_out_is_told(sandbox: &Sandbox) {
    image(sandbox);
    let outside = Delegated::nothing();
    for limit in [["--memory", "64m"], ["--cpus", "1"], ["--pids-limit", "9"]] {
        let refused = runs(sandbox, &outside, &limit, "true").failure(125);
        let refused = refused.says("this user may not make control groups here");
        let way_out = if Delegated::is_version_2() {
            "systemd-run --user --scope -p Delegate=yes"
        } else {
            "start strata as root"
        };
        refused.says(way_out);
    }
}
