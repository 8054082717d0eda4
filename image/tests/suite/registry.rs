//! The registry client against registries that are busy, strict, broken or hostile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use strata_cache::Digest;
use strata_cache::codec::Codec;
use strata_cache::diff::WriteOptions;
use strata_cache::image::StoredLayer;
use strata_image::export::{Encoding, ImageSet};
use strata_image::manifest::media;
use strata_image::registry::{Client, Credentials, PushOptions, RegistryError, Upload, Uploaded};
use strata_image::{
    BuiltImage, Images, NoProgress, Platform, PullPolicy, Reference, RegistryOptions,
};

use crate::fake::{Asked, FakeRegistry, Reply};
use crate::support::{Sandbox, busybox_tar, gzip, is_root};

fn options() -> RegistryOptions {
    RegistryOptions {
        // No test reads the credentials of whoever runs it.
        auth_files: vec!["/nonexistent/auth.json".into()],
        retry_pause_ms: Some(1),
        ..RegistryOptions::default()
    }
}

fn client() -> Client {
    Client::new(options())
}

fn reference(registry: &FakeRegistry, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", registry.host())).unwrap()
}

fn manifest_reply() -> Reply {
    Reply::new(200)
        .header("content-type", media::OCI_MANIFEST)
        .body("{}")
}

#[test]
fn a_busy_registry_is_asked_again() {
    let failures = [429, 503, 500, 502];
    let count = AtomicUsize::new(0);
    let registry =
        FakeRegistry::start(
            move |_| match failures.get(count.fetch_add(1, Ordering::Relaxed)) {
                Some(status) => Reply::new(*status).header("retry-after", "0"),
                None => manifest_reply(),
            },
        );
    // The probe of the API's root took the first failure.
    let fetched = client().manifest(&reference(&registry, "x:1")).unwrap();
    assert_eq!(fetched.bytes, b"{}");
    assert_eq!(registry.asked().len(), 4);
}

