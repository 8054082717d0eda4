//! COPY and ADD of local files: select, digest, write.
//!
//! No mount is needed: destinations are resolved through a view of the layers below, and files go
//! straight into the upper directory while they are hashed. Names come from contexts, images and
//! archives, so they are hostile: every write is relative to a directory descriptor in the upper
//! directory and follows no link there.

mod content;
pub(crate) mod destination;
mod digest;
mod foretold;
mod linked;
mod near;
mod select;
pub(crate) mod write;
mod writeback;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use strata_cache::diff::Foretelling;
use strata_cache::view::{Entry, FileKind, ViewError};
use strata_cache::{Digest, FileSet, HardLinks, KnownLayer, LayerView};

use crate::glob::PatternError;
use crate::tree::{TreeError, Xattr};

pub use destination::Owners;
pub use digest::VERSION;
pub use select::select;
pub use write::make_directory;

/// Decides whether a path (relative to a matched source directory) is left out: `--exclude`. The
/// second argument is "is a directory".
pub type Exclude<'a> = dyn Fn(&str, bool) -> bool + Send + Sync + 'a;

/// New permission bits from the old ones and "is a directory": `--chmod`.
pub type Chmod<'a> = dyn Fn(u32, bool) -> u32 + Send + Sync + 'a;

/// Decides whether a path matches an ignore-file pattern, itself or by a directory above it.
/// Pattern first, then the path; both relative, without a leading `/`.
pub type PatternMatch<'a> = dyn Fn(&str, &str) -> bool + Send + Sync + 'a;

/// Says whether the caller has lost interest.
pub type Cancelled<'a> = dyn Fn() -> bool + Send + Sync + 'a;

/// What is copied, as an instruction says it after expansion.
#[derive(Clone, Copy)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "they are flags of an instruction, independent of each other"
)]
pub struct CopySpec<'a> {
    /// Source paths or wildcards, as written. Made absolute at the tree's root and cleaned.
    pub sources: &'a [String],
    /// Sources are paths alone: `*` is a star.
    pub literal: bool,
    /// Destination, joined with the working directory, absolute; a trailing `/` (or `/.`) is kept and means a
    /// directory.
    pub destination: &'a str,
    /// Owner for everything copied and every directory made; none keeps the tree's owner.
    pub owner: Option<(u32, u32)>,
    /// New permission bits from the old ones and "is a directory"; none keeps them.
    pub chmod: Option<&'a Chmod<'a>>,
    /// Mode for created parents: the octal `--chmod`, or 0755.
    pub parent_mode: u32,
    /// `--exclude`.
    pub exclude: Option<&'a Exclude<'a>>,
    /// No pattern of `--exclude` takes anything back in (`!`): an excluded directory needn't be
    /// looked through.
    pub exclude_is_final: bool,
    /// `--parents`.
    pub parents: bool,
    /// Matches the patterns of `--parents` (ignore-file rules, with `**`). Without it they are
    /// compared by the rules of plain wildcards.
    pub parents_match: Option<&'a PatternMatch<'a>>,
    /// Unpack archives among the sources (`ADD`).
    pub unpack: bool,
    /// `--link`: ignore what is below; the destination is made of plain directories.
    pub link: bool,
    /// Where to put the diff ID of the layer as it is foretold, if that is wanted and can be: if this copy is all
    /// that is in the layer.
    pub foretold: Option<&'a Mutex<Option<Foretelling>>>,
    /// Clamp times to this many seconds since the epoch.
    pub epoch: Option<i64>,
    /// A layer that an earlier run of the same instruction made: what it has as it is to be is linked.
    pub earlier: Option<&'a KnownLayer>,
    /// Asked now and then; once it says true, the copy ends with [`CopyError::Cancelled`].
    pub cancelled: Option<&'a Cancelled<'a>>,
}

impl Default for CopySpec<'_> {
    fn default() -> Self {
        Self {
            sources: &[],
            literal: false,
            destination: "/",
            owner: None,
            chmod: None,
            parent_mode: 0o755,
            exclude: None,
            exclude_is_final: false,
            parents: false,
            parents_match: None,
            unpack: false,
            link: false,
            foretold: None,
            epoch: None,
            earlier: None,
            cancelled: None,
        }
    }
}

