//! What `build --explain` and `cache why` say.

use serde_json::Value;

use crate::support::{Sandbox, cases, wait_until};

cases! { Root, User =>
    the_first_difference_is_told_by_name,
    what_stands_on_a_change_says_so,
    a_mounted_file_is_named,
    a_file_of_many_is_named_after_builds_that_did_not_look_at_each,
    what_was_pruned_by_a_policy_is_told,
}

/// What a build said of each step that ran: its text and why.
fn reasons(sandbox: &Sandbox, args: &[&str]) -> Vec<(String, Value)> {
    let output = sandbox
        .try_build(&[&["--explain", "--output", "type=cacheonly"], args].concat())
        .success();
    let events: Vec<Value> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let name = |number: &Value| {
        let step = events
            .iter()
            .find(|event| event["type"] == "step" && event["step"] == *number);
        let name = step.unwrap()["name"].as_str().unwrap();
        name.rsplit_once("] ")
            .map_or(name, |(_, text)| text)
            .to_owned()
    };
    let explained = events.iter().filter(|event| event["type"] == "explained");
    explained
        .map(|event| (name(&event["step"]), event.clone()))
        .collect()
}

/// The message for the first step that ran.
#[track_caller]
fn first(sandbox: &Sandbox, args: &[&str]) -> String {
    let reasons = reasons(sandbox, args);
    let (step, event) = reasons.first().expect("a step ran");
    // The same answer later, from the record.
    let why = sandbox
        .run(&["cache", "why", "--format", "json", step])
        .json();
    assert_eq!(why["message"], event["message"], "{step}");
    assert_eq!(why["differences"], event["differences"], "{step}");
    event["message"].as_str().unwrap().to_owned()
}

const DOCKERFILE: &str =
    "FROM base\nENV MODE=fast\nCOPY src /src\nARG VERSION=1.2\nRUN echo $VERSION > /v\n";

fn base(sandbox: &Sandbox, word: &str) {
    sandbox.dockerfile(&format!("FROM busybox\nRUN echo {word} > /word\n"));
    sandbox.steps(&["-t", "base"]);
}

fn the_first_difference_is_told_by_name(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("src/main.rs", "1")
        .write("src/other.rs", "1")
        .write("src/run.sh", "1")
        .symlink("main.rs", "src/link");
    base(sandbox, "one");
    sandbox.dockerfile(DOCKERFILE);
    assert_eq!(first(sandbox, &[]), "never built on this store");
    sandbox.write("src/main.rs", "2");
    assert_eq!(first(sandbox, &[]), "`src/main.rs` changed");
    sandbox.write("src/main.rs", "3").write("src/other.rs", "3");
    assert_eq!(first(sandbox, &[]), "`src/main.rs` changed (and 1 more)");
    sandbox.write_mode("src/run.sh", "1", 0o755);
    assert_eq!(first(sandbox, &[]), "mode of `src/run.sh` 644 -> 755");
    sandbox.remove("src/link").symlink("other.rs", "src/link");
    assert_eq!(
        first(sandbox, &[]),
        "target of `src/link` main.rs -> other.rs"
    );
    sandbox.remove("src/link").write("src/link", "");
    assert_eq!(
        first(sandbox, &[]),
        "`src/link` is a file now, was a symlink"
    );
    sandbox.remove("src/link");
    assert_eq!(first(sandbox, &[]), "`src/link` is gone");
    sandbox.write("src/new.rs", "");
    assert_eq!(first(sandbox, &[]), "`src/new.rs` is new");
    assert_eq!(
        first(sandbox, &["--build-arg", "VERSION=1.3"]),
        "build argument `VERSION` 1.2 -> 1.3"
    );
    sandbox.dockerfile(&DOCKERFILE.replace("fast", "slow"));
    assert_eq!(first(sandbox, &[]), "variable `MODE` fast -> slow");
    base(sandbox, "two");
    sandbox.dockerfile(DOCKERFILE);
    let said = first(sandbox, &[]);
    assert!(
        said.starts_with("base `base` moved sha256:") && said.contains("… -> sha256:"),
        "{said}"
    );
    sandbox.dockerfile(&DOCKERFILE.replace("FROM base", "FROM busybox"));
    assert_eq!(
        first(sandbox, &[]),
        "it stands on base `busybox` now, not base `base`"
    );
}