#[test]
fn patience_ends_and_the_registry_is_quoted() {
    let registry = FakeRegistry::start(|_| {
        Reply::new(503)
            .body(r#"{"errors":[{"code":"UNAVAILABLE","message":"come \u001b[2Jback"}]}"#)
    });
    let error = client()
        .manifest(&reference(&registry, "a/x:1"))
        .unwrap_err();
    let host = registry.host();
    assert_eq!(
        error.to_string(),
        format!("pull manifest {host}/a/x:1: `{host}` answered 503: come [2Jback (UNAVAILABLE)")
    );
    assert_eq!(registry.asked().len(), 5);
}

#[test]
fn what_is_final_is_asked_once() {
    for (status, kind) in [
        (404, "not found"),
        (403, "refused access"),
        (400, "answered 400"),
    ] {
        let registry = FakeRegistry::start(move |_| {
            Reply::new(status).body(r#"{"errors":[{"code":"X","message":"why"}]}"#)
        });
        let error = client().manifest(&reference(&registry, "x")).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(kind) && text.contains("why (X)"), "{text}");
        assert_eq!(registry.asked().len(), 1);
    }
}

#[test]
fn nobody_listening_is_said_at_once() {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let reference = Reference::parse(&format!("127.0.0.1:{port}/x")).unwrap();
    let error = client().manifest(&reference).unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
    assert!(
        error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
}

/// A registry whose tokens come from its own `/token`.
fn with_tokens(port: u16, asked: &Asked, token: &str) -> Option<Reply> {
    if asked.header("authorization") == Some(&format!("Bearer {token}")) {
        return None;
    }
    let challenge = format!(
        "Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"reg.example\",scope=\"x\""
    );
    Some(Reply::new(401).header("www-authenticate", challenge))
}

/// The port of the server that is being started, for handlers that need it.
fn own_port(asked: &Asked) -> u16 {
    let host = asked.header("host").unwrap();
    host.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn a_token_is_fetched_once_and_used_for_all_of_its_scope() {
    let registry = FakeRegistry::start(|asked| {
        if asked.path.starts_with("/token?") {
            return Reply::new(200).body(r#"{"access_token":"t1","expires_in":300}"#);
        }
        with_tokens(own_port(asked), asked, "t1").unwrap_or_else(manifest_reply)
    });
    let client = client();
    client.manifest(&reference(&registry, "team/x:1")).unwrap();
    client.manifest(&reference(&registry, "team/x:2")).unwrap();
    let lines = registry.lines();
    assert_eq!(
        lines,
        [
            "GET /v2/team/x/manifests/1",
            "GET /token?service=reg.example&scope=repository%3Ateam%2Fx%3Apull",
            "GET /v2/team/x/manifests/1",
            "GET /v2/team/x/manifests/2",
        ]
    );
    assert_eq!(registry.asked()[1].header("authorization"), None);
    assert!(
        registry.asked()[0]
            .header("user-agent")
            .unwrap()
            .starts_with("strata/")
    );
}

#[test]
fn a_password_goes_to_the_token_server_and_a_stale_token_is_renewed() {
    let issued = AtomicUsize::new(0);
    let valid = Mutex::new(String::new());
    let registry = FakeRegistry::start(move |asked| {
        if asked.path.starts_with("/token?") {
            let basic = base64::engine::general_purpose::STANDARD.encode("user:pass");
            if asked.header("authorization") != Some(&format!("Basic {basic}")) {
                return Reply::new(401).body(r#"{"details":"who are you"}"#);
            }
            let token = format!("t{}", issued.fetch_add(1, Ordering::Relaxed));
            valid.lock().unwrap().clone_from(&token);
            return Reply::new(200).body(format!(r#"{{"token":"{token}"}}"#));
        }
        let current = valid.lock().unwrap().clone();
        // Each token is good for one request.
        let reply = with_tokens(own_port(asked), asked, &current).unwrap_or_else(manifest_reply);
        valid.lock().unwrap().push_str("-used");
        reply
    });
    let mut options = options();
    options.credentials = vec![(
        registry.host(),
        Credentials::Password {
            username: "user".to_owned(),
            password: "pass".to_owned(),
        },
    )];
    let client = Client::new(options);
    client.manifest(&reference(&registry, "x:1")).unwrap();
    client.manifest(&reference(&registry, "x:2")).unwrap();
    let tokens = registry
        .lines()
        .iter()
        .filter(|line| line.contains("/token"))
        .count();
    assert_eq!(tokens, 2);

    // The same without the password: refused, with a hint and the server's words.
    let error = self::client()
        .manifest(&reference(&registry, "x:1"))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("who are you") && text.contains("log in"),
        "{text}"
    );
}

#[test]
fn an_identity_token_is_posted() {
    let registry = FakeRegistry::start(|asked| {
        if asked.path == "/token" {
            assert_eq!(asked.method, "POST");
            let form = String::from_utf8(asked.body.clone()).unwrap();
            assert!(form.contains("grant_type=refresh_token"), "{form}");
            assert!(form.contains("refresh_token=id%20token"), "{form}");
            return Reply::new(200).body(r#"{"access_token":"t"}"#);
        }
        with_tokens(own_port(asked), asked, "t").unwrap_or_else(manifest_reply)
    });
    let mut options = options();
    options.credentials = vec![(
        registry.host(),
        Credentials::IdentityToken("id token".to_owned()),
    )];
    Client::new(options)
        .manifest(&reference(&registry, "x:1"))
        .unwrap();
}

#[test]
fn basic_credentials_are_sent_once_they_are_asked_for() {
    let basic = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode("u:p")
    );
    let expected = basic.clone();
    let registry = FakeRegistry::start(move |asked| {
        if asked.header("authorization") == Some(&expected) {
            manifest_reply()
        } else {
            Reply::new(401).header("www-authenticate", "Basic realm=\"x\"")
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let auth = base64::engine::general_purpose::STANDARD.encode("u:p");
    let text = format!(
        r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
        registry.host()
    );
    std::fs::write(&file, text).unwrap();
    let mut options = options();
    options.auth_files = vec![file];
    Client::new(options)
        .manifest(&reference(&registry, "x:1"))
        .unwrap();
    let seen: Vec<_> = registry
        .asked()
        .iter()
        .map(|asked| asked.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(seen, [None, Some(basic)]);
}

#[test]
fn a_redirect_takes_no_credentials_along() {
    let blob = b"content".to_vec();
    let digest = Digest::of(&blob);
    let cdn = FakeRegistry::start(move |_| Reply::new(200).body(blob.clone()));
    let elsewhere = format!("http://localhost:{}/blob?signed=1", cdn.port);
    let registry = FakeRegistry::start(move |asked| {
        if asked.path.starts_with("/token?") {
            return Reply::new(200).body(r#"{"token":"secret"}"#);
        }
        with_tokens(own_port(asked), asked, "secret")
            .unwrap_or_else(|| Reply::new(307).header("location", elsewhere.clone()))
    });
    let bytes = client()
        .read_blob(&reference(&registry, "x"), digest, 7)
        .unwrap();
    assert_eq!(bytes, b"content");
    let seen = &cdn.asked()[0];
    assert_eq!(seen.path, "/blob?signed=1");
    assert_eq!(seen.header("authorization"), None);
    // On the same host, the second request had it.
    assert_eq!(
        registry.asked().last().unwrap().header("authorization"),
        Some("Bearer secret")
    );
}

#[test]
fn redirects_that_lead_nowhere_end() {
    let registry =
        FakeRegistry::start(|asked| Reply::new(302).header("location", asked.path.clone() + "x"));
    let error = client().manifest(&reference(&registry, "x")).unwrap_err();
    assert!(
        error.to_string().contains("more than 10 redirects"),
        "{error}"
    );
    let registry =
        FakeRegistry::start(|_| Reply::new(302).header("location", "file:///etc/passwd"));
    let error = client().manifest(&reference(&registry, "x")).unwrap_err();
    assert!(error.to_string().contains("Location"), "{error}");
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let blob: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    let digest = Digest::of(&blob);
    let size = blob.len() as u64;
    let content = blob.clone();
    let registry = FakeRegistry::start(move |asked| match asked.header("range") {
        None => Reply::new(200).body(content.clone()).cut(100_000),
        Some(range) => {
            let start: usize = range
                .trim_start_matches("bytes=")
                .trim_end_matches('-')
                .parse()
                .unwrap();
            let rest = content[start..].to_vec();
            let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
            let cut = 100_000.min(rest.len());
            Reply::new(206)
                .header("content-range", range)
                .body(rest)
                .cut(cut)
        }
    });
    let sandbox = Sandbox::new();
    client()
        .download(
            &reference(&registry, "x"),
            digest,
            size,
            &sandbox.store,
            &NoProgress,
        )
        .unwrap();
    assert_eq!(sandbox.store.blobs().read(digest).unwrap(), blob);
    assert!(registry.asked().len() >= 3);
}

#[test]
fn a_registry_without_ranges_sends_all_again() {
    let blob = vec![7; 200_000];
    let digest = Digest::of(&blob);
    let count = AtomicUsize::new(0);
    let content = blob.clone();
    let registry = FakeRegistry::start(move |asked| {
        let reply = Reply::new(200).body(content.clone());
        let first = asked.path != "/v2/" && count.fetch_add(1, Ordering::Relaxed) == 0;
        if first { reply.cut(50_000) } else { reply }
    });
    let sandbox = Sandbox::new();
    client()
        .download(
            &reference(&registry, "x"),
            digest,
            200_000,
            &sandbox.store,
            &NoProgress,
        )
        .unwrap();
    assert_eq!(sandbox.store.blobs().read(digest).unwrap(), blob);
}

#[test]
fn wrong_content_is_never_stored() {
    let digest = Digest::of(b"right");
    let sandbox = Sandbox::new();
    for (body, expected) in [
        ("wrong", "is not sha256:"),
        ("right and more", "more than the 5 bytes"),
    ] {
        let registry = FakeRegistry::start(move |_| Reply::new(200).body(body));
        let error = client()
            .download(
                &reference(&registry, "x"),
                digest,
                5,
                &sandbox.store,
                &NoProgress,
            )
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!sandbox.store.blobs().contains(digest));
        assert!(!sandbox.store.blobs().contains(Digest::of(body.as_bytes())));
    }
    // A manifest that was asked for by digest, too.
    let registry = FakeRegistry::start(|_| manifest_reply());
    let wanted = reference(&registry, "x").with_digest(digest);
    let error = client().manifest(&wanted).unwrap_err();
    assert!(matches!(error, RegistryError::Content { .. }), "{error}");
}

#[test]
fn a_download_that_stays_short_fails() {
    let registry = FakeRegistry::start(|_| Reply::new(200).body("rig"));
    let sandbox = Sandbox::new();
    let digest = Digest::of(b"right");
    let error = client()
        .download(
            &reference(&registry, "x"),
            digest,
            5,
            &sandbox.store,
            &NoProgress,
        )
        .unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
}

fn upload<'a>(
    blob: &'a [u8],
    open: &'a dyn Fn(u64) -> std::io::Result<Box<dyn std::io::Read + 'a>>,
    mount_from: &'a [String],
) -> Upload<'a> {
    Upload {
        digest: Digest::of(blob),
        size: blob.len() as u64,
        open,
        mount_from,
    }
}

#[test]
fn a_blob_is_looked_for_mounted_or_sent() {
    let blob = b"some layer".to_vec();
    let digest = Digest::of(&blob);
    let encoded = digest.to_string().replace(':', "%3A");
    let open = |offset: u64| -> std::io::Result<Box<dyn std::io::Read + '_>> {
        Ok(Box::new(&blob[usize::try_from(offset).unwrap()..]))
    };
    let there = FakeRegistry::start(|_| Reply::new(200));
    let result = client().upload(
        &reference(&there, "x"),
        &upload(&blob, &open, &[]),
        &NoProgress,
    );
    assert_eq!(result.unwrap(), Uploaded::Present);
    assert_eq!(there.lines(), [format!("HEAD /v2/x/blobs/{digest}")]);

    let sources = ["base".to_owned()];
    let mounts = FakeRegistry::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        _ => Reply::new(201),
    });
    let result = client().upload(
        &reference(&mounts, "x"),
        &upload(&blob, &open, &sources),
        &NoProgress,
    );
    assert_eq!(result.unwrap(), Uploaded::Mounted);
    assert_eq!(
        mounts.lines()[1],
        format!("POST /v2/x/blobs/uploads/?mount={encoded}&from=base")
    );

    let sends = FakeRegistry::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" if asked.path.contains("mount=") => Reply::new(403),
        "POST" => Reply::new(202).header("location", "/upload/7?state=a"),
        _ => Reply::new(201),
    });
    let result = client().upload(
        &reference(&sends, "x"),
        &upload(&blob, &open, &sources),
        &NoProgress,
    );
    assert_eq!(result.unwrap(), Uploaded::Sent);
    let put = sends.asked().pop().unwrap();
    assert_eq!(put.path, format!("/upload/7?state=a&digest={encoded}"));
    assert_eq!(put.body, blob);
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
}

#[test]
fn an_upload_that_breaks_starts_a_new_session() {
    let blob = b"some layer".to_vec();
    let open = |offset: u64| -> std::io::Result<Box<dyn std::io::Read + '_>> {
        Ok(Box::new(&blob[usize::try_from(offset).unwrap()..]))
    };
    let sessions = AtomicUsize::new(0);
    let registry = FakeRegistry::start(move |asked| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => {
            let session = sessions.fetch_add(1, Ordering::Relaxed);
            Reply::new(202).header("location", format!("/upload/{session}"))
        }
        _ if asked.path.starts_with("/upload/0") => Reply::new(500),
        _ if asked.path.starts_with("/upload/1") => Reply::new(404),
        _ => Reply::new(201),
    });
    let result = client().upload(
        &reference(&registry, "x"),
        &upload(&blob, &open, &[]),
        &NoProgress,
    );
    assert_eq!(result.unwrap(), Uploaded::Sent);
}

#[test]
fn a_blob_too_large_for_one_request_is_sent_in_pieces() {
    let blob: Vec<u8> = vec![1; 40 << 20];
    let open = |offset: u64| -> std::io::Result<Box<dyn std::io::Read + '_>> {
        Ok(Box::new(&blob[usize::try_from(offset).unwrap()..]))
    };
    let received = Mutex::new(0);
    let registry = FakeRegistry::start(move |asked| {
        let mut received = received.lock().unwrap();
        match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("location", "/upload/0"),
            "PUT" if !asked.body.is_empty() => Reply::new(413),
            "PATCH" => {
                let range = asked.header("content-range").unwrap();
                let (start, end) = range.split_once('-').unwrap();
                assert_eq!(start.parse::<usize>().unwrap(), *received);
                *received += asked.body.len();
                assert_eq!(end.parse::<usize>().unwrap() + 1, *received);
                Reply::new(202).header("location", format!("/upload/{received}"))
            }
            "PUT" => {
                assert!(
                    asked.path.starts_with("/upload/41943040?digest="),
                    "{}",
                    asked.path
                );
                Reply::new(201)
            }
            _ => Reply::new(405),
        }
    });
    let result = client().upload(
        &reference(&registry, "x"),
        &upload(&blob, &open, &[]),
        &NoProgress,
    );
    assert_eq!(result.unwrap(), Uploaded::Sent);
    let patches = registry
        .lines()
        .iter()
        .filter(|line| line.starts_with("PATCH"))
        .count();
    assert_eq!(patches, 2);
}

