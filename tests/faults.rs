//! Registries over a bad network: whatever happens, nothing wrong is kept, what can be had is had, and
//! errors say what failed where.

use std::sync::Arc;

use serde_json::Value;

use crate::support::{
    At, Harm, Output, Proxy, Random, Registry, Reply, Sandbox, cases, run_quietly,
};

cases! { Root, User =>
    a_pull_that_fails_leaves_no_name_and_moves_none,
    a_build_whose_base_does_not_arrive_leaves_no_name,
    a_redirect_takes_no_authorization_to_another_host,
}

cases! { Root =>
    a_pull_goes_through_once_the_network_recovers,
    a_pull_that_can_not_be_says_which_blob_and_host,
    a_broken_download_is_resumed_or_begun_anew,
    a_push_goes_through_once_the_network_recovers,
    a_push_that_can_not_be_says_which_blob_and_host,
    a_push_in_pieces_outlives_what_happens_to_one,
    a_mount_that_fails_becomes_an_upload,
    a_mirror_that_fails_under_way_is_left_for_the_next,
    no_more_blobs_are_under_way_than_allowed,
}

/// Pauses too short to notice; everything else as it is.
const QUICK: &str = "[transfer]\nretry-pause = \"1ms\"\n";

/// A registry with the image `app:1`: two layers, one of which nothing compresses, and a proxy before it.
struct Place {
    registry: Registry,
    proxy: Proxy,
    /// Of the larger layer.
    layer: String,
    config: String,
}

impl Place {
    fn new(sandbox: &Sandbox) -> Self {
        let registry = Registry::start();
        let proxy = Proxy::start(registry.port());
        sandbox
            .write("big", noise(200_000))
            .write("small", "small")
            .dockerfile("FROM scratch\nCOPY big /big\nCOPY small /small\n");
        sandbox.steps(&["-t", "app:1"]);
        sandbox.run(&["push", "app:1", &registry.reference("app:1")]);
        let manifest = manifest(&registry, "app:1");
        Self {
            layer: digest(&manifest["layers"][0]),
            config: digest(&manifest["config"]),
            registry,
            proxy,
        }
    }

    fn name(&self) -> String {
        self.proxy.reference("app:1")
    }

    /// Where requests for these things go.
    fn path(&self, what: &str) -> String {
        match what {
            "manifest" => "/manifests/1".to_owned(),
            "config" => format!("/blobs/{}", self.config),
            "layer" => format!("/blobs/{}", self.layer),
            other => panic!("{other}"),
        }
    }
}