impl CopySpec<'_> {
    /// An error once the copy is not wanted any more.
    pub(crate) fn go_on(&self) -> Result<(), CopyError> {
        match self.cancelled {
            Some(cancelled) if cancelled() => Err(CopyError::Cancelled),
            _ => Ok(()),
        }
    }
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
    /// A wildcard that can't be understood.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A source changed while it was read: what its key says and what is there differ.
    #[error("`{path}` changed while it was copied")]
    Changed {
        /// Path in the source tree.
        path: String,
    },
    /// A file that is mostly holes.
    #[error(
        "`{path}` is a sparse file of {size} bytes, of which {written} were written: an image \
         can't hold holes, and would hold zeroes; leave it out with an ignore file"
    )]
    Sparse {
        /// Path in the source tree.
        path: String,
        /// Its size.
        size: u64,
        /// What it takes on the disk.
        written: u64,
    },
    /// A file whose content the kernel makes up.
    #[error(
        "`{path}` is on a file system of the kernel, such as /proc or /sys: it has no content of \
         its own that could be copied"
    )]
    OfKernel {
        /// Path in the source tree.
        path: String,
    },
    /// The device that overlayfs takes for a deletion.
    #[error("`{path}` is a 0/0 character device, which would delete what is below it")]
    Whiteout {
        /// Path in the source tree.
        path: String,
    },
    /// An archive that can't be unpacked.
    #[error("archive `{path}` can't be unpacked: entry `{entry}`: {reason}")]
    Archive {
        /// Path in the source tree.
        path: String,
        /// The entry's name as it stands in the archive.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller said so.
    #[error("cancelled")]
    Cancelled,
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
    /// A layer could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A source could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The entries that a copy will write, in order, with their digests filled in by
/// [`digest`](Self::digest).
#[derive(Debug, Default)]
pub struct Selection {
    groups: Vec<Group>,
    items: Vec<Item>,
    /// For each source, how many groups there are with it.
    sources: Vec<usize>,
}

/// What one source, or one match of a wildcard, selected.
#[derive(Debug)]
struct Group {
    /// Last component of the path as written: the name that a file keeps.
    name: PathBuf,
    /// A directory's contents; else one file.
    directory: bool,
    /// Selected by `--parents`.
    parents: bool,
    /// Its items. The first is the source itself.
    items: std::ops::Range<usize>,
}

/// One selected entry.
#[derive(Debug)]
struct Item {
    entry: Entry,
    /// Where in the entry's path begins the path relative to the group's source.
    name_at: usize,
    target: Option<PathBuf>,
    xattrs: Vec<Xattr>,
    /// Content of a regular file.
    digest: Option<Digest>,
    /// Index of the item that this one is a hard link of.
    same_as: Option<usize>,
}

impl Item {
    fn kind(&self) -> FileKind {
        self.entry.metadata.kind
    }

    /// Path relative to the group's source; empty for the source itself.
    fn name(&self) -> &Path {
        let path = self.entry.path.as_os_str().as_bytes();
        Path::new(OsStr::from_bytes(
            path.get(self.name_at..).unwrap_or_default(),
        ))
    }

    fn source(&self) -> String {
        shown(&self.entry.path)
    }
}

/// How many files of a selection are described one by one.
pub const MOST_DESCRIBED: usize = 2_000;

/// One selected path and what of it a key covers, so that a miss can name the file and what is other
/// about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedFile {
    /// Path in the source tree.
    pub path: String,
    /// `file 644 0:0 - sha256:…`: type, mode, owner, digest of the extended attributes, and what is in
    /// it: the content's digest, a link's target, a device's number. Never times.
    pub facts: String,
}

/// What a copy left in the upper directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Names that are one file.
    pub links: HardLinks,
    /// Entries whose owner could not be set.
    pub owners: Owners,
    /// What is told of each regular file that a later copy could link.
    files: Vec<Digest>,
    /// Names that were replaced, with all below them, so that what an earlier copy said of them is no longer true.
    replaced: std::collections::BTreeSet<Vec<u8>>,
}

