//! Wildcards of COPY and ADD sources: the rules of Go's `filepath.Match`.
//!
//! `*` is any run of bytes but `/`, `?` is one character but `/`, `[a-z]` and `[^a-z]` are classes,
//! and `\` takes the next character as it is. There is no `**`. Names are bytes: one that is not
//! UTF-8 matches byte by byte.

/// A pattern that no name can be compared with: an unclosed class, an empty range, a lone `\`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid pattern: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// True if `text` holds a wildcard character that is not escaped.
pub fn has_wildcard(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// True if all of `name` matches all of `pattern`.
///
/// The pattern is checked to its end even if the name differs early, so that a bad pattern is
/// never taken for one that matches nothing.
pub fn matches(pattern: &str, name: &[u8]) -> Result<bool, PatternError> {
    compare(pattern.as_bytes(), name).map_err(|reason| PatternError {
        pattern: pattern.to_owned(),
        reason,
    })
}

/// True if a class of `pattern` can stand for a `/`, so that a name with more components than the
/// pattern may match. Bad patterns count as such.
pub(crate) fn may_cross_separator(pattern: &str) -> bool {
    let mut rest = pattern.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'\\' => match rest.split_first() {
                Some((b'/', _)) => return true,
                Some((_, tail)) => rest = tail,
                None => return true,
            },
            b'[' => match class(rest, Some(u32::from(b'/'))) {
                Ok((false, tail)) => rest = tail,
                Ok((true, _)) | Err(_) => return true,
            },
            _ => {}
        }
    }
    false
}

fn compare(mut pattern: &[u8], mut name: &[u8]) -> Result<bool, &'static str> {
    'chunks: while !pattern.is_empty() {
        let star = pattern[0] == b'*';
        let (chunk, rest) = split_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(!name.contains(&b'/'));
        }
        let last = pattern.is_empty();
        if let Some(tail) = compare_chunk(chunk, name)?
            && (tail.is_empty() || !last)
        {
            name = tail;
            continue;
        }
        if star {
            let run = name
                .iter()
                .position(|byte| *byte == b'/')
                .unwrap_or(name.len());
            for skipped in 1..=run {
                if let Some(tail) = compare_chunk(chunk, &name[skipped..])?
                    && (tail.is_empty() || !last)
                {
                    name = tail;
                    continue 'chunks;
                }
            }
        }
        while !pattern.is_empty() {
            let (chunk, rest) = split_chunk(pattern);
            pattern = rest;
            compare_chunk(chunk, b"")?;
        }
        return Ok(false);
    }
    Ok(name.is_empty())
}

/// Drops leading stars and splits before the next star that is outside a class.
fn split_chunk(pattern: &[u8]) -> (&[u8], &[u8]) {
    let stars = pattern.iter().take_while(|byte| **byte == b'*').count();
    let pattern = &pattern[stars..];
    let mut in_class = false;
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' if at + 1 < pattern.len() => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => break,
            _ => {}
        }
        at += 1;
    }
    pattern.split_at(at)
}

/// Compares a chunk without stars with the start of `name`; gives what is left of the name.
fn compare_chunk<'name>(
    mut chunk: &[u8],
    name: &'name [u8],
) -> Result<Option<&'name [u8]>, &'static str> {
    // None once the name differs: the rest of the chunk is then only checked.
    let mut left = Some(name);
    while let Some((&byte, tail)) = chunk.split_first() {
        if left.is_some_and(<[u8]>::is_empty) {
            left = None;
        }
        chunk = tail;
        match byte {
            b'[' => {
                let next = left.map(decode);
                let (matched, tail) = class(chunk, next.map(|(character, _)| character))?;
                chunk = tail;
                left = match (left, next) {
                    (Some(left), Some((_, width))) if matched => Some(&left[width..]),
                    _ => None,
                };
            }
            b'?' => {
                left = left.filter(|left| left[0] != b'/').map(|left| {
                    let (_, width) = decode(left);
                    &left[width..]
                });
            }
            _ => {
                let literal = if byte == b'\\' {
                    let (&escaped, tail) = chunk.split_first().ok_or("it ends in `\\`")?;
                    chunk = tail;
                    escaped
                } else {
                    byte
                };
                left = left
                    .filter(|left| left[0] == literal)
                    .map(|left| &left[1..]);
            }
        }
    }
    Ok(left)
}

/// Reads a class after its `[`: whether `character` is in it, and what follows the `]`.
fn class(mut chunk: &[u8], character: Option<u32>) -> Result<(bool, &[u8]), &'static str> {
    let negated = chunk.first() == Some(&b'^');
    if negated {
        chunk = &chunk[1..];
    }
    let mut matched = false;
    let mut ranges = 0;
    loop {
        if ranges > 0 && chunk.first() == Some(&b']') {
            return Ok((matched != negated, &chunk[1..]));
        }
        let (low, tail) = class_character(chunk)?;
        chunk = tail;
        let mut high = low;
        if chunk[0] == b'-' {
            (high, chunk) = class_character(&chunk[1..])?;
        }
        matched |= character.is_some_and(|character| (low..=high).contains(&character));
        ranges += 1;
    }
}