/// A registry with one image under an index, and what it serves.
fn image_registry(layer: Vec<u8>, plain: &[u8], wrong_diff_id: bool) -> FakeRegistry {
    let diff_id = if wrong_diff_id {
        Digest::of(b"other")
    } else {
        Digest::of(plain)
    };
    let architecture = Platform::host().architecture;
    let config = format!(
        r#"{{"architecture":"{architecture}","os":"linux","config":{{"Env":["A=1"]}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{{"mediaType":"{}","digest":"{}","size":{}}}]}}"#,
        media::DOCKER_MANIFEST,
        media::DOCKER_CONFIG,
        Digest::of(config.as_bytes()),
        config.len(),
        media::DOCKER_LAYER_GZIP,
        Digest::of(&layer),
        layer.len(),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{}","size":1,"platform":{{"os":"linux","architecture":"z80"}}}},{{"mediaType":"{}","digest":"{}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}]}}"#,
        media::OCI_INDEX,
        media::OCI_MANIFEST,
        Digest::of(b"z80"),
        media::DOCKER_MANIFEST,
        Digest::of(manifest.as_bytes()),
        manifest.len(),
    );
    FakeRegistry::start(move |asked| {
        let path = &asked.path;
        let is = |bytes: &[u8]| path.ends_with(&Digest::of(bytes).to_string());
        if path.ends_with("/manifests/1") {
            Reply::new(200)
                .header("content-type", media::OCI_INDEX)
                .body(index.clone())
        } else if is(manifest.as_bytes()) {
            Reply::new(200)
                .header("content-type", media::DOCKER_MANIFEST)
                .body(manifest.clone())
        } else if is(config.as_bytes()) {
            Reply::new(200).body(config.clone())
        } else if is(&layer) {
            Reply::new(200).body(layer.clone())
        } else {
            Reply::new(404)
        }
    })
}

