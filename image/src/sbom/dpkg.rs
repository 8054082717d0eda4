//! dpkg: `status`, and Distroless's directory of single stanzas.

use strata_cache::view::ViewError;

use super::file::Reader;
use super::package::{Ecosystem, Package};
use super::{Found, licence};

const STATUS: &str = "var/lib/dpkg/status";
const STANZAS: &str = "var/lib/dpkg/status.d";

/// A full desktop has some 10 MB.
const LIMIT: u64 = 64 << 20;

/// Copyright files are longer than anything that is read of them.
const COPYRIGHT_LIMIT: u64 = 2 << 20;

pub(super) fn read(reader: &Reader<'_>, found: &mut Found) -> Result<(), ViewError> {
    let stanzas = reader.directory(STANZAS)?.into_iter().filter(|entry| {
        let name = entry.path.extension().unwrap_or_default();
        entry.metadata.kind == strata_cache::view::FileKind::File && name != "md5sums"
    });
    for entry in reader.file(STATUS)?.into_iter().chain(stanzas) {
        let Some(text) = reader.text(&entry, LIMIT, found)? else {
            continue;
        };
        for stanza in text.split("\n\n") {
            let fields = Fields::of(stanza);
            let Some(mut package) = fields.package(found) else {
                continue;
            };
            package.licence = licence_of(reader, &package.name, found)?;
            found.add(package, &entry.path);
        }
    }
    Ok(())
}

/// The fields of a stanza that matter.
#[derive(Default)]
struct Fields<'a> {
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
    status: Option<&'a str>,
    source: &'a str,
    maintainer: &'a str,
}

impl<'a> Fields<'a> {
    fn of(stanza: &'a str) -> Self {
        let mut fields = Self::default();
        for line in stanza.lines() {
            // A line that begins with a blank goes on with the field above: none of ours.
            if line.starts_with([' ', '\t']) {
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name {
                "Package" => fields.name = value,
                "Version" => fields.version = value,
                "Architecture" => fields.architecture = value,
                "Status" => fields.status = Some(value),
                "Source" => fields.source = value,
                "Maintainer" => fields.maintainer = value,
                _ => {}
            }
        }
        fields
    }

    /// The package, if its files are there.
    fn package(&self, found: &Found) -> Option<Package> {
        let gone = self.status.is_some_and(|status| {
            let state = status.rsplit(' ').next().unwrap_or_default();
            matches!(state, "not-installed" | "config-files")
        });
        if gone || self.name.is_empty() || !is_name(self.name) {
            return None;
        }
        let mut package = Package::new(Ecosystem::Deb, self.name, self.version);
        package.namespace = Some(found.distro.namespace("debian"));
        package.qualify("arch", self.architecture);
        package.qualify("distro", &found.distro.qualifier().unwrap_or_default());
        if !self.source.is_empty() {
            // `name`, or `name (version)` if the versions differ.
            let (name, version) = self.source.split_once(' ').unwrap_or((self.source, ""));
            let version = version.trim().trim_matches(['(', ')']);
            package.qualify(
                "upstream",
                &if version.is_empty() {
                    name.to_owned()
                } else {
                    format!("{name}@{version}")
                },
            );
        }
        package.supplier = (!self.maintainer.is_empty()).then(|| self.maintainer.to_owned());
        Some(package)
    }
}

/// True for what may be part of a path.
fn is_name(name: &str) -> bool {
    name.len() < 200
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

fn licence_of(
    reader: &Reader<'_>,
    name: &str,
    found: &mut Found,
) -> Result<Option<String>, ViewError> {
    let Some(entry) = reader.file(&format!("usr/share/doc/{name}/copyright"))? else {
        return Ok(None);
    };
    let text = reader.text(&entry, COPYRIGHT_LIMIT, found)?;
    Ok(text.and_then(|text| copyright(&text)))
}

/// The licences of a copyright file in Debian's machine-readable form.
fn copyright(text: &str) -> Option<String> {
    if !text.trim_start().starts_with("Format") {
        return None;
    }
    let licences = text
        .lines()
        .filter_map(|line| line.strip_prefix("License:"))
        .filter_map(licence::expression);
    licence::all_of(licences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_packages_are_no_packages() {
        let found = Found::nothing();
        let stanza = |status: &str| format!("Package: a\n{status}Version: 1\n extra: x");
        for (status, there) in [
            ("Status: install ok installed\n", true),
            ("Status: install ok half-configured\n", true),
            ("", true),
            ("Status: deinstall ok config-files\n", false),
            ("Status: purge ok not-installed\n", false),
        ] {
            let text = stanza(status);
            assert_eq!(
                Fields::of(&text).package(&found).is_some(),
                there,
                "{status}"
            );
        }
        let hostile = Fields::of("Package: ../../etc/shadow\nVersion: 1");
        assert!(hostile.package(&found).is_none());
    }

    #[test]
    fn licences_come_from_machine_readable_files_only() {
        let text = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
                    Files: *\nLicense: GPL-2+\n text\n\nFiles: x\nLicense: Expat or zlib\n\n\
                    License: GPL-2+\n";
        assert_eq!(
            copyright(text).as_deref(),
            Some("GPL-2.0-or-later AND (MIT OR Zlib)")
        );
        assert_eq!(copyright("This is free software.\nLicense: GPL-2+"), None);
    }
}
