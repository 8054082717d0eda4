//! One plan for several platforms: a graph in which what does not depend on the platform is there once.
//!
//! The target is planned for each platform in turn, into one graph. A step that comes out as it did for
//! an earlier platform (the same operation in the same place, on the same root) is that step. So a stage
//! `FROM --platform=$BUILDPLATFORM` is shared up to its first use of a `TARGET…` variable.

use std::collections::HashMap;

use strata_parser::platform::Platform;
use strata_parser::{Diagnostic, Diagnostics, Dockerfile};

use super::{Place, Planner, StageState, Variables, global};
use crate::graph::{Op, Root, Vertex, VertexId};
use crate::request::BuildRequest;

/// What is built for one platform.
#[derive(Debug)]
pub struct Target {
    /// The platform that was asked for, or this machine's. A stage may be pinned to another.
    pub platform: Platform,
    /// The target's last state: its root, config and history.
    pub state: StageState,
    /// What is to be listed besides it, if packages are.
    pub scans: Scans,
}

/// The build argument that asks for an index even of one image.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// The platforms that are built for, each once, in the order asked for, and this machine's.
pub(super) fn platforms(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
) -> Result<(Vec<Platform>, Platform), Diagnostic> {
    let host = Platform::host();
    let mut platforms: Vec<Platform> = Vec::with_capacity(request.platforms.len().max(1));
    for text in &request.platforms {
        let platform = Platform::parse(text, &host).map_err(|error| {
            Diagnostic::error("bad-platform", dockerfile.stages[0].span, error.to_string())
        })?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.is_empty() {
        platforms.push(host.clone());
    }
    Ok((platforms, host))
}

/// Whether the result is an index: of several platforms always, of one if the request says so.
pub(super) fn is_index(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    platforms: usize,
) -> Result<bool, Diagnostic> {
    let given = request
        .build_args
        .iter()
        .rfind(|(name, _)| name == MULTI_PLATFORM);
    let wrong =
        |message: String| Diagnostic::error("bad-argument", dockerfile.stages[0].span, message);
    let Some((_, value)) = given else {
        return Ok(platforms > 1);
    };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" if platforms > 1 => Err(wrong(format!(
            "`{MULTI_PLATFORM}={value}` asks for no index, and {platforms} platforms are built"
        ))),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(wrong(format!(
            "`{MULTI_PLATFORM}={value}` is neither true nor false"
        ))),
    }
}

/// What a list of packages is made of besides the result.
#[derive(Debug, Clone, Default)]
pub struct Scans {
    /// Stages by name, in the order of the file.
    pub stages: Vec<(String, Root)>,
    /// The build context.
    pub context: bool,
}

/// The build arguments that ask for more lists of packages. They count only where the Dockerfile
/// declares them.
const SCAN_CONTEXT: &str = super::scope::INVISIBLE[0];
const SCAN_STAGE: &str = super::scope::INVISIBLE[1];

/// True if a value asks for the stage `name`: it is true, or a list of stages with that one.
fn asks_for(value: Option<&str>, name: &str) -> bool {
    match value.unwrap_or_default() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        list => list
            .split(',')
            .any(|one| !one.is_empty() && one.trim() == name),
    }
}

