//! Other programs: skopeo, umoci, buildah, tar.

use std::process::Command;

/// Runs `command`, which must succeed, and returns its stdout.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run `make deps`"));
    assert!(
        output.status.success(),
        "{command:?}\n{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `program` with `args`, which must succeed, and returns its stdout.
#[track_caller]
pub(crate) fn run_quietly(program: &str, args: &[&str]) -> String {
    run(Command::new(program).args(args))
}
