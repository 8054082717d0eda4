//! One pattern of an ignore file: `*`, `?`, `[..]`, `\` and `**`.
//!
//! Also what `COPY --parents` matches its sources with. The rules are those of the matcher that
//! the docker tools share, which compiles patterns to regular expressions; its oddities that can
//! be met in practice are kept: a class may match `/`, `**foo` without a wildcard after it
//! matches any ending, and a `**` at the end swallows everything.
//!
//! Matching works on sets of positions: its cost is at most pattern times path. Most paths don't get
//! there: they lack text that the pattern needs.

/// A compiled pattern, cleaned like a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    cleaned: String,
    matcher: Matcher,
}

/// The pattern's syntax is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{pattern}`")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matcher {
    /// No wildcard.
    Exact(String),
    /// Wildcard-free text, then `**`.
    Prefix(String),
    /// `**`, then wildcard-free text.
    Suffix(String),
    Tokens(Tokens),
}

/// Tokens, and what every path that they match has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tokens {
    list: Vec<Token>,
    /// Where it begins.
    prefix: String,
    /// Where it ends.
    suffix: String,
    /// Somewhere.
    inside: String,
}

impl Tokens {
    fn new(list: Vec<Token>) -> Self {
        fn text<'a>(tokens: impl Iterator<Item = &'a Token>) -> String {
            let letters = tokens.map_while(|token| match token {
                Token::Literal(letter) => Some(*letter),
                _ => None,
            });
            letters.collect()
        }
        let runs = list.split(|token| !matches!(token, Token::Literal(_)));
        let inside = runs.map(|run| text(run.iter())).max_by_key(String::len);
        let backwards = text(list.iter().rev());
        Self {
            prefix: text(list.iter()),
            suffix: backwards.chars().rev().collect(),
            inside: inside.unwrap_or_default(),
            list,
        }
    }

    fn match_all(&self, path: &str) -> bool {
        path.ends_with(&self.suffix)
            && path.starts_with(&self.prefix)
            && path.contains(&self.inside)
            && match_tokens(&self.list, path)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `**` or `**/` before something: nothing, or anything that ends in a slash.
    Directories,
    /// `**` at the end.
    Everything,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Compiles `pattern`, cleaning it like a path first.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let cleaned = clean(pattern);
        // The syntax is that of plain wildcards: what is wrong there is wrong here.
        plain(&cleaned)?;
        let matcher = compile(&cleaned)?;
        Ok(Self { cleaned, matcher })
    }

    /// The cleaned text.
    pub fn as_str(&self) -> &str {
        &self.cleaned
    }

    /// Whether the pattern matches the whole of `path` (parents don't count here).
    pub fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Exact(text) => path == text,
            Matcher::Prefix(text) => path.starts_with(text.as_str()),
            Matcher::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/') == Some(path)
            }
            Matcher::Tokens(tokens) => tokens.match_all(path),
        }
    }

    /// Whether the pattern matches `path` or one of the directories it is in.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        self.matches(path)
            || path
                .match_indices('/')
                .any(|(slash, _)| slash > 0 && self.matches(&path[..slash]))
    }

    /// Whether the pattern could match something below the directory `dir`. May say yes where no
    /// is right, never the other way round.
    pub fn may_match_below(&self, dir: &str) -> bool {
        // A class can hold a slash, so the pattern can't be taken apart at its slashes.
        if self.cleaned.contains('[') {
            return true;
        }
        let mut parts = self.cleaned.split('/');
        for name in dir.split('/') {
            match parts.next() {
                None => return false,
                Some(part) if part.contains("**") => return true,
                Some(part) if part == name => {}
                Some(part) => match plain(part) {
                    Ok(tokens) if match_tokens(&tokens, name) => {}
                    Ok(_) => return false,
                    // It ends in a backslash, which is for the slash after it.
                    Err(_) => return true,
                },
            }
        }
        parts.next().is_some()
    }
}

