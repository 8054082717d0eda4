//! `strata doctor`.

use std::process::Command;

use serde_json::Value;

use crate::support::{Sandbox, cases};

cases! { Root, User, OneId =>
    each_thing_is_told_with_what_follows,
    nothing_is_left_behind,
}

cases! { Root =>
    a_store_in_use_is_told,
    a_host_without_user_namespaces_is_told,
}

/// The check `name` of `strata doctor --format json`.
fn check(report: &Value, name: &str) -> Value {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {report:#}"))
        .clone()
}

fn each_thing_is_told_with_what_follows(sandbox: &Sandbox) {
    let report = sandbox.run(&["doctor", "--format", "json"]).json();
    assert_ne!(report["verdict"], "missing", "{report:#}");
    for name in ["kernel", "rights", "layers", "sandbox", "store", "git"] {
        assert!(!check(&report, name)["found"].as_str().unwrap().is_empty());
    }
    for check in report["checks"].as_array().unwrap() {
        let whole = check["state"] == "ok";
        assert_eq!(check["consequence"].is_null(), whole, "{check:#}");
        assert_eq!(check["advice"].is_null(), whole, "{check:#}");
    }
    // What is tried works where all the other tests work.
    assert_eq!(check(&report, "sandbox")["state"], "ok");
    let rights = check(&report, "rights")["found"]
        .as_str()
        .unwrap()
        .to_owned();
    let expected = match sandbox.account().name.as_str() {
        "root" => "root, who needs no user namespace",
        _ if check(&report, "rights")["state"] == "limited" => "user namespace with one id",
        _ => "user namespace with 65537 user and 65537 group ids",
    };
    assert!(rights.starts_with(expected), "{rights}");
    // The same as text.
    let text = sandbox.run(&["doctor"]).stdout;
    for check in report["checks"].as_array().unwrap() {
        let name = check["name"].as_str().unwrap();
        let state = check["state"].as_str().unwrap();
        let line = text
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(line.is_some_and(|line| line.starts_with(state)), "{text}");
    }
}

fn nothing_is_left_behind(sandbox: &Sandbox) {
    sandbox.run(&["doctor"]);
    let names = std::fs::read_dir(sandbox.path("store")).unwrap();
    assert_eq!(names.count(), 0, "no store is made, and trials are removed");
    assert_eq!(sandbox.mounts(), Vec::<String>::new());
}

fn a_store_in_use_is_told(sandbox: &Sandbox) {
    sandbox.busybox();
    let report = sandbox.run(&["doctor", "--format", "json"]).json();
    let store = check(&report, "store")["found"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(store.contains("(in use)"), "{store}");
    sandbox.run(&["cache", "verify"]);
}

fn a_host_without_user_namespaces_is_told(sandbox: &Sandbox) {
    // Root without the right to mount, in a user namespace that may have no further ones.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set \
                  -sys_admin --inh-caps -sys_admin \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(sandbox.binary())
        .args(["--root", "/tmp", "doctor"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text.contains("limited  rights"), "{output:?}");
    assert!(text.contains("max_user_namespaces"), "{output:?}");
    // What is left could change the root directory, but for want of a device.
    assert!(text.contains("missing  sandbox"), "{output:?}");
    assert!(
        text.contains("no device can be made in a user namespace"),
        "{output:?}"
    );
}
