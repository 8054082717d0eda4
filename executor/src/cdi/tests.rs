use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::sandbox::{Credentials, DeviceKind, DeviceNode, Mount, MountKind, MountOptions};

/// Two directories, of which the second wins.
struct Host(TempDir, [PathBuf; 2]);

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let both = ["etc", "run"].map(|name| directory.path().join(name));
        for one in &both {
            fs::create_dir(one).unwrap();
        }
        Self(directory, both)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.0.path().join(name), content).unwrap();
        self
    }

    fn spec(&self, name: &str, spec: &Value) -> &Self {
        self.write(name, spec.to_string())
    }

    fn devices(&self) -> Devices {
        Devices::read(&self.1)
    }
}

fn spec(devices: &Value) -> Value {
    json!({"cdiVersion": "0.6.0", "kind": "a.b/c", "devices": devices})
}

/// A spec of one device, `a.b/c=d`.
fn asks_for(edits: &Value) -> Value {
    spec(&json!([{"name": "d", "containerEdits": edits}]))
}

fn edits_of(edits: &Value) -> Result<Edits, CdiError> {
    let host = Host::new();
    host.spec("etc/x.json", &asks_for(edits));
    let devices = host.devices();
    assert!(devices.broken().is_empty(), "{:?}", devices.broken());
    devices.edits(&["a.b/c=d".to_owned()])
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text = format!("{text}: {source}");
    }
    text
}

#[test]
fn names_find_one_all_the_first_or_a_class() {
    let host = Host::new();
    let class = |name: &str| json!({"org.mobyproject.buildkit.device.class": name});
    host.spec(
        "etc/x.json",
        &spec(&json!([
            {"name": "two", "annotations": class("fast")},
            {"name": "one"},
            {"name": "three", "annotations": class("fast")},
        ])),
    );
    let devices = host.devices();
    for (wanted, expected) in [
        ("a.b/c=one", vec!["a.b/c=one"]),
        ("a.b/c", vec!["a.b/c=one"]),
        ("a.b/c=", vec!["a.b/c=one"]),
        ("a.b/c=*", vec!["a.b/c=one", "a.b/c=three", "a.b/c=two"]),
        ("a.b/c=fast", vec!["a.b/c=three", "a.b/c=two"]),
        ("a.b/c=four", vec![]),
        ("a.b/cc=one", vec![]),
        ("a.b/cc", vec![]),
        ("a.b/cc=*", vec![]),
    ] {
        assert_eq!(devices.find(wanted).unwrap(), expected, "{wanted}");
    }
    for wrong in [
        "",
        "=",
        "c=d",
        "/",
        "/c",
        "a.b/",
        "a.b/c=d e",
        "a.b/c=../d",
        "a.b/c/d=e",
        "1a/c",
        "a.b/c=d=e",
        "a-/c",
        "a.b/c.d",
        "a.b/c=\u{e9}",
        "a.b/c=-",
        "a.b/c=**",
    ] {
        let error = devices.find(wrong).unwrap_err();
        assert!(matches!(error, CdiError::Name { .. }), "{wrong}: {error}");
    }
}

#[test]
fn a_later_directory_wins_and_a_name_twice_in_one_is_an_error() {
    let host = Host::new();
    let says = |value: &str| asks_for(&json!({"env": [format!("SAYS={value}")]}));
    host.spec("etc/1.json", &says("etc"))
        .spec("etc/2.json", &says("etc, too"));
    let error = host.devices().find("a.b/c=d").unwrap_err().to_string();
    assert!(
        error.contains("etc/1.json") && error.contains("etc/2.json"),
        "{error}"
    );
    assert!(host.devices().find("a.b/c=*").is_err());
    host.spec("run/1.json", &says("run"));
    let devices = host.devices();
    assert_eq!(devices.find("a.b/c").unwrap(), ["a.b/c=d"]);
    let edits = devices.edits(&["a.b/c=d".to_owned()]).unwrap();
    assert_eq!(edits.env, [("SAYS".to_owned(), "run".to_owned())]);
    let again = spec(&json!([{"name": "d"}, {"name": "d"}]));
    let host = Host::new();
    host.spec("etc/1.json", &again);
    assert!(host.devices().broken()[0].to_string().contains("`d` twice"));
}

