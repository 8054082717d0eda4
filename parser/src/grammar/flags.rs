//! Flags: the words right after the name that begin with `--`.
//!
//! Quotes and the escape work inside a flag's word. The first word that doesn't begin with `--`
//! ends the flags; a bare `--` ends them, too, and is dropped.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::take_while1;
use nom::character::complete::anychar;
use nom::character::complete::char;
use nom::combinator::map;
use nom::combinator::opt;
use nom::combinator::value;
use nom::multi::fold_many0;
use nom::multi::fold_many1;
use nom::sequence::delimited;
use nom::sequence::preceded;

use super::Context;
use super::Outcome;
use crate::diagnostic::Diagnostic;
use crate::instruction::Flag;
use crate::span::Spanned;
use crate::suggest;

/// How a flag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `--name`, `--name=true`, `--name=false`.
    Boolean,
    /// `--name=value`, once.
    Value,
    /// `--name=value`, any number of times.
    List,
}

/// The flags that an instruction knows.
pub(super) type Known = &'static [(&'static str, Kind)];

pub(super) const FROM: Known = &[("platform", Kind::Value), ("after", Kind::List)];
pub(super) const RUN: Known = &[
    ("mount", Kind::List),
    ("network", Kind::Value),
    ("security", Kind::Value),
    ("device", Kind::List),
];
pub(super) const COPY: Known = &[
    ("from", Kind::Value),
    ("chown", Kind::Value),
    ("chmod", Kind::Value),
    ("link", Kind::Boolean),
    ("parents", Kind::Boolean),
    ("exclude", Kind::List),
];
pub(super) const ADD: Known = &[
    ("chown", Kind::Value),
    ("chmod", Kind::Value),
    ("link", Kind::Boolean),
    ("exclude", Kind::List),
    ("checksum", Kind::Value),
    ("unpack", Kind::Boolean),
    ("keep-git-dir", Kind::Boolean),
];
pub(super) const HEALTHCHECK: Known = &[
    ("interval", Kind::Value),
    ("timeout", Kind::Value),
    ("start-period", Kind::Value),
    ("start-interval", Kind::Value),
    ("retries", Kind::Value),
];
pub(super) const NONE: Known = &[];

/// For hints: who knows which flags.
const OWNERS: [(&str, Known); 5] = [
    ("FROM", FROM),
    ("RUN", RUN),
    ("COPY", COPY),
    ("ADD", ADD),
    ("HEALTHCHECK", HEALTHCHECK),
];

/// A flag's word, as written and unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) raw: &'a str,
    pub(super) text: String,
}

/// The flag words at the beginning of `input`, and the rest.
pub(super) fn split(input: &str, escape: char) -> (Vec<Word<'_>>, &str) {
    let mut words = Vec::new();
    let mut input = input.trim_start();
    while input.starts_with("--") {
        let Ok((rest, text)) = word(escape).parse(input) else {
            break;
        };
        let raw = &input[..input.len() - rest.len()];
        input = rest.trim_start();
        if text == "--" {
            break;
        }
        words.push(Word { raw, text });
    }
    (words, input.trim_end())
}

fn word<'a>(
    escape: char,
) -> impl Parser<&'a str, Output = String, Error = nom::error::Error<&'a str>> {
    let unquoted = move |input: &'a str| {
        let plain =
            take_while1(move |c: char| !c.is_whitespace() && !"'\"".contains(c) && c != escape);
        alt((
            map(plain, str::to_owned),
            escaped(escape),
            in_quotes('"', escape),
            in_quotes('\'', escape),
        ))
        .parse(input)
    };
    fold_many1(unquoted, String::new, |mut text, piece| {
        text.push_str(&piece);
        text
    })
}

/// The escape and what it saves. At the very end it stands for nothing.
fn escaped<'a>(
    escape: char,
) -> impl Parser<&'a str, Output = String, Error = nom::error::Error<&'a str>> {
    move |input: &'a str| -> IResult<&'a str, String> {
        alt((
            map(preceded(char(escape), anychar), String::from),
            value(String::new(), char(escape)),
        ))
        .parse(input)
    }
}

/// Text in quotes. A quote that isn't closed ends with the line.
fn in_quotes<'a>(
    quote: char,
    escape: char,
) -> impl Parser<&'a str, Output = String, Error = nom::error::Error<&'a str>> {
    move |input: &'a str| -> IResult<&'a str, String> {
        let plain = map(
            take_while1(move |c| c != quote && c != escape),
            str::to_owned,
        );
        let content = fold_many0(
            alt((plain, escaped(escape))),
            String::new,
            |mut text, piece| {
                text.push_str(&piece);
                text
            },
        );
        delimited(char(quote), content, opt(char(quote))).parse(input)
    }
}

/// An instruction's flags, checked against what it knows.
#[derive(Debug, Default)]
pub(super) struct Flags {
    pub(super) list: Vec<Flag>,
}

