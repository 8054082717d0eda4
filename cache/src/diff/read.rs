//! A strict reader of tar archives.
//!
//! Archives come from strangers, and other programs read them too. Where those could disagree
//! about what an archive holds, it is refused, so that no scanner sees another image than the one
//! which is built. Read are the formats of real layers: ustar (with star's and GNU's variants), v7,
//! PAX, GNU's long names (`L`, `K`) and binary numbers. Refused are:
//!
//! - malformed PAX records, keys that come twice, an extended header that is not followed by
//!   its entry or is mixed with GNU's long names, global headers that change entries;
//! - sparse files of any kind, and entry types that are not of POSIX;
//! - content for entries that have none (links, directories, devices), numbers that are no numbers,
//!   names split over two fields, and extended headers, in a header that is not of ustar's version;
//! - one empty block amidst the archive, anything but zeros behind its end, a cut inside an entry.
//!
//! An archive that ends between two entries without the empty blocks is accepted, as every other
//! program does; the digest of a layer finds out what is missing.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::header::{BLOCK, EntryType};
use super::pax::{parse_number, parse_records, parse_time};
use super::{DiffError, Limits};

/// Bytes of one extended header or long name: Go's reader (so docker and containerd) has the same.
const MAX_EXTENSION: u64 = 1 << 20;

/// The kernel's bound on a path.
const MAX_PATH: usize = 4096;

/// One entry's header, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// The name as it stands there. Never empty, without NUL.
    pub name: Vec<u8>,
    /// Type.
    pub kind: EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// Modification time: seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// The target of a link, without NUL.
    pub link: Vec<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// All that were given, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a block's header says by itself.
struct RawHeader {
    flag: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: i64,
    device: (u32, u32),
}

/// What the headers before an entry said of it.
#[derive(Default)]
struct Pending {
    pax: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Reads the entries of an (uncompressed) archive, one after the other.
pub struct ArchiveReader<'a> {
    input: &'a mut dyn Read,
    limits: Limits,
    /// Headers of any kind.
    headers: u64,
    /// Content of the current entry that was not read yet, and the padding behind it.
    remaining: u64,
    padding: u64,
    bytes: u64,
    /// The current entry's name, for messages.
    name: Vec<u8>,
}

/// A name from an archive as text that a terminal can take.
pub(super) fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(&name[..name.len().min(200)]);
    text.chars()
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

