//! Contexts other than the directory beside the Dockerfile: named ones, archives, and remote ones.

use std::process::Command;

use crate::support::{Image, Output, Sandbox, cases};

cases! { Root, User =>
    a_named_directory_is_copied_from_mounted_and_stood_on,
    a_named_context_replaces_an_image_or_a_stage,
    a_named_layout_is_an_image,
    a_dockerfile_may_go_through_the_preprocessor,
    an_archive_on_standard_input_is_a_context,
}

cases! { Root =>
    a_named_directory_has_its_own_ignore_file,
    a_change_in_a_named_directory_is_seen,
    an_archive_keeps_owners_and_has_no_ignore_file,
    a_hostile_or_broken_archive_is_refused_and_leaves_nothing,
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

/// §7.8.
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

fn a_dockerfile_may_go_through_the_preprocessor(sandbox: &Sandbox) {
    sandbox
        .write("a", "a")
        .write("parts/copy", "COPY a TARGET\n");
    sandbox.write(
        "parts/x.in",
        "# syntax=none\n#define TARGET /here\n#ifdef TARGET\nFROM scratch\n#endif\n#include \"copy\"\n",
    );
    let file = sandbox.context().join("parts/x.in");
    let file = file.to_str().unwrap();
    let (image, _) = sandbox.build_with(&["-f", file]);
    assert_eq!(image.top().files(), ["here"]);
    sandbox.write("parts/copy", "#error wrong part\n");
    sandbox
        .try_build(&["-f", file])
        .failure(2)
        .says("wrong part");
    let strata = sandbox.strata().args(["check", "--fix", "-f", file]);
    strata.arg(sandbox.context()).output().failure(2);
}

/// §13.1.
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

/// The files of `context/` as a tar that went through `compress`.
fn packed(sandbox: &Sandbox, compress: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new("sh")
        .arg("-ec")
        .arg(format!("tar --create --sort=name \"$@\" . | {compress}"))
        .arg("sh")
        .args(args)
        .current_dir(sandbox.context())
        .output()
        .unwrap();
    assert!(output.status.success(), "{compress}: {output:?}");
    output.stdout
}

fn build_stdin(sandbox: &Sandbox, input: Vec<u8>, args: &[&str]) -> (Output, std::path::PathBuf) {
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=oci,dest={}", archive.display());
    let output = sandbox
        .strata()
        .args(["build", "--progress", "json", "--output", &to])
        .args(args)
        .arg("-")
        .stdin(input)
        .output();
    (output, archive)
}

/// Nothing of a context is left in the store.
fn assert_no_scratch(sandbox: &Sandbox) {
    let scratch = sandbox.path("store/scratch");
    let left: Vec<_> = std::fs::read_dir(&scratch)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    let left: Vec<_> = left.iter().filter(|path| path.is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn an_archive_on_standard_input_is_a_context(sandbox: &Sandbox) {
    sandbox.write("dir/file", "text");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY dir /\n");
    sandbox.write("sub/other", "FROM scratch\nCOPY dir/file /other\n");
    for compress in ["cat", "gzip", "bzip2", "xz", "zstd -q"] {
        let input = packed(sandbox, compress, &[]);
        let (output, archive) = build_stdin(sandbox, input.clone(), &[]);
        output.success();
        assert_eq!(Image::read(&archive).tree().text("file"), "text");
        let (output, archive) = build_stdin(sandbox, input, &["-f", "sub/other"]);
        output.success();
        assert_eq!(Image::read(&archive).tree().text("other"), "text");
    }
    assert_no_scratch(sandbox);
}

fn an_archive_keeps_owners_and_has_no_ignore_file(sandbox: &Sandbox) {
    sandbox.write("kept", "").write(".dockerignore", "kept\n");
    sandbox.write("Dockerfile", "FROM scratch\nCOPY kept /\n");
    let (output, archive) = build_stdin(
        sandbox,
        packed(sandbox, "cat", &["--owner=5", "--group=6", "--mode=0640"]),
        &[],
    );
    output.success();
    assert_eq!(Image::read(&archive).changes(), ["f 0640 5:6 kept"]);
}

fn a_hostile_or_broken_archive_is_refused_and_leaves_nothing(sandbox: &Sandbox) {
    sandbox.write("Dockerfile", "FROM scratch\nCOPY . /\n");
    let upwards = packed(sandbox, "cat", &["--transform=s,^./Dockerfile,../../x,"]);
    let whole = packed(sandbox, "gzip", &[]);
    let cut = whole[..whole.len() / 2].to_vec();
    for (input, part) in [
        (upwards, "leads out of"),
        (cut, "archive"),
        (b"\x1f\x8b\x08 not gzip at all".to_vec(), "archive"),
    ] {
        let (output, _) = build_stdin(sandbox, input, &[]);
        output.failure(2).says(part);
        assert_no_scratch(sandbox);
    }
    let (output, _) = build_stdin(sandbox, packed(sandbox, "cat", &[]), &["-f", "none"]);
    output.failure(2).says("no `none`");
}
