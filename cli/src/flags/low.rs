//! What was typed. The doc comments are the help texts.

#![expect(
    clippy::doc_markdown,
    clippy::doc_link_with_quotes,
    reason = "help texts are for a terminal"
)]
#![expect(
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "the fields are the flags, by their names"
)]

use std::path::PathBuf;

use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;

use crate::progress::Mode;

/// Build images from Dockerfiles, and run them, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "strata",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXIT_CODES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    a step of the build, a transfer or an output failed
  2    the command line or the Dockerfile is wrong
  3    the store can't be used
  130  interrupted (143: terminated)
`strata run` ends with the program's own code, or 125, 126, 127 as `docker run` does.";

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Directory of the store [default: /var/lib/strata for root, else
    /// $XDG_DATA_HOME/strata or ~/.local/share/strata]
    #[arg(
        long,
        global = true,
        env = "STRATA_ROOT",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) root: Option<PathBuf>,
    /// Write a log to standard error: error, warn, info, debug, trace, or a filter such as
    /// strata_solver=debug
    #[arg(
        long,
        global = true,
        env = "STRATA_LOG",
        value_name = "LEVEL",
        hide_env_values = true
    )]
    pub(crate) log_level: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Look for mistakes in a Dockerfile, and build nothing
    Check(Check),
    /// Run a command in a new container from an image
    Run(Box<Run>),
    /// List images
    Images(Images),
    /// Remove images, or names of images
    Rmi(Rmi),
    /// Show what is known of images, as JSON
    Inspect(Inspect),
    /// Give an image another name
    Tag(Tag),
    /// Show the steps that an image was made by
    History(History),
    /// Download images from their registries
    Pull(Pull),
    /// Upload images to their registries
    Push(Push),
    /// Keep user name and password for a registry
    Login(Login),
    /// Forget user name and password for a registry
    Logout(Logout),
    /// Write images to an archive
    Save(Save),
    /// Read images from an archive
    Load(Load),
    /// Make an image of a root file system in a tar
    Import(Import),
    /// Look at the build cache, and clean it
    #[command(subcommand)]
    Cache(Cache),
    /// Tell what this host offers for builds, what that means, and how to get more
    Doctor(Doctor),
    /// Write a shell's completions for strata to standard output
    Completion(Completion),
}

/// `strata build`
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Where the files for COPY and ADD are: a directory, a git repository, the URL of a tar or a
    /// Dockerfile, or `-` for one of these on standard input
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: String,
    /// The Dockerfile: a path, a URL, or `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Name for the image, such as `app:1.2` (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// Give files or an image a name for FROM, COPY --from and mounts (repeatable): a directory, a
    /// URL, a git repository, docker-image://NAME, or oci-layout://DIRECTORY with :TAG or @DIGEST
    #[arg(long, value_name = "NAME=CONTEXT")]
    pub(crate) build_context: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set a build argument; without a value, the environment's is taken (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Set a label of the image (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Run every step anew, whatever is cached
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run every step of this stage anew (repeatable, or separated by commas)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Run steps that have a network anew if their result is older than this, such as 7d
    #[arg(long, value_name = "SPAN")]
    pub(crate) cache_ttl: Option<String>,
    /// Copy files of the context as a checkout under the umask 022 has them, whatever their modes
    #[arg(
        long,
        value_name = "BOOL",
        env = "STRATA_NEUTRAL_MODES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub(crate) neutral_modes: Option<bool>,
    /// Say for each step that runs why it was not cached: the first input that changed
    #[arg(long)]
    pub(crate) explain: bool,
    /// Look for newer base images in their registries
    #[arg(long)]
    pub(crate) pull: bool,
    /// What to make of the result (repeatable): DIR, `-` for a tar on standard output, or
    /// type=local|tar|oci|docker|image|registry|cacheonly with dest=PATH,
    /// compression=gzip|zstd|uncompressed, compression-level=N, force-compression=true,
    /// oci-mediatypes=false, annotation.KEY=VALUE, tar=false, name=NAME, push=true,
    /// push-by-digest=true [default: type=image, the store]
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Put the image into the store, too: same as --output type=image
    #[arg(long)]
    pub(crate) load: bool,
    /// Upload the image: same as --output type=registry
    #[arg(long)]
    pub(crate) push: bool,
    /// Annotate the manifest (repeatable), or, with `manifest-descriptor:` before it, what a
    /// layout's index says of it
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Content for RUN --mount=type=secret (repeatable): id=ID, with src=FILE or env=VARIABLE
    #[arg(long, value_name = "id=ID[,src=FILE|,env=VARIABLE]")]
    pub(crate) secret: Vec<String>,
    /// SSH agent for RUN --mount=type=ssh and git (repeatable): ID alone for the environment's
    /// SSH_AUTH_SOCK
    #[arg(long, value_name = "default|ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Platform to build for, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Network of RUN steps: host, or none (loopback only)
    #[arg(
        long,
        value_name = "NETWORK",
        default_value = "host",
        hide_default_value = true
    )]
    pub(crate) network: String,
    /// Allow steps what they otherwise can't have (repeatable): network.host, security.insecure
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Add a line to /etc/hosts of RUN steps (repeatable)
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Resource limit of RUN steps (repeatable), such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm of RUN steps
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// How many steps may run at once [default: number of CPUs]
    #[arg(short, long, value_name = "N")]
    pub(crate) jobs: Option<String>,
    /// How to show progress
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        env = "STRATA_PROGRESS",
        hide_env_values = true
    )]
    pub(crate) progress: Option<Mode>,
    /// Show nothing but errors, and write the image ID to standard output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only look at the Dockerfile: check (same as --check), outline (what it takes), targets (what
    /// it makes); with `,format=json` as JSON [default: build]
    #[arg(long, value_name = "METHOD[,format=FORMAT]")]
    pub(crate) call: Option<String>,
    /// Look for mistakes and build nothing: same as --call check
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
    /// Accepted for docker's sake: nothing is left behind
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) rm: Option<String>,
    /// Accepted for docker's sake: nothing is left behind
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Not supported yet; false is accepted
    #[arg(long, hide = true, value_name = "BOOL")]
    pub(crate) provenance: Option<String>,
    /// Not supported yet; false is accepted
    #[arg(long, hide = true, value_name = "BOOL")]
    pub(crate) sbom: Option<String>,
}

