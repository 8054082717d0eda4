//! Reading and copying of byte streams with somebody looking on. For streams between threads see
//! [`strata_cache::pipe`].

use std::io::{self, Read, Write};

/// Hashes what is read through it, and tells how far it is.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: strata_cache::Hasher,
    size: u64,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: strata_cache::Hasher::default(),
            size: 0,
        }
    }

    /// The digest of what was read, and how much it was.
    pub(crate) fn finish(self) -> (strata_cache::Digest, u64) {
        (self.hasher.finish(), self.size)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

/// Copies until the end, in pieces that are worth a system call.
pub(crate) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut copied = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes between two reports of progress.
pub(crate) const REPORT: u64 = 512 << 10;

/// Reports how much was read through it.
pub(crate) struct Watched<'a, R> {
    inner: R,
    what: &'a str,
    done: u64,
    reported: u64,
    total: Option<u64>,
    progress: &'a dyn crate::Progress,
}

impl<'a, R: Read> Watched<'a, R> {
    pub(crate) fn new(
        inner: R,
        what: &'a str,
        total: Option<u64>,
        progress: &'a dyn crate::Progress,
    ) -> Self {
        Self {
            inner,
            what,
            done: 0,
            reported: 0,
            total,
            progress,
        }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        let ended = count == 0 && !buffer.is_empty();
        if self.done >= self.reported + REPORT || (ended && self.done > self.reported) {
            self.reported = self.done;
            let total = if ended { Some(self.done) } else { self.total };
            self.progress.update(self.what, self.done, total);
        }
        Ok(count)
    }
}
