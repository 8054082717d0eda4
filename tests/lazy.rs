//! Base images of which nothing is read stay where they are.

use std::fs;

use serde_json::Value;

use crate::support::{Harm, Proxy, Registry, Reply, Sandbox, cases, run_quietly};

cases! { Root, User =>
    a_base_that_nothing_reads_is_not_fetched,
    an_image_on_an_absent_base_is_mounted_in_its_registry,
    an_image_on_an_absent_base_is_passed_on_to_another_registry,
    what_needs_the_bytes_fetches_them,
    an_absent_base_is_told_of_and_survives_pruning,
}

cases! { Root =>
    a_base_that_is_gone_is_told_by_name_and_host,
}

/// Two registries behind proxies: `base:1` with 300 kB that do not compress is in the first.
struct Place {
    home: Proxy,
    away: Proxy,
    registries: (Registry, Registry),
}

impl Place {
    fn new(sandbox: &Sandbox) -> Self {
        let registries = (Registry::start(), Registry::start());
        let maker = Sandbox::new(sandbox.who()).unwrap();
        maker.busybox();
        let mut noise = Vec::new();
        let mut state = 1_u32;
        for _ in 0..300_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.push(state.to_be_bytes()[0]);
        }
        maker
            .write("noise", noise)
            .dockerfile("FROM busybox\nCOPY noise /noise\nENV from=base\n");
        maker.steps(&["-t", "base:1"]);
        maker.run(&["push", "base:1", &registries.0.reference("team/base:1")]);
        let quick = "[transfer]\nretry-pause = \"1ms\"\n";
        sandbox.configure(quick);
        Self {
            home: Proxy::start(registries.0.port()),
            away: Proxy::start(registries.1.port()),
            registries,
        }
    }

    fn base(&self) -> String {
        self.home.reference("team/base:1")
    }

    /// Builds an image that reads nothing of the base.
    fn build(&self, sandbox: &Sandbox) {
        sandbox.write("mine", "mine").dockerfile(&format!(
            "FROM {}\nENV more=1\nLABEL a=b\nCOPY --link mine /mine\nCMD [\"x\"]\n",
            self.base()
        ));
        sandbox.steps(&["-t", "app:1"]);
    }

    /// Bytes of blobs that the first registry has sent since the last call.
    fn fetched(&self) -> usize {
        let log = self.home.log();
        let blobs = log.iter().filter(|asked| asked.is("GET", "/blobs/"));
        blobs.map(|asked| asked.sent).sum()
    }
}

/// As much as a config may have.
const SMALL: usize = 10_000;