fn compile(pattern: &str) -> Result<Matcher, PatternError> {
    #[derive(PartialEq)]
    enum Kind {
        Exact,
        Prefix,
        Suffix,
        Tokens,
    }
    let mut kind = Kind::Exact;
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let first = rest.len() == pattern.len();
        if let Some(after) = rest.strip_prefix("**") {
            rest = after.strip_prefix('/').unwrap_or(after);
            if !rest.is_empty() {
                tokens.push(Token::Directories);
                kind = Kind::Tokens;
            } else if kind == Kind::Exact {
                kind = Kind::Prefix;
            } else {
                tokens.push(Token::Everything);
                kind = Kind::Tokens;
            }
            if first {
                kind = Kind::Suffix;
            }
            continue;
        }
        let (token, after) = token(pattern, rest)?;
        if matches!(character, ']' | '\\') || !matches!(token, Token::Literal(_)) {
            kind = Kind::Tokens;
        }
        tokens.push(token);
        rest = after;
    }
    Ok(match kind {
        Kind::Exact => Matcher::Exact(pattern.to_owned()),
        Kind::Prefix => Matcher::Prefix(pattern[..pattern.len() - 2].to_owned()),
        Kind::Suffix => Matcher::Suffix(pattern[2..].to_owned()),
        Kind::Tokens => Matcher::Tokens(Tokens::new(tokens)),
    })
}

/// The tokens of `pattern` read as a plain wildcard, where `**` is no more than `*`.
fn plain(pattern: &str) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        let (next, after) = token(pattern, rest)?;
        tokens.push(next);
        rest = after;
    }
    Ok(tokens)
}

/// Reads one token other than `**` from `rest`, which is not empty. Errors name `pattern`.
fn token<'a>(pattern: &str, rest: &'a str) -> Result<(Token, &'a str), PatternError> {
    let error = || PatternError {
        pattern: pattern.to_owned(),
    };
    let mut characters = rest.chars();
    let token = match characters.next().ok_or_else(error)? {
        '*' => Token::Star,
        '?' => Token::Any,
        '\\' => Token::Literal(characters.next().ok_or_else(error)?),
        '[' => {
            let (class, after) = class(characters.as_str()).ok_or_else(error)?;
            return Ok((class, after));
        }
        other => Token::Literal(other),
    };
    Ok((token, characters.as_str()))
}

/// A class from after its `[`.
fn class(text: &str) -> Option<(Token, &str)> {
    fn bound(text: &str) -> Option<(char, &str)> {
        let mut characters = text.chars();
        let mut character = characters.next()?;
        match character {
            '-' | ']' => return None,
            '\\' => character = characters.next()?,
            _ => {}
        }
        // A class that ends right after a bound is an error of its own.
        (!characters.as_str().is_empty()).then_some((character, characters.as_str()))
    }
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            return Some((Token::Class { negated, ranges }, after));
        }
        let (low, after) = bound(rest)?;
        rest = after;
        let mut high = low;
        if let Some(after) = rest.strip_prefix('-') {
            (high, rest) = bound(after)?;
        }
        ranges.push((low, high));
    }
}

/// Whether all of `path` matches all of `tokens`.
fn match_tokens(tokens: &[Token], path: &str) -> bool {
    let count = tokens.len();
    // `fresh[i]`: the tokens before `i` have matched. `within[i]`: besides, `tokens[i]` is
    // Directories and has taken something that doesn't end in a slash yet.
    let mut fresh = vec![false; count + 1];
    let mut within = vec![false; count];
    fresh[0] = true;
    skip_empty(tokens, &mut fresh);
    let mut next_fresh = fresh.clone();
    let mut next_within = within.clone();
    for character in path.chars() {
        next_fresh.fill(false);
        next_within.fill(false);
        let mut alive = false;
        for (index, token) in tokens.iter().enumerate() {
            if !fresh[index] && !within[index] {
                continue;
            }
            alive = true;
            match token {
                Token::Directories => {
                    next_within[index] = true;
                    next_fresh[index + 1] |= character == '/';
                }
                Token::Everything => next_fresh[index] = true,
                Token::Star => next_fresh[index] |= character != '/',
                Token::Any => next_fresh[index + 1] |= character != '/',
                Token::Literal(literal) => next_fresh[index + 1] |= *literal == character,
                Token::Class { negated, ranges } => {
                    let inside = ranges
                        .iter()
                        .any(|&(low, high)| (low..=high).contains(&character));
                    next_fresh[index + 1] |= inside != *negated;
                }
            }
        }
        if !alive {
            return false;
        }
        skip_empty(tokens, &mut next_fresh);
        std::mem::swap(&mut fresh, &mut next_fresh);
        std::mem::swap(&mut within, &mut next_within);
    }
    fresh[count]
}

/// Tokens that match nothing as well let the next one begin.
fn skip_empty(tokens: &[Token], fresh: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if fresh[index] && matches!(token, Token::Star | Token::Directories | Token::Everything) {
            fresh[index + 1] = true;
        }
    }
}

/// A path without `.`, `..` and doubled or trailing slashes, as far as text alone can tell.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