#[test]
fn an_image_is_pulled_lazily_and_found_again_without_the_registry() {
    if !is_root() {
        return;
    }
    let plain = busybox_tar();
    let registry = image_registry(gzip(&plain), &plain, false);
    let sandbox = Sandbox::new();
    let images = Images::new(&sandbox.store, options());
    let name = format!("{}/team/x:1", registry.host());
    let resolve = |policy| {
        images
            .resolve(
                &sandbox.lease,
                &name,
                &Platform::host(),
                policy,
                &NoProgress,
            )
            .unwrap()
    };
    let pulled = resolve(PullPolicy::Missing);
    assert_eq!(pulled.config.config.env, ["A=1"]);
    assert_eq!(pulled.layers[0].layer, None);
    assert_eq!(registry.asked().len(), 3, "{:?}", registry.lines());
    assert_eq!(sandbox.store.index().image_by_name(&name).unwrap(), None);
    images.remember(&pulled).unwrap();

    // Known by now, blobs that are not here included.
    let again = resolve(PullPolicy::Never);
    assert_eq!(again.layers, pulled.layers);
    assert_eq!(registry.asked().len(), 3);

    let layers = images
        .ensure_layers(&sandbox.lease, &again, &NoProgress)
        .unwrap();
    assert_eq!(layers.len(), 1);
    assert_eq!(registry.asked().len(), 4);
    let unpacked = resolve(PullPolicy::Missing);
    assert_eq!(unpacked.layers[0].layer, Some(layers[0]));

    // The name is looked up anew, nothing else is fetched.
    resolve(PullPolicy::Always);
    assert_eq!(registry.asked().len(), 5, "{:?}", registry.lines());
    assert_eq!(
        images
            .ensure_layers(&sandbox.lease, &pulled, &NoProgress)
            .unwrap(),
        layers
    );
}

