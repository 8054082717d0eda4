//! The graph of a build: vertices (operations that make a layer) and what they stand on.
//!
//! Instructions that only change the image's config are no vertices: they are folded into the
//! state of their stage while it is planned.

use std::path::PathBuf;
use std::time::Duration;

use strata_cache::{CacheRecord, Digest, StepKind};
use strata_executor::cdi::Edits;
use strata_executor::sandbox::{MountOptions, Network, Propagation};
use strata_parser::Span;
use strata_parser::chmod::Chmod;
use strata_parser::mount::{self, MountWords, Sharing};

use crate::bases::BaseImage;
use crate::event::StepId;
use crate::remote::GitAddress;

/// Index of a vertex in [`Graph::vertices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub usize);

/// Index of an image in [`Graph::images`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub usize);

/// Index of a source in [`Graph::sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// A root file system: where a vertex starts, or what it reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Root {
    /// `scratch`.
    Empty,
    /// An image.
    Image(ImageId),
    /// What a vertex left.
    Step(VertexId),
}

/// Everything that a plan found to do.
#[derive(Debug, Default)]
pub struct Graph {
    /// Images, in the order in which they were met.
    pub images: Vec<ImageVertex>,
    /// Files that are neither the build context's nor an image's.
    pub sources: Vec<SourceVertex>,
    /// Operations. Each stands only on earlier ones.
    pub vertices: Vec<Vertex>,
    /// What is built though the target takes nothing from it: stages that `FROM --after` names.
    pub also: Vec<Root>,
}

/// An image that stages stand on or copy from.
#[derive(Debug)]
pub struct ImageVertex {
    /// Its number for those who watch.
    pub step: StepId,
    /// Such as `[build 1/5] FROM debian:12`.
    pub name: String,
    /// The reference as the Dockerfile has it, after expansion.
    pub reference: String,
    /// What it resolved to.
    pub base: BaseImage,
}

/// Files from elsewhere that steps copy from.
#[derive(Debug)]
pub struct SourceVertex {
    /// Its number for those who watch, if it has to be asked for.
    pub step: Option<StepId>,
    /// What people call it: ``context `assets` ``.
    pub name: String,
    /// What it is.
    pub source: Source,
    /// Where the Dockerfile first names it.
    pub span: Span,
}

/// Where files come from that are neither the build context's nor an image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory that `--build-context` gave a name.
    Directory(PathBuf),
    /// A file of the web.
    Web {
        /// The URL.
        url: String,
        /// What its content has to be.
        checksum: Option<Digest>,
        /// It is a context: an archive stands for the files in it.
        context: bool,
    },
    /// A git repository.
    Git {
        /// Which, and what of it.
        address: Box<GitAddress>,
        /// It is a context, of which single files are copied.
        context: bool,
    },
}

/// What the text of a step begins with that puts files of a context where a command can mount them.
pub const MOUNTED_FILES: &str = "mount of ";

/// A vertex: one operation on one root, with one layer as its result.
#[derive(Debug)]
pub struct Vertex {
    /// Its number for those who watch.
    pub step: StepId,
    /// Such as `[build 2/5] RUN make`.
    pub name: String,
    /// The instruction alone, such as `RUN make`: what records keep.
    pub text: String,
    /// The stage's state below it.
    pub parent: Root,
    /// What it does.
    pub op: Op,
    /// The instruction in the Dockerfile.
    pub span: Span,
    /// The stage's platform. In the key of a command, which alone can see it.
    pub platform: String,
    /// Which of its records may be taken.
    pub reuse: Reuse,
    /// What has to be there before it runs, though it does not look at it. In no key.
    pub after: Vec<Root>,
}

/// Which earlier results of a vertex may be taken in place of a new one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reuse {
    /// None at all: what says so, as people know it, such as `--no-cache`.
    pub never: Option<String>,
    /// None that is older than this: how old it may be, and what says so.
    pub ttl: Option<(Duration, String)>,
}

/// Clocks of one machine differ by less than this, as a rule.
const SKEW_MS: u64 = 600_000;

impl Reuse {
    /// Why `record` may not be taken at `now_ms`, if it may not.
    pub fn refusal(&self, record: &CacheRecord, now_ms: u64) -> Option<String> {
        if let Some(never) = &self.never {
            return Some(format!("{never} is given"));
        }
        let (longest, says) = self.ttl.as_ref()?;
        // A time in the future says that a clock was wrong, and nothing of the age.
        if record.made_ms > now_ms.saturating_add(SKEW_MS) {
            return Some(format!(
                "its result says that it comes from the future, and {says} sets an age"
            ));
        }
        let age = Duration::from_millis(now_ms.saturating_sub(record.made_ms));
        (age > *longest).then(|| format!("its result is older than {says} allows"))
    }
}

/// What a vertex does.
#[derive(Debug, PartialEq, Eq)]
pub enum Op {
    /// A command.
    Run(RunOp),
    /// `COPY`, `ADD`, or the files that a context mount shows.
    Copy(CopyOp),
    /// `WORKDIR`.
    Workdir(WorkdirOp),
}

