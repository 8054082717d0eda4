//! `strata login` and `logout`, against a registry that asks who we are.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use crate::support::{PASSWORD, Registry, Sandbox, cases};

cases! { Root, User =>
    a_login_is_checked_kept_and_used,
    a_wrong_password_is_not_kept,
    a_helper_keeps_what_the_file_says_it_should,
}

cases! { Root =>
    a_login_that_can_not_be_asked_for_says_which_flag_helps,
}

fn host(registry: &Registry) -> String {
    registry.reference("").trim_end_matches('/').to_owned()
}

fn a_login_is_checked_kept_and_used(sandbox: &Sandbox) {
    let registry = Registry::start_with_login("ali");
    let host = host(&registry);
    sandbox.busybox();
    let name = registry.reference("cave:1");
    let refused = sandbox.try_run(&["push", "busybox", &name]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains("log in"), "{refused}");

    let login = sandbox
        .strata()
        .args(["login", "--username", "ali", "--password-stdin", &host])
        .stdin(format!("{PASSWORD}\n"))
        .output();
    assert_eq!(login.code(), 0, "{login}");
    assert!(!login.stdout.contains(PASSWORD), "{login}");
    let file = sandbox.path("home/.docker/config.json");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    sandbox.run(&["push", "busybox", &name]);
    sandbox.run(&["rmi", "busybox"]);
    sandbox.dockerfile(&format!("FROM {name}\nRUN test -x /bin/sh\n"));
    sandbox.steps(&["--pull"]);

    sandbox.run(&["logout", &host]);
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept, json!({"auths": {}}));
    assert_eq!(sandbox.try_run(&["pull", &name]).code(), 1);
    let again = sandbox.run(&["logout", &host]);
    assert!(again.stdout.contains("not logged in"), "{again}");
}

fn a_wrong_password_is_not_kept(sandbox: &Sandbox) {
    let registry = Registry::start_with_login("ali");
    let login = sandbox
        .strata()
        .args(["login", "-u", "ali", "--password-stdin", &host(&registry)])
        .stdin("open barley")
        .output();
    assert_eq!(login.code(), 1, "{login}");
    assert!(login.stderr.contains("refused access"), "{login}");
    assert!(!login.stderr.contains("barley"), "{login}");
    assert!(!sandbox.path("home/.docker").exists());
}

fn a_helper_keeps_what_the_file_says_it_should(sandbox: &Sandbox) {
    let registry = Registry::start_with_login("ali");
    let host = host(&registry);
    // A helper that keeps one entry in a file.
    let bin = sandbox.path("home/bin");
    fs::create_dir_all(&bin).unwrap();
    let helper = bin.join("docker-credential-jar");
    let kept = sandbox.path("home/jar");
    let script = format!(
        "#!/bin/sh\njar='{}'\ncase $1 in\nstore) cat > \"$jar\" ;;\nget) cat \"$jar\" 2>/dev/null || \
         {{ echo credentials not found in native keychain; exit 1; }} ;;\nerase) rm -f \"$jar\" \
         ;;\nesac\n",
        kept.display()
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let file = sandbox.path("home/.docker/config.json");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = json!({"credHelpers": {(host.as_str()): "jar"}}).to_string();
    fs::write(&file, &text).unwrap();
    sandbox.hand_over(&sandbox.path("home"));

    let path = format!("{}:/usr/bin:/bin", bin.display());
    let strata = |args: &[&str]| sandbox.strata().env("PATH", &path).args(args);
    let login = strata(&["login", "-u", "ali", "--password-stdin", &host])
        .stdin(PASSWORD)
        .output();
    assert_eq!(login.code(), 0, "{login}");
    assert!(login.stdout.contains("docker-credential-jar"), "{login}");
    let entry: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let expected = json!({"ServerURL": host, "Username": "ali", "Secret": PASSWORD});
    assert_eq!(entry, expected);
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "no secret in it");
    sandbox.busybox();
    let pushed = strata(&["push", "busybox", &registry.reference("cave:1")]).output();
    assert_eq!(pushed.code(), 0, "{pushed}");
    let logout = strata(&["logout", &host]).output();
    assert!(logout.stdout.contains("docker-credential-jar"), "{logout}");
    assert!(!kept.exists());
}

fn a_login_that_can_not_be_asked_for_says_which_flag_helps(sandbox: &Sandbox) {
    for (args, part) in [
        (&["login"] as &[_], "--username"),
        (&["login", "-u", "x"], "--password-stdin"),
        (&["login", "--password-stdin"], "--username"),
        (&["login", "-u", "a:b", "-p", "x"], "colon"),
        (&["login", "https://u@h/x"], "not a registry"),
    ] {
        let output = sandbox.try_run(args);
        assert_eq!(output.code(), 2, "{output}");
        assert!(output.stderr.contains(part), "{output}");
    }
}
