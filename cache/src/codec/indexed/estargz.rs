//! estargz: gzip members, a table of contents as the archive's last entry, a footer that says where.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use serde::Serialize;

use super::is_zero;
use super::pieces::{Form, Pieces};
use super::walk::{Entry, Observer, walk};
use crate::Digest;
use crate::diff::ArchiveEntry;

/// The entry that is the table.
const TABLE: &str = "stargz.index.json";
/// A file behind which nothing is to be fetched beforehand: here, nothing at all.
const LANDMARK: &str = ".no.prefetch.landmark";
/// Names that mean something to readers, and are made anew.
const RESERVED: [&str; 3] = [TABLE, LANDMARK, ".prefetch.landmark"];
const LANDMARK_CONTENT: [u8; 1] = [0xf];
/// Its length: a gzip member without content, with the table's offset in an extra field.
const FOOTER: usize = 51;
const ANNOTATION: &str = "containerd.io/snapshot/stargz/toc.digest";

#[derive(Serialize)]
struct Table<'a> {
    version: u32,
    entries: Vec<TableEntry<'a>>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct TableEntry<'a> {
    name: String,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

/// Leaves out what readers of the form take for theirs.
struct Reserved;

impl Observer for Reserved {
    fn skips(&self, entry: &ArchiveEntry) -> bool {
        RESERVED.iter().any(|name| entry.name == name.as_bytes())
    }
}

pub(super) fn compress(
    level: u32,
    input: &mut dyn Read,
    output: &mut (dyn Write + Send),
) -> io::Result<Digest> {
    let mut pieces = Pieces::new(Form::Gzip(level), output)?;
    pieces.write(&header(LANDMARK, LANDMARK_CONTENT.len() as u64))?;
    let landmark = pieces.cut()?;
    pieces.write(&LANDMARK_CONTENT)?;
    pieces.cut()?;
    pieces.write(&[0; 512 - LANDMARK_CONTENT.len()])?;
    let entries = walk(input, &mut pieces, &mut Reserved, false)?;
    let offsets = pieces.flush()?;
    let digest = Digest::of(&LANDMARK_CONTENT).to_string();
    let mut table = Table {
        version: 1,
        entries: vec![TableEntry {
            name: LANDMARK.to_owned(),
            kind: "reg",
            size: 1,
            mode: 0o644,
            offset: offsets[landmark],
            digest: Some(digest.clone()),
            chunk_digest: Some(digest),
            ..TableEntry::default()
        }],
    };
    for entry in &entries {
        push(&mut table.entries, entry, &offsets);
    }
    let json = serde_json::to_vec(&table).map_err(io::Error::other)?;
    // In a member of its own, which the footer points at.
    let start = offsets.last().copied().unwrap_or(0);
    pieces.write(&header(TABLE, json.len() as u64))?;
    pieces.write(&json)?;
    pieces.write(&vec![
        0;
        json.len().next_multiple_of(512) - json.len() + 1024
    ])?;
    pieces.flush()?;
    pieces.raw(&footer(start))?;
    pieces.finish()
}

fn push<'a>(table: &mut Vec<TableEntry<'a>>, entry: &'a Entry, offsets: &[u64]) {
    let header = &entry.header;
    let several = entry.chunks.len() > 1;
    let mut first = TableEntry {
        name: entry.name(),
        kind: entry.kind(),
        size: header.size,
        mtime: entry.mtime(),
        link_name: entry.link(),
        mode: u64::from(header.mode),
        uid: u64::from(header.uid),
        gid: u64::from(header.gid),
        dev_major: u64::from(header.device.0),
        dev_minor: u64::from(header.device.1),
        xattrs: entry.xattrs(),
        digest: entry.digest.map(|digest| digest.to_string()),
        ..TableEntry::default()
    };
    let mut chunks = entry.chunks.iter().map(|chunk| TableEntry {
        name: entry.name(),
        kind: "chunk",
        offset: offsets[chunk.piece],
        chunk_offset: chunk.offset,
        chunk_size: if several { chunk.size } else { 0 },
        chunk_digest: Some(chunk.digest.to_string()),
        ..TableEntry::default()
    });
    if let Some(chunk) = chunks.next() {
        first.offset = chunk.offset;
        first.chunk_size = chunk.chunk_size;
        first.chunk_digest = chunk.chunk_digest;
    }
    table.push(first);
    table.extend(chunks);
}

/// The header of a file that belongs to the form.
fn header(name: &str, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
pub(super) fn test_header(name: &str, size: u64) -> [u8; 512] {
    header(name, size)
}

fn footer(table: u64) -> Vec<u8> {
    let mut footer = vec![
        0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 26, 0, b'S', b'G', 22, 0,
    ];
    footer.extend_from_slice(format!("{table:016x}STARGZ").as_bytes());
    // A stored block without content, its checksum and its size.
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    footer
}

pub(super) fn annotations(file: &mut File) -> io::Result<Option<BTreeMap<String, String>>> {
    let Some((tail, end)) = super::tail::<FOOTER>(file)? else {
        return Ok(None);
    };
    let number = std::str::from_utf8(&tail[16..32]).ok();
    let table = number.and_then(|text| u64::from_str_radix(text, 16).ok());
    let Some(table) = table.filter(|_| tail[..16] == footer(0)[..16] && &tail[32..38] == b"STARGZ")
    else {
        return Ok(None);
    };
    let Some(length) = end.checked_sub(table) else {
        return Ok(None);
    };
    let Some(member) = super::part(file, table, length)? else {
        return Ok(None);
    };
    let mut plain = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(&member[..]);
    if decoder
        .take(super::MAX_TABLE)
        .read_to_end(&mut plain)
        .is_err()
    {
        return Ok(None);
    }
    let mut input = &plain[..];
    let limits = crate::diff::Limits {
        entries: 1,
        bytes: super::MAX_TABLE,
    };
    let mut reader = crate::diff::ArchiveReader::new(&mut input, limits);
    let Ok(Some(entry)) = reader.next() else {
        return Ok(None);
    };
    let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
    if entry.name != TABLE.as_bytes() || plain.len() < 512 + size {
        return Ok(None);
    }
    let digest = Digest::of(&plain[512..512 + size]);
    let annotation = (ANNOTATION.to_owned(), digest.to_string());
    Ok(Some(BTreeMap::from([annotation])))
}
