//! A hash of Berkeley DB: pages with keys and values in turn, long values in pages of their own.

use super::{Broken, MAX_HEADER, Take};
use crate::sbom::elf::number;
use crate::sbom::file::Parts;

const MAGIC: u64 = 0x0006_1561;
const PAGE_HEADER: usize = 26;

/// Types of pages.
const HASH_UNSORTED: u64 = 2;
const OVERFLOW: u64 = 7;
const HASH: u64 = 13;

/// Types of entries.
const ON_PAGE: u8 = 1;
const OFF_PAGE: u8 = 3;

const DAMAGED: Broken = Broken("is damaged: not all of its packages are listed");

pub(super) fn read(file: &Parts, take: Take<'_>) -> Result<(), Broken> {
    let meta = file
        .at(0, 512)
        .ok_or(Broken("is no database of packages"))?;
    // Numbers are as the machine had them that made the file.
    let big = match number(&meta, 12, 4, false) {
        Some(MAGIC) => false,
        _ if number(&meta, 12, 4, true) == Some(MAGIC) => true,
        _ => return Err(Broken("is no hash of Berkeley DB")),
    };
    let page_size = number(&meta, 20, 4, big)
        .filter(|size| size.is_power_of_two() && (512..=65536).contains(size))
        .ok_or(DAMAGED)?;
    if meta[24] != 0 {
        return Err(Broken("is encrypted"));
    }
    let pages = file.size / page_size;
    let mut database = Database {
        file,
        big,
        page_size,
        left: pages.saturating_mul(2),
    };
    for number in 1..pages {
        let page = database.page(number)?;
        if matches!(database.field(&page, 25, 1)?, HASH_UNSORTED | HASH) {
            database.values(&page, take)?;
        }
    }
    Ok(())
}

struct Database<'a> {
    file: &'a Parts,
    big: bool,
    page_size: u64,
    /// Pages that may still be read: a chain that runs in a circle comes to an end.
    left: u64,
}

impl Database<'_> {
    fn page(&mut self, number: u64) -> Result<Vec<u8>, Broken> {
        self.left = self.left.checked_sub(1).ok_or(DAMAGED)?;
        number
            .checked_mul(self.page_size)
            .and_then(|offset| self.file.at(offset, self.page_size))
            .ok_or(DAMAGED)
    }

    fn field(&self, page: &[u8], at: usize, size: usize) -> Result<u64, Broken> {
        number(page, at, size, self.big).ok_or(DAMAGED)
    }

    /// The values of a page: every second entry.
    fn values(&mut self, page: &[u8], take: Take<'_>) -> Result<(), Broken> {
        let entries = usize::try_from(self.field(page, 20, 2)?).map_err(|_| DAMAGED)?;
        for entry in (1..entries).step_by(2) {
            let place = |entry: usize| -> Result<usize, Broken> {
                let at = self.field(page, PAGE_HEADER + 2 * entry, 2)?;
                usize::try_from(at).map_err(|_| DAMAGED)
            };
            let (at, end) = (place(entry)?, place(entry - 1)?);
            match page.get(at) {
                Some(&ON_PAGE) => {
                    // Entries grow from the page's end: one ends where the one before it begins.
                    let value = page.get(at + 1..end).ok_or(DAMAGED)?;
                    // The first value is the number of the last package.
                    if value.len() > 16 {
                        take(value);
                    }
                }
                Some(&OFF_PAGE) => {
                    let first = self.field(page, at + 4, 4)?;
                    let length = self.field(page, at + 8, 4)?;
                    let value = self.chain(first, length)?;
                    take(&value);
                }
                _ => return Err(DAMAGED),
            }
        }
        Ok(())
    }

    /// A value in pages of its own.
    fn chain(&mut self, mut next: u64, length: u64) -> Result<Vec<u8>, Broken> {
        if length > MAX_HEADER {
            return Err(DAMAGED);
        }
        let length = usize::try_from(length).map_err(|_| DAMAGED)?;
        let mut value = Vec::new();
        while value.len() < length {
            let page = self.page(next)?;
            if self.field(&page, 25, 1)? != OVERFLOW {
                return Err(DAMAGED);
            }
            let used = usize::try_from(self.field(&page, 22, 2)?).map_err(|_| DAMAGED)?;
            let end = PAGE_HEADER.checked_add(used).ok_or(DAMAGED)?;
            let content = page.get(PAGE_HEADER..end).filter(|part| !part.is_empty());
            value.extend_from_slice(content.ok_or(DAMAGED)?);
            next = self.field(&page, 16, 4)?;
        }
        value.truncate(length);
        Ok(value)
    }
}
