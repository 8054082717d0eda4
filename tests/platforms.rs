//! Several platforms: builds, outputs, lists in the store, and commands of other machines.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Base, Image, Registry, Sandbox, Who, cases, run_quietly, skip};

cases! { Root, User =>
    members_stand_in_the_asked_order,
    what_does_not_depend_on_the_platform_runs_once,
    outputs_without_manifests_have_a_directory_for_each_platform,
    annotations_stand_at_all_four_levels,
    a_list_is_one_image_to_every_command,
    a_list_goes_through_an_archive_and_a_registry_as_it_is,
    lists_are_put_together_by_hand,
    bases_of_several_platforms_are_found_again_without_their_registry,
    all_platforms_are_those_of_the_base,
}

cases! { User =>
    foreign_commands_run_emulated_and_their_index_is_pushed,
    a_registered_emulator_is_used,
    a_missing_emulator_is_named_with_the_command_that_gets_it,
}

/// A base for two platforms, and a stage that is this machine's whatever is built.
const CROSS: &str = "FROM --platform=$BUILDPLATFORM busybox AS tool
RUN echo shared > /shared
ARG TARGETARCH
RUN echo $TARGETARCH > /arch
FROM scratch
COPY --from=tool /shared /arch /
LABEL of=it
";

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn blob(layout: &Path, digest: &str) -> Value {
    let hex = digest.strip_prefix("sha256:").unwrap();
    json_of(&layout.join("blobs/sha256").join(hex))
}

/// The platforms of an index, in order.
fn platforms(index: &Value) -> Vec<String> {
    let members = index["manifests"].as_array().unwrap().iter();
    members
        .map(|member| {
            let platform = &member["platform"];
            let names = ["os", "architecture", "variant"].map(|key| platform[key].as_str());
            names.into_iter().flatten().collect::<Vec<_>>().join("/")
        })
        .collect()
}

/// What a registry has under a name, by skopeo.
fn raw(registry: &Registry, name: &str) -> String {
    let name = registry.skopeo(name);
    run_quietly("skopeo", &["inspect", "--raw", "--tls-verify=false", &name])
}

/// The image of one platform in a layout that holds an index, by skopeo.
fn member(sandbox: &Sandbox, layout: &Path, architecture: &str) -> Image {
    let copy = sandbox.fresh_output("layout");
    run_quietly(
        "skopeo",
        &[
            "copy",
            "--quiet",
            "--override-arch",
            architecture,
            &format!("oci:{}:1", layout.display()),
            &format!("oci:{}:1", copy.display()),
        ],
    );
    Image::read(&copy)
}

fn layout(sandbox: &Sandbox, args: &[&str]) -> std::path::PathBuf {
    let path = sandbox.fresh_output("layout");
    let output = format!("type=oci,tar=false,dest={}", path.display());
    let mut all = vec!["-t", "app:1", "--output", output.as_str()];
    all.extend_from_slice(args);
    sandbox.steps(&all);
    path
}

fn index_of(layout: &Path) -> Value {
    let listed = json_of(&layout.join("index.json"));
    blob(layout, listed["manifests"][0]["digest"].as_str().unwrap())
}

