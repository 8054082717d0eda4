//! Words.
//!
//! Three readings: split at blanks without a thought for quotes; split like a shell, quotes and
//! escapes kept; and a name, then the rest.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::take_while;
use nom::bytes::complete::take_while1;
use nom::character::complete::anychar;
use nom::character::complete::char;
use nom::combinator::opt;
use nom::combinator::recognize;
use nom::combinator::rest;
use nom::multi::many0_count;
use nom::multi::many1_count;
use nom::sequence::pair;
use nom::sequence::preceded;

use crate::expand::blank;

/// Everything up to the first run of blanks, and everything after it.
pub(super) fn name_and_rest(input: &str) -> IResult<&str, (&str, &str)> {
    pair(take_while(|c| !blank(c)), preceded(take_while(blank), rest)).parse(input)
}

/// Words between blanks.
pub(super) fn split(input: &str) -> Vec<&str> {
    input.split(blank).filter(|word| !word.is_empty()).collect()
}

/// Words between white space, where quotes and escapes keep white space together. Everything is
/// kept as written, but an escape at the very end, which stands for nothing.
pub(super) fn quoted(input: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut input = input.trim_start();
    while !input.is_empty() {
        let Ok((after, word)) = quoted_word(escape).parse(input) else {
            break;
        };
        let word = if after.is_empty() {
            without_last_escape(word, escape)
        } else {
            word
        };
        if !word.is_empty() {
            words.push(word);
        }
        input = after.trim_start();
    }
    words
}

fn quoted_word<'a>(
    escape: char,
) -> impl Parser<&'a str, Output = &'a str, Error = nom::error::Error<&'a str>> {
    let escaped = move |input| recognize(pair(char(escape), opt(anychar))).parse(input);
    let single = recognize((char('\''), take_while(|c| c != '\''), opt(char('\''))));
    let double = recognize((
        char('"'),
        many0_count(alt((
            escaped,
            take_while1(move |c| c != '"' && c != escape),
        ))),
        opt(char('"')),
    ));
    let plain = take_while1(move |c: char| !c.is_whitespace() && !"'\"".contains(c) && c != escape);
    recognize(many1_count(alt((escaped, single, double, plain))))
}

/// A single escape at the end of the last word is dropped; a pair of them is not.
fn without_last_escape(word: &str, escape: char) -> &str {
    let escapes = word.len() - word.trim_end_matches(escape).len();
    if escapes % 2 == 1 && !word.ends_with('\'') {
        &word[..word.len() - 1]
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_words_keep_what_was_written() {
        let rows: &[(&str, &[&str])] = &[
            ("a b", &["a", "b"]),
            ("  a \t b  ", &["a", "b"]),
            ("a=\"b c\" d", &["a=\"b c\"", "d"]),
            ("a='b c' d", &["a='b c'", "d"]),
            ("a=b\\ c d", &["a=b\\ c", "d"]),
            ("a=\"b\\\" c\" d", &["a=\"b\\\" c\"", "d"]),
            ("a='b\\' c", &["a='b\\'", "c"]),
            ("a=\"b c", &["a=\"b c"]),
            ("a='b c", &["a='b c"]),
            ("a\\", &["a"]),
            ("a\\\\", &["a\\\\"]),
            ("\\", &[]),
            ("\"\"", &["\"\""]),
            ("a\u{a0}b", &["a", "b"]),
            ("", &[]),
        ];
        for (input, expected) in rows {
            assert_eq!(quoted(input, '\\'), *expected, "{input}");
        }
        assert_eq!(quoted("a=C:\\ b", '`'), ["a=C:\\", "b"]);
        assert_eq!(quoted("a=b` c", '`'), ["a=b` c"]);
    }

    #[test]
    fn names_end_at_blanks() {
        assert_eq!(name_and_rest("RUN  a b"), Ok(("", ("RUN", "a b"))));
        assert_eq!(name_and_rest("RUN"), Ok(("", ("RUN", ""))));
        assert_eq!(name_and_rest("RUN\u{a0}x"), Ok(("", ("RUN\u{a0}x", ""))));
        assert_eq!(split("a \t\u{b}b  c"), ["a", "b", "c"]);
    }
}
