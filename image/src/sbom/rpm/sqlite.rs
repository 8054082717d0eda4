//! As much of the `SQLite` file format (<https://www.sqlite.org/fileformat2.html>) as it takes to read
//! the blobs of one table, with the log that lies beside it.
//!
//! Every page is asked for at most once: a file whose pages point in a circle comes to an end.

use std::collections::HashMap;

use super::{Broken, MAX_HEADER, Take};
use crate::sbom::elf::number;
use crate::sbom::file::Parts;

const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER: u64 = 100;
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// A tree is not deeper: each level has at least two children.
const MAX_DEPTH: usize = 40;

/// Hands each blob of the table `Packages` to `take`.
pub(super) fn read(file: &Parts, log: Option<&Parts>, take: Take<'_>) -> Result<(), Broken> {
    let header = file
        .at(0, HEADER)
        .filter(|header| header.starts_with(MAGIC))
        .ok_or(Broken("is no SQLite database"))?;
    let page_size = match number(&header, 16, 2, true) {
        Some(1) => 65536,
        Some(size) if size.is_power_of_two() && size >= 512 => size,
        _ => return Err(Broken("is a damaged SQLite database")),
    };
    let mut database = Database {
        file,
        log,
        frames: HashMap::new(),
        page_size,
        usable: page_size - u64::from(header[20]),
        left: 0,
    };
    if let Some(log) = log {
        database.frames = frames(log, page_size);
    }
    let pages = file.size / page_size + database.frames.len() as u64;
    // The schema's pages, the table's, and a few for both.
    database.left = pages.saturating_mul(2) + 16;
    if database.usable < 480 {
        return Err(Broken("is a damaged SQLite database"));
    }
    let mut root = None;
    database.walk(1, 0, &mut |database, payload| {
        let record = database.payload(payload)?;
        let values = record_of(&record).ok_or(DAMAGED)?;
        if let [
            Value::Bytes(kind),
            Value::Bytes(name),
            _,
            Value::Number(page),
            ..,
        ] = values[..]
            && kind == b"table"
            && name == b"Packages"
        {
            root = Some(page);
        }
        Ok(())
    })?;
    let root = root.ok_or(Broken("has no table of packages"))?;
    database.walk(root, 0, &mut |database, payload| {
        let record = database.payload(payload)?;
        let values = record_of(&record).ok_or(DAMAGED)?;
        match values[..] {
            [_, Value::Bytes(blob), ..] => take(blob),
            _ => return Err(DAMAGED),
        }
        Ok(())
    })
}

const DAMAGED: Broken = Broken("is damaged: not all of its packages are listed");

/// Where the pages are that the log has newer versions of: in its last whole transaction.
fn frames(log: &Parts, page_size: u64) -> HashMap<u64, u64> {
    let (mut whole, mut open) = (HashMap::new(), HashMap::new());
    let Some(header) = log.at(0, LOG_HEADER) else {
        return whole;
    };
    let magic = number(&header, 0, 4, true);
    let same_size = number(&header, 8, 4, true) == Some(page_size);
    if !matches!(magic, Some(0x377f_0682 | 0x377f_0683)) || !same_size {
        return whole;
    }
    let mut offset = LOG_HEADER;
    while let Some(frame) = log.at(offset, FRAME_HEADER) {
        // Frames of an older log are still behind those of this one.
        if frame[8..16] != header[16..24] {
            break;
        }
        let (Some(page), Some(committed)) =
            (number(&frame, 0, 4, true), number(&frame, 4, 4, true))
        else {
            break;
        };
        let content = offset + FRAME_HEADER;
        offset = content + page_size;
        if offset > log.size {
            break;
        }
        open.insert(page, content);
        if committed != 0 {
            whole.extend(open.drain());
        }
    }
    whole
}

struct Database<'a> {
    file: &'a Parts,
    log: Option<&'a Parts>,
    /// Pages of the log: where each is.
    frames: HashMap<u64, u64>,
    page_size: u64,
    /// Bytes of a page that hold content.
    usable: u64,
    /// Pages that may still be read.
    left: u64,
}

/// Where a row's content is: what of it is in its page, how long it is, and where it goes on.
struct Payload {
    local: Vec<u8>,
    length: u64,
    overflow: u64,
}