fn members_stand_in_the_asked_order(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(CROSS);
    let id = sandbox.fresh_output("id");
    let metadata = sandbox.fresh_output("json");
    let path = layout(
        sandbox,
        &[
            "--platform",
            "linux/s390x,linux/arm/v7",
            "--platform",
            "linux/arm64/v8,s390x",
            "--iidfile",
            id.to_str().unwrap(),
            "--metadata-file",
            metadata.to_str().unwrap(),
        ],
    );
    let listed = json_of(&path.join("index.json"));
    let root = &listed["manifests"][0];
    assert_eq!(root["mediaType"], "application/vnd.oci.image.index.v1+json");
    let index = index_of(&path);
    assert_eq!(
        platforms(&index),
        ["linux/s390x", "linux/arm/v7", "linux/arm64"]
    );
    for architecture in ["s390x", "arm64"] {
        let image = member(sandbox, &path, architecture);
        assert_eq!(image.config["architecture"], architecture);
        assert_eq!(image.tree().text("arch").trim(), architecture);
        assert_eq!(image.tree().text("shared"), "shared\n");
    }
    let metadata = json_of(&metadata);
    assert_eq!(metadata["containerimage.digest"], root["digest"]);
    let descriptor = &metadata["containerimage.descriptor"];
    assert_eq!(descriptor["digest"], root["digest"]);
    assert_eq!(descriptor["mediaType"], root["mediaType"]);
    assert!(metadata.get("containerimage.config.digest").is_none());
    assert_eq!(fs::read_to_string(&id).unwrap(), root["digest"]);

    // Again, all is there, and the index is the same.
    let again = layout(
        sandbox,
        &["--platform", "linux/s390x,linux/arm/v7,linux/arm64"],
    );
    assert_eq!(
        json_of(&again.join("index.json"))["manifests"][0]["digest"],
        root["digest"]
    );
    // A system may have a version.
    let windows = layout(sandbox, &["--platform", "arm64,windows(10.0.17763)/amd64"]);
    let member = &index_of(&windows)["manifests"][1];
    assert_eq!(
        member["platform"],
        json!({"architecture": "amd64", "os": "windows", "os.version": "10.0.17763"})
    );
    // An index of one, if asked for.
    let one = layout(
        sandbox,
        &[
            "--platform",
            "linux/arm64",
            "--build-arg",
            "BUILDKIT_MULTI_PLATFORM=1",
        ],
    );
    assert_eq!(platforms(&index_of(&one)), ["linux/arm64"]);
}

fn what_does_not_depend_on_the_platform_runs_once(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(CROSS);
    let output = sandbox
        .try_build(&["--platform", "linux/s390x,linux/arm64"])
        .success();
    let mut ran = output.steps().ran().join("\n");
    ran.push('\n');
    assert_eq!(ran.matches("RUN echo shared").count(), 1, "{ran}");
    assert_eq!(ran.matches("RUN echo $TARGETARCH").count(), 2, "{ran}");
    for name in [
        "->s390x tool 3/3] RUN echo $TARGETARCH",
        "->arm64 tool 3/3] RUN echo $TARGETARCH",
        "[linux/s390x stage-1 2/2] COPY",
        "[linux/arm64 stage-1 2/2] COPY",
    ] {
        assert!(output.stderr.contains(name), "no `{name}` in {output}");
    }
    // One of them alone finds what it needs.
    let steps = sandbox.steps(&["--platform", "linux/arm64"]);
    assert_eq!(steps.ran(), Vec::<&str>::new());
}

fn outputs_without_manifests_have_a_directory_for_each_platform(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(CROSS);
    let two = "linux/s390x,linux/arm64";
    let to = sandbox.fresh_output("dir");
    sandbox.steps(&["--platform", two, "--output", to.to_str().unwrap()]);
    for (directory, architecture) in [("linux_s390x", "s390x\n"), ("linux_arm64", "arm64\n")] {
        let file = to.join(directory).join("arch");
        assert_eq!(fs::read_to_string(file).unwrap(), architecture);
    }
    let flat = sandbox.fresh_output("dir");
    let output = format!("type=local,dest={},platform-split=false", flat.display());
    sandbox
        .try_build(&["--platform", two, "--output", &output])
        .failure(1)
        .says("`/arch` is in the images for linux/s390x and linux/arm64");
    let tar = sandbox.fresh_output("tar");
    let output = format!("type=tar,dest={}", tar.display());
    sandbox.steps(&["--platform", two, "--output", &output]);
    let listed = run_quietly("tar", &["-tf", tar.to_str().unwrap()]);
    assert!(listed.contains("linux_arm64/arch\n"), "{listed}");
    let docker = sandbox.fresh_output("tar");
    let output = format!("type=docker,dest={}", docker.display());
    sandbox
        .try_build(&["--platform", two, "--output", &output])
        .failure(2)
        .says("no index");
}

