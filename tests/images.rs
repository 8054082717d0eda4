//! Looking at images and removing them; looking at the cache and cleaning it.

use std::fs;

use crate::support::{Base, Sandbox, cases, run_quietly};

cases! { Root, User =>
    an_image_keeps_its_times_whatever_the_epoch_is_later,
    images_are_listed_with_their_names,
    an_image_has_as_many_names_as_it_is_given,
    removing_a_name_keeps_the_image_until_the_last,
    an_image_is_found_by_a_part_of_its_id,
    inspect_shows_the_configuration,
    history_shows_the_steps,
    a_rebuilt_name_moves_on,
    import_takes_tars_of_all_kinds,
    import_takes_instructions,
    an_empty_store_has_nothing_and_says_so,
    cached_steps_are_listed,
    space_is_counted,
    pruning_frees_what_no_image_needs,
    pruning_keeps_what_was_just_used,
    damage_is_found,
    the_root_can_come_from_the_environment,
}

fn tagged(sandbox: &Sandbox, body: &str, names: &[&str]) {
    sandbox.dockerfile(&format!("FROM busybox\n{body}\n"));
    let args: Vec<&str> = names.iter().flat_map(|name| ["-t", name]).collect();
    sandbox.steps(&args);
}

/// The names in the list, sorted.
fn names(sandbox: &Sandbox, args: &[&str]) -> Vec<String> {
    let mut all = vec!["images", "--format", "json"];
    all.extend_from_slice(args);
    let list = sandbox.run(&all).json();
    let mut names: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap_or("<none>").to_owned())
        .collect();
    names.sort();
    names
}

fn images_are_listed_with_their_names(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(sandbox, "RUN echo 1 > /f", &["team/app:1", "team/app:2"]);
    assert_eq!(
        names(sandbox, &[]),
        ["busybox:latest", "team/app:1", "team/app:2"]
    );
    assert_eq!(names(sandbox, &["team/app"]), ["team/app:1", "team/app:2"]);
    assert_eq!(names(sandbox, &["team/app:2"]), ["team/app:2"]);
    assert_eq!(names(sandbox, &["nothing"]), Vec::<String>::new());
    let table = sandbox.run(&["images"]).stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4);
    for word in ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"] {
        assert!(lines[0].contains(word), "{table}");
    }
    assert!(
        lines[1..]
            .iter()
            .any(|line| line.starts_with("team/app ") && line.contains(" 2 ")),
        "{table}"
    );
    assert_eq!(
        sandbox.run(&["images", "--quiet"]).stdout.lines().count(),
        2
    );
    let size = sandbox
        .run(&["images", "--format", "json", "busybox"])
        .json()[0]["size"]
        .as_u64()
        .unwrap();
    assert!(size > 500_000, "{size}");
}

fn an_image_has_as_many_names_as_it_is_given(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox.run(&["tag", "busybox", "other:1"]);
    sandbox.run(&["tag", "other:1", "registry.example:5000/a/b"]);
    assert_eq!(
        names(sandbox, &[]),
        [
            "busybox:latest",
            "other:1",
            "registry.example:5000/a/b:latest"
        ]
    );
    let inspected = sandbox.run(&["inspect", "other:1"]).json();
    assert_eq!(inspected[0]["RepoTags"].as_array().unwrap().len(), 3);
    sandbox
        .try_run(&["tag", "no-such", "x"])
        .failure(1)
        .says("no-such");
    for bad in ["Upper", "a:b:c", "a b", "", "x@sha256:00"] {
        sandbox.try_run(&["tag", "busybox", bad]).failure(2);
    }
}

