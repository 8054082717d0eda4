//! `strata cache`: looking, pruning, mounts.

use std::fs;

use serde_json::Value;

use crate::support::{Sandbox, Tree, cases, run_quietly};

cases! { Root, User =>
    what_is_there_can_be_listed_filtered_and_inspected,
    a_prune_says_what_goes_and_explain_says_what_went,
    a_policy_prunes_after_builds,
    what_is_pinned_stays,
    what_is_damaged_is_taken_out_and_made_again,
    cache_mounts_travel,
}

cases! { Root =>
    du_agrees_with_du,
}

const DOCKERFILE: &str = "FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n\
    RUN --mount=type=cache,id=m,target=/m echo c > /m/c; mkdir -p /m/d; ln -sf ../c /m/d/l\n";

fn built(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(DOCKERFILE);
    sandbox.steps(&["--output", "type=cacheonly"]);
}

fn ids(sandbox: &Sandbox, filter: &[&str]) -> Vec<String> {
    let mut args = vec!["cache", "ls", "--format", "{{.ID}}"];
    args.extend(filter.iter().flat_map(|filter| ["--filter", filter]));
    let output = sandbox.run(&args);
    output.stdout.lines().map(str::to_owned).collect()
}

fn what_is_there_can_be_listed_filtered_and_inspected(sandbox: &Sandbox) {
    built(sandbox);
    assert_eq!(ids(sandbox, &["kind=run"]).len(), 3);
    assert_eq!(
        ids(sandbox, &["kind=run", "description~=echo [ab]"]).len(),
        2
    );
    assert_eq!(ids(sandbox, &["kind=mount"]), ["/m"]);
    assert_eq!(ids(sandbox, &["until=1h"]), Vec::<String>::new());
    let b = &ids(sandbox, &["description=RUN echo b > /b"])[0];
    let tree = sandbox.run(&["cache", "ls", "--tree"]).stdout;
    assert!(tree.contains("  RUN echo a"), "{tree}");
    assert!(tree.contains("    RUN echo b"), "{tree}");
    let ends: Vec<&str> = tree
        .lines()
        .filter(|line| line.contains("built `"))
        .collect();
    assert_eq!(ends.len(), 1, "one build, one end: {tree}");
    let json = sandbox.run(&["cache", "ls", "--format", "json"]).json();
    let rows = json.as_array().unwrap().iter();
    let builds = rows.map(|row| row["builds"].as_array().unwrap().len());
    assert_eq!(builds.sum::<usize>(), 1, "{json:#}");
    let found = sandbox
        .run(&["cache", "inspect", "--format", "json", &b[..8]])
        .json();
    assert_eq!(found["step"], "RUN echo b > /b");
    assert!(fs::metadata(found["path"].as_str().unwrap()).is_ok());
    let parts = found["key_parts"].as_array().unwrap();
    assert!(
        parts.iter().any(|part| part["value"] == "echo b > /b"),
        "{found:#}"
    );
    sandbox.run(&["cache", "inspect", b]);
    sandbox.try_run(&["cache", "inspect", "zz"]).failure(1);
    for args in [["--filter", "label=x"], ["--format", "{{.Nope}}"]] {
        sandbox
            .try_run(&["cache", "ls", args[0], args[1]])
            .failure(2);
    }
}

fn a_prune_says_what_goes_and_explain_says_what_went(sandbox: &Sandbox) {
    built(sandbox);
    sandbox.steps(&["-t", "app"]);
    let filter = ["cache", "prune", "--filter", "description~=/m/c$|mkdir"];
    let dry = sandbox
        .run(&[&filter[..], &["--all", "--dry-run"]].concat())
        .stdout;
    assert!(dry.contains("echo c > /m/c"), "{dry}");
    assert!(
        dry.contains("steps of `app:latest` would run again"),
        "{dry}"
    );
    let context = sandbox.context().display().to_string();
    let build = format!("steps of the build of `{context}` (");
    assert!(dry.contains(&build), "{dry}");
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
    // A named image keeps its steps unless all is asked for.
    let pruned = |more: &[&str]| -> Value {
        sandbox
            .run(&[&filter[..], &["--format", "json"], more].concat())
            .json()
    };
    assert_eq!(pruned(&[])["steps"].as_array().unwrap().len(), 0);
    assert_eq!(pruned(&["--all"])["steps"].as_array().unwrap().len(), 1);
    let output = sandbox.try_build(&["--explain"]).success();
    assert_eq!(output.steps().ran().len(), 1);
    assert!(
        output.stderr.contains("ago by `strata cache prune`"),
        "{output}"
    );
    for (flag, value) in [
        ("--reserved-space", "100%"),
        ("--max-used-space", "100%"),
        ("--min-free-space", "0"),
        ("--keep-inodes", "0"),
    ] {
        let args = ["cache", "prune", "--all", "--format", "json", flag, value];
        assert_eq!(
            sandbox.run(&args).json()["steps"].as_array().unwrap().len(),
            0,
            "{flag}"
        );
    }
}

