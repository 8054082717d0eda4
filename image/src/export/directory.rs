//! An OCI layout directory (OCI image specification, "Image Layout").

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use strata_cache::Store;

use super::archive::{LAYOUT, json, named};
use super::output::{Temporary, failed};
use super::set::{ImageSet, assemble};
use super::{ExportError, ExportOptions};
use crate::Progress;
use crate::manifest::{Descriptor, Index, MAX_MANIFEST};

/// Adds the images to the layout at `path`, or makes one. Blobs come first, then the index: a reader
/// sees them whole or not at all.
pub(super) fn write(
    store: &Store,
    set: &ImageSet<'_>,
    options: &ExportOptions<'_>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<Descriptor, ExportError> {
    let mut index = read_index(path)?;
    let one = assemble(store, set, options.encoding, options.write, progress)?;
    let blobs = path.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).map_err(|source| failed("create", &blobs, source))?;
    for blob in &one.layers {
        let target = blobs.join(blob.digest.hex());
        if has_size(&target, blob.size) {
            continue;
        }
        let from = store.blobs().open(blob.digest)?;
        let temporary = Temporary::beside(&target)?;
        strata_cache::clone_file(&from, &temporary.file)
            .map_err(|source| failed("write", &target, source))?;
        temporary.rename_to(&target)?;
        progress.update(&blob.digest.short(), blob.size, Some(blob.size));
    }
    for (digest, bytes) in one.small.iter().rev() {
        put(&blobs.join(digest.hex()), bytes)?;
    }
    put(&path.join("oci-layout"), LAYOUT)?;
    let added = named(&one.root, options.names);
    index
        .manifests
        .retain(|old| !added.iter().any(|new| same_place(old, new)));
    index.manifests.extend(added);
    put(&path.join("index.json"), &json(&index))?;
    Ok(one.root)
}

/// True if a new entry of the index takes the place of an old one.
fn same_place(old: &Descriptor, new: &Descriptor) -> bool {
    if new.annotations.is_empty() {
        old.digest == new.digest && old.annotations.is_empty()
    } else {
        old.annotations == new.annotations
    }
}

fn read_index(path: &Path) -> Result<Index, ExportError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::empty()),
        Err(source) => return Err(failed("stat", path, source)),
        Ok(_) => {}
    }
    let index = path.join("index.json");
    let file = match File::open(&index) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut entries =
                std::fs::read_dir(path).map_err(|source| failed("list", path, source))?;
            if entries.next().is_some() {
                return Err(ExportError::Destination {
                    path: path.to_owned(),
                    reason: "holds something else than an OCI layout: name a new or empty directory",
                });
            }
            return Ok(Index::empty());
        }
        Err(source) => return Err(failed("open", &index, source)),
    };
    let reader = io::Read::take(io::BufReader::new(file), MAX_MANIFEST);
    serde_json::from_reader(reader).map_err(|error| failed("read", &index, error.into()))
}

fn has_size(path: &Path, size: u64) -> bool {
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let mut temporary = Temporary::beside(path)?;
    temporary
        .file
        .write_all(bytes)
        .map_err(|source| failed("write", path, source))?;
    temporary.rename_to(path)
}