fn annotations_stand_at_all_four_levels(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(CROSS);
    let path = layout(
        sandbox,
        &[
            "--platform",
            "linux/s390x,linux/arm64",
            "--annotation",
            "index,manifest:everywhere=1",
            "--annotation",
            "manifest[linux/arm64]:only=arm64",
            "--annotation",
            "manifest-descriptor[linux/s390x]:of=s390x",
            "--annotation",
            "index-descriptor:root=yes",
        ],
    );
    let listed = json_of(&path.join("index.json"));
    assert_eq!(listed["manifests"][0]["annotations"]["root"], "yes");
    let index = index_of(&path);
    assert_eq!(index["annotations"], json!({"everywhere": "1"}));
    let [s390x, arm64] = &index["manifests"].as_array().unwrap()[..] else {
        panic!("{index:#}");
    };
    assert_eq!(s390x["annotations"], json!({"of": "s390x"}));
    assert!(arm64.get("annotations").is_none());
    let manifest = blob(&path, s390x["digest"].as_str().unwrap());
    assert_eq!(manifest["annotations"], json!({"everywhere": "1"}));
    let manifest = blob(&path, arm64["digest"].as_str().unwrap());
    assert_eq!(
        manifest["annotations"],
        json!({"everywhere": "1", "only": "arm64"})
    );
    let output = format!("type=oci,dest={}", sandbox.fresh_output("tar").display());
    for (annotation, part) in [
        ("index:a=b", "no index"),
        ("manifest[linux/386]:a=b", "linux/386"),
    ] {
        sandbox
            .try_build(&["--output", &output, "--annotation", annotation])
            .failure(2)
            .says(part);
    }
}

fn a_list_is_one_image_to_every_command(sandbox: &Sandbox) {
    sandbox.busybox().dockerfile(CROSS);
    let platforms = "linux/s390x,linux/arm64";
    sandbox.steps(&["--platform", platforms, "-t", "app:1"]);
    let images = sandbox.run(&["images", "--format", "json"]).json();
    let listed = images.as_array().unwrap().iter();
    let app = listed.filter(|it| it["name"] == "app:1").count();
    assert_eq!(app, 1, "{images:#}");
    sandbox.run(&["tag", "app:1", "app:2"]);
    let architecture = |args: &[&str]| {
        let mut all = vec!["inspect"];
        all.extend_from_slice(args);
        let object = sandbox.run(&all).json();
        object[0]["Architecture"].as_str().unwrap().to_owned()
    };
    // None is this machine's: the first one stands for all.
    assert_eq!(architecture(&["app:2"]), "s390x");
    assert_eq!(architecture(&["app:2", "--platform", "arm64"]), "arm64");
    let label = |platform: &str| {
        let args = [
            "history",
            "--format",
            "json",
            "--platform",
            platform,
            "app:2",
        ];
        sandbox.run(&args).json()
    };
    assert_eq!(label("arm64")[0]["created_by"], "LABEL of=it");
    sandbox
        .try_run(&["history", "--platform", "riscv64", "app:2"])
        .failure(1)
        .says("no image `app:2` for linux/riscv64");
    // Who gave `--platform` is not told to give it.
    sandbox.dockerfile("FROM busybox\nLABEL a=b\n");
    let foreign = if cfg!(target_arch = "s390x") {
        "amd64"
    } else {
        "s390x"
    };
    let warned = sandbox.try_build(&["--platform", foreign]).success();
    let warned = warned.says("or build for `linux/");
    assert!(!warned.stderr.contains("give `--platform`"), "{warned}");
    sandbox
        .try_run(&["inspect", "--platform", "riscv64", "app:1"])
        .failure(1)
        .says("no image `app:1` for linux/riscv64");
    sandbox
        .try_run(&["save", "-o", "/dev/null", "app:1"])
        .failure(1)
        .says("--format oci");
    let one = sandbox.fresh_output("tar");
    let path = one.to_str().unwrap();
    sandbox.run(&["save", "--platform", "arm64", "-o", path, "app:1"]);
    assert_eq!(Image::read(&one).config["architecture"], "arm64");
    // A stage stands on the one for its platform.
    sandbox.dockerfile("FROM app:1\nLABEL b=c\n");
    let (image, _) = sandbox.build_with(&["--platform", "linux/arm64"]);
    assert_eq!(image.tree().text("arch"), "arm64\n");
    sandbox
        .try_build(&["--platform", "riscv64"])
        .failure(1)
        .says("no image for platform linux/riscv64; there are: linux/s390x, linux/arm64");
    // What a name needs stays, and goes with the last one.
    sandbox.run(&["cache", "prune", "--all"]);
    assert_eq!(architecture(&["app:1", "--platform", "arm64"]), "arm64");
    sandbox.run(&["rmi", "app:1"]);
    assert_eq!(architecture(&["app:2"]), "s390x");
    let gone = sandbox.run(&["rmi", "app:2"]).stdout;
    assert!(gone.contains("Deleted: sha256:"), "{gone}");
    sandbox.try_run(&["inspect", "app:2"]).failure(1);
    sandbox.run(&["cache", "prune", "--all"]);
    sandbox.run(&["cache", "verify"]);
}

