//! `strata run`.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Gate, Sandbox, cases, wait_until};

cases! { Root, User =>
    entry_point_and_command_are_put_together,
    exit_codes_come_through,
    signals_come_through,
    the_environment_can_be_set,
    a_directory_and_a_user_can_be_chosen,
    host_files_can_be_mounted,
    input_is_passed_on_when_asked,
    output_streams_are_kept_apart,
    the_container_is_gone_afterwards,
    an_image_is_not_changed_by_running_it,
    no_network_can_be_chosen,
    mistakes_are_told,
    a_killed_run_leaves_nothing,
    a_terminal_can_be_had,
}

/// An image named `it`.
fn image(sandbox: &Sandbox, body: &str) {
    sandbox
        .busybox()
        .dockerfile(&format!("FROM busybox\n{body}\n"));
    sandbox.steps(&["-t", "it"]);
}

/// Runs `it` with these flags and this shell command; its stdout.
#[track_caller]
fn says(sandbox: &Sandbox, flags: &[&str], command: &str) -> String {
    let mut args = vec!["run"];
    args.extend_from_slice(flags);
    args.extend(["it", "sh", "-c", command]);
    sandbox.run(&args).stdout
}

fn entry_point_and_command_are_put_together(sandbox: &Sandbox) {
    for (body, args, expected) in [
        ("CMD [\"echo\", \"a\"]", &[] as &[_], "a\n"),
        ("CMD echo $((1+1))", &[], "2\n"),
        ("CMD [\"echo\", \"a\"]", &["echo", "b"], "b\n"),
        ("ENTRYPOINT [\"echo\", \"e\"]\nCMD [\"a\"]", &[], "e a\n"),
        (
            "ENTRYPOINT [\"echo\", \"e\"]\nCMD [\"a\"]",
            &["b", "c"],
            "e b c\n",
        ),
        ("ENTRYPOINT echo shell\nCMD [\"a\"]", &[], "shell\n"),
    ] {
        image(sandbox, body);
        let mut all = vec!["run", "it"];
        all.extend_from_slice(args);
        assert_eq!(sandbox.run(&all).stdout, expected, "{body} {args:?}");
    }
    image(sandbox, "ENTRYPOINT [\"echo\", \"e\"]\nCMD [\"a\"]");
    assert_eq!(
        sandbox
            .run(&["run", "--entrypoint", "printf", "it", "x"])
            .stdout,
        "x"
    );
}

