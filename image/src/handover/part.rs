//! What the layers of an image are sent as.

use std::io::{self, Write};

use strata_cache::codec::{self, Codec};
use strata_cache::diff::{self, WriteOptions};
use strata_cache::image::{StoredBlob, StoredLayer};
use strata_cache::{Digest, LayerId};

use super::{HandOverError, Work};
use crate::export::{self, Encoding, blob_for};
use crate::manifest::media;
use crate::stream::{REPORT, copy};
use crate::unpack::{Compression, compression_of};
use crate::{ExportError, Progress};

/// A layer that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// As a manifest names it.
    pub(super) blob: StoredBlob,
    /// Bytes that are sent.
    pub(super) size: u64,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// A blob of the store.
    Blob(Digest),
    /// The same, decompressed.
    Unpacked(Digest),
    /// A layer, written as a tar.
    Layer(LayerId, WriteOptions),
}

impl Work<'_> {
    /// How a manifest names a layer: by the blob that it came as, whether that is here or not, else as a
    /// plain tar. Always in the same way, so that an engine knows it again.
    pub(super) fn named(&self, layer: &StoredLayer) -> Result<StoredBlob, HandOverError> {
        if let Some(blob) = &layer.blob
            && !self.images.store().blobs().contains(blob.digest)
        {
            return Ok(StoredBlob {
                media_type: media::oci_layer(&blob.media_type).to_owned(),
                ..blob.clone()
            });
        }
        self.here(layer).map(|part| part.blob)
    }

    /// A layer as it can be sent: fetched, if it is in a registry only.
    pub(super) fn part(&self, layer: &StoredLayer) -> Result<Part, HandOverError> {
        if let Some(blob) = &layer.blob {
            match self.images.fetch_blob(blob, &[], self.progress) {
                // What is unpacked may do.
                Err(error) if layer.layer.is_some() => {
                    tracing::warn!("layer {}: {error}", blob.digest);
                }
                other => {
                    other?;
                }
            }
        }
        self.here(layer)
    }

    /// A layer for an engine that may know no zstd.
    pub(super) fn part_without_zstd(&self, layer: &StoredLayer) -> Result<Part, HandOverError> {
        let mut part = self.part(layer)?;
        if let Source::Blob(digest) = part.source
            && compression_of(self.images.store(), digest)? == Compression::Zstd
        {
            let mut size = Counter(0);
            self.unpack(digest, &mut size)?;
            (part.size, part.source) = (size.0, Source::Unpacked(digest));
        }
        Ok(part)
    }

    fn here(&self, layer: &StoredLayer) -> Result<Part, HandOverError> {
        let store = self.images.store();
        let of_blob = |blob: StoredBlob| Part {
            size: blob.size,
            source: Source::Blob(blob.digest),
            blob,
        };
        if let Some(blob) = &layer.blob
            && store.blobs().contains(blob.digest)
        {
            let compression = compression_of(store, blob.digest)?;
            // Manifests have no names for others.
            if let Compression::None | Compression::Gzip | Compression::Zstd = compression {
                return Ok(of_blob(StoredBlob {
                    media_type: compression.media_type().to_owned(),
                    ..blob.clone()
                }));
            }
        } else if layer.blob.is_none()
            && let Some(id) = layer.layer
            && let Some(row) = store.index().layer(id)?
            && row.chain_id.is_none()
        {
            let (options, size) = export::plain_size(store, id, layer.diff_id, self.what.write)?;
            return Ok(Part {
                blob: StoredBlob {
                    digest: layer.diff_id.0,
                    size,
                    media_type: media::OCI_LAYER.to_owned(),
                },
                size,
                source: Source::Layer(id, options),
            });
        }
        let encoding = Encoding::new(Codec::None);
        let blob = blob_for(store, layer, &encoding, self.what.write, self.progress)?;
        Ok(of_blob(blob))
    }

    /// Writes what is to be sent of a layer.
    pub(super) fn write_part(
        &self,
        part: &Part,
        output: &mut dyn Write,
    ) -> Result<(), ExportError> {
        let store = self.images.store();
        let what = part.blob.digest.short();
        let mut output = Reported {
            inner: output,
            what: &what,
            done: 0,
            last: 0,
            total: part.size,
            progress: self.progress,
        };
        match part.source {
            Source::Blob(digest) => {
                let mut file = store.blobs().open(digest)?;
                copy(&mut file, &mut output).map_err(|source| unsent(digest, source))?;
            }
            Source::Unpacked(digest) => self.unpack(digest, &mut output)?,
            Source::Layer(id, options) => {
                let links = store.hard_links(id)?;
                diff::write_layer(&store.layer_path(id), &links, options, &mut output)
                    .map_err(|source| ExportError::Layer { layer: id, source })?;
            }
        }
        self.progress.update(&what, part.size, Some(part.size));
        Ok(())
    }

    fn unpack(&self, digest: Digest, output: &mut dyn Write) -> Result<(), ExportError> {
        let file = self.images.store().blobs().open(digest)?;
        codec::decoder(Box::new(file))
            .and_then(|mut plain| copy(&mut plain, output))
            .map_err(|source| unsent(digest, source))?;
        Ok(())
    }
}

fn unsent(blob: Digest, source: io::Error) -> ExportError {
    ExportError::Unread { blob, source }
}

/// Only counts.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reports what is written through it.
struct Reported<'a> {
    inner: &'a mut dyn Write,
    what: &'a str,
    done: u64,
    last: u64,
    total: u64,
    progress: &'a dyn Progress,
}

impl Write for Reported<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.done += count as u64;
        if self.done >= self.last + REPORT {
            self.last = self.done;
            self.progress.update(self.what, self.done, Some(self.total));
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
