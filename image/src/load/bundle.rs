//! Named files of one directory or archive, read when they are asked for.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use strata_cache::{Digest, Store, StoreError, codec};

use super::LoadError;
use crate::Progress;
use crate::archive::{ArchiveReader, EntryKind, resolve_link};
use crate::manifest::MAX_MANIFEST;
use crate::stream::Watched;
use crate::unpack::{Compression, read_start};

/// Files up to this size stay in memory until it is known what they are.
const SMALL: u64 = 1 << 20;
/// All of them together.
const SMALL_TOTAL: u64 = 64 << 20;
/// Files in an archive: an image has some hundreds.
const MAX_ENTRIES: usize = 1_000_000;
/// Links that are followed from one name.
const MAX_LINKS: u32 = 8;

/// Where a file of an archive went.
enum Content {
    Memory(Vec<u8>),
    /// A blob of the store, with its size.
    Blob(Digest, u64),
}

enum Kind {
    Directory(PathBuf),
    Archive {
        files: HashMap<String, Content>,
        links: HashMap<String, String>,
    },
}

/// A directory or archive with files in it.
pub(super) struct Bundle<'a> {
    store: &'a Store,
    path: PathBuf,
    progress: &'a dyn Progress,
    kind: Kind,
}

impl<'a> Bundle<'a> {
    /// Opens a directory, or reads an archive.
    pub(super) fn open(
        store: &'a Store,
        path: &Path,
        progress: &'a dyn Progress,
    ) -> Result<Self, LoadError> {
        let io_error = |source| LoadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io_error)?;
        let metadata = file.metadata().map_err(io_error)?;
        if metadata.is_dir() {
            return Ok(Self {
                store,
                path: path.to_owned(),
                progress,
                kind: Kind::Directory(path.to_owned()),
            });
        }
        if metadata.file_type().is_block_device() || metadata.file_type().is_char_device() {
            return Err(LoadError::Refused {
                path: path.to_owned(),
                reason: "it is a device".to_owned(),
            });
        }
        let total = metadata.is_file().then_some(metadata.len());
        Self::read_archive(store, path, &mut file, total, progress)
    }

    /// Reads an archive from a stream.
    pub(super) fn from_reader(
        store: &'a Store,
        path: &Path,
        reader: &mut (dyn Read + Send),
        progress: &'a dyn Progress,
    ) -> Result<Self, LoadError> {
        Self::read_archive(store, path, reader, None, progress)
    }

    fn read_archive(
        store: &'a Store,
        path: &Path,
        reader: &mut (dyn Read + Send),
        total: Option<u64>,
        progress: &'a dyn Progress,
    ) -> Result<Self, LoadError> {
        let what = path
            .file_name()
            .map_or_else(|| path.to_string_lossy(), std::ffi::OsStr::to_string_lossy);
        let watched = Watched::new(reader, &what, total, progress);
        let mut files = HashMap::new();
        let mut links = HashMap::new();
        read_files(store, watched, &mut files, &mut links).map_err(|error| match error {
            ReadError::Store(error) => LoadError::Store(error),
            ReadError::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                LoadError::Refused {
                    path: path.to_owned(),
                    reason: source.to_string(),
                }
            }
            ReadError::Io(source) => LoadError::Io {
                path: path.to_owned(),
                source,
            },
        })?;
        Ok(Self {
            store,
            path: path.to_owned(),
            progress,
            kind: Kind::Archive { files, links },
        })
    }

    /// A small file as a whole; none if it is not there.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let too_large = |size: u64| LoadError::Refused {
            path: self.path.clone(),
            reason: format!("`{name}` has {size} bytes: too many for a manifest or config"),
        };
        match &self.kind {
            Kind::Directory(root) => {
                let Some((file, size)) = open_in(root, name)? else {
                    return Ok(None);
                };
                if size > MAX_MANIFEST {
                    return Err(too_large(size));
                }
                let mut bytes = Vec::new();
                file.take(MAX_MANIFEST)
                    .read_to_end(&mut bytes)
                    .map_err(|source| LoadError::Io {
                        path: root.join(name),
                        source,
                    })?;
                Ok(Some(bytes))
            }
            Kind::Archive { files, links } => match find(files, links, name) {
                None => Ok(None),
                Some(Content::Memory(bytes)) => Ok(Some(bytes.clone())),
                Some(Content::Blob(_, size)) if *size > MAX_MANIFEST => Err(too_large(*size)),
                Some(Content::Blob(digest, _)) => Ok(Some(self.store.blobs().read(*digest)?)),
            },
        }
    }

    /// Sees to it that a file is a blob of the store; with `expected`, only if it has that digest.
    pub(super) fn store_blob(
        &mut self,
        name: &str,
        expected: Option<Digest>,
    ) -> Result<Option<(Digest, u64)>, LoadError> {
        let wrong = |found: Digest| LoadError::Refused {
            path: self.path.clone(),
            reason: format!("`{name}` is damaged: it is {found}"),
        };
        match &self.kind {
            Kind::Directory(root) => {
                let Some((file, size)) = open_in(root, name)? else {
                    return Ok(None);
                };
                let what = name.rsplit('/').next().unwrap_or(name);
                let what = what.get(..12).unwrap_or(what);
                let mut watched = Watched::new(file, what, Some(size), self.progress);
                let stored = store_stream(self.store, &mut watched, expected);
                match stored {
                    Ok(stored) => Ok(Some(stored)),
                    Err(ReadError::Store(StoreError::Corrupt { found, .. })) => Err(wrong(found)),
                    Err(ReadError::Store(error)) => Err(error.into()),
                    Err(ReadError::Io(source)) => Err(LoadError::Io {
                        path: root.join(name),
                        source,
                    }),
                }
            }
            Kind::Archive { files, links } => {
                let (digest, size) = match find(files, links, name) {
                    None => return Ok(None),
                    Some(Content::Blob(digest, size)) => (*digest, *size),
                    Some(Content::Memory(bytes)) => {
                        let digest = Digest::of(bytes);
                        if expected.is_none_or(|expected| expected == digest) {
                            self.store.blobs().put(bytes)?;
                        }
                        (digest, bytes.len() as u64)
                    }
                };
                if expected.is_some_and(|expected| expected != digest) {
                    return Err(wrong(digest));
                }
                Ok(Some((digest, size)))
            }
        }
    }
}

