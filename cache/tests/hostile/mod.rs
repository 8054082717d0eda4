//! Archives with nothing checked, and a place to unpack them in whose surroundings must stay.

#![allow(dead_code, reason = "no program uses all of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use strata_cache::LayerView;
use strata_cache::diff::{Applied, DiffError, Limits, apply_layer};
use tempfile::TempDir;

pub(crate) const BLOCK: usize = 512;

/// An archive under construction, with nothing checked.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// One header's raw fields.
#[derive(Clone)]
pub(crate) struct Raw {
    pub(crate) name: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) size: Vec<u8>,
    pub(crate) uid: Vec<u8>,
    pub(crate) mtime: Vec<u8>,
    pub(crate) magic: [u8; 8],
    pub(crate) prefix: Vec<u8>,
    pub(crate) device: (u32, u32),
}

pub(crate) fn raw(name: &[u8], flag: u8) -> Raw {
    Raw {
        name: name.to_vec(),
        flag,
        link: Vec::new(),
        mode: 0o644,
        size: b"00000000000\0".to_vec(),
        uid: b"0000000\0".to_vec(),
        mtime: b"00000000000\0".to_vec(),
        magic: *b"ustar\x0000",
        prefix: Vec::new(),
        device: (0, 0),
    }
}

impl Raw {
    pub(crate) fn link(mut self, link: &[u8]) -> Self {
        self.link = link.to_vec();
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Self {
        self.size = format!("{size:011o}\0").into_bytes();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn device(mut self, major: u32, minor: u32) -> Self {
        self.device = (major, minor);
        self
    }

    pub(crate) fn field(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, &self.uid);
        put(116, b"0000000\0");
        put(124, &self.size);
        put(136, &self.mtime);
        put(156, &[self.flag]);
        put(157, &self.link);
        put(257, &self.magic);
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        put(345, &self.prefix);
        seal(&mut block);
        block
    }
}

pub(crate) fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn raw(mut self, raw: &Raw) -> Self {
        self.0.extend_from_slice(&raw.block());
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(&raw(name.as_bytes(), b'0').size(content.len() as u64))
            .data(content)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.raw(&raw(name.as_bytes(), b'5').mode(0o755))
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(&raw(name.as_bytes(), b'2').link(target.as_bytes()))
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(&raw(name.as_bytes(), b'1').link(target.as_bytes()))
    }

    /// An extended header with raw records.
    pub(crate) fn pax(self, flag: u8, records: &[u8]) -> Self {
        self.raw(&raw(b"pax", flag).size(records.len() as u64))
            .data(records)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 2 * BLOCK]);
        self.0
    }
}

pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// A place to unpack in: a layer below, the layer's directory, and things around it that must stay.
pub(crate) struct Place {
    pub(crate) root: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        assert_eq!(
            rustix::process::geteuid().as_raw(),
            0,
            "this test has to run as root"
        );
        let root = TempDir::new().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("outside/dir")).unwrap();
        fs::write(at("outside/canary"), "alive").unwrap();
        fs::create_dir_all(at("below/dir/sub")).unwrap();
        fs::create_dir_all(at("below/etc")).unwrap();
        fs::write(at("below/dir/low"), "low").unwrap();
        fs::write(at("below/file"), "file").unwrap();
        symlink("dir", at("below/inside")).unwrap();
        symlink("../outside", at("below/up")).unwrap();
        symlink(at("outside"), at("below/absolute")).unwrap();
        symlink("loop", at("below/loop")).unwrap();
        symlink("/nowhere/yet", at("below/dangling")).unwrap();
        fs::create_dir(at("upper")).unwrap();
        Self { root }
    }

    pub(crate) fn apply(&self, tar: &[u8], limits: Limits) -> Result<Applied, DiffError> {
        let below = LayerView::new(vec![self.root.path().join("below")]);
        let upper = self.root.path().join("upper");
        apply_layer(&mut &tar[..], &upper, &below, false, limits)
    }

    /// Everything that is not the layer's, as text.
    pub(crate) fn surroundings(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut pending = vec![self.root.path().to_owned()];
        while let Some(path) = pending.pop() {
            if path == self.root.path().join("upper") {
                continue;
            }
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                let children = fs::read_dir(&path).unwrap();
                pending.extend(children.map(|child| child.unwrap().path()));
            }
            let content = if metadata.is_file() {
                fs::read(&path).unwrap()
            } else {
                Vec::new()
            };
            let times = (metadata.mtime(), metadata.ctime(), metadata.ctime_nsec());
            files.insert(
                path.display().to_string(),
                format!("{:o} {times:?} {content:?}", metadata.mode()),
            );
        }
        files
    }

    pub(crate) fn upper(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("upper").join(name)
    }
}

pub(crate) const LIMITS: Limits = Limits {
    entries: 1000,
    bytes: 10_000_000,
};

pub(crate) fn long(length: usize) -> String {
    "n".repeat(length)
}
