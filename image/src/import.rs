//! Makes an image of a root file system's tar.

use std::io::{self, Read, Write};

use strata_cache::image::{StoredBlob, StoredImage, StoredLayer};
use strata_cache::index::LayerBlob;
use strata_cache::{ChainId, Lease, Store, StoreError};

use crate::config::History;
use crate::resolve::now_ms;
use crate::unpack::{self, Compression, UnpackError, UnpackLimits, read_start};
use crate::{BuiltImage, ImageConfig, ImageError, Progress};

/// Makes a one-layer image of the tar that `reader` gives (plain, gzip, zstd, xz or bzip2), with
/// `config` as its config (layers and history are filled in), under `names` (in full).
///
/// The tar is unpacked at once, so errors in it show here. What was read is kept as the layer's
/// blob if it is plain, gzip or zstd; other compressions are kept as a plain tar.
pub fn import_rootfs(
    store: &Store,
    lease: &Lease,
    reader: &mut (dyn Read + Send),
    mut config: ImageConfig,
    names: &[String],
    limits: UnpackLimits,
    progress: &dyn Progress,
) -> Result<StoredImage, ImageError> {
    let what = "import";
    let write_error = |source| StoreError::Io {
        action: "write",
        path: store.root().join("blobs"),
        source,
    };
    let mut writer = store.blobs().writer()?;
    let mut watched = crate::stream::Watched::new(reader, what, None, progress);
    let mut start = [0; Compression::LOOK];
    let count = read_start(&mut watched, &mut start).map_err(write_error)?;
    let start = start[..count].to_vec();
    let compression = Compression::of(&start);
    let mut whole = io::Cursor::new(start).chain(watched);
    let (extracted, kept) = {
        // What the store can't keep as it is, is kept as it unpacks.
        let (mut input, kept): (Box<dyn Read + Send + '_>, _) = match compression {
            Compression::Xz | Compression::Bzip2 => (
                decompress(compression, Box::new(&mut whole)),
                Compression::None,
            ),
            other => (Box::new(&mut whole), other),
        };
        let mut tee = Tee {
            input: &mut input,
            output: &mut writer,
        };
        let extracted = unpack::extract(store, &[], limits, Box::new(&mut tee));
        // A decompressor stops at the end of its data; what follows belongs to the file, too.
        let extracted = match extracted {
            Ok(extracted) => {
                io::copy(&mut tee, &mut io::sink()).map_err(write_error)?;
                extracted
            }
            Err(UnpackError::Store(error)) => return Err(error.into()),
            Err(UnpackError::Diff(source)) => {
                return Err(ImageError::Import { source });
            }
            Err(UnpackError::DiffId(_)) => unreachable!("nothing is expected of an import"),
        };
        (extracted, kept)
    };
    let diff_id = extracted.diff_id;
    let (digest, size) = writer.commit(None)?;
    let chain = ChainId(diff_id.0);
    let layer =
        extracted
            .scratch
            .commit_unpacked(lease, extracted.applied.links, chain, diff_id)?;
    store.index().add_layer_blob(
        layer,
        &LayerBlob {
            digest,
            size,
            encoding: kept.pulled_encoding().to_owned(),
        },
    )?;
    config.history = vec![History {
        created: config.created.clone(),
        comment: "imported from a tar archive".to_owned(),
        ..History::default()
    }];
    let image = BuiltImage::new(
        config,
        vec![StoredLayer {
            diff_id,
            layer: Some(layer),
            blob: Some(StoredBlob {
                digest,
                size,
                media_type: kept.media_type().to_owned(),
            }),
        }],
    );
    store.blobs().put(image.config_bytes())?;
    let stored = StoredImage {
        config: image.id(),
        manifest: None,
        layers: image.layers().to_vec(),
        created_ms: now_ms(),
    };
    store.index().put_image(&stored, names)?;
    Ok(stored)
}

/// Decompresses what layers are not compressed with, but archives are.
pub(crate) fn decompress<'a>(
    compression: Compression,
    input: Box<dyn Read + Send + 'a>,
) -> Box<dyn Read + Send + 'a> {
    match compression {
        Compression::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(input)),
        Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(input)),
        _ => input,
    }
}

/// Writes down what is read.
struct Tee<R, W> {
    input: R,
    output: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.output.write_all(&buffer[..count])?;
        Ok(count)
    }
}