#[test]
fn yaml_says_the_same_as_json() {
    let host = Host::new();
    host.write(
        "etc/x.yaml",
        "---\ncdiVersion: 0.5.0\nkind: a.b/c\ndevices:\n- name: \"0\"\n  containerEdits:\n    \
         deviceNodes:\n    - path: /dev/x\n      hostPath: /dev/null\n      permissions: rw\n\
         containerEdits:\n  env:\n  - A=b\n  mounts:\n  - hostPath: /etc\n    containerPath: /x\n    \
         options: [ro, nosuid, nodev, bind]\n",
    );
    let devices = host.devices();
    assert!(devices.broken().is_empty(), "{:?}", devices.broken());
    let edits = devices.edits(&["a.b/c=0".to_owned()]).unwrap();
    assert_eq!(edits.env, [("A".to_owned(), "b".to_owned())]);
    let mounts = edits.mounts(&Credentials::default()).unwrap();
    assert_eq!(
        mounts,
        [
            Mount {
                target: "/x".into(),
                kind: MountKind::Host {
                    source: "/etc".into(),
                    recursive: false,
                    no_programs: false,
                    no_set_ids: true,
                },
                read_only: true,
                options: MountOptions::default(),
            },
            Mount {
                target: "/dev/x".into(),
                kind: MountKind::Device {
                    source: Some("/dev/null".into()),
                    node: None,
                },
                read_only: false,
                options: MountOptions::default(),
            },
        ]
    );
}

#[test]
fn modes_may_be_octal_digits() {
    let host = Host::new();
    let with = |mode: &str| {
        format!(
            "cdiVersion: 0.5.0\nkind: a.b/c\ndevices:\n- name: d\n  containerEdits:\n    deviceNodes:\n    \
             - path: /dev/null\n      fileMode: {mode}\n"
        )
    };
    for mode in ["0640", "\"0640\"", "0o640", "416"] {
        host.write("etc/x.yaml", with(mode));
        let devices = host.devices();
        assert!(
            devices.broken().is_empty(),
            "{mode}: {:?}",
            devices.broken()
        );
        let edits = devices.edits(&["a.b/c=d".to_owned()]).unwrap();
        let mounts = edits.mounts(&Credentials::default()).unwrap();
        let MountKind::Device {
            node: Some(node), ..
        } = mounts[0].kind
        else {
            panic!("{mode}: {mounts:?}");
        };
        assert_eq!(node.mode, 0o640, "{mode}");
    }
    host.write("etc/x.yaml", with("rw"));
    assert!(
        host.devices().broken()[0]
            .to_string()
            .contains("`rw` is no mode")
    );
}

