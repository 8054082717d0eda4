//! Variable expansion and quote removal.
//!
//! A Dockerfile's words follow the shell's rules in part: `$name`, `${name}` and ten forms with a
//! modifier, three quoting regimes, and an escape character that the file may choose.
//!
//! ```no_run
//! use strata_parser::expand::Lexer;
//!
//! let lookup = |name: &str| (name == "v").then(|| "1.2.3".to_owned());
//! let lexer = Lexer::default();
//! assert_eq!(lexer.expand("app-${v%.*}-${os:-linux}", &lookup)?.text, "app-1.2-linux");
//! assert_eq!(lexer.expand(r#""$v" '$v' \$v"#, &lookup)?.text, "1.2.3 $v $v");
//! # Ok::<(), strata_parser::expand::ExpandError>(())
//! ```

/// Expands words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lexer {
    /// The escape character: a backslash or a backtick.
    pub escape: char,
}

impl Default for Lexer {
    fn default() -> Self {
        Self { escape: '\\' }
    }
}

/// An expanded word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text, quotes removed.
    pub text: String,
    /// Names that were looked up and found, each once, in order of first use.
    pub used: Vec<String>,
    /// Names that were looked up in vain, each once, in order of first use.
    pub unset: Vec<String>,
}

/// A word expanded and split.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExpandedWords {
    /// The words. Blanks that came from a variable split; quoted or escaped ones don't.
    pub words: Vec<String>,
    /// Names that were looked up and found.
    pub used: Vec<String>,
    /// Names that were looked up in vain.
    pub unset: Vec<String>,
}

/// Why a word can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `${`, but no `}`.
    #[error("missing `}}` in substitution")]
    MissingBrace,
    /// `${}`, `${:` or `${{`.
    #[error("bad substitution")]
    BadSubstitution,
    /// A modifier that isn't known.
    #[error("unsupported modifier `{modifier}` in substitution")]
    Modifier {
        /// The modifier.
        modifier: String,
    },
    /// `${name/pattern`, but no second `/`.
    #[error("missing `/` in substitution")]
    MissingSlash,
    /// A quote that isn't closed.
    #[error("missing closing {quote}")]
    Quote {
        /// The quote.
        quote: char,
    },
    /// `:?` or `?` on a variable that is unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The word after the modifier, or the usual text.
        message: String,
    },
    /// A backslash in a pattern before something that can't be escaped there.
    #[error("invalid escape `\\{escaped}` in pattern `{pattern}`")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What follows the backslash; empty at the end.
        escaped: String,
    },
    /// Words nested too deeply.
    #[error("substitutions are nested too deeply")]
    Depth,
}

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Lexer {
    /// A lexer with that escape character.
    pub const fn new(escape: char) -> Self {
        Self { escape }
    }

    /// Expands `word` and removes its quotes.
    pub fn expand(&self, word: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
        let _ = (word, lookup);
        todo!()
    }

    /// Expands `word`, then splits at blanks, as EXPOSE wants.
    pub fn expand_words(
        &self,
        word: &str,
        lookup: Lookup<'_>,
    ) -> Result<ExpandedWords, ExpandError> {
        let _ = (word, lookup);
        todo!()
    }

    /// Expands the body of a COPY or ADD heredoc: quotes are ordinary characters.
    pub fn expand_heredoc(&self, body: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
        let _ = (body, lookup);
        todo!()
    }
}
