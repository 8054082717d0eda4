//! The JSON form: an array of strings, and nothing after it.
//!
//! What isn't JSON is no error: the text is a shell form then. What is a JSON array but holds
//! something other than strings is an error.

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::take_while;
use nom::bytes::complete::take_while_m_n;
use nom::bytes::complete::take_while1;
use nom::character::complete::char;
use nom::combinator::map;
use nom::combinator::map_opt;
use nom::combinator::value;
use nom::multi::fold_many0;
use nom::sequence::delimited;
use nom::sequence::preceded;
use serde_json::value::RawValue;

/// What a text is when read as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json<'a> {
    /// No JSON array.
    No,
    /// An array of strings: each decoded, and as written with its quotes.
    Strings(Vec<(String, &'a str)>),
    /// An array that holds this, which is no string.
    NonString(&'a str),
}

/// Reads all of `input`.
pub(super) fn array(input: &str) -> Json<'_> {
    let mut strings = Vec::new();
    let mut other = None;
    let Some(mut rest) = input.trim_start().strip_prefix('[').map(skip_blanks) else {
        return Json::No;
    };
    if let Some(after) = rest.strip_prefix(']') {
        rest = after;
    } else {
        loop {
            let Some((after, element)) = element(rest) else {
                return Json::No;
            };
            match element {
                Some(text) => strings.push((text, &rest[..rest.len() - after.len()])),
                None => other = other.or(Some(&rest[..rest.len() - after.len()])),
            }
            rest = skip_blanks(after);
            if let Some(after) = rest.strip_prefix(',') {
                rest = skip_blanks(after);
            } else if let Some(after) = rest.strip_prefix(']') {
                rest = after;
                break;
            } else {
                return Json::No;
            }
        }
    }
    match (skip_blanks(rest).is_empty(), other) {
        (false, _) => Json::No,
        (true, Some(other)) => Json::NonString(other),
        (true, None) => Json::Strings(strings),
    }
}

fn skip_blanks(input: &str) -> &str {
    input.trim_start_matches([' ', '\t', '\r', '\n'])
}

/// One element: a decoded string, or `None` for any other value.
fn element(input: &str) -> Option<(&str, Option<String>)> {
    if input.starts_with('"') {
        let (rest, text) = string(input).ok()?;
        return Some((rest, Some(text)));
    }
    // Skips a value without building it and without recursion.
    let mut values = serde_json::Deserializer::from_str(input).into_iter::<&RawValue>();
    let value = values.next()?.ok()?;
    Some((&input[value.get().len()..], None))
}

fn string(input: &str) -> IResult<&str, String> {
    enum Piece<'a> {
        Text(&'a str),
        Character(char),
    }
    let plain = take_while1(|c: char| c != '"' && c != '\\' && c >= ' ');
    let simple = alt((
        value('"', char('"')),
        value('\\', char('\\')),
        value('/', char('/')),
        value('\u{8}', char('b')),
        value('\u{c}', char('f')),
        value('\n', char('n')),
        value('\r', char('r')),
        value('\t', char('t')),
    ));
    let escape = preceded(char('\\'), alt((simple, unicode_escape)));
    let piece = alt((map(plain, Piece::Text), map(escape, Piece::Character)));
    let content = fold_many0(piece, String::new, |mut text, piece| {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Character(character) => text.push(character),
        }
        text
    });
    delimited(char('"'), content, char('"')).parse(input)
}

/// `uXXXX`, or two of them for one character. Half a pair stands for U+FFFD.
fn unicode_escape(input: &str) -> IResult<&str, char> {
    let (rest, unit) = unit(input)?;
    if (0xD800..0xDC00).contains(&unit)
        && let Ok((after, low)) = preceded(char('\\'), self::unit).parse(rest)
        && (0xDC00..0xE000).contains(&low)
    {
        let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
        return Ok((
            after,
            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
        ));
    }
    Ok((
        rest,
        char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
    ))
}

fn unit(input: &str) -> IResult<&str, u32> {
    let digits = take_while_m_n(4, 4, |c: char| c.is_ascii_hexdigit());
    preceded(
        char('u'),
        map_opt(digits, |digits| u32::from_str_radix(digits, 16).ok()),
    )
    .parse(input)
}

/// Whether `input` begins like an array, for hints only.
pub(super) fn looks_like_array(input: &str) -> bool {
    let inside = preceded(
        char::<_, nom::error::Error<&str>>('['),
        take_while(|c| c == ' '),
    );
    let mut inside = preceded(take_while(char::is_whitespace), inside);
    inside
        .parse(input)
        .is_ok_and(|(rest, _)| rest.starts_with(['"', '\'', ']']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(input: &str) -> Option<Vec<String>> {
        match array(input) {
            Json::Strings(strings) => Some(strings.into_iter().map(|(text, _)| text).collect()),
            _ => None,
        }
    }

    #[test]
    fn arrays_of_strings_are_read() {
        let rows: &[(&str, &[&str])] = &[
            ("[]", &[]),
            ("[ ]", &[]),
            ("[\"a\"]", &["a"]),
            (" [ \"a\" , \"b c\" ] ", &["a", "b c"]),
            (r#"["\"\\\/\b\f\n\r\t"]"#, &["\"\\/\u{8}\u{c}\n\r\t"]),
            (r#"["\u00e9\ud83d\ude00"]"#, &["é😀"]),
            (r#"["\ud83dx"]"#, &["\u{fffd}x"]),
            (r#"["\udc00"]"#, &["\u{fffd}"]),
            ("[\"é\"]", &["é"]),
        ];
        for (input, expected) in rows {
            assert_eq!(
                strings(input).as_deref(),
                Some(*expected)
                    .map(|e| e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
                    .as_deref(),
                "{input}"
            );
        }
    }

    #[test]
    fn what_is_no_array_is_a_shell_form() {
        let rows = [
            "",
            "a",
            "[",
            "[\"a\"",
            "[\"a\",]",
            "[,]",
            "['a']",
            "[a]",
            "[\"a\"] b",
            "[\"a\" \"b\"]",
            r#"["C:\dir"]"#,
            r#"["\u12"]"#,
            "[\"a\tb\"]",
            "{\"a\": 1}",
            "\"a\"",
            "[1, ",
            "[01]",
        ];
        for input in rows {
            assert_eq!(array(input), Json::No, "{input}");
        }
    }

    #[test]
    fn other_values_are_found() {
        let rows = [
            ("[1]", "1"),
            ("[\"a\", null]", "null"),
            ("[\"a\", {\"b\": [1]}, 2]", "{\"b\": [1]}"),
            ("[[\"a\"]]", "[\"a\"]"),
            ("[true]", "true"),
            ("[-1.5e3 ]", "-1.5e3"),
        ];
        for (input, other) in rows {
            assert_eq!(array(input), Json::NonString(other), "{input}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        assert_eq!(array(&"[".repeat(1_000_000)), Json::No);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(array(&deep), Json::NonString(_)));
    }
}
