//! Reads images from files: OCI layout directories, OCI archives, docker archives.
//!
//! The form is seen from the content. An archive is read once from front to back, so it may come
//! through a pipe: what may be a layer goes into the store's blobs as it passes, small files are kept
//! in memory until the manifests say what they are.

mod bundle;
mod list;
mod memo;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use strata_cache::image::{StoredBlob, StoredImage, StoredLayer};
use strata_cache::{Digest, Lease, Store, StoreError};

use self::bundle::Bundle;
pub(crate) use self::memo::Memo;
use crate::config::{ConfigError, RawConfig};
use crate::manifest::{Descriptor, Document, Index, ManifestError, media};
use crate::resolve::{now_ms, stored_layers};
use crate::unpack::{self, Compression};
use crate::{Platform, Progress, Reference};

/// Indexes within indexes that are followed.
const MAX_DEPTH: u32 = 3;
/// The full name in an index, as containerd and Docker write it.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The name or tag in an index (OCI image specification, "Annotations").
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Why a file holds no image that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file could not be read.
    #[error("read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// It is not an image archive or layout, or a damaged one.
    #[error("`{path}` can't be loaded: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A manifest inside can't be used.
    #[error("`{path}`")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// A config inside can't be used.
    #[error("`{path}`")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// It holds no image of that name.
    #[error("`{path}` holds no image `{name}`; there are: {available}")]
    NoSuchImage {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is, separated by commas.
        available: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image that was loaded, or a list of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub config: Digest,
    /// The names that it has now, in full. Empty for an archive without names.
    pub names: Vec<String>,
}

/// Loads every image of the archive or layout at `path` (its form is seen from its content; an
/// archive may be compressed) into the store. Layers are stored as they are and unpacked on use.
/// A lease must be held for as long as their blobs are needed: it protects what is stored.
pub fn load(
    store: &Store,
    _lease: &Lease,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, LoadError> {
    let mut source = Source {
        store,
        path,
        bundle: Bundle::open(store, path, progress)?,
    };
    source.load_all()
}

/// The same from a stream, such as standard input. `name` stands for the path in errors.
pub fn load_reader(
    store: &Store,
    _lease: &Lease,
    name: &Path,
    reader: &mut (dyn Read + Send),
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, LoadError> {
    let mut source = Source {
        store,
        path: name,
        bundle: Bundle::from_reader(store, name, reader, progress)?,
    };
    source.load_all()
}

/// Which image of a file is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The only one.
    Any,
    /// By its name or tag.
    Name(String),
    /// By the digest of its manifest.
    Digest(Digest),
}

/// Splits `PATH[:NAME|@DIGEST]`. A path may hold colons: the longest beginning that exists is the
/// path.
pub(crate) fn split_selector(text: &str) -> (PathBuf, Selector) {
    let whole = Path::new(text);
    if whole.symlink_metadata().is_ok() {
        return (whole.to_owned(), Selector::Any);
    }
    let selector = |position: usize| {
        let rest = &text[position + 1..];
        match rest.parse::<Digest>() {
            Ok(digest) if text.as_bytes()[position] == b'@' => Selector::Digest(digest),
            _ => Selector::Name(rest.to_owned()),
        }
    };
    let splits: Vec<usize> = text.match_indices([':', '@']).map(|(at, _)| at).collect();
    for position in splits.iter().rev() {
        if Path::new(&text[..*position]).symlink_metadata().is_ok() {
            return (PathBuf::from(&text[..*position]), selector(*position));
        }
    }
    match splits.first() {
        Some(position) => (PathBuf::from(&text[..*position]), selector(*position)),
        None => (whole.to_owned(), Selector::Any),
    }
}

/// Brings one image of the file at `path` into the store's blobs.
pub(crate) fn load_one(
    store: &Store,
    path: &Path,
    selector: &Selector,
    platform: &Platform,
    progress: &dyn Progress,
) -> Result<StoredImage, LoadError> {
    let mut source = Source {
        store,
        path,
        bundle: Bundle::open(store, path, progress)?,
    };
    let candidates = source.candidates()?;
    let chosen = source.choose(&candidates, selector)?;
    source.take(chosen, platform)
}

/// A file with images.
struct Source<'a> {
    store: &'a Store,
    path: &'a Path,
    bundle: Bundle<'a>,
}

