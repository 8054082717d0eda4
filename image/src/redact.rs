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
        let user = authority[..end].rfind('@').map_or(0, |at| at + 1);
        rest = &authority[user..];
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
}
