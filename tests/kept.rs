//! What the store keeps with an image: attestations, annotations, and the manifests that came.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Registry, Sandbox, cases, run, run_quietly};

cases! { Root, User =>
    a_stored_image_leaves_with_what_is_said_of_it,
    what_is_pulled_is_pushed_as_it_came,
    one_platform_is_pulled_with_its_own_statements,
}

cases! { Root =>
    an_annotated_image_needs_no_index,
    a_list_with_clamped_times_leaves_as_it_was_built,
    an_archive_for_docker_has_the_image_alone,
    statements_live_as_long_as_their_image,
    an_image_for_another_platform_is_found_with_its_statements,
    artifacts_have_the_image_as_their_subject,
    indexes_within_indexes_are_pulled_and_pushed_as_they_came,
}

const SPDX: &str = "https://spdx.dev/Document";
const SLSA: &str = "https://slsa.dev/provenance/v1";

/// What a registry has under a name, by skopeo.
fn raw(registry: &Registry, name: &str) -> String {
    let name = registry.skopeo(name);
    run_quietly("skopeo", &["inspect", "--raw", "--tls-verify=false", &name])
}

fn index(registry: &Registry, name: &str) -> Value {
    serde_json::from_str(&raw(registry, name)).unwrap()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", crate::support::hex(&Sha256::digest(content)))
}

/// A blob of a registry.
fn blob(registry: &Registry, digest: &Value) -> Value {
    let content = fs::read(registry.blob_path(digest.as_str().unwrap())).unwrap();
    serde_json::from_slice(&content).unwrap()
}

