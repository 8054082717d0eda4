//! What is asked of a build, and what comes back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strata_cache::{Digest, HardLinks, LayerId};
use strata_executor::sandbox::{
    Confinement, Dns, Isolation, Limits, Network, Redactor, SecretBytes,
};
use strata_image::export::Encoding;
use strata_image::handover::Engine;
use strata_image::manifest::Descriptor;
use strata_parser::mount::{MountFlag, MountWords};

use crate::attest::{Attestations, Material};
use crate::remote::{Remote, SignaturePolicy};

/// Where the files for COPY and ADD come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// A directory.
    Directory(PathBuf),
    /// Files in a scratch directory of the store: see [`crate::remote::prepare`]. They have no
    /// ignore file, and keep their owners.
    Unpacked {
        /// Where they are.
        root: PathBuf,
        /// Names that are one file.
        links: HardLinks,
    },
    /// No files at all (a Dockerfile on standard input without a context).
    Empty,
}

/// What `--build-context` gives a name to: it takes the place of the stage or image of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory, without what its own ignore file hides.
    Directory(PathBuf),
    /// An image: a reference, or a transport such as `oci-layout:/path:tag`.
    Image(String),
    /// Files of the web or of a git repository.
    Remote(Remote),
}

/// An SSH agent that steps may ask for by its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAgent {
    /// The ID.
    pub id: String,
    /// The agent's socket.
    pub socket: PathBuf,
}

/// A path of this machine that every RUN step sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The path, absolute.
    pub path: PathBuf,
    /// Where steps see it: absolute, clean, not `/`.
    pub target: String,
    /// Steps can't write there.
    pub read_only: bool,
    /// What a step writes there is thrown away.
    pub discard: bool,
    /// Device nodes there open.
    pub devices: bool,
    /// What else is asked of the mount.
    pub words: MountWords,
}

/// When base images are looked for in their registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// When the local store lacks them.
    #[default]
    Missing,
    /// Always: a moved tag is seen.
    Always,
    /// Never.
    Never,
}

/// How layers are compressed in an output.
pub use strata_cache::codec::Codec;

/// Where a result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A file, or a directory for directory forms.
    Path(PathBuf),
    /// Standard output.
    Stdout,
}

/// One result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image in the local store under the request's tags (possibly none: only an ID).
    Store {
        /// Annotations, and how attestations are attached, for when the image leaves the store.
        encoding: Encoding,
    },
    /// An OCI layout: an archive, or a directory.
    Oci {
        /// Where.
        destination: Destination,
        /// A tar, or a directory.
        archive: bool,
        /// How blobs and manifest are written.
        encoding: Encoding,
    },
    /// An archive for `docker load`.
    Docker {
        /// Where.
        destination: Destination,
        /// How blobs and manifest are written.
        encoding: Encoding,
    },
    /// The root file system as one tar.
    Tar {
        /// Where.
        destination: Destination,
        /// Each platform's files in a directory of its own; none means if there are several.
        platform_split: Option<bool>,
        /// What the names of attestations begin with, which are files beside those of the image.
        attestation_prefix: String,
    },
    /// The root file system in a directory.
    Local {
        /// Which directory.
        destination: PathBuf,
        /// Each platform's files in a directory of its own; none means if there are several.
        platform_split: Option<bool>,
        /// What the names of attestations begin with, which are files beside those of the image.
        attestation_prefix: String,
        /// What is there and not in the result is removed.
        delete: bool,
    },
    /// A registry. The names come from the request's tags or from `names`.
    Registry {
        /// Names in place of the tags.
        names: Vec<String>,
        /// Give the manifest no tag: it is there by its digest only.
        by_digest: bool,
        /// How blobs and manifest are written.
        encoding: Encoding,
    },
    /// An engine on this machine. The names come from the request's tags or from `names`.
    Engine {
        /// Which.
        engine: Engine,
        /// Names in place of the tags.
        names: Vec<String>,
    },
    /// Nothing: only the cache is filled.
    CacheOnly,
}