fn what_stands_on_a_change_says_so(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "1").write("b", "1");
    sandbox.dockerfile(
        "FROM busybox AS one\nCOPY a /a\nRUN cat /a > /c\nFROM busybox\nARG V=1\n\
         COPY --from=one /c /c\nCOPY --link b /b\nRUN cat /b /c > /d\nRUN --mount=from=one,target=/m cat /m/c > /e\n",
    );
    reasons(sandbox, &[]);
    sandbox.write("a", "2");
    let said = |args: &[&str]| -> Vec<(String, String)> {
        reasons(sandbox, args)
            .into_iter()
            .map(|(step, event)| (step, event["message"].as_str().unwrap().to_owned()))
            .collect()
    };
    let mut found = said(&[]);
    found.sort();
    let expected = [
        (
            "COPY --from=one /c /c",
            "what it copies from, `RUN cat /a > /c`, changed",
        ),
        ("COPY a /a", "`a` changed"),
        (
            "RUN --mount=from=one,target=/m cat /m/c > /e",
            "what is mounted at `/m`, `RUN cat /a > /c`, changed (and 1 more)",
        ),
        ("RUN cat /a > /c", "the step below, `COPY a /a`, changed"),
        (
            "RUN cat /b /c > /d",
            "the step below, `COPY --from=one /c /c`, changed",
        ),
    ];
    let expected = expected.map(|(step, why)| (step.to_owned(), why.to_owned()));
    assert_eq!(found, expected);
    // Through a link the step below it is seen, too; and a change of the link itself.
    sandbox.write("b", "2");
    let found = said(&[]);
    assert_eq!(found[0].1, "`b` changed");
    assert_eq!(found[1].1, "the step below, `COPY --link b /b`, changed");
    // A step's own change comes first.
    sandbox.write("b", "3");
    let found = said(&["--build-arg", "V=2"]);
    assert_eq!(found[1].1, "build argument `V` 1 -> 2 (and 1 more)");
}

fn a_mounted_file_is_named(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("a", "1")
        .dockerfile("FROM busybox\nRUN --mount=target=/ctx cat /ctx/a\n");
    reasons(sandbox, &[]);
    sandbox.write_mode("a", "1", 0o600);
    let reasons = reasons(sandbox, &[]);
    let run = reasons.iter().find(|(step, _)| step.starts_with("RUN"));
    assert_eq!(
        run.unwrap().1["message"],
        "mode of `a` 644 -> 600",
        "{reasons:#?}"
    );
}

fn what_was_pruned_by_a_policy_is_told(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo a > /a\n");
    reasons(sandbox, &[]);
    sandbox.configure(
        "[[prune]]\nfilter = [\"kind=mount\"]\nmax-used-space = \"1\"\n\
         [[prune]]\nfilter = [\"description~=echo a\"]\nmax-used-space = \"1\"\n",
    );
    sandbox.dockerfile("FROM busybox\nRUN echo b > /b\n");
    reasons(sandbox, &[]);
    sandbox.dockerfile("FROM busybox\nRUN echo a > /a\n");
    let said = &reasons(sandbox, &[])[0].1["message"];
    let said = said.as_str().unwrap();
    assert!(
        said.starts_with("pruned ") && said.ends_with("ago by policy 2"),
        "{said}"
    );
}

/// Builds until what an earlier build saw of the context is old enough to be believed.
fn settle(sandbox: &Sandbox) {
    let kept = || {
        let folder = sandbox.path("store/statcache");
        let names = std::fs::read_dir(folder).into_iter().flatten();
        names
            .filter_map(Result::ok)
            .any(|name| name.path().extension().is_some_and(|it| it == "walks"))
    };
    wait_until("a walk is kept", || {
        sandbox.steps(&["-t", "many"]);
        kept()
    });
}

fn a_file_of_many_is_named_after_builds_that_did_not_look_at_each(sandbox: &Sandbox) {
    sandbox.busybox();
    for number in 0..600 {
        sandbox.write(&format!("src/{}/{number}", number % 3), "old");
    }
    let dockerfile = "FROM busybox\nCOPY src /src\n\
         RUN --mount=type=bind,source=src,target=/in cat /in/1/7 /src/1/7 > /both\n";
    sandbox.dockerfile(dockerfile);
    settle(sandbox);
    // All steps run, and the files that they copy are looked at only for that.
    let (image, steps) = sandbox.build_with(&["--no-cache"]);
    assert!(
        steps.ran().iter().any(|it| it.contains("COPY")),
        "{steps:?}"
    );
    assert_eq!(image.tree().text("both"), "oldold");
    sandbox.write("src/1/7", "new");
    let said = reasons(sandbox, &[]);
    let names = |text: &str| {
        let (_, event) = said
            .iter()
            .find(|(step, _)| step.starts_with(text))
            .unwrap();
        event.to_string()
    };
    for step in ["COPY", "RUN"] {
        let message = names(step);
        assert!(message.contains("src/1/7"), "{step}: {message}");
    }
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!(image.tree().text("both"), "newnew");
}
