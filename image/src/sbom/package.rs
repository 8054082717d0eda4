//! A package and its name in every tool: the package URL
//! (<https://github.com/package-url/purl-spec>).

use std::fmt::Write as _;

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ecosystem {
    /// Debian and what stands on it.
    Deb,
    /// Alpine, Wolfi.
    Apk,
    /// Fedora, Red Hat, openSUSE.
    Rpm,
    /// npm.
    Npm,
    /// Python's index.
    Pypi,
    /// Rust's crates.
    Cargo,
    /// Go modules.
    Golang,
}

impl Ecosystem {
    /// The type of package URLs.
    pub fn purl_type(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Cargo => "cargo",
            Self::Golang => "golang",
        }
    }
}

/// A package that is in an image, or that a lock file in it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Where it comes from.
    pub ecosystem: Ecosystem,
    /// What the name is unique in: a distribution, npm's scope, the path of a Go module.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its version; empty if it has none.
    pub version: String,
    /// Further parts of the package URL, such as `arch`.
    pub qualifiers: Vec<(&'static str, String)>,
    /// Its licence, as an SPDX expression.
    pub licence: Option<String>,
    /// Who made it: a person or an organisation, as the package says.
    pub supplier: Option<String>,
    /// Files that name it, sorted.
    pub places: Vec<String>,
}

/// Longer names are no names.
const MAX_NAME: usize = 512;

impl Package {
    pub(super) fn new(ecosystem: Ecosystem, name: &str, version: &str) -> Self {
        Self {
            ecosystem,
            namespace: None,
            name: name.trim().to_owned(),
            version: version.trim().to_owned(),
            qualifiers: Vec::new(),
            licence: None,
            supplier: None,
            places: Vec::new(),
        }
    }

    /// Its texts are short and hold no control characters.
    pub(super) fn is_sane(&self) -> bool {
        let texts = [&self.name, &self.version];
        let qualifiers = self.qualifiers.iter().map(|(_, value)| value);
        texts
            .into_iter()
            .chain(self.namespace.as_ref())
            .chain(qualifiers)
            .all(|text| text.len() <= MAX_NAME && !text.chars().any(char::is_control))
    }

    pub(super) fn qualify(&mut self, name: &'static str, value: &str) {
        let value = value.trim();
        if !value.is_empty() {
            self.qualifiers.push((name, value.to_owned()));
        }
    }

    /// Its package URL.
    pub fn purl(&self) -> String {
        let mut purl = format!("pkg:{}/", self.ecosystem.purl_type());
        for part in self.namespace.iter().flat_map(|names| names.split('/')) {
            if !part.is_empty() {
                encode(part, &mut purl);
                purl.push('/');
            }
        }
        encode(&self.name, &mut purl);
        if !self.version.is_empty() {
            purl.push('@');
            encode(&self.version, &mut purl);
        }
        let mut qualifiers: Vec<_> = self.qualifiers.iter().collect();
        qualifiers.sort();
        for (index, (name, value)) in qualifiers.into_iter().enumerate() {
            purl.push(if index == 0 { '?' } else { '&' });
            purl.push_str(name);
            purl.push('=');
            encode(value, &mut purl);
        }
        purl
    }
}

/// Percent-encodes what is not allowed to stand for itself in a part of a package URL.
pub(crate) fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                into.push(char::from(byte));
            }
            other => {
                // Writing to a string can't fail.
                let _written = write!(into, "%{other:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_those_of_the_specification() {
        let mut deb = Package::new(Ecosystem::Deb, "libstdc++6", "1:12.2.0-14+deb12u1");
        deb.namespace = Some("debian".into());
        deb.qualify("distro", "debian-12");
        deb.qualify("arch", "amd64");
        deb.qualify("epoch", "");
        assert_eq!(
            deb.purl(),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
        );
        let mut npm = Package::new(Ecosystem::Npm, "core", "7.0.0");
        npm.namespace = Some("@babel".into());
        assert_eq!(npm.purl(), "pkg:npm/%40babel/core@7.0.0");
        let mut go = Package::new(Ecosystem::Golang, "v2", "");
        go.namespace = Some("github.com/a//b".into());
        assert_eq!(go.purl(), "pkg:golang/github.com/a/b/v2");
    }
}