#[test]
fn a_platform_that_an_index_lacks_is_named_with_what_it_has() {
    let registry = image_registry(Vec::new(), b"", false);
    let sandbox = Sandbox::new();
    let images = Images::new(&sandbox.store, options());
    let error = images
        .resolve(
            &sandbox.lease,
            &format!("{}/x:1", registry.host()),
            &Platform::new("linux", "m68k", None),
            PullPolicy::Missing,
            &NoProgress,
        )
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        source.contains("linux/m68k") && source.contains("linux/z80"),
        "{source}"
    );
}

#[test]
fn a_pulled_layer_with_another_diff_id_is_refused() {
    let plain = busybox_tar();
    let registry = image_registry(gzip(&plain), &plain, true);
    let sandbox = Sandbox::new();
    let images = Images::new(&sandbox.store, options());
    let found = images
        .resolve(
            &sandbox.lease,
            &format!("{}/x:1", registry.host()),
            &Platform::host(),
            PullPolicy::Missing,
            &NoProgress,
        )
        .unwrap();
    let error = images
        .ensure_layers(&sandbox.lease, &found, &NoProgress)
        .unwrap_err();
    assert!(error.to_string().contains("but the config says"), "{error}");
    assert!(sandbox.store.index().layers().unwrap().is_empty());
}

