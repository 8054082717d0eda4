//! The sandbox: namespaces, mounts, capabilities, seccomp, limits.
//!
//! ```text
//! caller ── spawn ──> first process ── fork ──> init (pid 1) ── fork ──> the command
//!    │                  │ control group           │ mounts, pivot_root      │ credentials, filter
//!    └── control socket ┴─────────────────────────┴─────────────────────────┘ closed by exec
//! ```
//!
//! For many sandboxes in a row there is a [`Spawner`], which is executed once, and without a first process
//! where there is nothing for it to do.
//!
//! The binary re-executes itself, so nothing forks with live threads: the caller's `main` must
//! call [`init_if_asked`] before anything that starts a thread. The first process makes the
//! namespaces and stays to take the control group away; the init prepares the root, starts the
//! command, reaps, and ends with it or with the caller, whichever comes first. The kernel then
//! kills the rest. When [`Running::wait`] returns, no process, mount or control group is left.
//!
//! A command has the capabilities and the seccomp filter that container users expect. Mounts are
//! made by descriptor, targets are resolved by the kernel inside the root, layers are named by
//! descriptor.
//!
//! **Limitations**: needs Linux 5.12 (`mount_setattr`). Device nodes that a command makes, or that
//! an image holds, can't be opened (`nodev`); only the standard ones in `/dev` and those given with
//! [`MountKind::Device`] can. `AppArmor` and
//! `SELinux` labels are set only if they are asked for.

mod capability;
mod cgroup;
mod chroot;
mod command;
mod confinement;
mod files;
mod filesystems;
mod hooks;
mod init;
mod lines;
mod mount;
mod network;
mod open_files;
mod overlay;
mod owner;
mod pid1;
mod probe;
mod protocol;
mod redact;
mod requested;
mod seccomp;
mod spawn;
mod spawner;
mod stub;
mod target;
mod terminal;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strata_cache::{Resources, RootfsPlan};

pub use capability::{Capabilities, CapabilityError};
pub use cgroup::{DeviceLimit, LimitProspect, Limits, Rate, limit_prospects};
pub use confinement::{Confinement, Label, Seccomp, Unmasked};
pub use hooks::{Hook, HookKind, Hooks};
pub use init::init_if_asked;
pub(crate) use mount::new_filesystem;
pub use network::{Dns, Isolated, Network, NetworkError, NetworkHelper, network_helpers};
pub use open_files::raise_open_files;
pub use probe::{OverlayUnusable, probe_overlay};
pub use redact::{Redactor, SHORTEST as SHORTEST_REDACTED};
pub use seccomp::{Profile, ProfileError};
pub use spawn::{Canceller, Running, Sink, spawn};
pub use spawner::Spawner;
pub use stub::stub_directory;

/// Who runs the command: numbers, already looked up in the root file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Something mounted into the sandbox besides the standard file systems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the sandbox. Resolved inside the root; created (and forgotten again, see
    /// [`Outcome::created`]) if the image lacks it.
    pub target: PathBuf,
    /// What is mounted.
    pub kind: MountKind,
    /// Mounted read-only.
    pub read_only: bool,
    /// What else is asked of it.
    pub options: MountOptions,
}

/// What is asked of a mount besides where it is and what it shows. Private files and devices have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are words of an option list, independent of each other"
)]
pub struct MountOptions {
    /// Every file of it belongs to the command's user and group before the command starts. For a path of the
    /// host that changes the host's files; the mounts below it are left alone.
    pub chown: bool,
    /// Nothing on it can be executed.
    pub no_exec: bool,
    /// Set-id bits mean nothing on it.
    pub no_suid: bool,
    /// Device nodes on it open, unlike everywhere else in a sandbox.
    pub devices: bool,
    /// Without what is mounted below the source.
    pub no_recursion: bool,
    /// Which mounts made on one side show on the other; none is private.
    pub propagation: Option<Propagation>,
}

