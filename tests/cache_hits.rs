//! What is a hit after which edit.

use std::fs;
use std::os::unix::fs::chown;
use std::time::SystemTime;

use crate::support::{Image, Sandbox, Who, cases};

cases! { Root, User =>
    an_unchanged_build_runs_nothing,
    an_edit_runs_what_depends_on_it,
    an_edit_taken_back_hits_again,
    times_and_unrelated_files_do_not_matter,
    a_changed_mode_matters,
    neutral_modes_make_checkouts_one,
    the_same_file_elsewhere_is_the_same_file,
    an_argument_matters_from_its_line_on,
    settings_run_nothing_but_what_sees_them,
    comments_and_spelling_do_not_matter,
    no_cache_runs_everything_and_is_remembered,
    one_instruction_or_stage_can_be_kept_from_the_cache,
    a_result_can_be_too_old,
    two_files_share_what_they_have_in_common,
    an_equal_result_stops_the_reruns,
    an_equal_layer_on_another_stack_hides_no_change_below,
    the_same_step_many_times_makes_as_many_layers,
    a_copy_of_the_same_files_stops_the_reruns,
    a_reader_of_a_stage_is_a_hit_if_what_it_reads_is_the_same,
    a_reader_of_a_stage_runs_if_what_it_reads_differs,
    a_copy_whose_source_was_pruned_is_compared_by_what_it_makes,
    a_layer_given_up_for_an_older_one_is_gone_at_the_end,
    a_secret_is_not_part_of_the_key,
    the_base_is_part_of_the_key,
    a_file_changed_within_the_same_second_is_seen,
    a_removed_file_is_seen,
    a_rebuilt_image_is_the_same_image,
}

cases! { Root =>
    equal_inputs_give_equal_digests_everywhere,
}

