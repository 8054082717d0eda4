//! COPY and ADD of local files: select, digest, write.
//!
//! No mount is needed: destinations are resolved through a view of the layers below, and files go
//! straight into the upper directory while they are hashed.

use std::path::PathBuf;

use strata_cache::view::ViewError;
use strata_cache::{Digest, HardLinks, LayerView};

use crate::tree::SourceTree;

/// Decides whether a path (relative to a matched source directory) is left out: `--exclude`.
pub type Exclude<'a> = dyn Fn(&str, bool) -> bool + Send + Sync + 'a;

/// What is copied, as an instruction says it after expansion.
pub struct CopySpec<'a> {
    /// Source paths or wildcards, as written. Made absolute at the tree's root and cleaned.
    pub sources: &'a [String],
    /// Destination, joined with the working directory, absolute; a trailing `/` (or `/.`) is kept and means a
    /// directory.
    pub destination: &'a str,
    /// Owner for everything copied and every directory made; none keeps the tree's owner.
    pub owner: Option<(u32, u32)>,
    /// New permission bits from the old ones and "is a directory"; none keeps them.
    pub chmod: Option<&'a (dyn Fn(u32, bool) -> u32 + Send + Sync)>,
    /// Mode for created parents: the octal `--chmod`, or 0755.
    pub parent_mode: u32,
    /// `--exclude`.
    pub exclude: Option<&'a Exclude<'a>>,
    /// `--parents`.
    pub parents: bool,
    /// Unpack archives among the sources (`ADD`).
    pub unpack: bool,
    /// `--link`: ignore what is below; the destination is made of plain directories.
    pub link: bool,
    /// Clamp times to this many seconds since the epoch.
    pub epoch: Option<i64>,
}

impl std::fmt::Debug for CopySpec<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CopySpec")
            .field("sources", &self.sources)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

/// Why a copy failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A source without wildcards is not there.
    #[error("`{path}` is not in {place}")]
    NotFound {
        /// The source as written.
        path: String,
        /// `the build context`, `stage "x"` …: filled in by the caller.
        place: String,
        /// Names near it that do exist.
        near: Vec<String>,
    },
    /// A directory would replace a file, or the other way round.
    #[error("can't copy {what} `{from}` onto {onto} `{to}`")]
    Kind {
        /// `directory` or `file`.
        what: &'static str,
        /// Source path.
        from: String,
        /// `file` or `directory`.
        onto: &'static str,
        /// Destination path.
        to: String,
    },
    /// Reading or writing failed.
    #[error("{action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A tree could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// The entries that a copy will write, in order, with their digests filled in by
/// [`digest`](Self::digest).
#[derive(Debug)]
pub struct Selection {}

/// One selected path and what of it a key covers, so that a miss can name the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedFile {
    /// Path in the source tree.
    pub path: String,
    /// Digest of type, mode, owner, link target, device number, content. Never of times.
    pub digest: Digest,
}

/// Resolves the sources of `spec` in `tree`. Wildcards without a match select nothing.
pub fn select(tree: &dyn SourceTree, spec: &CopySpec<'_>) -> Result<Selection, CopyError> {
    let _ = (tree, spec);
    todo!()
}

impl Selection {
    /// Hashes what is selected (file contents in parallel; a tree that knows a digest is believed)
    /// and gives one digest for the whole selection: names relative to the matched sources, types,
    /// modes and owners as they will be written, contents, link targets. Times, and where in the
    /// tree the source lies, are not in it. `learned` is told each content digest that had to be
    /// computed.
    pub fn digest(
        &mut self,
        tree: &dyn SourceTree,
        spec: &CopySpec<'_>,
        learned: &mut dyn FnMut(&strata_cache::view::Entry, Digest),
    ) -> Result<(Digest, Vec<SelectedFile>), CopyError> {
        let _ = (tree, spec, learned);
        todo!()
    }

    /// Writes the selection into `upper`, on top of `below` (a view of the stack without the
    /// scratch). Returns the hard links that the layer holds.
    ///
    /// With digests known, the content written is checked against them while it is copied: a
    /// context file that changed in the middle is an error, never a wrong layer under a right key.
    pub fn write(
        &self,
        tree: &dyn SourceTree,
        spec: &CopySpec<'_>,
        below: &LayerView,
        upper: &std::path::Path,
    ) -> Result<HardLinks, CopyError> {
        let _ = (tree, spec, below, upper);
        todo!()
    }
}

/// `WORKDIR`: makes `path` (absolute) and its missing parents in `upper`, 0755, owned by `owner`,
/// on top of `below`. False if everything was there already (an empty layer).
pub fn make_directory(
    path: &str,
    owner: (u32, u32),
    epoch: Option<i64>,
    below: &LayerView,
    upper: &std::path::Path,
) -> Result<bool, CopyError> {
    let _ = (path, owner, epoch, below, upper);
    todo!()
}
