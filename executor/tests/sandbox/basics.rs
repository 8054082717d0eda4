//! Commands, their ends, their output.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strata_executor::sandbox::{Ended, Network, spawn};

use crate::Test;
use crate::support::{Bench, chain, run, try_run};

pub(crate) const TESTS: &[Test] = &[
    (
        "a_command_runs_and_its_lines_arrive",
        a_command_runs_and_its_lines_arrive,
    ),
    (
        "exit_codes_and_signals_are_told",
        exit_codes_and_signals_are_told,
    ),
    (
        "a_missing_program_is_127_and_named",
        a_missing_program_is_127_and_named,
    ),
    (
        "a_program_that_can_not_start_is_126",
        a_program_that_can_not_start_is_126,
    ),
    (
        "programs_are_looked_up_in_the_path_inside",
        programs_are_looked_up_in_the_path_inside,
    ),
    (
        "no_network_means_loopback_only",
        no_network_means_loopback_only,
    ),
    ("stdin_is_empty", stdin_is_empty),
    (
        "the_working_directory_is_made",
        the_working_directory_is_made,
    ),
    (
        "a_working_directory_can_not_lead_outside",
        a_working_directory_can_not_lead_outside,
    ),
    (
        "daemons_are_killed_with_the_command",
        daemons_are_killed_with_the_command,
    ),
    ("zombies_are_reaped", zombies_are_reaped),
    (
        "a_flood_of_output_arrives_whole",
        a_flood_of_output_arrives_whole,
    ),
    (
        "a_pipe_kept_open_by_a_daemon_is_not_waited_for",
        a_pipe_kept_open_by_a_daemon,
    ),
    ("cancel_sends_the_stop_signal", cancel_sends_the_stop_signal),
    (
        "cancel_kills_what_does_not_stop",
        cancel_kills_what_does_not_stop,
    ),
    (
        "cancel_before_the_start_is_honoured",
        cancel_before_the_start_is_honoured,
    ),
    ("signals_are_passed_on", signals_are_passed_on),
    ("a_dropped_sandbox_is_killed", a_dropped_sandbox_is_killed),
    (
        "a_failed_mount_says_what_and_why",
        a_failed_mount_says_what_and_why,
    ),
    ("many_sandboxes_run_at_once", many_sandboxes_run_at_once),
    (
        "overlay_probe_finds_overlayfs",
        overlay_probe_finds_overlayfs,
    ),
];

fn a_command_runs_and_its_lines_arrive() {
    let bench = Bench::new();
    let ran = run(&bench.script("echo one; echo two >&2; printf three; echo kept > /file"));
    assert_eq!(ran.outcome.ended, Ended::Exit(0), "{ran:?}");
    assert_eq!(ran.stdout, ["one", "three"]);
    assert_eq!(ran.stderr, ["two"]);
    assert_eq!(
        std::fs::read_to_string(bench.path("upper/file")).unwrap(),
        "kept\n"
    );
    let usage = ran.outcome.usage;
    assert!(!usage.group, "no limit, no group: {usage:?}");
    assert!(usage.peak_memory > 0 && usage.cpu_us > 0, "{usage:?}");
}

fn exit_codes_and_signals_are_told() {
    let bench = Bench::new();
    assert_eq!(run(&bench.script("exit 7")).outcome.ended, Ended::Exit(7));
    assert_eq!(
        run(&bench.script("kill -TERM $$")).outcome.ended,
        Ended::Signal(15)
    );
    assert_eq!(
        run(&bench.script("kill -KILL $$")).outcome.ended,
        Ended::Signal(9)
    );
}

