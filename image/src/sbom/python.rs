//! Python: installed distributions, and the lock files of pip, Poetry, uv and Pipenv.

use std::collections::BTreeMap;

use serde::Deserialize;
use strata_cache::view::{Entry, ViewError};

use super::file::Reader;
use super::package::{Ecosystem, Package};
use super::{Found, licence, parent_name};

/// A README is part of METADATA.
const METADATA_LIMIT: u64 = 4 << 20;
const LOCK_LIMIT: u64 = 32 << 20;

/// A project's name as its package URL has it: lower case, dashes for all that joins (PEP 503).
fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for character in name.trim().chars() {
        if matches!(character, '-' | '_' | '.') {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.extend(character.to_lowercase());
        }
    }
    normal
}

fn named(name: &str, version: &str) -> Package {
    Package::new(Ecosystem::Pypi, &normal(name), version)
}

/// Adds what a file names: names and versions.
fn add_all<'a>(
    entry: &Entry,
    found: &mut Found,
    versions: impl Iterator<Item = (&'a str, &'a str)>,
) {
    for (name, version) in versions {
        found.add(named(name, version), &entry.path);
    }
}

/// `X.dist-info/METADATA`, `X.egg-info/PKG-INFO`, or a file `X.egg-info`: mail headers, then a text.
pub(super) fn metadata(
    reader: &Reader<'_>,
    entry: &Entry,
    found: &mut Found,
) -> Result<(), ViewError> {
    let (name, parent) = (
        entry.path.file_name().unwrap_or_default(),
        parent_name(entry),
    );
    let installed = match name.as_encoded_bytes() {
        b"METADATA" => parent.ends_with(b".dist-info"),
        b"PKG-INFO" => parent.ends_with(b".egg-info"),
        _ => true,
    };
    if !installed {
        return Ok(());
    }
    let Some(text) = reader.text(entry, METADATA_LIMIT, found)? else {
        return Ok(());
    };
    let (mut name, mut version) = ("", "");
    let (mut expression, mut licence, mut supplier) = (None, None, None);
    let mut classified = Vec::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        let Some((field, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match field.to_ascii_lowercase().as_str() {
            "name" => name = value,
            "version" => version = value,
            "license-expression" => expression = licence::expression(value),
            // Some put the whole text here, of which this is the first line.
            "license" => licence = licence::known(value),
            "classifier" => classified.extend(licence::of_classifier(value)),
            "author" | "author-email" if !value.is_empty() => {
                supplier = supplier.or(Some(value.to_owned()));
            }
            _ => {}
        }
    }
    if name.is_empty() || version.is_empty() {
        found.note(&entry.path, "has no name and version");
        return Ok(());
    }
    let mut package = named(name, version);
    package.licence = expression
        .or(licence)
        .or_else(|| licence::all_of(classified.into_iter().map(str::to_owned)));
    package.supplier = supplier;
    found.add(package, &entry.path);
    Ok(())
}

/// The lines of a requirements file that name one version: `name==1.2`, `name[extra]===1.2 ; marker`.
pub(super) fn requirements(
    reader: &Reader<'_>,
    entry: &Entry,
    found: &mut Found,
) -> Result<(), ViewError> {
    let Some(text) = reader.text(entry, LOCK_LIMIT, found)? else {
        return Ok(());
    };
    add_all(entry, found, text.lines().filter_map(pinned));
    Ok(())
}

fn pinned(line: &str) -> Option<(&str, &str)> {
    let line = line.split(['#', ';']).next()?.trim();
    let line = line.split(" --").next()?.trim_end_matches('\\').trim();
    let (name, version) = line.split_once("==")?;
    let version = version.trim_start_matches('=').trim();
    let name = name.split('[').next()?.trim();
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let is_version = !version.is_empty() && !version.contains(['*', ',', ' ', '<', '>', '~', '=']);
    (is_name && is_version).then_some((name, version))
}

#[derive(Deserialize)]
struct TomlLock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    /// uv leaves it out for what is built from a directory.
    version: Option<String>,
}

/// `poetry.lock` and `uv.lock`.
pub(super) fn toml_lock(
    reader: &Reader<'_>,
    entry: &Entry,
    found: &mut Found,
) -> Result<(), ViewError> {
    let Some(text) = reader.text(entry, LOCK_LIMIT, found)? else {
        return Ok(());
    };
    let Ok(lock) = toml::from_str::<TomlLock>(&text) else {
        found.note(&entry.path, "is not a lock file of Poetry or uv");
        return Ok(());
    };
    let locked = lock.package.iter();
    let versions = locked.filter_map(|one| Some((one.name.as_str(), one.version.as_deref()?)));
    add_all(entry, found, versions);
    Ok(())
}

#[derive(Deserialize)]
struct PipfileLock {
    #[serde(default)]
    default: BTreeMap<String, Pinned>,
}

#[derive(Deserialize)]
struct Pinned {
    version: Option<String>,
}

/// `Pipfile.lock`. What is for development only is left out.
pub(super) fn pipfile_lock(
    reader: &Reader<'_>,
    entry: &Entry,
    found: &mut Found,
) -> Result<(), ViewError> {
    let Some(bytes) = reader.read(entry, LOCK_LIMIT, found)? else {
        return Ok(());
    };
    let Ok(lock) = serde_json::from_slice::<PipfileLock>(&bytes) else {
        found.note(&entry.path, "is not a lock file of Pipenv");
        return Ok(());
    };
    let pinned = lock.default.iter();
    let versions = pinned.filter_map(|(name, pinned)| {
        let version = pinned.version.as_deref()?.strip_prefix("==")?;
        Some((name.as_str(), version))
    });
    add_all(entry, found, versions);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_one_version_count() {
        for (line, expected) in [
            ("Django==4.2.1", Some(("Django", "4.2.1"))),
            (
                "requests[socks] == 2.31.0 ; python_version > '3'",
                Some(("requests", "2.31.0")),
            ),
            ("a===1 --hash=sha256:00 # why", Some(("a", "1"))),
            ("b==1.0 \\", Some(("b", "1.0"))),
            ("c==1.*", None),
            ("d>=1,==2", None),
            ("e @ https://x/y==z", None),
            ("-r other.txt", None),
            ("# f==1", None),
            ("", None),
        ] {
            assert_eq!(pinned(line), expected, "{line}");
        }
    }

    #[test]
    fn names_are_those_of_the_index() {
        assert_eq!(normal("Zope.Interface"), "zope-interface");
        assert_eq!(normal("a__B--c"), "a-b-c");
    }
}
