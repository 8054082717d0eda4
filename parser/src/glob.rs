//! Wildcards of COPY and ADD sources: the rules of Go's `filepath.Match`.
//!
//! `*` and `?` stop at `/`, `[a-z]` and `[^a-z]` are classes, a backslash takes the next
//! character as it is. There is no `**`.
//!
//! ```
//! use strata_parser::glob;
//!
//! assert_eq!(glob::split_at_wildcard("src/*/x.[ch]"), ("src", "*/x.[ch]"));
//! let pattern = glob::Pattern::new("*/x.[ch]")?;
//! assert!(pattern.matches("lib/x.c"));
//! assert!(!pattern.matches("lib/sub/x.c"));
//! # Ok::<(), strata_parser::pattern::PatternError>(())
//! ```

use crate::pattern::PatternError;
use crate::pattern::Token;
use crate::pattern::match_tokens;
use crate::pattern::token;

/// A compiled wildcard pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

impl Pattern {
    /// Compiles `pattern` as it is.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while !rest.is_empty() {
            let (next, after) = token(pattern, rest)?;
            tokens.push(next);
            rest = after;
        }
        Ok(Self {
            text: pattern.to_owned(),
            tokens,
        })
    }

    /// The text it was made of.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches the whole of `name`.
    pub fn matches(&self, name: &str) -> bool {
        match_tokens(&self.tokens, name)
    }
}

/// Whether `text` holds a wildcard: `*`, `?` or `[`, not escaped.
///
/// A source without one is taken as it is, backslashes included.
pub fn has_wildcard(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            '*' | '?' | '[' => return true,
            _ => {}
        }
    }
    false
}

/// Splits a cleaned source at its first part with a wildcard: the directories before it, and the
/// pattern from there. Either may be empty.
pub fn split_at_wildcard(source: &str) -> (&str, &str) {
    let mut start = 0;
    for part in source.split_inclusive('/') {
        if has_wildcard(part) {
            let before = &source[..start];
            let before = if before == "/" {
                before
            } else {
                before.trim_end_matches('/')
            };
            return (before, &source[start..]);
        }
        start += part.len();
    }
    (source, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_in_go() {
        // Pattern, name, whether it matches.
        let rows = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "-", true),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "abc", true),
            ("**", "a/b", false),
        ];
        for (pattern, name, expected) in rows {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn broken_patterns_are_errors() {
        let rows = [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a", "[a-",
        ];
        for pattern in rows {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn sources_split_at_the_first_wildcard() {
        let rows = [
            ("a/b/c", ("a/b/c", "")),
            ("a/*/c", ("a", "*/c")),
            ("*.c", ("", "*.c")),
            ("/*.c", ("/", "*.c")),
            ("/a/[x]/c?", ("/a", "[x]/c?")),
            ("a\\*/b", ("a\\*/b", "")),
            ("a\\*/b?", ("a\\*", "b?")),
        ];
        for (source, expected) in rows {
            assert_eq!(split_at_wildcard(source), expected, "{source}");
        }
    }
}
