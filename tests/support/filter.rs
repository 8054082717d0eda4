//! Takes out of an output what differs from run to run.

use super::Sandbox;

/// `text` with digests as `[digest]`, durations as `[time]` and the sandbox's directory as
/// `[sandbox]`.
pub(crate) fn redact(text: &str, sandbox: &Sandbox) -> String {
    let text = text.replace(
        sandbox.path("").to_str().unwrap().trim_end_matches('/'),
        "[sandbox]",
    );
    let mut result = String::with_capacity(text.len());
    let mut rest = text.as_str();
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let at_word = !previous.is_alphanumeric() && previous != '.';
        let found = if at_word {
            digest(rest).or_else(|| duration(rest))
        } else {
            None
        };
        if let Some((length, replacement)) = found {
            result.push_str(replacement);
            rest = &rest[length..];
            previous = ']';
        } else {
            result.push(first);
            rest = &rest[first.len_utf8()..];
            previous = first;
        }
    }
    result
}

/// How long a digest (64 hex digits, or the short form with 12, `sha256:` before it or not) is at the
/// start of `text`.
fn digest(text: &str) -> Option<(usize, &'static str)> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digits = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
    let ends = !hex[digits..].starts_with(|next: char| next.is_alphanumeric());
    (ends && matches!(digits, 12 | 64)).then_some((text.len() - hex.len() + digits, "[digest]"))
}

/// How long a duration (`12ms`, `0.3s`, `1m02s`) is at the start of `text`.
fn duration(text: &str) -> Option<(usize, &'static str)> {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        let number = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        if number == 0 || !rest.starts_with(|first: char| first.is_ascii_digit()) {
            break;
        }
        let unit = ["ms", "µs", "us", "ns", "s", "m", "h"]
            .into_iter()
            .find(|unit| rest[number..].starts_with(unit))?;
        length += number + unit.len();
    }
    let ends = !text[length..].starts_with(|next: char| next.is_alphanumeric());
    (length > 0 && ends).then_some((length, "[time]"))
}
