//! Indexes: the images of several platforms under one name, and what is said about them.

use std::collections::BTreeMap;
use std::path::Path;

use strata_cache::Digest;
use strata_cache::codec::Codec;
use strata_cache::diff::WriteOptions;
use strata_image::export::{
    self, Artifact, BuiltImage, Destination, Encoding, ExportError, ExportOptions, Format,
    ImageSet, PlatformAnnotations,
};
use strata_image::manifest::{Descriptor, Document, Index, media};
use strata_image::{ImageError, Images, List, NoProgress, Platform, Reference, RegistryOptions};

use crate::fake::{FakeRegistry, Reply};
use crate::support::{Sandbox, config};

/// An image for `platform` with a layer that holds the platform's name.
fn image(sandbox: &Sandbox, platform: &str) -> BuiltImage {
    let layer = sandbox.layer(&[], |upper| {
        std::fs::write(upper.join("platform"), platform).unwrap();
        std::fs::create_dir(upper.join("lib")).unwrap();
        std::fs::write(upper.join("lib").join(platform.replace('/', "-")), "x").unwrap();
    });
    let diff_id = export::diff_id(&sandbox.store, layer, WriteOptions::default()).unwrap();
    let mut config = config();
    config.set_platform(&platform.parse().unwrap());
    let layer = strata_cache::image::StoredLayer {
        diff_id,
        layer: Some(layer),
        blob: None,
    };
    BuiltImage::new(config, vec![layer])
}

fn export_to(
    sandbox: &Sandbox,
    set: &ImageSet<'_>,
    encoding: &Encoding,
    format: Format,
    path: &Path,
) -> Result<Option<Descriptor>, ExportError> {
    let names = ["docker.io/library/app:1".to_owned()];
    let options = ExportOptions {
        format,
        encoding,
        write: WriteOptions::default(),
        names: &names,
        platform_split: None,
        delete: false,
        files: None,
    };
    export::export(
        &sandbox.store,
        &sandbox.lease,
        set,
        &options,
        &Destination::Path(path.to_owned()),
        &NoProgress,
    )
}

fn blob(layout: &Path, digest: Digest) -> Vec<u8> {
    let bytes = std::fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    bytes
}

fn index(layout: &Path, descriptor: &Descriptor) -> Index {
    let Document::Index(index) = Document::parse(&blob(layout, descriptor.digest), None).unwrap()
    else {
        panic!("no index");
    };
    index
}

/// What says of an image that it was looked at.
fn statement(image: &Descriptor) -> Artifact {
    let blob = format!("about {}", image.digest).into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"text/plain","digest":"{}","size":{}}},"layers":[]}}"#,
        Digest::of(&blob),
        blob.len()
    )
    .into_bytes();
    let size = manifest.len() as u64;
    let mut descriptor = Descriptor::new(media::OCI_MANIFEST, Digest::of(&manifest), size);
    descriptor.platform = Some(Platform::new("unknown", "unknown", None));
    Artifact {
        descriptor,
        manifest,
        blobs: vec![blob],
    }
}

#[test]
fn an_index_lists_images_in_the_asked_order_then_what_is_said_of_them() {
    let sandbox = Sandbox::new();
    let images = ["linux/s390x", "linux/amd64", "linux/arm/v7"].map(|it| image(&sandbox, it));
    let set = ImageSet {
        images: &images,
        index: false,
        beside: Some(&|_, descriptor, _| vec![statement(descriptor)]),
    };
    let mut encoding = Encoding::new(Codec::None);
    let annotation = |value: &str| BTreeMap::from([("k".to_owned(), value.to_owned())]);
    encoding.annotations.manifest = annotation("every");
    encoding.annotations.descriptor = annotation("every descriptor");
    encoding.annotations.index = annotation("index");
    encoding.annotations.index_descriptor = annotation("index descriptor");
    encoding.annotations.platforms = vec![PlatformAnnotations {
        platform: "linux/amd64".parse().unwrap(),
        manifest: annotation("amd64"),
        descriptor: BTreeMap::new(),
    }];
    let path = sandbox.path("layout");
    let root = export_to(&sandbox, &set, &encoding, Format::OciDirectory, &path).unwrap();
    let root = root.unwrap();
    assert_eq!(root.media_type, media::OCI_INDEX);
    let listed: Index =
        serde_json::from_slice(&std::fs::read(path.join("index.json")).unwrap()).unwrap();
    assert_eq!(listed.manifests.len(), 1);
    assert_eq!(listed.manifests[0].digest, root.digest);
    assert_eq!(listed.manifests[0].annotations["k"], "index descriptor");

    let index = index(&path, &root);
    assert_eq!(index.annotations["k"], "index");
    let platforms: Vec<String> = index
        .manifests
        .iter()
        .map(|member| member.platform.as_ref().unwrap().to_string())
        .collect();
    let unknown = "unknown/unknown";
    assert_eq!(
        platforms,
        [
            "linux/s390x",
            "linux/amd64",
            "linux/arm/v7",
            unknown,
            unknown,
            unknown
        ]
    );
    for (position, expected) in ["every", "amd64", "every"].iter().enumerate() {
        let member = &index.manifests[position];
        assert_eq!(member.annotations["k"], "every descriptor");
        let bytes = blob(&path, member.digest);
        let Document::Manifest(manifest) = Document::parse(&bytes, None).unwrap() else {
            panic!("no manifest");
        };
        assert_eq!(manifest.annotations["k"], *expected);
        assert_eq!(manifest.config.digest, images[position].id());
        blob(&path, manifest.config.digest);
        blob(&path, manifest.layers[0].digest);
        let about = format!("about {}", member.digest);
        assert_eq!(
            blob(&path, Digest::of(about.as_bytes())),
            about.into_bytes()
        );
        let statement = blob(&path, index.manifests[3 + position].digest);
        assert!(String::from_utf8(statement).unwrap().contains("layers"));
    }
}

