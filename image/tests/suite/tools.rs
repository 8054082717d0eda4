//! Our images in the hands of other tools, and a real registry.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use strata_cache::Digest;
use strata_cache::codec::Codec;
use strata_cache::diff::WriteOptions;
use strata_image::export::{
    self, BuiltImage, Destination, Encoding, ExportOptions, Format, ImageSet,
};
use strata_image::registry::{HostOptions, PushOptions, RegistryError};
use strata_image::{Images, NoProgress, Platform, PullPolicy, Reference, RegistryOptions, load};

use crate::support::{Sandbox, is_root};

/// Runs a tool; none if it is not installed, which is said.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: `{program}` is not installed");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

fn export_to(sandbox: &Sandbox, image: &BuiltImage, format: Format, codec: Codec, path: &Path) {
    let names = ["docker.io/library/app:1".to_owned()];
    let options = ExportOptions {
        format,
        encoding: &Encoding::new(codec),
        write: WriteOptions::default(),
        names: &names,
        platform_split: None,
        delete: false,
        files: None,
    };
    let destination = Destination::Path(path.to_owned());
    export::export(
        &sandbox.store,
        &sandbox.lease,
        &ImageSet::one(image),
        &options,
        &destination,
        &NoProgress,
    )
    .unwrap();
}

#[test]
fn skopeo_reads_every_form() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.built();
    for (format, transport, file, suffix) in [
        (Format::OciArchive, "oci-archive", "a.tar", ":1"),
        (Format::OciDirectory, "oci", "layout", ":1"),
        (Format::DockerArchive, "docker-archive", "d.tar", ":app:1"),
    ] {
        for codec in [Codec::Gzip(6), Codec::Zstd(3), Codec::None] {
            let path = sandbox.path(file);
            export_to(&sandbox, &image, format, codec, &path);
            let source = format!("{transport}:{}{suffix}", path.display());
            let Some(config) = run("skopeo", &["inspect", "--config", &source]) else {
                return;
            };
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            assert_eq!(config["config"]["Labels"]["made"], "here", "{source}");
            // A copy reads and checks every layer.
            let target = format!("dir:{}", sandbox.path("copy").display());
            run("skopeo", &["copy", "--insecure-policy", &source, &target]);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            }
        }
    }
}

#[test]
fn archives_of_skopeo_are_loaded() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.built();
    let layout = sandbox.path("layout");
    export_to(
        &sandbox,
        &image,
        Format::OciDirectory,
        Codec::Gzip(6),
        &layout,
    );
    let source = format!("oci:{}:1", layout.display());
    for (transport, suffix, name) in [
        ("docker-archive", ":app:2", "docker.io/library/app:2"),
        ("oci-archive", ":other.example/app:3", "other.example/app:3"),
        ("oci", ":other.example/app:3", "other.example/app:3"),
    ] {
        let path = sandbox.path(transport);
        let target = format!("{transport}:{}{suffix}", path.display());
        if run("skopeo", &["copy", "--insecure-policy", &source, &target]).is_none() {
            return;
        }
        let other = Sandbox::new();
        let loaded = load::load(&other.store, &other.lease, &path, &NoProgress).unwrap();
        assert_eq!(loaded[0].names, [name], "{transport}");
        let images = Images::new(&other.store, RegistryOptions::default());
        for text in [name.to_owned(), target] {
            let host = Platform::host();
            let found = images
                .resolve(&other.lease, &text, &host, PullPolicy::Never, &NoProgress)
                .unwrap();
            assert_eq!(found.config.config.labels["made"], "here", "{text}");
            let layers = images
                .ensure_layers(&other.lease, &found, &NoProgress)
                .unwrap();
            assert_eq!(layers.len(), 2, "{text}");
        }
    }
}

#[test]
fn umoci_unpacks_a_layout() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.built();
    let layout = sandbox.path("layout");
    export_to(
        &sandbox,
        &image,
        Format::OciDirectory,
        Codec::Gzip(6),
        &layout,
    );
    let bundle = sandbox.path("bundle");
    let image = format!("{}:1", layout.display());
    let arguments = ["unpack", "--image", &image, bundle.to_str().unwrap()];
    if run("umoci", &arguments).is_none() {
        return;
    }
    let motd = std::fs::read(bundle.join("rootfs/etc/motd")).unwrap();
    assert_eq!(motd, b"made here\n");
    let shell = std::fs::read_link(bundle.join("rootfs/bin/sh")).unwrap();
    assert_eq!(shell, Path::new("busybox"));
}