fn a_list_goes_through_an_archive_and_a_registry_as_it_is(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox().dockerfile(CROSS);
    let name = registry.reference("app:1");
    let two = "linux/s390x,linux/arm64";
    sandbox.steps(&["--platform", two, "-t", &name, "--load", "--push"]);
    let pushed = raw(&registry, "app:1");
    // By digest alone, and under several names.
    let names = [registry.reference("far:1"), registry.reference("far:2")];
    let output = format!("type=registry,\"name={}\"", names.join(","));
    sandbox.steps(&["--platform", two, "--output", &output]);
    assert_eq!(raw(&registry, "far:2"), pushed);
    let metadata = sandbox.fresh_output("json");
    let by_digest = registry.reference("untagged");
    let output = format!("type=registry,name={by_digest},push-by-digest=true");
    let file = metadata.to_str().unwrap();
    sandbox.steps(&[
        "--platform",
        two,
        "--output",
        &output,
        "--metadata-file",
        file,
    ]);
    let metadata = json_of(&metadata);
    let digest = metadata["containerimage.digest"].as_str().unwrap();
    assert_eq!(raw(&registry, &format!("untagged@{digest}")), pushed);
    let tagged = registry.reference("untagged:latest");
    sandbox
        .try_run(&["manifest", "inspect", &tagged])
        .failure(1);
    // The store's own list makes the same index.
    sandbox.run(&["push", &name, &registry.reference("own:1")]);
    assert_eq!(raw(&registry, "own:1"), pushed);

    // From here on with what is said about its images.
    let name = registry.reference("said:1");
    let args = ["--attest", "type=provenance", "--platform", two];
    let all: Vec<&str> = args.into_iter().chain(["-t", &name, "--push"]).collect();
    sandbox.steps(&all);
    let pushed = raw(&registry, "said:1");
    let unknown = "unknown/unknown";
    assert_eq!(
        platforms(&serde_json::from_str(&pushed).unwrap()),
        ["linux/s390x", "linux/arm64", unknown, unknown]
    );
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.run(&["pull", "--all-platforms", &name]);
    let said = other.run(&["manifest", "inspect", "--raw", &name]);
    assert_eq!(said.stdout, pushed);
    other.run(&["push", &name, &registry.reference("copy:1")]);
    assert_eq!(raw(&registry, "copy:1"), pushed);
    let archive = other.fresh_output("tar");
    let path = archive.to_str().unwrap();
    other.run(&["save", "--format", "oci", "-o", path, &name]);

    run_quietly(
        "skopeo",
        &[
            "copy",
            "--all",
            "--preserve-digests",
            "--quiet",
            "--dest-tls-verify=false",
            &format!("oci-archive:{path}"),
            &registry.skopeo("skopeo:1"),
        ],
    );
    assert_eq!(raw(&registry, "skopeo:1"), pushed);

    let third = Sandbox::new(sandbox.who()).unwrap();
    third.hand_over(&archive);
    third.run(&["load", "-i", path, "-t", "loaded:1"]);
    third.run(&["push", "loaded:1", &registry.reference("loaded:1")]);
    assert_eq!(raw(&registry, "loaded:1"), pushed);

    // One of them, and then another: the name stands for both, with what is said of each.
    let fourth = Sandbox::new(sandbox.who()).unwrap();
    fourth.run(&["pull", "--platform", "s390x", &name]);
    fourth.run(&["pull", "--platform", "arm64", &name]);
    let list = fourth.run(&["manifest", "inspect", &name]).json();
    let unknown = "unknown/unknown";
    let all = ["linux/s390x", "linux/arm64", unknown, unknown];
    assert_eq!(platforms(&list), all);
}

