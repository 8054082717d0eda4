//! What software is in an image: read from its package databases, and written as SPDX.
//!
//! Nothing of the image is run. [`scan`] walks the merged tree of its layers once and reads
//!
//! - the databases of dpkg (Distroless's `status.d` too), apk and rpm,
//! - what package managers of languages installed: npm's `package.json`, Python's `METADATA`,
//! - their lock files: npm, pip (pinned lines of `requirements*.txt`), Poetry, uv, Pipenv, Cargo,
//! - the modules that Go's linker names in its programs.
//!
//! Files are a stranger's. Every read is bounded, every parser refuses rather than guesses, and what
//! can't be read is a note in the result, never an error: a list that says what it lacks is worth more
//! than none. Only a failing disk ends a scan.
//!
//! The result has no times, no host's names and one order: equal trees give equal lists.

mod apk;
mod cargo;
mod distro;
mod dpkg;
mod elf;
mod file;
mod golang;
mod licence;
mod npm;
mod package;
mod python;
mod rpm;
mod spdx;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use strata_cache::LayerView;
use strata_cache::view::{Entry, FileKind, ViewError};

pub use distro::Distro;
pub(crate) use package::encode;
pub use package::{Ecosystem, Package};
pub use spdx::{Document, PREDICATE};

use file::Reader;

/// Packages that are listed at most. The largest images have some ten thousand.
const MAX_PACKAGES: usize = 250_000;

/// Notes that are kept at most.
const MAX_NOTES: usize = 100;

/// Places of one package that are kept at most.
const MAX_PLACES: usize = 8;

/// What was found in a tree.
#[derive(Debug, Default)]
pub struct Inventory {
    /// What `os-release` says of the distribution.
    pub distro: Distro,
    /// Packages, in the order of their package URLs; each is there once.
    pub packages: Vec<Package>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// Lists the packages of a tree. Fails only if the tree itself can't be read.
pub fn scan(view: &LayerView) -> Result<Inventory, ViewError> {
    let reader = Reader::new(view);
    let distro = distro::read(&reader)?;
    let mut found = Found {
        distro,
        ..Found::nothing()
    };
    dpkg::read(&reader, &mut found)?;
    apk::read(&reader, &mut found)?;
    rpm::read(&reader, &mut found)?;
    walk(view, &reader, &|_, _| true, &mut found)?;
    Ok(found.finish())
}

/// Lists what single files of a tree name, without databases of a distribution: a tree of sources has
/// none. `keep` says of a path, which has no `/` in front, whether it counts, and of a directory whether
/// anything below it may.
pub fn scan_files(view: &LayerView, keep: &Keep<'_>) -> Result<Inventory, ViewError> {
    let mut found = Found::nothing();
    walk(view, &Reader::new(view), keep, &mut found)?;
    Ok(found.finish())
}

/// Of a path and whether it is a directory: whether it counts.
pub type Keep<'a> = dyn Fn(&Path, bool) -> bool + 'a;

fn walk(
    view: &LayerView,
    reader: &Reader<'_>,
    keep: &Keep<'_>,
    found: &mut Found,
) -> Result<(), ViewError> {
    let root = view.root()?;
    let mut pending = view.read_dir(&root)?;
    pending.reverse();
    while let Some(entry) = pending.pop() {
        if !keep(&entry.path, entry.is_dir()) {
            continue;
        }
        if entry.is_dir() {
            pending.extend(view.read_dir(&entry)?.into_iter().rev());
        } else if entry.metadata.kind == FileKind::File {
            file(reader, &entry, found)?;
        }
    }
    Ok(())
}

/// Reads a file, if its name or kind says that it may tell of packages.
fn file(reader: &Reader<'_>, entry: &Entry, found: &mut Found) -> Result<(), ViewError> {
    let name = entry.path.file_name().unwrap_or_default().as_bytes();
    match name {
        b"package.json" => npm::installed(reader, entry, found),
        b"package-lock.json" | b"npm-shrinkwrap.json" => npm::lock(reader, entry, found),
        b"METADATA" | b"PKG-INFO" => python::metadata(reader, entry, found),
        b"poetry.lock" | b"uv.lock" => python::toml_lock(reader, entry, found),
        b"Pipfile.lock" => python::pipfile_lock(reader, entry, found),
        b"Cargo.lock" => cargo::lock(reader, entry, found),
        _ if name.ends_with(b".egg-info") => python::metadata(reader, entry, found),
        _ if name.starts_with(b"requirements") && name.ends_with(b".txt") => {
            python::requirements(reader, entry, found)
        }
        // A program that nobody may execute is data.
        _ if entry.metadata.mode & 0o111 != 0 => golang::program(reader, entry, found),
        _ => Ok(()),
    }
}

/// What has been found so far.
struct Found {
    distro: Distro,
    /// By package URL.
    packages: BTreeMap<String, Package>,
    notes: Vec<String>,
    full: bool,
}

impl Found {
    /// Nothing yet.
    fn nothing() -> Self {
        Self {
            distro: Distro::default(),
            packages: BTreeMap::new(),
            notes: Vec::new(),
            full: false,
        }
    }

    /// Adds a package that is named at `place`. The same one found elsewhere is one package with
    /// two places; the first to know its licence or its maker tells.
    fn add(&mut self, mut package: Package, place: &Path) {
        if package.name.is_empty() || !package.is_sane() {
            self.note(place, "names a package that can't be one");
            return;
        }
        let full = self.packages.len() >= MAX_PACKAGES;
        match self.packages.entry(package.purl()) {
            Slot::Vacant(slot) if !full => {
                package.places.push(place_name(place));
                slot.insert(package);
            }
            Slot::Vacant(_) => {
                if !std::mem::replace(&mut self.full, true) {
                    self.notes.push(format!(
                        "there are more than {MAX_PACKAGES} packages: the rest is left out"
                    ));
                }
            }
            Slot::Occupied(mut slot) => {
                let known = slot.get_mut();
                known.licence = known.licence.take().or(package.licence);
                known.supplier = known.supplier.take().or(package.supplier);
                let place = place_name(place);
                if known.places.len() < MAX_PLACES && !known.places.contains(&place) {
                    known.places.push(place);
                }
            }
        }
    }

    fn note(&mut self, place: &Path, what: &str) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(format!("{}: {what}", place_name(place)));
        }
    }

    fn finish(self) -> Inventory {
        let mut packages: Vec<Package> = self.packages.into_values().collect();
        for package in &mut packages {
            package.places.sort_unstable();
        }
        Inventory {
            distro: self.distro,
            packages,
            notes: self.notes,
        }
    }
}

/// A path as text without control characters, for people and for JSON.
fn place_name(path: &Path) -> String {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes());
    let clean: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect();
    format!("/{clean}")
}

/// The name of the directory that an entry is in.
fn parent_name(entry: &Entry) -> &[u8] {
    entry
        .path
        .parent()
        .and_then(Path::file_name)
        .map_or(&[], OsStr::as_bytes)
}