impl Output {
    /// True if the files of all layers are read for it. Others take the blobs of a base as they are, from
    /// wherever they are.
    pub(crate) fn reads_files(&self) -> bool {
        matches!(self, Self::Tar { .. } | Self::Local { .. })
    }

    /// How its blobs and manifests are written, if it has any.
    pub(crate) fn encoding(&self) -> Option<&Encoding> {
        match self {
            Self::Oci { encoding, .. }
            | Self::Docker { encoding, .. }
            | Self::Registry { encoding, .. }
            | Self::Store { encoding } => Some(encoding),
            Self::Tar { .. } | Self::Local { .. } | Self::Engine { .. } | Self::CacheOnly => None,
        }
    }
}

/// What COPY, ADD and WORKDIR do with owners that this user namespace has no id for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForeignOwners {
    /// They are [noted](strata_cache::owner) and get into images; steps see the files as root's.
    #[default]
    Record,
    /// Everything is root's.
    Squash,
    /// They are errors.
    Refuse,
}

impl ForeignOwners {
    /// The word that the keys of copies have besides what they usually have, if it matters here.
    pub(crate) fn word(self) -> Option<&'static str> {
        match self {
            _ if !strata_cache::owner::has_one_id() => None,
            Self::Record => None,
            Self::Squash => Some("squash"),
            Self::Refuse => Some("refuse"),
        }
    }
}

/// A secret that steps may ask for by its ID.
#[derive(Debug, Clone)]
pub struct Secret {
    /// The ID.
    pub id: String,
    /// The content.
    pub content: SecretBytes,
}

