//! What a build can be written as, and who can read it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Dockerd, Image, Sandbox, Tree, cases, run, run_quietly, skip};

cases! { Root, User =>
    an_oci_archive_and_layout_hold_the_same_image,
    a_docker_archive_names_its_image,
    a_tar_is_the_file_tree,
    a_directory_is_filled_with_the_files,
    a_directory_can_be_made_to_hold_the_result_and_nothing_else,
    several_outputs_come_from_one_build,
    archives_can_go_to_standard_output,
    the_image_id_is_written,
    the_metadata_has_docker_buildxs_keys,
    skopeo_umoci_and_buildah_read_the_image,
    an_image_is_saved_and_loaded_again,
    images_of_other_tools_are_loaded,
    compression_can_be_chosen,
    layers_of_a_base_are_compressed_anew_when_asked,
    a_manifest_is_annotated_or_dockers,
    a_failed_build_writes_nothing,
}

cases! { Root =>
    docker_loads_and_runs_the_image,
}

/// A build with something of every kind in it.
fn rich(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a").dockerfile(
        "FROM busybox\nCOPY --chown=7:8 --chmod=640 a /d/a\nRUN ln /d/a /d/hard && ln -s a /d/soft\n\
         RUN rm /etc/group && chmod 4755 /d/a\nENV x=1\nUSER app\nWORKDIR /w\nCMD [\"cat\", \"/d/a\"]\n\
         LABEL l=1\n",
    );
}

/// Builds with these outputs.
fn build_to(sandbox: &Sandbox, outputs: &[String]) {
    let mut args = Vec::new();
    for output in outputs {
        args.extend(["--output", output]);
    }
    sandbox.steps(&args);
}

/// §17.2.
fn an_oci_archive_and_layout_hold_the_same_image(sandbox: &Sandbox) {
    rich(sandbox);
    let archive = sandbox.fresh_output("tar");
    let layout = sandbox.fresh_output("layout");
    build_to(sandbox, &[format!("type=oci,dest={}", archive.display())]);
    build_to(
        sandbox,
        &[format!("type=oci,tar=false,dest={}", layout.display())],
    );
    let (archive, layout) = (Image::read(&archive), Image::read(&layout));
    assert_eq!(archive.digest, layout.digest);
    assert_eq!(archive.layers, layout.layers);
    assert_eq!(archive.tree().at("d/a").line(), "f 4755 7:8");
    assert_eq!(
        archive.manifest["config"]["mediaType"],
        "application/vnd.oci.image.config.v1+json"
    );
    for layer in archive.manifest["layers"].as_array().unwrap() {
        let media_type = layer["mediaType"].as_str().unwrap();
        assert!(
            media_type.starts_with("application/vnd.oci.image.layer.v1.tar"),
            "{media_type}"
        );
    }
    // Digests in history and manifest agree with the base's: `Image::read` has checked.
    assert_eq!(archive.layers.len(), 5);
}

fn a_docker_archive_names_its_image(sandbox: &Sandbox) {
    rich(sandbox);
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=docker,dest={}", archive.display());
    sandbox.steps(&["-t", "me/app:2", "-t", "me/app", "--output", &to]);
    let image = Image::read(&archive);
    let mut names = image.names.clone();
    names.sort();
    assert_eq!(names, ["me/app:2", "me/app:latest"]);
    assert_eq!(image.tree().at("d/a").line(), "f 4755 7:8");
    assert_eq!(image.env("x"), Some("1"));
}

fn a_tar_is_the_file_tree(sandbox: &Sandbox) {
    rich(sandbox);
    let archive = sandbox.fresh_output("tar");
    let oci = sandbox.fresh_output("tar");
    build_to(
        sandbox,
        &[
            format!("type=tar,dest={}", archive.display()),
            format!("type=oci,dest={}", oci.display()),
        ],
    );
    let tree = Tree::of_tar(fs::File::open(&archive).unwrap());
    assert_eq!(
        tree.lines_below("d"),
        Image::read(&oci).tree().lines_below("d")
    );
    assert!(!tree.has("etc/group") && tree.has("etc/passwd") && tree.has("bin/busybox"));
    assert!(!tree.0.keys().any(|path| path.contains(".wh.")));
}

