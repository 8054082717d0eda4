//! Image references.
//!
//! The grammar and the short names are those of the distribution project: `debian` is
//! `docker.io/library/debian:latest`, and a first part with a dot, a colon or an upper-case
//! letter, or `localhost`, is a host.
//!
//! ```
//! use strata_parser::reference::ImageReference;
//!
//! let reference = ImageReference::parse("debian")?;
//! assert_eq!(reference.to_string(), "docker.io/library/debian:latest");
//! assert_eq!(reference.familiar(), "debian:latest");
//! assert_eq!(ImageReference::parse("localhost:5000/x")?.domain, "localhost:5000");
//! # Ok::<(), strata_parser::reference::ReferenceError>(())
//! ```

use std::fmt;
use std::net::Ipv6Addr;

use nom::IResult;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::bytes::complete::take_till1;
use nom::bytes::complete::take_while;
use nom::bytes::complete::take_while_m_n;
use nom::bytes::complete::take_while1;
use nom::character::complete::char;
use nom::character::complete::digit1;
use nom::combinator::all_consuming;
use nom::combinator::opt;
use nom::combinator::recognize;
use nom::combinator::verify;
use nom::multi::many0_count;
use nom::multi::separated_list1;
use nom::sequence::delimited;
use nom::sequence::pair;
use nom::sequence::preceded;

/// The host that short names are on.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// What names without a slash are below on [`DEFAULT_DOMAIN`].
const OFFICIAL: &str = "library/";
/// Longest host and repository together, in bytes.
const MAX_NAME: usize = 255;

/// A parsed and normalised image reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// Host, with port if any: `docker.io`, `localhost:5000`.
    pub domain: String,
    /// Path of the repository: `library/debian`.
    pub repository: String,
    /// Tag, if one was written, or `latest` if neither tag nor digest was.
    pub tag: Option<String>,
    /// Digest as text (`sha256:...`), checked for its form.
    pub digest: Option<String>,
    /// What was written.
    pub original: String,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference `{reference}`: {reason}")]
pub struct ReferenceError {
    /// What was written.
    pub reference: String,
    /// What is wrong.
    pub reason: String,
}

impl ImageReference {
    /// Reads and normalises a reference.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let error = |reason: String| ReferenceError {
            reference: text.to_owned(),
            reason,
        };
        if text.is_empty() {
            return Err(error("it is empty".to_owned()));
        }
        if let Some(bad) = text.chars().find(|&c| c.is_whitespace() || c.is_control()) {
            return Err(error(format!("it contains {bad:?}")));
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => (name, Some(check_digest(digest).map_err(error)?)),
        };
        // A colon after the last slash begins the tag; before it, a port.
        let slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match name[slash..].find(':') {
            None => (name, None),
            Some(colon) => {
                let (name, tag) = name.split_at(slash + colon);
                (name, Some(check_tag(&tag[1..]).map_err(error)?))
            }
        };
        let (domain, repository) = split_domain(name);
        if name.len() == text.len() && is_image_id(name) {
            return Err(error(
                "64 hexadecimal digits would be taken for an image ID".to_owned(),
            ));
        }
        check_name(domain, &repository).map_err(error)?;
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag,
        };
        Ok(Self {
            domain: domain.to_owned(),
            repository,
            tag,
            digest,
            original: text.to_owned(),
        })
    }

    /// The short form that people know: `debian:12`, `localhost:5000/x:latest`.
    pub fn familiar(&self) -> String {
        let mut out = self.familiar_name();
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(digest);
        }
        out
    }

    /// The short form without tag and digest.
    pub fn familiar_name(&self) -> String {
        familiar_name(&self.domain, &self.repository)
    }

    /// Domain and repository: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.repository)
    }
}

