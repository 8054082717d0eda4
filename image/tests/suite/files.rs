//! Import, load, export: the roads of images through files.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use strata_cache::codec::Codec;
use strata_cache::diff::WriteOptions;
use strata_cache::{Digest, LayerView};
use strata_image::export::{self, Destination, Encoding, ExportOptions, Format, ImageSet};
use strata_image::manifest::{Index, media};
use strata_image::{
    BuiltImage, ImageError, Images, NoProgress, Platform, PullPolicy, RegistryOptions, load,
};

use crate::support::{Entry, Sandbox, busybox_tar, config, gzip, is_root, tar};

const NAME: &str = "docker.io/library/app:1";

static GZIP: Encoding = Encoding::new(Codec::Gzip(6));

fn options(format: Format, names: &[String]) -> ExportOptions<'_> {
    ExportOptions {
        format,
        encoding: &GZIP,
        write: WriteOptions::default(),
        names,
        platform_split: None,
        delete: false,
        files: None,
    }
}

fn export_to(sandbox: &Sandbox, image: &BuiltImage, format: Format, path: &Path) -> Option<Digest> {
    export::export(
        &sandbox.store,
        &sandbox.lease,
        &ImageSet::one(image),
        &options(format, &[NAME.to_owned()]),
        &Destination::Path(path.to_owned()),
        &NoProgress,
    )
    .unwrap()
    .map(|descriptor| descriptor.digest)
}

/// Unpacks an image of `sandbox` and reads one file of it.
fn read(sandbox: &Sandbox, text: &str, file: &str) -> Result<Option<Vec<u8>>, ImageError> {
    let images = Images::new(&sandbox.store, RegistryOptions::default());
    let found = images.resolve(
        &sandbox.lease,
        text,
        &Platform::host(),
        PullPolicy::Never,
        &NoProgress,
    )?;
    let layers = images.ensure_layers(&sandbox.lease, &found, &NoProgress)?;
    let view = LayerView::new(sandbox.store.layer_paths(&layers));
    let entry = view.lookup(Path::new(file), true).unwrap();
    Ok(entry.map(|entry| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut view.open(&entry).unwrap(), &mut bytes).unwrap();
        bytes
    }))
}

#[test]
fn an_imported_tar_is_an_image_whose_blob_is_what_was_read() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let plain = busybox_tar();
    let packed = gzip(&plain);
    let image = sandbox.import(&packed, NAME);
    let blob = image.layers[0].blob.clone().unwrap();
    assert_eq!(blob.digest, Digest::of(&packed));
    assert_eq!(blob.media_type, media::OCI_LAYER_GZIP);
    assert_eq!(image.layers[0].diff_id.0, Digest::of(&plain));
    assert_eq!(
        read(&sandbox, "app:1", "etc/passwd").unwrap().unwrap(),
        b"root:x:0:0::/:/bin/sh\n"
    );
    // The layer is remembered: pushing it needs no new compression.
    let built = BuiltImage::from_stored(&sandbox.store, &image).unwrap();
    let again = export::image_blob(
        &sandbox.store,
        &built.layers()[0],
        Codec::Gzip(9),
        WriteOptions::default(),
        &NoProgress,
    );
    assert_eq!(again.unwrap(), blob);
}

#[test]
fn every_form_of_export_can_be_loaded_again() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.built();
    for (format, file) in [
        (Format::OciArchive, "oci.tar"),
        (Format::DockerArchive, "docker.tar"),
        (Format::OciDirectory, "layout"),
    ] {
        let path = sandbox.path(file);
        let manifest = export_to(&sandbox, &image, format, &path).unwrap();
        let other = Sandbox::new();
        let loaded = load::load(&other.store, &other.lease, &path, &NoProgress).unwrap();
        assert_eq!(loaded.len(), 1, "{file}");
        assert_eq!(loaded[0].config, image.id(), "{file}");
        assert_eq!(loaded[0].names, [NAME], "{file}");
        let stored = other.store.index().image_by_name(NAME).unwrap().unwrap();
        assert_eq!(stored.manifest, Some(manifest), "{file}");
        let motd = read(&other, "app:1", "/etc/motd").unwrap();
        assert_eq!(motd.unwrap(), b"made here\n", "{file}");
        let shell = read(&other, "app:1", "/bin/sh").unwrap();
        assert!(shell.is_some_and(|shell| shell.len() > 10), "{file}");
    }
}

