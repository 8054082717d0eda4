//! Registries that want tokens of a token server, which run out, are narrow, or are not believed.

use std::fs;

use base64::Engine as _;
use serde_json::json;

use crate::support::token::{self, Given, Manner};
use crate::support::{Proxy, Registry, Sandbox, cases};

cases! { Root, User =>
    a_public_image_is_pulled_with_an_anonymous_token,
    a_token_that_runs_out_under_way_is_renewed,
}

cases! { Root =>
    a_push_asks_for_its_scope_with_the_password,
    an_identity_token_is_exchanged,
    a_mount_asks_for_both_repositories_and_does_without_one_that_is_hidden,
    a_token_that_is_not_believed_ends_in_an_error,
    who_may_not_push_is_told_so,
}

const QUICK: &str = "[transfer]\nretry-pause = \"1ms\"\n";

/// Logs in by the file that Docker has.
fn credentials(sandbox: &Sandbox, host: &str, entry: &serde_json::Value) {
    let directory = sandbox.path("home/.docker");
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("config.json");
    let text = json!({ "auths": { host: entry } }).to_string();
    fs::write(&file, text).unwrap();
    sandbox.hand_over(&file);
}

fn password(sandbox: &Sandbox, proxy: &Proxy, login: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(login);
    credentials(sandbox, &proxy.host(), &json!({ "auth": auth }));
}

/// An image of several layers in the registry.
fn pushed(sandbox: &Sandbox, registry: &Registry) {
    sandbox
        .write("a", "a".repeat(5000))
        .write("b", "b")
        .write("c", "c")
        .dockerfile("FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY c /c\n");
    sandbox.steps(&["-t", "app:1"]);
    sandbox.run(&["push", "app:1", &registry.reference("team/app:1")]);
}

fn fresh(sandbox: &Sandbox) -> Sandbox {
    let fresh = Sandbox::new(sandbox.who()).unwrap();
    fresh.configure(QUICK);
    fresh
}

fn take(given: &Given) -> Vec<(String, String)> {
    std::mem::take(&mut given.lock().unwrap())
}

fn pair(scope: &str, how: &str) -> (String, String) {
    (scope.to_owned(), how.to_owned())
}

fn a_public_image_is_pulled_with_an_anonymous_token(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    let (proxy, given) = token::start(registry.port(), Manner::default());
    let fresh = fresh(sandbox);
    fresh.run(&["pull", &proxy.reference("team/app:1")]);
    // One for all: five requests, four of them at a time.
    assert_eq!(
        take(&given),
        [pair("repository:team/app:pull", "anonymous")]
    );
    fresh.run(&["cache", "verify", "--deep"]);
}

fn a_token_that_runs_out_under_way_is_renewed(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    for (uses, expires_in) in [
        (1, None),
        (2, Some(3600)),
        (3, Some(1)),
        (usize::MAX, Some(0)),
    ] {
        let manner = Manner {
            uses,
            expires_in,
            ..Manner::default()
        };
        let (proxy, given) = token::start(registry.port(), manner);
        let fresh = fresh(sandbox);
        // Such a token would be snatched away by the next request.
        fresh.configure(&format!("{QUICK}blobs-at-once = 1\n"));
        let pulled = fresh.try_run(&["pull", &proxy.reference("team/app:1")]);
        assert_eq!(pulled.code(), 0, "{uses}: {pulled}");
        let count = take(&given).len();
        assert!(uses > 3 || count >= 2, "{uses}: {count}");
        password(&fresh, &proxy, "ali:open sesame");
        let name = proxy.reference(&format!("copy{}:1", uses.min(9)));
        let pushed = fresh.try_run(&["push", &proxy.reference("team/app:1"), &name]);
        assert_eq!(pushed.code(), 0, "{uses}: {pushed}");
    }
}

