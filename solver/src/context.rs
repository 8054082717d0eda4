//! The build context: a directory without what its ignore file hides.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_cache::statcache::StatCache;
use strata_cache::view::Entry;
use strata_cache::walks::Walks;
use strata_cache::{Digest, Store};
use strata_executor::context::ContextTree;
use strata_executor::tree::{FileTree, LayerTree, MemoryTree, SourceTree};
use strata_parser::ignore::IgnoreFile;

use crate::error::{BuildError, chain};
use crate::remote::{self, context::Unpacked};
use crate::request::{BuildRequest, Context};

/// An open build context.
pub(crate) enum BuildContext<'store> {
    Directory {
        tree: Box<ContextTree>,
        /// Digest of all that decides what there is in it, but what is on the disk.
        view: Digest,
    },
    Empty(MemoryTree),
    /// A file that was fetched.
    File(FileTree),
    /// Files in a scratch directory of the store, which this may keep.
    Unpacked {
        tree: Box<LayerTree>,
        _files: Option<Unpacked<'store>>,
    },
}

impl<'store> From<Unpacked<'store>> for BuildContext<'store> {
    fn from(files: Unpacked<'store>) -> Self {
        Self::Unpacked {
            tree: Box::new(files.tree()),
            _files: Some(files),
        }
    }
}

impl BuildContext<'_> {
    /// Opens the context of `request`, without what its [ignore file](IgnoreAt::read) hides.
    pub(crate) fn open(request: &BuildRequest, store: &Store) -> Result<Self, BuildError> {
        let root = match &request.context {
            Context::Empty => return Ok(Self::Empty(MemoryTree::new(Vec::new()))),
            Context::Unpacked { root, links } => {
                return Ok(Self::Unpacked {
                    tree: Box::new(
                        remote::context::tree(root, links).neutral(request.neutral_modes),
                    ),
                    _files: None,
                });
            }
            Context::Directory(root) => root,
        };
        Self::directory(root, IgnoreAt::of(request), request.neutral_modes, store)
    }

    /// Opens a directory without what its ignore file hides. `neutral`: see
    /// [`BuildRequest::neutral_modes`].
    pub(crate) fn directory(
        root: &Path,
        ignore: IgnoreAt<'_>,
        neutral: bool,
        store: &Store,
    ) -> Result<Self, BuildError> {
        let text = ignore.text(root)?;
        let ignore = Arc::new(parsed(text.as_ref())?);
        let below = Arc::clone(&ignore);
        let tree = ContextTree::open(
            root,
            Box::new(move |path, _| ignore.is_ignored(path)),
            Box::new(move |directory| below.may_reinclude_below(directory)),
            Some(StatCache::load(store, root)),
        )
        .map_err(|error| BuildError::Context {
            path: root.to_owned(),
            reason: chain(&error),
        })?;
        let text = text.map(|(_, bytes)| bytes).unwrap_or_default();
        let view = [
            b"strata context ".as_slice(),
            env!("CARGO_PKG_VERSION").as_bytes(),
            if neutral {
                b" neutral "
            } else {
                b" own modes "
            },
            &text,
        ];
        Ok(Self::Directory {
            tree: Box::new(tree.neutral(neutral).with_walks(Walks::of(store, root))),
            view: Digest::of(&view.concat()),
        })
    }

    /// The digest of what a copy selects, if an earlier build found it out and everything that it saw is
    /// as it was. `wanted` has to cover all that the copy goes by.
    pub(crate) fn recall(&self, wanted: &str) -> Option<Digest> {
        match self {
            Self::Directory { tree, view } => tree.recall(question(*view, wanted)),
            _ => None,
        }
    }

    /// Looks at the files with `walk`, and [remembers](Self::recall) the digest that it gives for the next
    /// build.
    pub(crate) fn walk<T, E>(
        &self,
        wanted: &str,
        walk: impl FnOnce() -> Result<(T, Digest), E>,
    ) -> Result<(T, Digest), E> {
        let Self::Directory { tree, view } = self else {
            return walk();
        };
        tree.note_walk();
        let found = walk();
        let digest = found.as_ref().ok().map(|(_, digest)| *digest);
        tree.end_walk(digest.map(|digest| (question(*view, wanted), digest)));
        found
    }

    /// The files.
    pub(crate) fn tree(&self) -> &dyn SourceTree {
        match self {
            Self::Directory { tree, .. } => tree.as_ref(),
            Self::Empty(tree) => tree,
            Self::File(tree) => tree,
            Self::Unpacked { tree, .. } => tree.as_ref(),
        }
    }

    /// Remembers a digest for the next build.
    pub(crate) fn learn(&self, entry: &Entry, digest: Digest) {
        if let Self::Directory { tree, .. } = self {
            tree.learn(entry, digest);
        }
    }

    /// Saves what was learned. A cache that can't be written is no reason to fail.
    pub(crate) fn finish(self, store: &Store) {
        if let Self::Directory { tree, .. } = self {
            drop(tree.finish(store));
        }
    }
}

