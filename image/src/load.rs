//! Reads images from files: OCI layout directories, OCI archives, docker archives.

use std::io::Read;
use std::path::{Path, PathBuf};

use strata_cache::{Digest, Lease, Store, StoreError};

use crate::Progress;

/// Why a file holds no image that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file could not be read.
    #[error("read `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// It is not an image archive or layout, or a damaged one.
    #[error("`{path}` can't be loaded: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A manifest inside can't be used.
    #[error("`{path}`")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: crate::manifest::ManifestError,
    },
    /// A config inside can't be used.
    #[error("`{path}`")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: crate::config::ConfigError,
    },
    /// It holds no image of that name.
    #[error("`{path}` holds no image `{name}`; there are: {available}")]
    NoSuchImage {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is, separated by commas.
        available: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its ID.
    pub config: Digest,
    /// The names that it has now, in full. Empty for an archive without names.
    pub names: Vec<String>,
}

/// Loads every image of the archive or layout at `path` (its form is seen from its content; an
/// archive may be compressed) into the store. Layers are stored as they are and unpacked on use.
pub fn load(
    store: &Store,
    lease: &Lease,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, LoadError> {
    let _ = (store, lease, path, progress);
    todo!()
}

/// The same from a stream, such as standard input. `name` stands for the path in errors.
pub fn load_reader(
    store: &Store,
    lease: &Lease,
    name: &Path,
    reader: &mut (dyn Read + Send),
    progress: &dyn Progress,
) -> Result<Vec<Loaded>, LoadError> {
    let _ = (store, lease, name, reader, progress);
    todo!()
}
