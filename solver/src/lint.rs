//! Findings: those of the text, of the plan and of the ignore file put together, and a check that
//! builds nothing.

use strata_cache::Lease;
use strata_image::Images;
use strata_parser::directive::Check;
use strata_parser::{Diagnostic, Diagnostics, Dockerfile, Level, lint};

use crate::bases::{Bases, NoBases};
use crate::build::StoreBases;
use crate::context::IgnoreAt;
use crate::error::{BuildError, Report};
use crate::plan;
use crate::request::{BuildRequest, Context, Pull};

/// The build argument that stands in for the file's `# check=` directive.
const CHECK_ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Errors and findings, in the order of their places.
    pub report: Report,
    /// Whether a finding is meant to make a build fail.
    pub strict: bool,
    /// Base images that are not in the store, so that nothing is known of their variables.
    pub unknown: Vec<String>,
}

/// Which rules to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that `BuildKit` has, too.
    BuildKit,
    /// All of them.
    All,
}

/// Looks for errors and findings in every stage of the request's Dockerfile. Nothing is built and
/// nothing downloaded: base images are looked up in `images` alone, if there is a store at all.
pub fn check(
    request: &BuildRequest,
    images: Option<(&Images<'_>, &Lease)>,
    scope: Scope,
) -> Result<Checked, BuildError> {
    let report = |list: Vec<Diagnostic>| Report {
        file: request.dockerfile_name.clone(),
        source: strata_parser::source::text(&request.dockerfile).into_owned(),
        diagnostics: Diagnostics { list },
    };
    let dockerfile = match Dockerfile::parse(&request.dockerfile) {
        Ok(dockerfile) => dockerfile,
        Err(errors) => {
            return Ok(Checked {
                report: report(errors.list),
                strict: false,
                unknown: Vec::new(),
            });
        }
    };
    let settings = settings(&dockerfile, request)?;
    let store;
    let bases: &dyn Bases = match images {
        None => &NoBases,
        Some((images, lease)) => {
            store = local(images, lease);
            &store
        }
    };
    let planned = plan::check(&dockerfile, request, bases);
    let (errors, warnings) = planned
        .findings
        .into_iter()
        .partition(|finding| finding.level == Level::Error);
    let mut list: Vec<Diagnostic> = errors;
    list.extend(findings(&dockerfile, request, &settings, warnings)?);
    if scope == Scope::All {
        list.extend(lint::advice(&dockerfile, &settings));
    }
    list.sort_by_key(|finding| finding.span.start);
    Ok(Checked {
        report: report(list),
        strict: settings.error,
        unknown: planned.unknown,
    })
}

/// The settings for a build: the build argument's, else the file's.
///
/// # Errors
/// The build argument can't be read.
pub fn settings(dockerfile: &Dockerfile, request: &BuildRequest) -> Result<Check, BuildError> {
    let argument = request
        .build_args
        .iter()
        .rev()
        .find(|(name, _)| name == CHECK_ARGUMENT);
    match argument {
        None => Ok(lint::settings(dockerfile)),
        Some((_, text)) => Check::parse(text).map_err(|error| {
            BuildError::Request(format!("build argument `{CHECK_ARGUMENT}`: {error}"))
        }),
    }
}

/// Everything that `BuildKit`'s rules find, each once, in the order of the places. `planned` is
/// what the planner found.
pub(crate) fn findings(
    dockerfile: &Dockerfile,
    request: &BuildRequest,
    settings: &Check,
    planned: Vec<Diagnostic>,
) -> Result<Vec<Diagnostic>, BuildError> {
    let mut findings = lint::check(dockerfile, settings);
    if let Context::Directory(root) = &request.context
        && lint::is_enabled("CopyIgnoredFile", settings)
        && lint::copies_from_context(dockerfile)
    {
        let ignore = IgnoreAt::of(request).read(root)?;
        findings.extend(lint::copy_ignored(dockerfile, &ignore, settings));
    }
    findings.extend(lint::filtered(dockerfile, settings, planned));
    findings.sort_by(|a, b| (a.span, a.code, &a.message).cmp(&(b.span, b.code, &b.message)));
    findings.dedup_by(|a, b| (a.span, a.code, &a.message) == (b.span, b.code, &b.message));
    Ok(findings)
}

/// The error that findings are if the settings say so.
pub(crate) fn violation(dockerfile: &Dockerfile, findings: &[Diagnostic]) -> Option<Diagnostic> {
    let first = findings.first()?;
    let mut rules: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
    rules.sort_unstable();
    rules.dedup();
    let setting = dockerfile.directives.check.as_ref();
    let span = setting
        .filter(|setting| setting.value.error)
        .map_or(first.span, |setting| setting.span);
    Some(Diagnostic::error(
        "lint-violation",
        span,
        format!("lint violation found for rules: {}", rules.join(", ")),
    ))
}

/// Images of the store alone.
pub(crate) fn local<'a>(images: &'a Images<'a>, lease: &'a Lease) -> StoreBases<'a> {
    StoreBases {
        images,
        lease,
        pull: Pull::Never,
    }
}
