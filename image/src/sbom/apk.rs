//! apk: `installed`, stanzas of one-letter fields.

use strata_cache::view::ViewError;

use super::file::Reader;
use super::package::{Ecosystem, Package};
use super::{Found, licence};

const LIMIT: u64 = 64 << 20;

pub(super) fn read(reader: &Reader<'_>, found: &mut Found) -> Result<(), ViewError> {
    // The first is a link to the second's directory where both are there.
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let Some(entry) = reader.file(path)? else {
            continue;
        };
        let Some(text) = reader.text(&entry, LIMIT, found)? else {
            continue;
        };
        for stanza in text.split("\n\n") {
            if let Some(package) = package(stanza, found) {
                found.add(package, &entry.path);
            }
        }
    }
    Ok(())
}

fn package(stanza: &str, found: &Found) -> Option<Package> {
    let field = |letter: &str| {
        let mut lines = stanza.lines();
        lines.find_map(|line| line.strip_prefix(letter)?.strip_prefix(':'))
    };
    let mut package = Package::new(Ecosystem::Apk, field("P")?, field("V").unwrap_or_default());
    package.namespace = Some(found.distro.namespace("alpine"));
    package.qualify("arch", field("A").unwrap_or_default());
    package.qualify("distro", &found.distro.qualifier().unwrap_or_default());
    let origin = field("o").filter(|origin| *origin != package.name);
    package.qualify("upstream", origin.unwrap_or_default());
    package.licence = field("L").and_then(licence::expression);
    package.supplier = field("m").map(str::to_owned);
    Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_becomes_a_package() {
        let stanza = "C:Q1abc=\nP:busybox\nV:1.36.1-r2\nA:x86_64\nL:GPL-2.0-only\no:busybox\n\
                      m:S <s@x>\nF:bin\nR:busybox";
        let package = package(stanza, &Found::nothing()).unwrap();
        assert_eq!(
            package.purl(),
            "pkg:apk/alpine/busybox@1.36.1-r2?arch=x86_64"
        );
        assert_eq!(package.licence.as_deref(), Some("GPL-2.0-only"));
        assert!(super::package("V:1", &Found::nothing()).is_none());
    }
}
