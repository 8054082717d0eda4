//! Several builds at once on one store.

use nix::sys::signal::Signal;

use crate::support::{Gate, Image, Sandbox, cases};

cases! { Root, User =>
    the_same_step_wanted_twice_runs_once,
    different_builds_do_not_disturb_each_other,
    pruning_leaves_what_a_running_build_uses,
    what_is_pruned_before_a_build_holds_it_is_built_again,
    a_failed_step_is_tried_again_by_the_one_that_waited,
    if_the_one_that_runs_a_step_dies_a_waiter_takes_over,
    who_waits_for_a_command_or_a_network_holds_up_nobody_else,
    thirty_two_builds_run_what_they_share_once,
}

fn the_same_step_wanted_twice_runs_once(sandbox: &Sandbox) {
    sandbox.busybox();
    let gate = Gate::new();
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id; {}\nRUN cp /id /copy\n",
        gate.command()
    ));
    let archives = [sandbox.fresh_output("tar"), sandbox.fresh_output("tar")];
    let start = |number: usize| {
        let to = format!("type=oci,dest={}", archives[number].display());
        sandbox
            .strata()
            .args(["build", "--progress", "json", "--output", &to])
            .arg(sandbox.context())
            .spawn()
    };
    let first = start(0);
    let waiting = gate.wait();
    let mut second = start(1);
    second.wait_for_line("\"waiting\"");
    waiting.open();
    let (first, second) = (
        first.wait().success().steps(),
        second.wait().success().steps(),
    );
    assert_eq!(
        first.ran().len() + second.ran().len(),
        2,
        "{first:?}\n{second:?}"
    );
    assert!(!gate.has_visitor());
    let ids = archives.map(|archive| Image::read(&archive).tree().text("copy"));
    assert_eq!(ids[0], ids[1]);
}

fn different_builds_do_not_disturb_each_other(sandbox: &Sandbox) {
    sandbox.busybox();
    let running: Vec<_> = (0..8)
        .map(|number| {
            sandbox.write(&format!("c{number}/f"), format!("{number}"));
            let dockerfile = format!(
                "FROM busybox\nRUN echo shared > /shared\nCOPY f /f\n\
                 RUN echo $(cat /f) {number} > /out\n"
            );
            sandbox.write(&format!("c{number}/Dockerfile"), dockerfile);
            let archive = sandbox.fresh_output("tar");
            let to = format!("type=oci,dest={}", archive.display());
            let tag = format!("it:{number}");
            let build = sandbox
                .strata()
                .args([
                    "build",
                    "--progress",
                    "json",
                    "--output",
                    &to,
                    "--output",
                    "type=image",
                ])
                .args(["-t", &tag])
                .arg(sandbox.context().join(format!("c{number}")))
                .spawn();
            (number, archive, build)
        })
        .collect();
    let mut shared = 0;
    for (number, archive, build) in running {
        let steps = build.wait().success().steps();
        shared += steps
            .ran()
            .iter()
            .filter(|step| step.contains("shared"))
            .count();
        assert_eq!(
            Image::read(&archive).tree().text("out"),
            format!("{number} {number}\n")
        );
    }
    assert_eq!(shared, 1);
    sandbox.run(&["cache", "verify", "--deep"]);
    assert_eq!(
        sandbox
            .run(&["images", "--format", "json", "it"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        8
    );
}

fn pruning_leaves_what_a_running_build_uses(sandbox: &Sandbox) {
    sandbox.busybox();
    let gate = Gate::new();
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN echo kept > /kept\nRUN {}\nRUN cat /kept > /out\n",
        gate.command()
    ));
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let build = sandbox
        .strata()
        .args(["build", "--progress", "json", "--output", &to])
        .arg(sandbox.context())
        .spawn();
    let waiting = gate.wait();
    // Nothing but the running build holds the base and the first step.
    sandbox.run(&["rmi", "--force", "busybox"]);
    sandbox.run(&["cache", "prune", "--all"]);
    waiting.open();
    build.wait().success();
    assert_eq!(Image::read(&archive).tree().text("out"), "kept\n");
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn what_is_pruned_before_a_build_holds_it_is_built_again(sandbox: &Sandbox) {
    sandbox.busybox();
    let text = "FROM busybox\nRUN echo kept > /kept\n";
    sandbox.dockerfile(text);
    let context = sandbox.context().to_str().unwrap().to_owned();
    sandbox.run(&["build", "--output", "type=cacheonly", &context]);
    sandbox.dockerfile(&format!("{text}RUN cat /kept > /out\n"));
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let gate = Gate::new();
    let build = sandbox
        .strata()
        .env("STRATA_FAILPOINT", gate.failpoint("lease.hold"))
        .args(["build", "--progress", "json", "--output", &to])
        .arg(sandbox.context())
        .spawn();
    // The build has found its first step in the store, and is about to hold it.
    let waiting = gate.wait();
    let pruned = sandbox.run(&["cache", "prune", "--all"]);
    assert!(pruned.to_string().contains("steps"), "{pruned}");
    waiting.open();
    build.wait().success();
    assert_eq!(Image::read(&archive).tree().text("out"), "kept\n");
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn a_failed_step_is_tried_again_by_the_one_that_waited(sandbox: &Sandbox) {
    sandbox.busybox();
    let gate = Gate::new();
    sandbox.dockerfile(&format!("FROM busybox\nRUN {} && exit 3\n", gate.command()));
    let start = || {
        sandbox
            .strata()
            .args(["build", "--progress", "json"])
            .arg(sandbox.context())
            .spawn()
    };
    let first = start();
    let at_gate = gate.wait();
    let mut second = start();
    second.wait_for_line("\"waiting\"");
    at_gate.open();
    first.wait().failure(1);
    gate.wait().open();
    second.wait().failure(1);
}

fn if_the_one_that_runs_a_step_dies_a_waiter_takes_over(sandbox: &Sandbox) {
    sandbox.busybox();
    let gate = Gate::new();
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN {} && echo done > /done\n",
        gate.command()
    ));
    let start = || {
        sandbox
            .strata()
            .args(["build", "--progress", "json", "--output", "type=cacheonly"])
            .arg(sandbox.context())
            .spawn()
    };
    let first = start();
    let at_gate = gate.wait();
    let mut others = [start(), start()];
    for other in &mut others {
        other.wait_for_line("\"waiting\"");
    }
    first.signal(Signal::SIGKILL);
    first.wait();
    at_gate.wait_for_end();
    gate.wait().open();
    let steps = others.map(|other| other.wait().success().steps());
    let ran: usize = steps.iter().map(|steps| steps.ran().len()).sum();
    let cached: usize = steps.iter().map(|steps| steps.cached().len()).sum();
    assert_eq!((ran, cached), (1, 1), "{steps:?}");
    assert!(!gate.has_visitor());
    sandbox.run(&["cache", "verify"]);
}

