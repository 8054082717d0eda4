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
use crate::stream::REPORT;
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

/// Bytes of a header; content is filled up to a multiple of it.
const BLOCK: u64 = 512;

/// Where the content of a large file begins in an archive: at a multiple of this. Then the kernel copies whole
/// pages, and file systems that can share blocks between files do.
const ALIGNMENT: u64 = 4096;

/// Smaller files are not worth it.
const ALIGNED: u64 = 1 << 20;

/// A tar whose bytes depend on nothing but its content.
pub(crate) struct Archive<'a, W: ?Sized> {
    output: &'a mut W,
    /// Bytes that were written.
    position: u64,
    path: &'a Path,
    mtime: Option<u64>,
}

impl<'a, W: Write + ?Sized> Archive<'a, W> {
    /// An archive that is written to `output`, which errors call `path`.
    pub(crate) fn new(output: &'a mut W, path: &'a Path, epoch: Option<i64>) -> Self {
        Self {
            output,
            position: 0,
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
        self.position += bytes.len() as u64;
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
        self.position += size;
        self.padding(size)
    }

    fn short(&self, name: &str) -> ExportError {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, format!("`{name}` is short"));
        failed("write", self.path, source)
    }

    /// What comes behind `size` bytes of content.
    fn padding(&mut self, size: u64) -> Result<(), ExportError> {
        let padding = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
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
        if size >= ALIGNED {
            self.align(name)?;
        }
        self.header(name, EntryType::Regular, size)?;
        let copied = self
            .output
            .append(content, size, told)
            .map_err(|source| failed("write", self.path, source))?;
        if copied != size {
            return Err(self.short(name));
        }
        self.position += size;
        self.padding(size)
    }

    /// Sees to it that behind one more header is a multiple of [`ALIGNMENT`], with an extended header that holds
    /// nothing but a comment of blanks.
    fn align(&mut self, name: &str) -> Result<(), ExportError> {
        let behind = |headers: u64| (self.position + headers * BLOCK) % ALIGNMENT;
        if behind(1) == 0 {
            return Ok(());
        }
        // At least a block, as there is a comment.
        let size = ALIGNMENT - behind(2);
        let mut comment = format!("{size} comment=").into_bytes();
        comment.resize(usize::try_from(size - 1).unwrap_or_default(), b' ');
        comment.push(b'\n');
        let name = name.rsplit('/').next().unwrap_or(name);
        self.header(&format!("PaxHeaders.0/{name}"), EntryType::XHeader, size)?;
        self.bytes(&comment)
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn large_files_begin_at_a_multiple_of_a_page_wherever_they_come() {
        let sizes: Vec<u64> = (0..9).map(|n| ALIGNED - 1 + n * 513).collect();
        let content: Vec<u8> = (0..ALIGNED + 8192).map(|n| (n % 251) as u8).collect();
        let mut source = tempfile::tempfile().unwrap();
        source.write_all(&content).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.tar");
        output::write(&Destination::Path(path.clone()), &mut |output| {
            let mut archive = Archive::new(output, &path, None);
            archive.directory("blobs/")?;
            for (number, size) in sizes.iter().enumerate() {
                archive.small(&format!("small{number}"), &[1; 700])?;
                source.rewind().unwrap();
                archive.file(&format!("blobs/{number}"), *size, &source, &mut |_| {})?;
            }
            archive.finish()
        })
        .unwrap();
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            assert!(!name.starts_with("PaxHeaders"), "{name}");
            if entry.size() >= ALIGNED {
                assert_eq!(entry.raw_file_position() % ALIGNMENT, 0, "{name}");
            }
            if name.starts_with("blobs/") && entry.size() > 0 {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                assert!(content.starts_with(&bytes), "{name}");
                found.push(entry.size());
            }
        }
        assert_eq!(found, sizes);
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.tar");
        let source = tempfile::tempfile().unwrap();
        source.set_len(10).unwrap();
        let failure = output::write(&Destination::Path(path.clone()), &mut |output| {
            Archive::new(output, &path, None).file("blobs/it", 11, &source, &mut |_| {})
        });
        let text = format!("{:?}", failure.unwrap_err());
        assert!(text.contains("`blobs/it` is short"), "{text}");
        assert!(!path.exists());
    }
}
