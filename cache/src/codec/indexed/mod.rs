//! Compressed archives that know where their files are: estargz and zstd:chunked.
//!
//! Both are ordinary gzip and zstd streams to whoever reads them from the beginning. Each file's
//! content starts a member (or frame) of its own, and a table of contents at the end says where, so
//! that some programs fetch just the files that they lack.
//!
//! - *estargz* (stargz-snapshotter, `docs/estargz.md`) keeps the table as a last entry of the archive
//!   and has a file in it that marks where prefetching ends: so it unpacks to another archive, with
//!   another diff ID, than it was made of.
//! - *zstd:chunked* (containers/storage, `pkg/chunked`) keeps it in frames that readers skip, together
//!   with what is needed to put the very same archive together from files.
//!
//! The bytes depend on the archive and the level alone, on any number of cores.

mod chunked;
mod estargz;
mod pieces;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};

use super::Codec;
use crate::Digest;

/// Content of a file in one member.
const CHUNK: usize = 1 << 20;

impl Codec {
    /// True for codecs whose streams have a table of contents: [`compress`] makes them.
    pub fn is_indexed(self) -> bool {
        matches!(self, Self::Estargz(_) | Self::ZstdChunked(_))
    }

    /// True if what is compressed so unpacks to another archive than it was made of.
    pub fn changes_archive(self) -> bool {
        matches!(self, Self::Estargz(_))
    }
}

/// Compresses the archive that `input` gives with a codec that [is indexed](Codec::is_indexed), and
/// answers the digest of what it unpacks to.
///
/// An archive that can't be understood is `InvalidData`.
pub fn compress(
    codec: Codec,
    input: &mut dyn Read,
    output: &mut (dyn Write + Send),
) -> io::Result<Digest> {
    match codec {
        Codec::Estargz(level) => estargz::compress(level, input, output),
        Codec::ZstdChunked(level) => chunked::compress(level, input, output),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{codec:?} has no table of contents"),
        )),
    }
}

/// The annotations by which a manifest says that the blob in `file` has a table of contents; none if
/// it has none, or one that can't be read.
pub fn annotations(file: &mut File) -> io::Result<BTreeMap<String, String>> {
    if let Some(found) = chunked::annotations(file)? {
        return Ok(found);
    }
    Ok(estargz::annotations(file)?.unwrap_or_default())
}

/// What tables of contents leave out of their entries.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks it of a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The last `N` bytes of a file, and where they begin; none if it is shorter.
fn tail<const N: usize>(file: &mut File) -> io::Result<Option<([u8; N], u64)>> {
    use std::io::{Seek as _, SeekFrom};
    let size = file.seek(SeekFrom::End(0))?;
    let Some(start) = size.checked_sub(N as u64) else {
        return Ok(None);
    };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(Some((bytes, start)))
}

/// Bytes of a table of contents that are read: more than millions of files have.
const MAX_TABLE: u64 = 512 << 20;

/// `length` bytes of a file from `start` on.
fn part(file: &mut File, start: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::{Seek as _, SeekFrom};
    let size = file.seek(SeekFrom::End(0))?;
    if length > MAX_TABLE || start.checked_add(length).is_none_or(|end| end > size) {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