impl Written {
    /// The files that a later run of the same instruction may link from the layer.
    pub fn files(&self) -> FileSet {
        self.files.iter().copied().collect()
    }

    /// Adds what a later copy left in the same upper directory.
    pub fn merge(&mut self, later: Self) {
        if !later.replaced.is_empty() {
            // Some of these are no longer what they were said to be.
            self.files.clear();
        }
        self.files.extend(later.files);
        for group in &mut self.links.0 {
            group.retain(|name| {
                let path = Path::new(OsStr::from_bytes(name));
                !path
                    .ancestors()
                    .any(|path| later.replaced.contains(path.as_os_str().as_bytes()))
            });
        }
        self.links.0.retain(|group| group.len() > 1);
        self.replaced.extend(later.replaced);
        self.links.0.extend(later.links.0);
        self.links.0.sort();
        self.owners += later.owners;
    }
}

impl Selection {
    /// True if nothing was selected: wildcards without a match.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Hashes what is selected (file contents in parallel; a tree that knows a digest is believed)
    /// and gives one digest for the whole selection: names relative to the matched sources, types,
    /// modes and owners as they will be written, contents, link targets. Times, and where in the
    /// tree the source lies, are not in it. The first [`MOST_DESCRIBED`] files are described, too. `learned` is told each content digest that had to be
    /// computed, but not of a file that may change and has extended attributes.
    pub fn digest(
        &mut self,
        tree: &dyn crate::tree::SourceTree,
        spec: &CopySpec<'_>,
        learned: &mut dyn FnMut(&Entry, Digest),
    ) -> Result<(Digest, Vec<SelectedFile>), CopyError> {
        digest::contents(self, tree, spec, learned)?;
        Ok(digest::combine(self, tree, spec))
    }

    /// Writes the selection into `upper`, on top of `below` (a view of the stack without the
    /// scratch). `upper` may hold the result of earlier writes of the same step. Owner and mode are
    /// those of this `spec`: a name in `--chown` may have been unknown when the files were selected.
    ///
    /// With digests known, the content written is what they say: a context file that changed in the
    /// middle is an error, never a wrong layer under a right key.
    pub fn write(
        &self,
        tree: &dyn crate::tree::SourceTree,
        spec: &CopySpec<'_>,
        below: &LayerView,
        upper: &Path,
    ) -> Result<Written, CopyError> {
        write::write(self, &self.groups, tree, spec, below, upper)
    }

    /// [`write`](Self::write) for some of the sources, by their numbers: what comes between them is
    /// written between the calls.
    pub fn write_sources(
        &self,
        sources: std::ops::Range<usize>,
        tree: &dyn crate::tree::SourceTree,
        spec: &CopySpec<'_>,
        below: &LayerView,
        upper: &Path,
    ) -> Result<Written, CopyError> {
        let end = |count: usize| match count.checked_sub(1) {
            None => 0,
            Some(last) => self.sources.get(last).copied().unwrap_or(self.groups.len()),
        };
        let groups = &self.groups[end(sources.start)..end(sources.end)];
        write::write(self, groups, tree, spec, below, upper)
    }
}

/// The path in the form that messages and records have: bytes that are not UTF-8 replaced.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// `path` from the root, cleaned as text: no `.`, and `..` takes away what is before it.
fn clean(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// The mode and owner that a copy of `entry` gets.
fn attributes(
    tree: &dyn crate::tree::SourceTree,
    spec: &CopySpec<'_>,
    entry: &Entry,
) -> (u32, (u32, u32)) {
    let kind = entry.metadata.kind;
    let mode = match spec.chmod {
        Some(chmod) if kind != FileKind::Symlink => {
            chmod(tree.mode(entry), kind == FileKind::Directory) & 0o7777
        }
        _ => tree.mode(entry),
    };
    (mode, spec.owner.unwrap_or_else(|| tree.owner(entry)))
}

/// Runs `job` on the copying threads: as many as there are cores, apart from every other pool, so
/// that waiting for a file never holds up anybody's arithmetic.
fn on_pool<T: Send>(job: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("copy-{index}"))
            .build()
            .ok()
    });
    match pool {
        Some(pool) => pool.install(job),
        None => job(),
    }
}

#[cfg(test)]
mod tests;
