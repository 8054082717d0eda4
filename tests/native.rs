//! The snapshotter for places where overlayfs can't be mounted: slower, with the same results.

use crate::support::{Image, Output, Sandbox, cases};

cases! { Root, User =>
    the_same_build_gives_the_same_layers,
    hits_and_runs_are_as_with_overlayfs,
    it_is_said_once,
}

/// Nothing writes to one name of a hard link from a layer below: with overlayfs that parts the names,
/// on a plain file system it can't.
const DOCKERFILE: &str = "\
FROM busybox
COPY d /d
RUN echo x > /d/x && ln /d/x /d/y && chmod 4755 /d/x
RUN rm /d/a && rm -r /d/sub && mkdir /d/sub && echo new > /d/sub/new
RUN mv /d /e && chown -R 5:6 /e/sub && rm /etc/group
RUN chmod 600 /e/sub/new && touch -d @1000000001 /e/b && mkfifo /e/p
COPY --chown=7 d/b /e/
WORKDIR /e/w
RUN true
";

fn context(sandbox: &Sandbox) {
    sandbox
        .write("d/a", "a")
        .write("d/b", "b")
        .write("d/sub/c", "c")
        .symlink("a", "d/l");
    sandbox.dockerfile(DOCKERFILE);
}

fn build(sandbox: &Sandbox, snapshotter: &str) -> (Image, Output) {
    let strata = || {
        sandbox
            .strata()
            .env("STRATA_SNAPSHOTTER", snapshotter)
            .env("SOURCE_DATE_EPOCH", "1600000000")
    };
    let base = crate::support::Base::Busybox;
    strata()
        .arg("import")
        .arg(base.path())
        .arg(base.name())
        .output()
        .success();
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let args = ["build", "--progress", "json", "--output", &to];
    let output = strata()
        .args(args)
        .arg(sandbox.context())
        .output()
        .success();
    (Image::read(&archive), output)
}

fn the_same_build_gives_the_same_layers(sandbox: &Sandbox) {
    context(sandbox);
    let (native, _) = build(sandbox, "native");
    let other = Sandbox::new(sandbox.who()).unwrap();
    context(&other);
    let (overlay, _) = build(&other, "overlay");
    assert_eq!(native.tree().lines(), overlay.tree().lines());
    for (ours, theirs) in native.layers.iter().zip(&overlay.layers) {
        let without_opaque = |tree: &crate::support::Tree| {
            let lines = tree.lines();
            lines
                .into_iter()
                .filter(|line| !line.contains(".wh."))
                .collect::<Vec<_>>()
        };
        assert_eq!(without_opaque(ours), without_opaque(theirs));
    }
    assert_eq!(native.tree().text("e/sub/new"), "new\n");
    assert!(!native.tree().has("e/sub/c") && !native.tree().has("d"));
}

fn hits_and_runs_are_as_with_overlayfs(sandbox: &Sandbox) {
    context(sandbox);
    let first = build(sandbox, "native").1.steps();
    assert_eq!(first.ran().len(), 8);
    assert_eq!(build(sandbox, "native").1.steps().ran(), Vec::<&str>::new());
    sandbox.write("d/b", "B");
    let (image, output) = build(sandbox, "native");
    assert_eq!(output.steps().cached(), Vec::<&str>::new());
    assert_eq!(image.tree().text("e/b"), "B");
    sandbox.dockerfile("FROM busybox\n");
    let strata = sandbox.strata().env("STRATA_SNAPSHOTTER", "native");
    let said = strata
        .args(["run", "busybox", "sh", "-c", "echo x > /f; cat /f"])
        .output()
        .success();
    assert_eq!(said.stdout, "x\n");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
    sandbox.run(&["cache", "verify", "--deep"]);
}

fn it_is_said_once(sandbox: &Sandbox) {
    context(sandbox);
    let (_, output) = build(sandbox, "native");
    let notices = output
        .stderr
        .lines()
        .filter(|line| line.contains("native"))
        .count();
    assert!(notices <= 1, "{output}");
    // An unknown one is an error that names those there are.
    let strata = sandbox
        .strata()
        .env("STRATA_SNAPSHOTTER", "other")
        .arg("build");
    let output = strata.arg(sandbox.context()).output();
    assert!(!output.status.success(), "{output}");
    assert!(
        output.stderr.contains("native") && output.stderr.contains("other"),
        "{output}"
    );
}
