//! Commands, their ends, their output.

use strata_executor::sandbox::{Ended, Network};

use crate::Test;
use crate::support::{Bench, run};

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
        "no_network_means_loopback_only",
        no_network_means_loopback_only,
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

fn no_network_means_loopback_only() {
    let bench = Bench::new();
    let mut spec = bench.script("ls /sys/class/net; ifconfig lo");
    spec.network = Network::None;
    let ran = run(&spec);
    assert_eq!(ran.stdout[0], "lo", "{ran:?}");
    assert!(ran.stdout[1].contains("Loopback"));
    assert!(ran.text().contains("UP LOOPBACK RUNNING"), "{ran:?}");
}
