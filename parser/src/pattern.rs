//! One pattern of an ignore file: `*`, `?`, `[..]`, `\` and `**`.
//!
//! Also what `COPY --parents` matches its sources with.

/// A compiled pattern, cleaned like a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    cleaned: String,
}

/// The pattern's syntax is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{pattern}`")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
}

impl Pattern {
    /// Compiles `pattern`, cleaning it like a path first.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let _ = pattern;
        todo!()
    }

    /// The cleaned text.
    pub fn as_str(&self) -> &str {
        &self.cleaned
    }

    /// Whether the pattern matches the whole of `path` (parents don't count here).
    pub fn matches(&self, path: &str) -> bool {
        let _ = path;
        todo!()
    }

    /// Whether the pattern matches `path` or one of the directories it is in.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        let _ = path;
        todo!()
    }
}