#[test]
fn broken_specs_are_named_and_take_nothing_else_away() {
    let host = Host::new();
    let start = r#"{"cdiVersion":"0.6.0","kind":"a.b/c","containerEdits":{"intelRdt":"#;
    let list = |item: &str| vec![item; 2000].join(", ");
    let aliases = format!(
        "cdiVersion: 0.6.0\nkind: a.b/c\ncontainerEdits: &e {{env: [{}]}}\ndevices: [{}]\n",
        list("a=b"),
        list("{name: x, containerEdits: *e}")
    );
    host.spec("etc/good.json", &asks_for(&json!({})))
        .write("etc/ignored.txt", "{")
        .write("etc/a.json", "{")
        .write(
            "etc/b.json",
            r#"{"cdiVersion":"9.0.0","kind":"a.b/c","devices":[{"name":"x"}]}"#,
        )
        .write(
            "etc/c.json",
            r#"{"cdiVersion":"0.6.0","kind":"c","devices":[{"name":"x"}]}"#,
        )
        .write(
            "etc/d.json",
            r#"{"cdiVersion":"0.6.0","kind":"a.b/c","devices":[]}"#,
        )
        .write(
            "etc/e.json",
            r#"{"cdiVersion":"0.6.0","kind":"a.b/c","devices":[{"name":"../x"}]}"#,
        )
        .write(
            "etc/f.json",
            r#"{"cdiVersion":"0.6.0","kind":"a.b/c","devices":[{"name":"x","new":1}]}"#,
        )
        .write("etc/g.yaml", "a: &a [x, x]\nb: &b [*a, *a]\n")
        .write("etc/h.yml", "\t- {")
        .write("etc/i.json", format!("{start}{}", "[".repeat(100_000)))
        .write("etc/j.yaml", format!("{start}{}", "[".repeat(100_000)))
        .write("etc/l.yaml", aliases)
        .write("etc/k.json", b"\xff\xfe\0");
    symlink("loop.json", host.1[0].join("loop.json")).unwrap();
    symlink("/dev/zero", host.1[0].join("zero.json")).unwrap();
    symlink("nothing", host.1[0].join("missing.json")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        host.1[0].join("fifo.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let devices = host.devices();
    let broken: Vec<String> = devices.broken().iter().map(ToString::to_string).collect();
    for (name, reason) in [
        ("a.json", "EOF"),
        ("b.json", "version `9.0.0`"),
        ("c.json", "wrong kind `c`"),
        ("d.json", "no devices"),
        ("e.json", "wrong device `../x`"),
        ("f.json", "`new`"),
        ("g.yaml", "anchors and aliases"),
        ("h.yml", "no spec"),
        ("i.json", "EOF"),
        ("j.yaml", "nested too deep"),
        ("k.json", "no spec"),
        ("l.yaml", "anchors and aliases"),
        ("loop.json", "symbolic links"),
        ("zero.json", "not a regular file"),
        ("missing.json", "No such file"),
        ("fifo.json", "not a regular file"),
    ] {
        assert!(
            broken
                .iter()
                .any(|line| line.contains(name) && line.contains(reason)),
            "{name}, {reason}: {broken:#?}"
        );
    }
    assert_eq!(broken.len(), 16);
    assert_eq!(devices.find("a.b/c=*").unwrap(), ["a.b/c=d"]);
    let file = host.1[0].join("good.json");
    let no_directory = Devices::read(&[file, host.0.path().join("nothing")]);
    assert_eq!(no_directory.broken().len(), 1);
}

#[test]
fn what_is_not_supported_is_named() {
    let node = |more: Value| {
        let mut node = json!({"path": "/dev/x", "hostPath": "/dev/null"});
        for (name, value) in more.as_object().unwrap() {
            node[name] = value.clone();
        }
        json!({"deviceNodes": [node]})
    };
    let mount = |more: Value| {
        let mut mount = json!({"hostPath": "/etc", "containerPath": "/x"});
        for (name, value) in more.as_object().unwrap() {
            mount[name] = value.clone();
        }
        json!({"mounts": [mount]})
    };
    for (edits, named) in [
        (
            json!({"hooks": [{"hookName": "createRuntime", "path": "/bin/h"}]}),
            "the hook `/bin/h` (createRuntime), which is to be run outside",
        ),
        (
            json!({"hooks": [{"hookName": "prestart", "path": "/bin/h"}]}),
            "(prestart), which is to be run outside",
        ),
        (
            json!({"hooks": [{"hookName": "poststart", "path": "/bin/h"}]}),
            "(poststart), which is for containers that go on",
        ),
        (
            json!({"hooks": [{"hookName": "sometimes", "path": "/bin/h"}]}),
            "(sometimes), which is no kind",
        ),
        (
            json!({"hooks": [{"hookName": "poststop", "path": "bin/h"}]}),
            "whose path is not absolute",
        ),
        (
            json!({"hooks": [{"hookName": "poststop", "path": "/bin/h", "env": ["=x"]}]}),
            "no NAME=VALUE",
        ),
        (
            json!({"hooks": [{"hookName": "poststop", "path": "/bin/h", "timeout": 0}]}),
            "no time",
        ),
        (json!({"intelRdt": {"closID": "x"}}), "Intel RDT"),
        (
            json!({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}),
            "network devices",
        ),
        (json!({"env": ["X"]}), "no NAME=VALUE"),
        (json!({"env": ["=x"]}), "no NAME=VALUE"),
        (json!({"env": ["A=\0"]}), "no NAME=VALUE"),
        (node(json!({"path": "dev/x"})), "not absolute"),
        (node(json!({"path": "/dev/../x"})), "`..`"),
        (node(json!({"path": "/"})), "the root"),
        (node(json!({"path": ""})), "not absolute"),
        (node(json!({"hostPath": "null"})), "not absolute"),
        (node(json!({"hostPath": "/dev/../etc/shadow"})), "`..`"),
        (node(json!({"type": "x"})), "type `x`"),
        (node(json!({"permissions": "r"})), "permissions `r`"),
        (node(json!({"permissions": "rwx"})), "permissions `rwx`"),
        (mount(json!({"containerPath": "x"})), "not absolute"),
        (mount(json!({"containerPath": "/./"})), "the root"),
        (mount(json!({"containerPath": "/x\0"})), "zero byte"),
        (mount(json!({"hostPath": "/../etc"})), "`..`"),
        (
            mount(json!({"options": ["ro", "shared"]})),
            "option `shared`",
        ),
        (mount(json!({"type": "tmpfs"})), "type `tmpfs`"),
    ] {
        let error = edits_of(&edits).unwrap_err().to_string();
        assert!(error.contains(named), "{edits}: {error}");
        assert!(
            error.contains("`a.b/c=d`") && error.contains("x.json"),
            "{error}"
        );
    }
}

#[test]
fn what_the_host_lacks_is_named() {
    let host = Host::new();
    let looped = host.0.path().join("loop");
    symlink(&looped, &looped).unwrap();
    let node = |path: &Path| json!({"deviceNodes": [{"path": "/dev/x", "hostPath": path}]});
    let mount = |path: &Path| json!({"mounts": [{"containerPath": "/x", "hostPath": path}]});
    for (edits, named) in [
        (
            node(Path::new("/dev/no/such")),
            "`/dev/no/such` of the host: No such file",
        ),
        (
            mount(Path::new("/no/such")),
            "`/no/such` of the host: No such file",
        ),
        (node(&looped), "symbolic links"),
        (mount(&looped), "symbolic links"),
        (node(Path::new("/etc/passwd")), "a file and no device"),
        (node(Path::new("/dev")), "a directory and no device"),
    ] {
        let edits = edits_of(&edits).unwrap();
        let error = chain(&edits.mounts(&Credentials::default()).unwrap_err());
        assert!(error.contains(named), "{error}");
        assert!(error.contains("`a.b/c=d`"), "{error}");
    }
}

#[test]
fn a_node_unlike_the_hosts_is_made() {
    let one = |node: &Value, credentials: &Credentials| {
        let edits = edits_of(&json!({"deviceNodes": [node]})).unwrap();
        edits.mounts(credentials).unwrap().remove(0).kind
    };
    let nobody = Credentials::default();
    let null = DeviceNode {
        kind: DeviceKind::Character,
        major: 1,
        minor: 3,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let host = Some(PathBuf::from("/dev/null"));
    let made = |node: DeviceNode| MountKind::Device {
        source: host.clone(),
        node: Some(node),
    };
    assert_eq!(
        one(
            &json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3}),
            &nobody
        ),
        MountKind::Device {
            source: host.clone(),
            node: None
        }
    );
    assert_eq!(
        one(
            &json!({"path": "/dev/null", "uid": 7, "gid": 8, "fileMode": 0o640}),
            &nobody
        ),
        made(DeviceNode {
            mode: 0o640,
            uid: 7,
            gid: 8,
            ..null
        })
    );
    let user = Credentials {
        uid: 1000,
        gid: 1001,
        groups: Vec::new(),
    };
    assert_eq!(
        one(&json!({"path": "/dev/null", "gid": 44}), &user),
        made(DeviceNode {
            uid: 1000,
            gid: 44,
            ..null
        })
    );
    // Another device of that name is no substitute.
    let other = json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 5});
    assert_eq!(
        one(&other, &nobody),
        MountKind::Device {
            source: None,
            node: Some(DeviceNode { minor: 5, ..null })
        }
    );
    let missing = json!({"path": "/dev/no/such", "type": "b", "major": 7, "minor": 9});
    assert_eq!(
        one(&missing, &nobody),
        MountKind::Device {
            source: None,
            node: Some(DeviceNode {
                kind: DeviceKind::Block,
                major: 7,
                minor: 9,
                ..null
            })
        }
    );
}

