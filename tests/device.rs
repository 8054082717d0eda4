//! RUN --device: devices of the host, by CDI.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Image, Sandbox, cases};

cases! { Root, User =>
    a_step_gets_nodes_mounts_and_variables_and_leaves_no_trace,
    a_device_needs_an_entitlement,
    a_missing_device_is_told_and_a_required_one_is_an_error,
    what_a_device_lacks_or_asks_for_in_vain_is_told,
}

cases! { Root =>
    a_node_has_the_owner_and_mode_that_its_spec_says,
    a_node_that_the_host_lacks_is_made,
}

cases! { User =>
    an_ordinary_user_gets_the_hosts_node_as_it_is,
}

fn write_spec(sandbox: &Sandbox, spec: &Value) -> String {
    let directory = sandbox.path("cdi");
    if !directory.exists() {
        fs::create_dir(&directory).unwrap();
    }
    fs::write(directory.join("strata.json"), spec.to_string()).unwrap();
    directory.to_str().unwrap().to_owned()
}

/// A spec of one device, `strata.test/part=one`.
fn device(edits: &Value) -> Value {
    json!({"cdiVersion": "0.6.0", "kind": "strata.test/part",
        "devices": [{"name": "one", "containerEdits": edits}]})
}

/// Builds the context with the specs of `directory` and every device allowed.
fn build(sandbox: &Sandbox, directory: &str) -> (Image, crate::support::Steps) {
    sandbox.build_with(&["--cdi-spec-dir", directory, "--allow", "device"])
}

/// Builds `body` on busybox, which must fail; what it says.
fn fails(sandbox: &Sandbox, args: &[&str], body: &str, code: i32) -> String {
    sandbox.dockerfile(&format!("FROM busybox\n{body}\n"));
    sandbox
        .strata()
        .args(["build", "--progress", "plain", "--output", "type=cacheonly"])
        .args(args)
        .arg(sandbox.context())
        .output()
        .failure(code)
        .stderr_redacted(sandbox)
}

fn a_step_gets_nodes_mounts_and_variables_and_leaves_no_trace(sandbox: &Sandbox) {
    let shown = sandbox.path("shown");
    fs::create_dir(&shown).unwrap();
    fs::write(shown.join("file"), "from the host\n").unwrap();
    let edits = json!({
        "deviceNodes": [
            {"path": "/dev/parts/zero", "hostPath": "/dev/zero", "permissions": "rwm"},
            {"path": "/opt/nodes/full", "hostPath": "/dev/full", "type": "c", "major": 1, "minor": 7},
        ],
        "mounts": [{"hostPath": shown, "containerPath": "/srv/shown",
            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}],
        "env": ["GIVEN=by the device", "SET=by the device"],
    });
    let directory = write_spec(sandbox, &device(&edits));
    sandbox.busybox().dockerfile(
        "FROM busybox
ENV SET=\"by the image\"
RUN --device=strata.test/part=one,required <<'EOT'
exec > /out
head -c 4 /dev/parts/zero | od -An -tx1
echo x > /opt/nodes/full || echo full
cat /srv/shown/file
touch /srv/shown/new || echo read-only
echo $GIVEN, $SET
EOT
RUN test -z \"$GIVEN\" && test \"$SET\" = 'by the image' && ! ls /dev/parts && ! ls /opt && ! ls /srv
",
    );
    let (image, steps) = build(sandbox, &directory);
    assert_eq!(steps.ran().len(), 2, "{:?}", steps.ran());
    let words: Vec<String> = image
        .tree()
        .text("out")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        words,
        [
            "00 00 00 00",
            "full",
            "from the host",
            "read-only",
            "by the device, by the device"
        ]
    );
    assert_eq!(image.layers[1].files(), ["out"]);
    assert_eq!(image.layers[2].files(), [] as [&str; 0]);
    for path in ["opt", "srv", "dev/parts"] {
        assert!(!image.tree().has(path), "{path}");
    }
    assert_eq!(image.env("GIVEN"), None);
    assert_eq!(image.env("SET"), Some("by the image"));
    assert!(!shown.join("new").exists());
    // What a spec says is in no key, but that a device is asked for, and how, is.
    let directory = write_spec(sandbox, &device(&json!({"env": ["GIVEN=another"]})));
    let (_, steps) = build(sandbox, &directory);
    assert_eq!(steps.ran(), [] as [&str; 0]);
    let text = fs::read_to_string(sandbox.context().join("Dockerfile")).unwrap();
    sandbox.dockerfile(&text.replace("one,required", "one"));
    // Without the nodes, the step fails half-way, but it runs.
    let steps = sandbox
        .try_build(&["--cdi-spec-dir", &directory, "--allow", "device"])
        .steps();
    assert_eq!(
        steps.cached().len() + steps.ran().len() + steps.failed().len(),
        2
    );
    assert!(steps.cached().iter().all(|name| !name.contains("--device")));
}