const DOCKERFILE: &str = "\
FROM busybox
WORKDIR /w
COPY a b ./
RUN cat a b > ab
ENV e=1
RUN echo $e > e
COPY c ./
RUN cat c > cc
LABEL l=1
CMD [\"true\"]
";

const ALL: [&str; 6] = [
    "WORKDIR /w",
    "COPY a b ./",
    "RUN cat a b > ab",
    "RUN echo $e > e",
    "COPY c ./",
    "RUN cat c > cc",
];

/// A sandbox where `DOCKERFILE` has been built.
fn prepared(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("a", "a")
        .write("b", "b")
        .write("c", "c")
        .dockerfile(DOCKERFILE);
    assert_eq!(sandbox.steps(&[]).ran(), ALL);
}

/// Builds and compares what ran; everything else must have been a hit.
#[track_caller]
fn reruns(sandbox: &Sandbox, expected: &[&str]) {
    let steps = sandbox.steps(&[]);
    assert_eq!(steps.ran(), expected);
    assert_eq!(
        steps.cached().len(),
        ALL.len() - expected.len(),
        "{steps:?}"
    );
}

fn an_unchanged_build_runs_nothing(sandbox: &Sandbox) {
    prepared(sandbox);
    for _ in 0..2 {
        assert_eq!(sandbox.steps(&[]).cached(), ALL);
    }
}

fn an_edit_runs_what_depends_on_it(sandbox: &Sandbox) {
    prepared(sandbox);
    sandbox.write("c", "C");
    reruns(sandbox, &ALL[4..]);
    let tree = sandbox.build(DOCKERFILE).tree();
    assert_eq!(tree.text("w/cc"), "C");
    sandbox.write("b", "B");
    reruns(sandbox, &ALL[1..]);
    assert_eq!(sandbox.build(DOCKERFILE).tree().text("w/ab"), "aB");
    sandbox.dockerfile(&DOCKERFILE.replace("WORKDIR /w", "WORKDIR /v"));
    let steps = sandbox.steps(&[]);
    assert_eq!(steps.cached(), Vec::<&str>::new());
}

fn an_edit_taken_back_hits_again(sandbox: &Sandbox) {
    prepared(sandbox);
    sandbox.write("a", "other");
    reruns(sandbox, &ALL[1..]);
    sandbox.write("a", "a");
    reruns(sandbox, &[]);
    assert_eq!(sandbox.build(DOCKERFILE).tree().text("w/ab"), "ab");
}

/// §14.1.
fn times_and_unrelated_files_do_not_matter(sandbox: &Sandbox) {
    prepared(sandbox);
    let file = fs::File::options()
        .write(true)
        .open(sandbox.context().join("a"))
        .unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    sandbox.write("unrelated", "").write("d/also", "");
    // The same content in a new file.
    sandbox.remove("b").write("b", "b");
    reruns(sandbox, &[]);
}

/// §14.4.
fn the_same_file_elsewhere_is_the_same_file(sandbox: &Sandbox) {
    sandbox.write("one/f", "same").write("two/deep/f", "same");
    sandbox.dockerfile("FROM scratch\nCOPY one/f /x\nCOPY one /d\n");
    sandbox.steps(&[]);
    sandbox.dockerfile("FROM scratch\nCOPY two/deep/f /x\nCOPY two/deep /d\n");
    assert_eq!(sandbox.steps(&[]).ran(), [""; 0]);
    sandbox.write("two/deep/f", "other");
    assert_eq!(sandbox.steps(&[]).ran().len(), 2);
}

/// §14.1.
fn a_changed_mode_matters(sandbox: &Sandbox) {
    prepared(sandbox);
    sandbox.write_mode("c", "c", 0o600);
    reruns(sandbox, &ALL[4..]);
    assert_eq!(sandbox.build(DOCKERFILE).tree().at("w/c").mode, 0o600);
}

fn neutral_modes_make_checkouts_one(sandbox: &Sandbox) {
    sandbox.busybox();
    let checkout = |name: &str, umask: u32| {
        let file = |path: &str, mode: u32| {
            let path = format!("{name}/{path}");
            sandbox.write_mode(&path, &path[name.len()..], mode & !umask);
        };
        sandbox.mkdir(&format!("{name}/src"), 0o777 & !umask);
        file("src/a", 0o666);
        file("src/run", 0o777);
        let dockerfile = "FROM busybox\nCOPY src /src\nRUN --mount=target=/ctx ls -lR /ctx/src | cut -c 1-10 > /ls\n";
        sandbox.write(&format!("{name}/Dockerfile"), dockerfile);
        let context = sandbox.context().join(name);
        if umask == 0o077 && sandbox.who() == Who::Root {
            // Somebody else's, whose ids are nobody's here.
            for path in ["src", "src/a", "src/run"] {
                chown(context.join(path), Some(12_345), Some(23_456)).unwrap();
            }
        }
        context
    };
    let build = |context: &std::path::Path, variable: &str, args: &[&str]| {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let strata = sandbox.strata().env("STRATA_NEUTRAL_MODES", variable);
        let strata = strata.args(["build", "--progress", "json", "--output", &to]);
        let output = strata.args(args).arg(context).output().success();
        (Image::read(&archive), output.steps())
    };
    let usual = checkout("usual", 0o022);
    let strict = checkout("strict", 0o077);
    let (first, _) = build(&usual, "true", &[]);
    let (second, steps) = build(&strict, "true", &[]);
    assert_eq!(steps.ran(), Vec::<&str>::new());
    assert_eq!(second.digest, first.digest);
    let tree = second.tree();
    let modes = ["src", "src/a", "src/run"].map(|path| tree.at(path).mode);
    assert_eq!(modes, [0o755, 0o644, 0o755]);
    // A checkout with the usual modes is what it is without the option, too.
    assert_eq!(build(&usual, "false", &[]).1.ran(), Vec::<&str>::new());
    // The flag counts more than the variable, and that more than the file.
    let (plain, steps) = build(&strict, "true", &["--neutral-modes=false"]);
    assert_eq!(steps.cached(), Vec::<&str>::new());
    assert_eq!(plain.tree().at("src/a").mode, 0o600);
    sandbox.configure("[build]\nneutral-modes = true\n");
    let steps = |args: &[&str]| {
        let strata = sandbox.strata().args(["build", "--progress", "json"]);
        strata.args(args).arg(&strict).output().success().steps()
    };
    sandbox.write("strict/src/a", "other");
    assert_eq!(steps(&[]).ran().len(), 2);
    assert_eq!(steps(&["--neutral-modes"]).ran(), Vec::<&str>::new());
}

/// §14.2.
fn an_argument_matters_from_its_line_on(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "ARG base=busybox\nFROM $base\nRUN echo before > /1\nARG v=0\nRUN echo $v > /2\n\
         RUN echo after > /3\n",
    );
    sandbox.steps(&[]);
    // `v` is in the environment of both steps below its line, used or not.
    let steps = sandbox.steps(&["--build-arg", "v=1"]);
    assert_eq!(steps.ran(), ["RUN echo $v > /2", "RUN echo after > /3"]);
    assert_eq!(
        sandbox.steps(&["--build-arg", "v=0"]).ran(),
        Vec::<&str>::new()
    );
    assert_eq!(
        sandbox.steps(&["--build-arg", "unknown=1"]).ran(),
        Vec::<&str>::new()
    );
    // Proxies are in no key.
    assert_eq!(
        sandbox.steps(&["--build-arg", "HTTP_PROXY=http://x"]).ran(),
        Vec::<&str>::new()
    );
}