fn a_directory_is_filled_with_the_files(sandbox: &Sandbox) {
    sandbox.busybox().write("a", "a").dockerfile(
        "FROM busybox AS b\nRUN mkdir -p /o/sub && echo x > /o/sub/x && chmod 750 /o/sub/x && ln -s x /o/sub/l\n\
         FROM scratch\nCOPY --from=b /o /\nCOPY a /\n",
    );
    let to = sandbox.path("out/files");
    build_to(sandbox, &[format!("type=local,dest={}", to.display())]);
    let tree = Tree::of_directory(&to);
    assert_eq!(tree.files(), ["a", "sub/l", "sub/x"]);
    assert_eq!(tree.text("sub/x"), "x\n");
    assert_eq!(tree.at("sub/x").mode, 0o750);
    // The files are the caller's.
    assert_eq!(tree.at("a").uid, u64::from(sandbox.account().uid));
    // The short form, onto what is there.
    sandbox.write("a", "new");
    fs::write(to.join("kept"), "kept").unwrap();
    build_to(sandbox, &[to.display().to_string()]);
    let tree = Tree::of_directory(&to);
    assert_eq!(tree.text("a"), "new");
    assert_eq!(tree.text("kept"), "kept");
}

fn a_directory_can_be_made_to_hold_the_result_and_nothing_else(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("a", "a")
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY a /kept/a\n");
    let to = sandbox.path("out/exact");
    let outside = sandbox.path("out/outside");
    fs::create_dir_all(to.join("stale/deep/deeper")).unwrap();
    fs::create_dir_all(to.join("a/directory/where/a/file/is/to/be")).unwrap();
    fs::create_dir_all(to.join("kept/stale")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    for file in ["stale/deep/x", "a/y", "kept/z", "kept/stale/w", "file"] {
        fs::write(to.join(file), "old").unwrap();
    }
    fs::write(outside.join("precious"), "mine").unwrap();
    std::os::unix::fs::symlink(&outside, to.join("link")).unwrap();
    std::os::unix::fs::symlink(&outside, to.join("kept/link")).unwrap();
    let owner = format!("{0}:{0}", sandbox.account().uid);
    run(Command::new("chown").args(["-hR", &owner]).arg(&to));
    let output = format!("type=local,mode=delete,dest={}", to.display());
    let build = |directory: &str, more: &[&str]| {
        let strata = sandbox.strata().directory(sandbox.path(directory));
        let strata = strata.args(["build", "-o", &output]).args(more);
        strata.arg(sandbox.context()).output()
    };
    // From beside the directory, somebody may have meant another one.
    let refused = build("out/outside", &[]).failure(2);
    refused.says("buildx.local.delete");
    assert!(to.join("file").exists());
    build("out", &[]).success();
    let all = || Tree::of_directory(&to).0.into_keys().collect::<Vec<_>>();
    let expected = all();
    assert_eq!(
        expected
            .iter()
            .filter(|path| !path.is_empty())
            .collect::<Vec<_>>(),
        ["a", "kept", "kept/a"]
    );
    assert_eq!(
        fs::read_to_string(outside.join("precious")).unwrap(),
        "mine"
    );
    fs::write(to.join("again"), "stale").unwrap();
    build("out/outside", &["--allow", "buildx.local.delete"]).success();
    assert_eq!(all(), expected);
}

fn several_outputs_come_from_one_build(sandbox: &Sandbox) {
    rich(sandbox);
    let paths: Vec<_> = (0..3).map(|_| sandbox.fresh_output("tar")).collect();
    build_to(
        sandbox,
        &[
            format!("type=oci,dest={}", paths[0].display()),
            format!("type=docker,dest={}", paths[1].display()),
            format!("type=tar,dest={}", paths[2].display()),
            "type=image,name=also:here".to_owned(),
        ],
    );
    let (oci, docker) = (Image::read(&paths[0]), Image::read(&paths[1]));
    assert_eq!(oci.config, docker.config);
    assert_eq!(oci.layers, docker.layers);
    assert!(Tree::of_tar(fs::File::open(&paths[2]).unwrap()).has("d/a"));
    assert_eq!(sandbox.saved("also:here").config, oci.config);
}

fn archives_can_go_to_standard_output(sandbox: &Sandbox) {
    sandbox
        .write("a", "a")
        .dockerfile("FROM scratch\nCOPY a /\n");
    let path = sandbox.fresh_output("tar");
    let strata = sandbox
        .strata()
        .args(["build", "--output", "-"])
        .arg(sandbox.context());
    strata.output_to_file(&path);
    assert_eq!(Tree::of_tar(fs::File::open(&path).unwrap()).files(), ["a"]);
    let path = sandbox.fresh_output("tar");
    let strata = sandbox
        .strata()
        .args(["build", "--output", "type=oci,dest=-"])
        .arg(sandbox.context());
    strata.output_to_file(&path);
    assert_eq!(Image::read(&path).tree().files(), ["a"]);
}

fn the_image_id_is_written(sandbox: &Sandbox) {
    rich(sandbox);
    let file = sandbox.path("out/iid");
    sandbox.steps(&["--iidfile", file.to_str().unwrap(), "-t", "it"]);
    let id = fs::read_to_string(&file).unwrap();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id:?}");
    let known = sandbox.run(&["inspect", "it"]).json();
    assert_eq!(known[0]["Id"], id.as_str());
    // --quiet prints it, and nothing else.
    let quiet = sandbox
        .strata()
        .args(["build", "--quiet", "-t", "it"])
        .arg(sandbox.context())
        .output();
    let quiet = quiet.success();
    assert_eq!(
        (quiet.stdout.trim_end(), quiet.stderr.as_str()),
        (id.as_str(), "")
    );
    // The ID names the image everywhere.
    sandbox.run(&["tag", &id, "by-id"]);
    sandbox.run(&["run", "--rm", &id, "true"]);
}

