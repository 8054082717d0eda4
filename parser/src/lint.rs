//! Findings: what builds, but should be written another way.
//!
//! [`check`] looks for what BuildKit's rules find, by name and meaning, as far as that needs nothing
//! but the text; `UndefinedVar` and `InvalidBaseImagePlatform` need the base images, and are the
//! planner's. [`advice()`] looks for more: mistakes in the shell text of RUN, and base images that
//! change under one's feet.
//!
//! A file chooses with `# check=skip=...;experimental=...`, and a comment of that form right above
//! an instruction does so for just that one.
//!
//! ```
//! use strata_parser::Dockerfile;
//! use strata_parser::lint;
//!
//! let file = Dockerfile::parse(b"FROM debian as Base\nCMD top\n")?;
//! let check = lint::settings(&file);
//! let codes: Vec<_> = lint::check(&file, &check).iter().map(|finding| finding.code).collect();
//! assert_eq!(codes, ["FromAsCasing", "StageNameCasing", "JSONArgsRecommended"]);
//! # Ok::<(), strata_parser::Diagnostics>(())
//! ```

mod advice;
mod from;
mod instructions;
mod packages;
mod pairs;
mod run;
mod shell;

use crate::Dockerfile;
use crate::diagnostic::Diagnostic;
use crate::directive::Check;
use crate::ignore::IgnoreFile;
use crate::instruction::InstructionKind;
use crate::instruction::Source;
use crate::pattern::clean;
use crate::span::Span;
use crate::span::Spanned;

/// A rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its name, which settings refer to.
    pub name: &'static str,
    /// What it finds.
    pub summary: &'static str,
    /// Whether it runs only when asked for.
    pub experimental: bool,
    /// Whether `BuildKit` has it, too.
    pub buildkit: bool,
}

impl Rule {
    /// Where it is explained: an address for `BuildKit`'s rules, a page of this project's
    /// documentation for its own.
    pub fn page(&self) -> String {
        if !self.buildkit {
            return format!("docs/lint/{}.md", self.name);
        }
        let mut slug = String::with_capacity(self.name.len() + 8);
        let letters: Vec<char> = self.name.chars().collect();
        for (at, letter) in letters.iter().enumerate() {
            // A capital begins a word unless it goes on with an abbreviation.
            let starts = letter.is_uppercase()
                && at > 0
                && (letters[at - 1].is_lowercase()
                    || letters.get(at + 1).is_some_and(|next| next.is_lowercase()));
            if starts {
                slug.push('-');
            }
            slug.push(letter.to_ascii_lowercase());
        }
        format!("https://docs.docker.com/reference/build-checks/{slug}/")
    }
}

/// The rule of that name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

const fn rule(name: &'static str, summary: &'static str) -> Rule {
    Rule {
        name,
        summary,
        experimental: false,
        buildkit: true,
    }
}

const fn own(name: &'static str, summary: &'static str) -> Rule {
    Rule {
        name,
        summary,
        experimental: false,
        buildkit: false,
    }
}

/// All rules: `BuildKit`'s, then this project's own.
pub const RULES: [Rule; 45] = [
    rule("StageNameCasing", "stage names should be lower case"),
    rule("FromAsCasing", "`as` should have the case of `from`"),
    rule("NoEmptyContinuation", "empty lines in a continuation"),
    rule(
        "ConsistentInstructionCasing",
        "instructions should have the case that most have",
    ),
    rule("DuplicateStageName", "two stages share a name"),
    rule("ReservedStageName", "stages called `scratch` or `context`"),
    rule(
        "JSONArgsRecommended",
        "shell forms of CMD and ENTRYPOINT don't pass signals on",
    ),
    rule("MaintainerDeprecated", "MAINTAINER instead of a label"),
    rule(
        "UndefinedArgInFrom",
        "FROM uses an argument that isn't declared",
    ),
    rule(
        "WorkdirRelativePath",
        "a relative WORKDIR depends on the base image",
    ),
    rule("UndefinedVar", "variables that are never defined"),
    rule(
        "MultipleInstructionsDisallowed",
        "only the last of several CMD or ENTRYPOINT counts",
    ),
    rule(
        "LegacyKeyValueFormat",
        "`ENV key value` instead of `ENV key=value`",
    ),
    rule(
        "InvalidBaseImagePlatform",
        "the base image is for another platform",
    ),
    rule(
        "RedundantTargetPlatform",
        "`FROM --platform=$TARGETPLATFORM` is the default",
    ),
    rule(
        "SecretsUsedInArgOrEnv",
        "secrets in ARG or ENV stay in the image",
    ),
    rule(
        "InvalidDefaultArgInFrom",
        "FROM makes no image name without build arguments",
    ),
    rule(
        "FromPlatformFlagConstDisallowed",
        "`FROM --platform` with a constant",
    ),
    rule(
        "CopyIgnoredFile",
        "COPY or ADD of a file that the ignore file leaves out",
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        summary: "comments above FROM and ARG should read `name description`",
        experimental: true,
        buildkit: true,
    },
    rule(
        "ExposeProtoCasing",
        "protocols of EXPOSE should be lower case",
    ),
    rule(
        "ExposeInvalidFormat",
        "addresses and host ports mean nothing in EXPOSE",
    ),
    own("UntaggedBaseImage", "a base image without tag or digest"),
    own("LatestBaseImage", "a base image by the tag `latest`"),
    own("LastUserRoot", "the last USER is root"),
    own("AddInsteadOfCopy", "ADD where COPY would do"),
    own("SudoInRun", "`sudo` in RUN"),
    own(
        "CdInsteadOfWorkdir",
        "`cd` at the beginning of RUN instead of WORKDIR",
    ),
    own("ShellPipefail", "a pipe whose failures nobody sees"),
    own("PipeToShell", "a download that is run unseen"),
    own("AptInRun", "`apt` in a script instead of `apt-get`"),
    own(
        "AptGetUpdateMissing",
        "`apt-get install` without `apt-get update` in the same RUN",
    ),
    own("AptGetUpdateAlone", "`apt-get update` in a RUN of its own"),
    own("AptGetAssumeYes", "`apt-get` that would ask"),
    own(
        "AptGetNoInstallRecommends",
        "`apt-get install` with recommended packages",
    ),
    own("AptGetListsKept", "apt's package lists stay in the image"),
    own(
        "AptGetPinVersions",
        "`apt-get install` of whatever version there is",
    ),
    own("ApkNoCache", "`apk` keeps its index in the image"),
    own("ApkPinVersions", "`apk add` of whatever version there is"),
    own("DnfAssumeYes", "`dnf` or `yum` that would ask"),
    own("DnfCleanAll", "`dnf` or `yum` keeps downloads in the image"),
    own("PipNoCacheDir", "`pip` keeps downloads in the image"),
    own(
        "PipPinVersions",
        "`pip install` of whatever version there is",
    ),
    own(
        "NpmPinVersions",
        "`npm install` of whatever version there is",
    ),
    own(
        "GemPinVersions",
        "`gem install` of whatever version there is",
    ),
];

