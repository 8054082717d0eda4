//! zstd:chunked: frames, and behind them frames that readers skip: the table of contents, what puts
//! the archive together again (tar-split), and a footer that says where both are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use serde::Serialize;

use super::is_zero;
use super::pieces::{Form, Pieces, compress as compress_piece};
use super::walk::{Entry, Observer, base64, walk};
use crate::Digest;
use crate::diff::ArchiveEntry;

const MAGIC: [u8; 8] = *b"GNUlInUx";
/// A frame that readers skip (RFC 8878, section 3.1.2).
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
const FOOTER: usize = 64;
/// The one kind of table that there is.
const KIND: u64 = 1;
const PREFIX: &str = "io.github.containers.zstd-chunked.";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Table<'a> {
    version: u32,
    entries: Vec<TableEntry<'a>>,
    tar_split_digest: String,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct TableEntry<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

/// Writes down what the archive has besides files' content: lines of JSON, as tar-split has them.
#[derive(Default)]
struct TarSplit {
    lines: Vec<u8>,
    position: u64,
    sum: Option<Crc64>,
}

impl TarSplit {
    fn push(&mut self, line: &str) {
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
        self.position += 1;
    }
}

impl Observer for TarSplit {
    fn between(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let line = format!(
                r#"{{"type":2,"payload":"{}","position":{}}}"#,
                base64(bytes),
                self.position
            );
            self.push(&line);
        }
    }

    fn begin(&mut self) {
        self.sum = None;
    }

    fn content(&mut self, bytes: &[u8]) {
        self.sum.get_or_insert_default().update(bytes);
    }

    fn end(&mut self, header: &ArchiveEntry) {
        let name = match std::str::from_utf8(&header.name) {
            Ok(name) => {
                let quoted =
                    serde_json::to_string(name).expect("a string always has a form in JSON");
                format!(r#""name":{quoted}"#)
            }
            Err(_) => format!(r#""name_raw":"{}""#, base64(&header.name)),
        };
        let size = match header.size {
            0 => String::new(),
            size => format!(r#","size":{size}"#),
        };
        let sum = match self.sum.take() {
            Some(sum) => format!(r#""{}""#, base64(&sum.finish())),
            None => "null".to_owned(),
        };
        let position = self.position;
        self.push(&format!(
            r#"{{"type":1,{name}{size},"payload":{sum},"position":{position}}}"#
        ));
    }
}

/// CRC-64 with ISO 3309's polynomial, as Go's `crc64.ISO`.
struct Crc64(u64);

impl Default for Crc64 {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

const CRC_TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ 0xd800_0000_0000_0000
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

impl Crc64 {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let index = usize::from(self.0.to_le_bytes()[0] ^ byte);
            self.0 = CRC_TABLE[index] ^ self.0 >> 8;
        }
    }

    fn finish(&self) -> [u8; 8] {
        (!self.0).to_be_bytes()
    }
}

pub(super) fn compress(
    level: i32,
    input: &mut dyn Read,
    output: &mut (dyn Write + Send),
) -> io::Result<Digest> {
    let form = Form::Zstd(level);
    let mut pieces = Pieces::new(form, output)?;
    let mut split = TarSplit::default();
    let entries = walk(input, &mut pieces, &mut split, true)?;
    let offsets = pieces.flush()?;
    let packed_split = compress_piece(form, &split.lines)?;
    let mut table = Table {
        version: 1,
        entries: Vec::with_capacity(entries.len()),
        tar_split_digest: Digest::of(&packed_split).to_string(),
    };
    for entry in &entries {
        push(&mut table.entries, entry, &offsets);
    }
    let json = serde_json::to_vec(&table).map_err(io::Error::other)?;
    let packed = compress_piece(form, &json)?;
    let start = offsets.last().copied().unwrap_or(0) + 8;
    let split_start = start + packed.len() as u64 + 8;
    let mut footer = Vec::with_capacity(FOOTER);
    for number in [
        start,
        packed.len() as u64,
        json.len() as u64,
        KIND,
        split_start,
        packed_split.len() as u64,
        split.lines.len() as u64,
    ] {
        footer.extend_from_slice(&number.to_le_bytes());
    }
    footer.extend_from_slice(&MAGIC);
    for content in [&packed, &packed_split, &footer] {
        let length = u32::try_from(content.len()).map_err(|_| {
            io::Error::other("a table of contents of more than 4 GiB has no place in a frame")
        })?;
        pieces.raw(&SKIPPABLE)?;
        pieces.raw(&length.to_le_bytes())?;
        pieces.raw(content)?;
    }
    pieces.finish()
}

fn push<'a>(table: &mut Vec<TableEntry<'a>>, entry: &'a Entry, offsets: &[u64]) {
    let header = &entry.header;
    let several = entry.chunks.len() > 1;
    let mut first = TableEntry {
        kind: entry.kind(),
        name: entry.name(),
        link_name: entry.link(),
        mode: u64::from(header.mode),
        size: header.size,
        uid: u64::from(header.uid),
        gid: u64::from(header.gid),
        mtime: entry.mtime(),
        dev_major: u64::from(header.device.0),
        dev_minor: u64::from(header.device.1),
        xattrs: entry.xattrs(),
        digest: entry.digest.map(|digest| digest.to_string()),
        ..TableEntry::default()
    };
    let mut chunks = entry.chunks.iter().map(|chunk| TableEntry {
        kind: "chunk",
        name: entry.name(),
        offset: offsets[chunk.piece],
        chunk_offset: chunk.offset,
        chunk_size: chunk.size,
        chunk_digest: Some(chunk.digest.to_string()),
        ..TableEntry::default()
    });
    if let Some(chunk) = chunks.next() {
        first.offset = chunk.offset;
        first.end_offset = offsets[entry.end];
        if several {
            first.chunk_size = chunk.chunk_size;
            first.chunk_digest = chunk.chunk_digest;
        }
    }
    table.push(first);
    table.extend(chunks);
}

pub(super) fn annotations(file: &mut File) -> io::Result<Option<BTreeMap<String, String>>> {
    let Some((tail, _)) = super::tail::<{ FOOTER + 8 }>(file)? else {
        return Ok(None);
    };
    let footer = &tail[8..];
    if tail[..4] != SKIPPABLE || footer[56..] != MAGIC {
        return Ok(None);
    }
    let number = |index: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&footer[8 * index..8 * index + 8]);
        u64::from_le_bytes(bytes)
    };
    let (start, length, plain) = (number(0), number(1), number(2));
    let Some(table) = super::part(file, start, length)? else {
        return Ok(None);
    };
    let name = |name: &str| format!("{PREFIX}{name}");
    Ok(Some(BTreeMap::from([
        (name("manifest-checksum"), Digest::of(&table).to_string()),
        (
            name("manifest-position"),
            format!("{start}:{length}:{plain}:{}", number(3)),
        ),
        (
            name("tarsplit-position"),
            format!("{}:{}:{}", number(4), number(5), number(6)),
        ),
    ])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_iso_3309() {
        let sum = |text: &str| {
            let mut crc = Crc64::default();
            crc.update(text.as_bytes());
            u64::from_be_bytes(crc.finish())
        };
        // The catalogue's check value of CRC-64/GO-ISO.
        assert_eq!(sum("123456789"), 0xb909_56c7_75a4_1001);
        assert_eq!(sum(""), 0);
    }
}
