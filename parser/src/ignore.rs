//! `.dockerignore`.
//!
//! Patterns in order, the last one that applies decides; a pattern also applies to everything
//! below a path that it matches; `!` takes back. Everything is anchored at the root.
//!
//! ```
//! use strata_parser::ignore::IgnoreFile;
//!
//! let file = IgnoreFile::parse("# build output\ntarget\n**/*.log\n!keep.log\n")?;
//! assert!(file.is_ignored("target/debug/app"));
//! assert!(file.is_ignored("a/b/x.log"));
//! assert!(!file.is_ignored("keep.log"));
//! # Ok::<(), strata_parser::ignore::IgnoreError>(())
//! ```
//!
//! A walker asks step by step instead, so that no path is looked at twice, and leaves out
//! directories below which nothing can be taken back:
//!
//! ```
//! use strata_parser::ignore::IgnoreFile;
//! use strata_parser::ignore::ParentMatch;
//!
//! let file = IgnoreFile::parse("*\n!src/*.c\n")?;
//! let (ignored, src) = file.step("src", &ParentMatch::default());
//! assert!(ignored && file.may_reinclude_below("src"));
//! assert!(!file.step("src/a.c", &src).0);
//! assert!(!file.may_reinclude_below("docs"));
//! # Ok::<(), strata_parser::ignore::IgnoreError>(())
//! ```
//!
//! One oddity of the docker tools is kept, since files rely on it: a `!` pattern is not tried on a
//! path that isn't ignored at that point of the list, and then isn't remembered for what lies
//! below. So with `x/y` and `!x`, `x/y` stays ignored.

use crate::pattern::Pattern;
use crate::pattern::clean;
use crate::span::Span;

/// A parsed ignore file, or a list of patterns with the same meaning (`COPY --exclude`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IgnoreFile {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    negated: bool,
}

/// Why an ignore file can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct IgnoreError {
    /// The line, from 1; for a list of patterns the pattern's number, from 1.
    pub line: usize,
    /// The line's bytes in the file, or in the pattern.
    pub span: Span,
    /// What is wrong.
    pub message: String,
}

/// What is known about a directory, carried down by a walker. See [`IgnoreFile::step`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParentMatch {
    /// For each rule whether it applied; empty at the root.
    matched: Vec<bool>,
}

impl IgnoreFile {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let mut file = Self::default();
        let mut start = 0;
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let span = Span::new(start, start + line.trim_end_matches(['\n', '\r']).len());
            start += line.len();
            let line = if index == 0 {
                line.trim_start_matches('\u{feff}')
            } else {
                line
            };
            // Only in the first column: an indented `#` begins a pattern.
            if !line.starts_with('#') {
                file.push(line, index + 1, span)?;
            }
        }
        Ok(file)
    }

    /// Takes patterns one by one: no comments, `!` negates.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, IgnoreError> {
        let mut file = Self::default();
        for (index, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref();
            file.push(pattern, index + 1, Span::new(0, pattern.len()))?;
        }
        Ok(file)
    }

    fn push(&mut self, line: &str, number: usize, span: Span) -> Result<(), IgnoreError> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        let (negated, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        if pattern.is_empty() {
            let message = "`!` without a pattern".to_owned();
            return Err(IgnoreError {
                line: number,
                span,
                message,
            });
        }
        let cleaned = clean(pattern);
        let cleaned = match cleaned.strip_prefix('/') {
            Some(rest) if !rest.is_empty() => rest,
            _ => cleaned.as_str(),
        };
        let pattern = Pattern::new(cleaned).map_err(|error| IgnoreError {
            line: number,
            span,
            message: error.to_string(),
        })?;
        self.rules.push(Rule { pattern, negated });
        Ok(())
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether any pattern takes back.
    pub fn has_negations(&self) -> bool {
        self.rules.iter().any(|rule| rule.negated)
    }

    /// Whether `path` (relative, `/` between names) is ignored, by itself or by a parent.
    pub fn is_ignored(&self, path: &str) -> bool {
        let mut parent = ParentMatch::default();
        for (slash, _) in path.match_indices('/') {
            parent = self.step(&path[..slash], &parent).1;
        }
        self.step(path, &parent).0
    }

    /// As [`is_ignored`](Self::is_ignored) for a walker: `parent` is the answer for the directory
    /// that `path` is in ([`ParentMatch::default`] at the root), and the second value is what the
    /// walker hands to the children of `path`.
    pub fn step(&self, path: &str, parent: &ParentMatch) -> (bool, ParentMatch) {
        let mut ignored = false;
        let mut matched = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = parent.matched.get(index).copied().unwrap_or(false);
            // A rule that can't change the answer isn't tried.
            let applies = inherited || (rule.negated == ignored && rule.pattern.matches(path));
            if applies {
                ignored = !rule.negated;
            }
            matched.push(applies);
        }
        (ignored, ParentMatch { matched })
    }

    /// Whether something below the ignored directory `dir` could be taken back. If not, a walker
    /// need not enter it.
    pub fn may_reinclude_below(&self, dir: &str) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.negated && rule.pattern.may_match_below(dir))
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
