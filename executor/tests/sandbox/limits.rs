//! Limits by control group and by rlimit.

use strata_executor::sandbox::{Ended, Limits};

use crate::Test;
use crate::support::{Bench, chain, run, try_run};

pub(crate) const TESTS: &[Test] = &[
    (
        "too_much_memory_ends_as_out_of_memory",
        too_much_memory_ends_as_out_of_memory,
    ),
    ("peak_memory_is_told", peak_memory_is_told),
    (
        "a_fork_bomb_is_stopped_by_the_pids_limit",
        a_fork_bomb_is_stopped_by_the_pids_limit,
    ),
    ("cpus_set_the_quota", cpus_set_the_quota),
    ("no_control_group_is_left", no_control_group_is_left),
    (
        "limits_that_make_no_sense_are_refused",
        limits_that_make_no_sense_are_refused,
    ),
    ("rlimits_are_set", rlimits_are_set),
    ("shm_has_its_size", shm_has_its_size),
];

/// Uses three times as much as it is given below.
const HOG: &str = "dd if=/dev/zero of=/dev/null bs=100M count=1";

fn too_much_memory_ends_as_out_of_memory() {
    let bench = Bench::new();
    let mut spec = bench.script(&format!("exec {HOG}"));
    spec.limits = Limits {
        memory: Some(32 << 20),
        ..Limits::default()
    };
    let ran = run(&spec);
    assert_eq!(ran.outcome.ended, Ended::OutOfMemory, "{ran:?}");
    let usage = ran.outcome.usage;
    assert!(usage.group, "{usage:?}");
    let peak = usage.peak_memory;
    assert!(peak > 16 << 20 && peak <= 32 << 20, "{peak}");
    // A part of the command was killed, and the rest failed for it.
    spec.argv[2] = format!("({HOG}); exit 3");
    assert_eq!(run(&spec).outcome.ended, Ended::OutOfMemory);
    // Success is success.
    spec.argv[2] = format!("({HOG}); exit 0");
    assert_eq!(run(&spec).outcome.ended, Ended::Exit(0));
}

fn peak_memory_is_told() {
    let bench = Bench::new();
    let mut spec = bench.script("dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null");
    spec.limits = Limits {
        memory: Some(64 << 20),
        ..Limits::default()
    };
    let usage = run(&spec).outcome.usage;
    assert!(usage.group && usage.peak_memory >= 20 << 20, "{usage:?}");
    // The file in memory is no process's own.
    spec.limits = Limits::default();
    let usage = run(&spec).outcome.usage;
    assert!(!usage.group && usage.peak_memory < 20 << 20, "{usage:?}");
}

fn a_fork_bomb_is_stopped_by_the_pids_limit() {
    let bench = Bench::new();
    let mut spec = bench.script("for i in $(seq 50); do sleep 100 & done; echo all");
    spec.limits = Limits {
        pids: Some(20),
        ..Limits::default()
    };
    let ran = run(&spec);
    assert_ne!(ran.outcome.ended, Ended::Exit(0), "{ran:?}");
    assert!(
        ran.stderr.iter().any(|line| line.contains("fork")),
        "{ran:?}"
    );
    spec.limits.pids = Some(60);
    assert_eq!(run(&spec).outcome.ended, Ended::Exit(0));
}

fn cpus_set_the_quota() {
    let bench = Bench::new();
    let mut spec = bench.script("cat /proc/self/cgroup; sleep 0.5");
    spec.limits = Limits {
        cpus: Some(0.5),
        ..Limits::default()
    };
    // The group is looked at from outside while the command runs.
    let seen = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            (0..100).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                half_a_processor()
            })
        });
        let ran = run(&spec);
        // In its own cgroup namespace a group is its own root.
        assert!(
            ran.stdout.iter().all(|line| !line.contains("strata-")),
            "{ran:?}"
        );
        looker.join().unwrap()
    });
    assert!(seen);
}

/// Whether a group of ours has half a processor.
fn half_a_processor() -> bool {
    groups().into_iter().any(|path| {
        let file = |name: &str| std::fs::read_to_string(path.join(name)).ok();
        let quota = file("cpu.max").or_else(|| file("cpu.cfs_quota_us"));
        quota.is_some_and(|quota| quota.starts_with("50000"))
    })
}

/// All groups of ours that exist.
fn groups() -> Vec<std::path::PathBuf> {
    fn walk(directory: &std::path::Path, depth: u32, found: &mut Vec<std::path::PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("strata-") {
                found.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(std::path::Path::new("/sys/fs/cgroup"), 6, &mut found);
    found
}

fn no_control_group_is_left() {
    let bench = Bench::new();
    let mut spec = bench.script("sleep 1000 & setsid sleep 1000 & echo done");
    spec.limits = Limits {
        memory: Some(64 << 20),
        cpus: Some(1.0),
        pids: Some(100),
        ..Limits::default()
    };
    assert_eq!(run(&spec).outcome.ended, Ended::Exit(0));
    // Not even when the set-up fails after the group was made.
    spec.cwd = "/etc/passwd".into();
    assert!(try_run(&spec).is_err());
    assert_eq!(left_groups(), Vec::<std::path::PathBuf>::new());
}

/// Groups of ours whose sandbox is gone: others may run at the same time as this test.
pub(crate) fn left_groups() -> Vec<std::path::PathBuf> {
    let alive = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let process = name.split('-').nth(1).unwrap();
        std::path::Path::new("/proc").join(process).exists()
    };
    groups().into_iter().filter(|path| !alive(path)).collect()
}

fn limits_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    let mut spec = bench.script("true");
    spec.limits = Limits {
        memory: Some(64 << 20),
        memory_swap: Some(1 << 20),
        ..Limits::default()
    };
    let error = chain(&try_run(&spec).unwrap_err());
    assert!(error.contains("memory and swap together"), "{error}");
    spec.limits = Limits {
        cpus: Some(f64::NAN),
        ..Limits::default()
    };
    assert!(try_run(&spec).is_err());
}

fn rlimits_are_set() {
    let bench = Bench::new();
    let mut spec = bench.script("ulimit -Sn; ulimit -Hn; ulimit -c");
    spec.ulimits.insert("nofile".into(), (100, 200));
    spec.ulimits.insert("core".into(), (0, 0));
    assert_eq!(run(&spec).stdout, ["100", "200", "0"]);
    spec.ulimits.insert("files".into(), (1, 1));
    let error = chain(&try_run(&spec).unwrap_err());
    assert!(error.contains("`files`"), "{error}");
}

fn shm_has_its_size() {
    let bench = Bench::new();
    let mut spec = bench.script("df -k /dev/shm | tail -1");
    spec.shm_size = 12 << 20;
    assert!(run(&spec).text().contains(" 12288 "));
}
