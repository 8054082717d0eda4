//! Secrets: in the memory of the step that asks, and nowhere else.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::support::{Gate, Output, Sandbox, cases, wait_until};

cases! { Root, User =>
    a_secret_that_a_command_prints_is_masked,
    a_secret_is_in_nothing_that_a_build_leaves,
    a_secret_is_not_left_by_a_build_that_is_killed,
}

/// Not a word of any dictionary, nor of any other test.
const SECRET: &str = "tr0ub4dor-et-3-chevaux";

/// Two lines of a key.
const KEY: &str = "-----BEGIN SECRET-----\nYWJjZGVmZ2hpamtsbW5vcA\ncXJzdHV2d3h5enphYmNk\n";

fn write(sandbox: &Sandbox, name: &str, content: &str) -> String {
    let path = sandbox.path("home").join(name);
    fs::write(&path, content).unwrap();
    sandbox.hand_over(&path);
    format!("id={name},src={}", path.display())
}

/// A build of the context with both secrets, in this way of showing progress.
fn build(sandbox: &Sandbox, progress: &str, more: &[&str]) -> Output {
    let (one, key) = (write(sandbox, "one", SECRET), write(sandbox, "key", KEY));
    sandbox
        .strata()
        .args(["build", "--progress", progress, "--secret", &one])
        .args(["--secret", &key])
        .args(more)
        .arg(sandbox.context())
        .output()
}

fn a_secret_that_a_command_prints_is_masked(sandbox: &Sandbox) {
    sandbox.busybox();
    let mounts = "--mount=type=secret,id=one,env=ONE --mount=type=secret,id=key";
    let base64 = "echo $ONE | base64; base64 /run/secrets/key";
    // In pieces, to one stream and to the other, as it is and otherwise.
    let script = format!(
        "printf 'begin tr0ub4dor'; sleep 0.3; echo '-et-3-chevaux end'; echo err $ONE >&2; \
         cat /run/secrets/key; sed 's/^/line: /' /run/secrets/key; {base64}; \
         printf 'short tr0ub4dor'; "
    );
    let line = |script: &str| format!("FROM busybox\nRUN {mounts} {script}\n");
    for (progress, code) in [
        ("plain", 0),
        ("json", 0),
        ("plain", 7),
        ("json", 7),
        ("quiet", 7),
    ] {
        sandbox.dockerfile(&line(&format!("{script} exit {code}")));
        let output = build(sandbox, progress, &["--no-cache", "--log-level", "trace"]);
        assert_eq!(output.code(), i32::from(code != 0), "{output}");
        let said = format!("{}{}", output.stdout, output.stderr);
        // What begins like it and isn't it is shown; the Dockerfile's own text is no secret.
        let shown: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains("RUN ") && !line.contains("id=one"))
            .collect();
        let shown = shown.join("\n");
        for part in [
            SECRET,
            "YWJjZGVm",
            "cXJzdHV2",
            "dHIwdWI0",
            "WVdKalpH",
            "BEGIN SECRET",
        ] {
            assert!(!shown.contains(part), "{progress}: {part} in {said}");
        }
        for part in ["begin *** end", "err ***", "line: ***", "short tr0ub4dor"] {
            assert!(shown.contains(part), "{progress}: no {part} in {said}");
        }
    }
    // Without being told that it is one, strata shows it.
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN echo {SECRET} | tr a-z b-za | tr b-za a-z\n"
    ));
    let output = sandbox.try_build(&[]).success();
    assert_eq!(output.steps().output("echo"), [SECRET]);
}

/// Whether a file below `directory` has the text in it.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let found = Command::new("grep")
        .args(["-rlaF", text])
        .arg(directory)
        .output()
        .unwrap();
    String::from_utf8(found.stdout)
        .unwrap()
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

