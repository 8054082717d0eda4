//! `strata build` and `strata check`.

use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;
use strata_image::handover::Engine;

use super::Limits;
use super::Networking;
use super::Owners;
use super::Security;
use crate::progress::Mode;
use crate::verify;

/// `strata build`
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Where the files for COPY and ADD are: a directory, a git repository, the URL of a tar or a
    /// Dockerfile, or `-` for one of these on standard input
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: String,
    /// The Dockerfile: a path, a URL, or `-` for standard input [default: CONTEXT/Dockerfile, or
    /// CONTEXT/Containerfile]. A path that ends in `.in` goes through `cpp`
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Ignore file of the context, in place of FILE.dockerignore, CONTEXT/.dockerignore or
    /// CONTEXT/.containerignore
    #[arg(long, value_name = "FILE")]
    pub(crate) ignorefile: Option<PathBuf>,
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
    /// Leave out of the image's config how it was made, base image included
    #[arg(long)]
    pub(crate) omit_history: bool,
    /// Leave a path and all below it out of every step's layer (repeatable)
    #[arg(long, value_name = "PATH")]
    pub(crate) ignore_path: Vec<String>,
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
    /// type=local|tar|oci|docker|image|registry|docker-daemon|containers-storage|containerd|cacheonly
    /// with dest=PATH,
    /// compression=gzip|zstd|estargz|zstd:chunked|uncompressed, compression-level=N,
    /// force-compression=true, oci-mediatypes=false, annotation.KEY=VALUE, tar=false, name=NAME, push=true,
    /// push-by-digest=true, platform-split=false, mode=delete [default: type=image, the store]
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Put the image into the store, too, or hand it over to an engine on this machine, which gets only
    /// the layers that it lacks (repeatable): same as --output type=image, or type=docker-daemon,
    /// containers-storage (podman) or containerd
    #[arg(
        long,
        value_name = "ENGINE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "store"
    )]
    pub(crate) load: Vec<Load>,
    /// Upload the image: same as --output type=registry
    #[arg(long)]
    pub(crate) push: bool,
    /// Annotate the manifest (repeatable), or another LEVEL: manifest-descriptor, index,
    /// index-descriptor; `LEVEL[PLATFORM]` for one platform
    #[arg(long, value_name = "[LEVEL:]KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Sign what is pushed with `cosign`, which has to be installed
    #[arg(long)]
    pub(crate) sign: bool,
    /// Key for --sign, as cosign takes it: a file, `env://NAME`, a key manager's URI
    #[arg(long, value_name = "KEY", requires = "sign")]
    pub(crate) sign_key: Option<String>,
    /// Build twice without the cache, compare, and go on only if both made the same; otherwise list
    /// what differs, as text or json, and end with the exit code 4
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text"
    )]
    pub(crate) verify: Option<verify::Format>,
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
    /// Show a path of this machine to every RUN step (repeatable). Steps that were cached don't see
    /// what changed there
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Give every RUN step a mount (repeatable), written as in RUN --mount; the source of a bind
    /// is a path of this machine
    #[arg(long, value_name = "type=TYPE,target=PATH[,...]")]
    pub(crate) mount: Vec<String>,
    /// Platform to build for, such as linux/arm64 (repeatable, or separated by commas); several make
    /// an index [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// Build for every platform that all base images have
    #[arg(long)]
    pub(crate) all_platforms: bool,
    #[command(flatten)]
    pub(crate) networking: Networking,
    /// What becomes of owners that COPY, ADD and WORKDIR ask for and that no id is mapped for here
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        env = "STRATA_FOREIGN_OWNERS",
        hide_env_values = true,
        default_value_t
    )]
    pub(crate) foreign_owners: Owners,
    /// Allow steps what they otherwise can't have (repeatable): network.host, security.insecure,
    /// device, device=NAME; or outputs: buildx.local.delete
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<String>,
    /// Where CDI specs for RUN --device are, in place of /etc/cdi and /var/run/cdi (repeatable; the
    /// last wins)
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cdi_spec_dir: Vec<PathBuf>,
    /// Resource limit of RUN steps (repeatable), such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm of RUN steps
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// How long each RUN step may take, such as 10m; what takes longer is killed
    #[arg(long, value_name = "SPAN")]
    pub(crate) step_timeout: Option<String>,
    /// Show at the end what each step that ran has used of processors, memory and disks
    #[arg(long)]
    pub(crate) resources: bool,
    #[command(flatten)]
    pub(crate) security: Security,
    /// Host name of RUN steps
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
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
    /// Attach to the image, or write beside files, what it was made of and how
    /// (type=provenance, with mode=min|max, version=v1|v0.2, builder-id=URI, reproducible=true,
    /// inline-only=true, filename=NAME) or what packages are in it (type=sbom) (repeatable)
    #[arg(long, value_name = "type=TYPE[,...]")]
    pub(crate) attest: Vec<String>,
    /// true, false, or keys as mode=max: same as --attest type=provenance
    #[arg(long, value_name = "BOOL|KEY=VALUE[,...]")]
    pub(crate) provenance: Option<String>,
    /// true or false: same as --attest type=sbom
    #[arg(long, value_name = "BOOL")]
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
    /// Ignore file in place of the context's, as for builds
    #[arg(long, value_name = "FILE")]
    pub(crate) ignorefile: Option<PathBuf>,
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

/// Where `--load` puts an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// strata's own store
    #[value(alias = "true")]
    Store,
    /// docker's daemon
    Docker,
    /// podman's images
    Podman,
    /// containerd's images
    Containerd,
}

impl Load {
    /// The engine, unless it is the store.
    pub(crate) fn engine(self) -> Option<Engine> {
        match self {
            Self::Store => None,
            Self::Docker => Some(Engine::Docker),
            Self::Podman => Some(Engine::Podman),
            Self::Containerd => Some(Engine::Containerd),
        }
    }
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