enum ReadError {
    Store(StoreError),
    Io(io::Error),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read_files(
    store: &Store,
    mut reader: impl Read + Send,
    files: &mut HashMap<String, Content>,
    links: &mut HashMap<String, String>,
) -> Result<(), ReadError> {
    let mut start = [0; Compression::LOOK];
    let count = read_start(&mut reader, &mut start)?;
    let start = start[..count].to_vec();
    let compression = Compression::of(&start);
    let whole = io::Cursor::new(start).chain(reader);
    let plain: Box<dyn Read + Send> = match compression {
        Compression::Xz | Compression::Bzip2 => {
            crate::import::decompress(compression, Box::new(whole))
        }
        _ => codec::decoder(Box::new(whole))?,
    };
    let mut archive = ArchiveReader::new(plain);
    let mut kept = 0;
    let mut entries = 0;
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many files").into());
        }
        match entry.kind {
            EntryKind::File => {
                let expected = entry
                    .name
                    .strip_prefix("blobs/sha256/")
                    .and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
                let content = if entry.size <= SMALL && kept + entry.size <= SMALL_TOTAL {
                    kept += entry.size;
                    let mut bytes = Vec::new();
                    archive.read_to_end(&mut bytes)?;
                    Content::Memory(bytes)
                } else {
                    match expected {
                        // There is nothing to gain from a second copy.
                        Some(digest) if store.blobs().size(digest)? == Some(entry.size) => {
                            Content::Blob(digest, entry.size)
                        }
                        expected => {
                            let (digest, size) = store_stream(store, &mut archive, expected)
                                .map_err(|error| match error {
                                    ReadError::Store(StoreError::Corrupt { found, .. }) => {
                                        let text =
                                            format!("`{}` is damaged: it is {found}", entry.name);
                                        io::Error::new(io::ErrorKind::InvalidData, text).into()
                                    }
                                    other => other,
                                })?;
                            Content::Blob(digest, size)
                        }
                    }
                };
                files.insert(entry.name, content);
            }
            EntryKind::HardLink(target) => {
                links.insert(entry.name, target);
            }
            EntryKind::Symlink(target) => {
                if let Some(target) = resolve_link(&entry.name, &target) {
                    links.insert(entry.name, target);
                }
            }
            EntryKind::Directory | EntryKind::Other => {}
        }
    }
    // Whoever writes into a pipe wants to get rid of the padding, too. What it is does not matter.
    drop(io::copy(&mut archive.into_inner(), &mut io::sink()));
    Ok(())
}

fn store_stream(
    store: &Store,
    reader: &mut dyn Read,
    expected: Option<Digest>,
) -> Result<(Digest, u64), ReadError> {
    let mut writer = store.blobs().writer()?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        io::Write::write_all(&mut writer, &buffer[..count]).map_err(|source| StoreError::Io {
            action: "write",
            path: store.root().join("blobs"),
            source,
        })?;
    }
    Ok(writer.commit(expected)?)
}

fn find<'f>(
    files: &'f HashMap<String, Content>,
    links: &HashMap<String, String>,
    name: &str,
) -> Option<&'f Content> {
    let mut name = name.trim_start_matches("./");
    for _ in 0..MAX_LINKS {
        if let Some(content) = files.get(name) {
            return Some(content);
        }
        name = links.get(name)?;
    }
    None
}

/// Opens a file below `root`; symbolic links lead nowhere else. None if it is not there.
fn open_in(root: &Path, name: &str) -> Result<Option<(File, u64)>, LoadError> {
    let io_error = |source: io::Error| LoadError::Io {
        path: root.join(name),
        source,
    };
    let directory = rustix::fs::openat(
        CWD,
        root,
        OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| io_error(error.into()))?;
    // NONBLOCK: a pipe that nobody writes to must not stop us.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = loop {
        let result = rustix::fs::openat2(
            &directory,
            name,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        match result {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    let file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(io_error(error.into())),
    };
    let metadata = file.metadata().map_err(io_error)?;
    if !metadata.is_file() {
        return Err(LoadError::Refused {
            path: root.to_owned(),
            reason: format!("`{name}` is not a regular file"),
        });
    }
    Ok(Some((file, metadata.len())))
}