/// §14.5.
fn settings_run_nothing_but_what_sees_them(sandbox: &Sandbox) {
    prepared(sandbox);
    let edited = DOCKERFILE
        .replace("l=1", "l=2")
        .replace("[\"true\"]", "false");
    sandbox.dockerfile(&format!(
        "{edited}EXPOSE 80\nVOLUME /v\nUSER app\nENTRYPOINT [\"e\"]\n"
    ));
    let (image, steps) = sandbox.build_with(&["--label", "m=3"]);
    assert_eq!(steps.cached(), ALL);
    assert_eq!(
        *image.setting("Labels"),
        serde_json::json!({"l": "2", "m": "3"})
    );
    // A variable is seen by every RUN below it.
    sandbox.dockerfile(&DOCKERFILE.replace("e=1", "e=2"));
    let steps = sandbox.steps(&[]);
    assert_eq!(steps.ran(), ALL[3..]);
    // A user by RUN.
    sandbox.dockerfile(
        &DOCKERFILE
            .replace("COPY c", "USER daemon\nCOPY c")
            .replace("> cc", "> /dev/null"),
    );
    assert_eq!(sandbox.steps(&[]).ran(), ["RUN cat c > /dev/null"]);
}

fn comments_and_spelling_do_not_matter(sandbox: &Sandbox) {
    prepared(sandbox);
    let edited = DOCKERFILE
        .replace("FROM", "# escape=\\\n\n# A comment.\nfrom")
        .replace("WORKDIR", "\n  workdir")
        .replace("COPY a b ./", "COPY a \\\n  # inside\n  b ./")
        .replace("ENV e=1", "ENV e 1");
    sandbox.dockerfile(&edited);
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
}

/// §14.6.
fn no_cache_runs_everything_and_is_remembered(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    let dockerfile =
        "FROM busybox\nCOPY a /\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN cp /id /id2\n";
    let first = sandbox.build(dockerfile).tree().text("id2");
    assert_eq!(sandbox.build(dockerfile).tree().text("id2"), first);
    let (image, steps) = sandbox.build_with(&["--no-cache"]);
    assert_eq!(steps.cached(), Vec::<&str>::new());
    let second = image.tree().text("id2");
    assert_ne!(second, first);
    assert_eq!(sandbox.build(dockerfile).tree().text("id2"), second);
}

fn one_instruction_or_stage_can_be_kept_from_the_cache(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox AS one\nRUN echo a > /a\n# strata: no-cache\nRUN echo b > /b\nRUN echo c > /c\n\
         FROM one AS two\nRUN echo d > /d\n",
    );
    sandbox.steps(&[]);
    let output = sandbox.try_build(&["--explain"]).success();
    let steps = output.steps();
    // What comes out is the same, so nothing follows from it.
    assert_eq!(steps.ran(), ["RUN echo b > /b"]);
    assert!(
        output.stderr.contains("`# strata: no-cache` is given"),
        "{output}"
    );
    let steps = sandbox.steps(&["--no-cache-filter", "TWO"]);
    assert_eq!(steps.ran(), ["RUN echo b > /b", "RUN echo d > /d"]);
    let steps = sandbox.steps(&["--no-cache-filter", "0,other"]);
    assert_eq!(steps.cached(), ["RUN echo d > /d"]);
    sandbox.dockerfile("FROM busybox\n# strata: no-cash ttl=x\nRUN true\n");
    let output = sandbox.try_build(&[]).success();
    assert!(output.stderr.contains("`no-cash`"), "{output}");
    assert!(output.stderr.contains("`ttl=x`"), "{output}");
}

