//! Indexes of registries, and indexes within them.
//!
//! The members of an index within an index are members of the outer one: a platform is chosen among all
//! of them, and a pull of everything brings all of them. Every index is asked for by its digest, and what
//! comes has that digest, so none can hold itself; depth and number are bounded all the same, for a
//! registry may make up as many as it likes.

use strata_cache::Digest;

use crate::manifest::{Descriptor, Document, Index, ManifestError, media};
use crate::registry::FetchedManifest;
use crate::{ImageError, Images, Reference};

/// Indexes within indexes that are followed, as in files.
const MAX_DEPTH: usize = 3;
/// Indexes that one name may bring.
const MAX_INDEXES: usize = 64;
/// Members of all of them together.
const MAX_MEMBERS: usize = 4096;

/// An index that a name stands for in a registry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FoundIndex {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What it is called.
    pub(crate) media_type: String,
    /// What it says, with the members of indexes within it in their place.
    pub(crate) index: Index,
    /// The indexes within it, each before those that name it.
    pub(crate) nested: Vec<(Descriptor, Vec<u8>)>,
}

impl FoundIndex {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

impl Images<'_> {
    /// Follows the indexes within `index`, which `fetched` was parsed to. That asks the registry only if
    /// there are any.
    pub(crate) fn found_index(
        &self,
        reference: &Reference,
        fetched: FetchedManifest,
        mut index: Index,
    ) -> Result<FoundIndex, ImageError> {
        let media_type = index.media_type.as_ref().or(fetched.media_type.as_ref());
        let media_type = media_type.filter(|it| media::is_index(it)).cloned();
        let mut nested = Vec::new();
        let members = std::mem::take(&mut index.manifests);
        self.flatten(
            reference,
            members,
            MAX_DEPTH,
            &mut index.manifests,
            &mut nested,
        )?;
        Ok(FoundIndex {
            bytes: fetched.bytes,
            media_type: media_type.unwrap_or_else(|| media::OCI_INDEX.to_owned()),
            index,
            nested,
        })
    }

    fn flatten(
        &self,
        reference: &Reference,
        members: Vec<Descriptor>,
        depth: usize,
        flat: &mut Vec<Descriptor>,
        nested: &mut Vec<(Descriptor, Vec<u8>)>,
    ) -> Result<(), ImageError> {
        let wrong = |source: ManifestError| ImageError::Manifest {
            name: reference.to_string(),
            source,
        };
        for member in members {
            if !media::is_index(&member.media_type) {
                if flat.len() >= MAX_MEMBERS {
                    return Err(wrong(ManifestError::TooManyMembers { limit: MAX_MEMBERS }));
                }
                flat.push(member);
                continue;
            }
            if nested
                .iter()
                .any(|(known, _)| known.digest == member.digest)
            {
                continue;
            }
            if depth == 0 {
                return Err(wrong(ManifestError::TooDeep { limit: MAX_DEPTH }));
            }
            if nested.len() >= MAX_INDEXES {
                return Err(wrong(ManifestError::TooManyIndexes { limit: MAX_INDEXES }));
            }
            let fetched = self.member(reference, member.digest)?;
            let document = Document::parse(&fetched.bytes, Some(&member.media_type));
            let Document::Index(inner) = document.map_err(wrong)? else {
                return Err(wrong(ManifestError::MediaType {
                    media_type: format!("{} of a manifest", member.media_type),
                }));
            };
            let mut inner = inner.manifests;
            for leaf in &mut inner {
                if leaf.platform.is_none() {
                    leaf.platform.clone_from(&member.platform);
                }
            }
            // Noted first, so that it counts while those within it are followed.
            let place = nested.len();
            nested.push((member, fetched.bytes));
            self.flatten(reference, inner, depth - 1, flat, nested)?;
            nested[place..].rotate_left(1);
        }
        Ok(())
    }
}