/// One character of a class. What follows is never empty: a class has to be closed.
fn class_character(chunk: &[u8]) -> Result<(u32, &[u8]), &'static str> {
    let unclosed = "`[` is not closed";
    let chunk = match chunk {
        [] => return Err(unclosed),
        [b'-' | b']', ..] => return Err("a class or range is empty"),
        [b'\\', rest @ ..] => rest,
        all => all,
    };
    if chunk.is_empty() {
        return Err(unclosed);
    }
    let (character, width) = decode(chunk);
    if chunk.len() == width {
        return Err(unclosed);
    }
    Ok((character, &chunk[width..]))
}

/// The first character of `bytes` (not empty) and its width; a byte that starts no UTF-8 sequence
/// is U+FFFD and one byte wide.
fn decode(bytes: &[u8]) -> (u32, usize) {
    let longest = bytes.len().min(4);
    let valid = match std::str::from_utf8(&bytes[..longest]) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => (u32::from(character), character.len_utf8()),
        None => (0xFFFD, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: pattern, name, result (none: bad pattern). The first block is the behaviour that Go
    /// documents for `path/filepath.Match`.
    const TABLE: &[(&str, &str, Option<bool>)] = &[
        ("abc", "abc", Some(true)),
        ("*", "abc", Some(true)),
        ("*c", "abc", Some(true)),
        ("a*", "a", Some(true)),
        ("a*", "abc", Some(true)),
        ("a*", "ab/c", Some(false)),
        ("a*/b", "abc/b", Some(true)),
        ("a*/b", "a/c/b", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
        ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
        ("ab[c]", "abc", Some(true)),
        ("ab[b-d]", "abc", Some(true)),
        ("ab[e-g]", "abc", Some(false)),
        ("ab[^c]", "abc", Some(false)),
        ("ab[^b-d]", "abc", Some(false)),
        ("ab[^e-g]", "abc", Some(true)),
        ("a\\*b", "a*b", Some(true)),
        ("a\\*b", "ab", Some(false)),
        ("a?b", "a☺b", Some(true)),
        ("a[^a]b", "a☺b", Some(true)),
        ("a???b", "a☺b", Some(false)),
        ("a[^a][^a][^a]b", "a☺b", Some(false)),
        ("[a-ζ]*", "α", Some(true)),
        ("*[a-ζ]", "A", Some(false)),
        ("a?b", "a/b", Some(false)),
        ("a*b", "a/b", Some(false)),
        ("[\\]a]", "]", Some(true)),
        ("[\\-]", "-", Some(true)),
        ("[x\\-]", "x", Some(true)),
        ("[x\\-]", "-", Some(true)),
        ("[x\\-]", "z", Some(false)),
        ("[\\-x]", "a", Some(false)),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[-x]", "x", None),
        ("\\", "a", None),
        ("[a-b-c]", "a", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "a", None),
        ("a[", "ab", None),
        ("a[", "x", None),
        ("a/b[", "x", None),
        ("*x", "xxx", Some(true)),
        ("", "", Some(true)),
        ("", "a", Some(false)),
        ("*", "", Some(true)),
        ("?", "", Some(false)),
        ("**", "a/b", Some(false)),
        ("**", "ab", Some(true)),
        ("*.c", ".c", Some(true)),
        ("[^x]", "/", Some(true)),
    ];

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expected) in TABLE {
            assert_eq!(
                matches(pattern, name.as_bytes()).ok(),
                *expected,
                "{pattern:?} on {name:?}"
            );
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_one_character_each() {
        assert_eq!(matches("a?b", b"a\xffb"), Ok(true));
        assert_eq!(matches("a??b", b"a\xff\xfeb"), Ok(true));
        assert_eq!(matches("*b", b"\xe2\x82b"), Ok(true));
        assert_eq!(matches("[^a]", b"\xff"), Ok(true));
    }

    #[test]
    fn an_escaped_wildcard_is_none() {
        assert!(has_wildcard("a*"));
        assert!(has_wildcard("a?b"));
        assert!(has_wildcard("[a]"));
        assert!(has_wildcard("\\\\*"));
        assert!(!has_wildcard("a\\*"));
        assert!(!has_wildcard("plain/path"));
        assert!(!has_wildcard("a\\"));
    }

    #[test]
    fn only_classes_and_escapes_can_cross_a_separator() {
        for (pattern, expected) in [
            ("*.[ch]", false),
            ("a/*/b?", false),
            ("[^a]b", true),
            ("[+-9]", true),
            ("a\\/b", true),
            ("a\\*b", false),
            ("[", true),
        ] {
            assert_eq!(may_cross_separator(pattern), expected, "{pattern:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in ".{0,24}", name in proptest::collection::vec(0_u8.., 0..24)) {
            if matches(&pattern, &name).is_err() {
                proptest::prop_assert!(matches(&pattern, b"").is_err());
            }
            may_cross_separator(&pattern);
        }

        #[test]
        fn escaping_every_character_matches_the_text_itself(text in "[^/]{0,16}") {
            let pattern: String = text.chars().flat_map(|character| ['\\', character]).collect();
            // An escape takes one byte, as in Go; the bytes that follow stand for themselves.
            proptest::prop_assert_eq!(matches(&pattern, text.as_bytes()), Ok(true));
        }
    }
}