impl Database<'_> {
    fn page(&mut self, page: u64) -> Result<Vec<u8>, Broken> {
        self.left = self.left.checked_sub(1).ok_or(DAMAGED)?;
        let content = match (self.frames.get(&page), self.log) {
            (Some(offset), Some(log)) => log.at(*offset, self.page_size),
            _ => page
                .checked_sub(1)
                .and_then(|before| before.checked_mul(self.page_size))
                .and_then(|offset| self.file.at(offset, self.page_size)),
        };
        content.ok_or(DAMAGED)
    }

    /// Calls `row` for each row of the tree at `page`.
    fn walk(
        &mut self,
        page: u64,
        depth: usize,
        row: &mut dyn FnMut(&mut Self, Payload) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        if depth > MAX_DEPTH {
            return Err(DAMAGED);
        }
        let content = self.page(page)?;
        // The first page begins with the file's header.
        let start = if page == 1 { 100 } else { 0 };
        let field =
            |at: usize, size: usize| number(&content, start + at, size, true).ok_or(DAMAGED);
        let leaf = match field(0, 1)? {
            0x0d => true,
            0x05 => false,
            _ => return Err(DAMAGED),
        };
        let cells = usize::try_from(field(3, 2)?).map_err(|_| DAMAGED)?;
        let pointers = start + if leaf { 8 } else { 12 };
        for cell in 0..cells {
            let at = number(&content, pointers + 2 * cell, 2, true).ok_or(DAMAGED)?;
            let at = usize::try_from(at).map_err(|_| DAMAGED)?;
            if leaf {
                let payload = self.cell(&content, at).ok_or(DAMAGED)?;
                row(self, payload)?;
            } else {
                let child = number(&content, at, 4, true).ok_or(DAMAGED)?;
                self.walk(child, depth + 1, row)?;
            }
        }
        if !leaf {
            self.walk(field(8, 4)?, depth + 1, row)?;
        }
        Ok(())
    }

    /// The cell of a leaf.
    fn cell(&self, page: &[u8], mut at: usize) -> Option<Payload> {
        let length = varint(page, &mut at)?;
        let _row = varint(page, &mut at)?;
        let local = self.local(length);
        let end = at.checked_add(usize::try_from(local).ok()?)?;
        Some(Payload {
            local: page.get(at..end)?.to_vec(),
            length,
            overflow: if local < length {
                number(page, end, 4, true)?
            } else {
                0
            },
        })
    }

    /// How much of a row's content is in its leaf.
    fn local(&self, length: u64) -> u64 {
        let most = self.usable - 35;
        if length <= most {
            return length;
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let wanted = least + (length - least) % (self.usable - 4);
        if wanted <= most { wanted } else { least }
    }

    /// The whole content of a row.
    fn payload(&mut self, payload: Payload) -> Result<Vec<u8>, Broken> {
        if payload.length > MAX_HEADER {
            return Err(DAMAGED);
        }
        let length = usize::try_from(payload.length).map_err(|_| DAMAGED)?;
        let (mut content, mut next) = (payload.local, payload.overflow);
        while content.len() < length {
            let page = self.page(next)?;
            next = number(&page, 0, 4, true).ok_or(DAMAGED)?;
            let more = usize::try_from(self.usable).map_err(|_| DAMAGED)?;
            let more = (more - 4).min(length - content.len());
            content.extend_from_slice(page.get(4..4 + more).ok_or(DAMAGED)?);
        }
        Ok(content)
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Number(u64),
    /// A text or a blob.
    Bytes(&'a [u8]),
    /// Nothing, or something that no table of ours has.
    Other,
}

/// The first values of a row.
fn record_of(record: &[u8]) -> Option<Vec<Value<'_>>> {
    let mut at = 0;
    let header = usize::try_from(varint(record, &mut at)?).ok()?;
    let mut values = Vec::new();
    let mut content = header;
    while at < header && values.len() < 8 {
        let kind = varint(record, &mut at)?;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            longer => usize::try_from((longer - 12) / 2).ok()?,
        };
        let end = content.checked_add(size)?;
        let bytes = record.get(content..end)?;
        content = end;
        values.push(match kind {
            1..=6 => Value::Number(number(bytes, 0, size, true)?),
            8 | 9 => Value::Number(kind - 8),
            0 | 7 => Value::Other,
            _ => Value::Bytes(bytes),
        });
    }
    Some(values)
}

/// A number of one to nine bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if index == 8 {
            return Some(value << 8 | u64::from(byte));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(value)
}
