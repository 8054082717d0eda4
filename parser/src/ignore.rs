//! `.dockerignore`.
//!
//! Patterns in order, the last one that applies decides; a pattern also applies to everything
//! below a path that it matches; `!` takes back. Everything is anchored at the root.
//!
//! ```no_run
//! use strata_parser::ignore::IgnoreFile;
//!
//! let file = IgnoreFile::parse("# build output\ntarget\n**/*.log\n!keep.log\n")?;
//! assert!(file.is_ignored("target/debug/app"));
//! assert!(file.is_ignored("a/b/x.log"));
//! assert!(!file.is_ignored("keep.log"));
//! # Ok::<(), strata_parser::ignore::IgnoreError>(())
//! ```

use crate::span::Span;

/// A parsed ignore file, or a list of patterns with the same meaning (`COPY --exclude`).
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    _private: (),
}

/// Why an ignore file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct IgnoreError {
    /// The line, from 1; for a list of patterns the pattern's number, from 1.
    pub line: usize,
    /// The line's bytes.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

/// What is known about a directory, carried down by a walker. See [`IgnoreFile::step`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParentMatch {
    matched: Vec<bool>,
}

impl IgnoreFile {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let _ = text;
        todo!()
    }

    /// Takes patterns one by one: no comments, `!` negates.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, IgnoreError> {
        let _ = patterns;
        todo!()
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// Whether any pattern takes back.
    pub fn has_negations(&self) -> bool {
        todo!()
    }

    /// Whether `path` (relative, `/` between names) is ignored, by itself or by a parent.
    pub fn is_ignored(&self, path: &str) -> bool {
        let _ = path;
        todo!()
    }

    /// As [`is_ignored`](Self::is_ignored) for a walker: `parent` is the answer for the directory
    /// that `path` is in ([`ParentMatch::default`] at the root), and the second value is what the
    /// walker hands to the children of `path`.
    pub fn step(&self, path: &str, parent: &ParentMatch) -> (bool, ParentMatch) {
        let _ = (path, parent);
        todo!()
    }

    /// Whether something below the ignored directory `dir` could be taken back. If not, a walker
    /// need not enter it.
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        let _ = dir;
        todo!()
    }
}
