//! rpm's own database: pages of slots, each with the place of a header in blocks of 16 bytes.

use super::{Broken, MAX_HEADER, Take};
use crate::sbom::elf::number;
use crate::sbom::file::Parts;

const HEADER: u64 = 32;
const SLOT: usize = 16;
const PAGE: u64 = 4096;
const BLOCK: u64 = 16;

/// More slots than any system has packages.
const MAX_PAGES: u64 = 4096;

pub(super) fn read(file: &Parts, take: Take<'_>) -> Result<(), Broken> {
    const DAMAGED: Broken = Broken("is damaged: not all of its packages are listed");
    let header = file
        .at(0, HEADER)
        .filter(|header| header.starts_with(b"RpmP"))
        .ok_or(Broken("is no database of packages"))?;
    let pages = number(&header, 12, 4, false).filter(|pages| (1..=MAX_PAGES).contains(pages));
    let slots = pages.and_then(|pages| file.at(HEADER, pages * PAGE - HEADER));
    for slot in slots.ok_or(DAMAGED)?.chunks_exact(SLOT) {
        if !slot.starts_with(b"Slot") {
            return Err(DAMAGED);
        }
        let field = |at| number(slot, at, 4, false).unwrap_or_default();
        let (package, block) = (field(4), field(8));
        if package == 0 {
            continue;
        }
        let blob = file.at(block * BLOCK, BLOCK).ok_or(DAMAGED)?;
        let length = number(&blob, 12, 4, false).unwrap_or_default();
        let same = blob.starts_with(b"BlbS") && number(&blob, 4, 4, false) == Some(package);
        if !same || length > MAX_HEADER {
            return Err(DAMAGED);
        }
        let content = file.at(block * BLOCK + BLOCK, length).ok_or(DAMAGED)?;
        take(&content);
    }
    Ok(())
}