fn a_device_needs_an_entitlement(sandbox: &Sandbox) {
    let spec = json!({"cdiVersion": "0.6.0", "kind": "strata.test/part", "devices": [
        {"name": "one", "containerEdits": {"env": ["ONE=1"]}},
        {"name": "two", "containerEdits": {"env": ["TWO=2"]}},
        {"name": "free", "containerEdits": {"env": ["FREE=3"]},
            "annotations": {"org.mobyproject.buildkit.device.autoallow": "true"}},
    ]});
    let directory = write_spec(sandbox, &spec);
    sandbox.busybox();
    let specs = ["--cdi-spec-dir", directory.as_str()];
    let error = fails(sandbox, &specs, "RUN --device=strata.test/part=one true", 2);
    assert!(
        error.contains("`strata.test/part=one`, which is not allowed"),
        "{error}"
    );
    assert!(
        error.contains("--allow device=strata.test/part=one"),
        "{error}"
    );
    let one = [specs[0], specs[1], "--allow", "device=strata.test/part=one"];
    let error = fails(sandbox, &one, "RUN --device=strata.test/part=* true", 2);
    assert!(
        error.contains("`strata.test/part=two`, which is not allowed"),
        "{error}"
    );
    sandbox.dockerfile(
        "FROM busybox\nRUN --device=strata.test/part=one --device=strata.test/part=free \
         echo $ONE$TWO$FREE > /out\n",
    );
    assert_eq!(sandbox.build_with(&one).0.tree().text("out"), "13\n");
    sandbox.dockerfile("FROM busybox\nRUN --device=strata.test/part=* echo $ONE$TWO$FREE > /out\n");
    let all = [specs[0], specs[1], "--allow", "device=strata.test/part=*"];
    assert_eq!(sandbox.build_with(&all).0.tree().text("out"), "123\n");
}

fn a_missing_device_is_told_and_a_required_one_is_an_error(sandbox: &Sandbox) {
    let directory = write_spec(sandbox, &device(&json!({})));
    fs::write(Path::new(&directory).join("broken.yaml"), "kind: [").unwrap();
    sandbox
        .busybox()
        .dockerfile("FROM busybox\nRUN --device=strata.test/part=two echo done > /out\n");
    let specs = ["--cdi-spec-dir", directory.as_str()];
    let output = sandbox
        .strata()
        .args(["build", "--progress", "plain", "--output", "type=cacheonly"])
        .args(specs)
        .arg(sandbox.context())
        .output();
    let told = output.success().stderr_redacted(sandbox);
    assert!(
        told.contains("runs without the device `strata.test/part=two`"),
        "{told}"
    );
    assert!(told.contains("broken.yaml"), "{told}");
    let body = "RUN --device=strata.test/part=two,required true";
    let error = fails(sandbox, &specs, body, 2);
    assert!(
        error.contains("the device `strata.test/part=two` is required"),
        "{error}"
    );
    assert!(error.contains("broken.yaml"), "{error}");
    // Who only looks at the file needs no devices.
    sandbox.run(&["check", sandbox.context().to_str().unwrap()]);
}

