//! What lies elsewhere: files of the web and git repositories, as contexts and as sources of ADD.
//!
//! Remote sources are resolved before keys are made: a file is fetched (or found to be unchanged)
//! and known by its digest, a git reference becomes a commit. Bodies are kept as blobs and
//! repositories as bare mirrors, so that asking again costs one question; with a checksum or a
//! whole commit id, none.

pub(crate) mod address;
mod bucket;
pub(crate) mod context;
pub(crate) mod git;
mod process;
mod signed;
pub(crate) mod web;

use std::path::PathBuf;
use std::time::Duration;

use strata_cache::lock::KeyGuard;
use strata_cache::{Digest, Store, StoreError};
use strata_executor::copy::CopyError;
use strata_image::fetch::FetchError;

use crate::request::{Cancel, Secret};
pub use address::{AddressError, GitAddress, Remote};
pub use context::{DockerfileAt, Origin, Prepared, Stdin, prepare};
pub use signed::{SignaturePolicy, Signed};

/// Pause between two looks at a mirror that another build fetches into.
const PAUSE: Duration = Duration::from_millis(50);

/// Why something remote can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The web server.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The connection broke in the middle of a body.
    #[error("read `{url}`")]
    Body {
        /// The URL.
        url: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// The content is not what the checksum says.
    #[error("`{url}` has the digest {found}, but {expected} was expected")]
    Checksum {
        /// The URL.
        url: String,
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// Credentials of the environment are of no use.
    #[error("`{address}` can't be asked for: {reason}")]
    Credentials {
        /// The object.
        address: String,
        /// Which, and why.
        reason: String,
    },
    /// git could not be started.
    #[error("`git` can't be run, which fetches repositories")]
    NoGit {
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// git failed.
    #[error("`git {command}` of `{url}` failed: {message}")]
    Git {
        /// The subcommand.
        command: String,
        /// The repository, without credentials.
        url: String,
        /// The last of what it said.
        message: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("`{url}` has no branch or tag `{reference}`")]
    NoReference {
        /// The repository.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// The repository has no such directory at that commit.
    #[error("`{url}` has no directory `{directory}`")]
    NoDirectory {
        /// The repository.
        url: String,
        /// The subdirectory.
        directory: String,
    },
    /// The policy asks for a signature that is not there, or not good.
    #[error(
        "{what} is not signed as the policy for `{rule}` asks: {reason}; have it signed by one of the signers, or \
         change the rule in `config.toml`"
    )]
    Unsigned {
        /// A commit of a repository, or a file.
        what: String,
        /// The pattern of the rule.
        rule: String,
        /// Why not.
        reason: String,
    },
    /// The keys of a policy can't be used.
    #[error("the signers' keys in `{path}` can't be used: {reason}")]
    BadKeys {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// What checks signatures can't be run.
    #[error("`{program}` can't be run, which checks signatures")]
    NoVerifier {
        /// Its name.
        program: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A file of a checkout or of an unpacked archive could not be read or written.
    #[error("{action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// An archive can't be unpacked.
    #[error(transparent)]
    Unpack(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The build was stopped.
    #[error("cancelled")]
    Cancelled,
}

/// How something remote is fetched.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) store: &'a Store,
    pub(crate) secrets: &'a [Secret],
    /// The address is one of the command line, and the environment's credentials may be used for it.
    pub(crate) environment: bool,
    /// Socket of the SSH agent `default`.
    pub(crate) agent: Option<&'a std::path::Path>,
    pub(crate) cancel: &'a Cancel,
    /// What has to be signed.
    pub(crate) signed: &'a SignaturePolicy,
    /// Told the bytes so far and, if known, in all.
    pub(crate) progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

impl Surroundings<'_> {
    /// The text of the secret `id`, without an end of line.
    fn secret(&self, id: &str) -> Option<String> {
        let secret = self.secrets.iter().find(|secret| secret.id == id)?;
        let text = String::from_utf8_lossy(&secret.content.0);
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The directory of the store that is kept for what `kind` of thing is at `url`, alone until the guard
    /// is dropped. It is pruned as cache mounts are, and listed with them.
    fn directory(&self, kind: &str, url: &str) -> Result<(PathBuf, KeyGuard), RemoteError> {
        let shown = strata_image::redact::passwords(url);
        // Whoever comes with another password is somebody else.
        let id = if shown == url {
            format!("{kind} {url}")
        } else {
            let whose = Digest::of(url.as_bytes()).hex();
            format!("{kind} {shown} ({})", &whose[..12])
        };
        let name = strata_cache::prune::mount_lock(&id);
        let guard = loop {
            if self.cancel.is_cancelled() {
                return Err(RemoteError::Cancelled);
            }
            if let Some(guard) = self.store.try_lock_named(&name, false)? {
                break guard;
            }
            std::thread::sleep(PAUSE);
        };
        Ok((self.store.cache_mount_path(&id)?, guard))
    }
}

/// A file that was fetched, or was here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebFile {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// `Last-Modified`, or 0.
    pub(crate) mtime: i64,
    /// It was not here before.
    pub(crate) moved: bool,
}
