//! `strata build --verify`: builds that can't be repeated are told, with what differs and where.

use std::fs;

use serde_json::Value;

use crate::support::{Output, Sandbox, cases};

cases! { Root, User =>
    a_repeatable_build_goes_on,
    what_differs_is_listed_with_its_step,
    two_builds_share_no_results_and_no_caches,
    times_count_where_they_are_set,
}

/// Builds with `args` twice and compares.
fn verify(sandbox: &Sandbox, epoch: Option<&str>, args: &[&str]) -> Output {
    let mut strata = sandbox.strata();
    if let Some(epoch) = epoch {
        strata = strata.env("SOURCE_DATE_EPOCH", epoch);
    }
    strata
        .args(["build", "--progress", "json"])
        .args(args)
        .arg(sandbox.context())
        .output()
}

/// A directory of the machine in which steps can count how often they ran.
fn state(sandbox: &Sandbox) -> String {
    let path = sandbox.path("out/state");
    fs::create_dir(&path).unwrap();
    sandbox.hand_over(&path);
    format!("{}:/state", path.display())
}

fn a_repeatable_build_goes_on(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("a", "a")
        .dockerfile("FROM busybox\nCOPY a /a\nRUN echo x > /x && ln /x /y && rm /etc/group\n");
    let layout = sandbox.fresh_output("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let built = verify(sandbox, Some("1600000000"), &["--verify", "-o", &output]).success();
    assert_eq!(
        built.stdout,
        "reproducible: 2 layers made twice are the same\n"
    );
    assert!(layout.join("index.json").is_file());
    // What the second build made is in the cache, for the outputs and for later.
    let (_, steps) = sandbox.build_with(&[]);
    assert_eq!(steps.ran(), Vec::<&str>::new());
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn what_differs_is_listed_with_its_step(sandbox: &Sandbox) {
    let state = state(sandbox);
    // Each count is one higher in the second build.
    sandbox.busybox().dockerfile(
        "FROM busybox AS early\nRUN echo same > /same\n\
         FROM early\n\n\
         RUN echo >> /state/n; n=$(wc -l < /state/n); echo $n > /content; touch /only$n /mode /owner /link; \\\n\
         \x20   chmod 60$n /mode; chown $n:0 /owner; ln -s $n /soft; rm /etc/group; mkdir /d$n\n\
         RUN n=$(wc -l < /state/n); [ $n = 2 ] && touch /late || true\n\
         RUN echo same > /same2\n",
    );
    let args = ["--verify", "-v", &state];
    let built = verify(sandbox, Some("1600000000"), &args);
    assert_eq!(built.code(), 4, "{built}");
    let mut lines = built.stdout.lines();
    assert_eq!(lines.next(), Some("not reproducible: 2 of 4 layers differ"));
    let step = lines.next().unwrap();
    assert!(
        step.starts_with("Dockerfile:5: RUN echo >> /state/n"),
        "{built}"
    );
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [
            "  /content: content",
            "  /d1: only in the first",
            "  /d2: only in the second",
            "  /mode: mode",
            "  /only1: only in the first",
            "  /only2: only in the second",
            "  /owner: owner",
            "  /soft: target",
            "Dockerfile:7: RUN n=$(wc -l < /state/n); [ $n = 2 ] && touch /late || true",
            "  /late: only in the second",
        ]
    );
    // Nothing was made of it.
    assert_eq!(sandbox.run(&["images", "-aq"]).stdout.lines().count(), 1);
    fs::remove_file(sandbox.path("out/state/n")).unwrap();
    let built = verify(
        sandbox,
        Some("1600000000"),
        &["--verify=json", "-v", &state],
    );
    assert_eq!(built.code(), 4, "{built}");
    let found: Value = serde_json::from_str(&built.stdout).unwrap();
    assert_eq!(found["reproducible"], false);
    let layers = found["platforms"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    assert_eq!(layers[0]["same"], true);
    assert_eq!(layers[1]["line"], 5);
    assert_eq!(layers[1]["differences"][0]["path"], "/content");
    assert_eq!(layers[1]["differences"][0]["differs"][0], "content");
}

fn two_builds_share_no_results_and_no_caches(sandbox: &Sandbox) {
    let state = state(sandbox);
    sandbox.busybox().dockerfile(
        "FROM busybox\n\
         RUN --mount=type=cache,target=/c echo >> /c/n; wc -l < /c/n > /lines; echo >> /state/n\n\
         RUN --mount=type=cache,target=/c wc -l < /c/n > /later\n",
    );
    sandbox.steps(&["-v", &state]);
    sandbox.steps(&["-v", &state, "--no-cache"]);
    // The mount has two lines by now, which neither build may see.
    let built = verify(sandbox, None, &["--verify", "-v", &state]).success();
    assert!(
        built.stdout.starts_with("reproducible: 2 layers"),
        "{built}"
    );
    let runs = fs::read_to_string(sandbox.path("out/state/n")).unwrap();
    assert_eq!(runs.lines().count(), 4);
    let mounts = sandbox
        .run(&["cache", "mount", "ls", "--format", "json"])
        .json();
    assert_eq!(mounts.as_array().unwrap().len(), 1, "{mounts:#}");
    let (image, _) = sandbox.build_with(&["-v", &state]);
    assert_eq!(image.tree().text("lines"), "1\n");
    assert_eq!(image.tree().text("later"), "1\n");
}

fn times_count_where_they_are_set(sandbox: &Sandbox) {
    let state = state(sandbox);
    let dockerfile = |time: &str| {
        format!(
            "FROM busybox\nRUN echo >> /state/n; touch -d @{time}$(wc -l < /state/n) /f && touch /now\n"
        )
    };
    // Later than the time that is set: nobody sees it.
    sandbox.busybox().dockerfile(&dockerfile("170000000"));
    verify(sandbox, Some("1600000000"), &["--verify", "-v", &state]).success();
    sandbox.dockerfile(&dockerfile("150000000"));
    fs::remove_file(sandbox.path("out/state/n")).unwrap();
    let built = verify(sandbox, Some("1600000000"), &["--verify", "-v", &state]);
    assert_eq!(built.code(), 4, "{built}");
    assert!(built.stdout.ends_with("  /f: mtime\n"), "{built}");
    // Where none is set, no two builds have the same.
    let built = verify(sandbox, None, &["--verify", "-v", &state]).success();
    assert!(built.stdout.contains("times were not compared"), "{built}");
}
