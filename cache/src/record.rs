//! Records: what a cache key stands for, and what the key was made of.

use serde::{Deserialize, Serialize};

use crate::{Digest, LayerId, StackId};

/// Name of a step's result. Opaque and versioned by whoever makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(pub Digest);

/// One thing that went into a key, by name, so that a miss can be explained later.
///
/// Never holds a secret: secrets are in no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPart {
    /// What it is, such as `command`, `env VERSION`, `file src/main.rs`, `base`.
    pub name: String,
    /// Its value, or a digest where the value is large.
    pub value: String,
}

/// What kind of step made a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// A command in a sandbox.
    Run,
    /// `COPY`.
    Copy,
    /// `ADD`.
    Add,
    /// `WORKDIR` that had to make a directory.
    Workdir,
}

impl StepKind {
    /// The lower-case word that listings and the index use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Copy => "copy",
            Self::Add => "add",
            Self::Workdir => "workdir",
        }
    }

    /// The kind that [`as_str`](Self::as_str) gives this word for.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Run, Self::Copy, Self::Add, Self::Workdir]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// What the processes of a step have used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Most memory at once, in bytes: of all together if `group` is set, else of the one process
    /// that had most.
    pub peak_memory: u64,
    /// A control group has told the peak of memory. There is one only where a limit needs it.
    pub group: bool,
    /// Processor time in microseconds.
    pub cpu_us: u64,
    /// Bytes that were read from disks.
    pub read_bytes: u64,
    /// Bytes that were written to files on disks.
    pub written_bytes: u64,
}

/// A finished step, about to be published together with its layer.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The recipe key.
    pub key: CacheKey,
    /// Top layer of the stack that the step ran on; none on an empty root. It is needed as long as
    /// the record is.
    pub parent: Option<LayerId>,
    /// That whole stack. A record is a hit only on the same one: the layer is a diff against it, and
    /// what the step saw. The topmost layer doesn't tell: one layer may lie on several stacks.
    pub stack: StackId,
    /// The stacks that it read from besides, base first.
    pub inputs: Vec<Vec<LayerId>>,
    /// Digest of just the files of `inputs` that it read, where somebody had reason to make it.
    pub selection: Option<Digest>,
    /// The operation without its inputs: records that share it did the same thing to other trees.
    pub operation: Digest,
    /// The content key: the operation and the very layers that it ran on and read from. It stays
    /// the same when an input was made anew with equal content, because then the older layer is kept.
    pub content: CacheKey,
    /// What kind of step it was.
    pub kind: StepKind,
    /// The step as people know it: `RUN make`.
    pub text: String,
    /// What the key was made of.
    pub parts: Vec<KeyPart>,
    /// Wall-clock time that the step took, in milliseconds.
    pub cost_ms: u64,
    /// What it used, of a step that runs a program.
    pub resources: Option<Resources>,
    /// When the step was run, in milliseconds since the epoch; none means now.
    pub made_ms: Option<u64>,
}

/// What a finished step read beside the stack that it ran on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordInputs {
    /// The step's recipe key.
    pub key: CacheKey,
    /// See [`NewRecord::inputs`].
    pub stacks: Vec<Vec<LayerId>>,
}

/// A finished step as found in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// The recipe key.
    pub key: CacheKey,
    /// The layer that the step made.
    pub layer: LayerId,
    /// See [`NewRecord::parent`].
    pub parent: Option<LayerId>,
    /// See [`NewRecord::stack`]; none in a record of an older strata, which is no hit.
    pub stack: Option<StackId>,
    /// What kind of step it was.
    pub kind: StepKind,
    /// The step as people know it.
    pub text: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Milliseconds since the epoch.
    pub last_used_ms: u64,
    /// How often it was hit.
    pub uses: u64,
    /// Wall-clock milliseconds that the step took.
    pub cost_ms: u64,
    /// When the step was last run to see what it gives, in milliseconds since the epoch. Later than
    /// `created_ms` if that was what it had given before.
    pub made_ms: u64,
}
