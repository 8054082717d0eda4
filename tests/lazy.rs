//! Base images of which nothing is read stay where they are.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Harm, Proxy, Registry, Reply, Sandbox, cases, run_quietly, wait_until};

cases! { Root, User =>
    a_base_that_nothing_reads_is_not_fetched,
    an_image_on_an_absent_base_is_mounted_in_its_registry,
    an_image_on_an_absent_base_is_passed_on_to_another_registry,
    what_needs_the_bytes_fetches_them,
    an_absent_base_is_told_of_and_survives_pruning,
    a_kill_at_any_place_leaves_an_absent_base_as_it_was,
    a_killed_push_of_an_absent_base_is_begun_again,
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

/// A build onto the absent base that is pushed beside it, as `number`.
fn pushing(sandbox: &Sandbox, place: &Place, number: usize) -> Vec<String> {
    sandbox
        .write("mine", format!("{number}"))
        .dockerfile(&format!(
            "FROM {}\nCOPY --link mine /mine\nENV number={number}\n",
            place.base()
        ));
    let to = place.home.reference(&format!("out:{number}"));
    let context = sandbox.context();
    let output = format!("type=registry,name={to}");
    let stored = "type=image,name=app:1";
    let words = ["build", "--progress", "json", "-o", &output, "-o", stored];
    let words = words.into_iter().chain([context.to_str().unwrap()]);
    words.map(str::to_owned).collect()
}

/// After a kill: the store is sound, the same build does what it should, and the base stays where it is.
fn finishes(sandbox: &Sandbox, place: &Place, number: usize, case: &str) {
    wait_until("the children are gone", || sandbox.processes().is_empty());
    let verified = sandbox.try_run(&["cache", "verify", "--deep"]);
    assert_eq!(verified.code(), 0, "{case}: {verified}");
    let built = sandbox
        .strata()
        .args(pushing(sandbox, place, number))
        .output();
    assert_eq!(built.code(), 0, "{case}: {built}");
    assert!(place.fetched() < SMALL, "{case}");
    let base = manifest(&place.registries.0, "team/base:1");
    let pushed = manifest(&place.registries.0, &format!("out:{number}"));
    let layers = |manifest: &Value| manifest["layers"].as_array().unwrap().clone();
    let (base, pushed) = (layers(&base), layers(&pushed));
    assert_eq!(pushed[..base.len()], base, "{case}");
    assert_eq!(pushed.len(), base.len() + 1, "{case}");
    let verified = sandbox.try_run(&["cache", "verify", "--deep"]);
    assert_eq!(verified.code(), 0, "{case}: {verified}");
}

fn a_kill_at_any_place_leaves_an_absent_base_as_it_was(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let points = [
        "scratch.made:abort",
        "layer.renamed:abort",
        "layer.published:abort",
        "blob.renamed:abort",
        "blob.published:abort",
        "image.inserted:abort",
        "image.published:abort",
        "sync.before:abort",
        "sync.flushed:abort",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let arguments = pushing(sandbox, &place, number);
        let killed = sandbox
            .strata()
            .args(arguments)
            .env("STRATA_FAILPOINT", point);
        let killed = killed.output();
        assert_eq!(killed.code(), -9, "{point}: {killed}");
        finishes(sandbox, &place, number, point);
    }
    // Of what was built last all is there once it is needed.
    let image = sandbox.saved("app:1");
    assert_eq!(image.tree().at("noise").line(), "f 0644 0:0");
    assert_eq!(image.tree().text("mine"), "8");
}

fn a_killed_push_of_an_absent_base_is_begun_again(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    // The mount of the base, the upload of the layer, the manifest: what comes next waits until the kill.
    for (number, (method, part)) in [
        ("POST", "from=team%2Fbase"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
    ]
    .into_iter()
    .enumerate()
    {
        sandbox.configure("[transfer]\nretry-pause = \"1h\"\n");
        place.home.mend();
        place.home.harm(usize::MAX, method, part, Harm::HangUp);
        place.home.log();
        let build = sandbox.strata().args(pushing(sandbox, &place, number));
        let build = build.spawn();
        wait_until("it is being pushed", || {
            place.home.log().iter().any(|asked| asked.is(method, part))
        });
        build.signal(Signal::SIGKILL);
        assert_eq!(build.wait().code(), -9);
        sandbox.configure("[transfer]\nretry-pause = \"1ms\"\n");
        place.home.mend();
        place.home.log();
        finishes(sandbox, &place, number, part);
    }
}