fn a_policy_prunes_after_builds(sandbox: &Sandbox) {
    built(sandbox);
    let config = sandbox.path("home/.config/strata");
    fs::create_dir_all(&config).unwrap();
    let file = config.join("config.toml");
    fs::write(
        &file,
        "[[prune]]\nfilter = [\"description~=echo b\"]\nmax-used-space = \"1\"\n",
    )
    .unwrap();
    // Nothing ran, so nothing is looked at.
    sandbox.steps(&["--output", "type=cacheonly"]);
    assert_eq!(ids(sandbox, &["kind=run"]).len(), 3);
    sandbox.dockerfile("FROM busybox\nRUN echo other\n");
    sandbox.steps(&["--output", "type=cacheonly"]);
    // The step above stands on it.
    assert_eq!(ids(sandbox, &["kind=run"]).len(), 4);
    fs::write(&file, "[[prune]]\nmax-used-space = \"1\"\n").unwrap();
    sandbox.dockerfile("FROM busybox\nRUN echo more\n");
    let output = sandbox
        .strata()
        .args(["build", "--progress", "plain", "--output", "type=cacheonly"])
        .arg(sandbox.context())
        .output()
        .success();
    assert!(
        output.stderr.contains("pruned 5 cached steps by policy"),
        "{output}"
    );
    assert_eq!(ids(sandbox, &["kind=run"]).len(), 0);
    fs::write(&file, "[[prune]]\nkeep = 1\n").unwrap();
    let output = sandbox.try_build(&[]).failure(2);
    assert!(output.stderr.contains("config.toml"), "{output}");
}

fn what_is_damaged_is_taken_out_and_made_again(sandbox: &Sandbox) {
    built(sandbox);
    // An image has digests of its layers; before, there is nothing to hold one against.
    sandbox.steps(&["-t", "app"]);
    sandbox.run(&["cache", "verify", "--deep"]);
    let b = ids(sandbox, &["description=RUN echo b > /b"]).remove(0);
    let file = sandbox.path("store/layers").join(&b).join("b");
    // As long as before: only its content tells.
    fs::write(&file, "x\n").unwrap();
    let found = sandbox.try_run(&["cache", "verify", "--deep"]).failure(3);
    assert!(found.stdout.contains(&b), "{found}");
    assert!(found.stderr.contains("--repair"), "{found}");
    let repaired = sandbox.run(&["cache", "verify", "--deep", "--repair"]);
    assert!(repaired.stdout.contains(&b), "{repaired}");
    sandbox.run(&["cache", "verify", "--deep"]);
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=tar,dest={}", archive.display());
    let steps = sandbox.steps(&["--output", &to]);
    assert_eq!(steps.ran().first(), Some(&"RUN echo b > /b"));
    assert_eq!(Tree::of_tar(&*fs::read(archive).unwrap()).text("b"), "b\n");
}

fn what_is_pinned_stays(sandbox: &Sandbox) {
    built(sandbox);
    let b = ids(sandbox, &["description=RUN echo b > /b"]).remove(0);
    sandbox.run(&["cache", "pin", &b[..10], "m"]);
    assert_eq!(ids(sandbox, &["pinned"]), [b.clone(), "/m".to_owned()]);
    sandbox.run(&["cache", "prune", "--all"]);
    assert_eq!(ids(sandbox, &["kind=run"]).len(), 2);
    assert_eq!(ids(sandbox, &["kind=mount"]), ["/m"]);
    sandbox.run(&["cache", "unpin", &b, "m"]);
    sandbox.run(&["cache", "prune", "--all"]);
    assert_eq!(ids(sandbox, &["kind=run"]).len(), 0);
    assert_eq!(ids(sandbox, &["kind=mount"]), Vec::<String>::new());
    sandbox.run(&["cache", "verify"]);
}

fn cache_mounts_travel(sandbox: &Sandbox) {
    built(sandbox);
    let list = sandbox
        .run(&["cache", "mount", "ls", "--format", "{{.ID}}"])
        .stdout;
    assert_eq!(list, "/m\n");
    let shown = sandbox.run(&["cache", "mount", "show", "m"]).stdout;
    assert!(
        shown.contains(" 2  c\n") && shown.contains("d/l"),
        "{shown}"
    );
    let archive = sandbox.fresh_output("tar");
    let archive = archive.to_str().unwrap();
    sandbox.run(&["cache", "mount", "export", "m", "-o", archive]);
    sandbox.run(&["cache", "mount", "clear", "m"]);
    sandbox.try_run(&["cache", "mount", "show", "m"]).failure(1);
    sandbox
        .try_run(&["cache", "mount", "export", "m", "-o", "/dev/null"])
        .failure(1);
    sandbox.run(&["cache", "mount", "import", "n", "-i", archive]);
    let image = sandbox.build(
        "FROM busybox\nRUN --mount=type=cache,id=n,target=/n cat /n/d/l > /out; echo more > /n/c\n",
    );
    assert_eq!(image.tree().text("out"), "c\n");
    // What can't be read changes nothing.
    let broken = sandbox
        .strata()
        .args(["cache", "mount", "import", "n"])
        .stdin("no tar");
    assert_ne!(broken.output().code(), 0);
    let shown = sandbox.run(&["cache", "mount", "show", "n"]).stdout;
    assert!(shown.contains(" 5  c\n"), "{shown}");
    sandbox.run(&["cache", "verify"]);
}

fn du_agrees_with_du(sandbox: &Sandbox) {
    built(sandbox);
    // Files that layers share, sparse ones, many names of one, and blobs.
    sandbox.dockerfile(
        "FROM busybox AS one\nRUN dd if=/dev/urandom bs=1000 count=3000 of=/f; ln /f /g; \
         truncate -s 100M /sparse\nFROM busybox\nCOPY --from=one /f /g /sparse /d/\nRUN mkdir -p $(seq 300)\n",
    );
    sandbox.build_with(&[]);
    let usage = sandbox.run(&["cache", "du", "--format", "json"]).json();
    let total = usage["total"].as_u64().unwrap();
    let store = sandbox.path("store");
    let du = run_quietly("du", &["-s", "--block-size=1", store.to_str().unwrap()]);
    let du: u64 = du.split('\t').next().unwrap().parse().unwrap();
    assert!(
        total.abs_diff(du) * 100 <= du,
        "{total} and {du}: {usage:#}"
    );
}