fn a_result_can_be_too_old(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(
        "FROM busybox\n# strata: ttl=1h\nRUN echo a > /a\n# strata: ttl=0s\nRUN echo b > /b\n\
         RUN --network=none echo c > /c\nRUN echo d > /d\n",
    );
    sandbox.steps(&[]);
    assert_eq!(sandbox.steps(&[]).ran(), ["RUN echo b > /b"]);
    let output = sandbox
        .try_build(&["--cache-ttl", "0", "--explain"])
        .success();
    assert_eq!(output.steps().ran(), ["RUN echo b > /b", "RUN echo d > /d"]);
    assert!(
        output.stderr.contains("older than `--cache-ttl` allows"),
        "{output}"
    );
    // An equal result is as good as new, though its layer is old.
    assert_eq!(
        sandbox.steps(&["--cache-ttl", "1h"]).ran(),
        ["RUN echo b > /b"]
    );
}

fn two_files_share_what_they_have_in_common(sandbox: &Sandbox) {
    prepared(sandbox);
    let other = DOCKERFILE.replace("RUN cat c > cc", "RUN wc -c < c > cc");
    sandbox.write("other", &other);
    let file = sandbox.context().join("other");
    let steps = sandbox.steps(&["-f", file.to_str().unwrap(), "-t", "other"]);
    assert_eq!(steps.ran(), ["RUN wc -c < c > cc"]);
    assert_eq!(steps.cached(), ALL[..5]);
}

fn an_equal_result_stops_the_reruns(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "abc").dockerfile(
        "FROM busybox\nRUN --mount=target=/c wc -c < /c/a > /size\nRUN cp /size /copy\n",
    );
    sandbox.steps(&[]);
    // The first step runs, but what comes out is the same; so the second is known.
    sandbox.write("a", "xyz");
    let steps = sandbox.steps(&[]);
    assert_eq!(steps.ran(), ["RUN --mount=target=/c wc -c < /c/a > /size"]);
    assert_eq!(steps.cached(), ["RUN cp /size /copy"]);
    // From then on it is an ordinary hit.
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
    sandbox.write("a", "longer");
    assert_eq!(sandbox.steps(&[]).cached(), Vec::<&str>::new());
}

fn an_equal_layer_on_another_stack_hides_no_change_below(sandbox: &Sandbox) {
    let dockerfile = "FROM busybox\n# strata: no-cache\nRUN cat /proc/sys/kernel/random/uuid > /a\n\
         RUN echo b > /b\nRUN cp /a /c\n";
    sandbox.busybox();
    for _ in 0..3 {
        // `/b` is the same each time, and its layer may be; what is made of `/a` is not.
        let tree = sandbox.build(dockerfile).tree();
        assert_eq!(tree.text("a"), tree.text("c"));
    }
}

fn the_same_step_many_times_makes_as_many_layers(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nARG A\nRUN true\nRUN true\nRUN true\nRUN true\n");
    for argument in ["A=1", "A=2", "A=3"] {
        // Equal to those of the build before, one by one, and never to one below.
        let steps = sandbox.steps(&["--build-arg", argument]);
        assert_eq!(steps.ran().len() + steps.cached().len(), 4, "{steps:?}");
    }
    assert_eq!(sandbox.steps(&["--build-arg", "A=1"]).cached().len(), 4);
}