/// How mount events travel, see `mount_namespaces(7)`. Whatever is asked for, nothing that happens in a
/// sandbox shows outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Among mounts of the sandbox.
    Shared {
        /// For the mounts below, too.
        recursive: bool,
    },
    /// From the host to the sandbox, for the mounts below, too.
    Slave,
    /// Not at all.
    Private,
    /// Not at all, and the mount can't be bound again.
    Unbindable {
        /// For the mounts below, too.
        recursive: bool,
    },
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A host directory or file.
    Bind {
        /// Host path.
        source: PathBuf,
    },
    /// A host directory or file that is shown as somebody else says, with the mounts below it or
    /// without.
    Host {
        /// Host path.
        source: PathBuf,
        /// With what is mounted below.
        recursive: bool,
        /// Nothing on it can be executed.
        no_programs: bool,
        /// Set-id bits mean nothing on it.
        no_set_ids: bool,
    },
    /// A device node, which opens although other nodes of a sandbox don't.
    Device {
        /// The host's node, shown as it is.
        source: Option<PathBuf>,
        /// A node to be made where the kernel allows it (not in a user namespace). Where it
        /// doesn't, `source` is shown.
        node: Option<DeviceNode>,
    },
    /// A path inside a stack of layers (a stage, an image), as an overlay of its own; writes go
    /// to the plan's upper directory and are thrown away by the caller.
    Layers {
        /// The stack.
        plan: RootfsPlan,
        /// Path inside it, resolved inside its root.
        source: PathBuf,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Bytes; none means the kernel's default.
        size: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
    /// A file on a tmpfs with this content, seen by this step alone. Debug prints no content.
    Secret {
        /// The content.
        content: SecretBytes,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// A device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// What it is.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// See [`DeviceNode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
}

/// Bytes that no message, log or record may show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(pub Vec<u8>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Keeps this process, which holds secrets, out of core files and out of the reach of debuggers. For
/// good; child processes that run other programs are not concerned.
///
/// # Errors
/// The kernel refused.
pub fn hide_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// How a sandbox's standard streams are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdio {
    /// No stdin; stdout and stderr are pipes whose lines go to the caller's sink.
    Piped,
    /// The caller's own stdout and stderr; its stdin too if `stdin`.
    Inherit {
        /// Pass stdin through.
        stdin: bool,
    },
    /// A pseudo-terminal, relayed to the caller's terminal (raw mode, window size), with stdin
    /// if `stdin`.
    Terminal {
        /// Pass stdin through.
        stdin: bool,
    },
}

/// One command to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunSpec {
    /// The root file system.
    pub rootfs: RootfsPlan,
    /// The program and its arguments. A program without `/` is looked up in `PATH` of `env`,
    /// inside the sandbox.
    pub argv: Vec<String>,
    /// The environment, in order. `HOME` is set by the sandbox from the root's passwd if missing.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; made (0755, and it stays in the diff) if missing.
    pub cwd: PathBuf,
    /// Who runs it.
    pub credentials: Credentials,
    /// Host name.
    pub hostname: String,
    /// Network.
    pub network: Network,
    /// Further lines for /etc/hosts: name and address; `host-gateway` stands for the host's.
    pub extra_hosts: Vec<(String, String)>,
    /// How names are looked up.
    pub dns: Dns,
    /// Further mounts, in order.
    pub mounts: Vec<Mount>,
    /// Limits.
    pub limits: Limits,
    /// rlimits: name as in `ulimit` (`nofile`), soft, hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Size of /dev/shm in bytes; 64 MiB is customary.
    pub shm_size: u64,
    /// All capabilities, no seccomp, writable /sys (`--security=insecure`).
    pub insecure: bool,
    /// How the command is confined, if it is not `insecure`; labels are set in any case.
    pub confinement: Confinement,
    /// Which walls there are.
    pub isolation: Isolation,
    /// Programs to run around the command.
    pub hooks: Option<Hooks>,
    /// Streams.
    pub stdio: Stdio,
    /// What the caller's sink must not get to see of the output.
    #[serde(skip)]
    pub redactor: Redactor,
    /// How long it may take, set-up and all. Everything in the sandbox is killed then.
    pub timeout: Option<Duration>,
    /// Signal that asks the command to end when the caller cancels; SIGKILL follows after
    /// `stop_timeout`.
    pub stop_signal: i32,
    /// See `stop_signal`.
    pub stop_timeout: Duration,
}

/// The walls of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces and all the rest.
    #[default]
    Sandbox,
    /// Another root directory and fewer rights, for places that allow no namespaces. The root file
    /// system has to be [`RootfsPlan::Native`].
    Chroot,
}

/// Whether this process could run commands with [`Isolation::Chroot`].
pub fn can_change_root() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|capabilities| capabilities.effective.contains(chroot::NEEDED))
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// By the kernel, because the memory limit was reached.
    OutOfMemory,
    /// Because the caller cancelled.
    Cancelled,
    /// Because it took longer than it might.
    TimedOut,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// Paths (relative to the root) that were made only to mount on, deepest first.
    pub created: Vec<PathBuf>,
    /// What the command and all that it started have used, with the sandbox's own set-up.
    pub usage: Resources,
}

/// Why a sandbox did not run its command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// This program could not be re-executed.
    #[error("start the sandbox's process")]
    Start {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An isolated network was asked for, and there is nothing to make its way out.
    #[error("an isolated network needs {what}, which is not installed")]
    NoNetworkHelper {
        /// What is missing.
        what: &'static str,
    },
    /// A step of the set-up failed: a mount, a limit, an id.
    #[error("set up the sandbox: {stage}")]
    SetUp {
        /// What was tried, on what.
        stage: String,
        /// The kernel's answer, and what can be done.
        #[source]
        source: std::io::Error,
        /// As in [`Outcome::created`].
        created: Vec<PathBuf>,
    },
    /// The sandbox ended without a word, or could not be listened to.
    #[error("the sandbox was lost")]
    Lost {
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
