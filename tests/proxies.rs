//! The way out of a company's network: the proxies that the environment names.

use std::fs;

use crate::support::{Output, Registry, Sandbox, Tunnel, cases, certificates};

cases! { Root, User =>
    a_registry_is_reached_through_the_proxy_for_https,
    a_registry_is_reached_through_the_proxy_for_http,
}

cases! { Root =>
    hosts_of_no_proxy_and_loopback_are_reached_directly,
    a_proxy_that_refuses_is_named,
}

/// A name that nothing resolves: only the proxy knows the way.
const HOST: &str = "registry.invalid:5443";

fn run(sandbox: &Sandbox, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let strata = sandbox.strata().args(args);
    let set = environment.iter();
    set.fold(strata, |strata, (name, value)| strata.env(name, value))
        .output()
}

/// A registry that calls itself [`HOST`] and speaks TLS.
fn with_tls(sandbox: &Sandbox) -> Registry {
    let directory = sandbox.path("home/pki");
    fs::create_dir_all(&directory).unwrap();
    certificates(&directory);
    sandbox.hand_over(&directory.join("client.key"));
    let path = |name: &str| directory.join(name).display().to_string();
    sandbox.configure(&format!(
        "[transfer]\nretry-pause = \"1ms\"\n[registry.\"{HOST}\"]\nca = [\"{}\"]\n\
         keypair = [{{key = \"{}\", cert = \"{}\"}}]\n",
        path("ca.pem"),
        path("client.key"),
        path("client.pem")
    ));
    Registry::start_with_tls(&directory)
}

fn a_registry_is_reached_through_the_proxy_for_https(sandbox: &Sandbox) {
    let registry = with_tls(sandbox);
    sandbox.busybox();
    let name = format!("{HOST}/bb:1");
    for (variable, login) in [
        ("HTTPS_PROXY", ""),
        ("https_proxy", ""),
        ("ALL_PROXY", ""),
        ("HTTPS_PROXY", "me:pw@"),
    ] {
        let wanted = (!login.is_empty()).then_some("Basic bWU6cHc=");
        let tunnel = Tunnel::start(registry.port(), wanted);
        let proxy = format!("http://{login}{}", tunnel.host());
        for args in [["push", "busybox", &name].as_slice(), &["pull", &name]] {
            let output = run(sandbox, args, &[(variable, &proxy)]);
            assert_eq!(output.code(), 0, "{variable}: {output}");
            let log = tunnel.log();
            assert!(!log.is_empty(), "{variable}: {output}");
            for line in log {
                assert!(line.starts_with(&format!("CONNECT {HOST} ")), "{line}");
            }
        }
    }
}

fn a_registry_is_reached_through_the_proxy_for_http(sandbox: &Sandbox) {
    let registry = Registry::start();
    sandbox.busybox();
    sandbox.run(&["push", "busybox", &registry.reference("bb:1")]);
    sandbox.configure("[registry.\"plain.invalid:5000\"]\nhttp = true\n");
    let tunnel = Tunnel::start(registry.port(), None);
    let proxy = format!("http://{}", tunnel.host());
    let pulled = run(
        sandbox,
        &["pull", "plain.invalid:5000/bb:1"],
        &[("HTTP_PROXY", &proxy)],
    );
    assert_eq!(pulled.code(), 0, "{pulled}");
    assert!(
        tunnel
            .log()
            .iter()
            .all(|line| line.contains("plain.invalid:5000"))
    );
}

fn hosts_of_no_proxy_and_loopback_are_reached_directly(sandbox: &Sandbox) {
    let registry = with_tls(sandbox);
    let tunnel = Tunnel::start(registry.port(), None);
    let proxy = format!("http://{}", tunnel.host());
    sandbox.busybox();
    for list in [
        "registry.invalid",
        ".invalid",
        "other.example,registry.invalid",
        "*",
    ] {
        let set = [("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", list)];
        let failed = run(sandbox, &["pull", &format!("{HOST}/bb:1")], &set);
        assert_eq!(failed.code(), 1, "{list}: {failed}");
        assert!(failed.stderr.contains(HOST), "{list}: {failed}");
        assert_eq!(tunnel.log(), Vec::<String>::new(), "{list}");
    }
    let near = Registry::start();
    let set = [
        ("HTTPS_PROXY", proxy.as_str()),
        ("HTTP_PROXY", proxy.as_str()),
    ];
    let pushed = run(sandbox, &["push", "busybox", &near.reference("bb:1")], &set);
    assert_eq!(pushed.code(), 0, "{pushed}");
    assert_eq!(tunnel.log(), Vec::<String>::new());
}

fn a_proxy_that_refuses_is_named(sandbox: &Sandbox) {
    let registry = with_tls(sandbox);
    let tunnel = Tunnel::start(registry.port(), Some("Basic bWU6cHc="));
    let proxy = format!("http://me:wrong@{}", tunnel.host());
    let failed = run(
        sandbox,
        &["pull", &format!("{HOST}/bb:1")],
        &[("HTTPS_PROXY", &proxy)],
    );
    assert_eq!(failed.code(), 1, "{failed}");
    for part in [HOST, "proxy", "HTTPS_PROXY"] {
        assert!(
            failed.stderr.to_lowercase().contains(&part.to_lowercase()),
            "{part}: {failed}"
        );
    }
    assert!(!failed.stderr.contains("wrong"), "{failed}");
}