/// `strata check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Directory with the Dockerfile and its ignore file, or `-` for a Dockerfile on standard input
    #[arg(value_name = "CONTEXT", default_value = ".")]
    pub(crate) context: String,
    /// The Dockerfile, or `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Give files or an image a name for FROM, COPY --from and mounts (repeatable), as for builds
    #[arg(long, value_name = "NAME=CONTEXT")]
    pub(crate) build_context: Vec<String>,
    /// Set a build argument; without a value, the environment's is taken (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Platform to check for, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// How to write what is found
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: CheckFormat,
    /// Mend what can be mended without doubt, and show the rest
    #[arg(long)]
    pub(crate) fix: bool,
}

/// Forms of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum CheckFormat {
    /// Pictures for people.
    #[default]
    Text,
    /// The JSON of `docker build --check`, and more.
    Json,
    /// SARIF 2.1.0, for code scanners.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

/// Limits by control group, for steps and containers.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Memory limit, such as 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Limit of memory and swap together; -1 for no limit of swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Number of CPUs that may be used, such as 1.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Number of processes that may exist; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<String>,
}

/// `strata run`
#[derive(Debug, Args)]
#[command(override_usage = "strata run [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(crate) struct Run {
    /// Image (name or ID), and the command with its arguments [default: the image's]
    #[arg(
        value_name = "IMAGE [COMMAND [ARG]...]",
        required = true,
        num_args = 1..,
        trailing_var_arg = true
    )]
    pub(crate) image_and_command: Vec<String>,
    /// Set an environment variable; without a value, the environment's is taken (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file (repeatable)
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as NAME or UID, with :GROUP or :GID if needed
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Mount a directory or file of the host (repeatable)
    #[arg(short, long, value_name = "HOST:CONTAINER[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Pass standard input through
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container afterwards: always done, accepted for docker's sake
    #[arg(long)]
    pub(crate) rm: bool,
    /// Program to start in place of the image's; empty for none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Network: host, or none (loopback only)
    #[arg(
        long,
        value_name = "NETWORK",
        default_value = "host",
        hide_default_value = true
    )]
    pub(crate) network: String,
    /// Host name
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Add a line to /etc/hosts (repeatable)
    #[arg(long, value_name = "HOST:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Resource limit (repeatable), such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Give all capabilities, and leave out the system call filter
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Signal that asks the command to end [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// When to download the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = PullWhen::Missing)]
    pub(crate) pull: PullWhen,
    /// Platform of the image to download [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
}

/// When an image is downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// If the store lacks it
    Missing,
    /// Always
    Always,
    /// Never
    Never,
}

/// How a listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
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
    /// Write whole commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// How to write the list
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) format: Format,
}

/// `strata pull`
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Names, with tag or digest
    #[arg(value_name = "NAME", required = true)]
    pub(crate) images: Vec<String>,
    /// Platform, such as linux/arm64 [default: this machine's]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
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
    /// Name in the registry [default: the image's]
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
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

/// `strata doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How it is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) format: DoctorFormat,
}

/// How `strata doctor` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// `strata completion`
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_a_help_text() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{name}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    fn run(arguments: &[&str]) -> Run {
        let line = ["strata", "run"].iter().chain(arguments);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        let parsed = run(&["-e", "A=1", "img", "-l", "--root", "/x", "-e", "B"]);
        assert_eq!(
            parsed.image_and_command,
            ["img", "-l", "--root", "/x", "-e", "B"]
        );
        assert_eq!(parsed.env, ["A=1"]);
        let parsed = run(&["img", "--", "sh"]);
        assert_eq!(parsed.image_and_command, ["img", "--", "sh"]);
        let parsed = run(&["-it", "img"]);
        assert!(parsed.interactive && parsed.tty);
    }

    #[test]
    fn an_unknown_flag_before_the_image_is_an_error() {
        assert!(Cli::try_parse_from(["strata", "run", "--nonsense", "img"]).is_err());
    }
}
