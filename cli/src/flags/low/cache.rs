//! `strata cache`.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;

use super::Format;

/// `strata cache`
#[derive(Debug, Subcommand)]
pub(crate) enum Cache {
    /// List cached steps and whatever else the store has
    #[command(visible_alias = "list")]
    Ls(CacheLs),
    /// Show everything about one cached step, layer, blob or mount
    Inspect(CacheInspect),
    /// Keep something from being pruned
    Pin(CachePin),
    /// Let something be pruned again
    Unpin(CachePin),
    /// Cache mounts
    #[command(subcommand)]
    Mount(CacheMount),
    /// Say why a cached step was built: what changed since the one before it
    Why(CacheWhy),
    /// Show how much space the store takes
    Du(CacheDu),
    /// Remove what is not used any more
    Prune(CachePrune),
    /// Check the store for damage
    Verify(CacheVerify),
}

/// `strata cache inspect`
#[derive(Debug, Args)]
pub(crate) struct CacheInspect {
    /// An ID as `cache ls` shows it, or its first digits
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// How to write the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

/// `strata cache pin`, `strata cache unpin`
#[derive(Debug, Args)]
pub(crate) struct CachePin {
    /// IDs as `cache ls` shows them, or their first digits
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// `strata cache mount`
#[derive(Debug, Subcommand)]
pub(crate) enum CacheMount {
    /// List cache mounts
    Ls(CacheLs),
    /// List the files of a cache mount
    Show(CacheMountId),
    /// Empty cache mounts
    Clear(CacheMountClear),
    /// Write what a cache mount holds as a tar
    Export(CacheMountExport),
    /// Put what a tar holds in the place of what a cache mount holds
    Import(CacheMountImport),
}

/// `strata cache mount show`
#[derive(Debug, Args)]
pub(crate) struct CacheMountId {
    /// The mount's ID: what a Dockerfile has as `id=`, or else the target
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// `strata cache mount clear`
#[derive(Debug, Args)]
pub(crate) struct CacheMountClear {
    /// The mounts' IDs
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
}

/// `strata cache mount export`
#[derive(Debug, Args)]
pub(crate) struct CacheMountExport {
    /// The mount's ID
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Where to write the tar [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `strata cache mount import`
#[derive(Debug, Args)]
pub(crate) struct CacheMountImport {
    /// The mount's ID
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The tar, compressed or not [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

/// `strata cache ls`
#[derive(Debug, Args)]
pub(crate) struct CacheLs {
    /// How to write the list: table, json, or a template such as '{{.ID}} {{.Size}}'
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: String,
    /// Show each step below the one that it was made on
    #[arg(long)]
    pub(crate) tree: bool,
    /// Only what passes all filters, such as kind=run, description~=REGEX, inuse, until=24h
    /// (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Write whole keys and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// `strata cache why`
#[derive(Debug, Args)]
pub(crate) struct CacheWhy {
    /// An ID as `cache ls` shows it, a key (or its first digits), or the text of a step
    #[arg(value_name = "ID|STEP")]
    pub(crate) what: String,
    /// How to write the answer
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

/// `strata cache du`
#[derive(Debug, Args)]
pub(crate) struct CacheDu {
    /// How to write the figures
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

/// `strata cache prune`
#[derive(Debug, Args)]
pub(crate) struct CachePrune {
    /// Remove everything that no named image and no running build needs
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Keep what was used in this time, such as 24h or 7d
    #[arg(long, value_name = "SPAN")]
    pub(crate) keep_duration: Option<String>,
    /// Only what passes all filters, such as kind=mount, description~=REGEX, inuse=false, id!=ID,
    /// until=24h (repeatable)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Remove the least useful until the store takes no more than this, such as 20g or 50%
    #[arg(long, visible_alias = "keep-storage", value_name = "SIZE|PERCENT")]
    pub(crate) max_used_space: Option<String>,
    /// Remove the least useful until this much of the file system is free
    #[arg(long, value_name = "SIZE|PERCENT")]
    pub(crate) min_free_space: Option<String>,
    /// Remove the least useful until this many inodes of the file system are free
    #[arg(long, value_name = "NUMBER|PERCENT")]
    pub(crate) keep_inodes: Option<String>,
    /// Let the store keep this much, whatever else is asked
    #[arg(long, value_name = "SIZE|PERCENT")]
    pub(crate) reserved_space: Option<String>,
    /// Only tell what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Don't ask: never done, accepted for docker's sake
    #[arg(short, long)]
    pub(crate) force: bool,
    /// How to write the result
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

/// `strata cache verify`
#[derive(Debug, Args)]
pub(crate) struct CacheVerify {
    /// Pack every layer that was built here, too, and compare its digest
    #[arg(long)]
    pub(crate) deep: bool,
    /// Take out what is damaged: steps run again, images are pulled again
    #[arg(long)]
    pub(crate) repair: bool,
    /// How to write the findings
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}
