//! An archive cut into pieces at its files, with what a table of contents says of each entry.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;

use base64::Engine as _;

use super::CHUNK;
use super::pieces::Pieces;
use crate::diff::{ArchiveEntry, ArchiveReader, DiffError, EntryType, Limits};
use crate::{Digest, Hasher};

/// As much padding as an archive may have at its end: it is held in memory.
const MAX_RAW: usize = 64 << 20;

/// A part of a file's content, in a piece of its own.
pub(super) struct Chunk {
    pub(super) piece: usize,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// An entry of the archive.
pub(super) struct Entry {
    pub(super) header: ArchiveEntry,
    /// Of the content, if there is any.
    pub(super) digest: Option<Digest>,
    pub(super) chunks: Vec<Chunk>,
    /// The piece behind the last chunk.
    pub(super) end: usize,
}

impl Entry {
    /// The type's name in both kinds of tables.
    pub(super) fn kind(&self) -> &'static str {
        match self.header.kind {
            EntryType::File => "reg",
            EntryType::HardLink => "hardlink",
            EntryType::Symlink => "symlink",
            EntryType::CharDevice => "char",
            EntryType::BlockDevice => "block",
            EntryType::Directory => "dir",
            EntryType::Fifo => "fifo",
        }
    }

    pub(super) fn name(&self) -> String {
        text(&self.header.name)
    }

    pub(super) fn link(&self) -> String {
        text(&self.header.link)
    }

    /// The time in whole seconds, unless it is the beginning of time.
    pub(super) fn mtime(&self) -> Option<String> {
        let (seconds, _) = self.header.mtime;
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        (seconds != 0).then(|| time.to_string())
    }

    pub(super) fn xattrs(&self) -> BTreeMap<String, String> {
        let xattrs = self.header.xattrs.iter();
        xattrs
            .map(|(name, value)| (text(name), base64(value)))
            .collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Told everything that is read, in the order of the archive.
pub(super) trait Observer {
    /// Whether an entry is left out, with its content.
    fn skips(&self, _entry: &ArchiveEntry) -> bool {
        false
    }

    /// Bytes of headers and padding.
    fn between(&mut self, _bytes: &[u8]) {}

    /// An entry begins.
    fn begin(&mut self) {}

    /// Content of the current entry.
    fn content(&mut self, _bytes: &[u8]) {}

    /// The entry is over.
    fn end(&mut self, _header: &ArchiveEntry) {}
}

/// Remembers what was read through it.
struct Recorder<'a> {
    inner: &'a mut dyn Read,
    raw: Rc<RefCell<Vec<u8>>>,
}

impl Read for Recorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut raw = self.raw.borrow_mut();
        if raw.len() + count > MAX_RAW {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the archive's padding is too large for a table of contents",
            ));
        }
        raw.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// Puts the archive into `pieces`, and answers its entries. With `with_end` its closing blocks, too.
pub(super) fn walk(
    input: &mut dyn Read,
    pieces: &mut Pieces<'_>,
    observer: &mut dyn Observer,
    with_end: bool,
) -> io::Result<Vec<Entry>> {
    let raw = Rc::new(RefCell::new(Vec::new()));
    let mut recorder = Recorder {
        inner: input,
        raw: Rc::clone(&raw),
    };
    let limits = Limits {
        entries: u64::MAX,
        bytes: u64::MAX,
    };
    let mut reader = ArchiveReader::new(&mut recorder, limits);
    let mut entries = Vec::new();
    let mut buffer = vec![0; CHUNK];
    // Padding of the last entry, which comes with the next header; and whether it is left out.
    let mut padding = 0;
    let mut skipped = false;
    while let Some(header) = reader.next().map_err(malformed)? {
        let between = raw.take();
        let (before, own) = between.split_at(padding.min(between.len()));
        let skips = observer.skips(&header);
        for (bytes, left_out) in [(before, skipped), (own, skips)] {
            if !left_out {
                pieces.write(bytes)?;
                observer.between(bytes);
            }
        }
        skipped = skips;
        let size = header.size;
        padding = usize::try_from(size.wrapping_neg() % 512).unwrap_or(0);
        if !skips {
            observer.begin();
        }
        let mut entry = Entry {
            header,
            digest: None,
            chunks: Vec::new(),
            end: 0,
        };
        let mut whole = Hasher::default();
        let mut offset = 0;
        while offset < size {
            let filled = fill(&mut reader, &mut buffer)?;
            raw.borrow_mut().clear();
            let bytes = &buffer[..filled];
            if filled == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !skips {
                let piece = pieces.cut()?;
                pieces.write(bytes)?;
                whole.update(bytes);
                observer.content(bytes);
                entry.chunks.push(Chunk {
                    piece,
                    offset,
                    size: filled as u64,
                    digest: Digest::of(bytes),
                });
            }
            offset += filled as u64;
        }
        if skips {
            continue;
        }
        if size > 0 {
            entry.digest = Some(whole.finish());
            entry.end = pieces.cut()?;
        }
        observer.end(&entry.header);
        entries.push(entry);
    }
    let rest = raw.take();
    let (before, end) = rest.split_at(padding.min(rest.len()));
    for (bytes, left_out) in [(before, skipped), (end, !with_end)] {
        if !left_out {
            pieces.write(bytes)?;
            observer.between(bytes);
        }
    }
    Ok(entries)
}

fn fill(reader: &mut ArchiveReader<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]).map_err(malformed)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

fn malformed(error: DiffError) -> io::Error {
    match error {
        DiffError::Stream(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