fn lists_are_put_together_by_hand(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    for architecture in ["s390x", "arm64", "riscv64"] {
        sandbox.dockerfile(&format!("FROM scratch\nLABEL of={architecture}\n"));
        let name = format!("one:{architecture}");
        let platform = format!("linux/{architecture}");
        sandbox.steps(&["--platform", &platform, "-t", &name]);
    }
    sandbox.run(&["push", "one:riscv64", &registry.reference("far:1")]);
    let list = registry.reference("list:1");
    sandbox.try_run(&["manifest", "exists", &list]).failure(1);
    let far = format!("docker://{}", registry.reference("far:1"));
    sandbox.run(&["manifest", "create", &list, "one:s390x", &far]);
    sandbox.run(&["manifest", "exists", &list]);
    sandbox
        .try_run(&["manifest", "create", &list])
        .failure(1)
        .says("--amend");
    sandbox.run(&["manifest", "add", &list, "one:arm64"]);
    sandbox.run(&[
        "manifest",
        "annotate",
        &list,
        "one:arm64",
        "--variant",
        "v9",
        "--annotation",
        "a=b",
    ]);
    sandbox.run(&[
        "manifest",
        "annotate",
        "--index",
        "--annotation",
        "i=j",
        &list,
    ]);
    let digests = sandbox.fresh_output("digest");
    let digestfile = digests.to_str().unwrap();
    sandbox.run(&["manifest", "push", "--digestfile", digestfile, &list]);
    let text = raw(&registry, "list:1");
    let index: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        platforms(&index),
        ["linux/s390x", "linux/riscv64", "linux/arm64/v9"]
    );
    assert_eq!(index["annotations"], json!({"i": "j"}));
    assert_eq!(index["manifests"][2]["annotations"], json!({"a": "b"}));
    let far: Value = serde_json::from_str(&raw(&registry, "far:1")).unwrap();
    let member = index["manifests"][1]["digest"].as_str().unwrap();
    let copied: Value = serde_json::from_str(&raw(&registry, &format!("list@{member}"))).unwrap();
    assert_eq!(copied, far);
    let digest = fs::read_to_string(&digests).unwrap();
    assert_eq!(raw(&registry, &format!("list@{digest}")), text);

    sandbox.run(&["manifest", "remove", &list, "linux/riscv64", "one:s390x"]);
    let left = sandbox.run(&["manifest", "inspect", &list]).json();
    assert_eq!(platforms(&left), ["linux/arm64/v9"]);
    sandbox
        .try_run(&["manifest", "remove", &list, "linux/riscv64"])
        .failure(1)
        .says("no member");
    let remote = format!("docker://{list}");
    let remote = sandbox.run(&["manifest", "inspect", &remote]).json();
    assert_eq!(remote, index);
    // As a docker manifest list, and gone afterwards.
    let docker = registry.reference("docker:1");
    sandbox.run(&[
        "manifest", "push", "--format", "v2s2", "--rm", &list, &docker,
    ]);
    let index: Value = serde_json::from_str(&raw(&registry, "docker:1")).unwrap();
    assert_eq!(
        index["mediaType"],
        "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    sandbox.try_run(&["manifest", "exists", &list]).failure(1);
    sandbox.run(&["manifest", "create", "empty:1"]);
    sandbox.run(&["manifest", "rm", "empty:1"]);
    sandbox
        .try_run(&["manifest", "exists", "empty:1"])
        .failure(1);
}