/// Everything that decides what a build does.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are flags of a command, independent of each other"
)]
pub struct BuildRequest {
    /// The Dockerfile's text.
    pub dockerfile: Vec<u8>,
    /// Its name for messages, such as `Dockerfile` or `-`.
    pub dockerfile_name: String,
    /// Where it lies, if it is a file: `<path>.dockerignore` wins over `.dockerignore`.
    pub dockerfile_path: Option<PathBuf>,
    /// The ignore file of a context that is a directory, in place of those that are looked for.
    pub ignore_file: Option<PathBuf>,
    /// The build context.
    pub context: Context,
    /// Named contexts. A name may end in `::` and a platform, for which alone it then stands.
    pub build_contexts: Vec<(String, NamedContext)>,
    /// The stage to build; none means the last.
    pub target: Option<String>,
    /// Build arguments in the order given. The CLI has filled in values from the environment.
    pub build_args: Vec<(String, String)>,
    /// Labels for the image's config.
    pub labels: Vec<(String, String)>,
    /// The image's config says nothing of how it was made.
    pub omit_history: bool,
    /// Paths that no step's layer holds: absolute, clean, sorted, not `/`. In the keys of all steps.
    pub ignore_paths: Vec<String>,
    /// Names for the image.
    pub tags: Vec<String>,
    /// What to make of the result.
    pub outputs: Vec<Output>,
    /// Ignore existing records of RUN, COPY and ADD; write new ones.
    pub no_cache: bool,
    /// The same for the steps of these stages, by name or number.
    pub no_cache_filter: Vec<String>,
    /// Run steps that may look into the network anew if their results are older than this.
    pub cache_ttl: Option<Duration>,
    /// Files of the build context and of named directories are copied as a checkout under the umask 022
    /// would have them, owned by root, whatever their modes and owners are.
    pub neutral_modes: bool,
    /// What of other machines has to be signed, and by whom.
    pub signed: SignaturePolicy,
    /// See [`Pull`].
    pub pull: Pull,
    /// Platforms, such as `linux/arm64`, in the order of their index; none means this machine's.
    pub platforms: Vec<String>,
    /// In place of them, all that the target's base images have in common.
    pub all_platforms: bool,
    /// Network of RUN steps that don't say.
    pub network: Network,
    /// Entitlements given: `network.host`, `security.insecure`, `device`, `device=NAME`.
    pub allow: Vec<String>,
    /// Directories with CDI specs of this host's devices, of which a later one wins. Without, for
    /// those who only look, nobody asks whether there are such devices.
    pub cdi_directories: Option<Vec<PathBuf>>,
    /// Secrets.
    pub secrets: Vec<Secret>,
    /// SSH agents.
    pub ssh: Vec<SshAgent>,
    /// Paths of this machine for every RUN step. Keys have the paths, and not what is there.
    pub volumes: Vec<Volume>,
    /// Mounts for every RUN step, besides its own: caches, files in memory, secrets, agents.
    pub mounts: Vec<MountFlag>,
    /// Limits of RUN steps. In no key.
    pub limits: Limits,
    /// The walls of RUN steps. In no key.
    pub isolation: Isolation,
    /// What becomes of owners that there is no id for. In the keys of copies where it matters and is not
    /// the default.
    pub foreign_owners: ForeignOwners,
    /// How long each RUN step may take. In no key.
    pub step_timeout: Option<Duration>,
    /// rlimits of RUN steps: soft, hard. In the key.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Bytes of /dev/shm.
    pub shm_size: u64,
    /// How RUN steps are confined that are not `insecure`. In the key where it is not the default.
    pub confinement: Confinement,
    /// Host name of RUN steps, in place of what the Dockerfile's author may count on.
    pub hostname: Option<String>,
    /// Further lines for /etc/hosts: name, address. Names are in the key.
    pub extra_hosts: Vec<(String, String)>,
    /// How RUN steps look names up. In no key, as what the host's own settings say isn't.
    pub dns: Dns,
    /// Tell for each step that runs why it was not found.
    pub explain: bool,
    /// How many steps may run at once; as many as there are cores if nothing is said.
    pub jobs: Option<usize>,
    /// `SOURCE_DATE_EPOCH` of the environment; a build argument of that name wins.
    pub epoch: Option<i64>,
    /// When a context from elsewhere was last changed, in seconds since 1970, if its commit or its server
    /// says so. [`crate::remote::prepare`] fills it in.
    pub context_time: Option<i64>,
    /// Where the Dockerfile came from, if not from this machine. [`crate::remote::prepare`] fills it in.
    pub origin: Option<Material>,
    /// What was fetched before the build began. [`crate::remote::prepare`] fills it in.
    pub fetched: Vec<Material>,
    /// A word that no other build has: this one shares no results and no cache mounts with others. See
    /// [`crate::verify`].
    pub trial: Option<String>,
    /// What is to be said of the result.
    pub attestations: Attestations,
}

/// Names of a Dockerfile that nothing names, in the order in which they are looked for.
pub const DOCKERFILE_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// Docker's size of /dev/shm, in bytes.
pub const SHM_SIZE: u64 = 64 << 20;

impl BuildRequest {
    /// What hides the secrets of this request, all of them: a step may have left one for another, in a
    /// cache mount say.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(
            self.secrets
                .iter()
                .map(|secret| secret.content.0.as_slice()),
        )
    }

    /// A request that asks for nothing but this Dockerfile: no output, no names, one step at a time,
    /// base images as the store has them or their registry gives them.
    pub fn new(dockerfile: Vec<u8>, dockerfile_name: impl Into<String>, context: Context) -> Self {
        Self {
            dockerfile,
            dockerfile_name: dockerfile_name.into(),
            dockerfile_path: None,
            ignore_file: None,
            context,
            build_contexts: Vec::new(),
            target: None,
            build_args: Vec::new(),
            labels: Vec::new(),
            omit_history: false,
            ignore_paths: Vec::new(),
            tags: Vec::new(),
            outputs: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            cache_ttl: None,
            neutral_modes: false,
            signed: SignaturePolicy::default(),
            pull: Pull::default(),
            platforms: Vec::new(),
            all_platforms: false,
            network: Network::default(),
            allow: Vec::new(),
            cdi_directories: None,
            secrets: Vec::new(),
            ssh: Vec::new(),
            volumes: Vec::new(),
            mounts: Vec::new(),
            limits: Limits::default(),
            isolation: Isolation::default(),
            foreign_owners: ForeignOwners::default(),
            step_timeout: None,
            ulimits: BTreeMap::new(),
            shm_size: SHM_SIZE,
            confinement: Confinement::default(),
            hostname: None,
            extra_hosts: Vec::new(),
            dns: Dns::default(),
            explain: false,
            jobs: Some(1),
            epoch: None,
            context_time: None,
            origin: None,
            fetched: Vec::new(),
            trial: None,
            attestations: Attestations::default(),
        }
    }
}

