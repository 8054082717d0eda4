//! Layers as tar streams, both ways (OCI image specification, "Image Layer Filesystem Changeset").
//!
//! What is written: PAX format; entries in the order of a walk whose siblings are sorted by the bytes
//! of their names (so `a/x` comes before `a.b`, as paths are compared component by component); a
//! whiteout stands where the name that it hides would; an opaque mark is the first thing in its
//! directory. Times are whole seconds. Of the xattrs, `security.capability` and `user.*` are
//! written. The root directory is left out unless its mode, owner or attributes are unusual. The
//! first name of a group of hard links is the file.
//!
//! What is read: see [`apply_layer`].

mod ahead;
mod apply;
mod foretell;
mod header;
mod pax;
mod read;
mod write;

pub use foretell::{Arrivals, Coming, Foretelling};
pub use header::EntryType;
pub use read::{ArchiveEntry, ArchiveReader};

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
        /// The path in the layer, or on the disk.
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
    /// A file of the layer has no form in an archive.
    #[error("`{path}` can't be written to a layer archive: {reason}")]
    Unrepresentable {
        /// The path in the layer.
        path: PathBuf,
        /// Why.
        reason: &'static str,
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

/// What the name of a whiteout begins with.
const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The file that marks its directory as opaque.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

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
    write::write_layer(directory, links, options, output)
}

/// How many bytes [`write_layer`] writes. Files are looked at, but none is read.
pub fn layer_size(
    directory: &Path,
    links: &HardLinks,
    options: WriteOptions,
) -> Result<u64, DiffError> {
    write::layer_size(directory, links, options)
}

/// Writes a whole tree (everything below `start`) as a plain tar without whiteouts: the
/// `--output type=tar` form. `links` are groups of paths from the view's root, of any of its layers;
/// those whose members are still one file are kept. Names are relative to `start`; if that is a file,
/// it is the only entry.
pub fn write_tree(
    view: &LayerView,
    start: &Entry,
    links: &HardLinks,
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    write::write_tree(view, start, links, options, output)
}

/// One of several trees in an archive.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// The tree.
    pub view: &'a LayerView,
    /// Its hard links, as for [`write_tree`].
    pub links: &'a HardLinks,
    /// The directory of the archive that it is in, without slashes at its ends; empty for the root.
    pub directory: &'a str,
}

/// Writes several whole trees as one plain tar, as [`write_tree`] writes one.
pub fn write_trees(
    trees: &[Tree<'_>],
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    write::write_trees(trees, options, output)
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
    /// Devices that were left out, because a user namespace may not make them.
    pub skipped_devices: u64,
    /// Extended attributes that the file system or the kernel didn't take.
    pub dropped_xattrs: u64,
}

/// Unpacks a layer's (uncompressed) tar into `directory`, an empty overlay upper directory, on top
/// of `below`: whiteouts become overlay's marks, missing parents are copied up from `below` (or made
/// 0755), a hard link to a file of a lower layer becomes a copy. Nothing outside `directory` is ever
/// touched, whatever the names say.
///
/// - Names are relative to the root, absolute or not; `..` is refused. A parent that is a symlink
///   (in this layer or below) is followed inside the root.
/// - A name that comes again replaces what was there; a directory only changes its attributes.
/// - Whiteouts and opaque marks hide what is below, never this layer's own files, wherever they stand.
///   Those that hide nothing are left out. aufs's own files (`.wh..wh.*`) are skipped.
/// - A hard link's own mode, owner and times are not looked at. Its target must be there by then.
/// - `security.capability` and `user.*` attributes are set, others not.
/// - Times are kept to the nanosecond, and the time of access is that of modification.
///
/// In a user namespace, owners that are not mapped and devices are left out and counted.
/// Set-id bits are kept all the same: nobody else may be able to reach `directory`.
///
/// After an error `directory` holds a part of the layer.
pub fn apply_layer(
    input: &mut dyn Read,
    directory: &Path,
    below: &LayerView,
    userxattr: bool,
    limits: Limits,
) -> Result<Applied, DiffError> {
    apply::apply_layer(input, directory, below, userxattr, limits)
}

/// What is tried when a whiteout is made, with what follows from the kernel's answer.
pub(crate) fn whiteout(error: rustix::io::Errno) -> &'static str {
    if error == rustix::io::Errno::PERM {
        // A container's root, as a rule.
        "create a whiteout, which an overlay takes none of (put the store (`--root`) on a volume), for"
    } else {
        "create whiteout"
    }
}

#[cfg(test)]
mod tests;
