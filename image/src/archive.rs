//! A reader of the tar files that images travel in.
//!
//! It sees names, sizes and link targets; file content is read by the caller, straight from the
//! stream. Only what such archives need is known: regular files, links and directories, PAX and GNU
//! long names. Whatever is malformed is an error: two readers must never see two different archives.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Largest extended header: names and numbers only.
const MAX_EXTENDED: u64 = 1 << 20;
/// Longest name.
const MAX_NAME: usize = 4096;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    /// A symbolic or hard link. Targets of symbolic links are relative to the entry's directory.
    Symlink(String),
    HardLink(String),
    /// A device, a pipe: nothing that images consist of.
    Other,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArchiveEntry {
    /// Relative, without `.` and `..`; empty for the archive's root.
    pub(crate) name: String,
    pub(crate) kind: EntryKind,
    pub(crate) size: u64,
}

/// Reads entries one after the other.
pub(crate) struct ArchiveReader<R> {
    input: R,
    /// Content of the current entry that was not read yet.
    left: u64,
    /// Zeros up to the next block.
    padding: u64,
}

#[derive(Default)]
struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
}

impl<R: Read> ArchiveReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            left: 0,
            padding: 0,
        }
    }

    /// What follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// The next entry; what was not read of the one before is passed over.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<ArchiveEntry>> {
        let mut extended: Option<Extended> = None;
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                return if extended.is_some() {
                    Err(invalid("the archive ends after an extended header"))
                } else {
                    Ok(None)
                };
            };
            let size = header.entry_size()?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => {
                    self.start(size)?;
                    let bytes = self.extended(size)?;
                    let target = extended.get_or_insert_default();
                    match kind {
                        EntryType::XHeader => parse_pax(&bytes, target)?,
                        EntryType::GNULongName => set(&mut target.path, until_nul(&bytes)?)?,
                        _ => set(&mut target.link, until_nul(&bytes)?)?,
                    }
                    continue;
                }
                EntryType::XGlobalHeader => {
                    // Comments and defaults that nobody writes for images; sizes and names here
                    // would change every entry.
                    self.start(size)?;
                    let bytes = self.extended(size)?;
                    let mut global = Extended::default();
                    parse_pax(&bytes, &mut global)?;
                    if global.path.is_some() || global.link.is_some() || global.size.is_some() {
                        return Err(invalid("a global header sets names or sizes"));
                    }
                    continue;
                }
                _ => {}
            }
            let extended = extended.unwrap_or_default();
            let size = extended.size.unwrap_or(size);
            let own_name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            let name = clean(&extended.path.unwrap_or(own_name))?;
            let link = || -> String {
                extended.link.clone().unwrap_or_else(|| {
                    let bytes = header.link_name_bytes();
                    String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
                })
            };
            let kind = match kind {
                EntryType::Regular | EntryType::Continuous => EntryKind::File,
                EntryType::Directory => EntryKind::Directory,
                EntryType::Symlink => EntryKind::Symlink(link()),
                EntryType::Link => EntryKind::HardLink(clean(&link())?),
                EntryType::GNUSparse => return Err(invalid("a sparse file")),
                _ => EntryKind::Other,
            };
            // Links say a size in some archives but carry no content.
            let content = match kind {
                EntryKind::File | EntryKind::Other => size,
                _ => 0,
            };
            self.start(content)?;
            return Ok(Some(ArchiveEntry {
                name,
                kind,
                size: content,
            }));
        }
    }

    fn start(&mut self, size: u64) -> io::Result<()> {
        let block = BLOCK as u64;
        let padded = size
            .checked_next_multiple_of(block)
            .ok_or_else(|| invalid("an impossible size"))?;
        self.left = size;
        self.padding = padded - size;
        Ok(())
    }

    fn extended(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENDED {
            return Err(invalid("an extended header of more than 1 MiB"));
        }
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let expected = self.left + self.padding;
        let skipped = io::copy(&mut self.input.by_ref().take(expected), &mut io::sink())?;
        self.left = 0;
        self.padding = 0;
        if skipped == expected {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// The next header block; none at the end (a block of zeros, or nothing).
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(position, byte)| {
                // The checksum's own field counts as blanks.
                u32::from(if (148..156).contains(&position) {
                    b' '
                } else {
                    *byte
                })
            })
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(invalid(
                "it is not a tar archive, or a damaged one (checksum)",
            ));
        }
        Ok(Some(header))
    }
}

/// Content of the current entry.
impl<R: Read> Read for ArchiveReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

fn set(slot: &mut Option<String>, value: String) -> io::Result<()> {
    if slot.replace(value).is_some() {
        return Err(invalid("an entry has two names"));
    }
    Ok(())
}

fn until_nul(bytes: &[u8]) -> io::Result<String> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let bytes = &bytes[..end.unwrap_or(bytes.len())];
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("a name that is not UTF-8"))
}