/// What came of a build.
#[derive(Debug, Clone)]
pub struct BuildResult {
    /// The image ID: digest of the config; of several images, the digest of their index, or their ID in
    /// the store. None if only a cache or a file tree was asked for.
    pub image: Option<Digest>,
    /// What outputs made: (output, its manifest or index).
    pub manifests: Vec<(String, Descriptor)>,
    /// Whether the result is an index.
    pub index: bool,
    /// What was built for each platform, in the order of the index. Never empty.
    pub platforms: Vec<BuiltPlatform>,
    /// Size of the images' layers on disk, in bytes.
    pub size: u64,
    /// Steps of the stages that the target needs.
    pub steps: usize,
    /// How many of them were hits.
    pub hits: usize,
    /// A word that no other build has.
    pub invocation: String,
    /// `SOURCE_DATE_EPOCH`, whatever it was named by.
    pub epoch: Option<i64>,
}

/// What was built for one platform.
#[derive(Debug, Clone)]
pub struct BuiltPlatform {
    /// The platform that was asked for.
    pub platform: String,
    /// The image's ID, if one was made.
    pub image: Option<Digest>,
    /// Its layers, base first.
    pub layers: Vec<LayerId>,
    /// How it was made, if the request asks for [metadata](Attestations::metadata).
    pub provenance: Option<serde_json::Value>,
    /// What made each of them. Only a [trial](BuildRequest::trial) is told.
    pub made_by: Vec<MadeBy>,
}

/// What made a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// The layer came with a base image.
    pub base: bool,
    /// The instruction, or the image's name.
    pub text: String,
    /// Line of the Dockerfile, from 1.
    pub line: usize,
}

/// Stops a build: call [`cancel`](Self::cancel) from the thread that waits for signals.
#[derive(Clone, Default)]
pub struct Cancel(Arc<CancelState>);

#[derive(Default)]
struct CancelState {
    asked: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    list: Vec<(u64, Box<dyn Fn() + Send>)>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("Cancel")
            .field(&self.is_cancelled())
            .finish()
    }
}

impl Cancel {
    /// Asks the build to stop. Running commands get their stop signal, then SIGKILL.
    pub fn cancel(&self) {
        self.0.asked.store(true, Ordering::SeqCst);
        for (_, hook) in &self.hooks().list {
            hook();
        }
    }

    /// True once asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Calls `hook` on the thread that cancels, or at once if that has happened, until the guard
    /// is dropped.
    pub fn on_cancel(&self, hook: impl Fn() + Send + 'static) -> HookGuard {
        let mut hooks = self.hooks();
        if self.is_cancelled() {
            hook();
        }
        let number = hooks.next;
        hooks.next += 1;
        hooks.list.push((number, Box::new(hook)));
        drop(hooks);
        HookGuard {
            cancel: self.clone(),
            number,
        }
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a hook of [`Cancel::on_cancel`] in place.
#[derive(Debug)]
#[must_use = "the hook is taken away when this is dropped"]
pub struct HookGuard {
    cancel: Cancel,
    number: u64,
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        self.cancel
            .hooks()
            .list
            .retain(|(number, _)| *number != self.number);
    }
}