#[test]
fn equal_images_give_equal_archives() {
    if !is_root() {
        return;
    }
    let export_once = || {
        let sandbox = Sandbox::new();
        let image = sandbox.built();
        let path = sandbox.path("x.tar");
        export_to(&sandbox, &image, Format::DockerArchive, &path);
        // The layer made here has times of its own; everything else must be equal.
        let layers = image.layers().to_vec();
        let first = BuiltImage::new(config(), layers[..1].to_vec());
        export_to(&sandbox, &first, Format::OciArchive, &path);
        std::fs::read(&path).unwrap()
    };
    assert_eq!(export_once(), export_once());
}

#[test]
fn a_layer_is_compressed_once_for_each_codec_and_epoch() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let layer = sandbox.layer(&[], |upper| std::fs::write(upper.join("a"), "a").unwrap());
    let blob = |codec, epoch| {
        let write = WriteOptions { epoch };
        export::layer_blob(&sandbox.store, layer, codec, write, &NoProgress).unwrap()
    };
    let gzip = blob(Codec::Gzip(6), None);
    assert_eq!(blob(Codec::Gzip(6), None), gzip);
    assert_ne!(blob(Codec::Gzip(6), Some(0)).digest, gzip.digest);
    assert_ne!(blob(Codec::Zstd(3), None).digest, gzip.digest);
    assert_eq!(blob(Codec::Gzip(6), None), gzip);

    let diff_id = |epoch| export::diff_id(&sandbox.store, layer, WriteOptions { epoch }).unwrap();
    let own = diff_id(None);
    let clamped = diff_id(Some(0));
    assert_ne!(own, clamped);
    assert_eq!(diff_id(Some(0)), clamped);
    assert_eq!(diff_id(None), own);
    assert_eq!(blob(Codec::None, None).digest, own.0);
    assert_eq!(blob(Codec::None, Some(0)).digest, clamped.0);
}

#[test]
fn an_epoch_leaves_layers_of_the_base_alone() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.import(&busybox_tar(), NAME);
    let layer = image.layers[0].layer.unwrap();
    let clamped = export::diff_id(&sandbox.store, layer, WriteOptions { epoch: Some(0) });
    assert_eq!(clamped.unwrap(), image.layers[0].diff_id);
}

#[test]
fn a_layout_directory_collects_images_and_replaces_names() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let path = sandbox.path("layout");
    let image = sandbox.built();
    export_to(&sandbox, &image, Format::OciDirectory, &path);
    let other = BuiltImage::new(config(), image.layers()[..1].to_vec());
    let second = export::export(
        &sandbox.store,
        &sandbox.lease,
        &ImageSet::one(&other),
        &options(
            Format::OciDirectory,
            &["docker.io/library/app:2".to_owned()],
        ),
        &Destination::Path(path.clone()),
        &NoProgress,
    )
    .unwrap()
    .unwrap()
    .digest;
    // The first name moves to the second image.
    export_to(&sandbox, &other, Format::OciDirectory, &path);
    let index: Index =
        serde_json::from_slice(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
    let digests: Vec<Digest> = index.manifests.iter().map(|member| member.digest).collect();
    assert_eq!(digests, [second, second]);

    let fresh = Sandbox::new();
    let text = format!("oci-layout:{}:2", path.display());
    assert!(read(&fresh, &text, "bin/busybox").unwrap().is_some());
    let text = format!("oci-layout:{}@{second}", path.display());
    assert!(read(&fresh, &text, "bin/busybox").unwrap().is_some());
    let text = format!("oci-layout:{}:3", path.display());
    let error = read(&fresh, &text, "x").unwrap_err().to_string();
    assert!(
        error.contains("no image `3`") && error.contains("app:2"),
        "{error}"
    );

    std::fs::create_dir(sandbox.path("other")).unwrap();
    std::fs::write(sandbox.path("other/file"), "x").unwrap();
    let error = export::export(
        &sandbox.store,
        &sandbox.lease,
        &ImageSet::one(&other),
        &options(Format::OciDirectory, &[]),
        &Destination::Path(sandbox.path("other")),
        &NoProgress,
    )
    .unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");
}

