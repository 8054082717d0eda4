//! Planning for its findings alone: every stage, and base images as far as they are known.

use std::collections::HashSet;

use strata_cache::Digest;
use strata_image::{ImageConfig, Platform as ImagePlatform};
use strata_parser::reference::ImageReference;
use strata_parser::{Diagnostic, Diagnostics, Dockerfile, Span};

use super::{Planner, StageState, find_target};
use crate::bases::{BaseImage, Bases};
use crate::request::BuildRequest;

/// What planning every stage found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Errors that would stop a build, and findings.
    pub findings: Vec<Diagnostic>,
    /// Base images that were not found. Variables that they may set are not looked for.
    pub unknown: Vec<String>,
}

/// Plans every stage of the file. A stage that can't be planned doesn't keep the others from it.
pub fn check(dockerfile: &Dockerfile, request: &BuildRequest, bases: &dyn Bases) -> Checked {
    let mut planner = match Planner::new(dockerfile, request, bases) {
        Ok(planner) => planner,
        Err(errors) => {
            return Checked {
                findings: errors.list,
                unknown: Vec::new(),
            };
        }
    };
    planner.tolerant = true;
    let mut findings: Vec<Diagnostic> = Vec::new();
    if let Err(errors) = find_target(dockerfile, request.target.as_deref()) {
        findings.extend(errors.list);
    }
    let mut told: HashSet<_> = findings
        .iter()
        .map(|error| (error.code, error.span, error.message.clone()))
        .collect();
    for index in 0..dockerfile.stages.len() {
        if let Err(errors) = planner.stage(index) {
            // A stage that others stand on fails for each of them.
            for error in errors.list {
                if told.insert((error.code, error.span, error.message.clone())) {
                    findings.push(error);
                }
            }
        }
    }
    let mut unknown = std::mem::take(&mut planner.unknown_bases);
    unknown.sort_unstable();
    unknown.dedup();
    findings.append(&mut planner.warnings);
    Checked { findings, unknown }
}

/// A stage that the target needs.
#[derive(Debug)]
pub struct Reached {
    /// Its index in the file.
    pub index: usize,
    /// Its last state.
    pub state: StageState,
}

/// The target's index, and the stages that it needs, itself included, in the order of the file.
pub fn reached(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    bases: &dyn Bases,
) -> Result<(usize, Vec<Reached>), Diagnostics> {
    let target = find_target(dockerfile, request.target.as_deref())?;
    let mut planner = Planner::new(dockerfile, request, bases)?;
    planner.tolerant = true;
    planner.target(target)?;
    let mut stages: Vec<Reached> = planner
        .stages
        .drain()
        .map(|(index, state)| Reached { index, state })
        .collect();
    stages.sort_by_key(|stage| stage.index);
    Ok((target, stages))
}

/// What a FROM may begin with that is no name in a registry.
const TRANSPORTS: [&str; 5] = [
    "oci-layout:",
    "oci:",
    "oci-archive:",
    "docker-archive:",
    "docker://",
];

/// Whether `reference` could name an image at all.
pub(super) fn may_exist(reference: &str) -> bool {
    ImageReference::parse(reference).is_ok()
        || TRANSPORTS
            .iter()
            .any(|transport| reference.starts_with(transport))
}

/// The error for a FROM that is no name of an image.
pub(super) fn bad_reference(reference: &str, reason: String, span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error("bad-reference", span, reason).with_label("needed here");
    // What buildah reads besides.
    let others = ["dir:", "containers-storage:", "docker-daemon:", "sif:"];
    if others.iter().any(|other| reference.starts_with(other)) {
        return diagnostic.with_help(format!(
            "images are read from {}",
            TRANSPORTS.map(|known| format!("`{known}`")).join(", ")
        ));
    }
    diagnostic
}

/// An image without content in place of one that isn't known.
pub(super) fn stand_in(reference: &str, platform: &ImagePlatform) -> BaseImage {
    BaseImage {
        name: reference.to_owned(),
        config: ImageConfig::empty(platform),
        config_digest: Digest::of(b""),
        manifest: None,
        layers: Vec::new(),
        source: None,
        unnamed: None,
    }
}
