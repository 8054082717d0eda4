//! Pull and push, against a real registry and beside skopeo.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Base, Image, Registry, Sandbox, cases, run, run_quietly};

cases! { Root, User =>
    a_pushed_image_is_read_by_skopeo,
    a_pulled_image_is_what_was_pushed,
    a_build_starts_from_a_registry,
    gzip_and_zstd_and_plain_layers_are_pulled,
    an_index_gives_this_machines_image,
    a_base_is_looked_up_again_only_when_asked,
    a_digest_is_never_looked_up_again,
    build_can_push,
    a_push_by_digest_leaves_no_tag,
    pushing_again_sends_nothing_new,
}

cases! { Root =>
    a_damaged_blob_is_refused,
    a_missing_tag_and_a_dead_registry_are_told_apart,
    a_foreign_architecture_is_named,
}

/// Builds an image and gives it a name.
fn tagged(sandbox: &Sandbox, body: &str, name: &str) {
    sandbox.dockerfile(&format!("FROM busybox\n{body}\n"));
    sandbox.steps(&["-t", name]);
}

fn skopeo_copy(from: &str, to: &str, args: &[&str]) {
    let fixed = [
        "copy",
        "--quiet",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ];
    run(Command::new("skopeo")
        .args(fixed)
        .args(args)
        .arg(from)
        .arg(to));
}

/// What skopeo makes of an image in the registry.
fn by_skopeo(sandbox: &Sandbox, registry: &Registry, name: &str) -> Image {
    let layout = sandbox.fresh_output("layout");
    skopeo_copy(
        &registry.skopeo(name),
        &format!("oci:{}:it", layout.display()),
        &[],
    );
    Image::read(&layout)
}

fn a_pushed_image_is_read_by_skopeo(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox().write("a", "a");
    tagged(
        sandbox,
        "COPY --chown=7:8 a /a\nRUN rm /etc/group\nENV x=1\nCMD [\"c\"]",
        "app:1",
    );
    let name = registry.reference("team/app:1");
    sandbox.run(&["push", "app:1", &name]);
    let image = by_skopeo(sandbox, &registry, "team/app:1");
    assert_eq!(image.tree().at("a").line(), "f 0644 7:8");
    assert!(!image.tree().has("etc/group"));
    assert_eq!(image.env("x"), Some("1"));
    assert_eq!(image.config, sandbox.saved("app:1").config);
    let inspected = run_quietly(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            &registry.skopeo("team/app:1"),
        ],
    );
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], image.digest.as_str());
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 3);
    // Under the image's own name, too.
    sandbox.run(&["tag", "app:1", &registry.reference("own:2")]);
    sandbox.run(&["push", &registry.reference("own:2")]);
    assert_eq!(by_skopeo(sandbox, &registry, "own:2").digest, image.digest);
}

fn a_pulled_image_is_what_was_pushed(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    tagged(
        sandbox,
        "RUN mkdir -p /d && echo x > /d/x && chown 3:4 /d/x && ln /d/x /d/y",
        "app",
    );
    let name = registry.reference("app:v");
    sandbox.run(&["push", "app", &name]);
    let pushed = sandbox.saved("app");
    let digest = by_skopeo(sandbox, &registry, "app:v").digest;
    let other = Sandbox::new(sandbox.who()).unwrap();
    for reference in [name, registry.reference(&format!("app@{digest}"))] {
        other.run(&["pull", &reference]);
        let pulled = other.saved(&reference);
        assert_eq!(pulled.config, pushed.config, "{reference}");
        assert_eq!(pulled.layers, pushed.layers, "{reference}");
    }
    other.run(&["cache", "verify", "--deep"]);
}

fn a_build_starts_from_a_registry(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    tagged(sandbox, "RUN echo base > /base\nENV from=base", "app");
    let name = registry.reference("app:v");
    sandbox.run(&["push", "app", &name]);
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.dockerfile(&format!(
        "FROM {name}\nRUN cat /base > /out; echo $from >> /out\nCOPY --from={name} /base /copied\n"
    ));
    let (image, _) = other.build_with(&[]);
    assert_eq!(image.tree().text("out"), "base\nbase\n");
    assert_eq!(image.tree().text("copied"), "base\n");
    // Without the registry, once it is here.
    drop(registry);
    let steps = other.steps(&[]);
    assert_eq!(steps.ran(), Vec::<&str>::new());
}

