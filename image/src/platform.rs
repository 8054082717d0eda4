//! Platforms: operating system, architecture, variant, in Go's names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// Why a text is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a platform: expected `os/architecture` or `os/architecture/variant`")]
pub struct PlatformError {
    /// The text.
    pub text: String,
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
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// The usual spelling: lower case, `x86_64` is `amd64`, `aarch64` is `arm64`, the default
    /// variants of `amd64` (v1) and `arm64` (v8) left out, that of `arm` (v7) written.
    #[must_use]
    pub fn normalised(mut self) -> Self {
        self.os = self.os.to_ascii_lowercase();
        if self.os == "macos" {
            "darwin".clone_into(&mut self.os);
        }
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self
            .variant
            .take()
            .map(|variant| variant.to_ascii_lowercase())
            .filter(|variant| !variant.is_empty());
        let (architecture, variant) = match architecture.as_str() {
            "i386" | "i486" | "i586" | "i686" | "x86" => ("386", None),
            "x86_64" | "x86-64" | "amd64" => ("amd64", variant.filter(|variant| variant != "v1")),
            "aarch64" | "arm64" => (
                "arm64",
                variant.filter(|variant| variant != "v8" && variant != "8"),
            ),
            "armhf" => ("arm", Some("v7".to_owned())),
            "armel" => ("arm", Some("v6".to_owned())),
            "arm" => (
                "arm",
                Some(match variant.as_deref() {
                    None | Some("7") => "v7".to_owned(),
                    Some(digit @ ("5" | "6" | "8")) => format!("v{digit}"),
                    Some(other) => other.to_owned(),
                }),
            ),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", variant),
            other => (other, variant),
        };
        architecture.clone_into(&mut self.architecture);
        self.variant = variant;
        self
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

    /// `os/architecture[/variant]`, or an architecture alone (the system is `linux` then).
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError {
            text: text.to_owned(),
        };
        let well_formed = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| well_formed(part)) {
            return Err(error());
        }
        match parts[..] {
            ["linux"] => Ok(Self::host()),
            [architecture] => Ok(Self::new("linux", architecture, None)),
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
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
            ("i686", "linux/386"),
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
