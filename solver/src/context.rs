//! The build context: a directory without what its ignore file hides.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strata_cache::statcache::StatCache;
use strata_cache::view::Entry;
use strata_cache::{Digest, Store};
use strata_executor::context::ContextTree;
use strata_executor::tree::{FileTree, LayerTree, MemoryTree, SourceTree};
use strata_parser::ignore::IgnoreFile;

use crate::error::{BuildError, chain};
use crate::remote::{self, context::Unpacked};
use crate::request::{BuildRequest, Context};

/// An open build context.
pub(crate) enum BuildContext<'store> {
    Directory(Box<ContextTree>),
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
    /// Opens the context of `request`, with `<Dockerfile>.dockerignore` if that exists, else its own
    /// `.dockerignore`.
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
        Self::directory(
            root,
            request.dockerfile_path.as_deref(),
            request.neutral_modes,
            store,
        )
    }

    /// Opens a directory with the ignore file of `dockerfile`, if there is one, else its own. `neutral`:
    /// see [`BuildRequest::neutral_modes`].
    pub(crate) fn directory(
        root: &Path,
        dockerfile: Option<&Path>,
        neutral: bool,
        store: &Store,
    ) -> Result<Self, BuildError> {
        let ignore = Arc::new(ignore_file(dockerfile, root)?);
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
        Ok(Self::Directory(Box::new(tree.neutral(neutral))))
    }

    /// The files.
    pub(crate) fn tree(&self) -> &dyn SourceTree {
        match self {
            Self::Directory(tree) => tree.as_ref(),
            Self::Empty(tree) => tree,
            Self::File(tree) => tree,
            Self::Unpacked { tree, .. } => tree.as_ref(),
        }
    }

    /// Remembers a digest for the next build.
    pub(crate) fn learn(&self, entry: &Entry, digest: Digest) {
        if let Self::Directory(tree) = self {
            tree.learn(entry, digest);
        }
    }

    /// Saves what was learned. A cache that can't be written is no reason to fail.
    pub(crate) fn finish(self, store: &Store) {
        if let Self::Directory(tree) = self {
            drop(tree.finish(store));
        }
    }
}

/// The ignore file of a context at `root`: `<dockerfile>.dockerignore`, else its `.dockerignore`.
pub(crate) fn ignore_file(
    dockerfile: Option<&Path>,
    root: &Path,
) -> Result<IgnoreFile, BuildError> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in beside.into_iter().chain([root.join(".dockerignore")]) {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            Err(error) => {
                return Err(BuildError::Context {
                    path,
                    reason: error.to_string(),
                });
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        return IgnoreFile::parse(&text).map_err(|error| BuildError::Context {
            path,
            reason: format!("line {}: {}", error.line, error.message),
        });
    }
    Ok(IgnoreFile::parse("").unwrap_or_else(|_| unreachable!("an empty ignore file is valid")))
}
