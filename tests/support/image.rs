//! Images as values: read from an OCI layout, an OCI archive or a docker archive, by the formats'
//! specifications and without strata's own code.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::tree::hex;
use super::{Kind, Tree};

/// An image with everything it holds.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// The image configuration.
    pub(crate) config: Value,
    /// The manifest: OCI's, or the first entry of a docker archive's `manifest.json`.
    pub(crate) manifest: Value,
    /// Digest of the manifest's bytes (of the config's in a docker archive).
    pub(crate) digest: String,
    /// The layers as stored in tars, base first. Whiteouts are files named `.wh.…`.
    pub(crate) layers: Vec<Tree>,
    /// Names that the archive gives the image.
    pub(crate) names: Vec<String>,
}

impl Image {
    /// Reads a directory with a layout or a tar with a layout or a docker archive. Every digest and
    /// size is checked on the way.
    pub(crate) fn read(path: &Path) -> Self {
        let files = if path.is_dir() {
            files_of_directory(path)
        } else {
            files_of_tar(path)
        };
        if files.contains_key("index.json") {
            let mut image = Self::of_layout(&files);
            // An archive for docker is both; docker reads the names here.
            if let Some(entries) = files.get("manifest.json") {
                image.names = repo_tags(&serde_json::from_slice::<Value>(entries).unwrap()[0]);
            }
            image
        } else {
            Self::of_docker_archive(&files)
        }
    }

    fn of_layout(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let layout: Value = serde_json::from_slice(&files["oci-layout"]).unwrap();
        assert_eq!(layout["imageLayoutVersion"], "1.0.0");
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["schemaVersion"], 2);
        let descriptors = index["manifests"].as_array().unwrap();
        let names = descriptors
            .iter()
            .filter_map(|it| {
                let annotations = &it["annotations"];
                let full = &annotations["io.containerd.image.name"];
                let short = &annotations["org.opencontainers.image.ref.name"];
                full.as_str()
                    .or_else(|| short.as_str())
                    .map(ToOwned::to_owned)
            })
            .collect();
        let descriptor = &descriptors[0];
        let manifest: Value = serde_json::from_slice(blob(files, descriptor)).unwrap();
        let families = [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
        ];
        let media_type = descriptor["mediaType"].as_str().unwrap();
        assert!(families.contains(&media_type), "{media_type}");
        assert_eq!(manifest["mediaType"], media_type);
        assert_eq!(manifest["schemaVersion"], 2);
        let config: Value = serde_json::from_slice(blob(files, &manifest["config"])).unwrap();
        let tars: Vec<Vec<u8>> = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| decompress(blob(files, layer)))
            .collect();
        let digest = descriptor["digest"].as_str().unwrap().to_owned();
        Self::new(config, manifest, digest, &tars, names)
    }

    fn of_docker_archive(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let all: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let manifest = all[0].clone();
        let config_bytes = &files[manifest["Config"].as_str().unwrap()];
        let config: Value = serde_json::from_slice(config_bytes).unwrap();
        let tars: Vec<Vec<u8>> = manifest["Layers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| decompress(&files[layer.as_str().unwrap()]))
            .collect();
        let names = repo_tags(&manifest);
        Self::new(config, manifest, sha256(config_bytes), &tars, names)
    }

    fn new(
        config: Value,
        manifest: Value,
        digest: String,
        tars: &[Vec<u8>],
        names: Vec<String>,
    ) -> Self {
        let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
        assert_eq!(config["rootfs"]["type"], "layers");
        if !diff_ids.is_empty() {
            assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(diff_ids));
        }
        // It may have been omitted, but then as a whole.
        if let Some(history) = config.get("history") {
            let entries = history.as_array().unwrap();
            let with_layer = entries
                .iter()
                .filter(|entry| entry["empty_layer"] != true)
                .count();
            assert_eq!(with_layer, tars.len(), "history and layers: {config:#}");
        }
        let layers = tars
            .iter()
            .map(|tar| Tree::of_tar(tar.as_slice()))
            .collect();
        Self {
            config,
            manifest,
            digest,
            layers,
            names,
        }
    }

    /// All layers applied.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        for layer in &self.layers {
            tree.apply(layer);
        }
        tree
    }

    /// The last layer.
    pub(crate) fn top(&self) -> &Tree {
        self.layers.last().expect("the image has layers")
    }

    /// The last layer's paths, but for directories that the layers below have just the same (a layer
    /// writes the parents of what it changes).
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut below = Tree::default();
        for layer in &self.layers[..self.layers.len() - 1] {
            below.apply(layer);
        }
        let mut top = self.top().clone();
        top.0.retain(|path, node| {
            if path.is_empty() {
                return false;
            }
            node.kind != Kind::Directory
                || below
                    .0
                    .get(path)
                    .is_none_or(|known| known.line() != node.line())
        });
        top.lines()
    }

    /// A value of the container configuration (`Env`, `Cmd`, …); null if it isn't there.
    pub(crate) fn setting(&self, name: &str) -> &Value {
        &self.config["config"][name]
    }

    /// A variable of the configuration's environment.
    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        let all = self.setting("Env").as_array()?;
        all.iter()
            .find_map(|pair| pair.as_str()?.strip_prefix(name)?.strip_prefix('='))
    }

    /// The `created_by` of the history, without the entries of `base` layers before it.
    pub(crate) fn history(&self) -> Vec<&str> {
        let entries = self.config["history"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| entry["created_by"].as_str().unwrap_or_default())
            .collect()
    }
}

/// Names in an entry of a docker archive's `manifest.json`.
fn repo_tags(entry: &Value) -> Vec<String> {
    let tags = entry["RepoTags"].as_array().into_iter().flatten();
    tags.map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The bytes that a descriptor names, after checking them.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
    assert_eq!(descriptor["size"], bytes.len(), "{descriptor}");
    assert_eq!(sha256(bytes), digest);
    bytes
}

fn decompress(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(bytes)
            .read_to_end(&mut plain)
            .unwrap();
    } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        zstd::stream::copy_decode(bytes, &mut plain).unwrap();
    } else {
        plain.extend_from_slice(bytes);
    }
    plain
}

fn files_of_directory(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

fn files_of_tar(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry
            .path()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_start_matches("./")
            .to_owned();
        if let Some(target) = entry.link_name().unwrap() {
            // docker archives link a layer that occurs twice.
            let directory = Path::new(&name).parent().unwrap();
            let target = directory.join(target);
            let mut parts: Vec<&str> = Vec::new();
            for part in target.to_str().unwrap().split('/') {
                if part == ".." {
                    parts.pop();
                } else {
                    parts.push(part);
                }
            }
            links.push((name, parts.join("/")));
        } else if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(name, content);
        }
    }
    for (name, target) in links {
        let content = files[&target].clone();
        files.insert(name, content);
    }
    files
}
