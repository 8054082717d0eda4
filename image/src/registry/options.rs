//! What a client needs to know of the outside world.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// User name and password, or a token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// For Basic, or to get a token with.
    Password {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth refresh token.
    IdentityToken(String),
    /// A token to be sent as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// How registries are reached. The default is right for most: credentials from Docker's and
/// podman's files, TLS everywhere but on loopback.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// What is special about single registries, by their names in references (with port, if it is
    /// not the default one).
    pub hosts: BTreeMap<String, HostOptions>,
    /// Files with credentials, in Docker's or podman's form, in the order in which they are asked.
    /// Empty: the usual places, see [`super::usual_files`].
    pub auth_files: Vec<PathBuf>,
    /// Credentials by host that go before those of files.
    pub credentials: Vec<(String, Credentials)>,
    /// Files with certificates (PEM) that are trusted besides the system's. Those of single
    /// registries may also lie in `/etc/docker/certs.d/HOST` or `/etc/containers/certs.d/HOST`.
    ///
    /// **Limitation**: a self-signed certificate that calls itself an authority (`CA:TRUE`) is not
    /// accepted as the registry's own: sign one for the registry with it, or make it `CA:FALSE`.
    pub certificates: Vec<PathBuf>,
    /// Pause before the first repetition of a failed request in milliseconds; doubled each time.
    /// None is half a second.
    pub retry_pause_ms: Option<u64>,
    /// How often a request is tried, the first time included. None is five.
    pub attempts: Option<u32>,
    /// Blobs that are fetched from or sent to one registry at a time. None is six.
    pub transfers: Option<usize>,
}

/// Tries of one request, if nothing else is said.
const ATTEMPTS: u32 = 5;
/// Blobs on their way at a time, if nothing else is said: what registries are used to.
const TRANSFERS: usize = 6;

impl RegistryOptions {
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.unwrap_or(ATTEMPTS).max(1)
    }

    /// Blobs that may be on their way from or to `registry`.
    pub(super) fn transfers(&self, registry: &str) -> usize {
        let own = self.hosts.get(registry).and_then(|host| host.transfers);
        own.or(self.transfers).unwrap_or(TRANSFERS).max(1)
    }
}

/// What is special about one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// It is spoken to in plain HTTP.
    pub http: bool,
    /// Its certificate is not checked; where it speaks no TLS at all, plain HTTP will do.
    pub insecure: bool,
    /// Who is asked before it for manifests and blobs, in this order: `HOST[:PORT][/PATH]`. What a
    /// mirror does not have, or can't give, comes from the next one and in the end from the
    /// registry itself. Mirrors are never pushed to.
    pub mirrors: Vec<String>,
    /// Files with certificates (PEM) that are trusted for this registry.
    pub certificates: Vec<PathBuf>,
    /// The certificate (PEM, with its chain) and the key by which the registry knows us.
    pub identity: Option<Identity>,
    /// How many blobs may be on their way from or to this registry at once, where it isn't what all have.
    pub transfers: Option<usize>,
}

/// Two files: who we are, and the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Certificates in PEM, our own first.
    pub certificate: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
}
