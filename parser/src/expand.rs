//! Variable expansion and quote removal.
//!
//! A Dockerfile's words follow the shell's rules in part: `$name`, `${name}` and ten forms with a
//! modifier, three quoting regimes, and an escape character that the file may choose.
//!
//! ```
//! use strata_parser::expand::Lexer;
//!
//! let lookup = |name: &str| (name == "v").then(|| "1.2.3".to_owned());
//! let lexer = Lexer::default();
//! assert_eq!(lexer.expand("app-${v%.*}-${os:-linux}", &lookup)?.text, "app-1.2-linux");
//! assert_eq!(lexer.expand(r#""$v" '$v' \$v"#, &lookup)?.text, "1.2.3 $v $v");
//! # Ok::<(), strata_parser::expand::ExpandError>(())
//! ```

use std::collections::HashSet;

use crate::span::Span;
use crate::wildcard;

/// How deep `${a:-${b:-...}}` may nest. Nobody writes ten; without a limit hostile text could
/// exhaust the stack.
const MAX_DEPTH: usize = 100;

/// Most bytes that variables may put into one word: four times what the kernel takes as one variable
/// of an environment.
const LONGEST: usize = 512 * 1024;

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
    #[error("substitutions are nested more than {MAX_DEPTH} deep")]
    Depth,
    /// Values that add up to more than any environment could hold.
    #[error("the values substituted here are longer than {LONGEST} bytes")]
    TooLong,
    /// A pattern and a value that would take too long to match.
    #[error("pattern of {pattern} characters is too long for a value of {value}")]
    TooLarge {
        /// Characters of the pattern.
        pattern: usize,
        /// Characters of the value.
        value: usize,
    },
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
        let mut scanner = Scanner::new(word, self.escape, Quotes::Remove, Some(lookup));
        let text = scanner.text_until(None, false, &mut None)?;
        Ok(Expanded {
            text,
            used: scanner.used,
            unset: scanner.unset,
        })
    }

    /// Expands `word`, then splits at blanks, as EXPOSE wants.
    pub fn expand_words(
        &self,
        word: &str,
        lookup: Lookup<'_>,
    ) -> Result<ExpandedWords, ExpandError> {
        let mut scanner = Scanner::new(word, self.escape, Quotes::Remove, Some(lookup));
        let mut words = Some(Words::default());
        scanner.text_until(None, false, &mut words)?;
        let words = words.unwrap_or_default().finish(word.len());
        Ok(ExpandedWords {
            words: words.into_iter().map(|(word, _)| word).collect(),
            used: scanner.used,
            unset: scanner.unset,
        })
    }

    /// Expands the body of a COPY or ADD heredoc: quotes are ordinary characters, and the escape
    /// is a backslash whatever the file says.
    pub fn expand_heredoc(&self, body: &str, lookup: Lookup<'_>) -> Result<Expanded, ExpandError> {
        let mut scanner = Scanner::new(body, '\\', Quotes::Ordinary, Some(lookup));
        let text = scanner.text_until(None, false, &mut None)?;
        Ok(Expanded {
            text,
            used: scanner.used,
            unset: scanner.unset,
        })
    }

    /// The names that `word` refers to, without expanding anything. A word that can't be read
    /// has none.
    pub fn names(&self, word: &str) -> Vec<String> {
        let mut scanner = Scanner::new(word, self.escape, Quotes::Remove, None);
        match scanner.text_until(None, false, &mut None) {
            Ok(_) => scanner.unset,
            Err(_) => Vec::new(),
        }
    }
}

/// Splits a line as a shell would, keeping quotes, escapes and variables, and says where each
/// word is. For finding heredocs: `<<` and the blanks after it don't end a word.
pub(crate) fn raw_words(line: &str) -> Result<Vec<Span>, ExpandError> {
    let mut scanner = Scanner::new(line, '\\', Quotes::Keep, None);
    let mut words = Some(Words::default());
    scanner.text_until(None, true, &mut words)?;
    let words = words.unwrap_or_default().finish(line.len());
    Ok(words.into_iter().map(|(_, span)| span).collect())
}

/// A heredoc's delimiter: the word without its quotes, and whether any part of it was quoted.
/// `None` if it isn't one word.
pub(crate) fn delimiter(word: &str) -> Option<(String, bool)> {
    let mut scanner = Scanner::new(word, '\\', Quotes::Remove, None);
    let mut words = Some(Words::default());
    scanner.text_until(None, false, &mut words).ok()?;
    let quoted = scanner.saw_quotes;
    let mut words = words.unwrap_or_default().finish(word.len());
    match (words.pop(), words.is_empty()) {
        (Some((name, _)), true) => Some((name, quoted)),
        _ => None,
    }
}

/// What becomes of quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They quote, and go.
    Remove,
    /// They quote, and stay.
    Keep,
    /// They mean nothing.
    Ordinary,
}

