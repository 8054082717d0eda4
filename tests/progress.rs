//! What a build shows.

use crate::support::{Sandbox, cases, redact};

cases! { Root =>
    plain_lines_carry_their_step,
    quiet_says_nothing_but_errors,
    json_is_one_object_a_line,
    lines_of_steps_do_not_mix,
    control_characters_do_not_reach_a_terminal,
    a_failure_repeats_the_last_lines,
}

fn plain(sandbox: &Sandbox, args: &[&str]) -> crate::support::Output {
    let strata = sandbox
        .strata()
        .args(["build", "--progress", "plain"])
        .args(args);
    strata.arg(sandbox.context()).output()
}

fn plain_lines_carry_their_step(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox AS one\nRUN echo first\nFROM one\nRUN echo second; echo third >&2\n",
    );
    let first = plain(sandbox, &["-t", "it"]).success();
    assert_eq!(first.stdout, "");
    for part in ["RUN echo first", "first", "second", "third", "it:latest"] {
        assert!(first.stderr.contains(part), "`{part}` not in {first}");
    }
    assert!(
        !first.stderr.contains("CACHED RUN") && !first.stderr.contains('\u{1b}'),
        "{first}"
    );
    let again = plain(sandbox, &["-t", "it"]).success();
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{again}");
    // Off a terminal it is what comes without being asked for.
    let auto = sandbox
        .strata()
        .args(["build", "-t", "it"])
        .arg(sandbox.context())
        .output()
        .success();
    assert_eq!(
        redact(&auto.stderr, sandbox),
        redact(&again.stderr, sandbox)
    );
}

fn quiet_says_nothing_but_errors(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo loud\n");
    let quiet = sandbox
        .strata()
        .args(["build", "--progress", "quiet"])
        .arg(sandbox.context())
        .output();
    assert_eq!(quiet.success().stderr, "");
    sandbox.dockerfile("FROM busybox\nRUN echo why; exit 4\n");
    let failed = sandbox
        .strata()
        .args(["build", "--progress", "quiet"])
        .arg(sandbox.context())
        .output();
    failed.failure(1).says("why").says("exit code: 4");
}

fn json_is_one_object_a_line(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo 'a \"b\" \\ '; printf '\\033[31mred\\n'\n");
    let output = sandbox.try_build(&["-t", "it"]).success();
    for line in output.stderr.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(object["type"].is_string(), "{line}");
    }
    let steps = output.steps();
    assert_eq!(steps.output("RUN echo"), ["a \"b\" \\ ", "\u{1b}[31mred"]);
}

fn lines_of_steps_do_not_mix(sandbox: &Sandbox) {
    let mut dockerfile = String::new();
    for stage in ["a", "b", "c"] {
        dockerfile += &format!(
            "FROM busybox AS {stage}\nRUN for i in $(seq 2000); do echo {stage}-$i-{stage}; done; touch /{stage}\n"
        );
    }
    dockerfile += "FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\nCOPY --from=c /c /\n";
    sandbox.busybox().dockerfile(&dockerfile);
    let steps = sandbox.steps(&["--jobs", "3"]);
    for stage in ["a", "b", "c"] {
        let expected: Vec<String> = (1..=2000)
            .map(|i: u32| format!("{stage}-{i}-{stage}"))
            .collect();
        assert_eq!(steps.output(&format!("echo {stage}-")), expected);
    }
}

fn control_characters_do_not_reach_a_terminal(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN printf 'a\\033[2J\\033]0;title\\007b\\rc\\n'\n");
    let output = plain(sandbox, &[]).success();
    assert!(
        !output.stderr.contains("\u{1b}[2J") && !output.stderr.contains('\u{7}'),
        "{output:?}"
    );
}

fn a_failure_repeats_the_last_lines(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN seq 100; echo the reason >&2; exit 3\n");
    let output = plain(sandbox, &[]).failure(1);
    let after = output.stderr.rsplit_once("error").map_or("", |(_, it)| it);
    let tail = &output.stderr[output.stderr.len() - output.stderr.len().min(2500)..];
    assert!(
        tail.contains("the reason") && tail.contains("100"),
        "{output}"
    );
    assert!(
        after.contains("exit code: 3") || tail.contains("exit code: 3"),
        "{output}"
    );
}