fn question(view: Digest, wanted: &str) -> Digest {
    Digest::of(&[view.as_bytes(), wanted.as_bytes()].concat())
}

/// What says where the ignore file of a directory is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IgnoreAt<'a> {
    /// The file itself: no other is looked for.
    given: Option<&'a Path>,
    /// The Dockerfile, which may have one of its own.
    dockerfile: Option<&'a Path>,
}

impl<'a> IgnoreAt<'a> {
    /// For the build context of `request`.
    pub(crate) fn of(request: &'a BuildRequest) -> Self {
        Self {
            given: request.ignore_file.as_deref(),
            dockerfile: request.dockerfile_path.as_deref(),
        }
    }

    /// The ignore file of a directory: the one given, else the first there is of
    /// `<dockerfile>.dockerignore`, `.dockerignore` and `.containerignore`.
    pub(crate) fn read(self, root: &Path) -> Result<IgnoreFile, BuildError> {
        parsed(self.text(root)?.as_ref())
    }

    /// Path and text of the ignore file, if there is one.
    fn text(self, root: &Path) -> Result<Option<(PathBuf, Vec<u8>)>, BuildError> {
        if let Some(path) = self.given {
            let bytes = std::fs::File::open(path).and_then(bounded);
            let bytes = bytes.map_err(|error| unreadable(path, &error))?;
            return Ok(Some((path.to_owned(), bytes)));
        }
        let beside = self.dockerfile.map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        let own = [".dockerignore", ".containerignore"].map(|name| root.join(name));
        for path in beside.into_iter().chain(own) {
            match read_regular(&path) {
                Ok(bytes) => return Ok(Some((path, bytes))),
                Err(error)
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(unreadable(&path, &error)),
            }
        }
        Ok(None)
    }
}

/// A file that a context happens to have: one that could make us wait, or never ends, is none.
fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    let waits = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::File::options()
        .read(true)
        .custom_flags(waits)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    bounded(file)
}

fn bounded(file: std::fs::File) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    const LIMIT: u64 = 16 << 20;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

fn parsed(text: Option<&(PathBuf, Vec<u8>)>) -> Result<IgnoreFile, BuildError> {
    let Some((path, bytes)) = text else {
        return Ok(IgnoreFile::default());
    };
    IgnoreFile::parse(&String::from_utf8_lossy(bytes)).map_err(|error| BuildError::Context {
        path: path.clone(),
        reason: format!("line {}: {}", error.line, error.message),
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> BuildError {
    BuildError::Context {
        path: path.to_owned(),
        reason: format!("the ignore file can't be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `paths` is hidden in a directory with these files, of which each ignore file hides
    /// the path of its own name.
    fn hidden(files: &[&str], given: Option<&str>) -> Vec<&'static str> {
        const NAMES: [&str; 4] = [
            "given",
            "Dockerfile.dockerignore",
            ".dockerignore",
            ".containerignore",
        ];
        let root = tempfile::tempdir().unwrap();
        for name in files {
            std::fs::write(root.path().join(name), name).unwrap();
        }
        let given = given.map(|name| root.path().join(name));
        let dockerfile = root.path().join("Dockerfile");
        let at = IgnoreAt {
            given: given.as_deref(),
            dockerfile: Some(&dockerfile),
        };
        let ignore = at.read(root.path()).unwrap();
        NAMES
            .into_iter()
            .filter(|name| ignore.is_ignored(name))
            .collect()
    }

    #[test]
    fn the_first_ignore_file_there_is_counts_alone() {
        let all = [
            "given",
            "Dockerfile.dockerignore",
            ".dockerignore",
            ".containerignore",
        ];
        assert_eq!(hidden(&all, Some("given")), ["given"]);
        for first in 1..all.len() {
            assert_eq!(hidden(&all[first..], None), [all[first]], "{first}");
        }
        assert!(hidden(&[], None).is_empty());
    }

    #[test]
    fn an_ignore_file_that_is_asked_for_has_to_be_there() {
        let root = tempfile::tempdir().unwrap();
        let missing = root.path().join("missing");
        let at = IgnoreAt {
            given: Some(&missing),
            dockerfile: None,
        };
        let error = at.read(root.path()).unwrap_err().to_string();
        assert!(error.contains("missing"), "{error}");
        assert!(error.contains("ignore file"), "{error}");
    }
}
