//! What a build says of its result: how it was made (`provenance.rs`), and what is in it (a list of
//! packages, by [`strata_image::sbom`]).

mod clean;
mod provenance;
mod reach;
mod said;

use std::path::PathBuf;

use serde_json::Value;
use strata_cache::{Digest, LayerId, LayerView, Store};
use strata_image::attest::Statement;
use strata_image::sbom::{self, Document, Inventory};
use strata_image::{BuiltImage, ExportError};
use strata_parser::ignore::IgnoreFile;

use crate::graph::Graph;
use crate::request::BuildRequest;

pub(crate) use reach::Reach;
pub(crate) use said::Said;

/// What is asked for. Nothing, by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attestations {
    /// How it was made.
    pub provenance: Option<Provenance>,
    /// What is in it.
    pub sbom: bool,
    /// How it was made, for whoever asked for the build: see [`BuiltPlatform::provenance`].
    ///
    /// [`BuiltPlatform::provenance`]: crate::request::BuiltPlatform::provenance
    pub metadata: Option<Mode>,
    /// The commit that a context of this machine is checked out from, for either.
    pub vcs: Option<Vcs>,
}

/// Where a directory that is checked out from a repository is from. Nothing in it is secret, nor a path of
/// this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vcs {
    /// The repository's address.
    pub source: Option<String>,
    /// The commit, with `-dirty` if files were seen to be changed.
    pub revision: Option<String>,
    /// The context's place in the repository.
    pub context: Option<String>,
    /// That of the Dockerfile's directory.
    pub dockerfile: Option<String>,
}

impl Attestations {
    /// True if nothing is to be said with the result.
    pub fn is_empty(&self) -> bool {
        self.provenance.is_none() && !self.sbom
    }
}

/// How much is said of how an image was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// What it was made from and when.
    #[default]
    Min,
    /// Build arguments, labels, the Dockerfile and its steps, too.
    Max,
}

/// Which form of SLSA's provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// <https://slsa.dev/spec/v1.0/provenance>
    #[default]
    V1,
    /// <https://slsa.dev/spec/v0.2/provenance>
    V02,
}

/// How to say how an image was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance {
    /// How much.
    pub mode: Mode,
    /// Who vouches for it: a URI, by which a builder is known.
    pub builder_id: String,
    /// The file's name in outputs without manifests, in place of `provenance.json`.
    pub filename: Option<String>,
    /// Whoever asks says that the same build makes the same bytes. Nothing is written then that
    /// differs from build to build.
    pub reproducible: bool,
    /// Attach it to images, and write no file into outputs without manifests.
    pub inline_only: bool,
    /// Which form.
    pub version: Version,
}

/// Something from elsewhere that a build was made of, by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Material {
    /// Where it is from, without credentials.
    pub uri: String,
    /// Name of the digest's algorithm: `sha256`, or `sha1` for most commits.
    pub algorithm: &'static str,
    /// The digest in hex.
    pub digest: String,
}

impl Material {
    /// A file of the web.
    pub(crate) fn web(url: &str, digest: Digest) -> Self {
        Self {
            uri: strata_image::fetch::shown(url),
            algorithm: "sha256",
            digest: digest.hex(),
        }
    }

    /// A commit of a repository.
    pub(crate) fn git(address: &crate::remote::GitAddress, commit: &str) -> Self {
        let mut uri = address.to_string();
        let reference = address.reference.as_deref().unwrap_or_default();
        if !reference.is_empty() || !address.subdirectory.is_empty() {
            uri = format!("{uri}#{reference}");
        }
        if !address.subdirectory.is_empty() {
            uri = format!("{uri}:{}", address.subdirectory);
        }
        Self {
            uri,
            algorithm: if commit.len() == 64 { "sha256" } else { "sha1" },
            digest: commit.to_owned(),
        }
    }
}

