//! Turns one layer's tar into a layer of the store.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use strata_cache::codec;
use strata_cache::diff::{self, DiffError, Limits};
use strata_cache::pipe::pipe;
use strata_cache::{
    CacheKey, ChainId, DiffId, Digest, LayerId, LayerView, Lease, Scratch, Store, StoreError,
};

use crate::stream::copy;

/// What one layer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Entries.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many times larger than its blob its tar may be. What is smaller than 64 MiB may be that
    /// in any case.
    pub ratio: Option<u64>,
}

impl Default for UnpackLimits {
    /// More than any real layer has; what stops an archive that never ends before the disk is full of
    /// empty files. A file full of zeros, which is no harm, shrinks to any ratio.
    fn default() -> Self {
        Self {
            entries: 20_000_000,
            bytes: 4 << 40,
            ratio: None,
        }
    }
}

/// Bytes to which anything may unpack.
const HARMLESS: u64 = 64 << 20;

/// Why a layer could not be unpacked.
#[derive(Debug)]
pub(crate) enum UnpackError {
    Diff(DiffError),
    Store(StoreError),
    /// It has another diff ID than it should.
    DiffId(DiffId),
}

impl From<StoreError> for UnpackError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The layer with chain ID `chain`: found, or unpacked from what `open` gives (compressed or not)
/// onto `stack`. Two processes that want the same chain unpack it once.
pub(crate) fn unpack<'a>(
    store: &Store,
    lease: &Lease,
    stack: &[LayerId],
    chain: ChainId,
    expected: DiffId,
    limits: UnpackLimits,
    open: impl FnOnce() -> Result<Box<dyn Read + Send + 'a>, StoreError>,
) -> Result<LayerId, UnpackError> {
    let key = CacheKey(Digest::of(format!("unpack {}", chain.0).as_bytes()));
    let _guard = store.lock_key(key, &mut || {})?;
    if let Some(layer) = store.index().claim_chain(lease, chain)? {
        return Ok(layer);
    }
    let mut unpacked = extract(store, stack, limits, open()?)?;
    if unpacked.diff_id != expected {
        return Err(UnpackError::DiffId(unpacked.diff_id));
    }
    let links = std::mem::take(&mut unpacked.applied.links);
    Ok(unpacked
        .scratch
        .commit_unpacked(lease, links, chain, expected)?)
}

/// A layer that was unpacked and not committed yet.
pub(crate) struct Extracted<'store> {
    pub(crate) scratch: Scratch<'store>,
    pub(crate) applied: diff::Applied,
    pub(crate) diff_id: DiffId,
}

/// Unpacks `input` onto `stack`. Reading with decompressing, hashing, and writing run beside each other.
pub(crate) fn extract<'store, 'a>(
    store: &'store Store,
    stack: &[LayerId],
    limits: UnpackLimits,
    input: Box<dyn Read + Send + 'a>,
) -> Result<Extracted<'store>, UnpackError> {
    let scratch = store.scratch(stack)?;
    let below = LayerView::new(store.layer_paths(stack));
    let (mut sink, [mut source, to_hash]) = pipe();
    let (applied, read, hashed) = std::thread::scope(|scope| {
        let hash = scope.spawn(move || to_hash.digest());
        let reader = scope.spawn(move || -> io::Result<()> {
            let result = (|| {
                let packed = AtomicU64::new(0);
                let input = Counted {
                    inner: input,
                    count: &packed,
                };
                let mut plain = Bounded {
                    inner: codec::decoder(Box::new(input))?,
                    packed: &packed,
                    count: 0,
                    ratio: limits.ratio,
                };
                copy(&mut plain, &mut sink)
            })();
            match result {
                Ok(_) => sink.finish(),
                Err(error) => {
                    sink.fail(&error);
                    Err(error)
                }
            }
        });
        let applied = diff::apply_layer(
            &mut source,
            scratch.upper(),
            &below,
            store.userxattr(),
            Limits {
                entries: limits.entries,
                bytes: limits.bytes,
            },
        )
        .and_then(|applied| {
            // What follows the end of the archive counts for the diff ID.
            io::copy(&mut source, &mut io::sink()).map_err(DiffError::Stream)?;
            Ok(applied)
        });
        drop(source);
        let panicked = || io::Error::other("a helper thread panicked");
        let read = reader.join().unwrap_or_else(|_| Err(panicked()));
        let hashed = hash.join().unwrap_or_else(|_| Err(panicked()));
        (applied, read, hashed)
    });
    let broken = |error| UnpackError::Diff(DiffError::Stream(error));
    let applied = applied.map_err(UnpackError::Diff)?;
    read.map_err(broken)?;
    let digest = hashed.map_err(broken)?;
    Ok(Extracted {
        scratch,
        applied,
        diff_id: DiffId(digest),
    })
}

/// Counts what is read of a blob.
struct Counted<'a, R> {
    inner: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Ends with an error where a blob has unpacked to too many times its own size.
struct Bounded<'a, R> {
    inner: R,
    packed: &'a AtomicU64,
    count: u64,
    ratio: Option<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        if let Some(ratio) = self.ratio
            && self.count > HARMLESS
            && self.count > self.packed.load(Ordering::Relaxed).saturating_mul(ratio)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it unpacks to more than {ratio} times its size (`max-ratio`)"),
            ));
        }
        Ok(count)
    }
}

/// What a blob is compressed with, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// As much as is looked at.
    pub(crate) const LOOK: usize = 6;

    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one in front.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }

    /// The media type of a layer that is compressed so.
    pub(crate) fn media_type(self) -> &'static str {
        use crate::manifest::media;
        match self {
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
            _ => media::OCI_LAYER,
        }
    }

    /// The same for the stored name of an encoding, such as `gzip-4-strata1`.
    pub(crate) fn of_encoding(encoding: &str) -> Self {
        match encoding.split(['-', '+']).next() {
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The name under which a blob that came from elsewhere is kept.
    pub(crate) fn pulled_encoding(self) -> &'static str {
        match self {
            Self::Gzip => "gzip-pulled",
            Self::Zstd => "zstd-pulled",
            _ => "none-pulled",
        }
    }
}

/// What the blob `digest` of the store is compressed with.
pub(crate) fn compression_of(store: &Store, digest: Digest) -> Result<Compression, StoreError> {
    let mut file = store.blobs().open(digest)?;
    let mut start = [0; Compression::LOOK];
    let count = read_start(&mut file, &mut start).map_err(|source| StoreError::Io {
        action: "read",
        path: store.blobs().path(digest),
        source,
    })?;
    Ok(Compression::of(&start[..count]))
}

/// Fills `buffer` as far as there is something to fill it with.
pub(crate) fn read_start(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