#[test]
fn a_config_that_was_damaged_is_fetched_again() {
    let plain = busybox_tar();
    let registry = image_registry(gzip(&plain), &plain, false);
    let sandbox = Sandbox::new();
    let images = Images::new(&sandbox.store, options());
    let name = format!("{}/x:1", registry.host());
    let resolve = || {
        images
            .resolve(
                &sandbox.lease,
                &name,
                &Platform::host(),
                PullPolicy::Missing,
                &NoProgress,
            )
            .unwrap()
    };
    let found = resolve();
    std::fs::remove_file(sandbox.store.blobs().path(found.config_digest)).unwrap();
    assert_eq!(resolve(), found);
    assert!(sandbox.store.blobs().contains(found.config_digest));
}

#[test]
fn builds_that_want_the_same_image_unpack_it_once() {
    if !is_root() {
        return;
    }
    let plain = busybox_tar();
    let registry = image_registry(gzip(&plain), &plain, false);
    let sandbox = Sandbox::new();
    let name = format!("{}/x:1", registry.host());
    let ensure = || {
        // Each has its own store handle and client, as two processes have.
        let store = strata_cache::Store::open(sandbox.store.root()).unwrap();
        let lease = store.lease("another build").unwrap();
        let images = Images::new(&store, options());
        let host = Platform::host();
        let found = images
            .resolve(&lease, &name, &host, PullPolicy::Missing, &NoProgress)
            .unwrap();
        images.ensure_layers(&lease, &found, &NoProgress).unwrap()
    };
    let layers: Vec<_> = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(ensure)).collect();
        builds
            .into_iter()
            .map(|build| build.join().unwrap())
            .collect()
    });
    assert!(
        layers.windows(2).all(|pair| pair[0] == pair[1]),
        "{layers:?}"
    );
    assert_eq!(sandbox.store.index().layers().unwrap().len(), 1);
}

#[test]
fn a_layer_that_the_store_lost_is_pushed_from_its_source() {
    if !is_root() {
        return;
    }
    let plain = busybox_tar();
    let source = image_registry(gzip(&plain), &plain, false);
    let sandbox = Sandbox::new();
    let images = Images::new(&sandbox.store, options());
    let name = format!("{}/base:1", source.host());
    let host = Platform::host();
    // Resolved, but never fetched: the blob is in its registry only.
    let found = images
        .resolve(
            &sandbox.lease,
            &name,
            &host,
            PullPolicy::Missing,
            &NoProgress,
        )
        .unwrap();
    let layers = found
        .layers
        .iter()
        .map(|layer| StoredLayer {
            diff_id: layer.diff_id,
            layer: layer.layer,
            blob: layer.blob.clone(),
        })
        .collect();
    let image = BuiltImage::new(found.config.clone(), layers);
    let target = FakeRegistry::start(|asked| match asked.method.as_str() {
        "HEAD" => Reply::new(404),
        "POST" => Reply::new(202).header("location", "/upload"),
        _ => Reply::new(201),
    });
    let push = |sources: Vec<Reference>| {
        let options = PushOptions {
            encoding: Encoding::new(Codec::Gzip(6)),
            write: WriteOptions::default(),
            by_digest: false,
            sources,
        };
        let reference = reference(&target, "app:1");
        images.push(
            &sandbox.lease,
            &ImageSet::one(&image),
            &reference,
            &options,
            &NoProgress,
        )
    };
    // Nobody has to say where it is: it was seen there.
    push(Vec::new()).unwrap();
    let blob = found.layers[0].blob.clone().unwrap().digest;
    let sent = target
        .asked()
        .into_iter()
        .find(|asked| Digest::of(&asked.body) == blob);
    assert!(sent.is_some());
    let manifest = target.asked().pop().unwrap();
    assert_eq!(manifest.path, "/v2/app/manifests/1");
    assert_eq!(manifest.header("content-type"), Some(media::OCI_MANIFEST));
    // Docker's layer type has become OCI's.
    let text = String::from_utf8(manifest.body).unwrap();
    assert!(
        text.contains(media::OCI_LAYER_GZIP) && !text.contains("docker"),
        "{text}"
    );
}