/// The predicate types of an attestation manifest, after all its statements were seen to be about
/// `image`.
fn predicates(registry: &Registry, said: &Value, image: &Value) -> Vec<String> {
    assert_eq!(
        said["annotations"]["vnd.docker.reference.digest"],
        image["digest"]
    );
    let manifest = blob(registry, &said["digest"]);
    let layers = manifest["layers"].as_array().unwrap().iter();
    layers
        .map(|layer| {
            let statement = blob(registry, &layer["digest"]);
            let subject = &statement["subject"][0]["digest"]["sha256"];
            let subject = format!("sha256:{}", subject.as_str().unwrap());
            assert_eq!(image["digest"], subject);
            statement["predicateType"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn example(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("installed", "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n")
        .dockerfile("FROM busybox\nCOPY installed /lib/apk/db/\nRUN echo a > /made\n");
}

/// Both kinds of statements, and annotations at all levels.
const ASKED: [&str; 10] = [
    "--provenance=true",
    "--sbom=true",
    "--annotation",
    "manifest:in=manifest",
    "--annotation",
    "manifest-descriptor:in=descriptor",
    "--annotation",
    "index:in=index",
    "--annotation",
    "index-descriptor:in=layout",
];

/// Holds an index against [`ASKED`].
fn check_asked(registry: &Registry, name: &str) {
    let index = index(registry, name);
    assert_eq!(index["annotations"], json!({"in": "index"}));
    let [image, said] = &index["manifests"].as_array().unwrap()[..] else {
        panic!("{index:#}");
    };
    assert_eq!(image["annotations"], json!({"in": "descriptor"}));
    let manifest = blob(registry, &image["digest"]);
    assert_eq!(manifest["annotations"], json!({"in": "manifest"}));
    assert_eq!(
        said["platform"],
        json!({"os": "unknown", "architecture": "unknown"})
    );
    assert_eq!(predicates(registry, said, image), [SPDX, SLSA]);
}

fn a_stored_image_leaves_with_what_is_said_of_it(sandbox: &Sandbox) {
    let registry = Registry::start();
    example(sandbox);
    let built = sandbox.try_build(&[&["-t", "app:1"], &ASKED[..]].concat());
    assert!(!built.success().stderr.contains("no place"));
    let first = registry.reference("app:1");
    sandbox.run(&["push", "app:1", &first]);
    check_asked(&registry, "app:1");
    // The name that it had when it was built is its subject, whatever it is pushed by.
    let listed = index(&registry, "app:1");
    let manifest = blob(&registry, &listed["manifests"][1]["digest"]);
    let statement = blob(&registry, &manifest["layers"][0]["digest"]);
    let name = statement["subject"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("pkg:docker/app@1?platform="), "{name}");
    // A copy by tag is the same; so is what a list makes of it.
    sandbox.run(&["tag", "app:1", "copy:2"]);
    sandbox.run(&["push", "copy:2", &registry.reference("copy:2")]);
    assert_eq!(raw(&registry, "app:1"), raw(&registry, "copy:2"));
    sandbox.run(&["manifest", "push", "copy:2", &registry.reference("copy:3")]);
    assert_eq!(raw(&registry, "app:1"), raw(&registry, "copy:3"));
    sandbox.run(&["manifest", "create", "list:1", "app:1"]);
    sandbox.run(&["manifest", "push", "list:1", &registry.reference("list:1")]);
    let list = index(&registry, "list:1");
    assert_eq!(list["manifests"], listed["manifests"]);
    // An archive has the same index, and says of it what is asked for.
    let archive = sandbox.fresh_output("tar");
    let archive = archive.to_str().unwrap();
    sandbox.run(&["save", "--format", "oci", "-o", archive, "app:1"]);
    let root = run(Command::new("tar").args(["-xOf", archive, "index.json"]));
    let root: Value = serde_json::from_str(&root).unwrap();
    let root = &root["manifests"][0];
    assert_eq!(root["annotations"]["in"], "layout");
    assert_eq!(root["digest"], digest(raw(&registry, "app:1").as_bytes()));
    // Inspected, before anything is made.
    let shown = sandbox.run(&["inspect", "copy:2"]).json();
    assert_eq!(shown[0]["Annotations"], json!({"in": "manifest"}));
    assert_eq!(shown[0]["Attestations"], json!([SPDX, SLSA]));
    let shown = sandbox.run(&["manifest", "inspect", "copy:2"]).json();
    assert_eq!(shown["annotations"], json!({"in": "index"}));
    let [image, said] = &shown["manifests"].as_array().unwrap()[..] else {
        panic!("{shown:#}");
    };
    assert_eq!(image["annotations"], json!({"in": "descriptor"}));
    assert_eq!(image["manifestAnnotations"], json!({"in": "manifest"}));
    assert_eq!(said["predicateTypes"], json!([SPDX, SLSA]));
    assert_eq!(said["about"], image["image"]);
    // Whoever builds on it, or runs it, has the image.
    sandbox.dockerfile("FROM copy:2\nRUN grep a /made\n");
    sandbox.steps(&[]);
}

fn an_annotated_image_needs_no_index(sandbox: &Sandbox) {
    let registry = Registry::start();
    example(sandbox);
    sandbox.steps(&["-t", "app:1", "--annotation", "a=b"]);
    sandbox.run(&["push", "app:1", &registry.reference("app:1")]);
    let manifest = index(&registry, "app:1");
    assert_eq!(manifest["annotations"], json!({"a": "b"}));
    assert!(manifest["layers"].is_array(), "{manifest:#}");
    let shown = sandbox.run(&["inspect", "app:1"]).json();
    assert_eq!(shown[0]["Annotations"], json!({"a": "b"}));
    // The same as what goes there directly.
    let direct = registry.reference("direct:1");
    sandbox.steps(&["-t", &direct, "--push", "--annotation", "a=b"]);
    assert_eq!(raw(&registry, "app:1"), raw(&registry, "direct:1"));
    // Pulled by another, it keeps them.
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.run(&["pull", &registry.reference("app:1")]);
    let shown = other.run(&["inspect", &registry.reference("app:1")]).json();
    assert_eq!(shown[0]["Annotations"], json!({"a": "b"}));
    // An index is annotated only where there is one.
    sandbox
        .try_build(&["-t", "app:2", "--annotation", "index:a=b"])
        .failure(2)
        .says("no index");
}

fn what_is_pulled_is_pushed_as_it_came(sandbox: &Sandbox) {
    let (registry, far) = (Registry::start(), Registry::start());
    example(sandbox);
    let name = registry.reference("app:1");
    sandbox.steps(&[&["-t", &name, "--push"], &ASKED[..]].concat());
    let came = raw(&registry, "app:1");
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.run(&["pull", &name]);
    let shown = other.run(&["inspect", &name]).json();
    assert_eq!(shown[0]["Attestations"], json!([SPDX, SLSA]));
    assert_eq!(shown[0]["IndexDigest"], digest(came.as_bytes()));
    let archive = other.fresh_output("tar");
    let archive = archive.to_str().unwrap();
    other.run(&["save", "--format", "oci", "-o", archive, &name]);
    // Nothing is fetched for it any more.
    drop(registry);
    other.run(&["push", &name, &far.reference("app:1")]);
    assert_eq!(raw(&far, "app:1"), came);
    check_asked(&far, "app:1");
    let third = Sandbox::new(sandbox.who()).unwrap();
    third.run(&["load", "-i", archive, "-t", "loaded:1"]);
    third.run(&["push", "loaded:1", &far.reference("loaded:1")]);
    assert_eq!(raw(&far, "loaded:1"), came);
    // A manifest alone stays as it is, too, however it is written.
    let foreign = sandbox.fresh_output("layout");
    let to = format!("type=oci,tar=false,dest={}", foreign.display());
    sandbox.steps(&["--output", &to]);
    compact(&foreign);
    run_quietly(
        "skopeo",
        &[
            "copy",
            "--quiet",
            "--preserve-digests",
            "--dest-tls-verify=false",
            &format!("oci:{}", foreign.display()),
            &far.skopeo("plain:1"),
        ],
    );
    other.run(&["pull", &far.reference("plain:1")]);
    let (plain, copy) = (far.reference("plain:1"), far.reference("other/copy:1"));
    other.run(&["push", &plain, &copy]);
    assert_eq!(raw(&far, "other/copy:1"), raw(&far, "plain:1"));
}

/// Writes the only manifest of a layout as another tool would: without white space, and with a key that
/// strata has no use for.
fn compact(layout: &Path) {
    let blobs = layout.join("blobs/sha256");
    let place = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&place).unwrap()).unwrap();
    let old = index["manifests"][0]["digest"].as_str().unwrap()[7..].to_owned();
    let mut manifest: Value = serde_json::from_slice(&fs::read(blobs.join(old)).unwrap()).unwrap();
    manifest["annotations"] = json!({"made.by": "another"});
    let bytes = manifest.to_string().into_bytes();
    index["manifests"][0]["digest"] = digest(&bytes).into();
    index["manifests"][0]["size"] = bytes.len().into();
    fs::write(blobs.join(&digest(&bytes)[7..]), &bytes).unwrap();
    fs::write(place, index.to_string()).unwrap();
}

fn a_list_with_clamped_times_leaves_as_it_was_built(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox
        .write("file", "content")
        .dockerfile("FROM scratch\nARG TARGETARCH\nCOPY file /$TARGETARCH\n");
    let direct = registry.reference("direct:1");
    let build = |args: &[&str]| {
        let strata = sandbox.strata().env("SOURCE_DATE_EPOCH", "1600000000");
        let platforms = ["build", "--platform", "linux/amd64,linux/arm64"];
        let strata = strata.args(platforms).args(args).arg(sandbox.context());
        strata.output().success();
    };
    build(&["-t", &direct, "--push"]);
    build(&["-t", "app:1"]);
    sandbox.run(&["push", "app:1", &registry.reference("app:1")]);
    assert_eq!(raw(&registry, "app:1"), raw(&registry, "direct:1"));
}

fn one_platform_is_pulled_with_its_own_statements(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox
        .write("amd64", "P:only-amd64\nV:1\n")
        .write("arm64", "P:only-arm64\nV:1\n")
        .dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /lib/apk/db/installed\n");
    let name = registry.reference("app:1");
    let args = ["--platform", "linux/amd64,linux/arm64", "--sbom=true"];
    sandbox.steps(&[&args[..], &["-t", "app:1"]].concat());
    sandbox.run(&["push", "app:1", &name]);
    let all = index(&registry, "app:1");
    let all = all["manifests"].as_array().unwrap();
    assert_eq!(all.len(), 4);
    for (image, said) in [(0, 2), (1, 3)] {
        assert_eq!(predicates(&registry, &all[said], &all[image]), [SPDX]);
    }
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.run(&["pull", "--platform", "linux/arm64", &name]);
    other.run(&["push", &name, &registry.reference("part:1")]);
    let part = index(&registry, "part:1");
    assert_eq!(part["manifests"], json!([all[1], all[3]]));
    // With the other one it is the index that it was.
    other.run(&["pull", "--platform", "linux/amd64", &name]);
    other.run(&["push", &name, &registry.reference("whole:1")]);
    assert_eq!(raw(&registry, "whole:1"), raw(&registry, "app:1"));
}

fn an_archive_for_docker_has_the_image_alone(sandbox: &Sandbox) {
    example(sandbox);
    sandbox.steps(&[&["-t", "app:1"], &ASKED[..]].concat());
    let archive = sandbox.fresh_output("tar");
    let path = archive.to_str().unwrap();
    sandbox
        .run(&["save", "-o", path, "app:1"])
        .says("attestations and annotations of `app:1` are left out");
    let shown = run_quietly("skopeo", &["inspect", &format!("docker-archive:{path}")]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Os"], "linux");
    // Nothing is said of an image that has nothing to lose.
    sandbox.steps(&["-t", "plain:1"]);
    let saved = sandbox.run(&["save", "-o", path, "plain:1"]);
    assert!(!saved.stderr.contains("left out"), "{saved}");
}

/// Blobs that a prune spares for their youth are a day old after this.
fn age_blobs(sandbox: &Sandbox) {
    let script = "import sqlite3, sys\n\
                  index = sqlite3.connect(sys.argv[1])\n\
                  index.execute('UPDATE blobs SET last_used = last_used - 86400000')\n\
                  index.commit()\n";
    let index = sandbox.path("store/index.db");
    run(Command::new("python3").args(["-c", script]).arg(index));
}

/// How many blobs of the store are lists of packages.
fn package_lists(sandbox: &Sandbox) -> usize {
    let blobs = fs::read_dir(sandbox.path("store/blobs/sha256")).unwrap();
    blobs
        .filter(|entry| {
            let content = fs::read(entry.as_ref().unwrap().path()).unwrap();
            content.windows(16).any(|part| part == b"SPDXRef-DOCUMENT")
        })
        .count()
}

fn statements_live_as_long_as_their_image(sandbox: &Sandbox) {
    let registry = Registry::start();
    example(sandbox);
    sandbox.steps(&[&["-t", "app:1"], &ASKED[..]].concat());
    age_blobs(sandbox);
    sandbox.run(&["cache", "prune", "--all"]);
    assert_eq!(package_lists(sandbox), 1);
    sandbox.run(&["cache", "verify"]);
    sandbox.run(&["push", "app:1", &registry.reference("app:1")]);
    check_asked(&registry, "app:1");
    sandbox.run(&["rmi", "app:1"]);
    age_blobs(sandbox);
    sandbox.run(&["cache", "prune", "--all"]);
    assert_eq!(package_lists(sandbox), 0);
    sandbox.run(&["cache", "verify"]);
}

fn an_image_for_another_platform_is_found_with_its_statements(sandbox: &Sandbox) {
    sandbox.dockerfile("FROM scratch\nLABEL a=b\n");
    sandbox.steps(&[
        "--platform",
        "linux/s390x",
        "-t",
        "far:1",
        "--provenance=true",
    ]);
    // As without a statement: what is built here is what is meant.
    sandbox.dockerfile("FROM far:1\nLABEL c=d\n");
    sandbox.steps(&["-t", "on:1"]);
    let shown = sandbox.run(&["inspect", "on:1"]).json();
    assert_eq!(shown[0]["Config"]["Labels"], json!({"a": "b", "c": "d"}));
}

fn artifacts_have_the_image_as_their_subject(sandbox: &Sandbox) {
    let registry = Registry::start();
    example(sandbox);
    let output = "type=image,oci-artifact=true";
    let args = ["--output", output, "-t", "app:1", "--sbom=true"];
    sandbox.steps(&args);
    sandbox.run(&["push", "app:1", &registry.reference("app:1")]);
    let direct = registry.reference("direct:1");
    let output = "type=registry,oci-artifact=true";
    sandbox.steps(&["--output", output, "-t", &direct, "--sbom=true"]);
    for name in ["app:1", "direct:1"] {
        let index = index(&registry, name);
        let [image, said] = &index["manifests"].as_array().unwrap()[..] else {
            panic!("{index:#}");
        };
        assert_eq!(predicates(&registry, said, image), [SPDX]);
        let manifest = blob(&registry, &said["digest"]);
        assert_eq!(
            manifest["artifactType"],
            "application/vnd.docker.attestation.manifest.v1+json"
        );
        assert_eq!(manifest["subject"]["digest"], image["digest"]);
        assert_eq!(manifest["subject"]["size"], image["size"]);
        let config = &manifest["config"];
        assert_eq!(config["mediaType"], "application/vnd.oci.empty.v1+json");
        assert_eq!(config["data"], "e30=");
        assert_eq!(blob(&registry, &config["digest"]), json!({}));
    }
    // It is pulled and pushed as any.
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.run(&["pull", &direct]);
    other.run(&["push", &direct, &registry.reference("again:1")]);
    assert_eq!(raw(&registry, "again:1"), raw(&registry, "direct:1"));
    sandbox
        .try_build(&[
            "--output",
            "type=registry,oci-artifact=true,oci-mediatypes=false",
        ])
        .failure(2)
        .says("OCI's media types");
}

/// Puts an index of these descriptors under a name, and answers its own descriptor.
fn put_index(registry: &Registry, name: &str, members: &[Value]) -> Value {
    let media_type = "application/vnd.oci.image.index.v1+json";
    let bytes = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": members});
    let bytes = bytes.to_string();
    let (repository, tag) = name.split_once(':').unwrap();
    let url = format!(
        "http://127.0.0.1:{}/v2/{repository}/manifests/{tag}",
        registry.port()
    );
    run_quietly(
        "curl",
        &[
            "--fail",
            "--silent",
            "--show-error",
            "-X",
            "PUT",
            "-H",
            &format!("Content-Type: {media_type}"),
            "--data-binary",
            &bytes,
            &url,
        ],
    );
    json!({"mediaType": media_type, "digest": digest(bytes.as_bytes()), "size": bytes.len()})
}

fn indexes_within_indexes_are_pulled_and_pushed_as_they_came(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.dockerfile("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\n");
    let args = ["--platform", "linux/amd64,linux/arm64,linux/s390x"];
    let name = registry.reference("app:1");
    sandbox.steps(&[&args[..], &["-t", &name, "--push"]].concat());
    let flat = index(&registry, "app:1");
    let flat = flat["manifests"].as_array().unwrap();
    let inner = put_index(&registry, "app:inner", &flat[1..2]);
    let middle = put_index(&registry, "app:middle", &[flat[2].clone(), inner.clone()]);
    put_index(
        &registry,
        "app:nested",
        &[flat[0].clone(), middle, inner.clone()],
    );
    let nested = registry.reference("app:nested");
    // A platform that only the innermost has.
    sandbox.dockerfile(&format!(
        "FROM --platform=linux/arm64 {nested}\nLABEL on=it\n"
    ));
    sandbox.steps(&["-t", "on:1"]);
    let shown = sandbox.run(&["inspect", "on:1"]).json();
    assert_eq!(shown[0]["Config"]["Labels"]["arch"], "arm64");
    // All of it.
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.run(&["pull", "--all-platforms", &nested]);
    for architecture in ["amd64", "arm64", "s390x"] {
        let platform = format!("linux/{architecture}");
        let shown = other.run(&["inspect", "--platform", &platform, &nested]);
        assert_eq!(shown.json()[0]["Config"]["Labels"]["arch"], architecture);
    }
    let far = Registry::start();
    other.run(&["push", &nested, &far.reference("app:1")]);
    assert_eq!(raw(&far, "app:1"), raw(&registry, "app:nested"));
    let third = Sandbox::new(sandbox.who()).unwrap();
    third.run(&["pull", "--all-platforms", &far.reference("app:1")]);
    // Deeper than anybody nests them.
    let mut last = inner;
    for depth in 0..4 {
        last = put_index(&registry, &format!("app:deep{depth}"), &[last]);
    }
    let deep = registry.reference("app:deep3");
    other
        .try_run(&["pull", "--all-platforms", &deep])
        .failure(1)
        .says("levels deep");
    // An index that is called a manifest is none.
    let mut disguised = put_index(&registry, "app:inner", &flat[..1]);
    disguised["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
    disguised["platform"] = json!({"os": "linux", "architecture": "riscv64"});
    put_index(&registry, "app:disguised", &[disguised]);
    other
        .try_run(&[
            "pull",
            "--all-platforms",
            &registry.reference("app:disguised"),
        ])
        .failure(1)
        .says("is an index, but is named as a manifest");
}