fn a_layer_given_up_for_an_older_one_is_gone_at_the_end(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("a", "abc")
        .dockerfile("FROM busybox\nRUN --mount=target=/c wc -c < /c/a > /size\n");
    sandbox.steps(&[]);
    let layers = || fs::read_dir(sandbox.path("store/layers")).unwrap().count();
    let before = layers();
    sandbox.write("a", "xyz");
    assert_eq!(sandbox.steps(&[]).ran().len(), 1);
    // One more for the files that the mount shows; none for the step.
    assert_eq!(layers(), before + 1);
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn a_copy_of_the_same_files_stops_the_reruns(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "abc").dockerfile(
        "FROM busybox AS build\nCOPY a /a\nRUN wc -c < /a > /size\nRUN echo $(cat /a) > /other\n\
         FROM busybox\nCOPY --from=build /size /size\nRUN cp /size /copy\n",
    );
    sandbox.steps(&[]);
    sandbox.write("a", "xyz");
    let steps = sandbox.steps(&[]);
    assert_eq!(
        steps.ran(),
        [
            "COPY a /a",
            "RUN wc -c < /a > /size",
            "RUN echo $(cat /a) > /other",
        ]
    );
    // There are other layers to copy from, but what is copied is the same.
    assert_eq!(
        steps.cached(),
        ["COPY --from=build /size /size", "RUN cp /size /copy"]
    );
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
    sandbox.write("a", "longer");
    assert_eq!(sandbox.steps(&[]).cached(), Vec::<&str>::new());
}

/// A stage, with a change at its end, and steps that read `/out` of it.
fn reading_a_stage(change: &str, reader: &str) -> String {
    format!(
        "FROM busybox AS build\nRUN mkdir -p /out/d && echo a > /out/a && ln -s a /out/l && \
         echo b > /out/d/b && chown 5:6 /out/a\nRUN cat /proc/sys/kernel/random/uuid > /log; : '{reader}'; {change}\n\
         FROM busybox\n{reader}\nRUN cp -a /o /copy\n"
    )
}

const READERS: [&str; 3] = [
    "COPY --from=build /out /o",
    "COPY --link --from=build /out /o",
    "RUN --mount=from=build,source=/out,target=/m cp -a /m /o",
];

fn a_reader_of_a_stage_is_a_hit_if_what_it_reads_is_the_same(sandbox: &Sandbox) {
    sandbox.busybox();
    for reader in READERS {
        let build = |change: &str| {
            sandbox.dockerfile(&reading_a_stage(change, reader));
            sandbox.steps(&["--output", "type=cacheonly"])
        };
        build("true");
        for change in [
            ": again",
            "echo other > /other",
            "touch -d @1 /out/a /out/d",
            "rm -r /out/d && mkdir /out/d && echo b > /out/d/b",
            "echo b > /elsewhere",
        ] {
            let steps = build(change);
            assert_eq!(
                steps.cached()[1..],
                [reader, "RUN cp -a /o /copy"],
                "{change}"
            );
        }
    }
}

fn a_reader_of_a_stage_runs_if_what_it_reads_differs(sandbox: &Sandbox) {
    sandbox.busybox();
    for reader in READERS {
        let build = |change: &str| {
            sandbox.dockerfile(&reading_a_stage(change, reader));
            sandbox.build_with(&[])
        };
        build("true");
        for (change, seen) in [
            ("echo other > /out/a", "f 0644 5:6 copy/a"),
            ("chmod 755 /out/d/b", "f 0755 0:0 copy/d/b"),
            ("chown 7 /out/d", "d 0755 7:0 copy/d"),
            ("ln -sfn b /out/l", "l 0777 0:0 copy/l -> b"),
            ("mkdir /out/n", "d 0755 0:0 copy/n"),
        ] {
            let (image, steps) = build(change);
            assert_eq!(steps.ran()[1..], [reader, "RUN cp -a /o /copy"], "{change}");
            let lines = image.tree().lines_below("copy");
            assert!(lines.iter().any(|line| line == seen), "{lines:#?} {seen}");
            let text = if change.contains("other") {
                "other\n"
            } else {
                "a\n"
            };
            assert_eq!(image.tree().text("copy/a"), text);
            // And it is known from then on, whatever is beside it.
            let steps = build(&format!("{change}; : more")).1;
            assert_eq!(
                steps.cached()[1..],
                [reader, "RUN cp -a /o /copy"],
                "{change}"
            );
        }
    }
}

