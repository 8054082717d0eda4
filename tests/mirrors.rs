//! How registries are reached: mirrors, certificates, plain HTTP, as the configuration says.

use std::fs;
use std::net::TcpListener;

use crate::support::{Registry, Sandbox, cases, certificates};

cases! { Root, User =>
    a_base_comes_from_the_first_mirror_that_has_it,
    what_no_mirror_has_comes_from_the_registry,
    a_registry_that_wants_a_certificate_gets_ours,
}

/// A host at which nobody answers.
fn nobody() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

fn host(registry: &Registry) -> String {
    registry.reference("").trim_end_matches('/').to_owned()
}

fn a_base_comes_from_the_first_mirror_that_has_it(sandbox: &Sandbox) {
    let (empty, full) = (Registry::start(), Registry::start());
    sandbox.busybox();
    sandbox.run(&["push", "busybox", &full.reference("hub/library/bb:1")]);
    sandbox.run(&["rmi", "busybox"]);
    // docker.io itself can't be reached here: whatever comes, comes from the mirror.
    sandbox.configure(&format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{}\", \"{}\", \"{}/hub\"]\n",
        nobody(),
        host(&empty),
        host(&full)
    ));
    sandbox.dockerfile("FROM bb:1\nRUN test -x /bin/sh\n");
    sandbox.steps(&[]);
    // It has the name that was asked for, wherever it came from.
    let images = sandbox.run(&["images"]).stdout;
    assert!(images.contains("bb") && !images.contains("hub"), "{images}");
}

fn what_no_mirror_has_comes_from_the_registry(sandbox: &Sandbox) {
    let (mirror, registry) = (Registry::start(), Registry::start());
    let name = registry.reference("bb:1");
    sandbox.busybox();
    sandbox.run(&["push", "busybox", &name]);
    sandbox.run(&["rmi", "busybox"]);
    sandbox.configure(&format!(
        "[registry.\"{}\"]\nmirrors = [\"{}\"]\n",
        host(&registry),
        host(&mirror)
    ));
    sandbox.run(&["pull", &name]);
    // Pushes go to the registry itself.
    sandbox.run(&["tag", &name, &registry.reference("bb:2")]);
    sandbox.run(&["push", &registry.reference("bb:2")]);
    let missing = sandbox.try_run(&["pull", &registry.reference("other:1")]);
    assert_eq!(missing.code(), 1, "{missing}");
    assert!(missing.stderr.contains(&host(&registry)), "{missing}");
}

fn a_registry_that_wants_a_certificate_gets_ours(sandbox: &Sandbox) {
    let directory = sandbox.path("home/pki");
    fs::create_dir_all(&directory).unwrap();
    certificates(&directory);
    sandbox.hand_over(&directory.join("client.key"));
    let registry = Registry::start_with_tls(&directory);
    let name = registry.reference("bb:1");
    sandbox.busybox();
    let push = || sandbox.try_run(&["push", "busybox", &name]);
    let path = |name: &str| directory.join(name).display().to_string();
    let entry = |lines: &str| format!("[registry.\"{}\"]\n{lines}", host(&registry));

    sandbox.configure("");
    assert_eq!(push().code(), 1, "nobody trusts its certificate");
    let trusted = entry(&format!("ca = [\"{}\"]\n", path("ca.pem")));
    sandbox.configure(&trusted);
    assert_eq!(push().code(), 1, "it does not know us");
    let known = format!(
        "{trusted}keypair = [{{key = \"{}\", cert = \"{}\"}}]\n",
        path("client.key"),
        path("client.pem")
    );
    sandbox.configure(&known);
    let pushed = push();
    assert_eq!(pushed.code(), 0, "{pushed}");

    sandbox.configure(&entry("ca = [\"/nonexistent/ca.pem\"]\n"));
    let failed = push();
    assert_eq!(failed.code(), 1, "{failed}");
    assert!(failed.stderr.contains("/nonexistent/ca.pem"), "{failed}");
}
