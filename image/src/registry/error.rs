//! What can go wrong between us and a registry.

use strata_cache::{Digest, StoreError};

use super::CertificateError;

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No answer, or the connection broke.
    #[error("{action}: no answer from `{registry}`")]
    Transport {
        /// What was asked: `pull manifest docker.io/library/debian:12`.
        action: String,
        /// Host and port.
        registry: String,
        /// What happened.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The registry answered with an error.
    #[error("{action}: `{registry}` answered {status}{}", Detail(.detail))]
    Status {
        /// What was asked.
        action: String,
        /// Host and port.
        registry: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words; empty if it said nothing.
        detail: String,
    },
    /// There is no such image, tag or blob.
    #[error("{action}: not found in `{registry}`{}", Detail(.detail))]
    NotFound {
        /// What was asked.
        action: String,
        /// Host and port.
        registry: String,
        /// The registry's own words; empty if it said nothing.
        detail: String,
    },
    /// Credentials are missing or not accepted.
    #[error("{action}: `{registry}` refused access{}{}", Detail(.detail), if *.anonymous { "; no credentials for it are known: log in first" } else { "" })]
    Denied {
        /// What was asked.
        action: String,
        /// Host and port.
        registry: String,
        /// The registry's own words; empty if it said nothing.
        detail: String,
        /// True if no credentials were at hand.
        anonymous: bool,
    },
    /// The answer breaks the protocol.
    #[error("{action}: `{registry}` gave an answer that can't be used: {reason}")]
    Protocol {
        /// What was asked.
        action: String,
        /// Host and port.
        registry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not the ones that were asked for.
    #[error("{action}: what `{registry}` sent is not {expected}: {size} bytes with digest {found}")]
    Content {
        /// What was asked.
        action: String,
        /// Host and port.
        registry: String,
        /// The digest wanted.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
        /// How many bytes came.
        size: u64,
    },
    /// A file that is to be sent can't be read.
    #[error("{action}: read the blob")]
    Payload {
        /// What was asked.
        action: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A credentials file or helper failed.
    #[error("credentials for `{registry}`: {reason}")]
    Credentials {
        /// Host and port.
        registry: String,
        /// What is wrong; never the secret itself.
        reason: String,
    },
    /// A file with a certificate or a key, named for this registry, is of no use.
    #[error("certificates of the registry")]
    Certificate(#[from] CertificateError),
    /// The store could not take what came.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegistryError {
    /// What whoever reads the error may try.
    pub fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Transport { registry, .. } => format!(
                "is `{registry}` up, and can it be reached from here? Proxies are those of `HTTPS_PROXY` and \
                 `NO_PROXY`; what has arrived in whole is kept, so trying again goes on from there"
            ),
            Self::Status {
                registry,
                status: 408 | 425 | 429 | 500..=599,
                ..
            } => format!("`{registry}` is busy or broken: try again later, or name a mirror of it"),
            Self::Denied { registry, .. } => {
                format!("`strata login {registry}` tells it who you are, if you may do this at all")
            }
            Self::NotFound { registry, .. } => format!(
                "check the name; a registry may also say so of what it does not show to strangers: `strata login \
                 {registry}`"
            ),
            Self::Content { registry, .. } => format!(
                "nothing of it was stored: `{registry}`, its disk, or a proxy or cache before it changes what it \
                 sends"
            ),
            Self::Protocol { registry, .. } => format!(
                "is `{registry}` a registry? A proxy or a login page may have answered in its place"
            ),
            _ => return None,
        })
    }
}

/// A registry's words after a colon, or nothing.
struct Detail<'a>(&'a str);

impl std::fmt::Display for Detail<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(formatter, ": {}", self.0)
        }
    }
}
