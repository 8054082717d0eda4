//! Contexts other than the directory beside the Dockerfile: named ones, archives, and remote ones.

use crate::support::{Sandbox, cases};

cases! { Root, User =>
    a_named_directory_is_copied_from_mounted_and_stood_on,
    a_named_context_replaces_an_image_or_a_stage,
    a_named_layout_is_an_image,
}

cases! { Root =>
    a_named_directory_has_its_own_ignore_file,
    a_change_in_a_named_directory_is_seen,
}

fn named(sandbox: &Sandbox, name: &str, directory: &str) -> String {
    format!("{name}={}", sandbox.context().join(directory).display())
}

fn a_named_directory_is_copied_from_mounted_and_stood_on(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox.write("other/dir/file", "text");
    sandbox.dockerfile(
        "FROM busybox AS made
         COPY --from=Assets dir/file /copied
         RUN --mount=from=assets,source=dir,target=/m cat /m/file > /mounted
         FROM assets
         COPY --from=made /copied /mounted /from/",
    );
    let context = named(sandbox, "assets", "other");
    let (image, _) = sandbox.build_with(&["--build-context", &context]);
    let tree = image.tree();
    for path in ["from/copied", "from/mounted", "dir/file"] {
        assert_eq!(tree.text(path), "text", "{path}");
    }
    assert!(image.env("PATH").is_some());
}

fn a_named_context_replaces_an_image_or_a_stage(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox.write("image/one", "context");
    sandbox.write("stage/two", "context");
    sandbox.dockerfile(
        "FROM no.such.registry/image:latest AS three
         FROM busybox AS build
         RUN false
         FROM busybox
         COPY --from=three /one /one
         COPY --from=build /two /two
         COPY --from=1 /two /by-number
         COPY --from=busy /bin/busybox /busybox",
    );
    let (image, _) = sandbox.build_with(&[
        "--build-context",
        &named(sandbox, "no.such.registry/image", "image"),
        "--build-context",
        &named(sandbox, "build", "stage"),
        "--build-context",
        "busy=docker-image://busybox",
    ]);
    let tree = image.tree();
    for path in ["one", "two", "by-number"] {
        assert_eq!(tree.text(path), "context", "{path}");
    }
    assert!(tree.has("busybox"));
}

fn a_named_layout_is_an_image(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox.write("a", "a");
    sandbox.dockerfile("FROM busybox\nENV FROM=layout\nCOPY a /a\n");
    let layout = sandbox.fresh_output("layout");
    let to = format!("type=oci,tar=false,dest={}", layout.display());
    sandbox.steps(&["-t", "x:tag", "--output", &to]);
    sandbox.dockerfile("FROM base\nRUN test $FROM = layout && cp a b\n");
    let context = format!("base=oci-layout://{}:tag", layout.display());
    let (image, _) = sandbox.build_with(&["--build-context", &context]);
    assert_eq!(image.tree().text("b"), "a");
}

fn a_named_directory_has_its_own_ignore_file(sandbox: &Sandbox) {
    sandbox.write("other/kept", "").write("other/hidden", "");
    sandbox.write("other/.dockerignore", "hidden\n.dockerignore\n");
    sandbox.write(".dockerignore", "**/kept\n");
    sandbox.dockerfile("FROM scratch\nCOPY --from=other / /\n");
    let (image, _) = sandbox.build_with(&["--build-context", &named(sandbox, "other", "other")]);
    let files = image.changes();
    assert_eq!(files, ["f 0644 0:0 kept"]);
    let context = named(sandbox, "other", "other");
    sandbox.dockerfile("FROM scratch\nCOPY --from=other /hidden /\n");
    sandbox
        .try_build(&["--build-context", &context])
        .failure(2)
        .says("`/hidden` is not in context `other`");
}

fn a_change_in_a_named_directory_is_seen(sandbox: &Sandbox) {
    sandbox.write("other/a", "1").write("other/b", "1");
    sandbox.dockerfile("FROM scratch\nCOPY --from=other /a /\n");
    let context = named(sandbox, "other", "other");
    let args = ["--build-context", context.as_str()];
    sandbox.build_with(&args);
    sandbox.write("other/b", "2");
    let (_, steps) = sandbox.build_with(&args);
    assert_eq!(steps.ran().len(), 0);
    sandbox.write("other/a", "2");
    let (image, _) = sandbox.build_with(&args);
    assert_eq!(image.tree().text("a"), "2");
}
