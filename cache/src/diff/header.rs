//! Writing tar entries: ustar headers, PAX records for what doesn't fit them.
//!
//! One form for each entry, so that equal trees give equal bytes: names in ustar (with its prefix
//! field) when they fit, PAX otherwise; numeric ids without names; whole seconds; device numbers on
//! devices only.

use std::io::{self, Write};

use super::pax::push_record;
use crate::xattr::Xattr;

pub(super) const BLOCK: usize = 512;

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    /// A regular file.
    File,
    /// Another name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

impl EntryType {
    fn flag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// One entry's header.
#[derive(Debug, Clone)]
pub(super) struct Header<'a> {
    /// Name; a directory's ends in `/`.
    pub path: &'a [u8],
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Target of a link.
    pub link: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Sorted.
    pub xattrs: &'a [Xattr],
}

/// A tar stream being written.
pub(super) struct TarWriter<'a> {
    output: &'a mut dyn Write,
    /// Bytes of content that the last header promised and that are still to come.
    remaining: u64,
    padding: usize,
}

impl<'a> TarWriter<'a> {
    pub(super) fn new(output: &'a mut dyn Write) -> Self {
        Self {
            output,
            remaining: 0,
            padding: 0,
        }
    }

    /// Writes an entry's header; its `size` bytes of content must follow.
    pub(super) fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        debug_assert_eq!(self.remaining, 0, "the last entry's content is whole");
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut block = [0; BLOCK];

        if let Some((prefix, name)) = split_name(header.path) {
            block[..name.len()].copy_from_slice(name);
            block[345..345 + prefix.len()].copy_from_slice(prefix);
        } else {
            let start = &header.path[..header.path.len().min(100)];
            block[..start.len()].copy_from_slice(start);
            records.push((b"path".to_vec(), header.path.to_vec()));
        }
        if header.link.len() <= 100 {
            block[157..157 + header.link.len()].copy_from_slice(header.link);
        } else {
            block[157..257].copy_from_slice(&header.link[..100]);
            records.push((b"linkpath".to_vec(), header.link.to_vec()));
        }
        octal(&mut block[100..108], u64::from(header.mode));
        let mut number = |field: &mut [u8], key: &[u8], value: u64| {
            if !octal(field, value) {
                octal(field, 0);
                records.push((key.to_vec(), value.to_string().into_bytes()));
            }
        };
        number(&mut block[108..116], b"uid", u64::from(header.uid));
        number(&mut block[116..124], b"gid", u64::from(header.gid));
        number(&mut block[124..136], b"size", header.size);
        let mtime = u64::try_from(header.mtime).ok();
        if !mtime.is_some_and(|mtime| octal(&mut block[136..148], mtime)) {
            octal(&mut block[136..148], 0);
            records.push((b"mtime".to_vec(), header.mtime.to_string().into_bytes()));
        }
        if matches!(header.kind, EntryType::CharDevice | EntryType::BlockDevice) {
            // 12 and 20 bits are all that Linux has: both fit.
            octal(&mut block[329..337], u64::from(header.device.0));
            octal(&mut block[337..345], u64::from(header.device.1));
        }
        for (name, value) in header.xattrs {
            records.push(([b"SCHILY.xattr.", &name[..]].concat(), value.clone()));
        }