/// What is known of a build when it is over.
pub(crate) struct Facts<'a> {
    pub(crate) request: &'a BuildRequest,
    pub(crate) graph: &'a Graph,
    /// What of the graph the result is made of.
    pub(crate) reach: Reach,
    /// By source of the graph: what it is for others, if it is from elsewhere.
    pub(crate) materials: &'a [Option<Material>],
    /// Milliseconds since the epoch.
    pub(crate) started_ms: u64,
    /// Milliseconds since the epoch.
    pub(crate) finished_ms: u64,
    /// A word that no other build has.
    pub(crate) invocation: &'a str,
    /// See [`crate::epoch`].
    pub(crate) epoch: Option<i64>,
}

/// Everything that is asked for, about one image.
pub(crate) fn statements(
    facts: &Facts<'_>,
    image: &BuiltImage,
    scanned: &[Scanned],
    store: &Store,
    notice: &dyn Fn(String),
) -> Result<Vec<Statement>, ExportError> {
    let mut statements = Vec::new();
    if facts.request.attestations.sbom {
        statements.push(software(facts, image, store, notice)?);
        for one in scanned {
            statements.push(one.statement(facts, image, store, notice)?);
        }
    }
    if let Some(asked) = &facts.request.attestations.provenance {
        statements.push(provenance::statement(facts, asked));
    }
    Ok(statements)
}

/// How an image was made, in SLSA's current form, for whoever asked for the build.
pub(crate) fn predicate(facts: &Facts<'_>, mode: Mode) -> Value {
    let asked = Provenance {
        mode,
        ..facts
            .request
            .attestations
            .provenance
            .clone()
            .unwrap_or_default()
    };
    provenance::statement(facts, &asked).predicate
}

/// What is in an image.
fn software(
    facts: &Facts<'_>,
    image: &BuiltImage,
    store: &Store,
    notice: &dyn Fn(String),
) -> Result<Statement, ExportError> {
    let mut layers = Vec::with_capacity(image.layers().len());
    for layer in image.layers() {
        layers.push(layer.layer.ok_or(ExportError::NotUnpacked {
            diff_id: layer.diff_id.0,
        })?);
    }
    let inventory = sbom::scan(&LayerView::new(store.layer_paths(&layers)))?;
    Ok(listed(facts, image, "sbom", &inventory, notice))
}

/// What packages are listed of besides an image.
pub(crate) enum Scanned {
    /// A stage that the image may have things from.
    Stage {
        /// Its name.
        name: String,
        /// Its layers, base first.
        layers: Vec<LayerId>,
    },
    /// The build context, without what its ignore file hides.
    Context {
        /// The directory.
        root: PathBuf,
        /// The ignore file, if it may have one.
        ignore: Option<IgnoreFile>,
    },
}

impl Scanned {
    fn statement(
        &self,
        facts: &Facts<'_>,
        image: &BuiltImage,
        store: &Store,
        notice: &dyn Fn(String),
    ) -> Result<Statement, ExportError> {
        match self {
            Self::Stage { name, layers } => {
                let inventory = sbom::scan(&LayerView::new(store.layer_paths(layers)))?;
                let name = format!("sbom-{name}");
                Ok(listed(facts, image, &name, &inventory, notice))
            }
            Self::Context { root, ignore } => {
                let view = LayerView::new(vec![root.clone()]);
                let inventory = sbom::scan_files(&view, &|path, is_directory| {
                    let (Some(ignore), Some(path)) = (ignore, path.to_str()) else {
                        return true;
                    };
                    !ignore.is_ignored(path) || (is_directory && ignore.may_reinclude_below(path))
                })?;
                Ok(listed(facts, image, "sbom-context", &inventory, notice))
            }
        }
    }
}

/// A list of packages as a statement, dated as the image.
fn listed(
    facts: &Facts<'_>,
    image: &BuiltImage,
    name: &str,
    inventory: &Inventory,
    notice: &dyn Fn(String),
) -> Statement {
    for note in &inventory.notes {
        notice(format!("list of packages: {note}"));
    }
    let created = image.config().created.as_ref();
    let created = created
        .and_then(strata_image::config::Time::timestamp)
        .map(jiff::Timestamp::as_second);
    let document = Document {
        name,
        created: facts.epoch.or(created).unwrap_or(0),
    };
    Statement {
        predicate_type: sbom::PREDICATE.to_owned(),
        predicate: document.of(inventory),
        filename: format!("{name}.spdx.json"),
        inline_only: false,
    }
}
