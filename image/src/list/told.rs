//! What the store knows to tell of an image besides its config.

use std::collections::BTreeMap;

use strata_cache::Digest;
use strata_cache::image::{StoredImage, StoredList};

use super::{List, Member};
use crate::attest::{PREDICATE_ANNOTATION, SUBJECT_ANNOTATION};
use crate::manifest::{Document, Manifest};
use crate::{ImageError, Images};

/// Annotations and statements.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The predicate types of what is said of it, in order.
    pub statements: Vec<String>,
    /// The index that it came in, if that is kept whole.
    pub index: Option<Digest>,
}

impl Images<'_> {
    /// What is told of `image`, which is a member of `list` if there is one.
    pub fn told(&self, list: Option<&StoredList>, image: &StoredImage) -> Result<Told, ImageError> {
        let mut told = Told::default();
        if let Some(manifest) = image.manifest
            && let Some(manifest) = self.stored_manifest(manifest)?
        {
            told.annotations = manifest.annotations;
        }
        let Some(list) = list else {
            return Ok(told);
        };
        let list = List::parse(list)?;
        told.index = list.came_as;
        let mut members = list.members.iter();
        if let Some(member) = members.find(|it| it.image == Some(image.config)) {
            told.annotations.extend(member.manifest_annotations.clone());
            let said = member.statements().iter();
            told.statements
                .extend(said.map(|one| one.predicate_type.clone()));
            let own = member.manifest.as_ref().map(|it| it.digest);
            let about = |it: &&Member| {
                let subject = it.annotations.get(SUBJECT_ANNOTATION);
                subject.and_then(|text| text.parse::<Digest>().ok()) == own && own.is_some()
            };
            for said in list.members.iter().filter(about) {
                told.statements.extend(self.predicates(said)?);
            }
        }
        Ok(told)
    }

    /// The predicate types that an attestation manifest of the store names.
    pub fn predicates(&self, member: &Member) -> Result<Vec<String>, ImageError> {
        let Some(descriptor) = &member.manifest else {
            return Ok(Vec::new());
        };
        let Some(manifest) = self.stored_manifest(descriptor.digest)? else {
            return Ok(Vec::new());
        };
        let layers = manifest.layers.into_iter();
        Ok(layers
            .filter_map(|mut layer| layer.annotations.remove(PREDICATE_ANNOTATION))
            .collect())
    }

    fn stored_manifest(&self, digest: Digest) -> Result<Option<Manifest>, ImageError> {
        let blobs = self.store().blobs();
        if !blobs.contains(digest) {
            return Ok(None);
        }
        Ok(match Document::parse(&blobs.read(digest)?, None) {
            Ok(Document::Manifest(manifest)) => Some(*manifest),
            _ => None,
        })
    }
}
