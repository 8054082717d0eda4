//! The Distribution protocol (OCI distribution specification 1.1), blocking.
//!
//! Registries are named as in references. `docker.io` is reached at `registry-1.docker.io`.
//! Loopback hosts are spoken to in plain HTTP; hosts that are configured as insecure, in TLS
//! without a check or in plain HTTP; all others in TLS that is checked.

mod auth;
mod client;
mod credentials;
mod error;
mod options;
mod pull;
mod push;
mod retry;
mod token;
pub(crate) mod transport;
mod upload;
pub(crate) mod url;

pub use client::Client;
pub use error::RegistryError;
pub use options::{Credentials, RegistryOptions};
pub use pull::{FetchedManifest, ManifestHead};
pub use push::{PushError, PushOptions, Pushed};
pub use upload::{Upload, Uploaded};
