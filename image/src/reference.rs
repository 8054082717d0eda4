//! Names of images as people write them, and in full.

use std::fmt;
use std::str::FromStr;

use strata_cache::Digest;

/// The registry of names without a host.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
/// The host at which that registry's API is.
pub(crate) const DEFAULT_API: &str = "registry-1.docker.io";
const DEFAULT_TAG: &str = "latest";

/// A name in full: `debian` is `docker.io/library/debian:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host and port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub registry: String,
    /// Path within the registry: `library/debian`.
    pub repository: String,
    /// Tag. Set to `latest` by parsing where there is no digest either.
    pub tag: Option<String>,
    /// Digest of a manifest or an index.
    pub digest: Option<Digest>,
}

/// Why a text is not a name of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image name: {reason}")]
pub struct ReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl Reference {
    /// Parses a name as Docker does: the part before the first `/` is a host if it has a dot, a
    /// colon or an upper-case letter, or is `localhost`; `docker.io` and `library/` are added
    /// where nothing is said.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason: &str| ReferenceError {
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let digest = digest
                    .parse::<Digest>()
                    .map_err(|error| fail(&error.to_string()))?;
                (name, Some(digest))
            }
        };
        let (host, rest) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (Some(first), rest),
            _ => (None, name),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if let Some(host) = host {
            check_host(host).map_err(fail)?;
        }
        if let Some(tag) = tag {
            check_tag(tag).map_err(fail)?;
        }
        check_path(path).map_err(fail)?;
        let registry = match host {
            None | Some("index.docker.io") => DEFAULT_REGISTRY,
            Some(host) => host,
        };
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > 255 {
            return Err(fail("host and path are longer than 255 characters"));
        }
        if host.is_none() && tag.is_none() && digest.is_none() && is_hex_digest(path) {
            return Err(fail("64 hex digits are an image ID, not a name"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// The name without tag and digest, in full: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What a registry is asked for: the digest if there is one, else the tag.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The name as people write it: without `docker.io/` and `library/`; the tag stays.
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        match text.strip_prefix("docker.io/") {
            None => text,
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
        }
    }

    /// The same repository with another tag or digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }
}

impl fmt::Display for Reference {
    /// In full; parsing it again gives the same reference.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(formatter, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(formatter, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

fn is_hex_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_host(text: &str) -> bool {
    text == "localhost"
        || text.contains(['.', ':'])
        || text.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_host(text: &str) -> Result<(), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']').ok_or("`[` without `]` in the host")?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| "the host in brackets is not an IPv6 address")?;
            if !after.is_empty() && !after.starts_with(':') {
                return Err("after `]` of the host comes `:` and the port");
            }
            (None, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    if let Some(port) = port
        && (port.is_empty() || port.parse::<u16>().is_err())
    {
        return Err("the port is not a number up to 65535");
    }
    let Some(host) = host else { return Ok(()) };
    let component = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.split('.').all(component) {
        Ok(())
    } else {
        Err("the host is made of letters, digits, `-` and `.`")
    }
}

/// Groups of `[a-z0-9]+`, joined by `.`, `_`, `__` or dashes, in components joined by `/`.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("the name is empty");
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("the name must be in lower case");
    }
    for component in path.split('/') {
        if component.is_empty() {
            return Err("a part of the name between two `/` is empty");
        }
        let bytes = component.as_bytes();
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
            return Err("each part of the name begins and ends with a letter or digit");
        }
        let mut position = 0;
        while position < bytes.len() {
            let run = bytes[position..]
                .iter()
                .take_while(|byte| !alphanumeric(byte))
                .count();
            match &bytes[position..position + run] {
                [] => position += 1,
                b"." | b"_" | b"__" => position += run,
                dashes if dashes.iter().all(|byte| *byte == b'-') => position += run,
                _ => {
                    return Err(
                        "the name is made of lower-case letters and digits, joined by `.`, `_`, \
                         `__` or dashes",
                    );
                }
            }
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    let first = bytes.next().is_some_and(word);
    if first && tag.len() <= 128 && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-') {
        Ok(())
    } else {
        Err("the tag is 1 to 128 letters, digits, `_`, `.` and `-`, the first not `.` or `-`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let hex = "a".repeat(64);
        let digest = format!("sha256:{hex}");
        let rows = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            (
                "docker.io/debian",
                "docker.io/library/debian:latest",
                "debian:latest",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("a/b:C.d-e_f", "docker.io/a/b:C.d-e_f", "a/b:C.d-e_f"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "localhost:5000/x",
                "localhost:5000/x:latest",
                "localhost:5000/x:latest",
            ),
            ("[::1]:5000/x/y:1", "[::1]:5000/x/y:1", "[::1]:5000/x/y:1"),
            (
                "ghcr.io/a/b/c",
                "ghcr.io/a/b/c:latest",
                "ghcr.io/a/b/c:latest",
            ),
            ("host:80/x:1", "host:80/x:1", "host:80/x:1"),
            ("UP/x", "UP/x:latest", "UP/x:latest"),
            (
                "a__b/c---d/e.f_g",
                "docker.io/a__b/c---d/e.f_g:latest",
                "a__b/c---d/e.f_g:latest",
            ),
            ("sha256:1", "docker.io/library/sha256:1", "sha256:1"),
        ];
        for (text, full, familiar) in rows {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "{text}");
        }
        let pinned = Reference::parse(&format!("x@{digest}")).unwrap();
        assert_eq!(pinned.tag, None);
        assert_eq!(pinned.identifier(), digest);
        let both = Reference::parse(&format!("h.io/x:1@{digest}")).unwrap();
        assert_eq!(both.to_string(), format!("h.io/x:1@{digest}"));
        assert_eq!(both.identifier(), digest);
    }

    #[test]
    fn what_is_no_name_is_refused_with_a_reason() {
        let rows = [
            ("", "empty"),
            ("Debian", "lower case"),
            ("a/B", "lower case"),
            ("a//b", "empty"),
            ("/a", "empty"),
            ("a/", "empty"),
            ("-a", "begins and ends"),
            ("a-", "begins and ends"),
            ("a..b", "joined by"),
            ("a._b", "joined by"),
            ("a___b", "joined by"),
            ("a b", "joined by"),
            ("a:", "tag"),
            ("a:.b", "tag"),
            ("a:b c", "tag"),
            ("host:port/x", "port"),
            ("host:99999/x", "port"),
            ("[::1/x", "`[` without `]`"),
            ("[nonsense]:1/x", "IPv6"),
            ("-a.b/x", "host"),
            ("a@sha256:1", "64 hex digits"),
            ("a@sha512:1", "sha512"),
            ("ä", "begins and ends"),
        ];
        for (text, reason) in rows {
            let error = Reference::parse(text).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        let id = "a".repeat(64);
        assert!(
            Reference::parse(&id)
                .unwrap_err()
                .reason
                .contains("image ID")
        );
        assert!(Reference::parse(&format!("x:{}", "t".repeat(129))).is_err());
        assert!(Reference::parse(&format!("x:{}", "t".repeat(128))).is_ok());
        assert!(Reference::parse(&format!("h.io/{}", "a".repeat(251))).is_err());
        assert!(Reference::parse(&format!("h.io/{}", "a".repeat(250))).is_ok());
    }
}
