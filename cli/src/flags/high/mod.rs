//! What was meant: flags checked against each other and turned into requests. Every error names
//! its flag.

mod build;
mod check;
mod limits;
mod networking;
mod prune;
mod run;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;

use strata_cache::codec::Codec;
use strata_executor::sandbox::Confinement;
use strata_solver::request::SHM_SIZE;

pub(crate) use build::Build;
pub(crate) use check::Call;
pub(crate) use check::Check;
pub(crate) use check::Method;
pub(crate) use check::entitlements;
pub(crate) use networking::Networking;
pub(crate) use prune::prune_options;
pub(crate) use run::Entrypoint;
pub(crate) use run::Run;

use self::limits::limits;
use super::low;
use super::security;
use super::value;
use crate::error::CommandError;
use crate::human;

/// What flags are looked up in.
pub(crate) struct Surroundings<'a> {
    /// The working directory.
    pub(crate) directory: PathBuf,
    /// A variable of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether an archive on standard output would land on a screen.
    pub(crate) stdout_is_terminal: bool,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// The environment of this process.
fn process_variable(name: &str) -> Option<OsString> {
    // A name with `=` or NUL can't be in an environment.
    if name.is_empty() || name.contains(['=', '\0']) {
        return None;
    }
    std::env::var_os(name)
}

impl Surroundings<'static> {
    /// Those of this process.
    pub(crate) fn of_process() -> Result<Self, CommandError> {
        let directory = std::env::current_dir().map_err(|error| {
            CommandError::failed(format!("the working directory can't be used: {error}"))
        })?;
        Ok(Self {
            directory,
            variable: &process_variable,
            stdout_is_terminal: std::io::stdout().is_terminal(),
        })
    }
}

impl Surroundings<'_> {
    /// `path` from the working directory.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        (self.variable)(name)
            .map(|value| {
                value
                    .into_string()
                    .map_err(|_| format!("variable `{name}` of the environment is not UTF-8"))
            })
            .transpose()
    }
}

/// Puts the flag's name before what is wrong with its value.
fn flag<T>(name: &str, result: Result<T, String>) -> Result<T, CommandError> {
    result.map_err(|message| CommandError::usage(format!("`{name}`: {message}")))
}

/// The same for every value of a flag.
fn each<T>(
    name: &str,
    values: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, CommandError> {
    values.iter().map(|value| flag(name, read(value))).collect()
}
fn ulimits(values: &[String]) -> Result<BTreeMap<String, (u64, u64)>, CommandError> {
    Ok(each("--ulimit", values, value::ulimit)?
        .into_iter()
        .collect())
}

fn confinement(
    low: &low::Security,
    surroundings: &Surroundings<'_>,
) -> Result<Confinement, CommandError> {
    security::confinement(&low.cap_add, &low.cap_drop, &low.security_opt, &|path| {
        surroundings.path(path)
    })
    .map_err(CommandError::usage)
}

fn shm_size(text: Option<&str>) -> Result<u64, CommandError> {
    match text {
        None => Ok(SHM_SIZE),
        Some(text) => match flag("--shm-size", human::parse_size(text))? {
            0 => Ok(SHM_SIZE),
            size => Ok(size),
        },
    }
}
/// Compression of an archive or an upload.
pub(crate) fn compression(text: &str) -> Result<Codec, CommandError> {
    match text {
        "gzip" => Ok(Codec::GZIP),
        "zstd" => Ok(Codec::ZSTD),
        "zstd:chunked" => Ok(Codec::ZstdChunked(3)),
        "estargz" => Err(CommandError::usage(
            "`--compression`: `estargz` makes another image, with another ID, of the same layers: it is \
             for `strata build --output type=…,compression=estargz`",
        )),
        "uncompressed" => Ok(Codec::None),
        other => Err(CommandError::usage(format!(
            "`--compression`: `{other}` is not supported: expected gzip, zstd, zstd:chunked or uncompressed"
        ))),
    }
}

fn build_args(
    given: &[String],
    surroundings: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, CommandError> {
    let mut build_args = Vec::new();
    for (name, given) in each("--build-arg", given, value::assignment)? {
        // A name that the environment lacks stays unset, as for docker build.
        let found = match given {
            Some(text) => Some(text),
            None => flag("--build-arg", surroundings.text(&name))?,
        };
        if let Some(text) = found {
            build_args.push((name, text));
        }
    }
    Ok(build_args)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn surroundings(directory: &Path) -> Surroundings<'static> {
        Surroundings {
            directory: directory.to_owned(),
            variable: &|name| match name {
                "FROM_ENV" => Some("env-value".into()),
                "SOURCE_DATE_EPOCH" => Some("1700000000".into()),
                _ => None,
            },
            stdout_is_terminal: false,
        }
    }
}