/// A docker archive as old Dockers write it: layers in directories, a repeated one as a symlink.
fn old_docker_archive(layers: &[Vec<u8>], tags: &str) -> Vec<u8> {
    let ids: Vec<String> = layers
        .iter()
        .map(|layer| Digest::of(layer).to_string())
        .collect();
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
        Platform::host().architecture,
        ids[0],
        ids[1],
    );
    let manifest = format!(
        r#"[{{"Config":"c.json","RepoTags":{tags},"Layers":["1/layer.tar","2/layer.tar"]}}]"#
    );
    tar(&[
        Entry::directory("1", 0o755),
        Entry::file("1/layer.tar", &layers[0], 0o644),
        Entry::file("3/layer.tar", &layers[1], 0o644),
        Entry::symlink("2/layer.tar", "../3/layer.tar"),
        Entry::file("c.json", config.as_bytes(), 0o644),
        Entry::file("manifest.json", manifest.as_bytes(), 0o644),
    ])
}

#[test]
fn old_docker_archives_are_loaded_from_a_stream() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let layers = [
        tar(&[Entry::file("a", b"1", 0o644), Entry::file("b", b"1", 0o644)]),
        tar(&[
            Entry::file("a", b"2", 0o644),
            Entry::file(".wh.b", b"", 0o644),
        ]),
    ];
    let archive = gzip(&old_docker_archive(
        &layers,
        r#"["old:1","other.example/x:2"]"#,
    ));
    let loaded = load::load_reader(
        &sandbox.store,
        &sandbox.lease,
        Path::new("-"),
        &mut &archive[..],
        &NoProgress,
    )
    .unwrap();
    assert_eq!(
        loaded[0].names,
        ["docker.io/library/old:1", "other.example/x:2"]
    );
    assert_eq!(read(&sandbox, "old:1", "a").unwrap().unwrap(), b"2");
    assert_eq!(read(&sandbox, "old:1", "b").unwrap(), None);

    let path = sandbox.path("old.tar");
    std::fs::write(&path, old_docker_archive(&layers, "null")).unwrap();
    let text = format!("docker-archive:{}", path.display());
    assert_eq!(read(&sandbox, &text, "a").unwrap().unwrap(), b"2");
}

#[test]
fn an_unchanged_archive_is_not_read_again_and_a_changed_one_is() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let archive = |content: &[u8]| {
        let layers = [
            tar(&[Entry::file("a", content, 0o644)]),
            tar(&[Entry::file("b", b"2", 0o644)]),
        ];
        old_docker_archive(&layers, "null")
    };
    let path = sandbox.path("base.tar");
    std::fs::write(&path, archive(b"1")).unwrap();
    // Files as young as their entry in the stat cache are not trusted.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let text = format!("docker-archive:{}", path.display());
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let resolve = || {
        let images = Images::new(&sandbox.store, RegistryOptions::default());
        let progress = |what: &str, _: u64, _: Option<u64>| {
            assert_eq!(what, "base.tar");
            reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let found = images
            .resolve(
                &sandbox.lease,
                &text,
                &Platform::host(),
                PullPolicy::Missing,
                &progress,
            )
            .unwrap();
        let count = reads.swap(0, std::sync::atomic::Ordering::Relaxed);
        (found.config_digest, count > 0)
    };
    let (first, read_first) = resolve();
    assert!(read_first);
    assert_eq!(resolve(), (first, false));
    std::fs::write(&path, archive(b"3")).unwrap();
    let (second, read_second) = resolve();
    assert!(read_second);
    assert_ne!(second, first);
    // What is gone from the store is read again.
    std::thread::sleep(std::time::Duration::from_millis(100));
    resolve();
    sandbox.store.index().remove_image(second).unwrap();
    assert_eq!(resolve(), (second, true));
}

