//! Fetches and unpacks the layers of an image.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use strata_cache::index::LayerBlob;
use strata_cache::{ChainId, LayerId, Lease, StoreError};

use crate::stream::Watched;
use crate::unpack::{self, UnpackError};
use crate::{ImageError, Images, Progress, ResolvedImage, ResolvedLayer};

/// Downloads from one registry at a time: what Docker does, and what registries are used to.
const DOWNLOADS: usize = 4;

impl Images<'_> {
    /// Unpacks the layers of `image` that are not unpacked yet, fetching what lacks, and claims all
    /// for `lease`. Fetches several at once and unpacks in order; two processes that want the same
    /// layer unpack it once.
    pub fn ensure_layers(
        &self,
        lease: &Lease,
        image: &ResolvedImage,
        progress: &dyn Progress,
    ) -> Result<Vec<LayerId>, ImageError> {
        let index = self.store().index();
        let mut have: Vec<Option<LayerId>> = Vec::with_capacity(image.layers.len());
        let mut chains: Vec<ChainId> = Vec::with_capacity(image.layers.len());
        for layer in &image.layers {
            let chain = match chains.last() {
                Some(below) => below.push(layer.diff_id),
                None => ChainId(layer.diff_id.0),
            };
            chains.push(chain);
            have.push(match layer.layer {
                Some(id) if index.claim_layer_id(lease, id)? => Some(id),
                _ => index.claim_chain(lease, chain)?,
            });
        }
        if let Some(complete) = have.iter().copied().collect::<Option<Vec<_>>>() {
            self.remember(image)?;
            return Ok(complete);
        }
        let missing: Vec<usize> = (0..have.len()).filter(|i| have[*i].is_none()).collect();
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..DOWNLOADS.min(missing.len()) {
                let sender = sender.clone();
                let (missing, next, stop) = (&missing, &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(position) = missing.get(next.fetch_add(1, Ordering::Relaxed))
                        else {
                            break;
                        };
                        let layer = &image.layers[*position];
                        let result = self.fetch_layer(image, layer, progress);
                        let failed = result.is_err();
                        if sender.send((*position, result)).is_err() || failed {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let result = self.unpack_as_they_come(lease, image, &chains, have, &receiver, progress);
            stop.store(true, Ordering::Relaxed);
            let layers = result?;
            self.remember(image)?;
            Ok(layers)
        })
    }

    /// Unpacks in order, waiting for each blob.
    fn unpack_as_they_come(
        &self,
        lease: &Lease,
        image: &ResolvedImage,
        chains: &[ChainId],
        have: Vec<Option<LayerId>>,
        receiver: &mpsc::Receiver<(usize, Result<(), ImageError>)>,
        progress: &dyn Progress,
    ) -> Result<Vec<LayerId>, ImageError> {
        let mut arrived = vec![false; have.len()];
        let mut stack = Vec::with_capacity(have.len());
        for (position, layer) in have.into_iter().enumerate() {
            if let Some(layer) = layer {
                stack.push(layer);
                continue;
            }
            while !arrived[position] {
                // Each missing layer is sent once, or the fetching ended with an error before.
                let (which, result) = receiver.recv().map_err(|_| ImageError::LayerGone {
                    name: image.name.clone(),
                    layer: image.layers[position].diff_id.0,
                })?;
                result?;
                arrived[which] = true;
            }
            let layer = self.unpack_layer(
                lease,
                &image.name,
                &image.layers[position],
                &stack,
                chains[position],
                progress,
            )?;
            self.store()
                .index()
                .set_image_layer(image.config_digest, position, layer)?;
            stack.push(layer);
        }
        Ok(stack)
    }

    /// Sees to it that the blob of a layer is in the store.
    fn fetch_layer(
        &self,
        image: &ResolvedImage,
        layer: &ResolvedLayer,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let gone = || ImageError::LayerGone {
            name: image.name.clone(),
            layer: layer.diff_id.0,
        };
        let blob = layer.blob.as_ref().ok_or_else(gone)?;
        if self.fetch_blob(blob, image.source.as_slice(), progress)? {
            Ok(())
        } else {
            Err(gone())
        }
    }

    fn unpack_layer(
        &self,
        lease: &Lease,
        name: &str,
        layer: &ResolvedLayer,
        stack: &[LayerId],
        chain: ChainId,
        progress: &dyn Progress,
    ) -> Result<LayerId, ImageError> {
        let store = self.store();
        let Some(blob) = &layer.blob else {
            return Err(ImageError::LayerGone {
                name: name.to_owned(),
                layer: layer.diff_id.0,
            });
        };
        let what = format!("unpack {}", blob.digest.short());
        let open = || -> Result<Box<dyn Read + Send + '_>, StoreError> {
            let file = store.blobs().open(blob.digest)?;
            Ok(Box::new(Watched::new(
                file,
                &what,
                Some(blob.size),
                progress,
            )))
        };
        let unpacked = unpack::unpack(store, lease, stack, chain, layer.diff_id, self.limits, open);
        let id = unpacked.map_err(|error| match error {
            UnpackError::Store(error) => ImageError::Store(error),
            UnpackError::Diff(source) => ImageError::Unpack {
                name: name.to_owned(),
                layer: blob.digest,
                source,
            },
            UnpackError::DiffId(found) => ImageError::DiffId {
                name: name.to_owned(),
                blob: blob.digest,
                expected: layer.diff_id.0,
                found: found.0,
            },
        })?;
        let compression = unpack::compression_of(store, blob.digest)?;
        store.index().add_layer_blob(
            id,
            &LayerBlob {
                digest: blob.digest,
                size: blob.size,
                encoding: compression.pulled_encoding().to_owned(),
            },
        )?;
        Ok(id)
    }
}