struct Scanner<'a> {
    text: &'a str,
    position: usize,
    escape: char,
    quotes: Quotes,
    /// Without a lookup, variables are kept as they were written.
    lookup: Option<Lookup<'a>>,
    used: Vec<String>,
    unset: Vec<String>,
    /// What is in these lists, and in which: a word may hold a hundred thousand names.
    listed: HashSet<(&'a str, bool)>,
    saw_quotes: bool,
    depth: usize,
    /// Bytes that came from variables.
    substituted: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, escape: char, quotes: Quotes, lookup: Option<Lookup<'a>>) -> Self {
        Self {
            text,
            position: 0,
            escape,
            quotes,
            lookup,
            used: Vec::new(),
            unset: Vec::new(),
            listed: HashSet::new(),
            saw_quotes: false,
            depth: 0,
            substituted: 0,
        }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.position..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.position += character.len_utf8();
        Some(character)
    }

    fn skip(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.position += wanted.len_utf8();
        }
        found
    }

    /// The value of what begins with `$` here. `ARG a=$a$a`, over and over, would else double
    /// without end.
    fn substitution(&mut self) -> Result<String, ExpandError> {
        let text = self.dollar()?;
        self.substituted += text.len();
        if self.substituted > LONGEST {
            return Err(ExpandError::TooLong);
        }
        Ok(text)
    }

    /// Text up to the end or to `stop`, which is swallowed. `words` gets the same text split at
    /// its blanks.
    fn text_until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        words: &mut Option<Words>,
    ) -> Result<String, ExpandError> {
        let mut out = String::new();
        loop {
            let at = self.position;
            let Some(character) = self.peek() else { break };
            if stop == Some(character) {
                self.next();
                return Ok(out);
            }
            match character {
                '\'' | '"' if self.quotes != Quotes::Ordinary => {
                    let text = self.quoted(character, raw_escapes)?;
                    if let Some(words) = words {
                        words.push_quoted(&text, at);
                    }
                    out.push_str(&text);
                }
                '$' => {
                    let text = self.substitution()?;
                    if let Some(words) = words {
                        text.chars().for_each(|character| words.push(character, at));
                    }
                    out.push_str(&text);
                }
                '<' if self.text[at..].starts_with("<<") => {
                    let rest = &self.text[at + 2..];
                    let blanks = rest.len() - rest.trim_start_matches(blank).len();
                    self.position = at + 2 + blanks;
                    let text = &self.text[at..self.position];
                    if let Some(words) = words {
                        words.push_quoted(text, at);
                    }
                    out.push_str(text);
                }
                _ if character == self.escape => {
                    self.next();
                    if raw_escapes {
                        out.push(character);
                        if let Some(words) = words {
                            words.push_literal(character, at);
                        }
                    }
                    // The escape at the very end stands for nothing.
                    let Some(escaped) = self.next() else { break };
                    if let Some(words) = words {
                        words.push_literal(escaped, at);
                    }
                    out.push(escaped);
                }
                _ => {
                    self.next();
                    if let Some(words) = words {
                        words.push(character, at);
                    }
                    out.push(character);
                }
            }
        }
        match stop {
            None => Ok(out),
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
        }
    }

    fn quoted(&mut self, quote: char, raw_escapes: bool) -> Result<String, ExpandError> {
        self.saw_quotes = true;
        self.next();
        let mut out = String::new();
        if self.quotes == Quotes::Keep {
            out.push(quote);
        }
        loop {
            let Some(character) = self.peek() else {
                return Err(ExpandError::Quote { quote });
            };
            if character == quote {
                self.next();
                if self.quotes == Quotes::Keep {
                    out.push(quote);
                }
                return Ok(out);
            }
            if quote == '\'' {
                out.push(character);
                self.next();
            } else if character == '$' {
                out.push_str(&self.substitution()?);
            } else if character == self.escape {
                self.next();
                if raw_escapes {
                    out.push(character);
                }
                match self.peek() {
                    // Reported as a missing quote by the next turn.
                    None => {}
                    Some(escaped) if escaped == '"' || escaped == '$' || escaped == self.escape => {
                        self.next();
                        out.push(escaped);
                    }
                    Some(_) if raw_escapes => {}
                    Some(_) => out.push(character),
                }
            } else {
                self.next();
                out.push(character);
            }
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        let start = self.position;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.get(name);
            return Ok(self.or_as_written(value, start));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::Depth);
        }
        let result = self.braces(start);
        self.depth -= 1;
        result
    }

    /// `${...}`; the next character is the brace, `start` is where the `$` is.
    fn braces(&mut self, start: usize) -> Result<String, ExpandError> {
        self.next();
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let Some(mut operator) = self.next() else {
            return Err(ExpandError::MissingBrace);
        };
        match operator {
            '}' => {
                let value = self.get(name);
                Ok(self.or_as_written(value, start))
            }
            '/' => self.replacement(name, start),
            ':' | '+' | '-' | '?' | '#' | '%' => {
                let colon = operator == ':';
                if colon {
                    operator = self.next().ok_or(ExpandError::MissingBrace)?;
                }
                let raw_escapes = matches!(operator, '#' | '%');
                let word = self.text_until(Some('}'), raw_escapes, &mut None)?;
                let value = self.get(name);
                if self.lookup.is_none() {
                    return Ok(self.or_as_written(None, start));
                }
                modify(name, value, colon, operator, &word)
            }
            other => Err(ExpandError::Modifier {
                modifier: other.to_string(),
            }),
        }
    }

    /// `${name/pattern/replacement}`, from after the first slash.
    fn replacement(&mut self, name: &'a str, start: usize) -> Result<String, ExpandError> {
        let all = self.skip('/');
        let pattern = self.text_until(Some('/'), true, &mut None)?;
        let replacement = self.text_until(Some('}'), true, &mut None)?;
        let value = self.get(name);
        if self.lookup.is_none() {
            return Ok(self.or_as_written(None, start));
        }
        let pattern = wildcard::Pattern::new(&pattern)?;
        pattern.replace(&value.unwrap_or_default(), &replacement, all)
    }

    /// A name, or nothing if none is here.
    fn name(&mut self) -> &'a str {
        let rest = &self.text[self.position..];
        let length = match rest.chars().next() {
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!' | '0') => 1,
            Some(first) if first.is_numeric() => rest
                .find(|character: char| !character.is_numeric())
                .unwrap_or(rest.len()),
            _ => rest
                .find(|character: char| !character.is_alphanumeric() && character != '_')
                .unwrap_or(rest.len()),
        };
        self.position += length;
        &rest[..length]
    }

    fn get(&mut self, name: &'a str) -> Option<String> {
        let value = self.lookup.and_then(|lookup| lookup(name));
        if self.listed.insert((name, value.is_some())) {
            let list = if value.is_some() {
                &mut self.used
            } else {
                &mut self.unset
            };
            list.push(name.to_owned());
        }
        value
    }

    fn or_as_written(&self, value: Option<String>, start: usize) -> String {
        match self.lookup {
            Some(_) => value.unwrap_or_default(),
            None => self.text[start..self.position].to_owned(),
        }
    }
}

