//! Takes user names, passwords and tokens out of addresses before they are shown or kept.

use std::borrow::Cow;

/// A URL without the user and password before its host.
pub fn url(url: &str) -> String {
    let Some(start) = url.find("://").map(|at| at + 3) else {
        return url.to_owned();
    };
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        None => url.to_owned(),
        Some(at) => format!("{}{}", &url[..start], &url[start + at + 1..]),
    }
}

/// A text in which [`url`] was done to every URL.
pub fn text(text: &str) -> Cow<'_, str> {
    each(text, |_, _| String::new())
}

/// A text in which the passwords of URLs are `***`, and so are users without a password where they can be
/// tokens: on the web.
pub fn passwords(text: &str) -> Cow<'_, str> {
    each(text, |before, user| {
        hide(before, user, |_| "***".to_owned())
    })
}

/// [`passwords`], with a star for each byte: everything else stays where it was.
pub fn in_place(text: &str) -> Cow<'_, str> {
    each(text, |before, user| {
        hide(before, user, |hidden| "*".repeat(hidden.len()))
    })
}

fn hide(before: &str, user: &str, stars: impl Fn(&str) -> String) -> String {
    let scheme = before.trim_end_matches("://");
    let is_web = ["http", "https"].iter().any(|web| {
        let start = scheme.len().checked_sub(web.len());
        let found = start.and_then(|start| scheme.get(start..));
        found.is_some_and(|found| found.eq_ignore_ascii_case(web))
    });
    match user.split_once(':') {
        Some((name, "")) => format!("{name}:@"),
        Some((name, password)) => format!("{name}:{}@", stars(password)),
        None if is_web => format!("{}@", stars(user)),
        None => format!("{user}@"),
    }
}

/// Replaces what is before the host in every URL of a text. `replace` gets the text before it and what it is,
/// without the `@`.
fn each(text: &str, replace: impl Fn(&str, &str) -> String) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, authority) = rest.split_at(at + 3);
        clean.push_str(before);
        // What ends an authority, or can't be in one.
        let end = authority
            .find(|character: char| {
                matches!(
                    character,
                    '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>' | '\\'
                ) || character.is_whitespace()
            })
            .unwrap_or(authority.len());
        rest = match authority[..end].rfind('@') {
            None => authority,
            Some(at) => {
                clean.push_str(&replace(before, &authority[..at]));
                &authority[at + 1..]
            }
        };
    }
    if clean.is_empty() {
        return Cow::Borrowed(text);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_or_password_stays() {
        for (given, expected) in [
            ("https://user:pass@host/a@b", "https://host/a@b"),
            ("https://token@host:1/x", "https://host:1/x"),
            ("http://u:p@p@host?x=1", "http://host?x=1"),
            ("https://host/a", "https://host/a"),
            ("git@host:path", "git@host:path"),
            ("", ""),
        ] {
            assert_eq!(url(given), expected);
            assert_eq!(text(given), expected);
        }
        assert_eq!(
            text("ADD https://u:p@a/x \"ftp://t@b\" c@d\nRUN curl 'http://x:y@e' f@g"),
            "ADD https://a/x \"ftp://b\" c@d\nRUN curl 'http://e' f@g"
        );
    }

    #[test]
    fn passwords_and_tokens_are_stars() {
        for (given, expected) in [
            (
                "ADD https://user:pass@host/a@b /c",
                "ADD https://user:***@host/a@b /c",
            ),
            ("HTTP://token@host:1/x", "HTTP://***@host:1/x"),
            ("http://u:p@p@host?x=1", "http://u:***@host?x=1"),
            (
                "ssh://git@host/x git@host:path",
                "ssh://git@host/x git@host:path",
            ),
            ("ssh://git:word@host/x", "ssh://git:***@host/x"),
            ("https://user:@host", "https://user:@host"),
            ("https://host/a x:y@z", "https://host/a x:y@z"),
            ("://a:b@c", "://a:***@c"),
            ("", ""),
        ] {
            assert_eq!(passwords(given), expected);
        }
        assert_eq!(
            in_place("ADD https://u:secret@h /x"),
            "ADD https://u:******@h /x"
        );
    }
}
