//! What a build says of its result: attached to images, and in files beside trees.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::{Registry, Sandbox, Web, cases, run};

cases! { Root, User =>
    statements_are_attached_beside_the_image,
    nothing_is_said_unless_asked,
    an_image_of_the_store_is_listed,
    what_is_secret_is_in_no_statement,
    a_reproducible_build_repeats_with_its_statements,
    trees_get_files_beside_theirs,
    a_registry_has_the_index_with_the_statements,
    what_is_pushed_is_signed,
}

cases! { Root =>
    remote_sources_are_dependencies,
    each_platform_has_its_own_statements,
    what_has_no_place_for_statements_is_told,
    the_commit_of_a_checkout_is_named,
    stages_and_the_context_are_listed_where_asked_for,
}

const SPDX: &str = "https://spdx.dev/Document";
const SLSA: &str = "https://slsa.dev/provenance/v1";

/// A layout's blobs, by digest.
struct Layout {
    index: Value,
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Layout {
    fn read(path: &Path) -> Self {
        let mut blobs = BTreeMap::new();
        for entry in fs::read_dir(path.join("blobs/sha256")).unwrap() {
            let content = fs::read(entry.unwrap().path()).unwrap();
            blobs.insert(digest(&content), content);
        }
        let index = fs::read(path.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let mut layout = Self { index, blobs };
        let only = layout.index["manifests"][0]["digest"].clone();
        layout.index = layout.json(&only);
        layout
    }

    fn json(&self, digest: &Value) -> Value {
        serde_json::from_slice(&self.blobs[digest.as_str().unwrap()]).unwrap()
    }

    /// The statements about the image, by predicate; all that ties them to it is checked.
    fn statements(&self) -> BTreeMap<String, Value> {
        let [image, said] = &self.index["manifests"].as_array().unwrap()[..] else {
            panic!("{:#}", self.index);
        };
        assert_eq!(said["platform"]["os"], "unknown");
        assert_eq!(said["platform"]["architecture"], "unknown");
        let annotations = &said["annotations"];
        assert_eq!(
            annotations["vnd.docker.reference.type"],
            "attestation-manifest"
        );
        assert_eq!(annotations["vnd.docker.reference.digest"], image["digest"]);
        let manifest = self.json(&said["digest"]);
        let config = self.json(&manifest["config"]["digest"]);
        let layers = manifest["layers"].as_array().unwrap();
        let mut statements = BTreeMap::new();
        for (position, layer) in layers.iter().enumerate() {
            assert_eq!(layer["mediaType"], "application/vnd.in-toto+json");
            assert_eq!(config["rootfs"]["diff_ids"][position], layer["digest"]);
            let statement = self.json(&layer["digest"]);
            let kind = statement["predicateType"].as_str().unwrap().to_owned();
            assert_eq!(
                layer["annotations"]["in-toto.io/predicate-type"],
                kind.as_str()
            );
            let subject = statement["subject"][0]["digest"]["sha256"]
                .as_str()
                .unwrap();
            assert_eq!(image["digest"], format!("sha256:{subject}"));
            statements.insert(kind, statement);
        }
        statements
    }
}

fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    format!("sha256:{}", crate::support::hex(&hash))
}

/// Builds a layout with `args`.
fn layout(sandbox: &Sandbox, args: &[&str]) -> Layout {
    let path = sandbox.fresh_output("layout");
    let output = format!("type=oci,tar=false,dest={}", path.display());
    let mut all = vec!["--output", &output];
    all.extend(args);
    sandbox.steps(&all);
    Layout::read(&path)
}

/// A tree with the database of a package manager in it.
fn with_packages(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write(
            "installed",
            "P:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3-r2\nA:x86_64\nL:Zlib\n",
        )
        .write("os-release", "ID=alpine\nVERSION_ID=3.20\n")
        .dockerfile(
            "FROM busybox AS base\nARG SECRET_PLACE=here\nCOPY os-release /etc/\n\
             FROM base\nCOPY installed /lib/apk/db/\nRUN --network=none echo $SECRET_PLACE > /x\n",
        );
}

fn statements_are_attached_beside_the_image(sandbox: &Sandbox) {
    with_packages(sandbox);
    let args = ["--provenance=true", "--sbom=true", "-t", "app:1"];
    let made = layout(sandbox, &args);
    let statements = made.statements();
    assert_eq!(statements.len(), 2);
    for statement in statements.values() {
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v0.1");
        let name = statement["subject"][0]["name"].as_str().unwrap();
        assert!(
            name.starts_with("pkg:docker/app@1?platform=linux%2F"),
            "{name}"
        );
    }
    let document = &statements[SPDX]["predicate"];
    let names: Vec<&str> = document["packages"]
        .as_array()
        .unwrap()
        .iter()
        .skip(1)
        .map(|package| {
            package["externalRefs"][0]["referenceLocator"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(
        names,
        [
            "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20",
            "pkg:apk/alpine/zlib@1.3-r2?arch=x86_64&distro=alpine-3.20",
        ]
    );
    let provenance = &statements[SLSA]["predicate"];
    let definition = &provenance["buildDefinition"];
    assert_eq!(
        definition["externalParameters"]["configSource"]["path"],
        "Dockerfile"
    );
    assert_eq!(
        definition["externalParameters"]["request"]["frontend"],
        "dockerfile.v0"
    );
    let base = &definition["resolvedDependencies"][0];
    assert!(
        base["uri"]
            .as_str()
            .unwrap()
            .starts_with("pkg:docker/busybox@latest?platform=")
    );
    assert_eq!(base["digest"]["sha256"].as_str().unwrap().len(), 64);
    let metadata = &provenance["runDetails"]["metadata"];
    assert!(metadata["startedOn"].as_str().unwrap() <= metadata["finishedOn"].as_str().unwrap());
    assert_eq!(metadata["buildkit_hermetic"], true);
    assert_eq!(
        metadata["buildkit_completeness"]["resolvedDependencies"],
        false
    );
    // The same again in the older form.
    let older = layout(
        sandbox,
        &["--attest", "type=provenance,version=v0.2,mode=max"],
    );
    let older = &older.statements()["https://slsa.dev/provenance/v0.2"]["predicate"];
    assert_eq!(
        older["invocation"]["configSource"]["entryPoint"],
        "Dockerfile"
    );
    assert_eq!(older["materials"], definition["resolvedDependencies"]);
    assert_eq!(older["metadata"]["completeness"]["parameters"], true);
}

fn an_image_of_the_store_is_listed(sandbox: &Sandbox) {
    with_packages(sandbox);
    sandbox.steps(&["-t", "app:1"]);
    let listed = sandbox.run(&["sbom", "app:1"]);
    assert_eq!(listed.stdout, sandbox.run(&["sbom", "app:1"]).stdout);
    let document = listed.json();
    assert_eq!(document["name"], "docker.io/library/app:1");
    assert_eq!(document["packages"].as_array().unwrap().len(), 3);
    assert_eq!(document["packages"][1]["name"], "musl");
    let missing = sandbox.try_run(&["sbom", "--pull", "never", "nothing"]);
    missing.failure(1).says("not in the store");
}

fn nothing_is_said_unless_asked(sandbox: &Sandbox) {
    with_packages(sandbox);
    for args in [&[][..], &["--provenance=false", "--sbom=false"]] {
        let made = layout(sandbox, args);
        assert!(made.index["layers"].is_array(), "{:#}", made.index);
    }
}

/// Everything that could be given away, in as many places as people put it.
fn what_is_secret_is_in_no_statement(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("token", "hunter2-token\n")
        .dockerfile(
            "FROM busybox\nARG TOKEN\nARG URL\nARG SECRET_PLACE\n\
             # https://me:hunter2-url@example.com/x, and hunter2-token\n\
             LABEL url=https://me:hunter2-url@example.com/x\n\
             RUN --mount=type=secret,id=token : https://me:hunter2-url@e.com $TOKEN hunter2-token\n",
        );
    let secret = format!("id=token,src={}", sandbox.path("context/token").display());
    let args = [
        "--sbom=true",
        "--secret",
        &secret,
        "--build-arg",
        "TOKEN=hunter2-token",
        "--build-arg",
        "HTTPS_PROXY=http://me:hunter2-proxy@proxy:3128",
        "--build-arg",
        "URL=https://me:hunter2-url@example.com",
        "--build-arg",
        "SECRET_PLACE=hunter2-place",
    ];
    for version in ["v1", "v0.2"] {
        for mode in ["min", "max"] {
            let asked = format!("type=provenance,mode={mode},version={version}");
            let mut args = args.to_vec();
            args.extend(["--attest", &asked]);
            let said = layout(sandbox, &args).statements();
            let mut text = String::new();
            for statement in said.values() {
                text.push_str(&statement.to_string());
                decode(statement, &mut text);
            }
            for secret in [
                "hunter2-token",
                "hunter2-proxy",
                "hunter2-url",
                "proxy:3128",
            ] {
                assert!(!text.contains(secret), "{version} {mode}: {secret}: {text}");
            }
            // What is only an argument is told in full, if at all.
            assert_eq!(text.contains("hunter2-place"), mode == "max", "{text}");
            assert_eq!(text.contains("\"token\""), mode == "max", "{text}");
            assert_eq!(
                text.contains("RUN --mount=type=secret"),
                mode == "max",
                "{text}"
            );
        }
    }
}

/// Adds every text in a value that is one in base 64.
fn decode(value: &Value, text: &mut String) {
    match value {
        Value::String(encoded) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
            text.push_str(&String::from_utf8_lossy(&decoded.unwrap_or_default()));
        }
        Value::Array(list) => list.iter().for_each(|one| decode(one, text)),
        Value::Object(object) => object.values().for_each(|one| decode(one, text)),
        _ => {}
    }
}

fn a_reproducible_build_repeats_with_its_statements(sandbox: &Sandbox) {
    let build = |sandbox: &Sandbox| {
        with_packages(sandbox);
        let strata = || sandbox.strata().env("SOURCE_DATE_EPOCH", "1600000000");
        // So that its config has no time of its own.
        let base = crate::support::Base::Busybox;
        let import = strata().arg("import").arg(base.path()).arg(base.name());
        import.output().success();
        let path = sandbox.fresh_output("tar");
        let output = format!("type=oci,dest={}", path.display());
        let args = ["build", "--no-cache", "--output", &output, "--sbom=true"];
        let provenance = "type=provenance,mode=max,reproducible=true";
        strata()
            .args(args)
            .args(["--attest", provenance])
            .arg(sandbox.context())
            .output()
            .success();
        fs::read(path).unwrap()
    };
    let other = Sandbox::new(sandbox.who()).unwrap();
    assert!(build(sandbox) == build(&other), "the archives differ");
}

fn trees_get_files_beside_theirs(sandbox: &Sandbox) {
    with_packages(sandbox);
    let local = sandbox.fresh_output("local");
    let to = format!(
        "type=local,dest={},attestation-prefix=app.",
        local.display()
    );
    sandbox.steps(&["--output", &to, "--provenance=true", "--sbom=true"]);
    for (name, kind) in [("provenance.json", SLSA), ("sbom.spdx.json", SPDX)] {
        let text = fs::read(local.join(format!("app.{name}"))).unwrap();
        let statement: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(statement["predicateType"], kind);
        let subjects = statement["subject"].as_array().unwrap();
        let about = subjects.iter().find(|it| it["name"] == "x").unwrap();
        let expected = digest(&fs::read(local.join("x")).unwrap());
        let found = about["digest"]["sha256"].as_str().unwrap();
        assert_eq!(expected, format!("sha256:{found}"));
        assert!(!subjects.iter().any(|it| it["name"] == name));
    }
    let tar = sandbox.fresh_output("tar");
    let to = format!("type=tar,dest={}", tar.display());
    let asked = "type=provenance,filename=made.json";
    sandbox.steps(&["--output", &to, "--attest", asked, "--sbom=true"]);
    let list = run(Command::new("tar").arg("-tf").arg(&tar));
    for name in ["made.json", "sbom.spdx.json", "x"] {
        assert_eq!(
            list.lines().filter(|line| *line == name).count(),
            1,
            "{name}"
        );
    }
    // Only for images.
    let other = sandbox.fresh_output("local");
    let to = format!("type=local,dest={}", other.display());
    sandbox.steps(&["--output", &to, "--provenance", "inline-only=true"]);
    assert!(!other.join("provenance.json").exists());
    // A file of the image's own stays what it is.
    sandbox.dockerfile("FROM busybox\nRUN echo mine > /provenance.json\n");
    let args = ["--output", &to, "--provenance=true"];
    sandbox
        .try_build(&args)
        .failure(1)
        .says("attestation-prefix");
}

fn a_registry_has_the_index_with_the_statements(sandbox: &Sandbox) {
    let registry = Registry::start();
    with_packages(sandbox);
    let name = registry.reference("app:1");
    sandbox.steps(&["-t", &name, "--push", "--provenance=true", "--sbom=true"]);
    let raw = run(Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(registry.skopeo("app:1")));
    let index: Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(
        index["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    let members = index["manifests"].as_array().unwrap();
    assert_eq!(members.len(), 2);
    let manifest = fs::read(registry.blob_path(members[1]["digest"].as_str().unwrap())).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let statement = fs::read(registry.blob_path(layer["digest"].as_str().unwrap())).unwrap();
        let statement: Value = serde_json::from_slice(&statement).unwrap();
        let subject = statement["subject"][0]["digest"]["sha256"]
            .as_str()
            .unwrap();
        assert_eq!(members[0]["digest"], format!("sha256:{subject}"));
    }
    // Who asks for an image gets the image.
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.dockerfile(&format!("FROM {name}\nRUN cat /x\n"));
    other.steps(&[]);
}

/// What `cosign sign [flags] IMAGE-DIGEST` takes, by its documentation (`cosign_sign.md`): of its flags the
/// two that strata gives, `--yes` without a value and `--key` with one, and one image by its digest.
const COSIGN: &str = "[ \"$1\" = sign ] || exit 64
shift
images=0
while [ $# -gt 0 ]; do
    case $1 in
    --yes) ;;
    --key) shift; [ -n \"$1\" ] || exit 65 ;;
    -*) exit 66 ;;
    *@sha256:????????????????????????????????????????????????????????????????) images=$((images + 1)) ;;
    *) exit 67 ;;
    esac
    shift
done
[ $images = 1 ] || exit 68
";

/// A stand-in for cosign that notes its arguments, and what it was given besides.
fn what_is_pushed_is_signed(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox().dockerfile("FROM busybox\nLABEL a=b\n");
    let (first, second) = (registry.reference("app:1"), registry.reference("app:2"));
    let bin = sandbox.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let log = sandbox.path("out/cosign");
    let script = |code: i32| {
        let text = format!(
            "#!/bin/sh\necho \"$@\" \"$COSIGN_PASSWORD\" >> {}\necho said\n{COSIGN}exit {code}\n",
            log.display()
        );
        fs::write(bin.join("cosign"), text).unwrap();
        fs::set_permissions(bin.join("cosign"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let build = |path: &str| {
        sandbox
            .strata()
            .env("PATH", path)
            .env("COSIGN_PASSWORD", "pass")
            .args(["build", "--push", "-t", &first, "-t", &second, "--sign"])
            .args(["--sign-key", "cosign.key"])
            .arg(sandbox.context())
            .output()
    };
    script(0);
    let output = build(&path).success();
    assert_eq!(output.stdout, "");
    let raw = run(Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(registry.skopeo("app:1")));
    let name = first.strip_suffix(":1").unwrap();
    let line = format!(
        "sign --yes --key cosign.key {name}@{} pass\n",
        digest(raw.as_bytes())
    );
    assert_eq!(fs::read_to_string(&log).unwrap(), line.repeat(2));
    script(3);
    build(&path)
        .failure(1)
        .says("exit code 3")
        .says("not signed");
    // Told before anything is built or pushed.
    build("/nonexistent").failure(2).says("install it");
}

fn remote_sources_are_dependencies(sandbox: &Sandbox) {
    let web = Web::start();
    web.page("/file?token=hunter2", "content", &[]);
    let url = web.url("/file?token=hunter2");
    sandbox
        .busybox()
        .dockerfile(&format!("FROM busybox\nADD {url} /file\n"));
    let said = layout(sandbox, &["--provenance=true"]).statements();
    let dependencies = &said[SLSA]["predicate"]["buildDefinition"]["resolvedDependencies"];
    let dependencies = dependencies.as_array().unwrap();
    assert_eq!(dependencies.len(), 2);
    assert_eq!(dependencies[0]["uri"], web.url("/file"));
    let hash = dependencies[0]["digest"]["sha256"].as_str().unwrap();
    assert_eq!(digest(b"content"), format!("sha256:{hash}"));
}

fn what_has_no_place_for_statements_is_told(sandbox: &Sandbox) {
    with_packages(sandbox);
    let output = format!("type=docker,dest={}", sandbox.fresh_output("tar").display());
    let build = sandbox.try_build(&["--output", &output, "--sbom=true"]);
    build.success().says("no place for attestations");
    let layout = sandbox.fresh_output("layout");
    let to = format!(
        "type=oci,tar=false,oci-mediatypes=false,dest={}",
        layout.display()
    );
    let build = sandbox.try_build(&["--output", &to, "--sbom=true"]);
    build.success().says("media types");
    Layout::read(&layout).statements();
    // Other layers are another image, of which the same is said.
    let layout = sandbox.fresh_output("layout");
    let to = format!(
        "type=oci,tar=false,compression=estargz,dest={}",
        layout.display()
    );
    sandbox.steps(&["--output", &to, "--sbom=true"]);
    assert_eq!(Layout::read(&layout).statements().len(), 1);
}

/// Two images with something of their own each, which no step has to run for.
fn each_platform_has_its_own_statements(sandbox: &Sandbox) {
    sandbox
        .write("amd64", "P:only-amd64\nV:1\n")
        .write("arm64", "P:only-arm64\nV:1\n")
        .dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /lib/apk/db/installed\n");
    let platforms = ["--platform", "linux/amd64,linux/arm64", "--sbom=true"];
    let made = layout(sandbox, &platforms);
    let members = made.index["manifests"].as_array().unwrap();
    assert_eq!(members.len(), 4);
    for (image, said) in [(0, 2), (1, 3)] {
        let (image, said) = (&members[image], &members[said]);
        let about = &said["annotations"]["vnd.docker.reference.digest"];
        assert_eq!(*about, image["digest"]);
        let manifest = made.json(&said["digest"]);
        let statement = made.json(&manifest["layers"][0]["digest"]);
        let package = &statement["predicate"]["packages"][1]["name"];
        let architecture = image["platform"]["architecture"].as_str().unwrap();
        assert_eq!(*package, format!("only-{architecture}"));
    }
    let local = sandbox.fresh_output("local");
    let to = format!("type=local,dest={}", local.display());
    sandbox.steps(&[&platforms[..], &["--output", &to]].concat());
    assert!(local.join("linux_arm64/sbom.spdx.json").is_file());
    // In one tree, where files of the images must not meet.
    sandbox.dockerfile("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /$TARGETARCH\n");
    let together = sandbox.fresh_output("local");
    let to = format!(
        "type=local,platform-split=false,dest={}",
        together.display()
    );
    sandbox.steps(&[&platforms[..], &["--output", &to]].concat());
    assert!(together.join("sbom.spdx.linux_amd64.json").is_file());
    assert!(together.join("sbom.spdx.linux_arm64.json").is_file());
}

/// Runs git in the context's repository.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory);
    for setting in ["user.name=a", "user.email=a@b", "init.defaultBranch=main"] {
        command.args(["-c", setting]);
    }
    run(command.args(arguments)).trim().to_owned()
}

fn the_commit_of_a_checkout_is_named(sandbox: &Sandbox) {
    sandbox
        .busybox()
        .write("sub/file", "content")
        .write("docker/Dockerfile", "FROM busybox\nCOPY file /\n")
        .dockerfile("FROM busybox\nCOPY sub/file /\n");
    let root = sandbox.context();
    git(&root, &["init", "--quiet"]);
    let remote = "https://me:hunter2@example.com/app.git?token=hunter2";
    git(&root, &["remote", "add", "origin", remote]);
    git(&root, &["add", "."]);
    git(&root, &["commit", "--quiet", "-m", "first"]);
    let commit = git(&root, &["rev-parse", "HEAD"]);
    let vcs = |variables: &[(&str, &str)], args: &[&str]| {
        let path = sandbox.fresh_output("layout");
        let output = format!("type=oci,tar=false,dest={}", path.display());
        let mut strata = sandbox.strata();
        for (name, value) in variables {
            strata = strata.env(name, value);
        }
        let strata = strata.args(["build", "--output", &output]).args(args);
        strata.output().success();
        let said = Layout::read(&path).statements();
        let (kind, statement) = said.iter().next().unwrap();
        assert!(!statement.to_string().contains("hunter2"), "{statement}");
        let metadata = if kind == SLSA {
            &statement["predicate"]["runDetails"]["metadata"]["buildkit_metadata"]
        } else {
            &statement["predicate"]["metadata"]["https://mobyproject.org/buildkit@v1#metadata"]
        };
        metadata["vcs"].clone()
    };
    let context = root.to_str().unwrap();
    let expected = serde_json::json!({
        "localdir:context": ".",
        "localdir:dockerfile": ".",
        "revision": commit,
        "source": "https://example.com/app.git",
    });
    assert_eq!(vcs(&[], &["--provenance=true", context]), expected);
    let older = ["--provenance", "version=v0.2,mode=max", context];
    assert_eq!(vcs(&[], &older), expected);
    // Parts of a checkout.
    let (sub, file) = (root.join("sub"), root.join("docker/Dockerfile"));
    let parts = [
        "--provenance=true",
        "-f",
        file.to_str().unwrap(),
        sub.to_str().unwrap(),
    ];
    let parts = vcs(&[], &parts);
    assert_eq!(parts["localdir:context"], "sub");
    assert_eq!(parts["localdir:dockerfile"], "docker");
    // A change is told if somebody wants that looked for, and nothing if somebody doesn't.
    sandbox.write("sub/file", "changed");
    let args = ["--provenance=true", context];
    assert_eq!(vcs(&[], &args)["revision"], commit);
    let dirty = vcs(&[("BUILDX_GIT_CHECK_DIRTY", "true")], &args);
    assert_eq!(dirty["revision"], format!("{commit}-dirty"));
    let off = vcs(&[("BUILDX_GIT_INFO", "false")], &args);
    assert_eq!(off, Value::Null);
    // What a repository's settings name is not run.
    let mark = sandbox.path("out/ran");
    let touch = format!("touch {}", mark.display());
    git(&root, &["config", "core.fsmonitor", &touch]);
    vcs(&[("BUILDX_GIT_CHECK_DIRTY", "true")], &args);
    assert!(!mark.exists());
}

fn stages_and_the_context_are_listed_where_asked_for(sandbox: &Sandbox) {
    let lock = |name: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n");
    sandbox
        .busybox()
        .write("Cargo.lock", lock("of-context"))
        .write("hidden/Cargo.lock", lock("of-nobody"))
        .write(".dockerignore", "hidden\n")
        .write("stage/Cargo.lock", lock("of-stage"))
        .dockerfile(
            "ARG BUILDKIT_SBOM_SCAN_CONTEXT=false\nFROM busybox AS tools\n\
             FROM busybox AS build\nARG BUILDKIT_SBOM_SCAN_STAGE=true\n\
             COPY stage/Cargo.lock /src/\nRUN --network=none echo made > /made\n\
             FROM tools\nCOPY --from=build /made /\n",
        );
    // Names of packages, by document.
    let lists = |args: &[&str]| {
        let local = sandbox.fresh_output("local");
        let to = format!("type=local,dest={}", local.display());
        let mut all = vec!["--output", &to];
        all.extend(args);
        sandbox.steps(&all);
        let mut lists = BTreeMap::new();
        for entry in fs::read_dir(&local).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.ends_with(".spdx.json") {
                continue;
            }
            let statement: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let packages = statement["predicate"]["packages"].as_array().unwrap();
            let names = packages.iter().skip(1);
            let names: Vec<String> = names
                .map(|package| package["name"].as_str().unwrap().to_owned())
                .collect();
            lists.insert(name, names.join(" "));
        }
        lists
    };
    let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, list)| ((*name).to_owned(), (*list).to_owned()))
            .collect()
    };
    let image = ("sbom.spdx.json", "");
    let build = ("sbom-build.spdx.json", "of-stage");
    let context = ("sbom-context.spdx.json", "of-context of-stage");
    assert_eq!(lists(&["--sbom=true"]), of(&[image, build]));
    let with = [
        "--sbom=true",
        "--build-arg",
        "BUILDKIT_SBOM_SCAN_CONTEXT=true",
    ];
    assert_eq!(lists(&with), of(&[image, build, context]));
    // All steps are hits, and their stage is listed all the same; a list of stages names which.
    let named = "BUILDKIT_SBOM_SCAN_STAGE=other, build";
    let named = ["--sbom=true", "--build-arg", named];
    assert_eq!(lists(&named), of(&[image, build]));
    let others = [
        "--sbom=true",
        "--build-arg",
        "BUILDKIT_SBOM_SCAN_STAGE=other",
    ];
    assert_eq!(lists(&others), of(&[image]));
    assert_eq!(lists(&[]), of(&[]));
    // What the Dockerfile does not declare is not asked for.
    sandbox.dockerfile("FROM busybox AS build\nRUN : one\nFROM build\nRUN : two\n");
    let undeclared = [
        "--sbom=true",
        "--build-arg",
        "BUILDKIT_SBOM_SCAN_STAGE=true",
    ];
    assert_eq!(lists(&undeclared), of(&[image]));
    // In an image each is a statement of its own.
    sandbox.dockerfile(
        "ARG BUILDKIT_SBOM_SCAN_STAGE=true\nFROM busybox AS build\n\
         COPY stage/Cargo.lock /src/\nFROM scratch\nCOPY --from=build /src/Cargo.lock /there/\n",
    );
    let layout = sandbox.fresh_output("layout");
    let to = format!("type=oci,tar=false,dest={}", layout.display());
    sandbox.steps(&["--output", &to, "--sbom=true"]);
    let made = Layout::read(&layout);
    let manifest = made.json(&made.index["manifests"][1]["digest"]);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
}
