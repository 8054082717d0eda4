//! Into the store, and what has to be known when an image leaves it again.

use strata_cache::diff::WriteOptions;
use strata_cache::image::StoredImage;
use strata_cache::{Digest, Lease, Store};

use super::{BuiltImage, Encoding, ExportError, claim, diff_id};
use crate::attest::Statement;
use crate::config::Time;
use crate::list::{List, Member, Said};
use crate::resolve::now_ms;

/// Images for the store, and what goes with them.
#[derive(Clone, Copy)]
pub struct StoredSet<'a> {
    /// One for each platform.
    pub images: &'a [BuiltImage],
    /// An index is to be made even of one image.
    pub index: bool,
    /// Annotations, and how statements are attached. What else is in it is for when blobs are made.
    pub encoding: &'a Encoding,
    /// What is said of each image.
    pub said: &'a Statements<'a>,
    /// What images are called in what is said of them.
    pub names: &'a [String],
}

/// Answers what is said of an image.
pub type Statements<'a> = dyn Fn(&BuiltImage) -> &'a [Statement] + Sync + 'a;

impl std::fmt::Debug for StoredSet<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("StoredSet")
            .field("images", &self.images)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Stores the image under `names` (in full). No blob is made: layers stay as they are.
pub fn store_image(
    store: &Store,
    lease: &Lease,
    image: &BuiltImage,
    names: &[String],
) -> Result<StoredImage, ExportError> {
    claim(store, lease, image)?;
    let config = store.blobs().put(image.config_bytes())?;
    let stored = StoredImage {
        config,
        manifest: None,
        layers: image.layers().to_vec(),
        created_ms: now_ms(),
    };
    store.index().put_image(&stored, names)?;
    Ok(stored)
}

/// Stores images: one that is nothing but an image as [`store_image`] does, others as a list. Answers
/// the ID of the image or the list.
pub fn store_images(
    store: &Store,
    lease: &Lease,
    set: &StoredSet<'_>,
    names: &[String],
) -> Result<Digest, ExportError> {
    let annotations = &set.encoding.annotations;
    let mut list = List {
        annotations: annotations.index.clone(),
        descriptor_annotations: annotations.index_descriptor.clone(),
        ..List::default()
    };
    for image in set.images {
        let mut member = Member::built(image.id(), image.platform().clone());
        member.annotations = annotations.descriptor_of(image.platform());
        member.manifest_annotations = annotations.manifest_of(image.platform());
        let statements = (set.said)(image);
        if !statements.is_empty() {
            let form = set.encoding.attestations;
            let said = Said::store(store, statements, set.names, form)?;
            member.said = Some(Box::new(said));
        }
        list.members.push(member);
    }
    if let ([image], [member], false) = (set.images, &list.members[..], set.index)
        && member.said.is_none()
    {
        if member.manifest_annotations.is_empty() && member.annotations.is_empty() {
            return Ok(store_image(store, lease, image, names)?.config);
        }
        list.alone = true;
    }
    for image in set.images {
        store_image(store, lease, image, &[])?;
    }
    Ok(list.store(store, names)?)
}

/// What [`store_images`] would answer, if it would find all that it writes: one that is nothing but an
/// image, as it is stored, under the same names.
pub fn stored(
    store: &Store,
    set: &StoredSet<'_>,
    names: &[String],
) -> Result<Option<Digest>, ExportError> {
    let ([image], false) = (set.images, set.index) else {
        return Ok(None);
    };
    let annotations = &set.encoding.annotations;
    let plain = annotations.descriptor_of(image.platform()).is_empty()
        && annotations.manifest_of(image.platform()).is_empty()
        && (set.said)(image).is_empty();
    if !plain {
        return Ok(None);
    }
    let stored = StoredImage {
        config: image.id(),
        manifest: None,
        layers: image.layers().to_vec(),
        created_ms: 0,
    };
    let there = store.index().has_image(&stored, names)? && store.blobs().contains(image.id());
    Ok(there.then(|| image.id()))
}

impl BuiltImage {
    /// How the layers of an image of the store are packed so that they get the diff IDs that its config
    /// names: with the times clamped that the build clamped. If it clamped any, the image was made, by
    /// its config, at just that time.
    pub fn write_options(&self, store: &Store) -> Result<WriteOptions, ExportError> {
        let plain = WriteOptions::default();
        for layer in self.layers() {
            let Some(id) = layer.layer else { continue };
            match store.index().layer(id)? {
                // A layer that came from an image has that image's times.
                Some(row) if row.chain_id.is_none() => {
                    if row.diff_id == Some(layer.diff_id) {
                        return Ok(plain);
                    }
                    let created = self.config().created.as_ref();
                    let clamped = WriteOptions {
                        epoch: created
                            .and_then(Time::timestamp)
                            .map(jiff::Timestamp::as_second),
                    };
                    let found = diff_id(store, id, clamped)?;
                    return Ok(if found == layer.diff_id {
                        clamped
                    } else {
                        plain
                    });
                }
                _ => {}
            }
        }
        Ok(plain)
    }
}
