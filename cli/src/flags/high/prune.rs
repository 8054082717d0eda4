//! `strata cache prune`

use strata_cache::Room;
use strata_cache::prune::PruneOptions;

use crate::config::Rule;
use crate::error::CommandError;
use crate::flags::low;

/// What `strata cache prune` removes on a file system with this room.
pub(crate) fn prune_options(
    low: &low::CachePrune,
    room: Option<Room>,
) -> Result<PruneOptions, CommandError> {
    let rule = Rule {
        all: low.all,
        filter: low.filter.clone(),
        keep_duration: low.keep_duration.clone(),
        reserved_space: low.reserved_space.clone(),
        max_used_space: low.max_used_space.clone(),
        min_free_space: low.min_free_space.clone(),
        keep_inodes: low.keep_inodes.clone(),
    };
    let options = rule
        .options(room, "`strata cache prune`")
        // Keys of the file are names of flags.
        .map_err(|error| CommandError::usage(error.replacen('`', "`--", 1)))?;
    Ok(PruneOptions {
        dry_run: low.dry_run,
        ..options
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    fn prune(arguments: &[&str]) -> Result<PruneOptions, String> {
        let line = ["strata", "cache", "prune"].iter().chain(arguments);
        let low::Command::Cache(low::Cache::Prune(low)) = low::Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        else {
            panic!("not a prune");
        };
        let room = Room {
            free: 0,
            total: 1_000,
            free_inodes: 0,
            inodes: 100,
        };
        prune_options(&low, Some(room)).map_err(|error| error.message())
    }

    #[test]
    fn prune_reads_spans_sizes_and_percents() {
        for arguments in [
            ["-a", "--keep-duration", "24h", "--max-used-space", "20g"],
            ["-a", "--filter", "until=24h", "--keep-storage", "20g"],
        ] {
            let options = prune(&arguments).unwrap();
            assert!(options.all);
            assert_eq!(options.older_than, Some(Duration::from_hours(24)));
            assert_eq!(options.keep_bytes, Some(20 << 30));
        }
        let options = prune(&["--min-free-space", "20%", "--keep-inodes=30%"]).unwrap();
        assert_eq!(options.min_free, Some(200));
        assert_eq!(options.min_free_inodes, Some(30));
        for (arguments, part) in [
            (["--filter", "label=x"], "`--filter`"),
            (["--filter", "24h"], "`--filter`"),
            (["--keep-duration", "24"], "`--keep-duration`"),
            (["--max-used-space", "x"], "`--max-used-space`"),
            (["--reserved-space", "x"], "`--reserved-space`"),
        ] {
            let error = prune(&arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