/// Pushes the two foreign busyboxes as one index.
fn push_bases(sandbox: &Sandbox, registry: &Registry) -> String {
    let name = registry.reference("base:1");
    sandbox
        .import(Base::BusyboxArm64)
        .import(Base::BusyboxS390x)
        .run(&[
            "manifest",
            "create",
            &name,
            "busybox-arm64",
            "busybox-s390x",
        ]);
    sandbox.run(&["manifest", "push", &name]);
    name
}

fn bases_of_several_platforms_are_found_again_without_their_registry(sandbox: &Sandbox) {
    let registry = Registry::start();
    let base = push_bases(sandbox, &registry);
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.write("a", "a");
    other.dockerfile(&format!("FROM {base}\nCOPY a /a\n"));
    let both = ["--platform", "linux/s390x,linux/arm64"];
    let steps = other.steps(&both);
    // One stands on each base.
    assert_eq!(steps.ran(), ["COPY a /a", "COPY a /a"]);
    drop(registry);
    assert_eq!(other.steps(&both).cached().len(), 2);
}

fn all_platforms_are_those_of_the_base(sandbox: &Sandbox) {
    let registry = Registry::start();
    let base = push_bases(sandbox, &registry);
    let other = Sandbox::new(sandbox.who()).unwrap();
    other.dockerfile(&format!(
        "FROM --platform=linux/arm64 {base} AS pinned\nFROM {base}\nCOPY --from=pinned /bin/sh /pinned\n"
    ));
    let path = layout(&other, &["--all-platforms"]);
    assert_eq!(platforms(&index_of(&path)), ["linux/arm64", "linux/s390x"]);
    other.dockerfile("FROM scratch\nLABEL a=b\n");
    other
        .try_build(&["--all-platforms"])
        .failure(2)
        .says("--platform");
}

/// Whether commands for other machines can be run by this kind of user: by what is registered on the
/// machine, or by what strata registers for itself.
fn can_emulate() -> bool {
    let registered = ["qemu-aarch64", "qemu-s390x"].iter().all(|name| {
        let path = Path::new("/proc/sys/fs/binfmt_misc").join(name);
        fs::read_to_string(path).is_ok_and(|text| text.contains('F'))
    });
    registered || has_own_registrations()
}

/// Since Linux 6.7 each user namespace has its own.
fn has_own_registrations() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|it| it.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}

fn foreign_commands_run_emulated_and_their_index_is_pushed(sandbox: &Sandbox) {
    if !can_emulate() {
        return skip("no emulators are registered, and Linux is older than 6.7");
    }
    let registry = Registry::start();
    let base = push_bases(sandbox, &registry);
    let app = registry.reference("app:1");
    let other = Sandbox::new(Who::User).unwrap();
    other.busybox().dockerfile(&format!(
        "FROM --platform=$BUILDPLATFORM busybox AS tool
RUN uname -m > /built-on
FROM {base}
COPY --from=tool /built-on /
RUN uname -m > /machine && ls -l /bin/busybox | grep -c busybox > /several
ARG TARGETPLATFORM
ENV P=$TARGETPLATFORM
"
    ));
    let platforms_asked = "linux/s390x,linux/arm64";
    let output = other
        .try_build(&["--platform", platforms_asked, "-t", &app, "--push"])
        .success();
    let ran = output.steps().ran().join("\n");
    assert_eq!(ran.matches("RUN uname -m > /built-on").count(), 1, "{ran}");
    assert_eq!(ran.matches("> /machine").count(), 2, "{ran}");
    let index: Value = serde_json::from_str(&raw(&registry, "app:1")).unwrap();
    assert_eq!(platforms(&index), ["linux/s390x", "linux/arm64"]);

    let third = Sandbox::new(Who::User).unwrap();
    for (platform, machine) in [("linux/arm64", "aarch64"), ("linux/s390x", "s390x")] {
        third.run(&["pull", "--platform", platform, &app]);
        let said = third.run(&[
            "run",
            "--rm",
            "--platform",
            platform,
            &app,
            "sh",
            "-c",
            "cat /machine; uname -m; echo $P",
        ]);
        assert_eq!(said.stdout, format!("{machine}\n{machine}\n{platform}\n"));
    }
    // Nothing runs anew, whoever emulates.
    let args = ["--platform", platforms_asked];
    assert_eq!(other.steps(&args).ran(), Vec::<&str>::new());
}

