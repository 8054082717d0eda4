//! `strata cache prune`

use std::time::Duration;

use super::flag;
use crate::error::CommandError;
use crate::flags::low;
use crate::human;

/// What `strata cache prune` removes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prune {
    /// Everything that nothing needs.
    pub(crate) all: bool,
    /// What was used in this time stays.
    pub(crate) keep_duration: Option<Duration>,
    /// What fits stays, in bytes.
    pub(crate) max_used_space: Option<u64>,
    /// Remove nothing.
    pub(crate) dry_run: bool,
}

impl Prune {
    /// Checks the flags of `strata cache prune`.
    pub(crate) fn new(low: &low::CachePrune) -> Result<Self, CommandError> {
        let keep_duration = match (&low.keep_duration, &low.filter) {
            (Some(text), _) => Some(flag("--keep-duration", human::parse_duration(text))?),
            (None, Some(text)) => Some(flag("--filter", until(text))?),
            (None, None) => None,
        };
        let max_used_space = low
            .max_used_space
            .as_deref()
            .map(|text| flag("--max-used-space", human::parse_size(text)))
            .transpose()?;
        Ok(Self {
            all: low.all,
            keep_duration,
            max_used_space,
            dry_run: low.dry_run,
        })
    }
}

fn until(text: &str) -> Result<Duration, String> {
    match text.split_once('=') {
        Some(("until", span)) => human::parse_duration(span),
        Some((key, _)) => Err(format!("`{key}` is not supported: expected `until=SPAN`")),
        None => Err(format!("`{text}` is not of the form `until=SPAN`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn prune(arguments: &[&str]) -> Result<Prune, String> {
        let line = ["strata", "cache", "prune"].iter().chain(arguments);
        let low::Command::Cache(low::Cache::Prune(low)) = low::Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        else {
            panic!("not a prune");
        };
        Prune::new(&low).map_err(|error| error.message())
    }

    #[test]
    fn prune_reads_spans_and_sizes() {
        let expected = Prune {
            all: true,
            keep_duration: Some(Duration::from_hours(24)),
            max_used_space: Some(20 << 30),
            dry_run: false,
        };
        for arguments in [
            ["-a", "--keep-duration", "24h", "--max-used-space", "20g"],
            ["-a", "--filter", "until=24h", "--keep-storage", "20g"],
        ] {
            assert_eq!(prune(&arguments).as_ref(), Ok(&expected));
        }
        for (arguments, part) in [
            (["--filter", "label=x"], "`--filter`"),
            (["--filter", "24h"], "`--filter`"),
            (["--keep-duration", "24"], "`--keep-duration`"),
            (["--max-used-space", "x"], "`--max-used-space`"),
        ] {
            let error = prune(&arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