/// A manifest as the registry has it.
fn manifest(registry: &Registry, name: &str) -> Value {
    let name = registry.skopeo(name);
    let text = run_quietly("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
    serde_json::from_str(&text).unwrap()
}

fn digest(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

/// Bytes that no compressor makes smaller.
fn noise(count: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    (0..count)
        .map(|_| u8::try_from(random.below(256)).unwrap())
        .collect()
}

/// A store of its own.
fn fresh(sandbox: &Sandbox) -> Sandbox {
    let fresh = Sandbox::new(sandbox.who()).unwrap();
    fresh.configure(QUICK);
    fresh
}

/// Nothing of the store is wrong, and it has these images.
fn assert_sound(sandbox: &Sandbox, images: usize, case: &str) {
    let verified = sandbox.try_run(&["cache", "verify", "--deep"]);
    assert_eq!(verified.code(), 0, "{case}: {verified}");
    let listed = sandbox.run(&["images", "--format", "json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), images, "{case}: {listed}");
}

fn pull(sandbox: &Sandbox, place: &Place) -> Output {
    sandbox.try_run(&["pull", &place.name()])
}

fn busy(status: u16) -> Harm {
    Harm::Answer(Reply::new(status).header("Retry-After", "0"))
}

fn change(change: impl Fn(&mut Reply) + Send + Sync + 'static) -> Harm {
    Harm::Change(Arc::new(change))
}

/// What may happen to an answer of any kind.
fn harms() -> Vec<(&'static str, Harm)> {
    vec![
        ("no answer", Harm::HangUp),
        ("nothing of the head", Harm::CutHead(0)),
        ("a piece of the status line", Harm::CutHead(7)),
        ("a piece of the headers", Harm::CutHead(40)),
        ("all headers, but not their end", Harm::CutHead(usize::MAX)),
        ("no byte of the body", Harm::Cut(At::Byte(0))),
        ("one byte", Harm::Cut(At::Byte(1))),
        ("half", Harm::Cut(At::Middle)),
        ("all but one byte", Harm::Cut(At::Last(1))),
        ("another first byte", Harm::Flip(At::Byte(0))),
        ("another byte in the middle", Harm::Flip(At::Middle)),
        ("another last byte", Harm::Flip(At::Last(1))),
        ("408", busy(408)),
        ("429", busy(429)),
        (
            "429 with a date",
            Harm::Answer(Reply::new(429).header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")),
        ),
        ("500", busy(500)),
        (
            "502 in HTML",
            Harm::Answer(
                Reply::new(502)
                    .header("Content-Type", "text/html")
                    .body("<html>"),
            ),
        ),
        ("503 without a word", Harm::Answer(Reply::new(503))),
        ("504", busy(504)),
        ("too short a length", Harm::Length(-10)),
        ("compressed under way", Harm::Gzip),
        ("slow", Harm::Drip),
        (
            "a page of somebody else's",
            change(|reply| reply.body = b"<html>log in</html>".to_vec()),
        ),
    ]
}

fn a_pull_goes_through_once_the_network_recovers(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let mut cases = Vec::new();
    for what in ["manifest", "config", "layer"] {
        cases.extend(harms().into_iter().map(|(name, harm)| (what, name, harm)));
    }
    // The connection stays open, and what is missing never comes.
    cases.push(("layer", "too long a length", Harm::Length(10)));
    cases.push(("config", "too long a length", Harm::Length(10)));
    for (what, name, harm) in cases {
        let case = format!("{what}: {name}");
        let fresh = fresh(sandbox);
        place.proxy.mend();
        place.proxy.harm(1, "GET", &place.path(what), harm);
        let pulled = pull(&fresh, &place);
        // A page that is no manifest has no digest to be held against: that is told, not tried again.
        if what == "manifest" && pulled.code() != 0 {
            assert!(
                name.contains("page") || name.contains("byte"),
                "{case}: {pulled}"
            );
            assert_sound(&fresh, 0, &case);
            pull(&fresh, &place).success();
        } else {
            assert_eq!(pulled.code(), 0, "{case}: {pulled}");
        }
        assert_sound(&fresh, 1, &case);
    }
}

fn a_pull_that_can_not_be_says_which_blob_and_host(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let elsewhere = place.proxy.host();
    let loops = Reply::new(307).header("Location", format!("http://{elsewhere}/round"));
    let cases = [
        ("layer", Harm::HangUp, "no answer"),
        ("layer", Harm::CutHead(30), "no answer"),
        ("layer", Harm::Cut(At::Byte(0)), "no answer"),
        ("layer", Harm::Flip(At::Middle), "what"),
        ("config", Harm::Flip(At::Last(1)), "what"),
        ("layer", busy(429), "429"),
        ("layer", busy(503), "503"),
        ("layer", Harm::Answer(Reply::new(404)), "not found"),
        ("layer", Harm::Answer(Reply::new(403)), "refused"),
        ("layer", Harm::Answer(loops), "redirects"),
        (
            "layer",
            change(|reply| reply.body.extend(b"more")),
            "more than",
        ),
        ("manifest", Harm::Flip(At::Middle), "what"),
        ("manifest", Harm::HangUp, "no answer"),
        ("manifest", busy(500), "500"),
    ];
    for (what, harm, word) in cases {
        let case = format!("{what}: {word}");
        let fresh = fresh(sandbox);
        place.proxy.mend();
        place
            .proxy
            .harm(usize::MAX, "GET", &place.path(what), harm.clone());
        place.proxy.harm(usize::MAX, "GET", "/round", harm);
        let failed = pull(&fresh, &place);
        assert_eq!(failed.code(), 1, "{case}: {failed}");
        let thing = match what {
            "layer" => &place.layer,
            "config" => &place.config,
            _ => "manifest",
        };
        for part in [thing, &place.proxy.host(), word, "help:"] {
            assert!(
                failed.stderr.contains(part),
                "{case}: no `{part}` in {failed}"
            );
        }
        assert_sound(&fresh, 0, &case);
    }
}

fn a_broken_download_is_resumed_or_begun_anew(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    for (case, second, whole) in [
        ("resumed", None, false),
        ("ranges are ignored", Some(Harm::IgnoreRange), true),
        ("another range", Some(Harm::WrongRange), true),
        ("broken again", Some(Harm::Cut(At::Middle)), false),
    ] {
        let fresh = fresh(sandbox);
        place.proxy.mend();
        let path = place.path("layer");
        place.proxy.harm(1, "GET", &path, Harm::Cut(At::Middle));
        if let Some(second) = second {
            place.proxy.harm(1, "GET", &path, second);
        }
        place.proxy.log();
        let pulled = pull(&fresh, &place);
        assert_eq!(pulled.code(), 0, "{case}: {pulled}");
        assert_sound(&fresh, 1, case);
        let log = place.proxy.log();
        let asked = log.iter().filter(|asked| asked.is("GET", &path));
        let sent: usize = asked.map(|asked| asked.sent).sum();
        assert_eq!(sent > 250_000, whole, "{case}: {sent} bytes");
    }
}

/// Names and what they stand for.
fn names(sandbox: &Sandbox) -> Vec<(String, String)> {
    let list = sandbox.run(&["images", "--format", "json"]).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = list.as_array().unwrap().iter();
    list.map(|image| (text(&image["name"]), text(&image["id"])))
        .collect()
}

fn a_pull_that_fails_leaves_no_name_and_moves_none(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let fresh = fresh(sandbox);
    place
        .proxy
        .harm(usize::MAX, "GET", &place.path("layer"), Harm::HangUp);
    assert_eq!(pull(&fresh, &place).code(), 1);
    assert_eq!(names(&fresh), []);
    place.proxy.mend();
    pull(&fresh, &place).success();
    let before = names(&fresh);
    assert_eq!(before.len(), 1);
    // The name moves, and the new image can't be had: the old one stays what it was.
    sandbox.write("big", noise(50_000)).steps(&["-t", "app:1"]);
    sandbox.run(&["push", "app:1", &place.registry.reference("app:1")]);
    let layer = digest(&manifest(&place.registry, "app:1")["layers"][0]);
    place
        .proxy
        .harm(usize::MAX, "GET", &layer, Harm::Cut(At::Middle));
    place.proxy.harm(usize::MAX, "GET", &layer, busy(500));
    let failed = pull(&fresh, &place);
    assert_eq!(failed.code(), 1, "{failed}");
    assert_eq!(names(&fresh), before);
    fresh.dockerfile(&format!("FROM {}\nCOPY Dockerfile /x\n", place.name()));
    fresh.steps(&[]);
    assert_sound(&fresh, 1, "moved");
}

fn a_build_whose_base_does_not_arrive_leaves_no_name(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let fresh = fresh(sandbox);
    fresh.dockerfile(&format!("FROM {}\nCOPY Dockerfile /x\n", place.name()));
    place
        .proxy
        .harm(usize::MAX, "GET", &place.path("layer"), Harm::HangUp);
    let failed = fresh.try_build(&[]);
    assert_eq!(failed.code(), 1, "{failed}");
    assert!(failed.stderr.contains(&place.layer), "{failed}");
    assert_sound(&fresh, 0, "failed");
    place.proxy.mend();
    fresh.steps(&[]);
    assert_sound(&fresh, 1, "recovered");
}

fn a_redirect_takes_no_authorization_to_another_host(sandbox: &Sandbox) {
    let registry = Registry::start_with_login("ali");
    let (proxy, store) = (Proxy::start(registry.port()), Proxy::start(registry.port()));
    let login = sandbox
        .strata()
        .args(["login", "-u", "ali", "--password-stdin", &proxy.host()])
        .stdin(crate::support::PASSWORD)
        .output();
    assert_eq!(login.code(), 0, "{login}");
    let name = proxy.reference("bb:1");
    sandbox.busybox().run(&["push", "busybox", &name]);
    sandbox.run(&["rmi", "busybox"]);
    sandbox.run(&["cache", "prune", "--all", "--force"]);
    let layer = digest(&proxy_manifest(&registry)["layers"][0]);
    // The other host sends the blob from its own store.
    let body = std::fs::read(registry.blob_path(&layer)).unwrap();
    store.harm(
        usize::MAX,
        "GET",
        "/signed",
        Harm::Answer(Reply::new(200).body(body)),
    );
    let to = format!("http://{}/signed?key=1", store.host());
    proxy.harm(
        usize::MAX,
        "GET",
        &layer,
        Harm::Answer(Reply::new(307).header("Location", to)),
    );
    let pulled = sandbox.try_run(&["pull", &name]);
    assert_eq!(pulled.code(), 0, "{pulled}");
    let log = store.log();
    assert!(
        log.iter().any(|asked| asked.is("GET", "/signed")),
        "{log:?}"
    );
    for asked in log {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
    }
    let asked = proxy.log();
    assert!(
        asked
            .iter()
            .any(|asked| asked.headers.contains_key("authorization"))
    );
}

fn proxy_manifest(registry: &Registry) -> Value {
    let name = registry.skopeo("bb:1");
    let credentials = format!("ali:{}", crate::support::PASSWORD);
    let args = [
        "inspect",
        "--raw",
        "--tls-verify=false",
        "--creds",
        &credentials,
        &name,
    ];
    serde_json::from_str(&run_quietly("skopeo", &args)).unwrap()
}

/// Pushes `app:1` under a name of its own, and reads it back without the proxy.
fn push(place: &Place, sandbox: &Sandbox, name: &str) -> Output {
    sandbox.try_run(&["push", "app:1", &place.proxy.reference(name)])
}

fn assert_pushed(place: &Place, name: &str, case: &str) {
    let pushed = manifest(&place.registry, name);
    assert_eq!(digest(&pushed["config"]), place.config, "{case}");
    let whole = place.registry.skopeo(name);
    // skopeo reads every blob and checks it.
    let directory = tempfile::tempdir().unwrap();
    let to = format!("dir:{}", directory.path().display());
    run_quietly(
        "skopeo",
        &["copy", "--quiet", "--src-tls-verify=false", &whole, &to],
    );
}

fn a_push_goes_through_once_the_network_recovers(sandbox: &Sandbox) {
    sandbox.configure(QUICK);
    let place = Place::new(sandbox);
    let refused = |status: u16| Harm::Answer(Reply::new(status));
    let mut cases: Vec<(&str, &str, &str, Harm)> = Vec::new();
    for (method, part, what) in [
        ("HEAD", "/blobs/", "look"),
        ("POST", "/blobs/uploads/", "start"),
        ("PUT", "/blobs/uploads/", "blob"),
        ("PUT", "/manifests/", "manifest"),
    ] {
        for (name, harm) in [
            ("no answer", Harm::HangUp),
            ("a lost answer", Harm::LoseAnswer),
            ("a piece of the answer", Harm::CutHead(20)),
            ("429", busy(429)),
            ("500", busy(500)),
            ("502", busy(502)),
            ("503", busy(503)),
        ] {
            cases.push((method, part, what, harm));
            let _ = name;
        }
    }
    for at in [0, 1, 100_000, 199_000] {
        cases.push(("PUT", "/blobs/uploads/", "blob, cut", Harm::CutRequest(at)));
    }
    cases.push(("PUT", "/manifests/", "manifest, cut", Harm::CutRequest(10)));
    // Nobody may look, or nobody knows how.
    for status in [400, 403, 405, 501] {
        cases.push(("HEAD", "/blobs/", "look, refused", refused(status)));
    }
    // A session that is gone.
    cases.push(("PUT", "/blobs/uploads/", "session", refused(404)));
    // Something before the registry counts bytes.
    cases.push(("PUT", "/blobs/uploads/", "too large", refused(413)));
    for (number, (method, part, what, harm)) in cases.into_iter().enumerate() {
        let (name, case) = (
            format!("push{number}:1"),
            format!("{number}, {method} {what}"),
        );
        place.proxy.mend();
        place.proxy.harm(1, method, part, harm);
        let pushed = push(&place, sandbox, &name);
        assert_eq!(pushed.code(), 0, "{case}: {pushed}");
        assert_pushed(&place, &name, &case);
    }
    assert_sound(sandbox, 1, "after all");
}

fn a_push_that_can_not_be_says_which_blob_and_host(sandbox: &Sandbox) {
    sandbox.configure(QUICK);
    let place = Place::new(sandbox);
    let cases = [
        (
            "PUT",
            "/blobs/uploads/",
            Harm::HangUp,
            "no answer",
            "push sha256:",
        ),
        (
            "PUT",
            "/blobs/uploads/",
            Harm::CutRequest(1000),
            "no answer",
            "push sha256:",
        ),
        ("POST", "/blobs/uploads/", busy(500), "500", "push sha256:"),
        (
            "POST",
            "/blobs/uploads/",
            Harm::Answer(Reply::new(403)),
            "refused",
            "push sha256:",
        ),
        ("PUT", "/manifests/", busy(503), "503", "push manifest"),
    ];
    for (number, (method, part, harm, word, thing)) in cases.into_iter().enumerate() {
        let name = format!("lost{number}:1");
        place.proxy.mend();
        place.proxy.harm(usize::MAX, method, part, harm);
        let failed = push(&place, sandbox, &name);
        assert_eq!(failed.code(), 1, "{number}: {failed}");
        for part in [thing, &place.proxy.host(), word, "help:"] {
            assert!(
                failed.stderr.contains(part),
                "{number}: no `{part}` in {failed}"
            );
        }
        let tags = place.registry.reference(&name);
        place.proxy.mend();
        assert_eq!(
            fresh(sandbox).try_run(&["pull", &tags]).code(),
            1,
            "{number}: there is a manifest"
        );
    }
}

fn a_push_in_pieces_outlives_what_happens_to_one(sandbox: &Sandbox) {
    sandbox.configure(QUICK);
    let place = Place::new(sandbox);
    for (number, harm) in [
        Harm::HangUp,
        Harm::CutRequest(1000),
        Harm::LoseAnswer,
        busy(429),
        busy(500),
        Harm::Answer(Reply::new(404)),
        Harm::Answer(Reply::new(416)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("piece{number}:1");
        place.proxy.mend();
        // As if it took no blob in one request.
        place.proxy.rule(|asked| {
            let whole = asked.is("PUT", "/blobs/uploads/")
                && asked
                    .headers
                    .get("content-length")
                    .is_some_and(|length| length != "0");
            whole.then(|| Harm::Answer(Reply::new(413)))
        });
        place.proxy.harm(1, "PATCH", "/blobs/uploads/", harm);
        let pushed = push(&place, sandbox, &name);
        assert_eq!(pushed.code(), 0, "{number}: {pushed}");
        assert_pushed(&place, &name, &format!("piece {number}"));
    }
}

fn a_mount_that_fails_becomes_an_upload(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    for (number, (harm, mounted)) in [
        (None, true),
        (Some(Harm::HangUp), false),
        (Some(Harm::LoseAnswer), true),
        (Some(Harm::Answer(Reply::new(401))), false),
        (Some(Harm::Answer(Reply::new(403))), false),
        (Some(Harm::Answer(Reply::new(404))), false),
        (Some(Harm::Answer(Reply::new(405))), false),
        (Some(busy(500)), false),
        (Some(busy(429)), true),
    ]
    .into_iter()
    .enumerate()
    {
        let fresh = fresh(sandbox);
        place.proxy.mend();
        fresh.dockerfile(&format!("FROM {}\nCOPY Dockerfile /x\n", place.name()));
        fresh.steps(&["-t", "mine:1"]);
        if let Some(harm) = harm {
            place.proxy.harm(3, "POST", "mount=", harm);
        }
        place.proxy.log();
        let name = format!("mounted{number}:1");
        let pushed = fresh.try_run(&["push", "mine:1", &place.proxy.reference(&name)]);
        assert_eq!(pushed.code(), 0, "{number}: {pushed}");
        let log = place.proxy.log();
        let sent: usize = log.iter().map(|asked| asked.received).sum();
        assert_eq!(sent < 100_000, mounted, "{number}: {sent} bytes were sent");
        let manifest = manifest(&place.registry, &name);
        assert_eq!(digest(&manifest["layers"][0]), place.layer, "{number}");
    }
}

fn a_mirror_that_fails_under_way_is_left_for_the_next(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let (first, second) = (
        Proxy::start(place.registry.port()),
        Proxy::start(place.registry.port()),
    );
    let mirrors = format!(
        "{QUICK}[registry.\"{}\"]\nmirrors = [\"{}\", \"{}\"]\n",
        place.proxy.host(),
        first.host(),
        second.host()
    );
    for (what, harm) in [
        ("layer", Harm::Cut(At::Middle)),
        ("layer", Harm::Flip(At::Middle)),
        ("layer", busy(500)),
        ("layer", Harm::Answer(Reply::new(404))),
        ("layer", Harm::Gzip),
        ("config", Harm::Flip(At::Byte(3))),
        ("manifest", Harm::Flip(At::Middle)),
        ("manifest", Harm::HangUp),
    ] {
        let fresh = fresh(sandbox);
        fresh.configure(&mirrors);
        for mirror in [&first, &second] {
            mirror.mend();
        }
        // The first mirror never gets better; the next one goes on with a half that came from it.
        first.harm(1, "GET", &place.path(what), harm.clone());
        first.harm(usize::MAX, "GET", &place.path(what), busy(500));
        second.harm(1, "GET", &place.path(what), harm);
        let pulled = pull(&fresh, &place);
        assert_eq!(pulled.code(), 0, "{what}: {pulled}");
        assert_sound(&fresh, 1, what);
    }
}

fn no_more_blobs_are_under_way_than_allowed(sandbox: &Sandbox) {
    let place = Place::new(sandbox);
    let mut text = "FROM scratch\n".to_owned();
    for number in 0..6 {
        sandbox.write(&format!("f{number}"), noise(20_000 + number));
        text.push_str(&format!("COPY f{number} /\n"));
    }
    sandbox.dockerfile(&text);
    sandbox.steps(&["-t", "many:1"]);
    let host = place.proxy.host();
    let fresh = fresh(sandbox);
    for one in [sandbox, &fresh] {
        one.configure(&format!("[registry.\"{host}\"]\nblobs-at-once = 1\n"));
    }
    place.proxy.harm(usize::MAX, "GET", "/blobs/", Harm::Drip);
    sandbox.run(&["push", "many:1", &place.proxy.reference("many:1")]);
    fresh.run(&["pull", &place.proxy.reference("many:1")]);
    assert_eq!(place.proxy.most_at_once(), 1);
}
