//! Parser directives: `# syntax=`, `# escape=`, `# check=`.

use crate::span::Spanned;

/// The directives of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// `syntax`: the frontend's image, cut at the first blank.
    pub syntax: Option<Spanned<String>>,
    /// `escape`, or a backslash.
    pub escape: char,
    /// `check`.
    pub check: Option<Spanned<Check>>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            syntax: None,
            escape: '\\',
            check: None,
        }
    }
}

/// Which lint rules run, and whether findings are errors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// Rules to leave out.
    pub skip: Rules,
    /// Experimental rules to run.
    pub experimental: Rules,
    /// Whether a finding makes the build fail.
    pub error: bool,
}

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// Every rule.
    All,
    /// These, by name; names are case-sensitive.
    Named(Vec<String>),
}

impl Default for Rules {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

impl Rules {
    /// Whether the rule is in the set.
    pub fn contains(&self, rule: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == rule),
        }
    }
}
