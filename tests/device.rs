//! RUN --device: devices of the host, by CDI.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Image, Sandbox, cases};

cases! { Root, User =>
    hooks_are_run_around_the_command,
    a_hook_that_fails_fails_the_step,
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

/// A program of the host that notes what it was given and changes the step's root.
fn write_hook(sandbox: &Sandbox, name: &str, script: &str) -> String {
    let path = sandbox.path(name);
    let notes = sandbox.path("notes");
    fs::create_dir_all(&notes).unwrap();
    sandbox.hand_over(&notes);
    let text = format!(
        "#!/bin/sh\nexec 2>&1\ncat > {0}/{name}.state\necho \"$0 $*\" > {0}/{name}.args\nenv > {0}/{name}.env\n\
         bundle=$(sed 's/.*\"bundle\":\"\\([^\"]*\\)\".*/\\1/' {0}/{name}.state)\ncp $bundle/config.json {0}/{name}.config\n\
         root=$(sed 's/.*\"root\":{{\"path\":\"\\([^\"]*\\)\".*/\\1/; t; s/.*\"path\":\"\\([^\"]*\\)\",\"readonly.*/\\1/' $bundle/config.json)\n{script}\n",
        notes.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn note(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.path("notes").join(name)).unwrap()
}

fn hooks_are_run_around_the_command(sandbox: &Sandbox) {
    let create = write_hook(
        sandbox,
        "create",
        "ln -s library.so.1 $root/usr/library.so; ls $root/proc/self > /dev/null && echo told; ls -A $root/opt/shown",
    );
    let after = write_hook(sandbox, "after", "[ ! -e $root/bin ]");
    fs::create_dir(sandbox.path("shown")).unwrap();
    fs::write(sandbox.path("shown/file"), "").unwrap();
    let directory = write_spec(
        sandbox,
        &device(&json!({
            "mounts": [{"hostPath": sandbox.path("shown"), "containerPath": "/opt/shown", "options": ["ro", "rbind"]}],
            "hooks": [
                {"hookName": "poststop", "path": after},
                {"hookName": "createContainer", "path": create, "args": ["name", "create-symlinks", "--link"],
                    "env": ["A=b", "C=d=e"], "timeout": 60},
                {"hookName": "startContainer", "path": "/inside", "args": ["inside", "x"], "env": ["IN=1"]},
            ],
        })),
    );
    let secret = sandbox.path("secret");
    fs::write(&secret, "geheim").unwrap();
    sandbox.hand_over(&secret);
    let secret = format!("id=s,src={}", secret.display());
    sandbox.busybox().dockerfile(
        "FROM busybox
RUN printf '#!/bin/sh\\ncat > /tmp/state; echo \"$0 $* $IN\" > /tmp/args; id -u > /tmp/uid; grep Seccomp: /proc/self/status > /tmp/seccomp\\n' > /inside && chmod 755 /inside
USER 7
RUN --device=strata.test/part=one --mount=type=secret,id=s,env=SECRET readlink /usr/library.so; cat /tmp/args /tmp/uid /tmp/seccomp; touch /tmp/ran
",
    );
    let (image, steps) = sandbox.build_with(&[
        "--cdi-spec-dir",
        &directory,
        "--allow",
        "device",
        "--secret",
        &secret,
    ]);
    let said = steps.output("RUN --device");
    let expected = [
        "told",
        "file",
        "library.so.1",
        "/inside x 1",
        "7",
        "Seccomp:\t2",
    ];
    assert_eq!(said, expected);
    // What a hook does to the root stays, as what a command does.
    assert!(image.tree().has("usr/library.so") && image.tree().has("tmp/ran"));
    assert!(!image.tree().has("opt"));
    let state: Value = serde_json::from_str(&note(sandbox, "create.state")).unwrap();
    assert_eq!(state["status"], "creating");
    assert_eq!(state["pid"], 1);
    let inside: Value = serde_json::from_str(&image.tree().text("tmp/state")).unwrap();
    assert_eq!(inside["status"], "created");
    assert_eq!(
        (&inside["id"], &inside["bundle"]),
        (&state["id"], &state["bundle"])
    );
    let stopped: Value = serde_json::from_str(&note(sandbox, "after.state")).unwrap();
    assert_eq!(
        (&stopped["status"], &stopped["id"]),
        (&json!("stopped"), &state["id"])
    );
    assert!(note(sandbox, "create.args").ends_with("create-symlinks --link\n"));
    let variables = note(sandbox, "create.env");
    let has = |line: &str| variables.lines().any(|found| found == line);
    assert!(
        has("A=b") && has("C=d=e") && !variables.contains("HOME="),
        "{variables}"
    );
    let config: Value = serde_json::from_str(&note(sandbox, "create.config")).unwrap();
    assert_eq!(config["process"]["user"]["uid"], 7);
    assert!(!config.to_string().contains("geheim"));
    assert!(!Path::new(state["bundle"].as_str().unwrap()).exists());
    assert_eq!(sandbox.mounts(), [""; 0]);
}

fn a_hook_that_fails_fails_the_step(sandbox: &Sandbox) {
    sandbox.busybox();
    let try_hook = |kind: &str, path: &str, timeout: u64| {
        let hook = json!({"hookName": kind, "path": path, "timeout": timeout});
        let directory = write_spec(sandbox, &device(&json!({"hooks": [hook]})));
        let args = ["--cdi-spec-dir", &directory, "--allow", "device"];
        fails(
            sandbox,
            &args,
            "RUN --device=strata.test/part=one echo it ran",
            1,
        )
    };
    let failing = write_hook(sandbox, "failing", "echo broken; exit 3");
    let said = try_hook("createContainer", &failing, 60);
    for part in ["broken", "createContainer hook", "exit code 3"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = try_hook("startContainer", "/bin/false", 60);
    assert!(said.contains("startContainer hook `/bin/false`"), "{said}");
    let said = try_hook("createContainer", "/no/such/hook", 60);
    assert!(
        said.contains("/no/such/hook") && said.contains("No such file"),
        "{said}"
    );
    let slow = write_hook(sandbox, "slow", "exec sleep 600");
    let said = try_hook("createContainer", &slow, 1);
    assert!(said.contains("longer than 1 second"), "{said}");
    assert!(!said.contains("\nit ran"), "{said}");
    // What comes afterwards hinders nothing.
    let hook = json!({"hookName": "poststop", "path": failing});
    let directory = write_spec(sandbox, &device(&json!({"hooks": [hook]})));
    sandbox.dockerfile("FROM busybox\nRUN --device=strata.test/part=one true\n");
    let args = ["--cdi-spec-dir", &directory, "--allow", "device"];
    let output = sandbox.try_build(&args).success();
    assert!(output.stderr.contains("poststop hook"), "{output}");
    assert_eq!(sandbox.processes(), [""; 0]);
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
            json!({"hooks": [{"hookName": "prestart", "path": "/usr/bin/hook"}]}),
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