fn removing_a_name_keeps_the_image_until_the_last(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox.run(&["tag", "busybox", "other"]);
    sandbox.run(&["rmi", "busybox"]);
    assert_eq!(names(sandbox, &[]), ["other:latest"]);
    assert_eq!(
        sandbox.run(&["run", "other", "echo", "alive"]).stdout,
        "alive\n"
    );
    sandbox.run(&["rmi", "other"]);
    assert_eq!(names(sandbox, &["--all"]), Vec::<String>::new());
    sandbox
        .try_run(&["run", "--pull", "never", "other", "true"])
        .says("other");
    sandbox.try_run(&["rmi", "other"]).failure(1).says("other");
    sandbox.run(&["rmi", "--force", "other"]);
}

fn an_image_is_found_by_a_part_of_its_id(sandbox: &Sandbox) {
    sandbox.busybox();
    let id = sandbox.run(&["inspect", "busybox"]).json()[0]["Id"]
        .as_str()
        .unwrap()
        .to_owned();
    for part in [&id[..], &id[7..], &id[7..19], &id[7..13]] {
        assert_eq!(
            sandbox.run(&["inspect", part]).json()[0]["Id"],
            id.as_str(),
            "{part}"
        );
    }
    sandbox.run(&["tag", &id[7..19], "second"]);
    // Two names: by its ID it goes only if forced.
    sandbox
        .try_run(&["rmi", &id[7..19]])
        .failure(1)
        .says("second");
    sandbox.run(&["rmi", "--force", &id[7..19]]);
    assert_eq!(names(sandbox, &[]), Vec::<String>::new());
}

fn inspect_shows_the_configuration(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(
        sandbox,
        "RUN echo 1 > /f\nENV a=1\nLABEL l=1\nUSER app\nEXPOSE 80",
        &["it"],
    );
    let inspected = sandbox.run(&["inspect", "it"]).json();
    let config = &inspected[0]["Config"];
    assert_eq!(config["User"], "app");
    assert_eq!(config["Labels"], serde_json::json!({"l": "1"}));
    assert_eq!(inspected[0]["Os"], "linux");
    assert_eq!(
        inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(),
        2
    );
    let raw = sandbox.run(&["inspect", "--format", "config", "it"]).json();
    assert_eq!(raw, sandbox.saved("it").config);
    sandbox
        .try_run(&["inspect", "no-such"])
        .failure(1)
        .says("no-such");
}

