//! Diff IDs and blobs of single layers: made once, remembered in the index.
//!
//! With an epoch a layer's tar is another one, so what is remembered for it has names of its own:
//! the encoding's name with the epoch behind it. The diff ID has no column for that; it is kept as a
//! small blob that holds its text.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use strata_cache::codec::{self, Codec, indexed};
use strata_cache::diff::{self, DiffError, WriteOptions};
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::index::{DIFF_ID, LayerBlob, LayerRow};
use strata_cache::pipe::{PipeReader, PipeWriter, pipe};
use strata_cache::{DiffId, Digest, Hasher, LayerId, Store, StoreError};

use super::{Encoding, ExportError};
use crate::Progress;
use crate::stream::{Hashing, Watched, copy};
use crate::unpack::{self, Compression};

/// Bytes of a layer whose diff ID is made at once, see [`small_diff_id`].
const SMALL: u64 = 256 * 1024;

/// The diff ID of a layer, made once for each layer and epoch and remembered in the index.
///
/// A layer that came from an image has the diff ID that it came with, whatever `options` say:
/// its times are the image's.
pub fn diff_id(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
) -> Result<DiffId, ExportError> {
    if let Some(known) = known_diff_id(store, layer, options)? {
        return Ok(known);
    }
    let lock = format!("export {layer}{}", suffix(options));
    let _guard = store.lock_named(&lock, false, &mut || {})?;
    if let Some(known) = known_diff_id(store, layer, options)? {
        return Ok(known);
    }
    let (writer, [tar]) = pipe();
    let (written, hashed) = std::thread::scope(|scope| {
        let hash = scope.spawn(move || tar.digest());
        let written = write_tar(store, layer, options, writer);
        (written, join(hash))
    });
    written?;
    let digest = hashed.map_err(|source| stream_error(layer, source))?;
    let diff_id = DiffId(digest);
    remember_diff_id(store, layer, options, diff_id)?;
    Ok(diff_id)
}

/// The diff ID of a layer that is so small that to make it takes less than to tell others about it; none
/// if it is not, or is known. It is left to the caller to remember it, with others at once.
pub fn small_diff_id(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
) -> Result<Option<DiffId>, ExportError> {
    let row = row_of(store, layer)?;
    let known = row.diff_id.is_some() || row.chain_id.is_some();
    if known || options.epoch.is_some() || row.size > SMALL {
        return Ok(None);
    }
    let mut hasher = Hasher::default();
    let links = store.hard_links(layer)?;
    diff::write_layer(&store.layer_path(layer), &links, options, &mut hasher)
        .map_err(|source| ExportError::Layer { layer, source })?;
    Ok(Some(DiffId(hasher.finish())))
}

/// The [`diff_id`] if it was made before. Nothing of the layer is read.
pub fn known_diff_id(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
) -> Result<Option<DiffId>, ExportError> {
    let row = row_of(store, layer)?;
    if row.chain_id.is_some() || options.epoch.is_none() {
        return Ok(row.diff_id);
    }
    let encoding = format!("{DIFF_ID}{}", suffix(options));
    let Some(blob) = store.index().layer_blob(layer, &encoding)? else {
        return Ok(None);
    };
    let text = store.blobs().read(blob.digest)?;
    let parsed = std::str::from_utf8(&text).ok();
    Ok(parsed.and_then(|text| text.parse().ok()).map(DiffId))
}

fn row_of(store: &Store, layer: LayerId) -> Result<LayerRow, StoreError> {
    let row = store.index().layer(layer)?;
    row.ok_or(StoreError::NoLayer { layer })
}

fn remember_diff_id(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
    diff_id: DiffId,
) -> Result<(), ExportError> {
    if options.epoch.is_none() {
        store.index().set_diff_id(layer, diff_id)?;
        return Ok(());
    }
    let text = diff_id.0.to_string();
    let digest = store.blobs().put(text.as_bytes())?;
    store.index().add_layer_blob(
        layer,
        &LayerBlob {
            digest,
            size: text.len() as u64,
            encoding: format!("{DIFF_ID}{}", suffix(options)),
        },
    )?;
    Ok(())
}

fn suffix(options: WriteOptions) -> String {
    match options.epoch {
        Some(epoch) => format!("+epoch={epoch}"),
        None => String::new(),
    }
}

