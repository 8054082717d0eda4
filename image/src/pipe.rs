//! Byte streams between two threads, so that reading, decompressing, hashing and writing run beside
//! each other.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Bytes in one piece.
const PIECE: usize = 256 << 10;
/// Pieces that may wait: a fast side gets this far ahead and no further.
const DEPTH: usize = 8;

type Piece = Result<Arc<Vec<u8>>, io::Error>;

/// The writing end. What is written is collected into pieces; [`finish`](Self::finish) sends the
/// last one. Dropped without it, the other side sees the stream break off.
pub(crate) struct PipeWriter {
    senders: Vec<SyncSender<Piece>>,
    buffer: Vec<u8>,
}

/// The reading end.
pub(crate) struct PipeReader {
    receiver: Receiver<Piece>,
    current: Arc<Vec<u8>>,
    position: usize,
    ended: bool,
}

/// A pipe with one writer and `count` readers that each see everything.
pub(crate) fn pipe<const COUNT: usize>() -> (PipeWriter, [PipeReader; COUNT]) {
    let mut senders = Vec::with_capacity(COUNT);
    let readers = std::array::from_fn(|_| {
        let (sender, receiver) = sync_channel(DEPTH);
        senders.push(sender);
        PipeReader {
            receiver,
            current: Arc::default(),
            position: 0,
            ended: false,
        }
    });
    let writer = PipeWriter {
        senders,
        buffer: Vec::with_capacity(PIECE),
    };
    (writer, readers)
}

impl PipeWriter {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let piece = Arc::new(piece);
        for sender in &self.senders {
            sender
                .send(Ok(Arc::clone(&piece)))
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }

    /// Sends the rest and the end.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.send()?;
        for sender in &self.senders {
            // An empty piece is the end. A reader that has gone needs none.
            drop(sender.send(Ok(Arc::default())));
        }
        Ok(())
    }

    /// Tells the readers why the stream ends here.
    pub(crate) fn fail(self, error: &io::Error) {
        for sender in &self.senders {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            drop(sender.send(Err(copy)));
        }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PipeReader {
    /// Hands over all pieces as they are, until the end.
    pub(crate) fn each(&mut self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while self.next_piece()? {
            take(&self.current[self.position..])?;
            self.position = self.current.len();
        }
        Ok(())
    }

    /// The digest of everything.
    pub(crate) fn digest(mut self) -> io::Result<strata_cache::Digest> {
        let mut hasher = strata_cache::Hasher::default();
        self.each(&mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Sees to it that something of the current piece is left. False at the end.
    fn next_piece(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.position < self.current.len() {
            return Ok(true);
        }
        match self.receiver.recv() {
            Ok(Ok(piece)) if piece.is_empty() => {
                self.ended = true;
                Ok(false)
            }
            Ok(Ok(piece)) => {
                self.current = piece;
                self.position = 0;
                Ok(true)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || !self.next_piece()? {
            return Ok(0);
        }
        let rest = &self.current[self.position..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.position += count;
        Ok(count)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_gets_everything() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let (mut writer, [mut first, mut second]) = pipe();
        std::thread::scope(|scope| {
            let first = scope.spawn(move || {
                let mut bytes = Vec::new();
                first.read_to_end(&mut bytes).map(|_| bytes)
            });
            let second = scope.spawn(move || {
                let mut bytes = Vec::new();
                second.read_to_end(&mut bytes).map(|_| bytes)
            });
            writer.write_all(&data).unwrap();
            writer.finish().unwrap();
            assert_eq!(first.join().unwrap().unwrap(), data);
            assert_eq!(second.join().unwrap().unwrap(), data);
        });
    }

    #[test]
    fn a_writer_that_goes_away_is_not_an_end() {
        let (mut writer, [mut reader]) = pipe();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert!(reader.read_to_end(&mut Vec::new()).is_err());

        let (writer, [mut reader]) = pipe::<1>();
        writer.fail(&io::Error::other("why"));
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "why");
    }

    #[test]
    fn a_reader_that_goes_away_stops_the_writer() {
        let (mut writer, [reader]) = pipe();
        drop(reader);
        assert!(writer.write_all(&vec![0; 2 * PIECE]).is_err());
    }
}