impl Flags {
    /// Names and values of `words`, unchecked.
    pub(super) fn unchecked(context: &Context<'_>, words: &[Word<'_>]) -> Self {
        let list = words.iter().map(|word| {
            let span = context.span(word.raw);
            let (name, value) = match word.text[2..].split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&word.text[2..], None),
            };
            let raw_equals = word.raw.find('=').unwrap_or(word.raw.len());
            let raw_value = word.raw.get(raw_equals + 1..).unwrap_or_default();
            let raw_value = match raw_value.strip_prefix(['"', '\'']) {
                Some(inside)
                    if inside == format!("{}{}", value.unwrap_or_default(), &raw_value[..1]) =>
                {
                    &inside[..inside.len() - 1]
                }
                _ => raw_value,
            };
            Flag {
                name: Spanned::new(name.to_owned(), context.span(&word.raw[..raw_equals])),
                value: value.map(|value| Spanned::new(value.to_owned(), context.span(raw_value))),
                span,
            }
        });
        Self {
            list: list.collect(),
        }
    }

    /// Checks names, repetitions and the form of the values.
    pub(super) fn check(self, instruction: &str, known: Known) -> Outcome<Self> {
        for (index, flag) in self.list.iter().enumerate() {
            let name = flag.name.as_str();
            let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(instruction, flag, known).into());
            };
            if *kind != Kind::List
                && let Some(before) = self.list[..index].iter().find(|f| f.name.value == name)
            {
                return Err(Diagnostic::error(
                    "duplicate-flag",
                    flag.span,
                    format!("`--{name}` is given twice"),
                )
                .with_related(before.span, "the first one")
                .into());
            }
            match (kind, flag.value.as_ref().map(Spanned::as_str)) {
                (Kind::Boolean, None) => {}
                (Kind::Boolean, Some(value)) => {
                    if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
                        let message = format!("`--{name}` is `true` or `false`, not `{value}`");
                        return Err(Diagnostic::error("invalid-flag", flag.span, message).into());
                    }
                }
                (_, Some(_)) => {}
                (_, None) => {
                    let message = format!("`--{name}` needs a value");
                    return Err(Diagnostic::error("missing-flag-value", flag.span, message)
                        .with_help(format!("write `--{name}=...`, without blanks"))
                        .into());
                }
            }
        }
        Ok(self)
    }

    /// The value of a flag that takes one. An empty value is none.
    pub(super) fn value(&self, name: &str) -> Option<&Spanned<String>> {
        let flag = self.list.iter().find(|flag| flag.name.value == name)?;
        flag.value.as_ref().filter(|value| !value.value.is_empty())
    }

    /// The values of a flag that may be repeated, empty ones included.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Spanned<String>> {
        self.list
            .iter()
            .filter(move |flag| flag.name.value == name)
            .filter_map(|flag| flag.value.as_ref())
    }

    /// A boolean flag, if given.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        let flag = self.list.iter().find(|flag| flag.name.value == name)?;
        Some(
            flag.value
                .as_ref()
                .is_none_or(|value| value.value.eq_ignore_ascii_case("true")),
        )
    }
}

fn unknown(instruction: &str, flag: &Flag, known: Known) -> Diagnostic {
    let name = flag.name.as_str();
    let error = Diagnostic::error(
        "unknown-flag",
        flag.name.span,
        format!("{instruction} has no flag `--{name}`"),
    );
    if let Some(near) = suggest::nearest(name, known.iter().map(|(known, _)| *known)) {
        return error.with_help(format!("did you mean `--{near}`?"));
    }
    let owners: Vec<&str> = OWNERS
        .iter()
        .filter(|(_, flags)| flags.iter().any(|(known, _)| *known == name))
        .map(|(owner, _)| *owner)
        .collect();
    if !owners.is_empty() {
        return error.with_help(format!("`--{name}` is a flag of {}", owners.join(" and ")));
    }
    let all: Vec<String> = known
        .iter()
        .map(|(known, _)| format!("`--{known}`"))
        .collect();
    if all.is_empty() {
        return error.with_help(format!(
            "{instruction} takes no flags; write `--` before the arguments if this is one"
        ));
    }
    error.with_help(format!("its flags are {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> (Vec<String>, &str) {
        let (words, rest) = split(input, '\\');
        (words.into_iter().map(|word| word.text).collect(), rest)
    }

    #[test]
    fn flags_are_the_words_before_the_first_other_word() {
        let rows: &[(&str, &[&str], &str)] = &[
            ("a b", &[], "a b"),
            ("--x a", &["--x"], "a"),
            ("--x=1 --y a --z", &["--x=1", "--y"], "a --z"),
            ("-x a", &[], "-x a"),
            ("--x", &["--x"], ""),
            ("-- a", &[], "a"),
            ("--x -- --y a", &["--x"], "--y a"),
            ("--", &[], ""),
            ("--x=\"a b\" c", &["--x=a b"], "c"),
            ("--x='a b' c", &["--x=a b"], "c"),
            ("--x=a\\ b c", &["--x=a b"], "c"),
            ("--x=\"a\\\"b\" c", &["--x=a\"b"], "c"),
            ("--x=\"a b", &["--x=a b"], ""),
            ("--x=a\\", &["--x=a"], ""),
            ("--x=é a", &["--x=é"], "a"),
            ("--\"x\"=1 a", &["--x=1"], "a"),
            ("\"--x\" a", &[], "\"--x\" a"),
            ("--x \t a", &["--x"], "a"),
        ];
        for (input, flags, rest) in rows {
            let (found, found_rest) = texts(input);
            assert_eq!(
                (found.as_slice(), found_rest),
                (
                    flags
                        .iter()
                        .map(|f| (*f).to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    *rest
                ),
                "{input}"
            );
        }
        let (words, _) = split("--x=C:\\a` b c", '`');
        assert_eq!(words[0].text, "--x=C:\\a b");
    }
}
