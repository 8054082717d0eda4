//! A package's header: an index of tags and a store of values, all numbers big-endian.

use crate::sbom::elf::number;
use crate::sbom::package::{Ecosystem, Package};
use crate::sbom::{Found, licence};

const NAME: u64 = 1000;
const VERSION: u64 = 1001;
const RELEASE: u64 = 1002;
const EPOCH: u64 = 1003;
const VENDOR: u64 = 1011;
const LICENSE: u64 = 1014;
const ARCH: u64 = 1022;
const SOURCE_RPM: u64 = 1044;

const INT32: u64 = 4;
const STRING: u64 = 6;
const STRING_ARRAY: u64 = 8;
const I18N_STRING: u64 = 9;

/// The values of a header that matter.
#[derive(Debug, Default)]
pub(super) struct Header {
    name: String,
    version: String,
    release: String,
    epoch: Option<u64>,
    vendor: String,
    licence: String,
    architecture: String,
    source: String,
}

impl Header {
    /// Reads the header's bytes as databases hold them: without the mark that files have.
    pub(super) fn parse(blob: &[u8]) -> Option<Self> {
        let count = usize::try_from(number(blob, 0, 4, true)?).ok()?;
        let size = usize::try_from(number(blob, 4, 4, true)?).ok()?;
        let index_end = count.checked_mul(16)?.checked_add(8)?;
        let index = blob.get(8..index_end)?;
        let store = blob.get(index_end..index_end.checked_add(size)?)?;
        let mut header = Self::default();
        for entry in index.chunks_exact(16) {
            let field = |at| number(entry, at, 4, true);
            let (tag, kind, offset) = (field(0)?, field(4)?, usize::try_from(field(8)?).ok()?);
            let text = || match kind {
                STRING | STRING_ARRAY | I18N_STRING => {
                    let rest = store.get(offset..)?;
                    let end = rest.iter().position(|byte| *byte == 0)?;
                    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
                }
                _ => None,
            };
            match tag {
                NAME => header.name = text()?,
                VERSION => header.version = text()?,
                RELEASE => header.release = text()?,
                EPOCH if kind == INT32 => header.epoch = Some(number(store, offset, 4, true)?),
                VENDOR => header.vendor = text().unwrap_or_default(),
                LICENSE => header.licence = text().unwrap_or_default(),
                ARCH => header.architecture = text().unwrap_or_default(),
                SOURCE_RPM => header.source = text().unwrap_or_default(),
                _ => {}
            }
        }
        (!header.name.is_empty()).then_some(header)
    }

    /// The package; none for the keys that are kept as packages.
    pub(super) fn package(&self, found: &Found) -> Option<Package> {
        if self.name == "gpg-pubkey" {
            return None;
        }
        let version = format!("{}-{}", self.version, self.release);
        let mut package = Package::new(Ecosystem::Rpm, &self.name, version.trim_matches('-'));
        package.namespace = Some(found.distro.namespace("rpm"));
        package.qualify("arch", &self.architecture);
        package.qualify("distro", &found.distro.qualifier().unwrap_or_default());
        if let Some(epoch) = self.epoch {
            package.qualify("epoch", &epoch.to_string());
        }
        package.qualify("upstream", &self.source);
        package.licence = licence::expression(&self.licence);
        package.supplier = (!self.vendor.is_empty()).then(|| self.vendor.clone());
        Some(package)
    }
}

/// A header as rpm writes it, for tests: texts by tag, and the epoch.
#[cfg(test)]
fn header_of(texts: &[(u64, &str)], epoch: Option<u32>) -> Vec<u8> {
    let (mut index, mut store) = (Vec::new(), Vec::new());
    let mut add = |tag: u64, kind: u64, value: &[u8], store: &mut Vec<u8>| {
        let offset = store.len() as u64;
        for number in [tag, kind, offset, 1] {
            index.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        }
        store.extend_from_slice(value);
    };
    if let Some(epoch) = epoch {
        add(EPOCH, INT32, &epoch.to_be_bytes(), &mut store);
    }
    for (tag, text) in texts {
        let kind = if *tag == VENDOR { I18N_STRING } else { STRING };
        add(*tag, kind, format!("{text}\0").as_bytes(), &mut store);
    }
    let mut blob = Vec::new();
    for number in [index.len() / 16, store.len()] {
        blob.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
    }
    blob.extend(index);
    blob.extend(store);
    blob
}

/// The header of a package of this name, for tests of databases.
#[cfg(test)]
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let long = "x".repeat(9000);
    let texts = [
        (NAME, name),
        (VERSION, "1.2"),
        (RELEASE, "3.fc40"),
        (LICENSE, "GPLv2+ and MIT"),
        (ARCH, "noarch"),
        (VENDOR, "Fedora Project"),
        (SOURCE_RPM, "src-1.2-3.fc40.src.rpm"),
        (1005, long.as_str()),
    ];
    header_of(&texts, Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_a_package_with_epoch_and_source() {
        let header = Header::parse(&sample("curl")).unwrap();
        let package = header.package(&Found::nothing()).unwrap();
        assert_eq!(
            package.purl(),
            "pkg:rpm/rpm/curl@1.2-3.fc40?arch=noarch&epoch=1&upstream=src-1.2-3.fc40.src.rpm"
        );
        assert_eq!(package.licence.as_deref(), Some("GPL-2.0-or-later AND MIT"));
        assert_eq!(package.supplier.as_deref(), Some("Fedora Project"));
        let key = Header::parse(&sample("gpg-pubkey")).unwrap();
        assert!(key.package(&Found::nothing()).is_none());
    }

    #[test]
    fn no_cut_header_is_read_beyond_its_end() {
        let whole = sample("curl");
        for end in (0..200).chain(whole.len() - 200..whole.len()) {
            assert!(Header::parse(&whole[..end]).is_none(), "{end}");
        }
        for at in 0..160 {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            drop(Header::parse(&changed));
        }
    }
}