fn a_push_asks_for_its_scope_with_the_password(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    let (proxy, given) = token::start(registry.port(), Manner::default());
    password(sandbox, &proxy, "ali:open sesame");
    let pushed = sandbox.run(&["push", "app:1", &proxy.reference("mine:1")]);
    assert!(!pushed.stderr.contains("sesame"), "{pushed}");
    assert_eq!(
        take(&given),
        [pair("repository:mine:pull,push", "password")]
    );
    password(sandbox, &proxy, "ali:open barley");
    let refused = sandbox.try_run(&["push", "app:1", &proxy.reference("mine:2")]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(refused.stderr.contains(&proxy.host()), "{refused}");
    assert!(!refused.stderr.contains("barley"), "{refused}");
}

fn an_identity_token_is_exchanged(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    let (proxy, given) = token::start(registry.port(), Manner::default());
    credentials(
        sandbox,
        &proxy.host(),
        &json!({ "identitytoken": "refresh me" }),
    );
    sandbox.run(&["push", "app:1", &proxy.reference("mine:1")]);
    assert_eq!(
        take(&given),
        [pair("repository:mine:pull,push", "identity")]
    );
    credentials(sandbox, &proxy.host(), &json!({ "identitytoken": "stale" }));
    let refused = sandbox.try_run(&["push", "app:1", &proxy.reference("mine:2")]);
    assert_eq!(refused.code(), 1, "{refused}");
    assert!(!refused.stderr.contains("stale"), "{refused}");
}

fn a_mount_asks_for_both_repositories_and_does_without_one_that_is_hidden(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    for hidden in [false, true] {
        let fresh = fresh(sandbox);
        // Pulled with no questions asked: who may read it is another matter.
        let plain = Proxy::start(registry.port());
        let manner = Manner {
            hidden: if hidden {
                vec!["team/app".to_owned()]
            } else {
                Vec::new()
            },
            ..Manner::default()
        };
        let (proxy, given) = token::start(registry.port(), manner);
        let name = proxy.reference("team/app:1");
        if hidden {
            // It is known to be there from a time when it was not hidden.
            fresh.run(&["pull", &plain.reference("team/app:1")]);
            fresh.run(&["tag", &plain.reference("team/app:1"), &name]);
        } else {
            fresh.run(&["pull", &name]);
        }
        password(&fresh, &proxy, "ali:open sesame");
        take(&given);
        proxy.log();
        let target = proxy.reference(&format!("mine{}:1", u8::from(hidden)));
        let pushed = fresh.try_run(&["push", &name, &target]);
        assert_eq!(pushed.code(), 0, "{pushed}");
        let log = proxy.log();
        let put = log
            .iter()
            .filter(|asked| asked.is("PUT", "/blobs/uploads/"));
        // What was pulled leaves as it came: its config is a blob of that repository, too.
        assert_eq!(put.count(), if hidden { 4 } else { 0 });
        let asked = take(&given);
        let source = pair("repository:team/app:pull", "password");
        assert!(asked.contains(&source), "{asked:?}");
    }
}

fn a_token_that_is_not_believed_ends_in_an_error(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    let manner = Manner {
        believes: false,
        ..Manner::default()
    };
    let (proxy, given) = token::start(registry.port(), manner);
    let fresh = fresh(sandbox);
    let name = proxy.reference("team/app:1");
    let refused = fresh.try_run(&["pull", &name]);
    assert_eq!(refused.code(), 1, "{refused}");
    for part in [&name, "a token is wanted", "log in first"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    // Asked, asked with a token, and given up.
    assert_eq!(take(&given).len(), 1);
    let manifests = proxy.log();
    let manifests = manifests
        .iter()
        .filter(|asked| asked.path.contains("/manifests/"));
    assert_eq!(manifests.count(), 2);
}

fn who_may_not_push_is_told_so(sandbox: &Sandbox) {
    let registry = Registry::start();
    pushed(sandbox, &registry);
    let (proxy, _) = token::start(registry.port(), Manner::default());
    let refused = sandbox.try_run(&["push", "app:1", &proxy.reference("mine:1")]);
    assert_eq!(refused.code(), 1, "{refused}");
    for part in ["mine", "refused access", "strata login"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
}
