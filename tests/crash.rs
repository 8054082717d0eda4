//! Ends that come too early: signals, and kill -9.

use nix::sys::signal::Signal;

use crate::support::{Gate, Running, Sandbox, cases, wait_until};

cases! { Root, User =>
    ctrl_c_stops_every_child_and_keeps_what_is_done,
    a_polite_end_is_as_good,
    kill_9_leaves_no_process_and_no_mount,
    kill_9_at_any_time_leaves_a_sound_store,
    leftovers_of_a_killed_build_are_collected,
    a_second_ctrl_c_ends_a_build_that_does_not_listen,
}

/// A build that waits in its second step, and the gate where it waits.
fn waiting_build(sandbox: &Sandbox, gate: &Gate) -> Running {
    sandbox.busybox().dockerfile(&format!(
        "FROM busybox\nRUN echo done > /done\nRUN (trap '' INT TERM; sleep 600) & {}\n",
        gate.command()
    ));
    sandbox
        .strata()
        .args(["build", "--progress", "json"])
        .arg(sandbox.context())
        .spawn()
}

/// After an early end: nothing runs, nothing is mounted, the store is sound, the first step is kept.
fn nothing_is_left(sandbox: &Sandbox) {
    wait_until("the children are gone", || sandbox.processes().is_empty());
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    sandbox.run(&["cache", "verify", "--deep"]);
    sandbox.dockerfile("FROM busybox\nRUN echo done > /done\nRUN true\n");
    let steps = sandbox.steps(&[]);
    assert_eq!(steps.cached(), ["RUN echo done > /done"]);
    assert_eq!(steps.ran(), ["RUN true"]);
}

fn ctrl_c_stops_every_child_and_keeps_what_is_done(sandbox: &Sandbox) {
    let gate = Gate::new();
    let build = waiting_build(sandbox, &gate);
    let waiting = gate.wait();
    build.signal_group(Signal::SIGINT);
    let output = build.wait();
    assert_eq!(output.code(), 130, "{output}");
    waiting.wait_for_end();
    nothing_is_left(sandbox);
}

fn a_polite_end_is_as_good(sandbox: &Sandbox) {
    let gate = Gate::new();
    let build = waiting_build(sandbox, &gate);
    let waiting = gate.wait();
    build.signal(Signal::SIGTERM);
    let output = build.wait();
    assert_eq!(output.code(), 143, "{output}");
    waiting.wait_for_end();
    nothing_is_left(sandbox);
}

fn a_second_ctrl_c_ends_a_build_that_does_not_listen(sandbox: &Sandbox) {
    let gate = Gate::new();
    let build = waiting_build(sandbox, &gate);
    let waiting = gate.wait();
    build.signal_group(Signal::SIGINT);
    build.signal_group(Signal::SIGINT);
    assert!(!build.wait().status.success());
    waiting.wait_for_end();
    nothing_is_left(sandbox);
}

fn kill_9_leaves_no_process_and_no_mount(sandbox: &Sandbox) {
    let gate = Gate::new();
    let build = waiting_build(sandbox, &gate);
    let waiting = gate.wait();
    build.signal(Signal::SIGKILL);
    assert_eq!(build.wait().code(), -9);
    waiting.wait_for_end();
    nothing_is_left(sandbox);
}

fn kill_9_at_any_time_leaves_a_sound_store(sandbox: &Sandbox) {
    sandbox.busybox();
    for number in 0..30 {
        sandbox.write(&format!("f{number}"), format!("{number}"));
    }
    let dockerfile = |turn: u32| {
        let mut text = format!("FROM busybox\nENV turn={turn}\n");
        for number in 0..10 {
            text += &format!("COPY f{number} f{} /d{number}/\n", number + 10);
            text += &format!("RUN echo {number} > /r{number}; rm -r /d{number}\n");
        }
        text
    };
    for turn in 0..12_u32 {
        sandbox.dockerfile(&dockerfile(turn));
        let mut build = sandbox
            .strata()
            .args(["build", "--progress", "json"])
            .arg(sandbox.context())
            .spawn();
        // A different moment each time, from the first event to the last.
        build.skip_lines(1 + turn * 5);
        build.signal(Signal::SIGKILL);
        build.wait();
        sandbox.run(&["cache", "verify", "--deep"]);
    }
    wait_until("the children are gone", || sandbox.processes().is_empty());
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    // Every unfinished build can be finished, and gives what it should.
    for turn in 0..12 {
        let image = sandbox.build(&dockerfile(turn));
        assert_eq!(image.layers.len(), 21);
        assert_eq!(image.tree().text("r9"), "9\n");
    }
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn leftovers_of_a_killed_build_are_collected(sandbox: &Sandbox) {
    let gate = Gate::new();
    sandbox.busybox();
    let big = "head -c 30000000 /dev/urandom > /big";
    sandbox.dockerfile(&format!("FROM busybox\nRUN {big}; {}\n", gate.command()));
    let before = size(sandbox);
    let build = sandbox
        .strata()
        .args(["build"])
        .arg(sandbox.context())
        .spawn();
    let waiting = gate.wait();
    assert!(size(sandbox) > before + 30_000_000);
    build.signal(Signal::SIGKILL);
    build.wait();
    waiting.wait_for_end();
    wait_until("the children are gone", || sandbox.processes().is_empty());
    // The next command that writes takes it away.
    sandbox.dockerfile("FROM busybox\nRUN true\n");
    sandbox.steps(&[]);
    wait_until("the leftovers are gone", || {
        size(sandbox) < before + 10_000_000
    });
}

/// What the store takes, in bytes.
fn size(sandbox: &Sandbox) -> u64 {
    let text = crate::support::run_quietly(
        "du",
        &[
            "--summarize",
            "--bytes",
            sandbox.path("store").to_str().unwrap(),
        ],
    );
    text.split('\t').next().unwrap().parse().unwrap()
}
