//! Patterns of `${name#pattern}` and `${name/pattern/text}`: `*` and `?`, nothing else.
//!
//! Matching works on sets of positions, so a hostile pattern costs pattern times value at worst,
//! never an exponential number of tries.

use crate::expand::ExpandError;

/// Bounds pattern times value: 4 MiB of bits, for which a match takes well under a second.
const MAX_WORK: usize = 1 << 25;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character, no line feed.
    Any,
    /// `*`: any number of them.
    Star,
}

impl Token {
    fn takes(self, character: char) -> bool {
        match self {
            Self::Literal(literal) => literal == character,
            Self::Any | Self::Star => character != '\n',
        }
    }
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    pub(crate) fn new(pattern: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            tokens.push(match character {
                '*' if tokens.last() == Some(&Token::Star) => continue,
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match characters.next() {
                    // `}` and `/` are escaped for the sake of the substitution's own syntax.
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(escaped),
                    other => {
                        return Err(ExpandError::Pattern {
                            pattern: pattern.to_owned(),
                            escaped: other.map(String::from).unwrap_or_default(),
                        });
                    }
                },
                other => Token::Literal(other),
            });
        }
        Ok(Self { tokens })
    }

    /// `value` without the shortest or longest prefix that matches.
    pub(crate) fn trim_prefix(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let characters: Vec<char> = value.chars().collect();
        self.check_size(characters.len())?;
        Ok(match match_end(&self.tokens, &characters, longest) {
            Some(end) => characters[end..].iter().collect(),
            None => value.to_owned(),
        })
    }

    /// `value` without the shortest or longest suffix that matches.
    pub(crate) fn trim_suffix(&self, value: &str, longest: bool) -> Result<String, ExpandError> {
        let backwards: Vec<char> = value.chars().rev().collect();
        self.check_size(backwards.len())?;
        let tokens: Vec<Token> = self.tokens.iter().rev().copied().collect();
        Ok(match match_end(&tokens, &backwards, longest) {
            Some(end) => backwards[end..].iter().rev().collect(),
            None => value.to_owned(),
        })
    }

    /// `value` with its first or every match replaced. Matches are leftmost and longest.
    pub(crate) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
    ) -> Result<String, ExpandError> {
        let characters: Vec<char> = value.chars().collect();
        self.check_size(characters.len())?;
        let starts = self.match_starts(&characters);
        let mut out = String::with_capacity(value.len());
        let mut position = 0;
        // An empty match that touches the one before it doesn't count.
        let mut last_end = None;
        while position <= characters.len() {
            let end = if starts[position] {
                match_end(&self.tokens, &characters[position..], true).map(|end| position + end)
            } else {
                None
            };
            match end {
                Some(end) if end > position || last_end != Some(end) => {
                    out.push_str(replacement);
                    last_end = Some(end);
                    if !all {
                        out.extend(&characters[end..]);
                        return Ok(out);
                    }
                    if end > position {
                        position = end;
                        continue;
                    }
                }
                _ => {}
            }
            out.extend(characters.get(position));
            position += 1;
        }
        Ok(out)
    }

    fn check_size(&self, value: usize) -> Result<(), ExpandError> {
        let pattern = self.tokens.len();
        if pattern.saturating_mul(value) > MAX_WORK {
            return Err(ExpandError::TooLarge { pattern, value });
        }
        Ok(())
    }

    /// For each position whether a match can start there, found from the end.
    fn match_starts(&self, characters: &[char]) -> Vec<bool> {
        let length = characters.len();
        // `below` is the answer for the tokens after the one at hand.
        let mut below = vec![true; length + 1];
        for &token in self.tokens.iter().rev() {
            let mut current = vec![false; length + 1];
            for position in (0..=length).rev() {
                let next = characters.get(position).copied();
                current[position] = match token {
                    Token::Star => {
                        below[position]
                            || (next.is_some_and(|next| token.takes(next)) && current[position + 1])
                    }
                    _ => next.is_some_and(|next| token.takes(next)) && below[position + 1],
                };
            }
            below = current;
        }
        below
    }
}

/// The shortest or longest end of a match that begins at the first character.
fn match_end(tokens: &[Token], characters: &[char], longest: bool) -> Option<usize> {
    // `states[i]`: the tokens before `i` have matched what was read so far.
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    let mut next = states.clone();
    let mut found = None;
    for position in 0..=characters.len() {
        let mut alive = false;
        for index in 0..tokens.len() {
            if states[index] && tokens[index] == Token::Star {
                states[index + 1] = true;
            }
            alive |= states[index];
        }
        if states[tokens.len()] {
            found = Some(position);
            if !longest {
                break;
            }
        }
        let (Some(&character), true) = (characters.get(position), alive) else {
            break;
        };
        next.fill(false);
        for (index, &token) in tokens.iter().enumerate() {
            if states[index] && token.takes(character) {
                next[if token == Token::Star {
                    index
                } else {
                    index + 1
                }] = true;
            }
        }
        std::mem::swap(&mut states, &mut next);
    }
    found
}