impl Planner<'_> {
    /// What is to be listed besides the stage `target`, of what was planned for it.
    pub(super) fn scans(&self, target: usize) -> Scans {
        let mut scans = Scans::default();
        if !self.request.attestations.sbom {
            return scans;
        }
        let mut planned: Vec<(&usize, &StageState)> = self.stages.iter().collect();
        planned.sort_by_key(|(index, _)| **index);
        for (index, state) in planned {
            let value = |name: &str| match state.args.get(name) {
                Some(value) => value.as_deref(),
                None => self.global.get(name),
            };
            scans.context |= asks_for(value(SCAN_CONTEXT), &state.name);
            if *index != target && asks_for(value(SCAN_STAGE), &state.name) {
                scans.stages.push((state.name.clone(), state.root));
            }
        }
        scans
    }

    /// The platforms that every base image of the target has, in the order of the first. Bases whose
    /// platform is written in the file are not asked.
    pub(super) fn platforms_of_bases(&self, target: usize) -> Result<Vec<Platform>, Diagnostics> {
        let mut common: Option<Vec<Platform>> = None;
        let mut below = self.below(target);
        below.push(target);
        for index in below {
            let stage = &self.dockerfile.stages[index];
            let (image, pinned) = self.base_words(stage)?;
            if pinned.is_some()
                || image == "scratch"
                || self.stage_above(&image, index).is_some()
                || self.named(&image, &self.host).is_some()
            {
                continue;
            }
            let span = stage.from.image.span;
            let found = self.bases.platforms(&image).map_err(|error| {
                let why = crate::error::chain(&*error);
                let message = format!("the platforms of image `{image}` can't be had: {why}");
                Diagnostic::error("base-image", span, message)
            })?;
            let found: Vec<Platform> = found
                .iter()
                .map(|it| {
                    let variant = it.variant.as_deref().unwrap_or_default();
                    Platform::normalised(&it.os, &it.architecture, variant, "")
                })
                .collect();
            common = Some(match common {
                None => found,
                Some(common) => common.into_iter().filter(|it| found.contains(it)).collect(),
            });
        }
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in common.unwrap_or_default() {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        if platforms.is_empty() {
            let message = "no platform is one of all base images";
            return Err(Diagnostic::error(
                "no-platform",
                self.dockerfile.stages[target].span,
                message,
            )
            .with_help("name the platforms with `--platform`")
            .into());
        }
        Ok(platforms)
    }

    /// Turns to another platform: stages are planned anew, images and steps are kept.
    pub(super) fn turn_to(&mut self, platform: &Platform) -> Result<(), Diagnostics> {
        let pair = (platform, &self.host);
        self.global = global(self.dockerfile, self.request, pair, &mut self.warnings)?;
        self.platform = platform.clone();
        self.stages = HashMap::new();
        self.after = HashMap::new();
        self.planned_before = self.graph.vertices.len();
        Ok(())
    }

    /// The step of an earlier platform that does what `new` does. It is then for both.
    pub(super) fn shared(&mut self, place: Place, new: &Vertex) -> Option<VertexId> {
        let before = self.planned_before;
        let candidates = self.at_place.get(&place)?;
        let found = candidates.iter().copied().find(|known| {
            let known_at = known.0;
            let known = &self.graph.vertices[known_at];
            // Only a command can see what it runs on.
            let same_platform = known.platform == new.platform || !matches!(new.op, Op::Run(_));
            known_at < before
                && same_platform
                && known.parent == new.parent
                && known.text == new.text
                && known.reuse == new.reuse
                && known.after == new.after
                && known.op == new.op
        })?;
        let known = &mut self.graph.vertices[found.0];
        known.name = name_of_both(&known.name, &new.name);
        Some(found)
    }

    /// `[build 2/5] `, with the platform if there is more than one.
    pub(super) fn step_prefix(
        &self,
        platform: &Platform,
        scope: Option<&Variables<String>>,
        stage: &str,
        (number, total): (usize, usize),
    ) -> String {
        let mut words = Vec::with_capacity(3);
        if self.index {
            let target = scope.and_then(|scope| target_of(scope, platform));
            words.push(match target {
                Some(target) => format!("{platform}{}", arrow(platform, &target)),
                None => platform.to_string(),
            });
        }
        if !stage.is_empty() {
            words.push(stage.to_owned());
        }
        words.push(format!("{number}/{total}"));
        format!("[{}] ", words.join(" "))
    }
}

/// The name of a step that two platforms share: `[A build 2/5] …` and `[B build 2/5] …` are
/// `[A,B build 2/5] …`.
fn name_of_both(known: &str, new: &str) -> String {
    let split = |name: &str| -> Option<(String, String)> {
        let (platforms, rest) = name.strip_prefix('[')?.split_once(' ')?;
        Some((platforms.to_owned(), rest.to_owned()))
    };
    match (split(known), split(new)) {
        (Some((platforms, rest)), Some((platform, same)))
            if rest == same && !platforms.split(',').any(|known| known == platform) =>
        {
            format!("[{platforms},{platform} {rest}")
        }
        _ => known.to_owned(),
    }
}

/// The platform that a step builds for, as far as the variables in scope say so.
fn target_of(scope: &Variables<String>, platform: &Platform) -> Option<Platform> {
    if let Some(text) = scope.get("TARGETPLATFORM")
        && let Ok(target) = Platform::parse(text, platform)
    {
        return Some(target);
    }
    let (os, arch) = (scope.get("TARGETOS"), scope.get("TARGETARCH"));
    let variant = scope.get("TARGETVARIANT");
    if os.is_none() && arch.is_none() && variant.is_none() {
        return None;
    }
    Some(Platform::normalised(
        os.map_or(platform.os.as_str(), String::as_str),
        arch.map_or(platform.arch.as_str(), String::as_str),
        variant.map_or("", String::as_str),
        "",
    ))
}

/// `->arm64`, if a step on `platform` builds for that.
fn arrow(platform: &Platform, target: &Platform) -> String {
    if target.os != platform.os {
        format!("->{target}")
    } else if target.arch != platform.arch {
        let variant = target.variant.as_str();
        let slash = if variant.is_empty() { "" } else { "/" };
        format!("->{}{slash}{variant}", target.arch)
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_step_names_each_platform_once() {
        let both = name_of_both("[a/b build 1/2] COPY x /", "[c/d build 1/2] COPY x /");
        assert_eq!(both, "[a/b,c/d build 1/2] COPY x /");
        let again = name_of_both(&both, "[c/d build 1/2] COPY x /");
        assert_eq!(again, both);
        assert_eq!(
            name_of_both("[1/2] COPY x /", "[1/2] COPY x /"),
            "[1/2] COPY x /"
        );
    }
}