impl std::fmt::Debug for ArchiveReader<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ArchiveReader")
            .field("headers", &self.headers)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl<'a> ArchiveReader<'a> {
    /// Reads from `input`; whatever goes beyond `limits` is refused.
    pub fn new(input: &'a mut dyn Read, limits: Limits) -> Self {
        Self {
            input,
            limits,
            headers: 0,
            remaining: 0,
            padding: 0,
            bytes: 0,
            name: Vec::new(),
        }
    }

    /// Bytes of content so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A refusal of the current entry.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> DiffError {
        DiffError::Refused {
            entry: shown(&self.name),
            reason: reason.into(),
        }
    }

    /// The next entry; what is left of the last one's content is skipped. None at the end.
    #[allow(
        clippy::should_implement_trait,
        reason = "entries can fail, and borrow nothing"
    )]
    pub fn next(&mut self) -> Result<Option<ArchiveEntry>, DiffError> {
        self.skip_content()?;
        let mut pending = Pending::default();
        loop {
            let Some(block) = self.block()? else {
                return self.end(&pending);
            };
            if block.iter().all(|byte| *byte == 0) {
                match self.block()? {
                    None => {}
                    Some(second) if second.iter().all(|byte| *byte == 0) => self.drain_zeros()?,
                    Some(_) => return Err(self.refuse("an empty block stands between entries")),
                }
                return self.end(&pending);
            }
            let raw = self.parse_header(&block)?;
            self.headers += 1;
            if self.headers / 2 > self.limits.entries {
                return Err(self.refuse("there are too many headers"));
            }
            match raw.flag {
                b'x' => {
                    if pending.pax.is_some() || pending.name.is_some() || pending.link.is_some() {
                        return Err(self.refuse("an extended header has no entry"));
                    }
                    let data = self.extension(&raw)?;
                    let records = parse_records(&data).map_err(|reason| self.refuse(reason))?;
                    pending.pax = Some(records);
                }
                b'g' => {
                    if pending.pax.is_some() || pending.name.is_some() || pending.link.is_some() {
                        return Err(self.refuse("an extended header has no entry"));
                    }
                    let data = self.extension(&raw)?;
                    let records = parse_records(&data).map_err(|reason| self.refuse(reason))?;
                    // Some programs apply global records, some don't.
                    if records.keys().any(|key| changes_entry(key)) {
                        return Err(self.refuse("a global PAX header changes entries"));
                    }
                }
                b'L' | b'K' => {
                    let slot_taken = if raw.flag == b'L' {
                        pending.name.is_some()
                    } else {
                        pending.link.is_some()
                    };
                    if slot_taken || pending.pax.is_some() {
                        return Err(self.refuse("a long name has no entry"));
                    }
                    let mut data = self.extension(&raw)?;
                    while data.last() == Some(&0) {
                        data.pop();
                    }
                    let slot = if raw.flag == b'L' {
                        &mut pending.name
                    } else {
                        &mut pending.link
                    };
                    *slot = Some(data);
                }
                _ => return self.entry(raw, pending).map(Some),
            }
        }
    }

    fn end(&self, pending: &Pending) -> Result<Option<ArchiveEntry>, DiffError> {
        if pending.pax.is_some() || pending.name.is_some() || pending.link.is_some() {
            return Err(self.refuse("the archive ends behind an extended header"));
        }
        Ok(None)
    }

    /// Makes an entry of its header and of what came before it.
    fn entry(&mut self, raw: RawHeader, pending: Pending) -> Result<ArchiveEntry, DiffError> {
        let mut entry_size = raw.size;
        let mut uid = raw.uid;
        let mut gid = raw.gid;
        let mut mtime = (raw.mtime, 0);
        let mut name = pending.name.unwrap_or(raw.name);
        let mut link = pending.link.unwrap_or(raw.link);
        let mut xattrs = Vec::new();
        for (key, value) in pending.pax.unwrap_or_default() {
            let number = || {
                parse_number(&value)
                    .ok_or_else(|| self.refuse(format!("PAX `{}` is no number", shown(&key))))
            };
            match &key[..] {
                b"path" => name = value,
                b"linkpath" => link = value,
                b"size" => entry_size = number()?,
                b"uid" => uid = number()?,
                b"gid" => gid = number()?,
                b"mtime" => {
                    mtime =
                        parse_time(&value).ok_or_else(|| self.refuse("PAX `mtime` is no time"))?;
                }
                key if key.starts_with(b"GNU.sparse.")
                    || key == b"SCHILY.realsize"
                    || key == b"SCHILY.filetype" =>
                {
                    return Err(self.refuse("sparse files are not supported"));
                }
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        if name.is_empty() {
                            return Err(self.refuse("an attribute has no name"));
                        }
                        xattrs.push((name.to_vec(), value));
                    }
                }
            }
        }
        self.name.clone_from(&name);
        let kind = match raw.flag {
            // A file with a closing slash is how v7 wrote directories.
            b'0' | 0 | b'7' if name.ends_with(b"/") => EntryType::Directory,
            b'0' | 0 | b'7' => EntryType::File,
            b'1' => EntryType::HardLink,
            b'2' => EntryType::Symlink,
            b'3' => EntryType::CharDevice,
            b'4' => EntryType::BlockDevice,
            b'5' => EntryType::Directory,
            b'6' => EntryType::Fifo,
            b'S' => return Err(self.refuse("sparse files are not supported")),
            flag => {
                let flag = flag.escape_ascii();
                return Err(self.refuse(format!("the entry has the unknown type `{flag}`")));
            }
        };
        if name.is_empty() {
            return Err(self.refuse("the entry has no name"));
        }
        if name.contains(&0) || link.contains(&0) {
            return Err(self.refuse("a name holds a NUL"));
        }
        if name.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(self.refuse("a name is longer than 4096 bytes"));
        }
        if kind != EntryType::File && entry_size != 0 {
            return Err(self.refuse("an entry that is no file has content"));
        }
        // The last id means "leave it" to the kernel.
        let id = |value: u64| u32::try_from(value).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(uid), id(gid)) else {
            return Err(self.refuse("an owner is out of range"));
        };
        let bytes = self.bytes.checked_add(entry_size);
        self.bytes = bytes
            .filter(|bytes| *bytes <= self.limits.bytes)
            .ok_or_else(|| self.refuse(format!("more than {} bytes", self.limits.bytes)))?;
        self.expect_content(entry_size);
        xattrs.sort();
        Ok(ArchiveEntry {
            name,
            kind,
            mode: raw.mode,
            uid,
            gid,
            size: entry_size,
            mtime,
            link,
            device: raw.device,
            xattrs,
        })
    }

    fn parse_header(&mut self, block: &[u8; BLOCK]) -> Result<RawHeader, DiffError> {
        let field = |from: usize, to: usize| {
            let bytes = &block[from..to];
            let end = bytes.iter().position(|byte| *byte == 0);
            &bytes[..end.unwrap_or(bytes.len())]
        };
        let is_posix = &block[257..263] == b"ustar\0";
        let is_gnu = &block[257..265] == b"ustar  \0";
        let mut name = field(0, 100).to_vec();
        if is_posix {
            // star keeps times behind a shorter prefix.
            let is_star = &block[508..512] == b"tar\0";
            let prefix = field(345, if is_star { 476 } else { 500 });
            if !prefix.is_empty() {
                // The next version may put something else there: some programs look, some don't.
                if &block[263..265] != b"00" {
                    self.name.clone_from(&name);
                    return Err(self.refuse("a split name in a header of an unknown version"));
                }
                name = [prefix, b"/", &name].concat();
            }
        }
        self.name.clone_from(&name);

        let sums = checksums(block);
        let sum = self.number(&block[148..156], "checksum")?;
        if !sums.contains(&sum) {
            return Err(self.refuse("the header's checksum is wrong"));
        }
        let mut device = (0, 0);
        let flag = block[156];
        let has_extensions = is_gnu || (is_posix && &block[263..265] == b"00");
        if matches!(flag, b'x' | b'g' | b'L' | b'K') && !has_extensions {
            // To some programs it is a file.
            return Err(self.refuse("an extended header in a format that has none"));
        }
        if (is_posix || is_gnu) && matches!(flag, b'3' | b'4') {
            let part = |from: usize, to: usize| -> Result<u32, DiffError> {
                let value = self.number(&block[from..to], "device number")?;
                u32::try_from(value).map_err(|_| self.refuse("a device number is out of range"))
            };
            device = (part(329, 337)?, part(337, 345)?);
        }
        Ok(RawHeader {
            flag,
            link: field(157, 257).to_vec(),
            name,
            // Some programs put the file type's bits in, too.
            mode: u32::try_from(self.number(&block[100..108], "mode")? & 0o7777)
                .expect("twelve bits"),
            uid: self.number(&block[108..116], "owner")?,
            gid: self.number(&block[116..124], "group")?,
            size: self.number(&block[124..136], "size")?,
            mtime: self.signed(&block[136..148], "time")?,
            device,
        })
    }

    /// A number that can't be negative.
    fn number(&self, field: &[u8], what: &str) -> Result<u64, DiffError> {
        u64::try_from(self.signed(field, what)?)
            .map_err(|_| self.refuse(format!("the {what} is negative")))
    }

    /// A number in octal digits, or GNU's binary form (first bit set, two's complement).
    fn signed(&self, field: &[u8], what: &str) -> Result<i64, DiffError> {
        let malformed = || self.refuse(format!("the {what} is no number"));
        if field[0] & 0x80 != 0 {
            // The second bit is the sign.
            let negative = field[0] & 0x40 != 0;
            let mut value: i128 = if negative { -1 } else { 0 };
            for (index, byte) in field.iter().enumerate() {
                let byte = match (index, negative) {
                    (0, false) => byte & 0x7f,
                    _ => *byte,
                };
                value = value << 8 | i128::from(byte);
                if i64::try_from(value).is_err() {
                    return Err(malformed());
                }
            }
            return i64::try_from(value).map_err(|_| malformed());
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
        let start = field.iter().position(|byte| *byte != b' ');
        let digits = &field[start.unwrap_or(field.len())..];
        let end = digits.iter().position(is_blank).unwrap_or(digits.len());
        let (digits, tail) = digits.split_at(end);
        if !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) || !tail.iter().all(is_blank) {
            return Err(malformed());
        }
        let value = digits
            .iter()
            .fold(0, |sum: i64, digit| sum << 3 | i64::from(digit - b'0'));
        Ok(value)
    }

    /// The content of an extended header or long name.
    fn extension(&mut self, raw: &RawHeader) -> Result<Vec<u8>, DiffError> {
        if raw.size > MAX_EXTENSION {
            return Err(self.refuse("an extended header is larger than 1 MiB"));
        }
        self.expect_content(raw.size);
        let mut data = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = self.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            data.extend_from_slice(&buffer[..count]);
        }
        self.skip_content()?;
        Ok(data)
    }

    fn expect_content(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// A piece of the current entry's content; 0 at its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DiffError> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let wanted = wanted.min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.read_some(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(DiffError::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        self.remaining -= count as u64;
        Ok(count)
    }

    fn skip_content(&mut self) -> Result<(), DiffError> {
        let mut buffer = [0; 16 * 1024];
        while self.read(&mut buffer)? > 0 {}
        let padding = usize::try_from(self.padding).expect("less than a block");
        self.padding = 0;
        if self.fill(&mut buffer[..padding])? < padding {
            return Err(DiffError::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    /// The next block; none at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, DiffError> {
        let mut block = [0; BLOCK];
        match self.fill(&mut block)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(DiffError::Stream(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Reads the stream to its end, so that who hashes it sees all of it.
    fn drain_zeros(&mut self) -> Result<(), DiffError> {
        let mut buffer = [0; 16 * 1024];
        let mut left = self.limits.bytes;
        loop {
            let count = self.read_some(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            if buffer[..count].iter().any(|byte| *byte != 0) {
                self.name.clear();
                return Err(self.refuse("something follows the archive's end"));
            }
            left = left
                .checked_sub(count as u64)
                .ok_or_else(|| self.refuse("the padding is larger than the limit"))?;
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, DiffError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, DiffError> {
        loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(DiffError::Stream),
            }
        }
    }
}

/// Whether a record of this key means something for an entry's file.
fn changes_entry(key: &[u8]) -> bool {
    matches!(
        key,
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime"
    ) || key.starts_with(b"SCHILY.")
        || key.starts_with(b"GNU.sparse.")
}

/// The sum of a header's bytes with blanks for the sum itself; and with signed bytes, as some old
/// programs counted.
fn checksums(block: &[u8; BLOCK]) -> [u64; 2] {
    let bytes = || {
        (0..BLOCK).map(|at| {
            if (148..156).contains(&at) {
                b' '
            } else {
                block[at]
            }
        })
    };
    let unsigned = bytes().map(u64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    [unsigned, u64::try_from(signed).unwrap_or(unsigned)]
}
