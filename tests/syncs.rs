//! How often a build waits for the disk.

use std::fs;
use std::time::Instant;

use crate::support::{Sandbox, cases};

cases! { Root =>
    a_build_waits_for_the_disk_as_often_for_many_steps_as_for_few,
}

/// The store makes finished steps safe at its end, and every so often before.
const BETWEEN_SYNCS: u64 = 10;

/// Builds `steps` commands that each leave a file; how often anything was synced, and how many seconds
/// it took.
fn syncs(sandbox: &Sandbox, steps: usize) -> (usize, u64) {
    let lines = (0..steps).map(|step| format!("RUN echo {steps} > /f{step}\n"));
    sandbox.dockerfile(&format!("FROM busybox\n{}", lines.collect::<String>()));
    let log = sandbox.path(format!("syncs-{steps}"));
    let begun = Instant::now();
    sandbox
        .strata()
        .args(["build", "-t", "it", "."])
        .through(
            sandbox,
            &[
                "strace",
                "-f",
                "-qq",
                "--seccomp-bpf",
                "-e",
                "signal=none",
                "-e",
                "trace=fsync,fdatasync,syncfs,sync,sync_file_range,msync",
                "-o",
                log.to_str().unwrap(),
            ],
        )
        .output()
        .success();
    let log = fs::read_to_string(log).unwrap();
    // A call that another process interrupts has two lines.
    let calls = log.lines().filter(|line| !line.contains("resumed>"));
    (calls.count(), begun.elapsed().as_secs())
}

fn a_build_waits_for_the_disk_as_often_for_many_steps_as_for_few(sandbox: &Sandbox) {
    sandbox.busybox();
    // What is done once for a new store is not counted.
    syncs(sandbox, 1);
    let (few, _) = syncs(sandbox, 3);
    let (many, seconds) = syncs(sandbox, 30);
    let times = 1 + usize::try_from(seconds / BETWEEN_SYNCS).unwrap();
    assert!(few > 0, "nothing was made safe");
    assert!(
        many <= few * times,
        "{few} syncs for 3 steps, {many} for 30 in {seconds} s"
    );
}