fn who_waits_for_a_command_or_a_network_holds_up_nobody_else(sandbox: &Sandbox) {
    sandbox.busybox();
    let (command, network) = (Gate::new(), Gate::new());
    let start = |name: &str, dockerfile: &str| {
        sandbox.write(&format!("{name}/Dockerfile"), dockerfile);
        sandbox
            .strata()
            .args(["build", "--progress", "json", "--output", "type=cacheonly"])
            .arg(sandbox.context().join(name))
            .spawn()
    };
    let commands = start(
        "command",
        &format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked {}\n",
            command.command()
        ),
    );
    let at_command = command.wait();
    let networks = start(
        "network",
        &format!("FROM busybox\nADD {} /file\n", network.url("/file")),
    );
    let at_network = network.wait();
    // Everything that reads or writes the store goes on meanwhile.
    sandbox
        .write("f", "f")
        .dockerfile("FROM busybox\nCOPY f /f\nRUN --mount=type=cache,target=/other cat /f > /g\n");
    assert_eq!(sandbox.steps(&["-t", "other"]).ran().len(), 2);
    assert_eq!(sandbox.steps(&["-t", "other"]).cached().len(), 2);
    for args in [
        &["cache", "ls"][..],
        &["cache", "du"],
        &["tag", "other", "another"],
        &["rmi", "--force", "other", "another"],
        &["cache", "prune", "--all"],
        &["cache", "verify"],
    ] {
        sandbox.run(args);
    }
    at_command.open();
    at_network.answer("file");
    commands.wait().success();
    networks.wait().success();
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn thirty_two_builds_run_what_they_share_once(sandbox: &Sandbox) {
    sandbox.busybox();
    // Each step leaves a line in a cache mount, and something that no other run of it would make.
    let step = |name: &str| {
        format!(
            "RUN --mount=type=cache,id=log,sharing=locked,target=/log echo {name} >> /log/lines; \
             cat /proc/sys/kernel/random/uuid > /{name}\n"
        )
    };
    let running: Vec<_> = (0..32)
        .map(|number| {
            let (left, right) = (
                format!("left{}", number % 2),
                format!("right{}", number % 4),
            );
            let dockerfile = format!(
                "FROM busybox AS base\n{}FROM base AS one\n{}FROM base AS two\n{}\
                 FROM base\nCOPY --from=one /{left} /\nCOPY --from=two /{right} /\n\
                 RUN cat /base /{left} /{right} > /all\n",
                step("base"),
                step(&left),
                step(&right),
            );
            let name = format!("Dockerfile.{number}");
            sandbox.write(&name, dockerfile);
            let archive = sandbox.fresh_output("tar");
            let to = format!("type=oci,dest={}", archive.display());
            let build = sandbox
                .strata()
                .args(["build", "--progress", "json", "--output", &to, "-f"])
                .arg(sandbox.context().join(name))
                .arg(sandbox.context())
                .spawn();
            (number, archive, build)
        })
        .collect();
    let mut results = std::collections::BTreeMap::new();
    for (number, archive, build) in running {
        build.wait().success();
        let text = Image::read(&archive).tree().text("all");
        assert_eq!(text.lines().count(), 3);
        let first = results.entry(number % 4).or_insert_with(|| text.clone());
        assert_eq!(*first, text);
    }
    assert_eq!(results.len(), 4);
    let log = sandbox.build(
        "FROM busybox\nRUN --mount=type=cache,id=log,target=/log sort /log/lines > /sorted\n",
    );
    let lines = log.tree().text("sorted");
    let expected = [
        "base", "left0", "left1", "right0", "right1", "right2", "right3",
    ];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    sandbox.run(&["cache", "verify", "--deep"]);
}