/// Applies a modifier other than `/`.
fn modify(
    name: &str,
    value: Option<String>,
    colon: bool,
    operator: char,
    word: &str,
) -> Result<String, ExpandError> {
    let missing = match &value {
        None => true,
        Some(value) => colon && value.is_empty(),
    };
    match operator {
        '-' if missing => Ok(word.to_owned()),
        '-' => Ok(value.unwrap_or_default()),
        '+' if missing => Ok(String::new()),
        '+' => Ok(word.to_owned()),
        '?' if missing => {
            let usual = match value {
                None => "is not allowed to be unset",
                Some(_) => "is not allowed to be empty",
            };
            let message = if word.is_empty() { usual } else { word };
            Err(ExpandError::Required {
                name: name.to_owned(),
                message: message.to_owned(),
            })
        }
        '?' => Ok(value.unwrap_or_default()),
        '#' | '%' if !colon => {
            let (pattern, longest) = match word.strip_prefix(operator) {
                Some(pattern) => (pattern, true),
                None => (word, false),
            };
            let pattern = wildcard::Pattern::new(pattern)?;
            let value = value.unwrap_or_default();
            if operator == '#' {
                pattern.trim_prefix(&value, longest)
            } else {
                pattern.trim_suffix(&value, longest)
            }
        }
        _ => {
            let colon = if colon { ":" } else { "" };
            Err(ExpandError::Modifier {
                modifier: format!("{colon}{operator}"),
            })
        }
    }
}

/// Splits text at blanks while it is being put together.
#[derive(Debug, Default)]
struct Words {
    word: String,
    start: usize,
    /// Whether a word has begun. An empty quoted text begins one, but makes none by itself.
    inside: bool,
    done: Vec<(String, Span)>,
}

impl Words {
    fn begin(&mut self, at: usize) {
        if !self.inside {
            self.start = at;
            self.inside = true;
        }
    }

    fn push(&mut self, character: char, at: usize) {
        if !character.is_whitespace() {
            self.push_literal(character, at);
        } else if self.inside && !self.word.is_empty() {
            let word = std::mem::take(&mut self.word);
            self.done.push((word, Span::new(self.start, at)));
            self.inside = false;
        }
    }

    fn push_literal(&mut self, character: char, at: usize) {
        self.begin(at);
        self.word.push(character);
    }

    fn push_quoted(&mut self, text: &str, at: usize) {
        self.begin(at);
        self.word.push_str(text);
    }

    fn finish(mut self, end: usize) -> Vec<(String, Span)> {
        if !self.word.is_empty() {
            self.done.push((self.word, Span::new(self.start, end)));
        }
        self.done
    }
}

/// Blanks that separate a name from its arguments.
pub(crate) fn blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
