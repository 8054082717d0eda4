//! Every form of output, held against the formats' schemas and read by other programs: what they
//! unpack is the tree that `type=tar` gives.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Dockerd, Registry, Sandbox, Tree, cases, run, run_quietly, skip};

cases! { Root =>
    layouts_keep_to_the_schemas,
    a_broken_layout_does_not_keep_to_the_schemas,
    umoci_unpacks_our_tree,
    buildah_mounts_our_tree,
    docker_exports_our_tree,
    skopeo_copies_every_form_unchanged,
}

/// A build whose tree and configuration have something of every kind.
fn rich(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a").write("b", "b").dockerfile(
        "FROM busybox\n\
         COPY --chown=7:8 --chmod=640 a /d/a\n\
         RUN ln /d/a /d/hard && ln -s a /d/soft && mkfifo /d/fifo && mkdir -m 1777 /d/sticky\n\
         RUN rm -r /etc/group /root && chmod 4755 /d/a && mkdir /root && echo new >/root/new\n\
         COPY --link b /d/long/a123456789b123456789c123456789d123456789e123456789f123456789g123456789h123456789i123456789\n\
         WORKDIR /w\n\
         ENV x=1 y=\"a b\"\n\
         LABEL l=1\n\
         EXPOSE 80 53/udp\n\
         VOLUME /data\n\
         HEALTHCHECK --interval=5s --retries=2 CMD true\n\
         STOPSIGNAL SIGINT\n\
         SHELL [\"/bin/sh\", \"-c\"]\n\
         ONBUILD ENV z=1\n\
         USER app\n\
         ENTRYPOINT [\"cat\"]\n\
         CMD [\"/d/a\"]\n",
    );
}

/// Builds with these words of `--output`; where it is.
fn output(sandbox: &Sandbox, words: &str) -> PathBuf {
    let to = sandbox.fresh_output("out");
    sandbox.steps(&[
        "-t",
        "it:1",
        "--output",
        &format!("{words},dest={}", to.display()),
    ]);
    to
}

/// The tree as strata itself puts it together.
fn ours(sandbox: &Sandbox) -> Vec<String> {
    Tree::of_tar(fs::File::open(output(sandbox, "type=tar")).unwrap()).lines()
}

/// Fails the test with the lines that only one of two trees has.
#[track_caller]
fn assert_same(theirs: &Tree, ours: &[String], what: &str) {
    let mut theirs = theirs.lines();
    // Some hand over the root itself as well.
    theirs.retain(|line| !line.ends_with(" /"));
    let more: Vec<&String> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    let less: Vec<&String> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    assert!(
        more.is_empty() && less.is_empty(),
        "{what}: only theirs {more:?}, only ours {less:?}"
    );
}

