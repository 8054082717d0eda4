//! Encodings of layer tars. Codec, level and implementation are part of a blob's identity: another
//! version of a library may give other bytes for the same input.

use std::io::{Read, Write};

/// A way to compress a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Plain tar.
    None,
    /// gzip at a level (0 to 9), compressed in blocks on all cores; same bytes on any number.
    Gzip(u32),
    /// zstd at a level (1 to 22).
    Zstd(i32),
}

impl Codec {
    /// The name under which blobs of this encoding are kept, such as `gzip-6-zlibrs1`.
    pub fn encoding(self) -> String {
        todo!()
    }

    /// Compresses everything written to it into `output`. Call `finish` at the end.
    pub fn encoder<'a>(
        self,
        output: Box<dyn Write + Send + 'a>,
    ) -> std::io::Result<Box<dyn Encoder + 'a>> {
        let _ = output;
        todo!()
    }
}

/// A compressing writer.
pub trait Encoder: Write + Send {
    /// Writes what is left and the trailer.
    fn finish(self: Box<Self>) -> std::io::Result<()>;
}

/// Decompresses by content: gzip (several members), zstd (several frames, skippable ones too), or
/// plain. The media type is not trusted.
pub fn decoder<'a>(input: Box<dyn Read + Send + 'a>) -> std::io::Result<Box<dyn Read + Send + 'a>> {
    let _ = input;
    todo!()
}
