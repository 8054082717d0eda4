//! Challenges and tokens (RFC 7235, RFC 6750, and the registries' token specification).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::Deserialize;

use super::Credentials;

/// How a registry wants to know who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// User name and password with each request.
    Basic,
    /// A token from somewhere else.
    Bearer {
        /// Where to get it.
        realm: String,
        /// Whom it is for.
        service: Option<String>,
    },
}

/// What is known of one registry's access control.
#[derive(Default)]
pub(crate) struct AuthState {
    /// None until a challenge came.
    pub(crate) scheme: Option<Scheme>,
    /// Tokens by scope.
    tokens: HashMap<String, Token>,
}

struct Token {
    value: String,
    until: Instant,
}

impl AuthState {
    pub(crate) fn token(&self, scope: &str) -> Option<String> {
        let token = self.tokens.get(scope)?;
        (Instant::now() < token.until).then(|| token.value.clone())
    }

    pub(crate) fn set_token(&mut self, scope: &str, answer: TokenAnswer) {
        let seconds = answer.expires_in.unwrap_or(60).clamp(10, 3600);
        // A token that dies under way costs another round: stop using it a little earlier.
        let until = Instant::now() + Duration::from_secs(seconds - seconds / 10);
        self.tokens.insert(
            scope.to_owned(),
            Token {
                value: answer.value,
                until,
            },
        );
    }

    /// Forgets the token that was refused in this header. Another request may have fetched a better
    /// one meanwhile.
    pub(crate) fn forget_token(&mut self, scope: &str, refused: Option<&str>) {
        let refused = refused.and_then(|header| header.strip_prefix("Bearer "));
        if let Some(token) = self.tokens.get(scope)
            && Some(token.value.as_str()) == refused
        {
            self.tokens.remove(scope);
        }
    }
}

/// A token as a registry's token server gave it.
pub(crate) struct TokenAnswer {
    value: String,
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// Parses the server's JSON; none if there is no token in it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        let answer: Answer = serde_json::from_slice(bytes).ok()?;
        Some(Self {
            value: answer
                .token
                .filter(|token| !token.is_empty())
                .or(answer.access_token)
                .filter(|token| is_header_safe(token))?,
            expires_in: answer.expires_in,
        })
    }
}

fn is_header_safe(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The value of an `Authorization` header with user name and password.
pub(crate) fn basic(username: &str, password: &str) -> String {
    let text = format!("{username}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(text)
    )
}

/// The header with which a token server is asked, if we have a password.
pub(crate) fn basic_of(credentials: Option<&Credentials>) -> Option<String> {
    match credentials {
        Some(Credentials::Password { username, password }) => Some(basic(username, password)),
        _ => None,
    }
}

/// The scheme that the `WWW-Authenticate` headers ask for. Bearer goes first if both are offered.
pub(crate) fn parse_challenges<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Scheme> {
    let mut basic = None;
    for header in headers {
        for (scheme, parameters) in split_challenges(header) {
            if scheme.eq_ignore_ascii_case("bearer") {
                let get = |name: &str| {
                    parameters
                        .iter()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.clone())
                };
                if let Some(realm) = get("realm") {
                    return Some(Scheme::Bearer {
                        realm,
                        service: get("service").filter(|service| !service.is_empty()),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Scheme::Basic);
            }
        }
    }
    basic
}

type Challenge = (String, Vec<(String, String)>);

/// Splits one header into its challenges: `Scheme key="value", key=value, Scheme …`.
fn split_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let word_end = rest.find([' ', '\t', '=', ',']).unwrap_or(rest.len());
        let word = &rest[..word_end];
        rest = rest[word_end..].trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = parse_value(after.trim_start());
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.push((word.to_owned(), value));
            }
            rest = after;
        } else if !word.is_empty() {
            challenges.push((word.to_owned(), Vec::new()));
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
        if word.is_empty() && !rest.is_empty() {
            // Something that is no parameter: step over it, or this would never end.
            let mut characters = rest.chars();
            characters.next();
            rest = characters.as_str();
        }
    }
    challenges
}

/// A token or a quoted string, and what follows.
fn parse_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => {
                if let Some((_, escaped)) = characters.next() {
                    value.push(escaped);
                }
            }
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_all_forms() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Scheme::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        let rows: [(&[&str], Option<Scheme>); 9] = [
            (
                &[
                    r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push""#,
                ],
                bearer("https://auth.example/token", Some("registry.example")),
            ),
            (
                &["bearer realm=https://a/t , service=s"],
                bearer("https://a/t", Some("s")),
            ),
            (&[r#"Basic realm="x", Bearer realm="y""#], bearer("y", None)),
            (
                &[r#"Basic realm="x""#, r#"Bearer realm="y",service="""#],
                bearer("y", None),
            ),
            (&[r#"Basic realm="a, Bearer realm=b""#], Some(Scheme::Basic)),
            (&["Basic"], Some(Scheme::Basic)),
            (&[r#"Bearer service="no realm""#], None),
            (&["Negotiate"], None),
            (&[r#"= , "" =,Bearer realm="q\"r""#], bearer("q\"r", None)),
        ];
        for (headers, expected) in rows {
            assert_eq!(
                parse_challenges(headers.iter().copied()),
                expected,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn tokens_come_under_two_names_and_only_if_safe() {
        let value = |text: &str| TokenAnswer::parse(text.as_bytes()).map(|token| token.value);
        assert_eq!(value(r#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(
            value(r#"{"token":"","access_token":"b","expires_in":5}"#).as_deref(),
            Some("b")
        );
        assert_eq!(value(r#"{"token":"a\r\nX: y"}"#), None);
        assert_eq!(value("{}"), None);
        assert_eq!(value("<html>"), None);
    }

    #[test]
    fn a_token_is_used_until_it_is_due() {
        let mut state = AuthState::default();
        let answer = TokenAnswer::parse(br#"{"token":"a","expires_in":300}"#).unwrap();
        state.set_token("repository:x:pull", answer);
        assert_eq!(state.token("repository:x:pull").as_deref(), Some("a"));
        assert_eq!(state.token("repository:y:pull"), None);
        state.forget_token("repository:x:pull", Some("Bearer older"));
        assert_eq!(state.token("repository:x:pull").as_deref(), Some("a"));
        state.forget_token("repository:x:pull", Some("Bearer a"));
        assert_eq!(state.token("repository:x:pull"), None);
    }
}