fn what_a_device_lacks_or_asks_for_in_vain_is_told(sandbox: &Sandbox) {
    sandbox.busybox();
    for (edits, code, told) in [
        (
            json!({"hooks": [{"hookName": "createContainer", "path": "/usr/bin/hook"}]}),
            2,
            "the hook `/usr/bin/hook`",
        ),
        (
            json!({"mounts": [{"hostPath": "/no/such", "containerPath": "/x"}]}),
            1,
            "`/no/such` of the host: No such file",
        ),
        (
            json!({"deviceNodes": [{"path": "/dev/x", "hostPath": "/etc/passwd"}]}),
            1,
            "a file and no device",
        ),
        (
            json!({"deviceNodes": [{"path": "/bin", "hostPath": "/dev/null"}]}),
            1,
            "`/bin`",
        ),
    ] {
        let directory = write_spec(sandbox, &device(&edits));
        let args = ["--cdi-spec-dir", directory.as_str(), "--allow", "device"];
        let error = fails(
            sandbox,
            &args,
            "RUN --device=strata.test/part=one true",
            code,
        );
        assert!(error.contains(told), "{error}");
    }
}

/// What `stat` says of the device's node in a step of `user`.
fn node(sandbox: &Sandbox, node: &Value, user: &str) -> String {
    let directory = write_spec(sandbox, &device(&json!({"deviceNodes": [node]})));
    sandbox.busybox().dockerfile(&format!(
        "FROM busybox\nRUN mkdir /mnt && chmod 777 /mnt\nUSER {user}\nRUN --device=strata.test/part=one head -c 1 /dev/part > /mnt/read && \
         stat -c '%a %u:%g %t:%T' /dev/part > /mnt/out\n"
    ));
    let tree = build(sandbox, &directory).0.tree();
    assert_eq!(tree.text("mnt/read"), "\0");
    tree.text("mnt/out")
}

fn a_node_has_the_owner_and_mode_that_its_spec_says(sandbox: &Sandbox) {
    let zero = json!({"path": "/dev/part", "hostPath": "/dev/zero"});
    assert_eq!(node(sandbox, &zero, "0"), "666 0:0 1:5\n");
    assert_eq!(node(sandbox, &zero, "1000:1001"), "666 1000:1001 1:5\n");
    let owned = json!({"path": "/dev/part", "hostPath": "/dev/zero", "fileMode": 0o640, "uid": 5, "gid": 6});
    assert_eq!(node(sandbox, &owned, "5:7"), "640 5:6 1:5\n");
}

fn a_node_that_the_host_lacks_is_made(sandbox: &Sandbox) {
    let made = json!({"path": "/dev/part", "hostPath": "/dev/no/such", "type": "c", "major": 1, "minor": 5});
    assert_eq!(node(sandbox, &made, "0"), "666 0:0 1:5\n");
}

fn an_ordinary_user_gets_the_hosts_node_as_it_is(sandbox: &Sandbox) {
    let owned = json!({"path": "/dev/part", "hostPath": "/dev/zero", "fileMode": 0o640, "uid": 5, "gid": 6});
    let told = node(sandbox, &owned, "0");
    assert!(
        told.starts_with("666 ") && told.ends_with(" 1:5\n"),
        "{told}"
    );
    let made = json!({"path": "/dev/part", "hostPath": "/dev/no/such", "type": "c", "major": 1, "minor": 5});
    let directory = write_spec(sandbox, &device(&json!({"deviceNodes": [made]})));
    let args = ["--cdi-spec-dir", directory.as_str(), "--allow", "device"];
    let error = fails(sandbox, &args, "RUN --device=strata.test/part=one id", 1);
    assert!(error.contains("which the host has no equal of"), "{error}");
}
