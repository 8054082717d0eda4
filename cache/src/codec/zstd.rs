//! zstd on all cores.
//!
//! The input is cut into blocks of a fixed size, and each becomes a frame of its own (RFC 8878, 3.1) with its
//! length and its checksum in it. Frames one after the other are one stream to all readers. The bytes depend
//! on the input and the level alone. The library's own threads take something over from the block before, which
//! is copied and searched again: at the default level that takes a seventh more time, and gains nothing.

use std::cell::RefCell;
use std::io::{self, Write};

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

use super::Encoder;
use super::in_order::InOrder;

/// Binary logarithms of how many entries the two tables of matches have at level 3, the default: a
/// quarter of what the library would take, so that they stay in the cache of a core. That saves about a
/// third of the time, and costs 1.7 % of size.
const TABLES: [u32; 2] = [15, 14];

/// Input bytes of a frame: at least as many as the level looks back to, several times as many where that is
/// what the level is asked for.
fn block(level: i32) -> usize {
    match level {
        ..=8 => 2 << 20,
        9..=16 => 8 << 20,
        _ => 32 << 20,
    }
}

thread_local! {
    /// What a thread of the pool compressed with last, and the level.
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
}

/// A frame, and the input's buffer, to be filled again.
struct Frame {
    data: Vec<u8>,
    buffer: Vec<u8>,
}

pub(super) struct ZstdEncoder<'a> {
    output: Box<dyn Write + Send + 'a>,
    level: i32,
    block: Vec<u8>,
    jobs: InOrder<'a, io::Result<Frame>>,
    started: bool,
}

impl<'a> ZstdEncoder<'a> {
    pub(super) fn new(
        output: Box<dyn Write + Send + 'a>,
        level: i32,
        pool: &'a rayon::ThreadPool,
    ) -> io::Result<Self> {
        if !(1..=22).contains(&level) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("zstd has no level {level}"),
            ));
        }
        Ok(Self {
            output,
            level,
            block: Vec::new(),
            jobs: InOrder::new(pool, block(level)),
            started: false,
        })
    }

    /// Hands the block to the pool, waiting for the oldest frame if there are enough.
    fn submit(&mut self) -> io::Result<()> {
        let mut used = None;
        while self.jobs.is_full() {
            used = self.collect()?;
        }
        let (mut buffer, data) =
            used.map_or_else(Default::default, |frame| (frame.buffer, frame.data));
        buffer.clear();
        let block = std::mem::replace(&mut self.block, buffer);
        let level = self.level;
        self.jobs.submit(move || {
            let data = frame(&block, level, data)?;
            Ok(Frame {
                data,
                buffer: block,
            })
        });
        self.started = true;
        Ok(())
    }

    /// Writes the oldest frame; returns its memory for use again.
    fn collect(&mut self) -> io::Result<Option<Frame>> {
        let Some(frame) = self.jobs.next()? else {
            return Ok(None);
        };
        let frame = frame?;
        self.output.write_all(&frame.data)?;
        Ok(Some(frame))
    }
}

/// One frame, in `room`.
fn frame(block: &[u8], level: i32, mut room: Vec<u8>) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|last| {
        let compressor = match last {
            Some((of, compressor)) if *of == level => compressor,
            _ => &mut last.insert((level, compressor(level)?)).1,
        };
        room.clear();
        room.reserve(compress_bound(block.len()));
        compressor.compress_to_buffer(block, &mut room)?;
        Ok(room)
    })
}

fn compressor(level: i32) -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level)?;
    compressor.include_checksum(true)?;
    if level == 3 {
        let [long, short] = TABLES;
        compressor.set_parameter(CParameter::HashLog(long))?;
        compressor.set_parameter(CParameter::ChainLog(short))?;
    }
    Ok(compressor)
}

impl Write for ZstdEncoder<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let size = block(self.level);
        if self.block.capacity() == 0 {
            self.block.reserve_exact(size);
        }
        let count = buffer.len().min(size - self.block.len());
        self.block.extend_from_slice(&buffer[..count]);
        if self.block.len() == size {
            self.submit()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Blocks have one size, whoever flushes.
        Ok(())
    }
}

impl Encoder for ZstdEncoder<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if !self.block.is_empty() || !self.started {
            self.submit()?;
        }
        while self.collect()?.is_some() {}
        self.output.flush()
    }
}
