//! Layers as tar streams, both ways (OCI image specification, "Image Layer Filesystem Changeset").

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::layer::HardLinks;
use crate::view::{Entry, LayerView};

/// Why a tar could not be written or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// A file of the layer could not be read or written.
    #[error("{action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path in the layer.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The tar stream can't be accepted.
    #[error("layer archive is refused at entry `{entry}`: {reason}")]
    Refused {
        /// The entry's name as it stands in the archive.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream itself failed (truncated, or its decompressor or socket did).
    #[error("layer archive can't be read")]
    Stream(#[source] std::io::Error),
    /// The output failed.
    #[error("write layer archive")]
    Output(#[source] std::io::Error),
    /// The layers below could not be read.
    #[error(transparent)]
    View(#[from] crate::view::ViewError),
}

/// How a layer is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// Clamp every time to this many seconds since the epoch (`SOURCE_DATE_EPOCH`).
    pub epoch: Option<i64>,
}

/// Writes the layer at `directory` as a changeset: PAX, sorted, numeric owners, whiteouts as
/// `.wh.` files, hard links from `links`, xattrs as `SCHILY.xattr.*`, no sockets, overlay's own
/// marks translated or left out. Equal layers give equal bytes.
pub fn write_layer(
    directory: &Path,
    links: &HardLinks,
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    let _ = (directory, links, options, output);
    todo!()
}

/// Writes a whole tree (everything below `start`) as a plain tar without whiteouts: the
/// `--output type=tar` form. Hard links within it are kept.
pub fn write_tree(
    view: &LayerView,
    start: &Entry,
    links: &HardLinks,
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    let _ = (view, start, links, options, output);
    todo!()
}

/// Bounds on what an archive may make the store do.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// What an unpacked archive held.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Its hard links.
    pub links: HardLinks,
    /// Entries.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// Entries whose owner could not be set, because only one id is mapped.
    pub foreign_owners: u64,
}

/// Unpacks a layer's (uncompressed) tar into `directory`, an empty overlay upper directory, on top
/// of `below`: whiteouts become overlay's marks, missing parents are copied up from `below` (or made
/// 0755), a hard link to a file of a lower layer becomes a copy. Nothing outside `directory` is ever
/// touched, whatever the names say.
pub fn apply_layer(
    input: &mut dyn Read,
    directory: &Path,
    below: &LayerView,
    userxattr: bool,
    limits: Limits,
) -> Result<Applied, DiffError> {
    let _ = (input, directory, below, userxattr, limits);
    todo!()
}
