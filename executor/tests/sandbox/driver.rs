//! This program as a caller of the sandbox in a process of its own: one that can be killed, that
//! runs as somebody else, or that has a terminal.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use strata_cache::RootfsPlan;
use strata_executor::sandbox::{
    Credentials, Ended, Limits, Network, RunSpec, Stdio as Streams, probe_overlay, spawn,
};
use strata_executor::userns::enter_user_namespace_if_needed;

use crate::support::{Bench, chain, try_run};

/// First argument that asks for a driver.
const WORD: &str = "as-a-driver";

/// A command that runs this program as the driver `name`, as the user `uid` if not root. The
/// program is copied to where that user may read it.
pub(crate) fn command(directory: &Path, name: &str, user: Option<&[&str]>) -> Command {
    let program = directory.join("driver");
    if !program.exists() {
        std::fs::copy("/proc/self/exe", &program).unwrap();
    }
    let mut command = match user {
        Some(options) => {
            let mut command = Command::new("setpriv");
            command.args(options).arg(&program);
            command
        }
        None => Command::new(&program),
    };
    command.arg(WORD).arg(name).stdin(Stdio::null());
    command
}

/// Runs a driver if the arguments ask for one.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) != Some(WORD) {
        return None;
    }
    let rest: Vec<&str> = arguments[2..].iter().map(String::as_str).collect();
    Some(match arguments[1].as_str() {
        "hold" => hold(rest[0]),
        "user" => user(&rest),
        "terminal" => terminal(rest[0]),
        "inherit" => inherit(rest[0]),
        "time" => time(rest[0]),
        other => panic!("no driver {other}"),
    })
}

/// Runs two processes with `marker` as an argument, with limits, until it is killed.
fn hold(marker: &str) -> ExitCode {
    let bench = Bench::new();
    let mut spec = bench.script(&format!(
        "trap '' TERM; setsid sleep {marker} & exec sleep {marker}"
    ));
    spec.limits = Limits {
        pids: Some(50),
        ..Limits::default()
    };
    spec.network = Network::None;
    drop(spawn(&spec, Box::new(|_, _| {})).unwrap().wait());
    ExitCode::SUCCESS
}

fn stdio(script: &str, stdio: Streams) -> ExitCode {
    let bench = Bench::new();
    let mut spec = bench.script(script);
    spec.stdio = stdio;
    let ran = try_run(&spec);
    match ran.map(|ran| ran.outcome.ended) {
        Ok(Ended::Exit(code)) => ExitCode::from(u8::try_from(code).unwrap()),
        other => {
            println!("{other:?}");
            ExitCode::from(99)
        }
    }
}

/// Runs a script in a terminal.
fn terminal(script: &str) -> ExitCode {
    stdio(script, Streams::Terminal { stdin: true })
}

/// Runs a script with the streams of this process.
fn inherit(script: &str) -> ExitCode {
    stdio(script, Streams::Inherit { stdin: true })
}

/// Runs a script in a user namespace: directory (prepared by the test), uid of the command,
/// `memory` for a limit or `-`, script.
fn user(arguments: &[&str]) -> ExitCode {
    let [directory, uid, limit, script] = arguments else {
        panic!("wrong arguments")
    };
    let directory = Path::new(directory);
    let mapping = match enter_user_namespace_if_needed() {
        Ok(mapping) => mapping,
        Err(error) => {
            println!("no namespace: {}", chain(&error));
            return ExitCode::from(3);
        }
    };
    println!("mapping: {mapping}");
    if let Err(error) = probe_overlay(directory, true) {
        println!("no overlay: {}", chain(&error));
        return ExitCode::from(4);
    }
    for name in ["upper", "work"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
    }
    let uid = uid.parse().unwrap();
    let spec = RunSpec {
        rootfs: RootfsPlan::Overlay {
            lowers: vec![directory.join("base")],
            upper: Some(directory.join("upper")),
            work: Some(directory.join("work")),
            userxattr: true,
        },
        credentials: Credentials {
            uid,
            gid: uid,
            groups: vec![uid],
        },
        limits: Limits {
            memory: (*limit == "memory").then_some(64 << 20),
            ..Limits::default()
        },
        ..Bench::new().script(script)
    };
    match try_run(&spec) {
        Ok(ran) => {
            for line in ran.stdout.iter().chain(&ran.stderr) {
                println!("{line}");
            }
            println!("{:?}", ran.outcome.ended);
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("error: {}", chain(&error));
            ExitCode::from(5)
        }
    }
}

/// Prints what a run of `true` costs, over so many runs.
fn time(rounds: &str) -> ExitCode {
    let rounds: u32 = rounds.parse().unwrap();
    let mut total = std::time::Duration::ZERO;
    for _ in 0..rounds {
        let bench = Bench::new();
        let spec = bench.spec(&["true"]);
        let start = std::time::Instant::now();
        try_run(&spec).unwrap();
        total += start.elapsed();
    }
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN);
    let usage = usage.unwrap();
    println!(
        "children: user {} system {}",
        usage.user_time(),
        usage.system_time()
    );
    let started = std::time::Instant::now();
    for _ in 0..rounds {
        Command::new("/bin/busybox").arg("true").output().unwrap();
    }
    println!(
        "a sandbox: {:?}; /bin/busybox true: {:?}",
        total / rounds,
        started.elapsed() / rounds
    );
    ExitCode::SUCCESS
}
