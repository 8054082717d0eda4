//! Encodings of layer tars. Codec, level and implementation are part of a blob's identity: another
//! version of a library may give other bytes for the same input.
//!
//! Both encoders use all cores and give the same bytes on any number of them, and both hold a
//! bounded number of blocks in memory.

mod deflate;
mod gzip;
mod in_order;
pub mod indexed;
mod zstd;

use std::io::{self, Cursor, Read, Write};
use std::num::NonZero;
use std::sync::OnceLock;

/// A way to compress a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Plain tar.
    None,
    /// gzip at a level (0 to 9), compressed in blocks on all cores; same bytes on any number.
    Gzip(u32),
    /// zstd at a level (1 to 22), in frames compressed on all cores; same bytes on any number.
    Zstd(i32),
    /// gzip at a level, as estargz: see [`indexed`].
    Estargz(u32),
    /// zstd at a level, as zstd:chunked: see [`indexed`].
    ZstdChunked(i32),
}

impl Codec {
    /// gzip where no level is asked for: the quickest level whose blobs are no larger than those of other builders.
    pub const GZIP: Self = Self::Gzip(4);

    /// zstd where no level is asked for: the level of the `zstd` command.
    pub const ZSTD: Self = Self::Zstd(3);

    /// The name under which blobs of this encoding are kept, such as `gzip-4-strata1`.
    ///
    /// The number at the end counts the forms that this crate has had: it goes up whenever the bytes
    /// change, which a test with known digests finds out.
    pub fn encoding(self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::Gzip(level) => format!("gzip-{level}-strata1"),
            Self::Zstd(level) => format!("zstd-{level}-frames1"),
            Self::Estargz(level) => format!("gzip-{level}-estargz1"),
            Self::ZstdChunked(level) => format!("zstd-{level}-chunked1"),
        }
    }

    /// Compresses everything written to it into `output`. Call `finish` at the end.
    ///
    /// A level out of range is `InvalidInput`.
    pub fn encoder<'a>(
        self,
        output: Box<dyn Write + Send + 'a>,
    ) -> io::Result<Box<dyn Encoder + 'a>> {
        match self {
            Self::None => Ok(Box::new(Plain(output))),
            Self::Gzip(level) => {
                let pool = cpu_pool()?;
                Ok(Box::new(gzip::GzipEncoder::new(output, level, pool)?))
            }
            Self::Zstd(level) => {
                let pool = cpu_pool()?;
                Ok(Box::new(zstd::ZstdEncoder::new(output, level, pool)?))
            }
            Self::Estargz(_) | Self::ZstdChunked(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a table of contents is made of an archive, not of a stream",
            )),
        }
    }
}

fn cores() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

/// The threads that compress. Not rayon's global pool: nothing else may wait in this one.
fn cpu_pool() -> io::Result<&'static rayon::ThreadPool> {
    static POOL: OnceLock<rayon::ThreadPool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool);
    }
    let pool = build_pool(cores().get())?;
    // Another thread may have been faster; then this one's is dropped.
    Ok(POOL.get_or_init(|| pool))
}

fn build_pool(threads: usize) -> io::Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("strata-cpu-{index}"))
        // The job's answer is missed by who waits for it. Without this, rayon aborts the process.
        .panic_handler(|_| {})
        .build()
        .map_err(io::Error::other)
}

/// A compressing writer.
pub trait Encoder: Write + Send {
    /// Writes what is left and the trailer.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

struct Plain<'a>(Box<dyn Write + Send + 'a>);

impl Write for Plain<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Encoder for Plain<'_> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

/// Decompresses by content: gzip (several members), zstd (several frames, skippable ones too), or
/// plain. The media type is not trusted.
///
/// A stream that ends early or has anything else behind it is an error of the reader returned. zstd
/// windows above 128 MiB are refused.
pub fn decoder<'a>(mut input: Box<dyn Read + Send + 'a>) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = Vec::with_capacity(4);
    (&mut input).take(4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = match magic[..] {
        [0x28, 0xb5, 0x2f, 0xfd] => true,
        [first, 0x2a, 0x4d, 0x18] => first & 0xf0 == 0x50,
        _ => false,
    };
    let whole = Cursor::new(magic).chain(input);
    if gzip {
        Ok(Box::new(flate2::read::MultiGzDecoder::new(whole)))
    } else if zstd {
        Ok(Box::new(::zstd::stream::read::Decoder::new(whole)?))
    } else {
        Ok(Box::new(whole))
    }
}

#[cfg(test)]
mod tests;
