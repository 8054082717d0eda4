//! `COPY --link` and `ADD --link`: layers that depend on nothing below them.

use crate::support::{Image, Kind, Sandbox, cases};

cases! { Root, User =>
    a_link_is_a_hit_on_any_base,
    a_step_below_does_not_touch_a_link,
    what_stands_on_a_link_sees_what_is_below_it,
    a_link_on_another_base_is_the_image_that_a_fresh_build_makes,
    a_link_follows_no_symlinks_below,
    a_stage_that_ends_with_links_can_be_copied_from,
    the_same_link_twice_is_one_layer_at_two_places,
    owners_of_a_link_are_numbers,
}

/// Makes an image `base` that holds `/NAME`.
fn base(sandbox: &Sandbox, name: &str) {
    sandbox.dockerfile(&format!("FROM busybox\nRUN echo {name} > /{name}\n"));
    sandbox.steps(&["-t", "base"]);
}

const ON_BASE: &str = "FROM base\nRUN ls / > /ls\nCOPY --link --chmod=600 a b /d/\n\
    ADD --link --chown=7:8 a /e\nRUN cat /d/a /e /ls > /out\nCOPY --link b /last\n";

fn prepared(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a\n").write("b", "b\n");
    base(sandbox, "one");
    sandbox.dockerfile(ON_BASE);
    assert_eq!(sandbox.steps(&[]).ran().len(), 5);
    assert_eq!(sandbox.steps(&[]).cached().len(), 5);
}

fn diff_ids(image: &Image) -> Vec<String> {
    serde_json::from_value(image.config["rootfs"]["diff_ids"].clone()).unwrap()
}

const LINKS: [&str; 3] = [
    "COPY --link --chmod=600 a b /d/",
    "ADD --link --chown=7:8 a /e",
    "COPY --link b /last",
];

fn a_link_is_a_hit_on_any_base(sandbox: &Sandbox) {
    prepared(sandbox);
    base(sandbox, "two");
    sandbox.dockerfile(ON_BASE);
    let (image, steps) = sandbox.build_with(&[]);
    assert_eq!(steps.cached(), LINKS);
    let tree = image.tree();
    let out = tree.text("out");
    assert!(out.starts_with("a\na\n"), "{out}");
    assert!(out.contains("two") && !out.contains("one"), "{out}");
    assert_eq!(tree.at("d/b").mode, 0o600);
    assert_eq!((tree.at("e").uid, tree.at("e").gid), (7, 8));
    assert_eq!(tree.text("last"), "b\n");
    assert_eq!(sandbox.steps(&[]).cached().len(), 5);
    // The content of what is linked still matters, and so does where it goes.
    sandbox.write("b", "B\n");
    assert_eq!(
        sandbox.steps(&[]).ran(),
        [LINKS[0], "RUN cat /d/a /e /ls > /out", LINKS[2]]
    );
}

fn a_step_below_does_not_touch_a_link(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a").write("c", "c");
    let dockerfile = "FROM busybox\nCOPY c /c\nRUN cat /c > /d\nCOPY --link a /a\n";
    sandbox.build(dockerfile);
    sandbox.write("c", "C");
    let (image, steps) = sandbox.build_with(&[]);
    assert_eq!(steps.ran(), ["COPY c /c", "RUN cat /c > /d"]);
    assert_eq!(steps.cached(), ["COPY --link a /a"]);
    let tree = image.tree();
    assert_eq!([tree.text("a"), tree.text("d")], ["a", "C"]);
    // Not even another stage matters, or the lack of one.
    sandbox.dockerfile("FROM scratch\nCOPY --link a /a\n");
    let (image, steps) = sandbox.build_with(&[]);
    assert_eq!(steps.cached(), ["COPY --link a /a"]);
    assert_eq!(image.tree().files(), ["a"]);
}

fn what_stands_on_a_link_sees_what_is_below_it(sandbox: &Sandbox) {
    sandbox.busybox().write("f", "f");
    let dockerfile = "FROM busybox\n# strata: no-cache\nRUN cat /proc/sys/kernel/random/uuid > /a\n\
         COPY --link f /f\nCOPY --link f /g\nRUN cp /a /c\n";
    for _ in 0..3 {
        let tree = sandbox.build(dockerfile).tree();
        assert_eq!(tree.text("a"), tree.text("c"));
        assert_eq!([tree.text("f"), tree.text("g")], ["f", "f"]);
    }
}

