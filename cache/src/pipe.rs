//! Byte streams between two threads, so that reading, decompressing, hashing and writing run beside
//! each other.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::{Digest, Hasher};

/// Bytes in one piece.
const PIECE: usize = 256 << 10;
/// Pieces that may wait: a fast side gets this far ahead and no further.
const DEPTH: usize = 8;

type Piece = Result<Arc<Vec<u8>>, io::Error>;

/// The writing end. What is written is collected into pieces; [`finish`](Self::finish) sends the
/// last one. Dropped without it, the other side sees the stream break off.
#[derive(Debug)]
pub struct PipeWriter {
    senders: Vec<SyncSender<Piece>>,
    buffer: Vec<u8>,
}

/// The reading end.
#[derive(Debug)]
pub struct PipeReader {
    receiver: Receiver<Piece>,
    current: Arc<Vec<u8>>,
    position: usize,
    ended: bool,
}

/// A pipe with one writer and `count` readers that each see everything.
pub fn pipe<const COUNT: usize>() -> (PipeWriter, [PipeReader; COUNT]) {
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
    pub fn finish(mut self) -> io::Result<()> {
        self.send()?;
        for sender in &self.senders {
            // An empty piece is the end. A reader that has gone needs none.
            drop(sender.send(Ok(Arc::default())));
        }
        Ok(())
    }

    /// Tells the readers why the stream ends here.
    pub fn fail(self, error: &io::Error) {
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
    pub fn each(&mut self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while self.next_piece()? {
            take(&self.current[self.position..])?;
            self.position = self.current.len();
        }
        Ok(())
    }

    /// The digest of everything.
    pub fn digest(mut self) -> io::Result<Digest> {
        let mut hasher = Hasher::default();
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