impl Op {
    /// The kind that records carry.
    pub fn kind(&self) -> StepKind {
        match self {
            Self::Run(_) => StepKind::Run,
            Self::Copy(copy) if copy.add => StepKind::Add,
            Self::Copy(_) => StepKind::Copy,
            Self::Workdir(_) => StepKind::Workdir,
        }
    }
}

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOp {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment in order: ENV and ARG values in scope.
    pub env: Vec<(String, String)>,
    /// Names in `env` that are build arguments, for those who are told of them.
    pub arguments: Vec<String>,
    /// Variables that are in no key: proxies.
    pub hidden_env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// `USER`, expanded; empty means root.
    pub user: String,
    /// Network.
    pub network: Network,
    /// `--security=insecure`.
    pub insecure: bool,
    /// Mounts, in order.
    pub mounts: Vec<MountOp>,
    /// Devices of the host, as they were asked for.
    pub devices: Vec<DeviceOp>,
    /// What comes with the devices. In no key.
    pub edits: Edits,
    /// A script to be run: its name under `/dev/pipes` and its text.
    pub script: Option<(String, String)>,
    /// Host name.
    pub hostname: String,
}

/// A device that a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOp {
    /// Its name, `vendor/class=name`, or something shorter.
    pub name: String,
    /// The step does not run without.
    pub required: bool,
}

/// A mount of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOp {
    /// Absolute path in the sandbox.
    pub target: String,
    /// What it shows.
    pub source: MountSource,
    /// The command can't write to it.
    pub read_only: bool,
    /// What else is asked of it.
    pub words: MountWords,
}

/// What is asked of a mount, as sandboxes are asked; `devices` of the host open there.
pub fn mount_options(words: MountWords, devices: bool) -> MountOptions {
    MountOptions {
        chown: words.chown,
        no_exec: words.no_exec,
        no_suid: words.no_suid,
        devices,
        no_recursion: words.no_recursion,
        propagation: words.propagation.map(|(kind, recursive)| match kind {
            mount::Propagation::Private => Propagation::Private,
            mount::Propagation::Shared => Propagation::Shared { recursive },
            mount::Propagation::Slave => Propagation::Slave,
            mount::Propagation::Unbindable => Propagation::Unbindable { recursive },
        }),
    }
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A path in a stage, an image, or the selected files of the context.
    Bind {
        /// Which root.
        root: Root,
        /// Path in it.
        path: String,
    },
    /// A path of this machine, which the command line gives to every command. What is there is in no
    /// key, only where it is.
    Host {
        /// The path, absolute.
        path: PathBuf,
        /// What the command writes is thrown away.
        discard: bool,
        /// Device nodes there open.
        devices: bool,
    },
    /// A directory kept between builds. In the key only as far as it decides what the command
    /// sees: target and whether it is read-only.
    Cache {
        /// Name: namespace and ID.
        id: String,
        /// Who else may use it meanwhile.
        sharing: Sharing,
        /// What it starts from.
        from: Root,
        /// Path in `from`.
        path: String,
        /// Permission bits of a new cache directory.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
    /// The socket of an SSH agent. Who answers behind it is in no key.
    Ssh {
        /// Which agent.
        id: String,
        /// Without it the step fails.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A secret, as a file, a variable, or both. Its content is in no key.
    Secret {
        /// Which.
        id: String,
        /// Whether there is a file at the mount's target.
        file: bool,
        /// A variable that holds it.
        env: Option<String>,
        /// Without it the step fails.
        required: bool,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Files to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are flags of an instruction, independent of each other"
)]
pub struct CopyOp {
    /// `ADD`: archives are unpacked.
    pub add: bool,
    /// Where from.
    pub from: CopyFrom,
    /// Source paths and wildcards, expanded.
    pub sources: Vec<String>,
    /// `sources` hold no wildcards, whatever they look like.
    pub literal: bool,
    /// Files written into the Dockerfile: name and content.
    pub files: Vec<(String, String)>,
    /// Absolute destination; ends in `/` if it has to be a directory.
    pub dest: String,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, as written after expansion, and read.
    pub chmod: Option<(String, Chmod)>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// Unpack local archives.
    pub unpack: bool,
    /// Remote sources, each copied as a whole, and how many of `sources` come before it.
    pub remotes: Vec<(usize, SourceId)>,
    /// Unpack fetched archives.
    pub unpack_remotes: bool,
}

/// What a copy reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A named context, or something fetched.
    Source(SourceId),
    /// A stage or an image.
    Root(Root),
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirOp {
    /// Absolute path.
    pub path: String,
    /// `USER`, who will own it; empty means root.
    pub user: String,
}

impl Vertex {
    /// What its layer is a diff of. With `--link` that is nothing, whatever the stage holds: the layer
    /// is put on top of the stage's as it is.
    pub fn stands_on(&self) -> Root {
        match &self.op {
            Op::Copy(CopyOp { link: true, .. }) => Root::Empty,
            _ => self.parent,
        }
    }

    /// Every root that the vertex reads besides its parent.
    pub fn inputs(&self) -> Vec<Root> {
        match &self.op {
            Op::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| match &mount.source {
                    MountSource::Bind { root, .. } => Some(*root),
                    MountSource::Cache { from, .. } => Some(*from),
                    MountSource::Host { .. }
                    | MountSource::Tmpfs { .. }
                    | MountSource::Secret { .. }
                    | MountSource::Ssh { .. } => None,
                })
                .collect(),
            Op::Copy(CopyOp {
                from: CopyFrom::Root(root),
                ..
            }) => vec![*root],
            Op::Copy(_) | Op::Workdir(_) => Vec::new(),
        }
    }
}
