//! What steps use: how long they may take, and what is told of it.

use crate::support::{Sandbox, cases, wait_until};

cases! { Root, User =>
    a_step_that_takes_too_long_is_killed_with_all_that_it_started,
    what_a_step_has_used_is_kept_and_told,
}

fn a_step_that_takes_too_long_is_killed_with_all_that_it_started(sandbox: &Sandbox) {
    // Found among all processes by its argument.
    let nap = 100_000 + std::process::id();
    let script =
        format!("trap '' TERM; setsid sleep {nap} & sleep {nap} & sleep {nap}; sleep {nap}");
    sandbox
        .busybox()
        .dockerfile(&format!("FROM busybox\nRUN true\nRUN {script}\n"));
    let output = sandbox.try_build(&["--step-timeout", "700ms"]).failure(1);
    let output = output.says("killed: it took longer than 700ms, the limit of `--step-timeout`");
    assert!(output.stderr.contains("Dockerfile:3:1"), "{output}");
    assert!(output.stderr.contains("\"exit\":124"), "{output}");
    assert_eq!(naps(nap), Vec::<String>::new());

    // The same for all builds.
    sandbox.configure("[build]\nstep-timeout = \"700ms\"\n");
    sandbox
        .try_build(&[])
        .failure(1)
        .says("took longer than 700ms");
    sandbox.configure("");
    let running = sandbox
        .strata()
        .args(["build", "--step-timeout", "1h"])
        .arg(sandbox.context())
        .spawn();
    wait_until("the step runs", || naps(nap).len() == 3);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    running.wait();
    wait_until("everything is gone", || naps(nap).is_empty());
}

/// Command lines of processes that sleep so long.
fn naps(nap: u32) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.starts_with("sleep ") && line.contains(&nap.to_string()))
        .collect()
}

fn what_a_step_has_used_is_kept_and_told(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox\nRUN dd if=/dev/zero of=/file bs=20M count=1 && i=0 && \
         while [ $i -lt 20000 ]; do i=$((i+1)); done\nCOPY Dockerfile /\n",
    );
    let output = sandbox.try_build(&["-t", "it"]).success();
    let events = output.stderr.lines();
    let mut used = events
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["type"] == "used");
    let used = used.next().expect("the only RUN step tells what it used");
    let number = |value: &serde_json::Value, name: &str| value[name].as_f64().unwrap();
    assert!(number(&used, "cpu_seconds") > 0.0, "{used}");
    assert_eq!(used["peak_memory_of"], "largest process");
    assert!(
        number(&used, "peak_memory") >= 20e6,
        "dd has a buffer: {used}"
    );

    let records = sandbox.run(&["cache", "ls", "--format", "json"]).json();
    let record = records.as_array().unwrap().iter();
    let record = record.clone().find(|item| item["kind"] == "run").unwrap();
    let id = record["id"].as_str().unwrap();
    let kept = sandbox
        .run(&["cache", "inspect", "--format", "json", id])
        .json()["resources"]
        .clone();
    for name in ["cpu_seconds", "peak_memory", "read_bytes", "written_bytes"] {
        assert_eq!(kept[name], used[name], "{name}");
    }
    let history = sandbox.run(&["history", "--format", "json", "it"]).json();
    let entries = history.as_array().unwrap();
    assert!(
        entries.iter().any(|entry| entry["resources"] == kept),
        "{history}"
    );
    assert!(
        entries.iter().any(|entry| entry["resources"].is_null()),
        "a COPY runs nothing"
    );
    let table = sandbox.run(&["history", "--resources", "it"]).stdout;
    assert!(table.lines().next().unwrap().contains("CPU"), "{table}");

    let flags = ["build", "--no-cache", "--resources", "--progress", "plain"];
    let output = sandbox
        .strata()
        .args(flags)
        .arg(sandbox.context())
        .output()
        .success();
    let row = output
        .stderr
        .lines()
        .find(|line| line.starts_with("[2/3] RUN dd") && line.contains(" MB+  "));
    assert!(row.is_some(), "{output}");
}