/// The settings that a file gives itself.
pub fn settings(file: &Dockerfile) -> Check {
    file.directives
        .check
        .as_ref()
        .map(|check| check.value.clone())
        .unwrap_or_default()
}

/// Whether `rule` runs under these settings.
pub fn is_enabled(rule: &str, check: &Check) -> bool {
    match find(rule) {
        Some(known) if known.experimental => check.experimental.contains(rule),
        _ => !check.skip.contains(rule),
    }
}

/// What the text alone tells, in the order of the places, minus what the settings and the
/// comments leave out.
pub fn check(file: &Dockerfile, check: &Check) -> Vec<Diagnostic> {
    let mut findings = file.warnings.clone();
    from::check(file, &mut findings);
    instructions::check(file, &mut findings);
    filtered(file, check, findings)
}

/// What this project's own rules find, in the order of the places, minus what the settings and the
/// comments leave out.
pub fn advice(file: &Dockerfile, check: &Check) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    advice::check(file, &mut findings);
    filtered(file, check, findings)
}

/// Whether an instruction takes files from the context.
pub fn copies_from_context(file: &Dockerfile) -> bool {
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    instructions.into_iter().any(|instruction| {
        matches!(&instruction.kind, InstructionKind::Copy(copy) | InstructionKind::Add(copy)
            if copy.from.is_none())
    })
}

/// Sources of COPY and ADD that `ignore` leaves out of the context. With patterns that take back
/// nothing is said: too much that looks ignored isn't.
pub fn copy_ignored(file: &Dockerfile, ignore: &IgnoreFile, check: &Check) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    if ignore.is_empty() || ignore.has_negations() {
        return findings;
    }
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let (InstructionKind::Copy(copy) | InstructionKind::Add(copy)) = &instruction.kind else {
            continue;
        };
        if copy.from.is_some() {
            continue;
        }
        for source in &copy.sources {
            let Source::Path(path) = source else { continue };
            if path.value.contains(['$', '\\', '"', '\'']) || path.value.contains("://") {
                continue;
            }
            let cleaned = clean(&format!("/{}", path.as_str()));
            let relative = cleaned.trim_start_matches('/');
            if !relative.is_empty() && ignore.is_ignored(relative) {
                findings.push(
                    Diagnostic::warning(
                        "CopyIgnoredFile",
                        path.span,
                        format!("`{}` is left out by the ignore file", path.as_str()),
                    )
                    .with_help("take it out of the ignore file, or copy something else"),
                );
            }
        }
    }
    filtered(file, check, findings)
}

/// Drops what the file's settings, or the comments above an instruction, leave out.
pub fn filtered(
    file: &Dockerfile,
    check: &Check,
    mut findings: Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    // In the order of the file.
    let mut local: Vec<(Span, Vec<Check>)> = Vec::new();
    let mut note = |span: Span, comments: &[Spanned<String>]| {
        let checks = comments.iter().filter_map(|c| local_check(c.as_str()));
        let checks: Vec<Check> = checks.collect();
        if !checks.is_empty() {
            local.push((span, checks));
        }
    };
    for global in &file.global_args {
        note(global.span, &global.comments);
    }
    for stage in &file.stages {
        note(stage.span, &stage.comments);
        for instruction in &stage.instructions {
            note(instruction.span, &instruction.comments);
        }
    }
    findings.retain(|finding| {
        let start = finding.span.start;
        let before = local.partition_point(|(span, _)| span.start <= start);
        let here = before
            .checked_sub(1)
            .and_then(|index| local.get(index))
            .filter(|(span, _)| start <= span.end);
        is_enabled(finding.code, check)
            && !here.is_some_and(|(_, checks)| {
                checks.iter().any(|local| local.skip.contains(finding.code))
            })
    });
    findings.sort_by_key(|finding| finding.span.start);
    findings
}

/// The settings in a comment `check=...`.
fn local_check(comment: &str) -> Option<Check> {
    let (key, value) = comment.split_once('=')?;
    if !key.trim().eq_ignore_ascii_case("check") {
        return None;
    }
    Check::parse(value.trim_start().split(' ').next()?).ok()
}

#[cfg(test)]
#[path = "lint/tests.rs"]
mod tests;
