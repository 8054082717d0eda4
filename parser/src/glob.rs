//! Wildcards of COPY and ADD sources: the rules of Go's `filepath.Match`.
//!
//! `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are classes, a backslash takes the next
//! character as it is. There is no `**`.

use crate::pattern::PatternError;

/// A compiled wildcard pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

impl Pattern {
    /// Compiles `pattern` as it is.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let _ = pattern;
        todo!()
    }

    /// Whether the pattern matches the whole of `name`.
    pub fn matches(&self, name: &str) -> bool {
        let _ = name;
        todo!()
    }
}

/// Whether `text` holds a wildcard: `*`, `?` or `[`, or a backslash that escapes.
pub fn has_wildcard(text: &str) -> bool {
    let _ = text;
    todo!()
}

/// Splits a source at its first wildcard: the directories before it, and the pattern from there.
pub fn split_at_wildcard(source: &str) -> (&str, &str) {
    let _ = source;
    todo!()
}