fn a_link_on_another_base_is_the_image_that_a_fresh_build_makes(sandbox: &Sandbox) {
    let build = |sandbox: &Sandbox| -> Image {
        let archive = sandbox.fresh_output("tar");
        let to = format!("type=oci,dest={}", archive.display());
        let strata = sandbox.strata().env("SOURCE_DATE_EPOCH", "1600000000");
        let args = ["build", "--output", &to];
        let output = strata.args(args).arg(sandbox.context()).output();
        output.success();
        Image::read(&archive)
    };
    let prepare = |sandbox: &Sandbox, dockerfile: &str| {
        let strata = sandbox.strata().env("SOURCE_DATE_EPOCH", "1600000000");
        let busybox = crate::support::Base::Busybox;
        let import = strata.arg("import").arg(busybox.path()).arg(busybox.name());
        import.output().success();
        sandbox.write("a", "a").dockerfile(dockerfile);
    };
    let on = |below: &str| format!("FROM busybox\nRUN echo {below} > /f\nCOPY --link a /d/a\n");
    prepare(sandbox, &on("one"));
    let one = build(sandbox);
    sandbox.dockerfile(&on("two"));
    let rebased = build(sandbox);
    assert_ne!(rebased.digest, one.digest);
    assert_eq!(diff_ids(&rebased).last(), diff_ids(&one).last());
    let fresh = Sandbox::new(sandbox.who()).unwrap();
    prepare(&fresh, &on("two"));
    assert_eq!(build(&fresh).digest, rebased.digest);
}

fn a_link_follows_no_symlinks_below(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    let dockerfile = |link: &str| {
        format!("FROM busybox\nRUN mkdir -m 700 /to && ln -s to /way\nCOPY {link}a /way/\n")
    };
    let tree = sandbox.build(&dockerfile("")).tree();
    assert_eq!(tree.text("to/a"), "a");
    let tree = sandbox.build(&dockerfile("--link ")).tree();
    assert_eq!(tree.at("way").kind, Kind::Directory);
    assert_eq!(tree.text("way/a"), "a");
    assert!(!tree.has("to/a"));
    // A command sees the same.
    let seen = sandbox.build(&format!(
        "{}RUN ls /way /to > /seen\n",
        dockerfile("--link ")
    ));
    assert_eq!(seen.tree().text("seen"), "/to:\n\n/way:\na\n");
}

fn a_stage_that_ends_with_links_can_be_copied_from(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a").write("b", "b");
    let dockerfile = |word: &str| {
        format!(
            "FROM busybox AS one\nRUN echo {word} > /w\nCOPY --link a /a\nCOPY --link b /b\n\
             FROM one AS two\nCOPY --link a /c\n\
             FROM busybox\nCOPY --from=two /a /b /c /w /\n\
             RUN --mount=from=one,target=/one cat /one/w /one/a > /seen\n"
        )
    };
    for word in ["one", "two"] {
        let (image, steps) = {
            sandbox.dockerfile(&dockerfile(word));
            sandbox.build_with(&[])
        };
        let tree = image.tree();
        assert_eq!(tree.text("w"), format!("{word}\n"));
        assert_eq!(tree.text("seen"), format!("{word}\na"));
        assert_eq!(["a", "b", "c"].map(|name| tree.text(name)), ["a", "b", "a"]);
        if word == "two" {
            assert_eq!(
                steps.cached(),
                ["COPY --link a /a", "COPY --link b /b", "COPY --link a /c"]
            );
        }
    }
}

fn the_same_link_twice_is_one_layer_at_two_places(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    let dockerfile = "FROM busybox\nCOPY --link a /d/a\nRUN echo b > /d/b && rm /d/a\n\
         COPY --link a /d/a\nRUN cat /d/a /d/b > /both\n";
    let (image, _) = {
        sandbox.dockerfile(dockerfile);
        sandbox.build_with(&["-t", "twice", "--output", "type=image"])
    };
    assert_eq!(image.tree().text("both"), "ab\n");
    assert_eq!(sandbox.steps(&[]).ran(), Vec::<&str>::new());
    let layers = diff_ids(&image);
    assert_eq!(layers[layers.len() - 4], layers[layers.len() - 2]);
    let tree = sandbox
        .build("FROM twice\nRUN cat /d/a /d/b > /again\n")
        .tree();
    assert_eq!(tree.text("again"), "ab\n");
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn owners_of_a_link_are_numbers(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    for owner in ["daemon", "1:daemon", "daemon:1"] {
        let copy = format!("FROM busybox\nCOPY --link --chown={owner} a /\n");
        let said = sandbox.build_fails(&copy, 2);
        assert!(said.contains(&format!("`--chown={owner}`")), "{said}");
        assert!(said.contains("leave `--link` away"), "{said}");
    }
    let tree = sandbox
        .build("FROM scratch\nADD --link --chown=root:5 a /\n")
        .tree();
    assert_eq!((tree.at("a").uid, tree.at("a").gid), (0, 5));
}