#[test]
fn what_all_devices_of_a_spec_need_comes_once_and_first() {
    let host = Host::new();
    let device = |name: &str| {
        json!({"name": name, "containerEdits": {
        "env": [format!("{name}=1"), format!("LAST={name}")],
        "mounts": [{"hostPath": "/etc", "containerPath": format!("/deep/{name}")}],
        "additionalGids": [0, 7]}})
    };
    let mut both = spec(&json!([device("x"), device("y")]));
    both["containerEdits"] = json!({"env": ["ALL=1", "LAST=none"],
        "mounts": [{"hostPath": "/etc", "containerPath": "/deep/a/b"}, {"hostPath": "/etc", "containerPath": "//deep/x/"}]});
    host.spec("etc/x.json", &both);
    let names = ["a.b/c=y", "a.b/c=x", "a.b/c=y"].map(str::to_owned);
    let edits = host.devices().edits(&names).unwrap();
    let env: Vec<String> = edits
        .env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(env, ["ALL=1", "y=1", "x=1", "LAST=x"]);
    assert_eq!(edits.groups, [7]);
    let mounts = edits.mounts(&Credentials::default()).unwrap();
    let targets: Vec<&Path> = mounts.iter().map(|mount| mount.target.as_path()).collect();
    assert_eq!(targets, ["/deep/y", "/deep/x", "/deep/a/b"].map(Path::new));
}

#[test]
fn a_spec_may_say_that_a_device_is_for_everybody() {
    let host = Host::new();
    let mut two = spec(&json!([
        {"name": "x", "annotations": {"org.mobyproject.buildkit.device.autoallow": "false"}},
        {"name": "y"},
    ]));
    two["annotations"] = json!({"org.mobyproject.buildkit.device.autoallow": "true"});
    host.spec("etc/x.json", &two);
    let devices = host.devices();
    assert!(!devices.is_for_everybody("a.b/c=x"));
    assert!(devices.is_for_everybody("a.b/c=y"));
    assert!(!devices.is_for_everybody("a.b/c=z"));
}
