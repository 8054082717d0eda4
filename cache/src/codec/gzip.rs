//! gzip on all cores.
//!
//! The input is cut into blocks of a fixed size, each is deflated by itself and ends on a byte, and the
//! results are put one after the other into one gzip member (RFC 1952) with the checksum of the whole.
//! Some readers stop behind the first of several members, so there is one. The bytes depend on the
//! input and the level alone. That no block refers to the one before costs less than 0.1 % in size.

use std::cell::RefCell;
use std::io::{self, Write};

use flate2::Crc;

use super::Encoder;
use super::deflate::Compressor;
use super::in_order::InOrder;

/// Input bytes of a block.
const BLOCK: usize = 1 << 20;

thread_local! {
    /// What each thread of the pool compresses with.
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor::new());
}

struct Compressed {
    data: Vec<u8>,
    crc: Crc,
    /// The input's buffer, to be filled again.
    buffer: Vec<u8>,
}

/// Memory of a block that is done, for the next one.
#[derive(Default)]
struct Used {
    buffer: Vec<u8>,
    data: Vec<u8>,
}

pub(super) struct GzipEncoder<'a> {
    output: Box<dyn Write + Send + 'a>,
    level: u32,
    block: Vec<u8>,
    jobs: InOrder<'a, Compressed>,
    crc: Crc,
    started: bool,
}

impl<'a> GzipEncoder<'a> {
    pub(super) fn new(
        output: Box<dyn Write + Send + 'a>,
        level: u32,
        pool: &'a rayon::ThreadPool,
    ) -> io::Result<Self> {
        if level > 9 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("gzip has no level {level}"),
            ));
        }
        Ok(Self {
            output,
            level,
            block: Vec::with_capacity(BLOCK),
            jobs: InOrder::new(pool, BLOCK),
            crc: Crc::new(),
            started: false,
        })
    }

    /// Hands the block to the pool, waiting for the oldest job if there are enough.
    fn submit(&mut self) -> io::Result<()> {
        let mut used = Used::default();
        while self.jobs.is_full() {
            used = self.collect()?.unwrap_or_default();
        }
        let Used { mut buffer, data } = used;
        buffer.reserve(BLOCK);
        let block = std::mem::replace(&mut self.block, buffer);
        let level = self.level;
        self.jobs.submit(move || compress(block, level, data));
        Ok(())
    }

    /// Writes the oldest job's result; returns its memory for use again.
    fn collect(&mut self) -> io::Result<Option<Used>> {
        let Some(Compressed {
            data,
            crc,
            mut buffer,
        }) = self.jobs.next()?
        else {
            return Ok(None);
        };
        self.start()?;
        self.output.write_all(&data)?;
        self.crc.combine(&crc);
        buffer.clear();
        Ok(Some(Used { buffer, data }))
    }

    fn start(&mut self) -> io::Result<()> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        // What the level was, as RFC 1952 has it for deflate.
        let extra = match self.level {
            9 => 2,
            1 => 4,
            _ => 0,
        };
        // No name, no time, unknown system: nothing that could differ.
        self.output
            .write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, extra, 255])
    }
}

fn compress(block: Vec<u8>, level: u32, room: Vec<u8>) -> Compressed {
    let data = COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(&block, level, room));
    let mut crc = Crc::new();
    crc.update(&block);
    Compressed {
        data,
        crc,
        buffer: block,
    }
}

impl Write for GzipEncoder<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = buffer.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buffer[..count]);
        if self.block.len() == BLOCK {
            self.submit()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Blocks have one size, whoever flushes.
        Ok(())
    }
}

impl Encoder for GzipEncoder<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if !self.block.is_empty() {
            self.submit()?;
        }
        while self.collect()?.is_some() {}
        self.start()?;
        // An empty final block with fixed codes.
        self.output.write_all(&[3, 0])?;
        self.output.write_all(&self.crc.sum().to_le_bytes())?;
        self.output.write_all(&self.crc.amount().to_le_bytes())?;
        self.output.flush()
    }
}