fn a_copy_whose_source_was_pruned_is_compared_by_what_it_makes(sandbox: &Sandbox) {
    sandbox.busybox();
    let build = |change: &str| {
        sandbox.dockerfile(&reading_a_stage(change, READERS[0]));
        sandbox.steps(&["-t", "app"])
    };
    build("true");
    sandbox.run(&[
        "cache",
        "prune",
        "--all",
        "--filter",
        "description~=/out/d|/log",
    ]);
    let steps = build(": again");
    assert_eq!(steps.ran().len(), 3, "{steps:?}");
    assert_eq!(steps.cached(), ["RUN cp -a /o /copy"]);
}

/// §14.3.
fn a_secret_is_not_part_of_the_key(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN --mount=type=secret,id=s,target=/s wc -c < /s > /size\n");
    let build = |value: &str| {
        let output = sandbox
            .strata()
            .args(["build", "--progress", "json", "--secret", "id=s,env=S"])
            .env("S", value)
            .arg(sandbox.context())
            .output();
        output.success().steps()
    };
    assert_eq!(build("one").ran().len(), 1);
    assert_eq!(build("other").ran().len(), 0);
}

fn the_base_is_part_of_the_key(sandbox: &Sandbox) {
    sandbox.busybox();
    let dockerfile = "FROM base\nRUN ls / > /ls\n";
    sandbox.dockerfile("FROM busybox\nRUN echo 1 > /one\n");
    sandbox.steps(&["-t", "base"]);
    assert!(sandbox.build(dockerfile).tree().text("ls").contains("one"));
    sandbox.dockerfile("FROM busybox\nRUN echo 2 > /two\n");
    sandbox.steps(&["-t", "base"]);
    assert!(sandbox.build(dockerfile).tree().text("ls").contains("two"));
}

fn a_file_changed_within_the_same_second_is_seen(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\nCOPY f /f\n");
    let time = SystemTime::now();
    for turn in 0..20 {
        // The same size, and the same time each time: only the content tells.
        sandbox.write("f", format!("{turn:04}"));
        let file = fs::File::options()
            .write(true)
            .open(sandbox.context().join("f"))
            .unwrap();
        file.set_modified(time).unwrap();
        let (image, _) = sandbox.build_with(&[]);
        assert_eq!(image.tree().text("f"), format!("{turn:04}"));
    }
}

fn a_removed_file_is_seen(sandbox: &Sandbox) {
    sandbox.busybox().write("d/a", "a").write("d/b", "b");
    let image = sandbox.build("FROM scratch\nCOPY d /\n");
    assert_eq!(image.top().files(), ["a", "b"]);
    sandbox.remove("d/b");
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!(image.top().files(), ["a"]);
}

fn a_rebuilt_image_is_the_same_image(sandbox: &Sandbox) {
    prepared(sandbox);
    let (first, _) = sandbox.build_with(&[]);
    let (second, _) = sandbox.build_with(&[]);
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.config, second.config);
}

fn equal_inputs_give_equal_digests_everywhere(sandbox: &Sandbox) {
    let build = |sandbox: &Sandbox| -> Image {
        let strata = || sandbox.strata().env("SOURCE_DATE_EPOCH", "1600000000");
        let base = crate::support::Base::Busybox;
        strata()
            .arg("import")
            .arg(base.path())
            .arg(base.name())
            .output()
            .success();
        sandbox
            .write("d/b", "b")
            .write("d/a", "a")
            .symlink("a", "d/c");
        sandbox.dockerfile(
            "FROM busybox\nCOPY d /d\nWORKDIR /w\nRUN mkdir x y && echo z > x/z && ln x/z y/z\n\
             ENV a=1\nCMD [\"c\"]\n",
        );
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let args = ["build", "--output", &to];
        strata()
            .args(args)
            .arg(sandbox.context())
            .output()
            .success();
        Image::read(&archive)
    };
    let first = build(sandbox);
    let other = Sandbox::new(sandbox.who()).unwrap();
    let second = build(&other);
    assert_eq!(first.config, second.config);
    assert_eq!(first.digest, second.digest);
    // An ordinary user's store keeps owners and whiteouts in another way; nothing of that shows.
    if let Ok(other) = Sandbox::new(Who::User) {
        assert_eq!(build(&other).digest, first.digest);
    }
}
