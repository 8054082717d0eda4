//! Words: quotes, escapes and variables.

use super::super::super::support::Random;

/// Literal text that means nothing to the reader of words.
const LITERALS: [&str; 30] = [
    "a", "b", "xyz", "0", "42", "1.2.3", "/", "/usr/lib", ".", "-", "--", "_", ",", ":", "@", "%",
    "+", "~", "é", "=", "*", "?", "[x]", "(", ")", "!", "^", "&", ";", "x#y",
];

/// What a name may stand for that is never set, or isn't a name at all.
const NEVER: [&str; 8] = ["$1", "$@", "$?", "${1}", "$UNSET", "${UNSET}", "$*", "$-"];

/// One word for the value of ENV, LABEL or ARG. Balanced, so it can be read, but any text may come
/// out. `set` are variables that have a value.
pub(crate) fn value(random: &mut Random, set: &[String], escape: char) -> String {
    let mut word = String::new();
    for _ in 0..random.below(4) {
        word += &piece(random, set, escape, 0);
    }
    // With nothing before it, a digit or letter would be read as part of a name before it.
    word
}

/// The rest of a line, for the old form of ENV and LABEL.
pub(crate) fn rest(random: &mut Random, set: &[String], escape: char) -> String {
    let mut line = String::from(random.of(&["x", "v1", "one"]));
    for _ in 0..random.below(4) {
        line += random.of(&[" ", " ", "  ", "\t"]);
        line += &piece(random, set, escape, 0);
        line += random.of(&["", "q", "=", "\"r s\""]);
    }
    line
}

fn piece(random: &mut Random, set: &[String], escape: char, depth: u32) -> String {
    match random.below(20) {
        0..=6 => random.of(&LITERALS).to_owned(),
        7..=10 => variable(random, set, escape, depth),
        11 | 12 => format!("'{}'", single(random)),
        13..=15 => format!("\"{}\"", double(random, set, escape, depth)),
        16 => {
            let after = random.of(&["$", "\"", "'", "a", " ", "{", "}", "#", ":"]);
            format!("{escape}{after}")
        }
        17 => format!("{escape}{escape}"),
        18 => random.of(&NEVER).to_owned(),
        _ => "é日".to_owned(),
    }
}

fn single(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..random.below(4) {
        text += random.of(&["a b", "$A", "\"", "\\", "x", "${B}", " ", "#", "=", "\\\\n"]);
    }
    // An escape before the closing quote is kept as it is, which readers disagree on.
    text.trim_end_matches('\\').to_owned()
}

fn double(random: &mut Random, set: &[String], escape: char, depth: u32) -> String {
    let mut text = String::new();
    for _ in 0..random.below(5) {
        text += &match random.below(9) {
            0..=2 => random
                .of(&["a b", "x", " ", "'", "# ", "=", "it's"])
                .to_owned(),
            3 => format!("{escape}\""),
            4 => format!("{escape}$"),
            5 => format!("{escape}{escape}"),
            6 => format!("{escape}n"),
            _ => variable(random, set, escape, depth),
        };
    }
    text
}

fn variable(random: &mut Random, set: &[String], escape: char, depth: u32) -> String {
    let Some(name) = random.any(set).cloned() else {
        return "$NONE".to_owned();
    };
    if depth > 2 {
        return format!("${{{name}}}");
    }
    let unset = random.of(&["NONE", "nothing_here"]);
    match random.below(12) {
        // Followed by something that is in no name.
        0..=2 => format!("${name}{}", random.of(&["", ".", "/", "-", ":"])),
        3..=5 => format!("${{{name}}}"),
        6 => format!("${{{unset}:-{}}}", alternative(random, set, escape, depth)),
        7 => format!("${{{name}:-{}}}", alternative(random, set, escape, depth)),
        8 => format!("${{{name}:+{}}}", alternative(random, set, escape, depth)),
        9 => format!("${{{unset}:+{}}}", alternative(random, set, escape, depth)),
        10 => format!("${{{name}:?must-be-set}}"),
        _ => format!("${{{name}?}}"),
    }
}

/// What stands for a variable in `${v:-…}`.
fn alternative(random: &mut Random, set: &[String], escape: char, depth: u32) -> String {
    let mut text = String::new();
    for _ in 0..random.below(3) {
        text += &match random.below(8) {
            0..=3 => random
                .of(&["w", "/p/q", "1", "a:b", "x-y", "=", "é"])
                .to_owned(),
            4 => format!("\"{}\"", random.of(&["", "s t", "d"])),
            5 => format!("'{}'", random.of(&["", "s t", "$A"])),
            _ => variable(random, set, escape, depth + 1),
        };
    }
    text
}

/// A name or path as a word that means just it. What has blanks needs the JSON form besides.
pub(crate) fn literal(text: &str, escape: char) -> String {
    let mut word = String::new();
    for character in text.chars() {
        if character == escape || matches!(character, '$' | '\'' | '"') {
            word.push(escape);
        }
        word.push(character);
    }
    word
}

/// A path as a source that matches it, and little else. Escapes count only in what has a wildcard.
pub(crate) fn pattern(path: &str) -> String {
    if !path.contains(['*', '?', '[']) {
        return path.to_owned();
    }
    let mut pattern = String::new();
    for character in path.chars() {
        match character {
            '*' => pattern.push_str("[*]"),
            '[' => pattern.push('?'),
            '\\' => pattern.push_str("\\\\"),
            other => pattern.push(other),
        }
    }
    pattern
}

/// Words as a JSON array.
pub(crate) fn json(words: &[String]) -> String {
    let words: Vec<_> = words
        .iter()
        .map(|word| serde_json::Value::from(word.as_str()).to_string())
        .collect();
    format!("[{}]", words.join(", "))
}
