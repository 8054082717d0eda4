//! Platforms: operating system, architecture, variant, in Go's names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strata_parser::platform;
pub use strata_parser::platform::PlatformError;

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// CPU architecture: `amd64`, `arm64`, `arm` …
    pub architecture: String,
    /// Operating system: `linux`.
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(
        default,
        rename = "os.version",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Features that the operating system must have (Windows).
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// A platform by its three names, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(str::to_owned),
        }
        .normalised()
    }

    /// What this binary was built for.
    pub fn host() -> Self {
        platform::Platform::host().into()
    }

    /// The usual spelling (see [`platform::Platform::normalised`]).
    #[must_use]
    pub fn normalised(self) -> Self {
        let variant = self.variant.as_deref().unwrap_or_default();
        let usual = platform::Platform::normalised(&self.os, &self.architecture, variant, "");
        Self {
            os_version: self.os_version,
            os_features: self.os_features,
            ..usual.into()
        }
    }

    /// How well an image for `offered` serves this platform: 0 is exact, larger is worse, none is
    /// not at all. A newer `arm` runs older variants; a newer `amd64` likewise.
    pub fn accepts(&self, offered: &Self) -> Option<u32> {
        let wanted = self.clone().normalised();
        let offered = offered.clone().normalised();
        if wanted.os != offered.os || wanted.architecture != offered.architecture {
            return None;
        }
        if let Some(version) = &wanted.os_version
            && offered.os_version.as_ref() != Some(version)
        {
            return None;
        }
        let level = |platform: &Self| -> Option<u32> {
            match platform.variant.as_deref() {
                None if platform.architecture == "amd64" => Some(1),
                None if platform.architecture == "arm64" => Some(80),
                None => Some(0),
                Some(text) => {
                    // arm64 has point releases: v8, v8.1, v9.
                    let text = text.strip_prefix('v')?;
                    if platform.architecture == "arm64" {
                        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
                        Some(
                            major.parse::<u8>().map(u32::from).ok()? * 10
                                + u32::from(minor.parse::<u8>().ok()?),
                        )
                    } else {
                        text.parse::<u8>().map(u32::from).ok()
                    }
                }
            }
        };
        if wanted.variant == offered.variant {
            return Some(0);
        }
        level(&wanted)?.checked_sub(level(&offered)?)
    }
}

impl From<platform::Platform> for Platform {
    fn from(usual: platform::Platform) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            architecture: usual.arch,
            os: usual.os,
            os_version: given(usual.os_version),
            os_features: Vec::new(),
            variant: given(usual.variant),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// `os/architecture[/variant]`, or one of the two alone.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        platform::Platform::parse(text, &platform::Platform::host()).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        let rows = [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("i386", "linux/386"),
            ("s390x", "linux/s390x"),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected);
        }
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_runs_itself_and_what_is_older() {
        let accepts = |wanted: &str, offered: &str| {
            let wanted: Platform = wanted.parse().unwrap();
            wanted.accepts(&offered.parse().unwrap())
        };
        assert_eq!(accepts("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(accepts("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(accepts("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(accepts("linux/amd64", "linux/amd64/v2"), None);
        assert_eq!(accepts("linux/amd64/v3", "linux/amd64"), Some(2));
        assert_eq!(accepts("linux/arm64/v9", "linux/arm64"), Some(10));
        assert_eq!(accepts("linux/amd64", "linux/386"), None);
        assert_eq!(accepts("linux/amd64", "windows/amd64"), None);
    }
}
