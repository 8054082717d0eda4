//! The system call filter beside the one that Debian's docker.io applies, call by call.
//!
//! `make test-seccomp` runs it. What is not the same has to be in [`differences`], with the reason.

mod differences;

use std::collections::BTreeMap;
use std::process::Command;

use self::differences::DIFFERENCES;
use crate::support::{Dockerd, Who, run, run_case};

/// What came of each call, by architecture and number.
type Answers = BTreeMap<(String, String), i64>;

fn read(text: &str) -> Answers {
    let answers: Answers = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let [architecture, call, answer] = words[..] else {
                panic!("`{line}` in {text}")
            };
            let key = (architecture.to_owned(), call.to_owned());
            (key, answer.parse().unwrap())
        })
        .collect();
    assert!(answers.len() > 600, "{text}");
    answers
}

#[test]
#[ignore = "starts a dockerd: `make test-seccomp`"]
#[expect(clippy::print_stderr, reason = "the figures are what it is for")]
fn every_call_is_answered_as_under_docker() {
    run_case(Who::Root, |sandbox| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/seccomp/calls.c");
        let program = sandbox.context().join("calls");
        run(Command::new("cc")
            .args(["-static", "-O1", "-o"])
            .arg(&program)
            .arg(source));
        sandbox.dockerfile("FROM scratch\nCOPY calls /calls\n");
        sandbox.steps(&["-t", "calls"]);
        let strata = read(
            &sandbox
                .run(&["run", "--network=none", "calls", "/calls"])
                .stdout,
        );

        let docker = Dockerd::start(sandbox).unwrap();
        let archive = sandbox.path("out/calls.tar");
        run(Command::new("tar")
            .args(["-cf", archive.to_str().unwrap(), "calls"])
            .current_dir(sandbox.context()));
        run(docker.command().arg("import").arg(&archive).arg("calls"));
        let docker =
            run(docker
                .command()
                .args(["run", "--rm", "--network=none", "calls", "/calls"]));
        let docker = read(&docker);
        assert_eq!(docker.len(), strata.len());
        let mut wrong = Vec::new();
        let mut explained = BTreeMap::<&str, usize>::new();
        let mut same = 0;
        for (key, theirs) in &docker {
            let ours = strata[key];
            if *theirs == ours {
                same += 1;
                continue;
            }
            let known = DIFFERENCES
                .iter()
                .find(|difference| difference.is(&key.0, &key.1, *theirs, ours));
            match known {
                Some(difference) => *explained.entry(difference.why).or_default() += 1,
                None => wrong.push(format!(
                    "{} {}: docker {theirs}, strata {ours}",
                    key.0, key.1
                )),
            }
        }
        eprintln!("{same} calls are answered alike; {explained:#?}");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for difference in DIFFERENCES {
            if !explained.contains_key(difference.why) {
                eprintln!("not seen with this kernel and this docker: {difference:?}");
            }
        }
    });
}
