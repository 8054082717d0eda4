//! Platforms: `linux/arm64/v8`.
//!
//! ```
//! use strata_parser::platform::Platform;
//!
//! let host = Platform::normalised("linux", "x86_64", "", "");
//! assert_eq!(Platform::parse("aarch64", &host)?.to_string(), "linux/arm64");
//! assert_eq!(Platform::parse("linux/arm", &host)?.to_string(), "linux/arm/v7");
//! # Ok::<(), strata_parser::platform::PlatformError>(())
//! ```

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

/// Operating systems that may stand alone.
const SYSTEMS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

/// Architectures that may stand alone.
const ARCHITECTURES: [&str; 19] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc",
    "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
];

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        let arch = match std::env::consts::ARCH {
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            "x86" => "386",
            other => other,
        };
        Self::normalised(std::env::consts::OS, arch, "", "")
    }

    /// A platform from its parts, normalised.
    pub fn normalised(os: &str, arch: &str, variant: &str, os_version: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let arch = arch.to_ascii_lowercase();
        let variant = variant.to_ascii_lowercase();
        let (arch, variant) = match (arch.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (arch, variant) => (arch, variant),
        };
        Self {
            os,
            arch: arch.to_owned(),
            variant: variant.to_owned(),
            os_version: os_version.to_owned(),
        }
    }

    /// Reads `os`, `arch`, `os/arch` or `os/arch/variant`; parts that are left out are `host`'s.
    /// The system may have a version: `windows(10.0.17763)/amd64`.
    pub fn parse(text: &str, host: &Platform) -> Result<Self, PlatformError> {
        let error = |reason| PlatformError {
            platform: text.to_owned(),
            reason,
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().all(|part| part.is_empty()) {
            return Err(error("it is empty"));
        }
        if parts.len() > 3 {
            return Err(error("it has more than three parts"));
        }
        let (os, os_version) = match parts[0].strip_suffix(')') {
            None => (parts[0], ""),
            Some(rest) => {
                let (os, version) = rest
                    .split_once('(')
                    .ok_or_else(|| error("a `(` is missing"))?;
                if !is_component(version) {
                    return Err(error("the version isn't letters, digits, `_`, `.`, `-`"));
                }
                (os, version)
            }
        };
        if !is_component(os) || !parts[1..].iter().all(|part| is_component(part)) {
            return Err(error("parts are letters, digits, `_`, `.`, `-`"));
        }
        match parts[1..] {
            [] => {
                let alone = Self::normalised(os, "", "", os_version);
                if SYSTEMS.contains(&alone.os.as_str()) {
                    return Ok(Self {
                        arch: host.arch.clone(),
                        variant: host.variant.clone(),
                        ..alone
                    });
                }
                let alone = Self::normalised(&host.os, os, "", "");
                if os_version.is_empty() && ARCHITECTURES.contains(&alone.arch.as_str()) {
                    return Ok(alone);
                }
                Err(error(
                    "neither an operating system nor an architecture is called so",
                ))
            }
            [arch] => Ok(Self::normalised(os, arch, "", os_version)),
            [arch, variant, ..] => Ok(Self::normalised(os, arch, variant, os_version)),
        }
    }

    /// Whether this is Windows, which differs in its default shell and its paths.
    pub fn is_windows(&self) -> bool {
        self.os == "windows"
    }
}

fn is_component(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

impl fmt::Display for Platform {
    /// `os/arch/variant`; the system's version is left out, as in TARGETPLATFORM.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        let host = Platform::normalised("linux", "amd64", "", "");
        let rows = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux", "linux/amd64"),
            ("windows", "windows/amd64"),
            ("macos", "darwin/amd64"),
            ("arm64", "linux/arm64"),
            ("s390x", "linux/s390x"),
            ("linux/riscv64", "linux/riscv64"),
            ("other/thing", "other/thing"),
        ];
        for (text, expected) in rows {
            assert_eq!(
                Platform::parse(text, &host).unwrap().to_string(),
                expected,
                "{text}"
            );
        }
        let windows = Platform::parse("windows(10.0.17763)/amd64", &host).unwrap();
        assert_eq!(
            (windows.os.as_str(), windows.os_version.as_str()),
            ("windows", "10.0.17763")
        );
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        let host = Platform::host();
        for text in [
            "",
            "/",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "foo",
            "linux/amd 64",
            "win(x/y",
            "*",
        ] {
            assert!(Platform::parse(text, &host).is_err(), "{text}");
        }
    }

    #[test]
    fn this_machine_has_a_platform_that_reads_back() {
        let host = Platform::host();
        assert_eq!(Platform::parse(&host.to_string(), &host), Ok(host.clone()));
    }
}