fn history_shows_the_steps(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(sandbox, "RUN echo 1 > /f\nENV a=1\nCMD [\"x\"]", &["it"]);
    let text = sandbox.run(&["history", "--no-trunc", "it"]).stdout;
    for part in ["echo 1 > /f", "ENV a=1", "CMD [\"x\"]"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(
        sandbox
            .run(&["history", "--format", "json", "it"])
            .json()
            .is_array()
    );
}

fn a_rebuilt_name_moves_on(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(sandbox, "RUN echo 1 > /f", &["it"]);
    let first = sandbox.run(&["inspect", "it"]).json()[0]["Id"].clone();
    tagged(sandbox, "RUN echo 2 > /f", &["it"]);
    let second = sandbox.run(&["inspect", "it"]).json()[0]["Id"].clone();
    assert_ne!(first, second);
    assert_eq!(names(sandbox, &[]), ["busybox:latest", "it:latest"]);
    // The old one is still there, without a name.
    assert_eq!(names(sandbox, &["--all"]).len(), 3);
}

fn import_takes_tars_of_all_kinds(sandbox: &Sandbox) {
    let plain = Base::Busybox.path();
    let plain = plain.to_str().unwrap();
    let expected = sandbox.busybox().saved("busybox").layers;
    for (name, command) in [("gz", "gzip -nc"), ("xz", "xz -0c"), ("bz2", "bzip2 -1c")] {
        let path = sandbox.path(format!("out/b.tar.{name}"));
        let path = path.to_str().unwrap();
        run_quietly("sh", &["-c", &format!("{command} < {plain} > {path}")]);
        sandbox.run(&["import", path, name]);
        assert_eq!(sandbox.saved(name).layers, expected, "{name}");
    }
    let strata = sandbox
        .strata()
        .args(["import", "-", "from-stdin"])
        .stdin(fs::read(plain).unwrap());
    strata.output().success();
    assert_eq!(sandbox.saved("from-stdin").layers, expected);
    // What is no tar is refused.
    let bad = sandbox.path("out/bad");
    fs::write(&bad, "this is no tar").unwrap();
    sandbox.hand_over(&bad);
    sandbox
        .try_run(&["import", bad.to_str().unwrap(), "bad"])
        .failure(1)
        .says("bad");
    sandbox
        .try_run(&["import", "/no/such.tar", "bad"])
        .failure(1)
        .says("/no/such.tar");
}

fn import_takes_instructions(sandbox: &Sandbox) {
    let tar = Base::Busybox.path();
    sandbox.run(&[
        "import",
        "--change",
        "CMD [\"echo\", \"hi\"]",
        "--change",
        "ENV a=1",
        "-c",
        "USER app",
        tar.to_str().unwrap(),
        "it",
    ]);
    let image = sandbox.saved("it");
    assert_eq!(image.env("a"), Some("1"));
    assert_eq!(image.setting("User"), "app");
    assert_eq!(sandbox.run(&["run", "it"]).stdout, "hi\n");
}

fn an_empty_store_has_nothing_and_says_so(sandbox: &Sandbox) {
    assert_eq!(names(sandbox, &["--all"]), Vec::<String>::new());
    assert_eq!(
        sandbox.run(&["cache", "ls", "--format", "json"]).json(),
        serde_json::json!([])
    );
    sandbox.run(&["cache", "du"]);
    sandbox.run(&["cache", "prune", "--all"]);
    sandbox.run(&["cache", "verify"]);
    sandbox.try_run(&["inspect", "x"]).failure(1).says("x");
    assert!(sandbox.run(&["--version"]).stdout.starts_with("strata "));
    sandbox
        .try_run(&["no-such-command"])
        .failure(2)
        .says("no-such-command");
}

fn cached_steps_are_listed(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    tagged(
        sandbox,
        "COPY a /a\nRUN head -c 5000000 /dev/zero > /big",
        &["it"],
    );
    sandbox.steps(&[]);
    let list = sandbox.run(&["cache", "ls", "--format", "json"]).json();
    let list = list.as_array().unwrap();
    let big = list
        .iter()
        .find(|it| it["step"].as_str().unwrap().contains("/big"))
        .unwrap();
    assert!(big["size"].as_u64().unwrap() >= 5_000_000, "{big}");
    assert!(big["uses"].as_u64().unwrap() >= 1, "{big}");
    let table = sandbox.run(&["cache", "ls"]).stdout;
    assert!(
        table.lines().next().unwrap().contains("SIZE") && table.contains("COPY a /a"),
        "{table}"
    );
}

fn space_is_counted(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(sandbox, "RUN head -c 5000000 /dev/urandom > /big", &["it"]);
    let du = sandbox.run(&["cache", "du", "--format", "json"]).json();
    assert!(du.to_string().len() > 10, "{du}");
    let table = sandbox.run(&["cache", "du"]).stdout;
    assert!(table.contains("MB"), "{table}");
}

/// What the store takes, in bytes.
fn size(sandbox: &Sandbox) -> u64 {
    let text = run_quietly(
        "du",
        &[
            "--summarize",
            "--bytes",
            sandbox.path("store").to_str().unwrap(),
        ],
    );
    text.split('\t').next().unwrap().parse().unwrap()
}

fn pruning_frees_what_no_image_needs(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(sandbox, "RUN head -c 20000000 /dev/urandom > /a", &["gone"]);
    tagged(sandbox, "RUN head -c 10000000 /dev/urandom > /b", &["kept"]);
    let before = size(sandbox);
    sandbox.run(&["rmi", "gone"]);
    let told = sandbox.run(&["cache", "prune", "--dry-run"]);
    assert_eq!(size(sandbox) / 1_000_000, before / 1_000_000, "{told}");
    sandbox.run(&["cache", "prune"]);
    let after = size(sandbox);
    assert!(after + 19_000_000 < before, "{before} {after}");
    sandbox.run(&["cache", "verify", "--deep"]);
    // What is kept works, and is still a hit.
    assert_eq!(
        sandbox
            .run(&["run", "kept", "sh", "-c", "wc -c < /b"])
            .stdout,
        "10000000\n"
    );
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
    sandbox.run(&["rmi", "kept", "busybox"]);
    sandbox.run(&["cache", "prune", "--all"]);
    // The index, and the reserve that lets a full store be pruned.
    assert!(size(sandbox) < 2_000_000 + (4 << 20), "{}", size(sandbox));
}

fn pruning_keeps_what_was_just_used(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo x > /x\n");
    sandbox.steps(&[]);
    sandbox.run(&["cache", "prune", "--all", "--keep-duration", "1h"]);
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
}

fn damage_is_found(sandbox: &Sandbox) {
    sandbox.busybox();
    tagged(sandbox, "RUN echo content > /file", &["it"]);
    sandbox.run(&["push", "--help"]);
    sandbox.run(&["cache", "verify", "--deep"]);
    // Any blob: the newest file whose name is a digest.
    let blob = run_quietly(
        "find",
        &[
            sandbox.path("store").to_str().unwrap(),
            "-type",
            "f",
            "-regextype",
            "posix-extended",
            "-regex",
            ".*/[0-9a-f]{64}",
            "-print",
            "-quit",
        ],
    );
    let blob = blob.trim_end();
    assert!(!blob.is_empty(), "the store has no blob");
    let mut bytes = fs::read(blob).unwrap();
    bytes.push(b' ');
    fs::remove_file(blob).unwrap();
    fs::write(blob, bytes).unwrap();
    sandbox.hand_over(blob.as_ref());
    let output = sandbox.try_run(&["cache", "verify", "--deep"]);
    assert!(!output.status.success(), "{output}");
    assert!(
        output.stdout.contains(&blob[blob.len() - 64..][..12]),
        "{output}"
    );
}

fn the_root_can_come_from_the_environment(sandbox: &Sandbox) {
    sandbox.busybox();
    let output = std::process::Command::new(sandbox.binary())
        .args(["images", "--format", "json"])
        .env("STRATA_ROOT", sandbox.path("store"))
        .output()
        .unwrap();
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    // As root over an ordinary user's store it may refuse; it never makes another one.
    assert!(
        list.contains("busybox") || !output.status.success(),
        "{list}"
    );
}

fn an_image_keeps_its_times_whatever_the_epoch_is_later(sandbox: &Sandbox) {
    sandbox.busybox();
    let build = |name: &str, epoch: &str, dockerfile: &str| {
        sandbox.dockerfile(dockerfile);
        let strata = sandbox.strata().env("SOURCE_DATE_EPOCH", epoch);
        let strata = strata.args(["build", "-t", name]);
        strata.arg(sandbox.context()).output().success();
    };
    let layers = |name: &str| {
        let image = sandbox.saved(name);
        let layers = image.config["rootfs"]["diff_ids"].as_array().unwrap();
        layers.clone()
    };
    // An empty value is none.
    build("plain", "", "FROM busybox\nRUN echo a > /a\n");
    build("old", "1500000000", "FROM plain\nRUN echo b > /b\n");
    build("older", "1400000000", "FROM old\nRUN echo c > /c\n");
    build("new", "", "FROM older\nRUN echo d > /d\n");
    // Not even a prune that takes what layers were packed into takes that away.
    sandbox.run(&["cache", "prune", "--all"]);
    let new = layers("new");
    for (name, above) in [("older", 1), ("old", 2), ("plain", 3)] {
        assert_eq!(layers(name), new[..new.len() - above], "{name}");
    }
}