fn a_missing_program_is_127_and_named() {
    let bench = Bench::new();
    for (argv, message) in [
        (
            "nothing-there",
            "`nothing-there` was not found in PATH (/usr/bin:/bin)",
        ),
        ("/opt/x", "`/opt/x` does not exist"),
        ("", "empty"),
    ] {
        let ran = run(&bench.spec(&[argv]));
        assert_eq!(ran.outcome.ended, Ended::Exit(127), "{argv}");
        assert!(ran.stderr[0].contains(message), "{ran:?}");
    }
    std::fs::write(bench.path("base/bin/script"), "#!/no/shell\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bench.path("base/bin/script"), mode).unwrap();
    let ran = run(&bench.spec(&["script"]));
    assert_eq!(ran.outcome.ended, Ended::Exit(127));
    assert!(ran.stderr[0].contains("interpreter"), "{ran:?}");
}

fn a_program_that_can_not_start_is_126() {
    let bench = Bench::new();
    std::fs::write(bench.path("base/bin/text"), "no program\n").unwrap();
    let ran = run(&bench.spec(&["/bin/text"]));
    assert_eq!(ran.outcome.ended, Ended::Exit(126), "{ran:?}");
    assert!(ran.stderr[0].contains("Permission denied"), "{ran:?}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bench.path("base/bin/text"), mode).unwrap();
    let ran = run(&bench.spec(&["text"]));
    assert_eq!(ran.outcome.ended, Ended::Exit(126));
    assert!(
        ran.stderr[0].contains("no program for this machine"),
        "{ran:?}"
    );
    assert_eq!(run(&bench.spec(&["/etc"])).outcome.ended, Ended::Exit(126));
}

fn programs_are_looked_up_in_the_path_inside() {
    let bench = Bench::new();
    let mut spec = bench.spec(&["echo", "found"]);
    assert_eq!(run(&spec).stdout, ["found"]);
    spec.env = vec![("PATH".into(), "/nowhere:/etc/passwd:/bin".into())];
    assert_eq!(run(&spec).stdout, ["found"]);
    spec.env.clear();
    assert_eq!(run(&spec).stdout, ["found"]);
    spec.argv = vec!["env".into()];
    assert_eq!(run(&spec).stdout, ["HOME=/root"]);
}

fn no_network_means_loopback_only() {
    let bench = Bench::new();
    let mut spec = bench.script("ls /sys/class/net; ifconfig lo");
    spec.network = Network::None;
    let ran = run(&spec);
    assert_eq!(ran.stdout[0], "lo", "{ran:?}");
    assert!(ran.stdout[1].contains("Loopback"));
    assert!(ran.text().contains("UP LOOPBACK RUNNING"), "{ran:?}");
}

fn stdin_is_empty() {
    let bench = Bench::new();
    assert_eq!(
        run(&bench.script("cat | wc -c; readlink /proc/self/fd/0")).stdout,
        ["0", "/dev/null"]
    );
}

fn the_working_directory_is_made() {
    let bench = Bench::new();
    let mut spec = bench.script("pwd; echo x > x");
    spec.cwd = "/work/deep".into();
    let ran = run(&spec);
    assert_eq!(ran.stdout, ["/work/deep"]);
    assert!(bench.path("upper/work/deep/x").exists());
    assert!(
        !ran.outcome
            .created
            .iter()
            .any(|path| path.starts_with("work")),
        "it stays"
    );
    let made = std::fs::metadata(bench.path("upper/work/deep")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&made) & 0o7777, 0o755);
    spec.cwd = "/etc/passwd".into();
    let error = chain(&try_run(&spec).unwrap_err());
    assert!(
        error.contains("working directory `/etc/passwd`: Not a directory"),
        "{error}"
    );
}

fn a_working_directory_can_not_lead_outside() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("/../../../../etc", bench.path("base/link")).unwrap();
    let mut spec = bench.script("pwd -P; ls");
    for cwd in [
        "/link",
        "/../../..",
        "/proc/self/root",
        "/proc/1/root",
        "/proc/1/cwd",
    ] {
        spec.cwd = cwd.into();
        if let Ok(ran) = try_run(&spec) {
            assert!(
                ["/etc", "/"].contains(&ran.stdout[0].as_str()),
                "{cwd}: {ran:?}"
            );
            assert!(!ran.stdout.contains(&"lib".to_owned()), "{cwd}: {ran:?}");
        }
    }
    for number in 0..20 {
        spec.cwd = format!("/proc/self/fd/{number}").into();
        assert!(try_run(&spec).is_err(), "{number}");
    }
}

fn daemons_are_killed_with_the_command() {
    let bench = Bench::new();
    let started = Instant::now();
    let marker = format!("777.{}", std::process::id());
    let script = format!("(setsid sleep {marker} &) ; sleep {marker} & trap '' TERM; echo up");
    let ran = run(&bench.script(&script));
    assert_eq!(ran.stdout, ["up"]);
    assert!(started.elapsed() < Duration::from_mins(1));
    assert!(!processes_with(&marker), "a daemon is left");
}

/// Whether a process of the host has `word` as an argument.
pub(crate) fn processes_with(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command
            .split(|&byte| byte == 0)
            .any(|argument| argument == word.as_bytes())
    })
}

fn zombies_are_reaped() {
    let bench = Bench::new();
    let ran = run(&bench.script(
        "for i in 1 2 3 4 5; do (sleep 0 & exec true) ; done; sleep 0.2; grep -l 'State:.Z' \
         /proc/[0-9]*/status; echo end",
    ));
    assert_eq!(ran.stdout, ["end"], "{ran:?}");
}

fn a_flood_of_output_arrives_whole() {
    let bench = Bench::new();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let mut spec = bench.script("yes 0123456789abcdef | head -n 2000000");
    spec.argv[2] += "; head -c 300000 /dev/zero | tr '\\0' x";
    let running = spawn(
        &spec,
        Box::new(move |_, line| {
            counted.fetch_add(line.len() + 1, Ordering::Relaxed);
            assert!(line.len() <= 64 * 1024);
        }),
    )
    .unwrap();
    assert_eq!(running.wait().unwrap().ended, Ended::Exit(0));
    // The last line comes in five pieces.
    assert_eq!(count.load(Ordering::Relaxed), 2_000_000 * 17 + 300_000 + 5);
}