/// Runs a build in a user namespace whose registrations are just those that `setup` makes.
fn with_registrations(sandbox: &Sandbox, setup: &str, path: &str) -> crate::support::Output {
    let script =
        format!("mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && {setup} exec \"$@\"");
    let unshare = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount"];
    let mut program = unshare.to_vec();
    program.extend(["/bin/sh", "-c", &script, "sh"]);
    sandbox
        .strata()
        .args(["build", "--progress", "plain", "--platform", "linux/arm64"])
        .arg(sandbox.context())
        .through(sandbox, &program)
        .env("PATH", path)
        .output()
}

const ARM64: &str = "printf %s ':test:M::\\\\x7fELF\\\\x02\\\\x01\\\\x01\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\\\\x00\
    \\\\x00\\\\x00\\\\x02\\\\x00\\\\xb7\\\\x00:\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\x00\\\\xff\\\\xff\
    \\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xfe\\\\xff\\\\xff\\\\xff:/usr/bin/qemu-aarch64-static:FLAGS' \
    > /proc/sys/fs/binfmt_misc/register;";

/// A PATH without emulators that has what the set-up needs.
fn bare_path(sandbox: &Sandbox) -> String {
    let directory = sandbox.path("home/bin");
    fs::create_dir(&directory).unwrap();
    for name in ["mount", "sh"] {
        let program = run_quietly("sh", &["-c", &format!("command -v {name}")]);
        std::os::unix::fs::symlink(program.trim(), directory.join(name)).unwrap();
    }
    directory.display().to_string()
}

fn a_registered_emulator_is_used(sandbox: &Sandbox) {
    if !has_own_registrations() {
        return skip("Linux is older than 6.7: registrations would be the machine's");
    }
    sandbox.import(Base::BusyboxArm64);
    sandbox.dockerfile("FROM busybox-arm64\nRUN uname -m\n");
    let path = bare_path(sandbox);
    let setup = ARM64.replace("\\\\", "\\").replace("FLAGS", "F");
    let output = with_registrations(sandbox, &setup, &path).success();
    assert!(output.stderr.contains(" aarch64\n"), "{output}");
    // It is not said that anything was registered.
    assert!(!output.stderr.contains("emulated"), "{output}");
}

fn a_missing_emulator_is_named_with_the_command_that_gets_it(sandbox: &Sandbox) {
    if !has_own_registrations() {
        return skip("Linux is older than 6.7: registrations would be the machine's");
    }
    sandbox.import(Base::BusyboxArm64);
    sandbox.dockerfile("FROM busybox-arm64\nRUN uname -m\n");
    let path = bare_path(sandbox);
    with_registrations(sandbox, "", &path)
        .failure(1)
        .says("programs for `arm64`, which this machine can't run")
        .says("apt-get install qemu-user-static")
        .says("tonistiigi/binfmt --install arm64");
    let loose = ARM64.replace("\\\\", "\\").replace("FLAGS", "P");
    with_registrations(sandbox, &loose, &path)
        .failure(1)
        .says("without the flag `F`")
        .says("echo -1 > /proc/sys/fs/binfmt_misc/test");
    // This machine's own programs need no emulator, whatever a stage says of itself.
    sandbox.busybox();
    sandbox.dockerfile("FROM busybox\nRUN echo fine\n");
    with_registrations(sandbox, "", &path).success();
}
