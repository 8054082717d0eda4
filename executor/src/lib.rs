//! Runs one step: a command in a sandbox, or a copy without one.
//!
//! The crate knows nothing of Dockerfiles, keys or records. It gets a root file system as one
//! value ([`strata_cache::RootfsPlan`]) or a scratch directory on a view of layers, and leaves a
//! diff behind.

pub mod archive;
pub mod cdi;
pub mod context;
pub mod copy;
pub mod emulation;
pub mod glob;
pub mod sandbox;
mod sys;
pub mod tree;
pub mod userns;
pub mod users;