/// What the schemas' checker says of a layout: `Ok` with its lines, or what is wrong.
fn check(layout: &Path) -> Result<Vec<String>, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/oci_schemas.py");
    let done = Command::new("python3")
        .args(["-W", "ignore"])
        .arg(script)
        .arg(layout)
        .output();
    let done = done.unwrap();
    if done.status.success() {
        let text = String::from_utf8(done.stdout).unwrap();
        Ok(text.lines().map(ToOwned::to_owned).collect())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

fn layouts_keep_to_the_schemas(sandbox: &Sandbox) {
    rich(sandbox);
    for words in [
        "type=oci",
        "type=oci,tar=false",
        "type=oci,compression=zstd",
        "type=oci,compression=uncompressed",
        "type=oci,annotation.a.b=c,annotation-manifest-descriptor.d.e=f",
    ] {
        let documents =
            check(&output(sandbox, words)).unwrap_or_else(|why| panic!("{words}: {why}"));
        let schemas: Vec<&str> = documents
            .iter()
            .map(|it| it.split(' ').next().unwrap())
            .collect();
        let all = ["image-layout", "image-index", "image-manifest", "config"];
        assert_eq!(
            schemas,
            all.map(|name| format!("{name}-schema.json")),
            "{words}"
        );
    }
    sandbox.steps(&["-t", "it:1"]);
    let saved = sandbox.fresh_output("tar");
    sandbox.run(&[
        "save",
        "--format",
        "oci",
        "-o",
        saved.to_str().unwrap(),
        "it:1",
    ]);
    assert_eq!(check(&saved).unwrap().len(), 4);
}

fn a_broken_layout_does_not_keep_to_the_schemas(sandbox: &Sandbox) {
    rich(sandbox);
    let layout = output(sandbox, "type=oci,tar=false");
    let index = layout.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    fs::write(
        &index,
        text.replace("\"schemaVersion\":2", "\"schemaVersion\":\"2\""),
    )
    .unwrap();
    let why = check(&layout).unwrap_err();
    assert!(why.contains("schemaVersion"), "{why}");
}

fn umoci_unpacks_our_tree(sandbox: &Sandbox) {
    rich(sandbox);
    let ours = ours(sandbox);
    for words in [
        "type=oci,tar=false",
        "type=oci,tar=false,compression=uncompressed",
    ] {
        let layout = output(sandbox, words);
        let bundle = sandbox.fresh_output("bundle");
        run(Command::new("umoci")
            .args(["unpack", "--image", &format!("{}:1", layout.display())])
            .arg(&bundle));
        let theirs = Tree::of_directory(&bundle.join("rootfs"));
        assert_same(&theirs, &ours, words);
    }
}

fn buildah_mounts_our_tree(sandbox: &Sandbox) {
    rich(sandbox);
    let ours = ours(sandbox);
    let buildah = || {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(sandbox.path("out/buildah"));
        command
            .arg("--runroot")
            .arg(sandbox.path("out/buildah-run"));
        command
            .args(["--storage-driver", "vfs"])
            .current_dir(sandbox.path("out"));
        command
    };
    for (words, transport) in [
        ("type=oci,tar=false", "oci"),
        ("type=oci", "oci-archive"),
        ("type=oci,compression=zstd", "oci-archive"),
        ("type=oci,oci-mediatypes=false,tar=false", "oci"),
        ("type=docker", "docker-archive"),
    ] {
        let image = output(sandbox, words);
        // A path in full would become a name, which takes no capitals.
        let name = format!("{transport}:{}", image.file_name().unwrap().display());
        let container = run(buildah().args(["from", "--quiet"]).arg(name));
        let mount = run(buildah().arg("mount").arg(container.trim_end()));
        let theirs = Tree::of_directory(Path::new(mount.trim_end()));
        assert_same(&theirs, &ours, words);
        run(buildah().args(["umount", "--all"]));
        run(buildah().args(["rm", "--all"]));
    }
}

fn docker_exports_our_tree(sandbox: &Sandbox) {
    let docker = match Dockerd::start(sandbox) {
        Ok(docker) => docker,
        Err(reason) => return skip(&reason),
    };
    rich(sandbox);
    let archive = output(sandbox, "type=docker");
    run(docker.command().args(["load", "--input"]).arg(&archive));
    let container = run(docker.command().args(["create", "it:1"]));
    let exported = sandbox.fresh_output("tar");
    run(docker
        .command()
        .args(["export", "--output"])
        .arg(&exported)
        .arg(container.trim_end()));
    let mut theirs = Tree::of_tar(fs::File::open(&exported).unwrap());
    let mut ours = Tree::of_tar(fs::File::open(output(sandbox, "type=tar")).unwrap());
    // Creating a container puts files and mount points of its own into its tree.
    let containers = [".dockerenv", "data", "dev", "proc", "sys"];
    let files = ["etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"];
    for tree in [&mut theirs, &mut ours] {
        tree.0.retain(|path, _| {
            let top = path.split('/').next().unwrap();
            !containers.contains(&top) && !files.contains(&path.as_str())
        });
    }
    assert_same(&theirs, &ours.lines(), "type=docker");
}

fn skopeo_copies_every_form_unchanged(sandbox: &Sandbox) {
    rich(sandbox);
    let registry = Registry::start();
    let pushed = registry.reference("pushed:1");
    let push = format!("type=registry,name={pushed}");
    sandbox.steps(&["--output", &push]);
    let layout = output(sandbox, "type=oci,tar=false");
    let digest = |from: &str| {
        run_quietly(
            "skopeo",
            &[
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                from,
            ],
        )
    };
    let first = digest(&format!("oci:{}", layout.display()));
    assert_eq!(digest(&registry.skopeo("pushed:1")), first);
    for (number, (from, more)) in [
        (format!("oci:{}", layout.display()), "--preserve-digests"),
        (
            format!("oci-archive:{}", output(sandbox, "type=oci").display()),
            "--preserve-digests",
        ),
        (registry.skopeo("pushed:1"), "--preserve-digests"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("copied:{number}");
        let to = registry.skopeo(&name);
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        run_quietly(
            "skopeo",
            &["copy", "--quiet", tls[0], tls[1], more, &from, &to],
        );
        assert_eq!(digest(&to), first, "{from}");
    }
}