fn manifest(registry: &Registry, name: &str) -> Value {
    let name = registry.skopeo(name);
    let text = run_quietly("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
    serde_json::from_str(&text).unwrap()
}

fn a_base_that_nothing_reads_is_not_fetched(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    place.build(sandbox);
    assert!(place.fetched() < SMALL);
    // Again: nobody is asked at all.
    assert_eq!(sandbox.steps(&["-t", "app:1"]).ran(), Vec::<&str>::new());
    assert!(place.home.log().is_empty());
    let inspected = sandbox.run(&["inspect", "app:1"]).json();
    assert_eq!(
        inspected[0]["RootFS"]["Layers"].as_array().unwrap().len(),
        3
    );
    assert!(sandbox.run(&["history", "app:1"]).stdout.contains("LABEL"));
    assert!(place.home.log().is_empty());
    // A step that reads it has it fetched.
    sandbox.dockerfile(&format!("FROM {}\nRUN test -s /noise\n", place.base()));
    sandbox.steps(&[]);
    assert!(place.fetched() > 300_000);
}

fn an_image_on_an_absent_base_is_mounted_in_its_registry(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    place.build(sandbox);
    place.fetched();
    sandbox.run(&["push", "app:1", &place.home.reference("other/app:1")]);
    let log = place.home.log();
    let mounted = log
        .iter()
        .filter(|asked| asked.is("POST", "from=team%2Fbase"));
    assert_eq!(mounted.count(), 2);
    let moved: usize = log.iter().map(|asked| asked.sent + asked.received).sum();
    assert!(moved < 2 * SMALL, "{moved}");
    let base = manifest(&place.registries.0, "team/base:1");
    let pushed = manifest(&place.registries.0, "other/app:1");
    assert_eq!(pushed["layers"][1], base["layers"][1]);
    // By the build itself, too.
    sandbox.steps(&[
        "-o",
        &format!("type=registry,name={}", place.home.reference("third:1")),
    ]);
    assert!(place.fetched() < SMALL);
    assert_eq!(
        manifest(&place.registries.0, "third:1")["layers"],
        pushed["layers"]
    );
}

fn an_image_on_an_absent_base_is_passed_on_to_another_registry(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    place.build(sandbox);
    place.fetched();
    let before = blobs(sandbox);
    // The source fails in the middle, the target loses a connection.
    place
        .home
        .harm(1, "GET", "/blobs/", Harm::Cut(crate::support::At::Middle));
    place
        .away
        .harm(1, "PUT", "/blobs/uploads/", Harm::LoseAnswer);
    sandbox.run(&["push", "app:1", &place.away.reference("app:1")]);
    assert!(place.fetched() > 300_000);
    // Nothing of it was kept but what the image's own layer was packed into.
    assert_eq!(blobs(sandbox), before + 1);
    let whole = place.registries.1.skopeo("app:1");
    let to = format!("dir:{}", sandbox.fresh_output("copy").display());
    run_quietly(
        "skopeo",
        &["copy", "--quiet", "--src-tls-verify=false", &whole, &to],
    );
}

/// Blobs that the store has.
fn blobs(sandbox: &Sandbox) -> usize {
    let directory = sandbox.path("store/blobs/sha256");
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn what_needs_the_bytes_fetches_them(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    place.build(sandbox);
    place.fetched();
    let image = sandbox.saved("app:1");
    assert_eq!(image.tree().at("noise").line(), "f 0644 0:0");
    assert_eq!(image.tree().text("mine"), "mine");
    assert!(place.fetched() > 300_000);
    // It was kept.
    sandbox.saved("app:1");
    assert_eq!(place.fetched(), 0);
    for (output, path) in [
        ("tar", "t.tar"),
        ("local", "tree"),
        ("oci", "o.tar"),
        ("docker", "d.tar"),
    ] {
        let fresh = Sandbox::new(sandbox.who()).unwrap();
        place.build(&fresh);
        place.fetched();
        let to = fresh.path("out").join(path);
        fresh.steps(&["-o", &format!("type={output},dest={}", to.display())]);
        assert!(place.fetched() > 300_000, "{output}");
    }
    let fresh = Sandbox::new(sandbox.who()).unwrap();
    place.build(&fresh);
    let ran = fresh.run(&["run", "app:1", "/bin/sh", "-c", "wc -c < /noise; cat /mine"]);
    assert_eq!(ran.stdout, "300000\nmine");
    fresh.run(&["cache", "verify", "--deep"]);
}

fn an_absent_base_is_told_of_and_survives_pruning(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    place.build(sandbox);
    let verified = sandbox.run(&["cache", "verify", "--deep"]);
    assert!(
        verified.stdout.contains("2 layers in registries only"),
        "{verified}"
    );
    sandbox.run(&["cache", "du"]);
    sandbox.run(&["rmi", &place.base()]);
    sandbox.run(&["cache", "prune", "--all", "--force"]);
    place.fetched();
    let image = sandbox.saved("app:1");
    assert!(image.tree().has("noise"));
    assert!(place.fetched() > 300_000);
    let verified = sandbox.run(&["cache", "verify", "--format", "json"]).json();
    assert_eq!(
        (&verified["remote"], &verified["lost"]),
        (&0.into(), &0.into())
    );
    sandbox.run(&["rmi", "app:1"]);
    sandbox.run(&["cache", "prune", "--all", "--force"]);
    assert_eq!(sandbox.run(&["images", "--all", "-q"]).stdout, "");
}

fn a_base_that_is_gone_is_told_by_name_and_host(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    place.build(sandbox);
    place
        .home
        .harm(usize::MAX, "GET", "/blobs/", Harm::Answer(Reply::new(404)));
    let archive = sandbox.fresh_output("tar");
    let saved = sandbox.try_run(&["save", "-o", archive.to_str().unwrap(), "app:1"]);
    let pushed = sandbox.try_run(&["push", "app:1", &place.away.reference("app:1")]);
    let ran = sandbox.try_run(&["run", "app:1", "/bin/true"]);
    for failed in [saved, pushed, ran] {
        assert_ne!(failed.code(), 0, "{failed}");
        for part in ["sha256:", &place.home.host()] {
            assert!(failed.stderr.contains(part), "{failed}");
        }
    }
    assert!(!archive.exists());
    sandbox.run(&["cache", "verify", "--deep"]);
}
