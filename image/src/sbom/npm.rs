//! npm: installed packages, and lock files of all three versions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use strata_cache::view::{Entry, ViewError};

use super::file::Reader;
use super::package::{Ecosystem, Package};
use super::{Found, licence, parent_name};

const PACKAGE_LIMIT: u64 = 2 << 20;
const LOCK_LIMIT: u64 = 64 << 20;

/// Installed packages nest as deep as paths are long; what a lock nests deeper is not npm's.
const MAX_DEPTH: usize = 60;

/// What `package.json` says. Fields have had many shapes in npm's time: those that don't fit are left.
#[derive(Deserialize)]
struct Manifest {
    name: Option<Value>,
    version: Option<Value>,
    license: Option<Value>,
    licenses: Option<Value>,
    author: Option<Value>,
}

/// A package in `node_modules`.
pub(super) fn installed(
    reader: &Reader<'_>,
    entry: &Entry,
    found: &mut Found,
) -> Result<(), ViewError> {
    if !is_in_node_modules(entry) {
        return Ok(());
    }
    let Some(bytes) = reader.read(entry, PACKAGE_LIMIT, found)? else {
        return Ok(());
    };
    let Ok(manifest) = serde_json::from_slice::<Manifest>(without_mark(&bytes)) else {
        found.note(&entry.path, "is not JSON");
        return Ok(());
    };
    let text = |value: &Option<Value>| {
        let value = value.as_ref().and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let (name, version) = (text(&manifest.name), text(&manifest.version));
    // Without both it is no package, only a hint for the loader within one.
    if name.is_empty() || version.is_empty() {
        return Ok(());
    }
    let mut package = named(&name, &version);
    package.licence = manifest
        .license
        .as_ref()
        .or(manifest.licenses.as_ref())
        .and_then(licence_of);
    package.supplier = manifest.author.as_ref().and_then(author_of);
    found.add(package, &entry.path);
    Ok(())
}

/// True for `node_modules/NAME/package.json` and `node_modules/@SCOPE/NAME/package.json`.
fn is_in_node_modules(entry: &Entry) -> bool {
    let mut above = entry.path.components().rev().skip(2);
    let (first, second) = (above.next(), above.next());
    let is = |part: Option<std::path::Component<'_>>| {
        part.is_some_and(|part| part.as_os_str() == "node_modules")
    };
    let scoped = first.is_some_and(|part| part.as_os_str().as_encoded_bytes().starts_with(b"@"));
    is(first) || (scoped && is(second))
}

/// A byte order mark is not JSON, but npm takes it.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

fn named(name: &str, version: &str) -> Package {
    match name.split_once('/') {
        Some((scope, name)) if scope.starts_with('@') => {
            let mut package = Package::new(Ecosystem::Npm, name, version);
            package.namespace = Some(scope.to_owned());
            package
        }
        _ => Package::new(Ecosystem::Npm, name, version),
    }
}

/// `"MIT"`, `{"type": "MIT"}`, or a list of these, of which one may choose.
fn licence_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => licence::expression(text),
        Value::Object(object) => licence::expression(object.get("type")?.as_str()?),
        Value::Array(list) => licence::any_of(list.iter().take(20).filter_map(|one| match one {
            Value::Array(_) => None,
            one => licence_of(one),
        })),
        _ => None,
    }
}

fn author_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => Some(object.get("name")?.as_str()?.to_owned()),
        _ => None,
    }
}

/// `package-lock.json`: `packages` by path in versions 2 and 3, `dependencies` by name in version 1.
#[derive(Deserialize)]
struct Lock {
    packages: Option<BTreeMap<String, Locked>>,
    dependencies: Option<BTreeMap<String, Dependency>>,
}

#[derive(Deserialize)]
struct Locked {
    name: Option<String>,
    version: Option<String>,
    license: Option<Value>,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    link: bool,
}

#[derive(Deserialize)]
struct Dependency {
    version: Option<String>,
    #[serde(default)]
    dev: bool,
    dependencies: Option<BTreeMap<String, Dependency>>,
}

/// A lock file. What it marks as needed for development only is left out.
pub(super) fn lock(reader: &Reader<'_>, entry: &Entry, found: &mut Found) -> Result<(), ViewError> {
    // One that was published within a package says nothing of what is installed.
    if entry
        .path
        .parent()
        .is_some_and(|path| path.iter().any(|part| part == "node_modules"))
        && parent_name(entry) != b"node_modules"
    {
        return Ok(());
    }
    let Some(bytes) = reader.read(entry, LOCK_LIMIT, found)? else {
        return Ok(());
    };
    let Ok(lock) = serde_json::from_slice::<Lock>(without_mark(&bytes)) else {
        found.note(&entry.path, "is not a lock file of npm");
        return Ok(());
    };
    if let Some(packages) = lock.packages {
        for (path, locked) in packages {
            // The empty path is the project itself, a link is another entry's package.
            let Some((_, in_modules)) = path.rsplit_once("node_modules/") else {
                continue;
            };
            let Some(version) = &locked.version else {
                continue;
            };
            if locked.dev || locked.link {
                continue;
            }
            let mut package = named(locked.name.as_deref().unwrap_or(in_modules), version);
            package.licence = locked.license.as_ref().and_then(licence_of);
            found.add(package, &entry.path);
        }
    } else {
        add_dependencies(lock.dependencies.unwrap_or_default(), entry, found, 0);
    }
    Ok(())
}

fn add_dependencies(
    dependencies: BTreeMap<String, Dependency>,
    entry: &Entry,
    found: &mut Found,
    depth: usize,
) {
    if depth > MAX_DEPTH {
        return;
    }
    for (name, dependency) in dependencies {
        // A version may be an address: then it names no version.
        let version = dependency.version.filter(|text| {
            text.starts_with(|first: char| first.is_ascii_digit()) && !text.contains('/')
        });
        if let Some(version) = version
            && !dependency.dev
        {
            found.add(named(&name, &version), &entry.path);
        }
        add_dependencies(
            dependency.dependencies.unwrap_or_default(),
            entry,
            found,
            depth + 1,
        );
    }
}