#[test]
fn an_index_of_one_is_made_only_if_asked_for() {
    let sandbox = Sandbox::new();
    let one = image(&sandbox, "linux/arm64");
    let mut set = ImageSet::one(&one);
    let encoding = Encoding::new(Codec::None);
    let export = |set: &ImageSet<'_>| {
        let path = sandbox.path("archive");
        let root = export_to(&sandbox, set, &encoding, Format::OciArchive, &path).unwrap();
        root.unwrap().media_type
    };
    assert_eq!(export(&set), media::OCI_MANIFEST);
    set.index = true;
    assert_eq!(export(&set), media::OCI_INDEX);
}

#[test]
fn docker_archives_take_no_index() {
    let sandbox = Sandbox::new();
    let images = ["linux/amd64", "linux/arm64"].map(|it| image(&sandbox, it));
    let set = ImageSet {
        images: &images,
        index: true,
        beside: None,
    };
    let path = sandbox.path("archive");
    let encoding = Encoding::new(Codec::None);
    let error = export_to(&sandbox, &set, &encoding, Format::DockerArchive, &path).unwrap_err();
    assert!(matches!(error, ExportError::DockerIndex { count: 2 }));
    assert!(!path.exists());
}

#[test]
fn files_of_platforms_go_to_directories_of_their_own_or_may_not_meet() {
    let sandbox = Sandbox::new();
    let images = ["linux/amd64", "linux/arm/v7"].map(|it| image(&sandbox, it));
    let set = ImageSet {
        images: &images,
        index: true,
        beside: None,
    };
    let encoding = Encoding::new(Codec::None);
    let path = sandbox.path("out");
    export_to(&sandbox, &set, &encoding, Format::Local, &path).unwrap();
    for (directory, content) in [
        ("linux_amd64", "linux/amd64"),
        ("linux_arm_v7", "linux/arm/v7"),
    ] {
        let file = path.join(directory).join("platform");
        assert_eq!(std::fs::read_to_string(file).unwrap(), content);
    }
    let archive = sandbox.path("out.tar");
    export_to(&sandbox, &set, &encoding, Format::Tar, &archive).unwrap();
    let bytes = std::fs::read(&archive).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "linux_amd64/",
            "linux_amd64/lib/",
            "linux_amd64/lib/linux-amd64",
            "linux_amd64/platform",
            "linux_arm_v7/",
            "linux_arm_v7/lib/",
            "linux_arm_v7/lib/linux-arm-v7",
            "linux_arm_v7/platform",
        ]
    );
    let options = ExportOptions {
        format: Format::Local,
        encoding: &encoding,
        write: WriteOptions::default(),
        names: &[],
        platform_split: Some(false),
        delete: false,
        files: None,
    };
    let together = sandbox.path("together");
    let error = export::export(
        &sandbox.store,
        &sandbox.lease,
        &set,
        &options,
        &Destination::Path(together.clone()),
        &NoProgress,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/platform` is in the images for linux/amd64 and linux/arm/v7: without \
         `platform-split=false` each platform has a directory of its own"
    );
    assert!(!together.exists());
}

/// A registry that has these documents, by the last part of their path.
fn registry_of(documents: Vec<(String, &'static str, Vec<u8>)>) -> FakeRegistry {
    FakeRegistry::start(move |asked| {
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        match documents.iter().find(|(known, ..)| known == name) {
            Some((_, media_type, bytes)) => Reply::new(200)
                .header("content-type", *media_type)
                .body(bytes.clone()),
            None if name.is_empty() => Reply::new(200),
            None => Reply::new(404),
        }
    })
}

fn pull(sandbox: &Sandbox, registry: &FakeRegistry) -> Result<Digest, ImageError> {
    let options = RegistryOptions {
        auth_files: vec!["/nonexistent/auth.json".into()],
        retry_pause_ms: Some(1),
        ..RegistryOptions::default()
    };
    let images = Images::new(&sandbox.store, options);
    let name = Reference::parse(&format!("{}/x:1", registry.host())).unwrap();
    let pulled = images.pull_list(&sandbox.lease, &name, &[], &NoProgress);
    pulled.map(|(_, id)| id)
}

fn index_bytes(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut index = Index::empty();
    for (media_type, bytes) in members {
        let size = bytes.len() as u64;
        let mut member = Descriptor::new(media_type, Digest::of(bytes), size);
        member.platform = Some(Platform::new("linux", "arm64", None));
        index.manifests.push(member);
    }
    serde_json::to_vec(&index).unwrap()
}

#[test]
fn what_is_no_image_is_kept_with_an_index_and_with_one_within() {
    let blob = b"a chart".to_vec();
    let described = format!(
        r#"{{"mediaType":"text/plain","digest":"{}","size":{}}}"#,
        Digest::of(&blob),
        blob.len()
    );
    let artifact = format!(r#"{{"schemaVersion":2,"config":{described},"layers":[{described}]}}"#)
        .into_bytes();
    let of = |bytes: &[u8]| Digest::of(bytes).to_string();
    let index = index_bytes(&[(media::OCI_MANIFEST, &artifact)]);
    let registry = registry_of(vec![
        ("1".to_owned(), media::OCI_INDEX, index.clone()),
        (of(&artifact), media::OCI_MANIFEST, artifact.clone()),
        (of(&blob), "text/plain", blob.clone()),
    ]);
    let sandbox = Sandbox::new();
    let id = pull(&sandbox, &registry).unwrap();
    let stored = sandbox.store.index().lists_by_id(&id.to_string()).unwrap();
    let list = List::parse(&stored[0]).unwrap();
    assert_eq!(list.came_as, Some(Digest::of(&index)));
    assert_eq!(list.members[0].image, None);
    for kept in [&index, &artifact, &blob] {
        assert!(stored[0].blobs.contains(&Digest::of(kept)));
    }

    let nested = index_bytes(&[(media::OCI_INDEX, &index)]);
    let documents = |inner: &[u8]| {
        vec![
            ("1".to_owned(), media::OCI_INDEX, nested.clone()),
            (of(&index), media::OCI_INDEX, inner.to_vec()),
            (of(&artifact), media::OCI_MANIFEST, artifact.clone()),
            (of(&blob), "text/plain", blob.clone()),
        ]
    };
    let sandbox = Sandbox::new();
    let id = pull(&sandbox, &registry_of(documents(&index))).unwrap();
    let stored = sandbox.store.index().lists_by_id(&id.to_string()).unwrap();
    let list = List::parse(&stored[0]).unwrap();
    assert_eq!(list.came_as, Some(Digest::of(&nested)));
    for kept in [&nested, &index, &artifact, &blob] {
        assert!(stored[0].blobs.contains(&Digest::of(kept)));
    }
    // One within is what its digest says, too.
    let error = pull(&Sandbox::new(), &registry_of(documents(&nested))).unwrap_err();
    assert!(matches!(error, ImageError::Registry(_)), "{error}");

    // A registry that gives something else for a digest is not believed.
    let index = index_bytes(&[(media::OCI_MANIFEST, &artifact)]);
    let registry = registry_of(vec![
        ("1".to_owned(), media::OCI_INDEX, index),
        (of(&artifact), media::OCI_MANIFEST, b"{}".to_vec()),
    ]);
    let sandbox = Sandbox::new();
    let error = pull(&sandbox, &registry).unwrap_err().to_string();
    assert!(
        error.contains(&Digest::of(&artifact).to_string()),
        "{error}"
    );
    assert!(sandbox.store.index().lists().unwrap().is_empty());
}

#[test]
fn a_registry_can_not_make_up_indexes_without_end() {
    let of = |bytes: &[u8]| Digest::of(bytes).to_string();
    let mut documents = Vec::new();
    let inner: Vec<Vec<u8>> = (0..70)
        .map(|number: u32| index_bytes(&[(media::OCI_MANIFEST, &number.to_le_bytes())]))
        .collect();
    let members: Vec<(&str, &[u8])> = inner
        .iter()
        .map(|bytes| (media::OCI_INDEX, bytes.as_slice()))
        .collect();
    documents.push(("1".to_owned(), media::OCI_INDEX, index_bytes(&members)));
    let named = inner.iter();
    documents.extend(named.map(|bytes| (of(bytes), media::OCI_INDEX, bytes.clone())));
    let error = pull(&Sandbox::new(), &registry_of(documents)).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("more than 64 indexes"), "{source}");
}