        if !records.is_empty() {
            records.sort();
            let mut data = Vec::new();
            for (key, value) in records {
                push_record(&mut data, &key, &value);
            }
            self.pax_header(header.path, &data)?;
        }
        block[156] = header.kind.flag();
        seal(&mut block);
        self.output.write_all(&block)?;
        self.expect_content(header.size);
        Ok(())
    }

    fn pax_header(&mut self, path: &[u8], data: &[u8]) -> io::Result<()> {
        let mut block = [0; BLOCK];
        // The name is for tar programs that don't know PAX and would make a file of it.
        let directory = b"PaxHeaders.0/";
        let trimmed = path.strip_suffix(b"/").unwrap_or(path);
        let base = trimmed.rsplit(|byte| *byte == b'/').next().unwrap_or(b"");
        let base = &base[..base.len().min(100 - directory.len())];
        let name = [directory, base].concat();
        block[..name.len()].copy_from_slice(&name);
        octal(&mut block[100..108], 0o644);
        octal(&mut block[108..116], 0);
        octal(&mut block[116..124], 0);
        octal(&mut block[124..136], data.len() as u64);
        octal(&mut block[136..148], 0);
        block[156] = b'x';
        seal(&mut block);
        self.output.write_all(&block)?;
        self.expect_content(data.len() as u64);
        self.content(data)
    }

    fn expect_content(&mut self, size: u64) {
        self.remaining = size;
        let tail = usize::try_from(size % BLOCK as u64).expect("less than a block");
        self.padding = (BLOCK - tail) % BLOCK;
    }

    /// Writes a piece of the last entry's content.
    pub(super) fn content(&mut self, data: &[u8]) -> io::Result<()> {
        self.output.write_all(data)?;
        self.remaining -= data.len() as u64;
        if self.remaining == 0 {
            self.output.write_all(&[0; BLOCK][..self.padding])?;
            self.padding = 0;
        }
        Ok(())
    }

    /// Leaves out what is still to come of the last entry's content, and says how many bytes that
    /// takes in the archive.
    pub(super) fn leave_out(&mut self) -> u64 {
        let left = self.remaining
            + if self.remaining == 0 {
                0
            } else {
                self.padding as u64
            };
        (self.remaining, self.padding) = (0, 0);
        left
    }

    /// Bytes of content that are still to come.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Writes the end of the archive: two empty blocks.
    pub(super) fn finish(self) -> io::Result<()> {
        self.output.write_all(&[0; 2 * BLOCK])
    }
}

/// The magic, the version and the checksum.
fn seal(block: &mut [u8; BLOCK]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    // Six digits, a NUL and a blank: as every tar writes it.
    octal(&mut block[148..155], sum);
    block[155] = b' ';
}

/// Writes `value` as digits that fill `field` up to a closing NUL; false if it doesn't fit.
fn octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    if value >> (3 * digits) != 0 {
        return false;
    }
    for (place, byte) in field[..digits].iter_mut().rev().enumerate() {
        *byte = b'0' + ((value >> (3 * place)) & 7) as u8;
    }
    field[digits] = 0;
    true
}

/// Splits a name at a slash into ustar's prefix (155 bytes) and name (100), if that can be done.
fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    if path.len() > 256 {
        return None;
    }
    // The earliest slash that leaves a short enough name. A directory's closing slash is no place.
    let first = path.len() - 101;
    let slash = (first..path.len() - 1).find(|at| path[*at] == b'/')?;
    (slash > 0 && slash <= 155).then(|| (&path[..slash], &path[slash + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_where_both_fields_hold_them() {
        let long = |prefix: usize, name: usize| {
            [vec![b'p'; prefix], vec![b'/'], vec![b'n'; name]].concat()
        };
        assert_eq!(split_name(&[b'a'; 100]), Some((&b""[..], &[b'a'; 100][..])));
        assert_eq!(split_name(&[b'a'; 101]), None);
        assert!(split_name(&long(155, 100)).is_some());
        assert_eq!(split_name(&long(156, 99)), None);
        assert_eq!(split_name(&long(99, 101)), None);
        assert_eq!(split_name(&[vec![b'a'; 100], vec![b'/']].concat()), None);
        let directory = [long(50, 60), vec![b'/']].concat();
        let (prefix, name) = split_name(&directory).unwrap();
        assert_eq!((prefix.len(), name.len()), (50, 61));
    }

    #[test]
    fn numbers_fill_their_field() {
        let mut field = [b'x'; 8];
        assert!(octal(&mut field, 0o1_234_567));
        assert_eq!(&field, b"1234567\0");
        assert!(!octal(&mut field, 0o10_000_000));
        let mut field = [b'x'; 12];
        assert!(octal(&mut field, 8 * 1024 * 1024 * 1024 - 1));
        assert!(!octal(&mut field, 8 * 1024 * 1024 * 1024));
    }
}