impl fmt::Display for ImageReference {
    /// The full form: `docker.io/library/debian:12@sha256:...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The short form of a host and a repository: `debian`, `a/b`, `localhost:5000/x`.
pub fn familiar_name(domain: &str, repository: &str) -> String {
    if domain != DEFAULT_DOMAIN {
        return format!("{domain}/{repository}");
    }
    match repository.strip_prefix(OFFICIAL) {
        Some(short) if !short.contains('/') => short.to_owned(),
        _ => repository.to_owned(),
    }
}

/// Host and repository of a name without tag and digest, defaults filled in.
fn split_domain(name: &str) -> (&str, String) {
    let is_host = |part: &str| {
        part == "localhost" || part.contains(['.', ':']) || part.chars().any(char::is_uppercase)
    };
    let (domain, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == "index.docker.io" {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    if domain == DEFAULT_DOMAIN && !repository.contains('/') {
        return (domain, format!("{OFFICIAL}{repository}"));
    }
    (domain, repository.to_owned())
}

fn is_image_id(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(hex)
}

fn check_name(domain: &str, repository: &str) -> Result<(), String> {
    if domain.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!(
            "host and repository are longer than {MAX_NAME} bytes"
        ));
    }
    if all_consuming(host).parse(domain).is_err() {
        return Err(format!("`{domain}` is no host"));
    }
    if let Some(upper) = repository.chars().find(char::is_ascii_uppercase) {
        return Err(format!(
            "the repository must be lower case, but has `{upper}`"
        ));
    }
    for part in repository.split('/') {
        if part.is_empty() {
            return Err("a part of the repository is empty".to_owned());
        }
        if all_consuming(path_component).parse(part).is_err() {
            return Err(format!(
                "`{part}` isn't lower-case letters and digits joined by `.`, `_`, `__` or dashes"
            ));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<String, String> {
    if tag.is_empty() {
        return Err("the tag is empty".to_owned());
    }
    if tag.len() > 128 {
        return Err("the tag is longer than 128 bytes".to_owned());
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !word(tag.as_bytes()[0]) || !tag.bytes().all(|byte| word(byte) || b".-".contains(&byte)) {
        return Err(format!(
            "`{tag}` is no tag: letters, digits, `_`, `.` and `-`"
        ));
    }
    Ok(tag.to_owned())
}

fn check_digest(digest: &str) -> Result<String, String> {
    let Some((algorithm, encoded)) = digest.split_once(':') else {
        return Err(format!("digest `{digest}` has no algorithm"));
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(format!("digest algorithm `{algorithm}` isn't supported")),
    };
    let hex = |character: char| character.is_ascii_digit() || ('a'..='f').contains(&character);
    let mut exactly = all_consuming(take_while_m_n::<_, _, nom::error::Error<&str>>(
        length, length, hex,
    ));
    match exactly.parse(encoded) {
        Ok(_) => Ok(digest.to_owned()),
        Err(_) => Err(format!(
            "a {algorithm} digest is {length} lower-case hexadecimal digits"
        )),
    }
}

fn host(input: &str) -> IResult<&str, &str> {
    let alphanumeric = |character: char| character.is_ascii_alphanumeric();
    let label = verify(
        take_while1(move |character: char| alphanumeric(character) || character == '-'),
        |label: &str| !label.starts_with('-') && !label.ends_with('-'),
    );
    let name = recognize(separated_list1(char('.'), label));
    let address = delimited(
        char('['),
        verify(take_till1(|character| character == ']'), |text: &str| {
            text.parse::<Ipv6Addr>().is_ok()
        }),
        char(']'),
    );
    let port = verify(digit1, |text: &str| text.parse::<u16>().is_ok());
    recognize(pair(
        alt((recognize(address), name)),
        opt(preceded(char(':'), port)),
    ))
    .parse(input)
}

fn path_component(input: &str) -> IResult<&str, &str> {
    fn word(input: &str) -> IResult<&str, &str> {
        take_while1(|character: char| character.is_ascii_digit() || character.is_ascii_lowercase())
            .parse(input)
    }
    let dashes = verify(take_while(|character| character == '-'), |dashes: &str| {
        !dashes.is_empty()
    });
    let separator = alt((tag("."), tag("__"), tag("_"), dashes));
    recognize(pair(word, many0_count(pair(separator, word)))).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// §7.5.
    #[test]
    fn short_names_get_their_defaults() {
        // Text, full form, familiar form.
        let rows = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            (
                "docker.io/debian",
                "docker.io/library/debian:latest",
                "debian:latest",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "localhost:5000/x:1",
                "localhost:5000/x:1",
                "localhost:5000/x:1",
            ),
            (
                "ghcr.io/a/b/c:v1.2",
                "ghcr.io/a/b/c:v1.2",
                "ghcr.io/a/b/c:v1.2",
            ),
            ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
            ("host/x", "docker.io/host/x:latest", "host/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "10.0.0.1:80/x_y__z-w--v.u",
                "10.0.0.1:80/x_y__z-w--v.u:latest",
                "10.0.0.1:80/x_y__z-w--v.u:latest",
            ),
            (
                "docker.io/library/a/b",
                "docker.io/library/a/b:latest",
                "library/a/b:latest",
            ),
            ("a/b:C.d-e_f", "docker.io/a/b:C.d-e_f", "a/b:C.d-e_f"),
            (
                "a__b/c---d/e.f_g",
                "docker.io/a__b/c---d/e.f_g:latest",
                "a__b/c---d/e.f_g:latest",
            ),
            ("sha256:1", "docker.io/library/sha256:1", "sha256:1"),
        ];
        for (text, full, familiar) in rows {
            let reference = ImageReference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(reference.original, text);
            let again = ImageReference::parse(full).unwrap();
            assert_eq!(again.to_string(), full, "{text} reads back");
        }
    }

    #[test]
    fn a_digest_pins_and_adds_no_tag() {
        let reference = ImageReference::parse(&format!("debian@{DIGEST}")).unwrap();
        assert_eq!(
            (reference.tag.as_deref(), reference.digest.as_deref()),
            (None, Some(DIGEST))
        );
        let reference = ImageReference::parse(&format!("a.b/c:t@{DIGEST}")).unwrap();
        assert_eq!(reference.to_string(), format!("a.b/c:t@{DIGEST}"));
    }

    #[test]
    fn mistakes_are_precise() {
        let rows = [
            ("", "it is empty"),
            ("a b", "it contains ' '"),
            ("Debian", "the repository must be lower case, but has `D`"),
            ("debian:", "the tag is empty"),
            (
                "debian:-x",
                "`-x` is no tag: letters, digits, `_`, `.` and `-`",
            ),
            ("a//b", "a part of the repository is empty"),
            (
                "-a",
                "`-a` isn't lower-case letters and digits joined by `.`, `_`, `__` or dashes",
            ),
            (
                "a___b",
                "`a___b` isn't lower-case letters and digits joined by `.`, `_`, `__` or dashes",
            ),
            (
                "a._b",
                "`a._b` isn't lower-case letters and digits joined by `.`, `_`, `__` or dashes",
            ),
            ("/a", "a part of the repository is empty"),
            ("a/", "a part of the repository is empty"),
            ("a..b/c/d", "`a..b` is no host"),
            ("-a.b/x", "`-a.b` is no host"),
            ("host:port/x", "`host:port` is no host"),
            ("host:99999/x", "`host:99999` is no host"),
            ("[::1/x", "`[::1` is no host"),
            ("[1:2]:1/x", "`[1:2]:1` is no host"),
            ("a:b c", "it contains ' '"),
            (
                "debian@sha256:abc",
                "a sha256 digest is 64 lower-case hexadecimal digits",
            ),
            ("debian@md5:abc", "digest algorithm `md5` isn't supported"),
            ("debian@x", "digest `x` has no algorithm"),
            (
                "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "64 hexadecimal digits would be taken for an image ID",
            ),
        ];
        for (text, reason) in rows {
            assert_eq!(
                ImageReference::parse(text).unwrap_err().reason,
                reason,
                "{text}"
            );
        }
        let identifier = "0123456789abcdef".repeat(4);
        assert!(ImageReference::parse(&format!("{identifier}:1")).is_ok());
        assert!(ImageReference::parse(&format!("h.io/{}", "a".repeat(250))).is_ok());
        assert!(ImageReference::parse(&format!("h.io/{}", "a".repeat(251))).is_err());
        assert!(ImageReference::parse(&format!("x:{}", "t".repeat(128))).is_ok());
        let long = "a".repeat(300);
        let reason = ImageReference::parse(&long).unwrap_err().reason;
        assert_eq!(reason, "host and repository are longer than 255 bytes");
        let long = format!("a:{}", "t".repeat(129));
        assert_eq!(
            ImageReference::parse(&long).unwrap_err().reason,
            "the tag is longer than 128 bytes"
        );
    }
}