fn gzip_and_zstd_and_plain_layers_are_pulled(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    tagged(sandbox, "RUN echo x > /x", "app");
    let layout = sandbox.fresh_output("layout");
    let archive = sandbox.fresh_output("tar");
    sandbox.run(&["save", "--output", archive.to_str().unwrap(), "app"]);
    let from = format!("docker-archive:{}", archive.display());
    skopeo_copy(&from, &format!("oci:{}:it", layout.display()), &[]);
    let from = format!("oci:{}:it", layout.display());
    for (name, args) in [
        ("gzip", &["--dest-compress-format", "gzip"] as &[_]),
        (
            "zstd",
            &[
                "--dest-compress-format",
                "zstd",
                "--dest-force-compress-format",
            ],
        ),
        ("docker", &["--format", "v2s2"]),
    ] {
        let args: Vec<&str> = args
            .iter()
            .copied()
            .filter(|arg| *arg != "--dest-force-compress-format")
            .collect();
        skopeo_copy(&from, &registry.skopeo(name), &args);
        let other = Sandbox::new(sandbox.who()).unwrap();
        other.dockerfile(&format!(
            "FROM {}\nRUN cat /x > /out\n",
            registry.reference(name)
        ));
        assert_eq!(other.build_with(&[]).0.tree().text("out"), "x\n", "{name}");
    }
}