fn the_metadata_has_docker_buildxs_keys(sandbox: &Sandbox) {
    rich(sandbox);
    let file = sandbox.path("out/metadata");
    let read = || -> Value { serde_json::from_slice(&fs::read(&file).unwrap()).unwrap() };
    let to_file = ["--metadata-file", file.to_str().unwrap()];
    // An image in the store.
    sandbox.steps(&[&to_file[..], &["-t", "it:1", "-t", "other"]].concat());
    let metadata = read();
    let id = &sandbox.run(&["inspect", "it:1"]).json()[0]["Id"];
    assert_eq!(metadata["containerimage.config.digest"], *id);
    assert_eq!(metadata["containerimage.digest"], *id);
    assert_eq!(
        metadata["image.name"],
        "docker.io/library/it:1,docker.io/library/other:latest"
    );
    assert_eq!(
        metadata["buildx.build.ref"]
            .as_str()
            .unwrap()
            .matches('/')
            .count(),
        2
    );
    let provenance = &metadata["buildx.build.provenance"];
    let request = &provenance["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["frontend"], "dockerfile.v0");
    assert_eq!(request["args"], Value::Null);
    // One with a manifest, and more of how it was made.
    let layout = sandbox.fresh_output("layout");
    let output = format!("type=oci,tar=false,dest={}", layout.display());
    let build = |provenance: &str| {
        let strata = sandbox
            .strata()
            .env("BUILDX_METADATA_PROVENANCE", provenance);
        let args = ["build", "--build-arg", "A=b", "--output", &output];
        strata
            .args(args)
            .args(to_file)
            .arg(sandbox.context())
            .output()
    };
    build("max").success();
    let metadata = read();
    let image = Image::read(&layout);
    assert_eq!(metadata["containerimage.digest"], image.digest.as_str());
    let descriptor = &metadata["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], image.digest.as_str());
    assert_eq!(
        descriptor["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(
        metadata["containerimage.config.digest"],
        image.manifest["config"]["digest"]
    );
    let provenance = &metadata["buildx.build.provenance"];
    let request = &provenance["buildDefinition"]["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:A"], "b");
    build("disabled").success();
    assert_eq!(read()["buildx.build.provenance"], Value::Null);
    build("much").failure(2).says("min, max or disabled");
}

fn skopeo_umoci_and_buildah_read_the_image(sandbox: &Sandbox) {
    rich(sandbox);
    let layout = sandbox.fresh_output("layout");
    let docker = sandbox.fresh_output("tar");
    let layout_output = format!("type=oci,tar=false,dest={}", layout.display());
    let docker_output = format!("type=docker,dest={}", docker.display());
    sandbox.steps(&[
        "-t",
        "it:1",
        "--output",
        &layout_output,
        "--output",
        &docker_output,
    ]);
    let ours = Image::read(&layout);

    // skopeo reads both forms and finds the same configuration.
    for source in [
        format!("oci:{}", layout.display()),
        format!("docker-archive:{}", docker.display()),
    ] {
        let config = run_quietly("skopeo", &["inspect", "--config", "--raw", &source]);
        assert_eq!(
            serde_json::from_str::<Value>(&config).unwrap(),
            ours.config,
            "{source}"
        );
    }

    // umoci unpacks it; as root, so that owners show.
    if sandbox.account().is_me() && sandbox.account().uid == 0 {
        let bundle = sandbox.path("out/bundle");
        let index: Value =
            serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let annotations = &index["manifests"][0]["annotations"];
        let name = annotations["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap();
        let image = format!("{}:{name}", layout.display());
        run(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle));
        let tree = Tree::of_directory(&bundle.join("rootfs"));
        assert_eq!(tree.at("d/a").line(), "f 4755 7:8");
        assert_eq!(tree.at("d/hard").line(), "f 0640 7:8");
        assert!(!tree.has("etc/group"));
        let spec: Value =
            serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
        assert_eq!(spec["process"]["args"], serde_json::json!(["cat", "/d/a"]));
        assert_eq!(spec["process"]["user"]["uid"], 1000);

        // buildah (and so podman) takes it in and mounts it.
        let root = sandbox.path("out/buildah");
        let run_root = sandbox.path("out/buildah-run");
        let buildah = || {
            let mut command = Command::new("buildah");
            command
                .arg("--root")
                .arg(&root)
                .arg("--runroot")
                .arg(&run_root)
                .current_dir(sandbox.path("out"));
            command.args(["--storage-driver", "vfs"]);
            command
        };
        let container = run(buildah()
            .args(["from", "--quiet"])
            // A path in full would become a name, which takes no capitals.
            .arg(format!("oci:{}", layout.file_name().unwrap().display())));
        let mount = run(buildah().arg("mount").arg(container.trim_end()));
        let tree = Tree::of_directory(std::path::Path::new(mount.trim_end()));
        assert_eq!(tree.at("d/a").line(), "f 4755 7:8");
        assert!(!tree.has("etc/group"));
        run(buildah().args(["umount", "--all"]));
        run(buildah().args(["rm", "--all"]));
    }
}

fn docker_loads_and_runs_the_image(sandbox: &Sandbox) {
    let docker = match Dockerd::start(sandbox) {
        Ok(docker) => docker,
        Err(reason) => return skip(&reason),
    };
    rich(sandbox);
    let archive = sandbox.fresh_output("tar");
    let to = format!("type=docker,dest={}", archive.display());
    sandbox.steps(&["-t", "me/app:2", "--output", &to]);
    let said = run(docker.command().args(["load", "--input"]).arg(&archive));
    assert!(said.contains("me/app:2"), "{said}");
    let id = run(docker
        .command()
        .args(["image", "inspect", "--format", "{{.Id}}", "me/app:2"]));
    let config = &Image::read(&archive).manifest["config"]["digest"];
    assert_eq!(*config, id.trim_end());
    let config = run(docker.command().args([
        "image",
        "inspect",
        "--format",
        "{{json .Config}}",
        "me/app:2",
    ]));
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["User"], "app");
    // Saved again by docker, it has the same layers.
    let again = sandbox.fresh_output("tar");
    run(docker
        .command()
        .args(["save", "--output"])
        .arg(&again)
        .arg("me/app:2"));
    assert_eq!(Image::read(&again).config, Image::read(&archive).config);
}

fn an_image_is_saved_and_loaded_again(sandbox: &Sandbox) {
    rich(sandbox);
    sandbox.steps(&["-t", "it:1"]);
    let original = sandbox.saved("it:1");
    for format in ["docker", "oci"] {
        let archive = sandbox.fresh_output("tar");
        sandbox.run(&[
            "save",
            "--format",
            format,
            "--output",
            archive.to_str().unwrap(),
            "it:1",
        ]);
        let other = Sandbox::new(sandbox.who()).unwrap();
        other.run(&["load", "--input", archive.to_str().unwrap()]);
        let loaded = other.saved("it:1");
        assert_eq!(loaded.config, original.config, "{format}");
        assert_eq!(loaded.layers, original.layers, "{format}");
        // A build can start from it.
        other.dockerfile("FROM it:1\nUSER root\nRUN cat /d/a > /out\n");
        assert_eq!(other.build_with(&[]).0.tree().text("out"), "a");
    }
}

fn images_of_other_tools_are_loaded(sandbox: &Sandbox) {
    rich(sandbox);
    let archive = sandbox.fresh_output("tar");
    sandbox.steps(&[
        "--output",
        &format!("type=docker,dest={}", archive.display()),
    ]);
    // skopeo's forms of it: a layout, an OCI archive, a docker archive.
    let layout = sandbox.fresh_output("layout");
    let oci = sandbox.fresh_output("tar");
    let docker = sandbox.fresh_output("tar");
    for (kind, path) in [
        ("oci", &layout),
        ("oci-archive", &oci),
        ("docker-archive", &docker),
    ] {
        let to = format!("{kind}:{}:other/name:3", path.display());
        run_quietly(
            "skopeo",
            &[
                "copy",
                "--quiet",
                &format!("docker-archive:{}", archive.display()),
                &to,
            ],
        );
        let other = Sandbox::new(sandbox.who()).unwrap();
        other.run(&["load", "--tag", "loaded", "--input", path.to_str().unwrap()]);
        let loaded = other.saved("loaded");
        assert_eq!(loaded.tree().at("d/a").line(), "f 4755 7:8", "{kind}");
        assert_eq!(loaded.env("x"), Some("1"), "{kind}");
    }
}

fn compression_can_be_chosen(sandbox: &Sandbox) {
    rich(sandbox);
    for (compression, suffix) in [
        ("gzip", "tar+gzip"),
        ("zstd", "tar+zstd"),
        ("uncompressed", "tar"),
    ] {
        let path = sandbox.fresh_output("tar");
        build_to(
            sandbox,
            &[format!(
                "type=oci,compression={compression},dest={}",
                path.display()
            )],
        );
        let image = Image::read(&path);
        for layer in image.manifest["layers"].as_array().unwrap() {
            assert!(
                layer["mediaType"].as_str().unwrap().ends_with(suffix),
                "{compression}: {layer}"
            );
        }
    }
}

fn layers_of_a_base_are_compressed_anew_when_asked(sandbox: &Sandbox) {
    sandbox.busybox();
    // A base whose layer came as gzip.
    let gzip = sandbox.fresh_output("tar");
    sandbox.run(&["save", "-o", gzip.to_str().unwrap(), "busybox"]);
    sandbox.run(&["rmi", "busybox"]);
    sandbox.run(&["cache", "prune", "--all"]);
    sandbox.run(&["load", "-i", gzip.to_str().unwrap()]);
    sandbox.dockerfile("FROM busybox\nRUN echo x > /x\n");
    let media_types = |more: &str| {
        let path = sandbox.fresh_output("tar");
        build_to(
            sandbox,
            &[format!(
                "type=oci,dest={},compression=zstd{more}",
                path.display()
            )],
        );
        let image = Image::read(&path);
        assert_eq!(image.tree().text("x"), "x\n");
        let layers = image.manifest["layers"].as_array().unwrap().clone();
        let last_words = layers.iter().map(|layer| {
            let media_type = layer["mediaType"].as_str().unwrap();
            media_type.rsplit('+').next().unwrap().to_owned()
        });
        last_words.collect::<Vec<_>>()
    };
    assert_eq!(media_types(""), ["gzip", "zstd"]);
    assert_eq!(media_types(",force-compression=true"), ["zstd", "zstd"]);
    assert_eq!(media_types(""), ["gzip", "zstd"]);
}

fn a_manifest_is_annotated_or_dockers(sandbox: &Sandbox) {
    rich(sandbox);
    let layout = sandbox.fresh_output("layout");
    sandbox.steps(&[
        "--annotation",
        "org.opencontainers.image.Source=here",
        "--annotation",
        "manifest-descriptor:com.example.stage=test",
        "--output",
        &format!(
            "type=oci,tar=false,dest={},annotation.com.example.n=1",
            layout.display()
        ),
    ]);
    let image = Image::read(&layout);
    let annotations = json!({
        "org.opencontainers.image.Source": "here",
        "com.example.n": "1"
    });
    assert_eq!(image.manifest["annotations"], annotations);
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let descriptor = &index["manifests"][0]["annotations"];
    assert_eq!(descriptor["com.example.stage"], "test");

    let docker = sandbox.fresh_output("layout");
    build_to(
        sandbox,
        &[format!(
            "type=oci,tar=false,oci-mediatypes=false,dest={}",
            docker.display()
        )],
    );
    let image = Image::read(&docker);
    let family = "application/vnd.docker.";
    let types = [
        image.manifest["mediaType"].as_str(),
        image.manifest["config"]["mediaType"].as_str(),
        image.manifest["layers"][0]["mediaType"].as_str(),
    ];
    assert!(
        types.iter().all(|it| it.unwrap().starts_with(family)),
        "{types:?}"
    );
    let to = format!(
        "type=local,dest={}",
        sandbox.fresh_output("local").display()
    );
    let refused = sandbox.try_build(&["--output", &to, "--annotation", "a=b"]);
    assert_eq!(refused.code(), 2, "{refused}");
    assert!(refused.stderr.contains("--annotation"), "{refused}");
}

fn a_failed_build_writes_nothing(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile("FROM busybox\nRUN exit 1\n");
    let archive = sandbox.fresh_output("tar");
    let id = sandbox.path("out/iid");
    let to = format!("type=oci,dest={}", archive.display());
    let args = [
        "--output",
        &to,
        "--iidfile",
        id.to_str().unwrap(),
        "-t",
        "it",
    ];
    sandbox.try_build(&args).failure(1);
    assert!(!archive.exists() && !id.exists());
    sandbox.try_run(&["inspect", "it"]).failure(1);
    // An output that can't be written fails the build, and leaves nothing half done.
    sandbox.dockerfile("FROM busybox\n");
    let output = sandbox
        .try_build(&["--output", "type=oci,dest=/proc/nowhere/x.tar"])
        .failure(1);
    assert!(output.stderr.contains("/proc/nowhere"), "{output}");
}
