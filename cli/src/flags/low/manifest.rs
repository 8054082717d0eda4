//! `strata manifest`

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use clap::ValueEnum;

/// Commands for lists of images: one name for the images of several platforms.
#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Make a list of images
    Create(ManifestCreate),
    /// Add images to a list
    Add(ManifestAdd),
    /// Change what a list says of a member, or of itself
    Annotate(ManifestAnnotate),
    /// Take members out of a list
    Remove(ManifestRemove),
    /// Show a list, or what a registry has under a name
    Inspect(ManifestInspect),
    /// Upload a list and its members
    Push(ManifestPush),
    /// Remove lists
    Rm(ManifestRm),
    /// Exit with 0 if there is such a list, else with 1
    Exists(ManifestExists),
}

/// `strata manifest create`
#[derive(Debug, Args)]
pub(crate) struct ManifestCreate {
    /// Name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Images to put into it: names or IDs of the store, else names in registries
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Add to the list if there is one
    #[arg(short, long)]
    pub(crate) amend: bool,
    /// Of images that are lists themselves take all, not just this machine's
    #[arg(long)]
    pub(crate) all: bool,
    /// Annotate the list (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
}

/// What an index says of a member.
#[derive(Debug, Default, Args)]
pub(crate) struct Described {
    /// Operating system
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// Architecture
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,
    /// Version of the operating system
    #[arg(long, value_name = "VERSION")]
    pub(crate) os_version: Option<String>,
    /// Features that the operating system must have (repeatable, or separated by commas)
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    pub(crate) os_features: Vec<String>,
    /// Annotation (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
}

/// `strata manifest add`
#[derive(Debug, Args)]
pub(crate) struct ManifestAdd {
    /// Name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Names or IDs of the store, else names in registries
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Of images that are lists themselves take all, not just this machine's
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) described: Described,
}

/// `strata manifest annotate`
#[derive(Debug, Args)]
pub(crate) struct ManifestAnnotate {
    /// Name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Member: digest of its manifest, ID or name of its image, or its platform
    #[arg(value_name = "MEMBER", required_unless_present = "index")]
    pub(crate) member: Option<String>,
    /// Annotate the list itself
    #[arg(long, conflicts_with = "member")]
    pub(crate) index: bool,
    #[command(flatten)]
    pub(crate) described: Described,
}

/// `strata manifest remove`
#[derive(Debug, Args)]
pub(crate) struct ManifestRemove {
    /// Name of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Members: digests of their manifests, IDs or names of their images, or their platforms
    #[arg(value_name = "MEMBER", required = true)]
    pub(crate) members: Vec<String>,
}

/// `strata manifest inspect`
#[derive(Debug, Args)]
pub(crate) struct ManifestInspect {
    /// List of the store, else a name in a registry; docker://NAME for a registry only
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Write what the registry has, byte for byte
    #[arg(long)]
    pub(crate) raw: bool,
}

/// Media types of a pushed index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// OCI image index
    Oci,
    /// Docker manifest list
    V2s2,
}

/// `strata manifest push`
#[derive(Debug, Args)]
pub(crate) struct ManifestPush {
    /// Name or ID of the list
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
    /// Name in the registry [default: the list's]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Upload the members, too: always done
    #[arg(long, hide = true)]
    pub(crate) all: bool,
    /// Remove the list when it is uploaded
    #[arg(short = 'p', long, visible_alias = "purge")]
    pub(crate) rm: bool,
    /// Write the digest of the index to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digestfile: Option<PathBuf>,
    /// Media type of the index [default: as it is]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) format: Option<ListFormat>,
    /// Compression of layers that were built here
    #[arg(long, value_name = "CODEC", default_value = "gzip")]
    pub(crate) compression: String,
    /// Show nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata manifest rm`
#[derive(Debug, Args)]
pub(crate) struct ManifestRm {
    /// Names or IDs of lists
    #[arg(value_name = "LIST", required = true)]
    pub(crate) lists: Vec<String>,
}

/// `strata manifest exists`
#[derive(Debug, Args)]
pub(crate) struct ManifestExists {
    /// Name or ID
    #[arg(value_name = "LIST")]
    pub(crate) list: String,
}
