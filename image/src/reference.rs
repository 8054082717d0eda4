//! Names of images as people write them, and in full.

use std::fmt;
use std::str::FromStr;

use strata_cache::{Digest, DigestError};
pub use strata_parser::reference::ReferenceError;
use strata_parser::reference::{ImageReference, familiar_name};

/// The registry of names without a host.
pub(crate) use strata_parser::reference::DEFAULT_DOMAIN as DEFAULT_REGISTRY;
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

impl Reference {
    /// Parses a name as Docker does (see [`ImageReference`]). Only digests of SHA-256 are taken.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let name = ImageReference::parse(text)?;
        let digest = name.digest.as_deref().map(str::parse).transpose();
        Ok(Self {
            registry: name.domain,
            repository: name.repository,
            tag: name.tag,
            digest: digest.map_err(|error: DigestError| ReferenceError {
                reference: text.to_owned(),
                reason: error.to_string(),
            })?,
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

    /// The name as people write it: without `docker.io/` and `library/`; tag and digest stay.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let rest = full.strip_prefix(&self.name()).unwrap_or_default();
        familiar_name(&self.registry, &self.repository) + rest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_shortened() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = Reference::parse(&format!("x@{digest}")).unwrap();
        assert_eq!(pinned.tag, None);
        assert_eq!(pinned.identifier(), digest);
        assert_eq!(pinned.familiar(), format!("x@{digest}"));
        let both = Reference::parse(&format!("h.io/x:1@{digest}")).unwrap();
        assert_eq!(both.to_string(), format!("h.io/x:1@{digest}"));
        assert_eq!(both.identifier(), digest);
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("[::1]:5000/x/y:1", "[::1]:5000/x/y:1", "[::1]:5000/x/y:1"),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse(full).unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn digests_of_other_algorithms_are_refused() {
        let text = format!("a@sha512:{}", "0".repeat(128));
        let error = Reference::parse(&text).unwrap_err();
        assert!(error.to_string().contains("sha512"), "{error}");
    }
}
