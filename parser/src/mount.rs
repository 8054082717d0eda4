//! `RUN --mount`.
//!
//! Options are comma-separated, with CSV quoting. Values may hold variables, so a mount is read
//! twice: at parse time everything without a `$` is judged, and [`MountFlag::resolve`] reads the
//! expanded text into a [`Mount`].

use crate::expand::ExpandError;
use crate::span::Span;
use crate::span::Spanned;

/// A `--mount` flag as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value, unquoted, unexpanded.
    pub text: Spanned<String>,
    /// `from=`, which can't hold variables: so dependencies are known before expansion.
    pub from: Option<String>,
    /// Whether the type is known without expansion, and which.
    pub kind: Option<MountKind>,
    /// The mount, where no option holds a variable.
    pub mount: Option<Mount>,
}

impl MountFlag {
    /// Expands every value but that of `from` and reads the mount.
    ///
    /// `expand` is given one raw value and returns its text; the caller notes unset names.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, MountError> {
        let _ = expand;
        todo!()
    }
}

/// The five kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory kept between builds.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A secret, as file or variable.
    Secret,
    /// An SSH agent's socket.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// One; others get a new, empty directory.
    Private,
    /// One; others wait.
    Locked,
}

/// A mount, read and valid for its kind. Targets are as written: relative ones join WORKDIR, and
/// an absent one is WORKDIR itself (or the kind's default).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// Which kind.
    pub kind: MountKind,
    /// `target`, `dst`, `destination`.
    pub target: Option<String>,
    /// `source`, `src`: a path in `from`; for a secret the same as its id.
    pub source: Option<String>,
    /// `from`: a stage, image or context.
    pub from: Option<String>,
    /// `id` of a cache, secret or agent.
    pub id: Option<String>,
    /// Whether the step can't write to it. The kind's default is applied: bind, secret and ssh
    /// are read-only, cache and tmpfs are not.
    pub read_only: bool,
    /// `sharing` of a cache.
    pub sharing: Sharing,
    /// `size` of a tmpfs in bytes; zero and absent are unlimited.
    pub size: Option<u64>,
    /// `mode` of a cache, secret or socket.
    pub mode: Option<u32>,
    /// `uid` of a cache, secret or socket.
    pub uid: Option<u32>,
    /// `gid` of a cache, secret or socket.
    pub gid: Option<u32>,
    /// `env` of a secret: the variable's name.
    pub env: Option<String>,
    /// `required` of a secret or agent.
    pub required: bool,
}

/// Why a mount can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Placeholder.
    #[error("{message}")]
    Option {
        /// What is wrong.
        message: String,
        /// The option, as a range of bytes in the flag's value.
        span: Span,
        /// A near name.
        suggestion: Option<String>,
    },
    /// A value holds a variable that can't be expanded.
    #[error("{0}")]
    Expand(#[from] ExpandError),
}
