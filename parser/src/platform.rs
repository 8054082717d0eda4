//! Platforms: `linux/arm64/v8`.

use std::fmt;

/// A platform, normalised: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// Operating system.
    pub os: String,
    /// Architecture.
    pub arch: String,
    /// Variant, empty if none.
    pub variant: String,
    /// Version of the operating system (Windows), empty if none.
    pub os_version: String,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform `{platform}`: {reason}")]
pub struct PlatformError {
    /// What was written.
    pub platform: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        Self::normalised(std::env::consts::OS, std::env::consts::ARCH, "", "")
    }

    /// A platform from its parts, normalised.
    pub fn normalised(os: &str, arch: &str, variant: &str, os_version: &str) -> Self {
        let _ = (os, arch, variant, os_version);
        todo!()
    }

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant`; parts that are left out are `host`'s.
    pub fn parse(text: &str, host: &Platform) -> Result<Self, PlatformError> {
        let _ = (text, host);
        todo!()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.os)?;
        if !self.os_version.is_empty() {
            write!(f, "({})", self.os_version)?;
        }
        write!(f, "/{}", self.arch)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}
