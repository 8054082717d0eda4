//! The content of one file on its way into the upper directory.
//!
//! A key says what is in a file, so what arrives must be that. Whether it is can be told in two ways: by a
//! digest of what was copied, or by metadata. The second is what the digest cache relies on from one build to
//! the next (see [`strata_cache::statcache`]): a file that is old enough for a change to show in its times, and
//! has the times that it was hashed with, before it is copied and after, is what was hashed. For a large file
//! that spares reading it through the processor once more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata_cache::{Digest, Hasher, clone_file_in_steps};

use super::destination::failed;
use super::digest::{file_metadata, same_content};
use super::writeback::Writeback;
use super::{CopyError, CopySpec, Item};
use crate::tree::SourceTree;

/// Smaller files are hashed while they are copied: that costs less than asking for their metadata.
const LARGE: u64 = 128 << 10;

/// One file that is copied.
pub(super) struct Copying<'a> {
    pub(super) tree: &'a dyn SourceTree,
    pub(super) spec: &'a CopySpec<'a>,
    pub(super) item: &'a Item,
    /// Where it goes.
    pub(super) path: &'a Path,
    pub(super) source: File,
    /// Empty.
    pub(super) target: File,
    pub(super) writeback: Option<Writeback>,
}

impl Copying<'_> {
    /// Copies everything. A file that is not what its digest says is an error. Gives its size if all that is in it
    /// is in `buffer` now.
    pub(super) fn all(&mut self, buffer: &mut Vec<u8>) -> Result<Option<u64>, CopyError> {
        let Some(known) = self.item.digest.filter(|_| !self.tree.immutable()) else {
            return self.unread().map(|_| None);
        };
        if self.unchanged()? {
            let copied = self.unread()?;
            if copied == self.item.entry.metadata.size && self.unchanged()? {
                return Ok(None);
            }
            // Somebody is at it just now. What is there counts.
            let again = |file: &mut File| file.rewind().map_err(failed("write", self.path));
            again(&mut self.source)?;
            self.target.set_len(0).map_err(failed("write", self.path))?;
            again(&mut self.target)?;
        }
        let (found, whole) = self.hashing(buffer)?;
        if found != known {
            return Err(CopyError::Changed {
                path: self.item.source(),
            });
        }
        Ok(whole)
    }

    /// Whether the source is a large file that is known to be what was hashed. Not for one with holes, which
    /// are to stay.
    fn unchanged(&self) -> Result<bool, CopyError> {
        let hashed = &self.item.entry.metadata;
        if hashed.size < LARGE || !self.tree.shows_changes(hashed) {
            return Ok(false);
        }
        let now = file_metadata(&self.source).map_err(|source| self.unreadable(source))?;
        Ok(same_content(hashed, &now) && !self.is_sparse())
    }

    fn is_sparse(&self) -> bool {
        self.source
            .metadata()
            .is_ok_and(|metadata| metadata.blocks().saturating_mul(512) < metadata.len())
    }

    fn unreadable(&self, source: io::Error) -> CopyError {
        CopyError::Io {
            action: "read",
            path: self.item.entry.host_path.clone(),
            source,
        }
    }

    /// Copies without looking at what is copied: inside the kernel, if it can. Tells how many bytes it were.
    fn unread(&mut self) -> Result<u64, CopyError> {
        let (spec, writeback) = (self.spec, &mut self.writeback);
        let copied = clone_file_in_steps(&self.source, &self.target, &mut |copied| {
            if let Some(writeback) = writeback {
                writeback.written(copied);
            }
            // Told from a failure by the question that it comes from.
            spec.go_on()
                .map_err(|_| io::Error::from(io::ErrorKind::Interrupted))
        });
        copied.map_err(|error| {
            let cancelled = self.spec.go_on().err();
            cancelled.unwrap_or_else(|| failed("write", self.path)(error))
        })
    }

    /// Copies and hashes as much as was hashed before: if that is what it was, it does not matter what was added
    /// since. Gives the size, too, if everything is in `buffer`.
    fn hashing(&mut self, buffer: &mut Vec<u8>) -> Result<(Digest, Option<u64>), CopyError> {
        buffer.resize(256 * 1024, 0);
        let expected = self.item.entry.metadata.size;
        let mut hasher = Hasher::default();
        let sparse = expected >= LARGE && self.is_sparse();
        let mut reads = 0;
        let write = |error| failed("write", self.path)(error);
        let mut size = 0_u64;
        let mut in_hole = false;
        while size < expected {
            self.spec.go_on()?;
            let wanted = usize::try_from(expected - size).unwrap_or(usize::MAX);
            let wanted = wanted.min(buffer.len());
            match self.source.read(&mut buffer[..wanted]) {
                Ok(0) => break,
                Ok(count) => {
                    reads += 1;
                    let bytes = &buffer[..count];
                    hasher.update(bytes);
                    size += count as u64;
                    // Of a sparse file the zeroes stay holes.
                    in_hole = sparse && bytes.iter().all(|byte| *byte == 0);
                    if in_hole {
                        self.target.seek(SeekFrom::Start(size)).map_err(write)?;
                    } else {
                        self.target.write_all(bytes).map_err(write)?;
                    }
                    if let Some(writeback) = &mut self.writeback {
                        writeback.written(size);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(error)),
            }
        }
        if in_hole {
            self.target.set_len(size).map_err(write)?;
        }
        Ok((hasher.finish(), (reads <= 1).then_some(size)))
    }
}
