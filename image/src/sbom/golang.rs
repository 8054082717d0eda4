//! Go: the modules that a program was linked from.
//!
//! Go's linker leaves a block in the program (`debug/buildinfo` reads it): 14 bytes of mark, the size of
//! pointers, flags, then since Go 1.18 two strings with their lengths before them, and earlier two
//! pointers to headers of strings, which are a pointer and a length each. The second string lists the
//! modules, between two marks of 16 bytes.

use strata_cache::view::{Entry, ViewError};

use super::Found;
use super::elf::{Elf, number};
use super::file::{Parts, Reader};
use super::package::{Ecosystem, Package};

const MARK: &[u8] = b"\xff Go buildinf:";

/// The block lies on such a boundary.
const ALIGN: usize = 16;

/// How far the block is looked for where no section says where it is.
const MAX_SEARCH: u64 = 64 << 10;

/// Longest list of modules. Kubernetes has some 60 kB.
const MAX_TEXT: u64 = 4 << 20;

/// A program that may be executed.
pub(super) fn program(
    reader: &Reader<'_>,
    entry: &Entry,
    found: &mut Found,
) -> Result<(), ViewError> {
    if entry.metadata.size < 256 {
        return Ok(());
    }
    let parts = reader.open(entry)?;
    let Some((version, modules)) = build_info(&parts) else {
        return Ok(());
    };
    if let Some(version) = version.strip_prefix("go") {
        // `go1.22.1 X:experiment`, `go1.22.1-vendor`.
        let version = version.split([' ', '-']).next().unwrap_or_default();
        found.add(
            Package::new(Ecosystem::Golang, "stdlib", version),
            &entry.path,
        );
    }
    for (path, version) in dependencies(&modules) {
        found.add(module(path, version), &entry.path);
    }
    Ok(())
}

fn module(path: &str, version: &str) -> Package {
    let (namespace, name) = match path.rsplit_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, path),
    };
    let mut package = Package::new(Ecosystem::Golang, name, version);
    package.namespace = namespace;
    package
}

/// The program's own module and its dependencies, replacements in place of what they replace.
fn dependencies(modules: &str) -> Vec<(&str, &str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for line in modules.lines() {
        let mut fields = line.split('\t');
        let (kind, path, version) = (fields.next(), fields.next(), fields.next());
        let (Some(kind), Some(path)) = (kind, path) else {
            continue;
        };
        // What was built from a checkout has no version.
        let version = version.filter(|version| *version != "(devel)");
        match kind {
            "mod" | "dep" => found.push((path, version.unwrap_or_default())),
            "=>" => {
                // One that lies beside the program has no name that others know.
                let local = path.starts_with('.') || path.starts_with('/');
                if let Some(last) = found.last_mut()
                    && !local
                {
                    *last = (path, version.unwrap_or_default());
                }
            }
            _ => {}
        }
    }
    found
}

/// Go's version, and the list of modules.
fn build_info(file: &Parts) -> Option<(String, String)> {
    let elf = Elf::open(file)?;
    let (start, size) = if let Some((offset, size)) = elf.build_info() {
        (offset, size.min(MAX_TEXT))
    } else {
        let (offset, size) = elf.data()?;
        (offset, size.min(MAX_SEARCH))
    };
    let data = file.at(start, size)?;
    let at = data
        .chunks(ALIGN)
        .position(|chunk| chunk.starts_with(MARK))?
        * ALIGN;
    let block = &data[at..];
    let (pointer, flags) = (usize::from(*block.get(14)?), *block.get(15)?);
    if flags & 2 != 0 {
        let offset = start.checked_add(at as u64 + 32)?;
        let (version, after) = inline(file, offset)?;
        let (modules, _) = inline(file, after)?;
        return Some((text(version), unmarked(&modules)));
    }
    if pointer != 4 && pointer != 8 {
        return None;
    }
    let big = flags & 1 != 0;
    let string = |at: usize| {
        let header = elf.at_address(number(block, at, pointer, big)?, 2 * pointer as u64)?;
        let address = number(&header, 0, pointer, big)?;
        let length = number(&header, pointer, pointer, big)?;
        if length > MAX_TEXT {
            return None;
        }
        elf.at_address(address, length)
    };
    let version = string(16)?;
    let modules = string(16 + pointer).unwrap_or_default();
    Some((text(version), unmarked(&modules)))
}

/// A string with its length before it, and where it ends.
fn inline(file: &Parts, offset: u64) -> Option<(Vec<u8>, u64)> {
    let left = file.size.checked_sub(offset)?;
    let head = file.at(offset, left.min(10))?;
    let (mut length, mut used) = (0_u64, 0);
    for (index, byte) in head.iter().enumerate() {
        length |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index).ok()? * 7)?;
        used += 1;
        if byte & 0x80 == 0 {
            let start = offset.checked_add(used)?;
            if length > MAX_TEXT {
                return None;
            }
            return Some((file.at(start, length)?, start.checked_add(length)?));
        }
    }
    None
}

/// The list without the marks around it. A program built without modules has none.
fn unmarked(modules: &[u8]) -> String {
    match modules.get(16..modules.len().saturating_sub(16)) {
        Some(inner) if modules.len() >= 33 && modules[modules.len() - 17] == b'\n' => {
            text(inner.to_vec())
        }
        _ => String::new(),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_take_the_place_of_what_they_replace() {
        let list = "path\texample.com/cmd\nmod\texample.com/cmd\t(devel)\t\n\
                    dep\tgithub.com/a/b\tv1.0.0\th1:x=\n\
                    dep\tgithub.com/c/d/v2\tv2.0.0\n=>\tgithub.com/e/d/v2\tv2.0.1\th1:y=\n\
                    dep\tgithub.com/f/g\tv0.1.0\n=>\t../g\t\nbuild\t-tags=x\n";
        assert_eq!(
            dependencies(list),
            [
                ("example.com/cmd", ""),
                ("github.com/a/b", "v1.0.0"),
                ("github.com/e/d/v2", "v2.0.1"),
                ("github.com/f/g", "v0.1.0"),
            ]
        );
        assert_eq!(
            module("github.com/e/d/v2", "v2.0.1").purl(),
            "pkg:golang/github.com/e/d/v2@v2.0.1"
        );
    }
}