fn a_pipe_kept_open_by_a_daemon() {
    let bench = Bench::new();
    let started = Instant::now();
    let ran = run(&bench.script("(setsid sleep 500 &); echo done"));
    assert_eq!(ran.stdout, ["done"]);
    assert!(started.elapsed() < Duration::from_mins(1));
}

/// Starts `script`, cancels when it says `up`, and gives the end and all lines.
fn cancelled(script: &str, timeout: Duration) -> (Ended, Vec<String>) {
    let bench = Bench::new();
    let mut spec = bench.script(script);
    spec.stop_timeout = timeout;
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let (up, is_up) = std::sync::mpsc::channel();
    let running = spawn(
        &spec,
        Box::new(move |_, line| {
            let line = String::from_utf8_lossy(line).into_owned();
            if line == "up" {
                up.send(()).unwrap();
            }
            kept.lock().unwrap().push(line);
        }),
    )
    .unwrap();
    let canceller = running.canceller();
    let thread = std::thread::spawn(move || {
        is_up.recv().unwrap();
        canceller.cancel();
        canceller.cancel();
    });
    let outcome = running.wait().unwrap();
    thread.join().unwrap();
    let lines = lines.lock().unwrap().clone();
    (outcome.ended, lines)
}

fn cancel_sends_the_stop_signal() {
    let (ended, lines) = cancelled(
        "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        Duration::from_mins(1),
    );
    assert_eq!(ended, Ended::Cancelled);
    assert_eq!(lines, ["up", "stopping"]);
}

fn cancel_kills_what_does_not_stop() {
    let started = Instant::now();
    let script = "trap 'echo no' TERM; echo up; while :; do sleep 0.05; done";
    let (ended, lines) = cancelled(script, Duration::from_millis(300));
    assert_eq!(ended, Ended::Cancelled);
    assert_eq!(lines[..2], ["up", "no"]);
    assert!(started.elapsed() < Duration::from_mins(1));
}

fn cancel_before_the_start_is_honoured() {
    let bench = Bench::new();
    let running = spawn(&bench.script("sleep 1000"), Box::new(|_, _| {})).unwrap();
    running.canceller().cancel();
    assert_eq!(running.wait().unwrap().ended, Ended::Cancelled);
}

fn signals_are_passed_on() {
    let bench = Bench::new();
    let spec = bench.script("trap 'echo usr1; exit 3' USR1; echo up; while :; do sleep 0.05; done");
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let (up, is_up) = std::sync::mpsc::channel();
    let running = spawn(
        &spec,
        Box::new(move |_, line| {
            kept.lock()
                .unwrap()
                .push(String::from_utf8_lossy(line).into_owned());
            up.send(()).ok();
        }),
    )
    .unwrap();
    let canceller = running.canceller();
    let thread = std::thread::spawn(move || {
        is_up.recv().unwrap();
        canceller.signal(10);
    });
    assert_eq!(running.wait().unwrap().ended, Ended::Exit(3));
    thread.join().unwrap();
    assert_eq!(*lines.lock().unwrap(), ["up", "usr1"]);
}

fn a_dropped_sandbox_is_killed() {
    let bench = Bench::new();
    let marker = format!("778.{}", std::process::id());
    let running = spawn(&bench.spec(&["sleep", &marker]), Box::new(|_, _| {})).unwrap();
    for _ in 0..500 {
        if processes_with(&marker) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(processes_with(&marker));
    drop(running);
    assert!(!processes_with(&marker));
}

fn a_failed_mount_says_what_and_why() {
    let bench = Bench::new();
    std::fs::remove_dir_all(bench.path("work")).unwrap();
    let error = chain(&try_run(&bench.script("true")).unwrap_err());
    assert!(error.contains("/work`: No such file"), "{error}");
    std::fs::write(bench.path("work"), "").unwrap();
    let error = chain(&try_run(&bench.script("true")).unwrap_err());
    assert!(error.contains("/work`: Not a directory"), "{error}");
}

fn many_sandboxes_run_at_once() {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..5 {
                    let bench = Bench::new();
                    let ran = run(&bench.script(&format!("echo {number}-{round}")));
                    assert_eq!(ran.stdout, [format!("{number}-{round}")]);
                }
            });
        }
    });
}

fn overlay_probe_finds_overlayfs() {
    let scratch = tempfile::tempdir().unwrap();
    strata_executor::sandbox::probe_overlay(scratch.path(), false).unwrap();
    strata_executor::sandbox::probe_overlay(scratch.path(), true).unwrap();
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    // /proc can't hold an upper directory.
    let missing = scratch.path().join("missing");
    assert!(
        strata_executor::sandbox::probe_overlay(&missing, false).is_ok(),
        "made if missing"
    );
    let error = strata_executor::sandbox::probe_overlay(std::path::Path::new("/proc"), false);
    assert!(chain(&error.unwrap_err()).contains("`/proc`"));
}