#[test]
fn damaged_and_hostile_archives_are_refused() {
    let layers = [
        tar(&[Entry::file("a", b"1", 0o644)]),
        tar(&[Entry::file("a", b"2", 0o644)]),
    ];
    let good = old_docker_archive(&layers, "null");
    let digest = Digest::of(b"x");
    let blob = format!("blobs/sha256/{}", digest.hex());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{digest}","size":1}}]}}"#,
        media::OCI_MANIFEST
    );
    let manifest =
        |text: &'static str| tar(&[Entry::file("manifest.json", text.as_bytes(), 0o644)]);
    let rows: [(&str, Vec<u8>, &str); 9] = [
        ("nothing", Vec::new(), "neither an OCI layout"),
        ("no archive", b"hello".to_vec(), "read"),
        ("truncated", good[..good.len() - 3000].to_vec(), "read"),
        ("no images", manifest("[]"), "neither an OCI layout"),
        ("no JSON", manifest("{"), "hostile.tar"),
        (
            "config is missing",
            manifest(r#"[{"Config":"x","Layers":[]}]"#),
            "config `x` is missing",
        ),
        (
            "up",
            tar(&[Entry::file("../manifest.json", b"[]", 0o644)]),
            "`..`",
        ),
        (
            "manifest is missing",
            tar(&[Entry::file("index.json", index.as_bytes(), 0o644)]),
            "is missing",
        ),
        (
            "manifest is damaged",
            tar(&[
                Entry::file("index.json", index.as_bytes(), 0o644),
                Entry::file(&blob, b"y", 0o644),
            ]),
            "damaged",
        ),
    ];
    let sandbox = Sandbox::new();
    let path = sandbox.path("hostile.tar");
    for (name, bytes, expected) in rows {
        std::fs::write(&path, bytes).unwrap();
        let error = load::load(&sandbox.store, &sandbox.lease, &path, &NoProgress).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    assert!(sandbox.store.index().images().unwrap().is_empty());
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let sandbox = Sandbox::new();
    let layers = [
        gzip(&tar(&[Entry::file("a", b"1", 0o644)])),
        gzip(&tar(&[Entry::file("a", b"2", 0o644)])),
    ];
    // The config names the digests of the compressed layers, which are no diff IDs.
    let path = sandbox.path("liar.tar");
    std::fs::write(&path, old_docker_archive(&layers, r#"["liar:1"]"#)).unwrap();
    load::load(&sandbox.store, &sandbox.lease, &path, &NoProgress).unwrap();
    let error = read(&sandbox, "liar:1", "a").unwrap_err();
    assert!(matches!(error, ImageError::DiffId { .. }), "{error}");
}

#[test]
fn a_layout_does_not_lead_out_of_its_directory() {
    let sandbox = Sandbox::new();
    let layout = sandbox.path("layout");
    std::fs::create_dir(&layout).unwrap();
    std::fs::write(sandbox.path("secret.json"), "[]").unwrap();
    std::os::unix::fs::symlink("../secret.json", layout.join("manifest.json")).unwrap();
    let error = load::load(&sandbox.store, &sandbox.lease, &layout, &NoProgress).unwrap_err();
    assert!(
        error.to_string().contains("neither an OCI layout"),
        "{error}"
    );
}

#[test]
fn the_merged_tree_is_written_as_tar_and_as_directory() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let base = sandbox.import(
        &tar(&[
            Entry::directory("d", 0o700),
            Entry::file("d/gone", b"x", 0o644),
            Entry::file("d/one", b"same", 0o4755),
            Entry::hard_link("d/two", "d/one"),
            Entry::symlink("d/link", "/etc/passwd"),
            Entry::file("replaced", b"old", 0o644),
        ]),
        NAME,
    );
    let stack = [base.layers[0].layer.unwrap()];
    let top = strata_top(&sandbox, &stack);
    let image = BuiltImage::new(config(), [base.layers[0].clone(), top].to_vec());

    let target = sandbox.path("out");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("kept"), "mine").unwrap();
    // A link in the way is replaced, not followed.
    std::os::unix::fs::symlink("/tmp", target.join("d")).unwrap();
    export_to(&sandbox, &image, Format::Local, &target);
    assert_eq!(std::fs::read(target.join("kept")).unwrap(), b"mine");
    assert_eq!(std::fs::read(target.join("replaced")).unwrap(), b"new");
    assert!(!target.join("d/gone").exists());
    let one = target.join("d/one").metadata().unwrap();
    assert_eq!(one.permissions().mode() & 0o7777, 0o4755);
    assert_eq!(one.ino(), target.join("d/two").metadata().unwrap().ino());
    assert_eq!(one.mtime(), 1_700_000_000);
    assert_eq!(
        target.join("d").metadata().unwrap().permissions().mode() & 0o7777,
        0o700
    );
    assert_eq!(
        std::fs::read_link(target.join("d/link")).unwrap(),
        Path::new("/etc/passwd")
    );
    // Once more over itself: nothing fails, nothing is left over.
    export_to(&sandbox, &image, Format::Local, &target);
    let names = |path: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&target), ["d", "kept", "replaced"]);
    assert_eq!(names(&target.join("d")), ["link", "one", "two"]);

    let path = sandbox.path("root.tar");
    export_to(&sandbox, &image, Format::Tar, &path);
    let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
    let listed: Vec<(String, bool)> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            (name, entry.header().entry_type().is_hard_link())
        })
        .collect();
    let files: Vec<(&str, bool)> = listed
        .iter()
        .map(|(name, link)| (name.trim_start_matches("./"), *link))
        .filter(|(name, _)| !name.is_empty())
        .collect();
    assert_eq!(
        files,
        [
            ("d/", false),
            ("d/link", false),
            ("d/one", false),
            ("d/two", true),
            ("replaced", false)
        ]
    );
}

