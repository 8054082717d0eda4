//! The Distribution protocol (OCI distribution specification 1.1), blocking.
//!
//! Registries are named as in references. `docker.io` is reached at `registry-1.docker.io`.
//! Loopback hosts are spoken to in plain HTTP; hosts that are configured as insecure, in TLS
//! without a check or in plain HTTP; all others in TLS that is checked. What is read may come from
//! mirrors; what is written goes to the registry itself.

mod auth;
mod client;
mod credentials;
mod error;
mod helper;
mod identity;
mod login;
mod mirror;
mod options;
mod pull;
mod push;
mod push_list;
mod retry;
mod stream;
mod token;
pub(crate) mod transport;
mod upload;
pub(crate) mod url;

pub use client::Client;
pub use credentials::usual_files;
pub use error::RegistryError;
pub use identity::CertificateError;
pub use login::{CredentialsFile, Keeper, LoginError};
pub use options::{Credentials, HostOptions, Identity, RegistryOptions};
pub use pull::{FetchedManifest, ManifestHead};
pub use push::{PushError, PushOptions};
pub use upload::{Upload, Uploaded};
