//! As much of ELF as it takes to find one section and what an address means.

use super::file::Parts;

/// Sections and segments that are looked at, at most. Real programs have some dozens.
const MAX_HEADERS: u64 = 1024;

/// Longest table of section names.
const MAX_NAMES: u64 = 1 << 20;

/// A program or library.
pub(super) struct Elf<'a> {
    file: &'a Parts,
    wide: bool,
    big: bool,
    segments: Vec<Segment>,
    sections: Vec<Section>,
}

struct Segment {
    loaded: bool,
    data: bool,
    address: u64,
    offset: u64,
    size: u64,
}

struct Section {
    name: u64,
    offset: u64,
    size: u64,
}

impl<'a> Elf<'a> {
    /// Reads the headers of a file that is ELF and whole.
    pub(super) fn open(file: &'a Parts) -> Option<Self> {
        let head = file.at(0, 64)?;
        if !head.starts_with(b"\x7fELF") {
            return None;
        }
        let mut elf = Self {
            file,
            wide: match head[4] {
                1 => false,
                2 => true,
                _ => return None,
            },
            big: match head[5] {
                1 => false,
                2 => true,
                _ => return None,
            },
            segments: Vec::new(),
            sections: Vec::new(),
        };
        // Where the tables are, how long their entries are, and how many there are.
        let tables = if elf.wide {
            [(0x20, 0x36, 0x38), (0x28, 0x3a, 0x3c)]
        } else {
            [(0x1c, 0x2a, 0x2c), (0x20, 0x2e, 0x30)]
        };
        let [segments, sections] = tables.map(|(offset, size, count)| {
            let offset = elf.word(&head, offset)?;
            let size = elf.number(&head, size, 2)?;
            let count = elf.number(&head, count, 2)?.min(MAX_HEADERS);
            let table = file.at(offset, size.checked_mul(count)?)?;
            Some((table, usize::try_from(size).ok()?))
        });
        if let Some((table, size)) = segments.filter(|(_, size)| *size > 0) {
            elf.segments = table
                .chunks_exact(size)
                .filter_map(|entry| elf.segment(entry))
                .collect();
        }
        if let Some((table, size)) = sections.filter(|(_, size)| *size > 0) {
            elf.sections = table
                .chunks_exact(size)
                .filter_map(|entry| elf.section_of(entry))
                .collect();
            elf.name_sections(&head);
        }
        Some(elf)
    }

    fn segment(&self, entry: &[u8]) -> Option<Segment> {
        let (flags, offset, address, size) = if self.wide {
            (0x04, 0x08, 0x10, 0x20)
        } else {
            (0x18, 0x04, 0x08, 0x10)
        };
        let flags = self.number(entry, flags, 4)?;
        Some(Segment {
            loaded: self.number(entry, 0, 4)? == 1,
            // Writable, and not executable.
            data: flags & 0b11 == 0b10,
            address: self.word(entry, address)?,
            offset: self.word(entry, offset)?,
            size: self.word(entry, size)?,
        })
    }

    fn section_of(&self, entry: &[u8]) -> Option<Section> {
        let (offset, size) = if self.wide {
            (0x18, 0x20)
        } else {
            (0x10, 0x14)
        };
        Some(Section {
            name: self.number(entry, 0, 4)?,
            offset: self.word(entry, offset)?,
            size: self.word(entry, size)?,
        })
    }

    /// Keeps only the section that Go's linker writes, found by its name.
    fn name_sections(&mut self, head: &[u8]) {
        let index = if self.wide { 0x3e } else { 0x32 };
        let names = self
            .number(head, index, 2)
            .and_then(|index| self.sections.get(usize::try_from(index).ok()?))
            .filter(|names| names.size <= MAX_NAMES)
            .and_then(|names| self.file.at(names.offset, names.size))
            .unwrap_or_default();
        self.sections.retain(|section| {
            let name = usize::try_from(section.name)
                .ok()
                .and_then(|start| names.get(start..));
            name.is_some_and(|name| name.starts_with(b".go.buildinfo\0"))
        });
    }

    /// Place and length of the section that Go's linker writes.
    pub(super) fn build_info(&self) -> Option<(u64, u64)> {
        self.sections
            .first()
            .map(|section| (section.offset, section.size))
    }

    /// Place and length of the data, where such a section would lie.
    pub(super) fn data(&self) -> Option<(u64, u64)> {
        self.segments
            .iter()
            .find(|segment| segment.loaded && segment.data)
            .map(|segment| (segment.offset, segment.size))
    }

    /// `length` bytes at an address of the running program.
    pub(super) fn at_address(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let segment = self.segments.iter().find(|segment| {
            let into = address.checked_sub(segment.address);
            segment.loaded
                && into
                    .and_then(|into| into.checked_add(length))
                    .is_some_and(|end| end <= segment.size)
        })?;
        let offset = segment.offset.checked_add(address - segment.address)?;
        self.file.at(offset, length)
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        self.number(bytes, at, if self.wide { 8 } else { 4 })
    }

    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        number(bytes, at, size, self.big)
    }
}

/// The unsigned number of `size` bytes at `at`.
pub(super) fn number(bytes: &[u8], at: usize, size: usize, big: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(if big {
        bytes.iter().fold(0, add)
    } else {
        bytes.iter().rev().fold(0, add)
    })
}
