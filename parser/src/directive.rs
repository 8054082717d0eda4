//! Parser directives: `# syntax=`, `# escape=`, `# check=`.
//!
//! They stand at the very top. The first line that is none of them ends them for good.

use std::ops::ControlFlow;

use nom::IResult;
use nom::Parser;
use nom::bytes::complete::take_while;
use nom::character::complete::alpha1;
use nom::character::complete::char;
use nom::combinator::recognize;
use nom::sequence::delimited;
use nom::sequence::pair;
use nom::sequence::preceded;
use nom::sequence::separated_pair;

use crate::diagnostic::Diagnostic;
use crate::source::Physical;
use crate::span::Span;
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

    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            names => Self::Named(
                names
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect(),
            ),
        }
    }
}

/// Why a check setting can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid check option `{option}`: {reason}")]
pub struct CheckError {
    /// The option.
    pub option: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Check {
    /// Reads `skip=A,B;experimental=all;error=true`, as the directive and the build argument
    /// `BUILDKIT_DOCKERFILE_CHECK` hold it.
    pub fn parse(text: &str) -> Result<Self, CheckError> {
        let mut check = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(check);
        }
        let error = |option: &str, reason| CheckError {
            option: option.to_owned(),
            reason,
        };
        for (index, option) in text.split(';').enumerate() {
            if index == 3 {
                return Err(error(option, "there are at most three options"));
            }
            let Some((key, value)) = option.split_once('=') else {
                return Err(error(option, "it isn't of the form `key=value`"));
            };
            match key.trim() {
                "skip" => check.skip = Rules::parse(value),
                "experimental" => check.experimental = Rules::parse(value),
                "error" => {
                    check.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(error(option, "it is neither `true` nor `false`")),
                    }
                }
                _ => {
                    return Err(error(
                        option,
                        "there are `skip`, `experimental` and `error`",
                    ));
                }
            }
        }
        Ok(check)
    }
}

/// Reads the directives' lines.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    seen: Vec<(String, Span)>,
    first_line_done: bool,
    /// After `#!` only what tools look for counts: the escape doesn't.
    shebang: bool,
}

