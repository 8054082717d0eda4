//! Cargo: `Cargo.lock`.

use serde::Deserialize;
use strata_cache::view::{Entry, ViewError};

use super::Found;
use super::file::Reader;
use super::package::{Ecosystem, Package};

const LIMIT: u64 = 16 << 20;

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
}

pub(super) fn lock(reader: &Reader<'_>, entry: &Entry, found: &mut Found) -> Result<(), ViewError> {
    let Some(text) = reader.text(entry, LIMIT, found)? else {
        return Ok(());
    };
    let Ok(lock) = toml::from_str::<Lock>(&text) else {
        found.note(&entry.path, "is not a lock file of Cargo");
        return Ok(());
    };
    for locked in lock.package {
        let mut package = Package::new(Ecosystem::Cargo, &locked.name, &locked.version);
        // A crate of the registry has no further name; one without a source is the program itself.
        if let Some(source) = &locked.source
            && let Some(url) = source.strip_prefix("git+")
        {
            package.qualify("vcs_url", &format!("git+{}", crate::redact::url(url)));
        }
        found.add(package, &entry.path);
    }
    Ok(())
}