/// A layer that deletes and replaces.
fn strata_top(
    sandbox: &Sandbox,
    stack: &[strata_cache::LayerId],
) -> strata_cache::image::StoredLayer {
    let layer = sandbox.layer(stack, |upper| {
        std::fs::create_dir(upper.join("d")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(upper.join("d"), mode).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            upper.join("d/gone"),
            rustix::fs::FileType::CharacterDevice,
            rustix::fs::Mode::empty(),
            rustix::fs::makedev(0, 0),
        )
        .unwrap();
        std::fs::write(upper.join("replaced"), "new").unwrap();
    });
    strata_cache::image::StoredLayer {
        diff_id: export::diff_id(&sandbox.store, layer, WriteOptions::default()).unwrap(),
        layer: Some(layer),
        blob: None,
    }
}

#[test]
fn images_are_found_by_name_and_by_id() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let image = sandbox.import(&busybox_tar(), NAME);
    let images = Images::new(&sandbox.store, RegistryOptions::default());
    let find = |text: &str| images.find_local(text).unwrap().map(|(name, _)| name);
    assert_eq!(find("app:1").as_deref(), Some(NAME));
    assert_eq!(
        find(&image.config.hex()[..8]),
        Some(image.config.to_string())
    );
    assert_eq!(
        find(&image.config.to_string()),
        Some(image.config.to_string())
    );
    assert_eq!(find("app:2"), None);
    let error = images
        .resolve(
            &sandbox.lease,
            "app:2",
            &Platform::host(),
            PullPolicy::Never,
            &NoProgress,
        )
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("`app:2` is not in the local store"),
        "{error}"
    );
}

#[test]
fn a_file_does_not_name_its_image_by_a_digest() {
    let sandbox = Sandbox::new();
    let layers = [
        tar(&[Entry::file("a", b"1", 0o644)]),
        tar(&[Entry::file("a", b"2", 0o644)]),
    ];
    let victim = format!("debian@{}", Digest::of(b"the real one"));
    let path = sandbox.path("poison.tar");
    let tags = format!(r#"["{victim}","honest:1"]"#);
    std::fs::write(&path, old_docker_archive(&layers, &tags)).unwrap();
    let loaded = load::load(&sandbox.store, &sandbox.lease, &path, &NoProgress).unwrap();
    assert_eq!(loaded[0].names, ["docker.io/library/honest:1"]);
    let error = read(&sandbox, &victim, "a").unwrap_err();
    assert!(matches!(error, ImageError::NotLocal { .. }), "{error}");
}