/// Debian's `docker-registry` on a port of its own choosing.
struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    /// `http` is added to the configuration of the listener.
    fn start(sandbox: &Sandbox, http: &str) -> Option<Self> {
        let config = sandbox.path("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:0'{http}}}\n",
            sandbox.path("registry").display()
        );
        std::fs::write(&config, text).unwrap();
        let started = Command::new("docker-registry")
            .args(["serve", config.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: `docker-registry` is not installed");
                return None;
            }
            Err(error) => panic!("docker-registry: {error}"),
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on ")?;
                let end = rest.find([' ', '"', ',']).unwrap_or(rest.len());
                Some(rest[..end].to_owned())
            })
            .expect("the registry says where it listens");
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, host })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_real_registry_takes_and_gives_images() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let Some(registry) = Registry::start(&sandbox, "") else {
        return;
    };
    let options = RegistryOptions {
        auth_files: vec!["/nonexistent/auth.json".into()],
        ..RegistryOptions::default()
    };
    let image = sandbox.built();
    let images = Images::new(&sandbox.store, options.clone());
    let push = |name: &str, codec, sources: &[Reference]| {
        let target = Reference::parse(&format!("{}/{name}", registry.host)).unwrap();
        let options = PushOptions {
            encoding: Encoding::new(codec),
            write: WriteOptions::default(),
            by_digest: false,
            sources: sources.to_vec(),
        };
        let pushed = images
            .push(
                &sandbox.lease,
                &ImageSet::one(&image),
                &target,
                &options,
                &NoProgress,
            )
            .unwrap();
        (target, pushed.digest)
    };
    let (first, digest) = push("team/app:1", Codec::Zstd(3), &[]);
    // Again: everything is there. Elsewhere: mounted.
    assert_eq!(push("team/app:1", Codec::Zstd(3), &[]).1, digest);
    let (second, _) = push("other/app:2", Codec::Zstd(3), std::slice::from_ref(&first));
    let (gzipped, gzip_digest) = push("team/app:gzip", Codec::Gzip(6), &[]);
    assert_ne!(gzip_digest, digest);

    for reference in [&first, &second, &gzipped, &first.with_digest(digest)] {
        let other = Sandbox::new();
        let images = Images::new(&other.store, options.clone());
        let found = images
            .resolve(
                &other.lease,
                &reference.to_string(),
                &Platform::host(),
                PullPolicy::Missing,
                &NoProgress,
            )
            .unwrap();
        assert_eq!(found.config_digest, image.id());
        let layers = images
            .ensure_layers(&other.lease, &found, &NoProgress)
            .unwrap();
        let motd = other.store.layer_path(layers[1]).join("etc/motd");
        assert_eq!(std::fs::read(motd).unwrap(), b"made here\n");
    }
    let source = format!("docker://{gzipped}");
    let inspected = run(
        "skopeo",
        &["inspect", "--tls-verify=false", "--raw", &source],
    );
    if let Some(raw) = inspected {
        assert_eq!(Digest::of(raw.as_bytes()), gzip_digest);
    }

    // What skopeo pushes with docker's media types, we can read.
    let target = format!("docker://{}/copied:1", registry.host);
    let copied = run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--format=v2s2",
            &source,
            &target,
        ],
    );
    if copied.is_some() {
        let other = Sandbox::new();
        let images = Images::new(&other.store, options.clone());
        let name = format!("{}/copied:1", registry.host);
        let host = Platform::host();
        let found = images
            .resolve(&other.lease, &name, &host, PullPolicy::Missing, &NoProgress)
            .unwrap();
        images
            .ensure_layers(&other.lease, &found, &NoProgress)
            .unwrap();
    }
    let missing = Reference::parse(&format!("{}/nothing:1", registry.host)).unwrap();
    let error = images.client().manifest(&missing).unwrap_err().to_string();
    assert!(error.contains("not found"), "{error}");
}

#[test]
fn a_certificate_is_checked_against_those_that_are_trusted() {
    let sandbox = Sandbox::new();
    let (certificate, key) = (sandbox.path("ca.pem"), sandbox.path("key.pem"));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let made = run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-days",
            "2",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
    );
    if made.is_none() {
        return;
    }
    let tls = format!(", tls: {{certificate: {certificate}, key: {key}}}");
    let Some(registry) = Registry::start(&sandbox, &tls) else {
        return;
    };
    let manifest = |options: RegistryOptions| {
        let images = Images::new(&sandbox.store, options);
        let reference = Reference::parse(&format!("{}/x:1", registry.host)).unwrap();
        images.client().manifest(&reference).unwrap_err()
    };
    let base = RegistryOptions {
        auth_files: vec!["/nonexistent/auth.json".into()],
        retry_pause_ms: Some(1),
        ..RegistryOptions::default()
    };
    // The system's certificates do not know it.
    let error = manifest(base.clone());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("ertificate"), "{error}: {source}");
    // Trusted: the registry itself answers, that it has no such image.
    let trusting = RegistryOptions {
        certificates: vec![certificate.into()],
        ..base.clone()
    };
    assert!(matches!(manifest(trusting), RegistryError::NotFound { .. }));
    let careless = RegistryOptions {
        hosts: [(
            registry.host.clone(),
            HostOptions {
                insecure: true,
                ..HostOptions::default()
            },
        )]
        .into(),
        ..base
    };
    assert!(matches!(manifest(careless), RegistryError::NotFound { .. }));
}
