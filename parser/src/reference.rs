//! Image references.
//!
//! `debian` is `docker.io/library/debian:latest`, `localhost:5000/x` has a host of its own.

use std::fmt;

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
        let _ = text;
        todo!()
    }

    /// The short form that people know: `debian:12`, `localhost:5000/x:latest`.
    pub fn familiar(&self) -> String {
        todo!()
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
