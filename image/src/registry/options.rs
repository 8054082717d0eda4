//! What a client needs to know of the outside world.

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
    /// Hosts (with port, if not the default one) that are spoken to in plain HTTP, or in TLS
    /// without a check of the certificate.
    pub insecure: Vec<String>,
    /// Files with credentials, in Docker's or podman's form, in the order in which they are asked.
    /// Empty: the usual places: `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`, `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`.
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
}
