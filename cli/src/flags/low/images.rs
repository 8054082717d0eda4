//! Commands for images, and for the registries that they are in.

use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;

use super::Format;

/// Which of the images that a name stands for.
#[derive(Debug, Args)]
pub(crate) struct OnePlatform {
    /// Of a name for several platforms, only the image for this one, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// `strata images`
#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Only images of this name, with any tag if none is given
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Show images without a name, too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Write only IDs
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write whole IDs
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// How to write the list
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value_t,
        conflicts_with = "quiet"
    )]
    pub(crate) format: Format,
}

/// `strata rmi`
#[derive(Debug, Args)]
pub(crate) struct Rmi {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// Remove an image by its ID although it has several names; don't mind missing images
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `strata inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    #[command(flatten)]
    pub(crate) one: OnePlatform,
    /// How to write it
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = InspectFormat::Json)]
    pub(crate) format: InspectFormat,
}

/// How `strata inspect` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectFormat {
    /// A JSON array, as docker inspect writes it
    Json,
    /// The image's config, byte for byte
    Config,
}

/// `strata tag`
#[derive(Debug, Args)]
pub(crate) struct Tag {
    /// Name or ID of an image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// The new name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `strata history`
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Name or ID of an image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) one: OnePlatform,
    /// Write whole commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Show what each step has used of processors, memory and disks, where that is known
    #[arg(long)]
    pub(crate) resources: bool,
    /// How to write the list
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

/// `strata sbom`
#[derive(Debug, Args)]
pub(crate) struct Sbom {
    /// Name or ID of an image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    #[command(flatten)]
    pub(crate) one: OnePlatform,
    /// When to download the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = super::PullWhen::Missing)]
    pub(crate) pull: super::PullWhen,
}

/// `strata pull`
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Names, with tag or digest
    #[arg(value_name = "NAME", required = true)]
    pub(crate) images: Vec<String>,
    /// Platform, such as linux/arm64 (repeatable, or separated by commas) [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// Every platform that there is, and the attestations
    #[arg(long, conflicts_with = "platform")]
    pub(crate) all_platforms: bool,
    /// Show nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata push`
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// Name or ID of an image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Name in the registry [default: the image's]; or, with one of docker-daemon:,
    /// containers-storage: (podman) and containerd: before it, in an engine on this machine, which
    /// gets only the layers that it lacks
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) one: OnePlatform,
    /// Compression of layers that were built here
    #[arg(long, value_name = "CODEC", default_value = "gzip")]
    pub(crate) compression: String,
    /// Compress layers of base images anew, too, where they came in another compression
    #[arg(long)]
    pub(crate) force_compression: bool,
    /// Show nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata login`
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The registry: host, with a port if it has one of its own [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
    /// User name [default: asked for]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password or access token; others on this machine may see it: better is
    /// --password-stdin, or to be asked
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// File to keep it in [default: $REGISTRY_AUTH_FILE, else config.json in $DOCKER_CONFIG or
    /// ~/.docker]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// `strata logout`
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The registry [default: docker.io]
    #[arg(value_name = "REGISTRY")]
    pub(crate) registry: Option<String>,
    /// File that it is kept in [default: every file in which credentials are looked for]
    #[arg(long, value_name = "FILE")]
    pub(crate) authfile: Option<PathBuf>,
}

/// Forms of image archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// For `docker load` and everything else
    Docker,
    /// An OCI image layout in a tar
    Oci,
}

/// `strata save`
#[derive(Debug, Args)]
pub(crate) struct Save {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) one: OnePlatform,
    /// Form of the archive
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ArchiveFormat::Docker)]
    pub(crate) format: ArchiveFormat,
    /// Compression of layers that were built here: gzip, zstd, uncompressed
    #[arg(long, value_name = "CODEC", default_value = "gzip")]
    pub(crate) compression: String,
    /// Compress layers of base images anew, too, where they came in another compression
    #[arg(long)]
    pub(crate) force_compression: bool,
    /// Show nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata load`
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Archive of docker or OCI form, or a directory with an OCI layout [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Name for the image, besides those in the archive
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// Show nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `strata import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Tar of a root file system, compressed or not, or `-` for standard input
    #[arg(value_name = "TAR")]
    pub(crate) tar: String,
    /// Name for the image
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Dockerfile instruction for the image's config, such as 'CMD ["sh"]' (repeatable)
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Platform that the files are for [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}
