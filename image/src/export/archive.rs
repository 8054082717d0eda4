//! OCI archives and docker archives: one tar with an OCI layout in it, and for Docker its
//! `manifest.json` beside.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use strata_cache::image::StoredBlob;
use strata_cache::{Digest, Store};
use tar::{EntryType, Header};

use super::output::{self, Output, failed};
use super::set::Assembled;
use super::{Destination, ExportError, ExportOptions, Format};
use crate::manifest::{Descriptor, Index};
use crate::pipe::REPORT;
use crate::{Progress, Reference};

/// The full name in an index, as containerd and Docker read it.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The tag in an index (OCI image specification, "Annotations").
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// Content of the file `oci-layout`.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes images and indexes with their names.
pub(super) fn write(
    store: &Store,
    assembled: &[(&[String], Assembled)],
    options: &ExportOptions<'_>,
    destination: &Destination,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    let path = match destination {
        Destination::Path(path) => path.clone(),
        Destination::Stdout => PathBuf::from("-"),
    };
    output::write(destination, &mut |output| {
        let mut archive = Archive::new(output, &path, options.write.epoch);
        write_archive(store, assembled, options.format, &mut archive, progress)
    })
}

fn write_archive(
    store: &Store,
    sets: &[(&[String], Assembled)],
    format: Format,
    archive: &mut Archive<'_, Output>,
    progress: &dyn Progress,
) -> Result<(), ExportError> {
    archive.directory("blobs/")?;
    archive.directory("blobs/sha256/")?;
    archive.small("oci-layout", LAYOUT)?;
    let mut index = Index::empty();
    for (names, one) in sets {
        index.manifests.extend(named(&one.root, names));
    }
    archive.small("index.json", &json(&index))?;
    if format == Format::DockerArchive {
        archive.small("manifest.json", &docker_manifest(sets))?;
    }
    let mut written = HashSet::new();
    for (_, one) in sets {
        for (digest, bytes) in &one.small {
            if written.insert(*digest) {
                archive.small(&blob_name(*digest), bytes)?;
            }
        }
        for blob in &one.layers {
            if !written.insert(blob.digest) {
                continue;
            }
            let file = store.blobs().open(blob.digest)?;
            let what = blob.digest.short();
            let mut reported = 0;
            let mut told = |copied: u64| {
                if copied >= reported + REPORT || copied == blob.size {
                    reported = copied;
                    progress.update(&what, copied, Some(blob.size));
                }
            };
            archive.file(&blob_name(blob.digest), blob.size, &file, &mut told)?;
        }
    }
    archive.finish()
}

/// A descriptor for each name of an image; one without a name if it has none.
pub(crate) fn named(descriptor: &Descriptor, names: &[String]) -> Vec<Descriptor> {
    if names.is_empty() {
        return vec![descriptor.clone()];
    }
    names
        .iter()
        .map(|name| {
            let mut named = descriptor.clone();
            named
                .annotations
                .insert(NAME_ANNOTATION.to_owned(), name.clone());
            let tag = Reference::parse(name)
                .ok()
                .and_then(|reference| reference.tag)
                .unwrap_or_else(|| "latest".to_owned());
            named.annotations.insert(REF_ANNOTATION.to_owned(), tag);
            named
        })
        .collect()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

fn docker_manifest(sets: &[(&[String], Assembled)]) -> Vec<u8> {
    let entry = |names: &[String], config: Digest, layers: &[StoredBlob]| DockerEntry {
        config: blob_name(config),
        // Docker takes names with a tag only.
        repo_tags: names
            .iter()
            .filter_map(|name| Reference::parse(name).ok())
            .filter(|reference| reference.digest.is_none())
            .map(|reference| reference.familiar())
            .collect(),
        layers: layers.iter().map(|blob| blob_name(blob.digest)).collect(),
    };
    let entries: Vec<DockerEntry> = sets
        .iter()
        .flat_map(|(names, one)| {
            let images = one.images.iter();
            images.map(|(config, layers)| entry(names, *config, layers))
        })
        .collect();
    json(&entries)
}

pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("string keys and plain values always serialise")
}

pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A tar whose bytes depend on nothing but its content.
pub(crate) struct Archive<'a, W: ?Sized> {
    output: &'a mut W,
    path: &'a Path,
    mtime: Option<u64>,
}

impl<'a, W: Write + ?Sized> Archive<'a, W> {
    /// An archive that is written to `output`, which errors call `path`.
    pub(crate) fn new(output: &'a mut W, path: &'a Path, epoch: Option<i64>) -> Self {
        Self {
            output,
            path,
            mtime: epoch.and_then(|epoch| u64::try_from(epoch).ok()),
        }
    }

    fn header(&mut self, name: &str, kind: EntryType, size: u64) -> Result<(), ExportError> {
        let mut header = Header::new_ustar();
        header
            .set_path(name)
            .map_err(|source| failed("name an entry of", self.path, source))?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.mtime.unwrap_or(0));
        // Beyond 8 GiB in base 256, as GNU and Go write and read it.
        header.set_size(size);
        header.set_cksum();
        self.bytes(header.as_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.output
            .write_all(bytes)
            .map_err(|source| failed("write", self.path, source))
    }

    pub(crate) fn directory(&mut self, name: &str) -> Result<(), ExportError> {
        self.header(name, EntryType::Directory, 0)
    }

    pub(crate) fn small(&mut self, name: &str, content: &[u8]) -> Result<(), ExportError> {
        self.header(name, EntryType::Regular, content.len() as u64)?;
        self.bytes(content)?;
        self.padding(content.len() as u64)
    }

    /// A file whose `size` bytes are written by `content`.
    pub(crate) fn entry(
        &mut self,
        name: &str,
        size: u64,
        content: &mut dyn FnMut(&mut dyn Write) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        self.header(name, EntryType::Regular, size)?;
        let mut exact = Exact {
            inner: self.output,
            left: size,
        };
        content(&mut exact)?;
        if exact.left != 0 {
            return Err(self.short(name));
        }
        self.padding(size)
    }

    fn short(&self, name: &str) -> ExportError {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, format!("`{name}` is short"));
        failed("write", self.path, source)
    }

    /// What comes behind `size` bytes of content.
    fn padding(&mut self, size: u64) -> Result<(), ExportError> {
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.bytes(&[0; 512][..padding])
    }

    pub(crate) fn finish(&mut self) -> Result<(), ExportError> {
        self.bytes(&[0; 1024])
    }
}

impl Archive<'_, Output> {
    /// A file with the first `size` bytes of another one, of which it tells how many there are so far.
    fn file(
        &mut self,
        name: &str,
        size: u64,
        content: &File,
        told: &mut dyn FnMut(u64),
    ) -> Result<(), ExportError> {
        self.header(name, EntryType::Regular, size)?;
        let copied = self
            .output
            .append(content, size, told)
            .map_err(|source| failed("write", self.path, source))?;
        if copied != size {
            return Err(self.short(name));
        }
        self.padding(size)
    }
}

/// Takes so many bytes and no more.
struct Exact<'a, W: ?Sized> {
    inner: &'a mut W,
    left: u64,
}

impl<W: Write + ?Sized> Write for Exact<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("it is longer than it was said to be"));
        }
        let count = self.inner.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
