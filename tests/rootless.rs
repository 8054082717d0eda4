//! What differs for ordinary users, and the demo as a whole.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::support::{Base, Sandbox, Tree, cases};

cases! { Root, User =>
    the_demo_builds_runs_and_rebuilds,
}

cases! { User =>
    owners_of_all_ids_are_kept_for_a_user_with_ranges,
    a_step_of_a_user_with_ranges_can_become_others,
    nothing_is_owned_by_root_outside,
}

cases! { OneId =>
    one_id_is_enough_for_a_build,
    one_id_is_enough_for_a_run,
    what_needs_more_ids_says_so,
}

fn the_demo_builds_runs_and_rebuilds(sandbox: &Sandbox) {
    sandbox.import(Base::Debian);
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo");
    sandbox.copy_in(&demo, ".");
    let (image, steps) = sandbox.build_with(&[]);
    assert_eq!(steps.cached(), Vec::<&str>::new());
    let tree = image.tree();
    assert_eq!(
        tree.files(),
        ["checked", "usr/bin/wordcount", "usr/share/texts/text.txt"]
    );
    assert_eq!(tree.at("usr/bin/wordcount").line(), "f 0755 65534:65534");
    assert_eq!(image.setting("User"), "65534:65534");
    assert_eq!(
        *image.setting("Entrypoint"),
        serde_json::json!(["/usr/bin/wordcount"])
    );

    sandbox.steps(&["-t", "demo"]);
    let said = sandbox.run(&["run", "demo"]).stdout;
    assert!(
        said.starts_with("most frequent words (") && said.contains("    10  a\n"),
        "{said}"
    );

    // An edited source compiles anew; the toolchain stage and the text are known.
    let main = demo.join("src/main.c");
    let edited = std::fs::read_to_string(main)
        .unwrap()
        .replace("most frequent", "commonest");
    sandbox.write("src/main.c", edited);
    let steps = sandbox.steps(&["-t", "demo"]);
    assert!(steps.ran().contains(&"RUN make"), "{steps:?}");
    for known in [
        "WORKDIR /src",
        "COPY src/Makefile src/*.h ./",
        "COPY text.txt /usr/share/texts/",
    ] {
        assert!(steps.cached().contains(&known), "{known}: {steps:?}");
    }
    assert!(
        sandbox
            .run(&["run", "demo"])
            .stdout
            .starts_with("commonest words (")
    );
}

fn owners_of_all_ids_are_kept_for_a_user_with_ranges(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox\nRUN for id in 1 999 1000 65534; do touch /f$id; chown $id:$id /f$id; done\n",
    );
    assert_eq!(
        image.changes(),
        [
            "f 0644 1:1 f1",
            "f 0644 1000:1000 f1000",
            "f 0644 65534:65534 f65534",
            "f 0644 999:999 f999",
        ]
    );
}

fn a_step_of_a_user_with_ranges_can_become_others(sandbox: &Sandbox) {
    sandbox.busybox();
    let image = sandbox.build(
        "FROM busybox\nRUN mkdir -m 777 /d && su app -s /bin/sh -c 'id -u > /d/id; id -G >> /d/id'\n\
         USER nobody\nRUN id -u > /d/id2\n",
    );
    assert_eq!(image.tree().text("d/id"), "1000\n1001 2000\n");
    assert_eq!(image.tree().at("d/id").line(), "f 0644 1000:1001");
    assert_eq!(image.tree().at("d/id2").line(), "f 0644 65534:65534");
}

fn nothing_is_owned_by_root_outside(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox.build("FROM busybox\nRUN touch /f && chown 5:5 /f && mkdir /d && chmod 4755 /f\n");
    let tree = Tree::of_directory(&sandbox.path("store"));
    for (path, node) in &tree.0 {
        assert!(node.uid != 0 && node.gid != 0, "{path}: {}", node.line());
    }
    assert_eq!(
        sandbox.path("store").metadata().unwrap().uid(),
        sandbox.account().uid
    );
}

fn one_id_is_enough_for_a_build(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a");
    let image = sandbox.build(
        "FROM busybox AS one\nCOPY a /a\nRUN mkdir /d && mv /a /d/b && rm /etc/group && id -u > /id\n\
         FROM busybox\nCOPY --from=one /d /d\nWORKDIR /w\nRUN ls /d > ls\nCMD [\"cat\", \"ls\"]\n",
    );
    let tree = image.tree();
    assert_eq!(tree.text("w/ls"), "b\n");
    assert_eq!(tree.lines_below("d"), ["d 0755 0:0 d", "f 0644 0:0 d/b"]);
    assert_eq!(tree.at("w/ls").line(), "f 0644 0:0");
    let steps = sandbox.steps(&[]);
    assert_eq!(steps.ran(), Vec::<&str>::new());
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn one_id_is_enough_for_a_run(sandbox: &Sandbox) {
    sandbox.busybox();
    assert_eq!(sandbox.run(&["run", "busybox", "id", "-u"]).stdout, "0\n");
    sandbox
        .try_run(&["run", "busybox", "sh", "-c", "exit 9"])
        .failure(9);
}

fn what_needs_more_ids_says_so(sandbox: &Sandbox) {
    sandbox.busybox();
    // A step that asks for another owner fails as it would on any file system that has no such id.
    let said = sandbox.build_fails("FROM busybox\nRUN touch /f && chown 5:5 /f\n", 1);
    assert!(said.contains("chown"), "{said}");
}
