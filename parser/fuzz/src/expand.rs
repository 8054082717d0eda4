//! Expansion of words.
//!
//! The input is text: lines `name=value`, an empty line, and the word. Without the empty line all of
//! it is the word. A value may be any text; `\n` in one stands for a line feed.

use std::collections::BTreeMap;

use strata_parser::expand::ExpandError;
use strata_parser::expand::Expanded;
use strata_parser::expand::Lexer;

/// Expands a word in every way there is and checks what holds for any.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (head, word) = text.split_once("\n\n").unwrap_or(("", text));
    let variables: BTreeMap<&str, String> = head
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name, value.replace("\\n", "\n")))
        .collect();
    let lookup = |name: &str| variables.get(name).cloned();
    for escape in ['\\', '`'] {
        let lexer = Lexer::new(escape);
        let one = lexer.expand(word, &lookup);
        let many = lexer.expand_words(word, &lookup);
        match (&one, &many) {
            (Ok(one), Ok(many)) => {
                check_names(one, &variables);
                assert_eq!((&one.used, &one.unset), (&many.used, &many.unset));
                let joined: String = many.words.concat();
                let squeezed = |text: &str| text.replace(char::is_whitespace, "");
                assert_eq!(squeezed(&joined), squeezed(&one.text), "words add up");
            }
            (Err(one), Err(many)) => assert_eq!(one, many),
            _ => panic!("{one:?} is not {many:?}"),
        }
        let names = lexer.names(word);
        if let Ok(one) = &one {
            let mut found: Vec<&String> = one.used.iter().chain(&one.unset).collect();
            let mut named: Vec<&String> = names.iter().collect();
            found.sort();
            named.sort();
            assert_eq!(found, named, "the names of a word are those it looks up");
        }
    }
    drop(Lexer::default().expand_heredoc(word, &lookup));
    if let Some(value) = variables.get("v") {
        check_patterns(value, word);
    }
}

fn check_names(expanded: &Expanded, variables: &BTreeMap<&str, String>) {
    for name in &expanded.used {
        assert!(variables.contains_key(name.as_str()), "{name}");
    }
    for name in &expanded.unset {
        assert!(!variables.contains_key(name.as_str()), "{name}");
    }
}

/// Compares the six forms with a pattern with what trying every place gives.
fn check_patterns(value: &str, pattern: &str) {
    // What needs no escape anywhere, and few enough of it for trying.
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '*' | '?' | '.' | '-');
    if pattern.is_empty() || !pattern.chars().all(plain) {
        return;
    }
    let wildcards: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = value.chars().collect();
    if wildcards.len() > 12 || text.len() > 24 {
        return;
    }
    let lookup = |name: &str| (name == "v").then(|| value.to_owned());
    let expand = |form: &str| -> Result<String, ExpandError> {
        let word = format!("${{v{}}}", form.replace('P', pattern));
        Lexer::default().expand(&word, &lookup).map(|one| one.text)
    };
    let slice = |from: usize, to: usize| -> String { text[from..to].iter().collect() };
    let prefix = |lengths: &mut dyn Iterator<Item = usize>| {
        for length in lengths {
            if matches(&wildcards, &text[..length]) {
                return slice(length, text.len());
            }
        }
        value.to_owned()
    };
    let suffix = |starts: &mut dyn Iterator<Item = usize>| {
        for start in starts {
            if matches(&wildcards, &text[start..]) {
                return slice(0, start);
            }
        }
        value.to_owned()
    };
    let all = 0..=text.len();
    // The capital stands for the pattern, so the form's own text must hold none.
    if pattern.contains('P') {
        return;
    }
    assert_eq!(
        expand("#P"),
        Ok(prefix(&mut all.clone())),
        "shortest prefix"
    );
    assert_eq!(
        expand("##P"),
        Ok(prefix(&mut all.clone().rev())),
        "longest prefix"
    );
    assert_eq!(
        expand("%P"),
        Ok(suffix(&mut all.clone().rev())),
        "shortest suffix"
    );
    assert_eq!(
        expand("%%P"),
        Ok(suffix(&mut all.clone())),
        "longest suffix"
    );
    for every in [false, true] {
        let form = if every { "//P/<>" } else { "/P/<>" };
        assert_eq!(
            expand(form),
            Ok(replaced(&wildcards, &text, every)),
            "{form}"
        );
    }
}

/// Replaces the first match, or every one, by `<>`: leftmost, then longest; an empty match doesn't
/// touch the one before it.
fn replaced(pattern: &[char], text: &[char], every: bool) -> String {
    let mut out = String::new();
    let mut at = 0;
    let mut touching = false;
    while at <= text.len() {
        let end = (at..=text.len())
            .rev()
            .find(|end| matches(pattern, &text[at..*end]))
            .filter(|end| *end > at || !touching);
        if let Some(end) = end {
            out.push_str("<>");
            if !every {
                out.extend(&text[end..]);
                return out;
            }
            if end > at {
                at = end;
                touching = true;
                continue;
            }
        }
        touching = false;
        out.extend(text.get(at));
        at += 1;
    }
    out
}

/// Whether all of `text` matches all of `pattern`, by trying.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => {
            let stop = text.iter().position(|c| *c == '\n').unwrap_or(text.len());
            (0..=stop).any(|length| matches(rest, &text[length..]))
        }
        Some((first, rest)) => text.split_first().is_some_and(|(next, left)| {
            (first == next || (*first == '?' && *next != '\n')) && matches(rest, left)
        }),
    }
}
