//! `strata check`, and what else is asked of a Dockerfile without building it.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use strata_solver::request::BuildRequest;
use strata_solver::request::Context;
use strata_solver::request::Output;
use strata_solver::request::Pull;

use super::Surroundings;
use super::build_args;
use super::flag;
use crate::error::CommandError;
use crate::flags::context::Source;
use crate::flags::low;
use crate::flags::named;
use crate::flags::stale;
use crate::flags::value;

/// Questions that a Dockerfile answers without being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Which.
    pub(crate) method: Method,
    /// Answer in JSON.
    pub(crate) json: bool,
}

/// See [`Call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// What is wrong with it.
    Check,
    /// What the target takes.
    Outline,
    /// What can be built.
    Targets,
}

/// `METHOD[,format=FORMAT]`, as docker buildx has it.
pub(super) fn call(text: &str) -> Result<Option<Call>, String> {
    let mut method = text;
    let mut json = false;
    if let Some((name, options)) = text.split_once(',') {
        method = name;
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("format", "json")) => json = true,
                Some(("format", "text" | "")) => json = false,
                Some(("format", format)) => {
                    return Err(format!("`{format}` is not a format: expected text or json"));
                }
                _ => return Err(format!("`{option}` is not an option: expected format=…")),
            }
        }
    }
    let method = match method {
        "build" | "" => return Ok(None),
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        other => {
            return Err(format!(
                "`{other}` is not a method: expected build, check, outline or targets"
            ));
        }
    };
    Ok(Some(Call { method, json }))
}

/// A Dockerfile to look at.
#[derive(Debug)]
pub(crate) struct Check {
    /// For the solver: what a build would be.
    pub(crate) request: BuildRequest,
}

impl Check {
    /// Checks the flags of `strata check`.
    pub(crate) fn new(
        low: &low::Check,
        surroundings: &Surroundings<'_>,
        stdin: &mut dyn Read,
    ) -> Result<Self, CommandError> {
        let build_args = build_args(&low.build_arg, surroundings)?;
        let platform = low
            .platform
            .as_deref()
            .map(|text| flag("--platform", value::platform(text)))
            .transpose()?;
        let mut build_contexts = Vec::with_capacity(low.build_context.len());
        for text in &low.build_context {
            build_contexts.push(flag("--build-context", named::context(text, surroundings))?);
        }
        let source = Source::find(
            &low.context,
            low.file.as_deref(),
            &surroundings.directory,
            stdin,
        )
        .map_err(CommandError::usage)?;
        if low.fix && source.path.is_none() {
            return Err(CommandError::usage(
                "`--fix` needs a file to write to, and standard input is none",
            ));
        }
        let is_directory = matches!(source.context, Context::Directory(_));
        let ignore_file = ignore_file(low.ignorefile.as_deref(), is_directory, surroundings)?;
        Ok(Self {
            request: BuildRequest {
                ignore_file,
                dockerfile_path: source.path,
                build_args,
                build_contexts,
                outputs: vec![Output::CacheOnly],
                pull: Pull::Never,
                platforms: platform.into_iter().collect(),
                allow: entitlements(),
                ..BuildRequest::new(source.dockerfile, source.name, source.context)
            },
        })
    }
}

/// The file of `--ignorefile`, for a context that can have one.
pub(super) fn ignore_file(
    given: Option<&Path>,
    is_directory: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Option<PathBuf>, CommandError> {
    if given.is_some() && !is_directory {
        return Err(CommandError::usage(
            "`--ignorefile`: only a context that is a directory has an ignore file",
        ));
    }
    Ok(given.map(|path| surroundings.path(path)))
}

/// Everything that `--allow` can give. Who only looks needs no leave.
pub(crate) fn entitlements() -> Vec<String> {
    ENTITLEMENTS.map(str::to_owned).to_vec()
}

const ENTITLEMENTS: [&str; 3] = ["network.host", "security.insecure", "device"];

/// Checks what is given to `--allow`: one of those, or `device=` and a name.
pub(super) fn entitlement(text: &str) -> Result<String, String> {
    if let Some(name) = text.strip_prefix("device=") {
        strata_executor::cdi::check_name(name).map_err(|error| error.to_string())?;
    } else if text != stale::LEAVE && !ENTITLEMENTS.contains(&text) {
        return Err(format!(
            "`{text}` is not an entitlement: expected network.host, security.insecure, device, \
             device=NAME or {}",
            stale::LEAVE
        ));
    }
    Ok(text.to_owned())
}