impl Reader {
    /// Takes one line. `Break` ends the directives: the line is none of them.
    pub(crate) fn line(
        &mut self,
        line: &Physical<'_>,
        directives: &mut Directives,
        errors: &mut Vec<Diagnostic>,
    ) -> ControlFlow<()> {
        let first = !std::mem::replace(&mut self.first_line_done, true);
        let text = line.text.trim_start();
        if first && text.starts_with("#!") {
            self.shebang = true;
            return ControlFlow::Continue(());
        }
        let Ok((_, (key, value))) = directive(text) else {
            return ControlFlow::Break(());
        };
        let key_name = key.to_ascii_lowercase();
        let known = match key_name.as_str() {
            "syntax" | "check" => true,
            "escape" => !self.shebang,
            _ => false,
        };
        if !known || value.is_empty() {
            return ControlFlow::Break(());
        }
        let place = |part: &str| {
            let start = line.start + (part.as_ptr() as usize - line.text.as_ptr() as usize);
            Span::new(start, start + part.len())
        };
        if let Some((_, before)) = self.seen.iter().find(|(seen, _)| *seen == key_name) {
            errors.push(
                Diagnostic::error(
                    "duplicate-directive",
                    place(key),
                    format!("only one `{key_name}` parser directive can be used"),
                )
                .with_related(*before, "the first one"),
            );
            return ControlFlow::Continue(());
        }
        self.seen.push((key_name.clone(), place(key)));
        let span = place(value);
        match key_name.as_str() {
            "syntax" => {
                let image = value.split(' ').next().unwrap_or_default();
                directives.syntax = Some(Spanned::new(image.to_owned(), place(image)));
            }
            "escape" => match value {
                "\\" | "`" => directives.escape = if value == "`" { '`' } else { '\\' },
                _ => errors.push(
                    Diagnostic::error(
                        "invalid-escape",
                        span,
                        format!("invalid escape character `{value}`"),
                    )
                    .with_help("it is a backslash or a backtick: # escape=`"),
                ),
            },
            _ => {
                let setting = value.split(' ').next().unwrap_or_default();
                match Check::parse(setting) {
                    Ok(check) => directives.check = Some(Spanned::new(check, place(setting))),
                    Err(error) => errors.push(
                        Diagnostic::error("invalid-check", place(setting), error.to_string())
                            .with_help("write `# check=skip=RuleA,RuleB;error=true`"),
                    ),
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// `# key = value`, blanks trimmed.
fn directive(line: &str) -> IResult<&str, (&str, &str)> {
    fn blanks(input: &str) -> IResult<&str, &str> {
        take_while(|character| matches!(character, ' ' | '\t' | '\u{c}' | '\r')).parse(input)
    }
    let key = recognize(pair(
        alpha1,
        take_while(|c: char| c.is_ascii_alphanumeric()),
    ));
    let equals = delimited(blanks, char('='), blanks);
    let value = nom::combinator::rest.map(|text: &str| text.trim_end());
    preceded(
        pair(char('#'), take_while(char::is_whitespace)),
        separated_pair(key, equals, value),
    )
    .parse(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Directives, Vec<Diagnostic>) {
        let mut reader = Reader::default();
        let mut directives = Directives::default();
        let mut errors = Vec::new();
        let mut lines = crate::source::Lines::new(text);
        while let Some(line) = lines.next_line() {
            if reader.line(&line, &mut directives, &mut errors).is_break() {
                break;
            }
        }
        (directives, errors)
    }

    /// §2.1, §2.2, §2.5.
    #[test]
    fn directives_stand_at_the_top() {
        // Rule, text, syntax, escape.
        let rows = [
            ("key = value", "# escape = `\n", None, '`'),
            ("no blanks", "#escape=`\n", None, '`'),
            ("any case of the key", "# ESCAPE=`\n", None, '`'),
            ("blanks before #", "  # escape=`\n", None, '`'),
            ("blanks after the value", "# escape=` \t\r\n", None, '`'),
            ("after a byte order mark", "\u{feff}# escape=`\n", None, '`'),
            (
                "several",
                "# syntax=a/b:1\n# escape=`\n",
                Some("a/b:1"),
                '`',
            ),
            (
                "syntax is cut at a blank",
                "# syntax=a/b:1 --x\n",
                Some("a/b:1"),
                '\\',
            ),
            (
                "the value's case is kept",
                "# syntax=A/B\n",
                Some("A/B"),
                '\\',
            ),
            ("a comment ends them", "# hello\n# escape=`\n", None, '\\'),
            ("a blank line ends them", "\n# escape=`\n", None, '\\'),
            (
                "an unknown key ends them",
                "# syntex=x\n# escape=`\n",
                None,
                '\\',
            ),
            (
                "an instruction ends them",
                "FROM a\n# escape=`\n",
                None,
                '\\',
            ),
            (
                "no value is no directive",
                "# syntax=\n# escape=`\n",
                None,
                '\\',
            ),
            (
                "after #! the syntax counts",
                "#!/usr/bin/env x\n# syntax=y\n",
                Some("y"),
                '\\',
            ),
            (
                "after #! the escape doesn't",
                "#!/usr/bin/env x\n# escape=`\n",
                None,
                '\\',
            ),
        ];
        for (rule, text, syntax, escape) in rows {
            let (directives, errors) = read(text);
            let found = directives.syntax.as_ref().map(Spanned::as_str);
            assert_eq!((found, directives.escape), (syntax, escape), "{rule}");
            assert_eq!(errors, [], "{rule}");
        }
    }

    /// §2.3, §2.4.
    #[test]
    fn wrong_directives_are_errors() {
        let rows = [
            ("# escape=x\n", "invalid escape character `x`", "x"),
            ("# escape=``\n", "invalid escape character ````", "``"),
            (
                "# escape=`\n# escape=`\n",
                "only one `escape` parser directive can be used",
                "escape",
            ),
            (
                "# syntax=a\n# SYNTAX=a\n",
                "only one `syntax` parser directive can be used",
                "SYNTAX",
            ),
            (
                "# check=foo=bar\n",
                "invalid check option `foo=bar`: there are `skip`, `experimental` and `error`",
                "foo=bar",
            ),
        ];
        for (text, message, place) in rows {
            let (_, errors) = read(text);
            assert_eq!(errors.len(), 1, "{text}");
            assert_eq!(
                (errors[0].message.as_str(), errors[0].span.text(text)),
                (message, place)
            );
        }
    }

    /// §2.6.
    #[test]
    fn check_options_are_read() {
        let check = Check::parse("skip=A, B;experimental=all;error=true").unwrap();
        assert!(check.skip.contains("A") && check.skip.contains("B") && !check.skip.contains("a"));
        assert!(check.experimental.contains("anything") && check.error);
        assert_eq!(Check::parse(" ").unwrap(), Check::default());
        assert_eq!(Check::parse("skip=all").unwrap().skip, Rules::All);
        for text in ["x", "error=maybe", "skip=A;skip=B;skip=C;skip=D"] {
            assert!(Check::parse(text).is_err(), "{text}");
        }
    }
}
