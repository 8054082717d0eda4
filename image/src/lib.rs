//! Images: where they come from, what they are made of, where they go.
//!
//! An image is a config (what to run), and a stack of layers (on what). This crate reads and writes
//! both in every form that other tools know: registries, OCI layouts, docker archives, plain root
//! file systems. Layers themselves live in [`strata_cache`]; nothing here knows of Dockerfiles.
//!
//! - [`Images`] finds base images (local store first, then registries and files) and unpacks them.
//! - [`list`] has what a name stands for that means several images.
//! - [`load`] brings archives and layouts into the store, [`import`] a bare root file system.
//! - [`export`] gives built layers their diff IDs and blobs, and writes images to files.
//! - [`handover`] gives images to engines on this machine: docker, podman, containerd.
//! - [`fetch`] gets single files of the web.
//! - [`sbom`] lists the software that is in a tree; [`attest`] attaches what is said of an image.
//! - [`registry`] speaks the Distribution protocol.
//!
//! Manifests and configs that came from elsewhere are kept as the bytes that came: they are parsed
//! to be looked at and never written out again to be hashed.

mod archive;
pub mod attest;
pub mod compare;
pub mod config;
mod ensure;
pub mod export;
pub mod fetch;
pub mod handover;
pub mod import;
pub mod list;
pub mod load;
pub mod manifest;
mod nested;
mod origin;
mod parallel;
mod platform;
mod progress;
pub mod redact;
mod reference;
pub mod registry;
mod resolve;
pub mod sbom;
mod stream;
mod unpack;

pub use config::ImageConfig;
pub use export::{BuiltImage, ExportError};
pub use list::List;
pub use load::LoadError;
pub use platform::{Platform, PlatformError};
pub use progress::{NoProgress, Progress};
pub use reference::{Reference, ReferenceError};
pub use registry::{RegistryError, RegistryOptions};
pub use resolve::{ImageError, Images, PullPolicy, ResolvedImage, ResolvedLayer};
pub use unpack::UnpackLimits;