fn exit_codes_come_through(sandbox: &Sandbox) {
    image(sandbox, "");
    for code in [0, 1, 7, 125, 255] {
        let output = sandbox.try_run(&["run", "it", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(output.code(), code, "{output}");
    }
    let killed = sandbox.try_run(&["run", "it", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code(), 137, "{killed}");
    sandbox
        .try_run(&["run", "it", "no-such-program"])
        .failure(127)
        .says("no-such-program");
    sandbox
        .try_run(&["run", "it", "/etc/passwd"])
        .failure(126)
        .says("/etc/passwd");
}

fn signals_come_through(sandbox: &Sandbox) {
    image(sandbox, "");
    let gate = Gate::new();
    let script = format!(
        "trap 'echo got TERM; exit 5' TERM; trap 'echo got USR1' USR1; ({}) & while :; do wait; done",
        gate.command()
    );
    let running = sandbox
        .strata()
        .args(["run", "it", "sh", "-c", &script])
        .spawn();
    let _waiting = gate.wait();
    running.signal(Signal::SIGUSR1);
    std::thread::sleep(std::time::Duration::from_millis(200));
    running.signal(Signal::SIGTERM);
    let output = running.wait();
    assert_eq!(output.code(), 5, "{output}");
    assert_eq!(output.stdout, "got USR1\ngot TERM\n");
    // The image's own signal asks it to stop.
    image(sandbox, "STOPSIGNAL USR2");
    let gate = Gate::new();
    let script = format!(
        "trap 'echo got USR2; exit 6' USR2; ({}) & while :; do wait; done",
        gate.command()
    );
    let running = sandbox
        .strata()
        .args(["run", "it", "sh", "-c", &script])
        .spawn();
    let _waiting = gate.wait();
    running.signal(Signal::SIGTERM);
    let output = running.wait();
    assert_eq!(output.code(), 6, "{output}");
}

fn the_environment_can_be_set(sandbox: &Sandbox) {
    image(sandbox, "ENV a=image b=image");
    let file = sandbox.path("out/env");
    fs::write(&file, "# comment\nfromfile=x y\nc\n").unwrap();
    sandbox.hand_over(&file);
    let output = sandbox
        .strata()
        .args([
            "run",
            "-e",
            "a=flag",
            "-e",
            "c",
            "-e",
            "d=",
            "--env-file",
            file.to_str().unwrap(),
        ])
        .args([
            "it",
            "sh",
            "-c",
            "echo \"$a,$b,$c,${d-unset},$fromfile,${HOME}\"",
        ])
        .env("c", "outside")
        .env("secret", "no")
        .output()
        .success();
    assert_eq!(output.stdout, "flag,image,outside,,x y,/root\n");
    assert!(!says(sandbox, &[], "env").contains("secret"));
}

fn a_directory_and_a_user_can_be_chosen(sandbox: &Sandbox) {
    image(sandbox, "WORKDIR /srv\nUSER app");
    let show = "pwd; id -u; id -g; echo $HOME";
    assert_eq!(says(sandbox, &[], show), "/srv\n1000\n1001\n/home/app\n");
    assert_eq!(
        says(sandbox, &["-w", "/tmp", "-u", "0"], show),
        "/tmp\n0\n0\n/root\n"
    );
    assert_eq!(says(sandbox, &["-u", "daemon:9"], "id -u; id -g"), "1\n9\n");
    assert_eq!(says(sandbox, &["--hostname", "box"], "hostname"), "box\n");
}

fn host_files_can_be_mounted(sandbox: &Sandbox) {
    image(sandbox, "");
    sandbox.write("data/in", "from outside\n");
    let data = sandbox.context().join("data");
    let volume = format!("{}:/data", data.display());
    assert_eq!(
        says(
            sandbox,
            &["-v", &volume],
            "cat /data/in; echo out > /data/out"
        ),
        "from outside\n"
    );
    assert_eq!(fs::read_to_string(data.join("out")).unwrap(), "out\n");
    let read_only = format!("{volume}:ro");
    let said = says(
        sandbox,
        &["-v", &read_only],
        "cat /data/in; echo x > /data/in || echo refused",
    );
    assert_eq!(said, "from outside\nrefused\n");
    let one = format!("{}/in:/etc/group:ro", data.display());
    assert_eq!(
        says(sandbox, &["-v", &one], "cat /etc/group"),
        "from outside\n"
    );
    sandbox
        .try_run(&["run", "-v", "/no/such/dir:/x", "it", "true"])
        .says("/no/such/dir");
}

fn input_is_passed_on_when_asked(sandbox: &Sandbox) {
    image(sandbox, "");
    let run = |flags: &[&str]| {
        let strata = sandbox
            .strata()
            .arg("run")
            .args(flags)
            .args(["it", "wc", "-c"]);
        strata.stdin("12345").output().success().stdout
    };
    assert_eq!(run(&["-i"]).trim(), "5");
    assert_eq!(run(&[]).trim(), "0");
}

fn output_streams_are_kept_apart(sandbox: &Sandbox) {
    image(sandbox, "");
    let output = sandbox.run(&["run", "it", "sh", "-c", "echo out; echo err >&2; seq 30000"]);
    assert_eq!(output.stderr, "err\n");
    assert_eq!(output.stdout.lines().count(), 30001);
    assert!(output.stdout.ends_with("\n30000\n"));
}

fn the_container_is_gone_afterwards(sandbox: &Sandbox) {
    image(sandbox, "");
    says(sandbox, &["--rm"], "echo x > /f; (sleep 600 &) ; echo done");
    wait_until("all processes have ended", || {
        sandbox.processes().is_empty()
    });
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    assert_eq!(
        says(sandbox, &[], "ls /f 2> /dev/null || echo gone"),
        "gone\n"
    );
}

fn an_image_is_not_changed_by_running_it(sandbox: &Sandbox) {
    image(sandbox, "RUN echo old > /f");
    let before = sandbox.saved("it");
    says(
        sandbox,
        &[],
        "echo new > /f; rm /etc/passwd; chmod 777 /etc",
    );
    let after = sandbox.saved("it");
    assert_eq!(after.layers, before.layers);
    assert_eq!(says(sandbox, &[], "cat /f"), "old\n");
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn no_network_can_be_chosen(sandbox: &Sandbox) {
    image(sandbox, "");
    let said = says(sandbox, &["--network", "none"], "ls /sys/class/net");
    assert_eq!(said, "lo\n");
    assert!(says(sandbox, &[], "ls /sys/class/net").contains("lo\n"));
}

fn mistakes_are_told(sandbox: &Sandbox) {
    image(sandbox, "");
    for (args, part) in [
        (&["run"] as &[_], "IMAGE"),
        (&["run", "--memory", "lots", "it"], "lots"),
        (&["run", "-u", "nosuchuser", "it", "true"], "nosuchuser"),
        (
            &["run", "--pull", "never", "no/such:image"],
            "no/such:image",
        ),
        (&["run", "--network", "fancy", "it"], "fancy"),
    ] {
        let output = sandbox.try_run(args);
        assert!(
            !output.status.success() && output.stderr.contains(part),
            "{output}"
        );
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
}

fn a_killed_run_leaves_nothing(sandbox: &Sandbox) {
    image(sandbox, "");
    let gate = Gate::new();
    let script = format!("echo x > /f; {}", gate.command());
    let running = sandbox
        .strata()
        .args(["run", "it", "sh", "-c", &script])
        .spawn();
    let waiting = gate.wait();
    running.signal(Signal::SIGKILL);
    running.wait();
    waiting.wait_for_end();
    wait_until("all processes have ended", || {
        sandbox.processes().is_empty()
    });
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn a_terminal_can_be_had(sandbox: &Sandbox) {
    image(sandbox, "");
    assert_eq!(
        says(sandbox, &[], "[ -t 1 ] && echo tty || echo none"),
        "none\n"
    );
    let said = says(sandbox, &["-t"], "[ -t 1 ] && tty");
    assert!(said.starts_with("/dev/pts/"), "{said:?}");
}
