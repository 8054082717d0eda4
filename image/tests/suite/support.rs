//! What the tests share: a store, small root file systems, images made of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use strata_cache::image::{StoredImage, StoredLayer};
use strata_cache::{LayerId, Lease, Store};
use strata_image::export::{self, BuiltImage};
use strata_image::{ImageConfig, NoProgress, Platform};

/// A store in a directory of its own.
pub struct Sandbox {
    pub directory: tempfile::TempDir,
    pub store: Store,
    pub lease: Lease,
}

impl Sandbox {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let lease = store.lease("test").unwrap();
        Self {
            directory,
            store,
            lease,
        }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Imports `tar` as an image.
    pub fn import(&self, tar: &[u8], name: &str) -> StoredImage {
        strata_image::import::import_rootfs(
            &self.store,
            &self.lease,
            &mut &*tar,
            config(),
            &[name.to_owned()],
            strata_image::UnpackLimits::default(),
            &NoProgress,
        )
        .unwrap()
    }

    /// A layer made as a step makes one: `fill` writes into the upper directory.
    pub fn layer(&self, stack: &[LayerId], fill: impl FnOnce(&Path)) -> LayerId {
        let scratch = self.store.scratch(stack).unwrap();
        fill(scratch.upper());
        scratch.commit(&self.lease, None, None).unwrap()
    }

    /// An image of a busybox base and one layer made here, as a build leaves it.
    pub fn built(&self) -> BuiltImage {
        let base = self.import(&busybox_tar(), "docker.io/library/base:latest");
        let stack = [base.layers[0].layer.unwrap()];
        let layer = self.layer(&stack, |upper| {
            std::fs::create_dir(upper.join("etc")).unwrap();
            std::fs::write(upper.join("etc/motd"), "made here\n").unwrap();
        });
        let diff_id = export::diff_id(
            &self.store,
            layer,
            strata_cache::diff::WriteOptions::default(),
        )
        .unwrap();
        let mut layers = base.layers.clone();
        layers.push(StoredLayer {
            diff_id,
            layer: Some(layer),
            blob: None,
        });
        let mut config = config();
        config.config.cmd = Some(vec!["/bin/sh".to_owned()]);
        config.config.labels = BTreeMap::from([("made".to_owned(), "here".to_owned())]);
        BuiltImage::new(config, layers)
    }
}

pub fn config() -> ImageConfig {
    let mut config = ImageConfig::empty(&Platform::host());
    config.config.set_env(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    config
}

/// A root file system with busybox in it, as a tar.
pub fn busybox_tar() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").unwrap_or_else(|_| b"#!/bin/false\n".to_vec());
    tar(&[
        Entry::directory("bin", 0o755),
        Entry::file("bin/busybox", &busybox, 0o755),
        Entry::symlink("bin/sh", "busybox"),
        Entry::directory("etc", 0o755),
        Entry::file("etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644),
        Entry::directory("tmp", 0o1777),
    ])
}

pub struct Entry<'a> {
    name: &'a str,
    kind: tar::EntryType,
    mode: u32,
    link: &'a str,
    content: &'a [u8],
}

impl<'a> Entry<'a> {
    pub fn directory(name: &'a str, mode: u32) -> Self {
        Self {
            name,
            kind: tar::EntryType::Directory,
            mode,
            link: "",
            content: b"",
        }
    }

    pub fn file(name: &'a str, content: &'a [u8], mode: u32) -> Self {
        Self {
            name,
            kind: tar::EntryType::Regular,
            mode,
            link: "",
            content,
        }
    }

    pub fn symlink(name: &'a str, link: &'a str) -> Self {
        Self {
            name,
            kind: tar::EntryType::Symlink,
            mode: 0o777,
            link,
            content: b"",
        }
    }

    pub fn hard_link(name: &'a str, link: &'a str) -> Self {
        Self {
            name,
            kind: tar::EntryType::Link,
            mode: 0o644,
            link,
            content: b"",
        }
    }
}

/// A tar of `entries`, with any names: hostile ones, too.
pub fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        let raw = header.as_mut_bytes();
        raw[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        raw[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// True as root; else says that the test has not run.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root, because owners of layers are kept");
    }
    root
}