/// An image that a file says it holds.
struct Candidate {
    /// Its names in full.
    names: Vec<Reference>,
    /// What it is called besides: a tag alone.
    labels: Vec<String>,
    form: Form,
}

enum Form {
    Oci(Box<Descriptor>),
    Docker(DockerEntry),
}

/// An element of a docker archive's `manifest.json`.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Candidate {
    fn matches(&self, name: &str) -> bool {
        self.labels.iter().any(|label| label == name)
            || Reference::parse(name).is_ok_and(|reference| self.names.contains(&reference))
    }

    fn shown(&self) -> Vec<String> {
        let names = self.names.iter().map(Reference::familiar);
        names.chain(self.labels.iter().cloned()).collect()
    }
}

impl Source<'_> {
    fn refused(&self, reason: impl Into<String>) -> LoadError {
        LoadError::Refused {
            path: self.path.to_owned(),
            reason: reason.into(),
        }
    }

    fn wrong_manifest(&self, source: ManifestError) -> LoadError {
        LoadError::Manifest {
            path: self.path.to_owned(),
            source,
        }
    }

    fn wrong_config(&self, source: ConfigError) -> LoadError {
        LoadError::Config {
            path: self.path.to_owned(),
            source,
        }
    }

    fn load_all(&mut self) -> Result<Vec<Loaded>, LoadError> {
        let platform = Platform::host();
        let mut loaded: Vec<Loaded> = Vec::new();
        for candidate in self.candidates()? {
            let names: Vec<String> = candidate.names.iter().map(ToString::to_string).collect();
            let config = if let Some(id) = self.take_list(&candidate, &names)? {
                id
            } else {
                let image = self.take(&candidate, &platform)?;
                self.store.index().put_image(&image, &names)?;
                image.config
            };
            match loaded.iter_mut().find(|old| old.config == config) {
                Some(old) => old.names.extend(names),
                None => loaded.push(Loaded { config, names }),
            }
        }
        for image in &mut loaded {
            image.names.sort();
            image.names.dedup();
        }
        Ok(loaded)
    }

    /// Every image that the file's lists name. A file with lists of both kinds (Docker writes such)
    /// is an OCI layout whose names stand in the docker list, too.
    fn candidates(&mut self) -> Result<Vec<Candidate>, LoadError> {
        let docker = self.docker_entries()?;
        let mut candidates = Vec::new();
        if let Some(bytes) = self.bundle.read("index.json")? {
            let index: Index = serde_json::from_slice(&bytes)
                .map_err(|error| self.wrong_manifest(ManifestError::Json(error)))?;
            for descriptor in index.manifests {
                let image = media::is_index(&descriptor.media_type)
                    || media::is_manifest(&descriptor.media_type);
                if !image || descriptor.is_attestation() {
                    continue;
                }
                let (names, labels) = names_of(&descriptor);
                candidates.push(Candidate {
                    names,
                    labels,
                    form: Form::Oci(Box::new(descriptor)),
                });
            }
        }
        if candidates.is_empty() {
            for entry in docker {
                candidates.push(Candidate {
                    names: docker_names(&entry),
                    labels: Vec::new(),
                    form: Form::Docker(entry),
                });
            }
        } else {
            self.add_docker_names(&mut candidates, &docker)?;
        }
        if candidates.is_empty() {
            return Err(self.refused(
                "it is neither an OCI layout (`oci-layout`, `index.json`) nor a docker archive \
                 (`manifest.json`) with images in it",
            ));
        }
        Ok(candidates)
    }

    fn docker_entries(&mut self) -> Result<Vec<DockerEntry>, LoadError> {
        match self.bundle.read("manifest.json")? {
            None => Ok(Vec::new()),
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| self.wrong_manifest(ManifestError::Json(error))),
        }
    }

    fn add_docker_names(
        &mut self,
        candidates: &mut [Candidate],
        docker: &[DockerEntry],
    ) -> Result<(), LoadError> {
        for entry in docker {
            let names = docker_names(entry);
            let Some(config) = entry.config.strip_prefix("blobs/sha256/") else {
                continue;
            };
            for candidate in &mut *candidates {
                let Form::Oci(descriptor) = &candidate.form else {
                    continue;
                };
                if !media::is_manifest(&descriptor.media_type) {
                    continue;
                }
                let Some(bytes) = self.bundle.read(&blob_name(descriptor.digest))? else {
                    continue;
                };
                if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None)
                    && manifest.config.digest.hex() == config
                {
                    for name in &names {
                        if !candidate.names.contains(name) {
                            candidate.names.push(name.clone());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn choose<'c>(
        &self,
        candidates: &'c [Candidate],
        selector: &Selector,
    ) -> Result<&'c Candidate, LoadError> {
        let matches = |candidate: &&Candidate| match selector {
            Selector::Any => true,
            Selector::Name(name) => candidate.matches(name),
            Selector::Digest(digest) => {
                matches!(&candidate.form, Form::Oci(descriptor) if descriptor.digest == *digest)
            }
        };
        let found: Vec<&Candidate> = candidates.iter().filter(matches).collect();
        let available = || -> String {
            let shown: Vec<String> = candidates.iter().flat_map(Candidate::shown).collect();
            if shown.is_empty() {
                format!("{} without a name", candidates.len())
            } else {
                shown.join(", ")
            }
        };
        if let [only] = found[..] {
            return Ok(only);
        }
        match selector {
            Selector::Any => found
                .iter()
                .find(|candidate| candidate.labels.iter().any(|label| label == "latest"))
                .copied()
                .ok_or_else(|| {
                    self.refused(format!(
                        "it holds several images; name one: {}",
                        available()
                    ))
                }),
            Selector::Name(_) | Selector::Digest(_) => {
                // The same image under one name twice is no riddle.
                found
                    .first()
                    .copied()
                    .ok_or_else(|| LoadError::NoSuchImage {
                        path: self.path.to_owned(),
                        name: match selector {
                            Selector::Digest(digest) => digest.to_string(),
                            Selector::Name(name) => name.clone(),
                            Selector::Any => String::new(),
                        },
                        available: available(),
                    })
            }
        }
    }

    /// Brings config and layers of an image into the store.
    fn take(
        &mut self,
        candidate: &Candidate,
        platform: &Platform,
    ) -> Result<StoredImage, LoadError> {
        match &candidate.form {
            Form::Oci(descriptor) => self.take_oci(descriptor, platform),
            Form::Docker(entry) => self.take_docker(entry),
        }
    }

    fn take_oci(
        &mut self,
        descriptor: &Descriptor,
        platform: &Platform,
    ) -> Result<StoredImage, LoadError> {
        let mut descriptor = descriptor.clone();
        for _ in 0..MAX_DEPTH {
            let bytes = self.blob_bytes(descriptor.digest)?;
            let document = Document::parse(&bytes, Some(&descriptor.media_type))
                .map_err(|error| self.wrong_manifest(error))?;
            let manifest = match document {
                Document::Manifest(manifest) => manifest,
                Document::Index(index) => {
                    descriptor = index
                        .choose(platform)
                        .map_err(|error| self.wrong_manifest(error))?
                        .clone();
                    continue;
                }
            };
            let config = RawConfig::parse(self.blob_bytes(manifest.config.digest)?)
                .map_err(|error| self.wrong_config(error))?;
            let layers = stored_layers(&manifest, &config.config)
                .map_err(|error| self.wrong_manifest(error))?;
            for layer in layers.iter().filter_map(|layer| layer.blob.as_ref()) {
                self.take_blob(layer.digest, layer.size)?;
            }
            self.store.blobs().put(&config.bytes)?;
            self.store.blobs().put(&bytes)?;
            return Ok(StoredImage {
                config: config.digest,
                manifest: Some(descriptor.digest),
                layers,
                created_ms: now_ms(),
            });
        }
        Err(self.refused("its indexes are nested too deeply"))
    }

    fn take_docker(&mut self, entry: &DockerEntry) -> Result<StoredImage, LoadError> {
        let bytes = self
            .bundle
            .read(&entry.config)?
            .ok_or_else(|| self.refused(format!("config `{}` is missing", entry.config)))?;
        let config = RawConfig::parse(bytes).map_err(|error| self.wrong_config(error))?;
        let names = entry.layers.clone().unwrap_or_default();
        let diff_ids = config.config.diff_ids();
        if names.len() != diff_ids.len() {
            return Err(self.wrong_manifest(ManifestError::LayerCount {
                manifest: names.len(),
                config: diff_ids.len(),
            }));
        }
        let mut layers = Vec::with_capacity(names.len());
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let (digest, size) = self
                .bundle
                .store_blob(name, None)?
                .ok_or_else(|| self.refused(format!("layer `{name}` is missing")))?;
            let compression = unpack::compression_of(self.store, digest)?;
            if compression == Compression::None && digest != diff_id.0 {
                return Err(self.refused(format!(
                    "layer `{name}` is {digest}, but the config says {}",
                    diff_id.0
                )));
            }
            layers.push(StoredLayer {
                diff_id: *diff_id,
                layer: None,
                blob: Some(StoredBlob {
                    digest,
                    size,
                    media_type: compression.media_type().to_owned(),
                }),
            });
        }
        self.store.blobs().put(&config.bytes)?;
        Ok(StoredImage {
            config: config.digest,
            manifest: None,
            layers,
            created_ms: now_ms(),
        })
    }

    /// A small blob: from the file, checked against its digest.
    fn blob_bytes(&mut self, digest: Digest) -> Result<Vec<u8>, LoadError> {
        let bytes = self
            .bundle
            .read(&blob_name(digest))?
            .ok_or_else(|| self.refused(format!("blob {digest} is missing")))?;
        let found = Digest::of(&bytes);
        if found == digest {
            Ok(bytes)
        } else {
            Err(self.refused(format!("blob {digest} is damaged: it is {found}")))
        }
    }

    /// Puts a layer's blob into the store.
    fn take_blob(&mut self, digest: Digest, size: u64) -> Result<(), LoadError> {
        if self.store.blobs().contains(digest) {
            return Ok(());
        }
        match self.bundle.store_blob(&blob_name(digest), Some(digest))? {
            None => Err(self.refused(format!("layer {digest} is missing"))),
            Some((_, found)) if found != size => Err(self.refused(format!(
                "layer {digest} has {found} bytes, but its manifest says {size}"
            ))),
            Some(_) => Ok(()),
        }
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Names in full and bare tags that an index gives an image.
fn names_of(descriptor: &Descriptor) -> (Vec<Reference>, Vec<String>) {
    let mut names = Vec::new();
    let mut labels = Vec::new();
    let full = descriptor.annotations.get(NAME_ANNOTATION);
    if let Some(name) = full.and_then(|name| plain_name(name)) {
        names.push(name);
    }
    if let Some(label) = descriptor.annotations.get(REF_ANNOTATION) {
        labels.push(label.clone());
        // A bare word is a tag; of which repository, nobody says.
        if names.is_empty()
            && label.contains(['/', ':'])
            && let Some(name) = plain_name(label)
        {
            names.push(name);
        }
    }
    (names, labels)
}

fn docker_names(entry: &DockerEntry) -> Vec<Reference> {
    let tags = entry.repo_tags.as_deref().unwrap_or_default();
    tags.iter().filter_map(|tag| plain_name(tag)).collect()
}

/// A name that a file may give its image. One with a digest says what a registry has under it; a
/// file can't know that, and must not stand in for it.
fn plain_name(text: &str) -> Option<Reference> {
    let reference = Reference::parse(text).ok()?;
    reference.digest.is_none().then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_hold_colons() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a:b.tar");
        std::fs::write(&path, "").unwrap();
        let text = path.to_str().unwrap();
        let digest = Digest::of(b"");
        let rows = [
            (text.to_owned(), Selector::Any),
            (format!("{text}:12"), Selector::Name("12".to_owned())),
            (
                format!("{text}:x/y:12"),
                Selector::Name("x/y:12".to_owned()),
            ),
            (format!("{text}@{digest}"), Selector::Digest(digest)),
        ];
        for (given, selector) in rows {
            assert_eq!(split_selector(&given), (path.clone(), selector), "{given}");
        }
        assert_eq!(
            split_selector("/missing.tar:x:1"),
            (
                PathBuf::from("/missing.tar"),
                Selector::Name("x:1".to_owned())
            )
        );
    }
}