/// The tar of a layer, compressed and kept as a blob: made once for each layer, codec and epoch.
/// Reading, compressing and writing run beside each other. The diff ID is made on the way, by the thread that
/// reads: what it has just read is in its core's cache, and another core would wait for each line of it.
pub fn layer_blob(
    store: &Store,
    layer: LayerId,
    codec: Codec,
    options: WriteOptions,
    progress: &dyn Progress,
) -> Result<LayerBlob, ExportError> {
    let row = row_of(store, layer)?;
    // Times of a layer that came from an image are not touched.
    let options = if row.chain_id.is_some() {
        WriteOptions::default()
    } else {
        options
    };
    let encoding = format!("{}{}", codec.encoding(), suffix(options));
    if let Some(known) = store.index().layer_blob(layer, &encoding)? {
        return Ok(known);
    }
    let lock = format!("export {layer}{}", suffix(options));
    let _guard = store.lock_named(&lock, false, &mut || {})?;
    if let Some(known) = store.index().layer_blob(layer, &encoding)? {
        return Ok(known);
    }

    let mut blob = store.blobs().writer()?;
    let what = layer.to_string();
    let (writer, [to_compress]) = pipe();
    let mut hasher = Hasher::default();
    let (written, compressed) = std::thread::scope(|scope| {
        let blob = &mut blob;
        let compress = scope.spawn(move || compress(codec, to_compress, blob));
        let mut writer = Reported {
            inner: writer,
            hasher: &mut hasher,
            what: &what,
            done: 0,
            total: row.size,
            progress,
        };
        let written = diff::write_layer(
            &store.layer_path(layer),
            &store.hard_links(layer)?,
            options,
            &mut writer,
        );
        let done = writer.done;
        let written = end(writer.inner, layer, written);
        progress.update(&what, done, Some(done));
        Ok::<_, ExportError>((written, join(compress)))
    })?;
    // The compressor's error says more than the pipe that it left behind.
    compressed.map_err(|source| ExportError::Compress { layer, source })?;
    written?;
    let digest = hasher.finish();
    match known_diff_id(store, layer, options)? {
        Some(expected) if expected.0 != digest => {
            return Err(ExportError::DiffId {
                layer,
                expected: expected.0,
                found: digest,
            });
        }
        Some(_) => {}
        None => remember_diff_id(store, layer, options, DiffId(digest))?,
    }
    let (digest, size) = blob.commit(None)?;
    let made = LayerBlob {
        digest,
        size,
        encoding,
    };
    store.index().add_layer_blob(layer, &made)?;
    Ok(made)
}

fn compress(
    codec: Codec,
    mut input: PipeReader,
    output: &mut (dyn Write + Send),
) -> io::Result<()> {
    if codec.is_indexed() {
        return indexed::compress(codec, &mut input, output).map(drop);
    }
    let mut encoder = codec.encoder(Box::new(output))?;
    input.each(&mut |piece| encoder.write_all(piece))?;
    encoder.finish()
}

fn write_tar(
    store: &Store,
    layer: LayerId,
    options: WriteOptions,
    mut writer: PipeWriter,
) -> Result<(), ExportError> {
    let links = store.hard_links(layer)?;
    let written = diff::write_layer(&store.layer_path(layer), &links, options, &mut writer);
    end(writer, layer, written)
}

/// Ends the pipe as the writing ended.
fn end(
    writer: PipeWriter,
    layer: LayerId,
    written: Result<(), DiffError>,
) -> Result<(), ExportError> {
    match written {
        Ok(()) => writer
            .finish()
            .map_err(|source| stream_error(layer, source)),
        Err(source) => {
            writer.fail(&io::Error::other("the layer can't be written"));
            Err(ExportError::Layer { layer, source })
        }
    }
}

fn stream_error(layer: LayerId, source: io::Error) -> ExportError {
    ExportError::Layer {
        layer,
        source: DiffError::Output(source),
    }
}

fn join<T>(handle: std::thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    handle
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a helper thread panicked")))
}

/// Hashes and reports what is written through it.
struct Reported<'a, W> {
    inner: W,
    hasher: &'a mut Hasher,
    what: &'a str,
    done: u64,
    total: u64,
    progress: &'a dyn Progress,
}