/// Processes whose arguments or environment have the text in them, but for grep and the like of other
/// tests: what was started from this sandbox.
fn processes_with(sandbox: &Sandbox, text: &str) -> Vec<String> {
    let store = sandbox.path("store").display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let mounts = read("mountinfo");
        let (line, environment) = (read("cmdline"), read("environ"));
        let has = |bytes: &[u8], text: &str| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        let ours = has(&line, &store) || has(&mounts, "/etc/resolv.conf");
        if ours && (has(&line, text) || has(&environment, text)) {
            found.push(String::from_utf8_lossy(&line).into_owned());
        }
    }
    found
}

fn a_secret_is_in_nothing_that_a_build_leaves(sandbox: &Sandbox) {
    sandbox.busybox();
    let one = write(sandbox, "one", SECRET);
    let outputs = ["oci", "docker", "tar", "local"].map(|kind| {
        let to = sandbox.fresh_output(kind);
        let more = if kind == "oci" {
            ",compression=uncompressed"
        } else {
            ""
        };
        format!("type={kind},dest={}{more}", to.display())
    });
    let build = |line: &str, arguments: &[&str]| {
        let gate = Gate::new();
        sandbox.dockerfile(&format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c --mount=type=secret,{line} \
             sh -c 'cat /run/secrets/one 2>&1 | wc -c > /size; {}'\n",
            gate.command()
        ));
        let mut strata = sandbox
            .strata()
            .args(["--log-level", "trace", "build", "-t", "it"])
            .args(["--provenance=mode=max", "--sbom=true", "--metadata-file"])
            .arg(sandbox.path("out/metadata"));
        for output in &outputs {
            strata = strata.args(["--output", output]);
        }
        let running = strata.args(arguments).arg(sandbox.context()).spawn();
        let waiting = gate.wait();
        let processes = processes_with(sandbox, SECRET);
        waiting.open();
        (processes, running.wait().success())
    };
    let (processes, output) = build("id=one", &["--load", "--secret", &one]);
    assert_eq!(processes, Vec::<String>::new());
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(SECRET), "{output}");
    }
    for place in ["store", "out", "context"] {
        assert_eq!(
            files_with(&sandbox.path(place), SECRET),
            Vec::<String>::new()
        );
    }
    // But where it came from.
    let mine = sandbox.path("home/one").display().to_string();
    assert_eq!(files_with(&sandbox.path("home"), SECRET), [mine]);
    assert!(sandbox.path("out/metadata").exists());
    for command in [
        &["cache", "ls", "--format", "json"][..],
        &["inspect", "it"],
        &["history", "it"],
    ] {
        assert!(!sandbox.run(command).stdout.contains(SECRET));
    }
    // What is looked at is where it would be: an argument of a build is in all of them.
    let line = format!("id=none --mount=type=tmpfs,target=/t env SEEN={SECRET}");
    let (processes, _) = build(&line, &["--load"]);
    assert_ne!(processes, Vec::<String>::new());
    assert_ne!(
        files_with(&sandbox.path("store"), SECRET),
        Vec::<String>::new()
    );
}

fn a_secret_is_not_left_by_a_build_that_is_killed(sandbox: &Sandbox) {
    sandbox.busybox();
    // The latter leaves a core file, where there is to be one.
    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        kill_with_secret(sandbox, signal);
    }
}

fn kill_with_secret(sandbox: &Sandbox, signal: Signal) {
    let gate = Gate::new();
    sandbox.dockerfile(&format!(
        "FROM busybox\nRUN --mount=type=secret,id=one,target=/deep/one cat /deep/one; {}\n",
        gate.command()
    ));
    let one = write(sandbox, "one", SECRET);
    let strata = sandbox.strata().args(["build", "--secret", &one]);
    let running = strata.arg(sandbox.context()).spawn();
    let waiting = gate.wait();
    // Its memory is nobody's to look into.
    let memory = format!("/proc/{}/mem", running.pid());
    assert_eq!(fs::metadata(memory).unwrap().uid(), 0);
    running.signal(signal);
    running.wait();
    waiting.wait_for_end();
    wait_until("its processes are gone", || sandbox.processes().is_empty());
    for place in ["store", "out", "context"] {
        assert_eq!(
            files_with(&sandbox.path(place), SECRET),
            Vec::<String>::new()
        );
    }
}
