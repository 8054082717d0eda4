//! The Distribution protocol (OCI distribution specification 1.1), blocking.

mod client;
mod error;
mod options;
mod push;

pub use client::Client;
pub use error::RegistryError;
pub use options::{Credentials, RegistryOptions};
pub use push::{PushError, PushOptions, Pushed};