impl<W: Write> Write for Reported<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        let before = self.done >> 20;
        self.done += count as u64;
        if self.done >> 20 != before {
            // The size on disk is a guess at the tar's.
            self.progress
                .update(self.what, self.done, Some(self.total.max(self.done)));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The blob to write for a layer of an image: the one that it came as, else one in `codec`, as a
/// manifest has to name it (OCI media types). A layer that came as a plain tar is compressed.
pub fn image_blob(
    store: &Store,
    layer: &StoredLayer,
    codec: Codec,
    options: WriteOptions,
    progress: &dyn Progress,
) -> Result<StoredBlob, ExportError> {
    blob_for(store, layer, &Encoding::new(codec), options, progress)
}

/// [`image_blob`], with the choice to compress anew.
pub(crate) fn blob_for(
    store: &Store,
    layer: &StoredLayer,
    encoding: &Encoding,
    options: WriteOptions,
    progress: &dyn Progress,
) -> Result<StoredBlob, ExportError> {
    let (codec, force_codec) = (encoding.codec, encoding.force_codec);
    let gone = || ExportError::LayerGone {
        diff_id: layer.diff_id.0,
    };
    let original = match &layer.blob {
        Some(blob) if store.blobs().contains(blob.digest) => Some(blob),
        _ => None,
    };
    if let Some(blob) = original {
        let compression = unpack::compression_of(store, blob.digest)?;
        if serves(compression, codec, force_codec) {
            return Ok(StoredBlob {
                media_type: compression.media_type().to_owned(),
                ..blob.clone()
            });
        }
        return recompress(store, layer, blob, codec, progress);
    }
    let Some(id) = layer.layer else {
        return Err(gone());
    };
    let row = store.index().layer(id)?.ok_or_else(gone)?;
    if row.chain_id.is_some() {
        // It came from an image. Another image may have brought it in another blob.
        let pulled = store
            .index()
            .layer_blobs(id)?
            .into_iter()
            .find(|blob| blob.encoding.ends_with("-pulled"));
        if let Some(blob) = pulled {
            let compression = Compression::of_encoding(&blob.encoding);
            let stored = StoredBlob {
                digest: blob.digest,
                size: blob.size,
                media_type: compression.media_type().to_owned(),
            };
            if serves(compression, codec, force_codec) {
                return Ok(stored);
            }
            return recompress(store, layer, &stored, codec, progress);
        }
    }
    let options = options_of(store, id, layer.diff_id, options)?;
    let made = match layer_blob(store, id, codec, options, progress) {
        // Written again, a layer that another engine has made is seldom the same tar.
        Err(ExportError::DiffId { .. }) if row.chain_id.is_some() => return Err(gone()),
        other => other?,
    };
    Ok(StoredBlob {
        digest: made.digest,
        size: made.size,
        media_type: Compression::of_encoding(&made.encoding)
            .media_type()
            .to_owned(),
    })
}

/// The options with which `layer` has the diff ID that its image says. `likely` ones come first: an image
/// that was stored before, or stands on one that was, has layers with the times of that build.
fn options_of(
    store: &Store,
    layer: LayerId,
    wanted: DiffId,
    likely: WriteOptions,
) -> Result<WriteOptions, ExportError> {
    let found = diff_id(store, layer, likely)?;
    if found == wanted {
        return Ok(likely);
    }
    let epochs = store.index().layer_blobs(layer)?;
    let epochs = epochs.iter().filter_map(|blob| {
        let epoch = blob.encoding.strip_prefix(DIFF_ID)?;
        epoch.strip_prefix("+epoch=")?.parse().ok()
    });
    for epoch in epochs.map(Some).chain([None]) {
        let options = WriteOptions { epoch };
        if known_diff_id(store, layer, options)? == Some(wanted) {
            return Ok(options);
        }
    }
    Err(ExportError::DiffId {
        layer,
        expected: wanted.0,
        found: found.0,
    })
}

/// The options with which a layer that was built here has the diff ID `wanted`, and how large its tar
/// is then: found out once, without reading a file, and remembered.
pub(crate) fn plain_size(
    store: &Store,
    layer: LayerId,
    wanted: DiffId,
    likely: WriteOptions,
) -> Result<(WriteOptions, u64), ExportError> {
    let options = options_of(store, layer, wanted, likely)?;
    let encoding = format!("{DIFF_ID}{}+size", suffix(options));
    if let Some(known) = store.index().layer_blob(layer, &encoding)? {
        let text = store.blobs().read(known.digest)?;
        let parsed = std::str::from_utf8(&text).ok();
        if let Some(size) = parsed.and_then(|text| text.parse().ok()) {
            return Ok((options, size));
        }
    }
    let links = store.hard_links(layer)?;
    let size = diff::layer_size(&store.layer_path(layer), &links, options)
        .map_err(|source| ExportError::Layer { layer, source })?;
    let text = size.to_string();
    let blob = LayerBlob {
        digest: store.blobs().put(text.as_bytes())?,
        size: text.len() as u64,
        encoding,
    };
    store.index().add_layer_blob(layer, &blob)?;
    Ok((options, size))
}

/// True if a blob may go out as it is.
fn serves(compression: Compression, codec: Codec, force_codec: bool) -> bool {
    match (compression, codec) {
        (Compression::None, Codec::None) => true,
        (Compression::None, _) => false,
        (Compression::Gzip | Compression::Zstd, _) if !force_codec => true,
        (Compression::Gzip, Codec::Gzip(_)) | (Compression::Zstd, Codec::Zstd(_)) => true,
        _ => false,
    }
}

/// Compresses a blob of the store anew, from its own uncompressed bytes.
fn recompress(
    store: &Store,
    layer: &StoredLayer,
    blob: &StoredBlob,
    codec: Codec,
    progress: &dyn Progress,
) -> Result<StoredBlob, ExportError> {
    let encoding = codec.encoding();
    let media_type = Compression::of_encoding(&encoding).media_type().to_owned();
    // A blob that came from elsewhere may belong to no layer yet; then its own digest names it.
    let id = layer.layer;
    if let Some(id) = id
        && let Some(known) = store.index().layer_blob(id, &encoding)?
    {
        return Ok(StoredBlob {
            digest: known.digest,
            size: known.size,
            media_type,
        });
    }
    let failed = |source: io::Error| ExportError::Recompress {
        blob: blob.digest,
        source,
    };
    let what = blob.digest.short();
    let file = store.blobs().open(blob.digest)?;
    let watched = Watched::new(file, &what, Some(blob.size), progress);
    let mut plain = Hashing::new(codec::decoder(Box::new(watched)).map_err(failed)?);
    let mut output = store.blobs().writer()?;
    {
        let (mut sink, [source]) = pipe();
        let writer = &mut output;
        std::thread::scope(|scope| {
            let compress = scope.spawn(move || compress(codec, source, writer));
            let read = copy(&mut plain, &mut sink);
            let ended = match read {
                Ok(_) => sink.finish(),
                Err(error) => {
                    sink.fail(&error);
                    Err(error)
                }
            };
            join(compress).and(ended)
        })
        .map_err(failed)?;
    }
    let (found, _) = plain.finish();
    if found != layer.diff_id.0 {
        return Err(ExportError::BlobDiffId {
            blob: blob.digest,
            expected: layer.diff_id.0,
            found,
        });
    }
    let (digest, size) = output.commit(None)?;
    if let Some(id) = id {
        store.index().add_layer_blob(
            id,
            &LayerBlob {
                digest,
                size,
                encoding,
            },
        )?;
    }
    Ok(StoredBlob {
        digest,
        size,
        media_type,
    })
}

/// True if [`image_blob`] needs nothing from elsewhere.
pub(crate) fn is_present(store: &Store, layer: &StoredLayer) -> bool {
    layer
        .blob
        .as_ref()
        .is_some_and(|blob| store.blobs().contains(blob.digest))
}

/// The content of a blob from an offset on.
pub(crate) fn open_at(
    store: &Store,
    digest: Digest,
    offset: u64,
) -> io::Result<Box<dyn Read + 'static>> {
    use std::io::Seek as _;
    let mut file = store
        .blobs()
        .open(digest)
        .map_err(|error| io::Error::other(error.to_string()))?;
    file.seek(io::SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

/// What the blob `made` of a layer unpacks to: another archive than the layer's own, if its codec adds
/// something to it. Found out once for each.
pub(super) fn archive_of(
    store: &Store,
    layer: &StoredLayer,
    made: &StoredBlob,
) -> Result<DiffId, ExportError> {
    if layer
        .blob
        .as_ref()
        .is_some_and(|blob| blob.digest == made.digest)
    {
        return Ok(layer.diff_id);
    }
    let encoding = format!("{DIFF_ID}+of={}", made.digest.hex());
    if let Some(id) = layer.layer
        && let Some(known) = store.index().layer_blob(id, &encoding)?
    {
        let text = store.blobs().read(known.digest)?;
        let parsed = std::str::from_utf8(&text).ok();
        if let Some(digest) = parsed.and_then(|text| text.parse().ok()) {
            return Ok(DiffId(digest));
        }
    }
    let file = store.blobs().open(made.digest)?;
    let (digest, _) = codec::decoder(Box::new(file))
        .and_then(|mut plain| Digest::of_reader(&mut plain))
        .map_err(|source| ExportError::Recompress {
            blob: made.digest,
            source,
        })?;
    if let Some(id) = layer.layer {
        let text = digest.to_string();
        let blob = LayerBlob {
            digest: store.blobs().put(text.as_bytes())?,
            size: text.len() as u64,
            encoding,
        };
        store.index().add_layer_blob(id, &blob)?;
    }
    Ok(DiffId(digest))
}

/// The annotations that a manifest has for a blob of the store: those of a table of contents in it.
pub(super) fn annotations(store: &Store, digest: Digest) -> BTreeMap<String, String> {
    // What can't be read shows when it is written; a blob that is elsewhere is not looked at.
    let found = store.blobs().open(digest).ok();
    let found = found.and_then(|mut file| indexed::annotations(&mut file).ok());
    found.unwrap_or_default()
}