/// Puts an index with one image for each of `architectures` into the registry. Each image is
/// busybox with a file `/arch` that says which it is.
fn push_index(sandbox: &Sandbox, registry: &Registry, name: &str, architectures: &[&str]) {
    let layout = sandbox.fresh_output("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let put = |bytes: &[u8], media_type: &str| {
        let hex = format!("{:x}", Sha256Hex(bytes));
        fs::write(blobs.join(&hex), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    let mut manifests = Vec::new();
    for architecture in architectures {
        let mut builder = tar::Builder::new(fs::read(Base::Busybox.path()).map(strip_end).unwrap());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(architecture.len() as u64);
        builder
            .append_data(&mut header, "arch", architecture.as_bytes())
            .unwrap();
        let layer = builder.into_inner().unwrap();
        let diff_id = format!("sha256:{:x}", Sha256Hex(&layer));
        let config = json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created_by": "by hand"}],
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json"),
            "layers": [put(&layer, "application/vnd.oci.image.layer.v1.tar")],
        });
        let manifest = manifest.to_string();
        let mut entry = put(
            manifest.as_bytes(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        manifests.push(entry);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    let mut entry = put(
        index.to_string().as_bytes(),
        "application/vnd.oci.image.index.v1+json",
    );
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
    let top = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.join("index.json"), top.to_string()).unwrap();
    skopeo_copy(
        &format!("oci:{}:it", layout.display()),
        &registry.skopeo(name),
        &["--all"],
    );
}

/// A tar without the two empty blocks at its end, so that more can be appended.
fn strip_end(mut tar: Vec<u8>) -> Vec<u8> {
    while tar.len() >= 512 && tar[tar.len() - 512..].iter().all(|byte| *byte == 0) {
        tar.truncate(tar.len() - 512);
    }
    tar
}

/// Shows the SHA-256 of bytes with `{:x}`.
struct Sha256Hex<'a>(&'a [u8]);

impl std::fmt::LowerHex for Sha256Hex<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Sha256::digest(self.0)
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

fn own_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn an_index_gives_this_machines_image(sandbox: &Sandbox) {
    let registry = Registry::start();
    push_index(
        sandbox,
        &registry,
        "multi",
        &["s390x", own_architecture(), "riscv64"],
    );
    let name = registry.reference("multi");
    sandbox.dockerfile(&format!("FROM {name}\nRUN cat /arch > /out\n"));
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!(image.tree().text("out"), own_architecture());
    // Another one can be taken files from, if not run.
    sandbox.dockerfile(&format!(
        "FROM --platform=linux/s390x {name} AS other\nFROM {name}\nCOPY --from=other /arch /other\n"
    ));
    let (image, _) = sandbox.build_with(&[]);
    assert_eq!(image.tree().text("other"), "s390x");
    assert_eq!(image.config["architecture"], own_architecture());
}

fn a_foreign_architecture_is_named(sandbox: &Sandbox) {
    let registry = Registry::start();
    push_index(sandbox, &registry, "foreign", &["s390x", "riscv64"]);
    let name = registry.reference("foreign");
    let said = sandbox.build_fails(&format!("FROM {name}\nRUN true\n"), 1);
    assert!(said.contains(own_architecture()), "{said}");
}

fn a_base_is_looked_up_again_only_when_asked(sandbox: &Sandbox) {
    let registry = Registry::start();
    let name = registry.reference("base:latest");
    sandbox.busybox();
    let push = |text: &str| {
        tagged(sandbox, &format!("RUN echo {text} > /text"), "it");
        sandbox.run(&["push", "it", &name]);
    };
    push("old");
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.dockerfile(&format!("FROM {name}\nRUN cp /text /out\n"));
    assert_eq!(other.build_with(&[]).0.tree().text("out"), "old\n");
    push("new");
    assert_eq!(other.build_with(&[]).0.tree().text("out"), "old\n");
    assert_eq!(other.build_with(&["--pull"]).0.tree().text("out"), "new\n");
    assert_eq!(other.build_with(&[]).0.tree().text("out"), "new\n");
}

fn a_digest_is_never_looked_up_again(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    tagged(sandbox, "RUN echo 1 > /one", "it");
    sandbox.run(&["push", "it", &registry.reference("it:v")]);
    let digest = by_skopeo(sandbox, &registry, "it:v").digest;
    let name = registry.reference(&format!("it:v@{digest}"));
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.dockerfile(&format!("FROM {name}\nRUN cp /one /out\n"));
    other.steps(&[]);
    drop(registry);
    assert_eq!(other.steps(&["--pull"]).ran(), Vec::<&str>::new());
}

fn build_can_push(sandbox: &Sandbox) {
    let registry = Registry::start();
    let name = registry.reference("built:1");
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo x > /x\n");
    sandbox.steps(&["-t", &name, "--push"]);
    assert_eq!(
        by_skopeo(sandbox, &registry, "built:1").tree().text("x"),
        "x\n"
    );
    let second = registry.reference("built:2");
    sandbox.steps(&["--output", &format!("type=image,name={second},push=true")]);
    assert_eq!(
        by_skopeo(sandbox, &registry, "built:2").tree().text("x"),
        "x\n"
    );
}

fn a_push_by_digest_leaves_no_tag(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN echo x > /x\n");
    let (name, other) = (registry.reference("built"), registry.reference("other"));
    let metadata = sandbox.fresh_output("json");
    sandbox.steps(&[
        "--output",
        &format!(
            "type=image,push=true,push-by-digest=true,name-canonical=true,\"name={name},{other}\""
        ),
        "--metadata-file",
        metadata.to_str().unwrap(),
    ]);
    let metadata: Value = serde_json::from_slice(&fs::read(metadata).unwrap()).unwrap();
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    for name in [name, other] {
        assert_eq!(sandbox.try_run(&["pull", &name]).code(), 1);
        sandbox.run(&["pull", &format!("{name}@{digest}")]);
    }
}

fn pushing_again_sends_nothing_new(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    tagged(sandbox, "RUN echo x > /x", "it");
    sandbox.run(&["push", "it", &registry.reference("it:1")]);
    let first = by_skopeo(sandbox, &registry, "it:1");
    // The same image has the same digest under every name and every time.
    sandbox.run(&["push", "it", &registry.reference("it:2")]);
    sandbox.run(&["push", "it", &registry.reference("another/name:3")]);
    assert_eq!(by_skopeo(sandbox, &registry, "it:2").digest, first.digest);
    assert_eq!(
        by_skopeo(sandbox, &registry, "another/name:3").digest,
        first.digest
    );
}

fn a_damaged_blob_is_refused(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    tagged(sandbox, "RUN echo x > /x", "it");
    let name = registry.reference("it:1");
    sandbox.run(&["push", "it", &name]);
    let image = by_skopeo(sandbox, &registry, "it:1");
    let digest = image.manifest["layers"][1]["digest"].as_str().unwrap();
    let path = registry.blob_path(digest);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let other = Sandbox::new(sandbox.who()).unwrap();
    let output = other.try_run(&["pull", &name]).failure(1);
    assert!(output.stderr.contains(&digest[..19]), "{output}");
    // Nothing of it is believed afterwards.
    other.dockerfile(&format!("FROM {name}\nRUN true\n"));
    other.try_build(&[]).failure(1);
    other.try_run(&["run", &name, "true"]).failure(125);
    other.run(&["cache", "verify", "--deep"]);
    // Shorter than it should be.
    fs::write(&path, b"short").unwrap();
    other.try_run(&["pull", &name]).failure(1);
}

fn a_missing_tag_and_a_dead_registry_are_told_apart(sandbox: &Sandbox) {
    let registry = Registry::start();
    let name = registry.reference("no/such:tag");
    let missing = sandbox.try_run(&["pull", &name]).failure(1);
    assert!(
        missing.stderr.contains(&name) && missing.stderr.contains("not found"),
        "{missing}"
    );
    drop(registry);
    let dead = sandbox.try_run(&["pull", &name]).failure(1);
    assert!(
        dead.stderr.contains(&name) || dead.stderr.contains("127.0.0.1"),
        "{dead}"
    );
    assert!(!dead.stderr.contains("not found"), "{dead}");
    assert!(!Path::new(&sandbox.path("store/tmp/pull")).exists());
}