/// Parses `LENGTH KEY=VALUE\n` records (POSIX pax, "Extended Header").
fn parse_pax(mut bytes: &[u8], target: &mut Extended) -> io::Result<()> {
    let malformed = || invalid("a malformed extended header");
    while !bytes.is_empty() {
        let blank = bytes
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(malformed)?;
        let length: usize = std::str::from_utf8(&bytes[..blank])
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or_else(malformed)?;
        if length <= blank + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &bytes[blank + 1..length - 1];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let text = || {
            std::str::from_utf8(value)
                .map(str::to_owned)
                .map_err(|_| malformed())
        };
        match key {
            b"path" => set(&mut target.path, text()?)?,
            b"linkpath" => set(&mut target.link, text()?)?,
            b"size" => {
                let size = text()?.parse().map_err(|_| malformed())?;
                if target.size.replace(size).is_some() {
                    return Err(malformed());
                }
            }
            key if key.starts_with(b"GNU.sparse.") => return Err(invalid("a sparse file")),
            _ => {}
        }
        bytes = &bytes[length..];
    }
    Ok(())
}

/// The name without `./`, doubled and trailing slashes.
fn clean(name: &str) -> io::Result<String> {
    if name.len() > MAX_NAME {
        return Err(invalid("a name of more than 4096 bytes"));
    }
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(invalid("a name with `..`")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// What a symbolic link at `name` with `target` points to, inside the archive.
pub(crate) fn resolve_link(name: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = if target.starts_with('/') {
        Vec::new()
    } else {
        name.split('/').collect()
    };
    if !target.starts_with('/') {
        parts.pop();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, size: u64, kind: EntryType, link: &str) -> Vec<u8> {
        let mut header = Header::new_ustar();
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_size(size);
        header.set_mode(0o644);
        header.set_entry_type(kind);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn with_content(mut head: Vec<u8>, content: &[u8]) -> Vec<u8> {
        head.extend_from_slice(content);
        head.resize(head.len().next_multiple_of(BLOCK), 0);
        head
    }

    fn names(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut reader = ArchiveReader::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content)?;
            found.push((entry.name, content));
        }
        Ok(found)
    }

    #[test]
    fn entries_are_read_with_their_content() {
        let mut bytes = with_content(entry("./a", 3, EntryType::Regular, ""), b"abc");
        bytes.extend(entry("d/", 0, EntryType::Directory, ""));
        let record = b"13 path=d//b\n";
        bytes.extend(with_content(
            entry("x", record.len() as u64, EntryType::XHeader, ""),
            record,
        ));
        bytes.extend(with_content(
            entry("ignored", 1, EntryType::Regular, ""),
            b"b",
        ));
        bytes.extend(vec![0; 1024]);
        let expected = [("a", "abc"), ("d", ""), ("d/b", "b")]
            .map(|(name, content)| (name.to_owned(), content.as_bytes().to_vec()));
        assert_eq!(names(&bytes).unwrap(), expected);
    }

    #[test]
    fn a_size_in_the_extended_header_counts() {
        let record = b"11 size=600\n";
        let record = [&b"12"[..], &record[2..]].concat();
        let mut bytes = with_content(
            entry("x", record.len() as u64, EntryType::XHeader, ""),
            &record,
        );
        bytes.extend(with_content(
            entry("a", 0, EntryType::Regular, ""),
            &[7; 600],
        ));
        bytes.extend(with_content(entry("b", 0, EntryType::Regular, ""), b""));
        let found = names(&bytes).unwrap();
        assert_eq!(found[0].1.len(), 600);
        assert_eq!(found[1].0, "b");
    }

    #[test]
    fn hostile_archives_are_refused() {
        let damaged = {
            let mut bytes = entry("a", 0, EntryType::Regular, "");
            bytes[0] = b'b';
            bytes
        };
        let pax = |record: &[u8]| {
            let mut bytes = with_content(
                entry("x", record.len() as u64, EntryType::XHeader, ""),
                record,
            );
            bytes.extend(entry("a", 0, EntryType::Regular, ""));
            bytes
        };
        let rows: [(&str, Vec<u8>); 9] = [
            ("up", entry("../a", 0, EntryType::Regular, "")),
            ("truncated content", entry("a", 600, EntryType::Regular, "")),
            ("checksum", damaged),
            ("huge size", entry("x", 1 << 40, EntryType::XHeader, "")),
            ("pax length", pax(b"99 path=a\n")),
            ("pax without end", pax(b"9 path=a;")),
            ("two sizes", pax(b"9 size=1\n9 size=2\n")),
            (
                "lonely extension",
                with_content(entry("x", 9, EntryType::XHeader, ""), b"9 size=1\n"),
            ),
            ("half a header", vec![1; 100]),
        ];
        for (name, bytes) in rows {
            assert!(names(&bytes).is_err(), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_damage_makes_it_panic(
            at in 0..2048_usize,
            value: u8,
            length in 0..2048_usize,
            record in "[0-9 a-z=\n]{0,30}",
        ) {
            let record = record.as_bytes();
            let header = entry("x", record.len() as u64, EntryType::XHeader, "");
            let mut bytes = with_content(header, record);
            bytes.extend(with_content(entry("a", 3, EntryType::Regular, ""), b"abc"));
            drop(names(&bytes));
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(length);
            drop(names(&bytes));
        }
    }

    #[test]
    fn links_stay_inside_the_archive() {
        assert_eq!(
            resolve_link("a/layer.tar", "../b/layer.tar").as_deref(),
            Some("b/layer.tar")
        );
        assert_eq!(resolve_link("a", "b").as_deref(), Some("b"));
        assert_eq!(resolve_link("a/b", "../../etc/passwd"), None);
        assert_eq!(
            resolve_link("a/b", "/etc/passwd").as_deref(),
            Some("etc/passwd")
        );
    }
}
