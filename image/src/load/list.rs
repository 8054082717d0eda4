//! Indexes in files: all their images become a list.

use strata_cache::Digest;

use super::{Candidate, Form, LoadError, Source, blob_name};
use crate::list::Member;
use crate::manifest::{Descriptor, Document, media};
use crate::{List, Platform};

impl Source<'_> {
    /// Brings all images of an index that the file holds into the store, as a list. None if it is no
    /// index, or the file holds just one of its images, as archives do that were made for one platform.
    pub(super) fn take_list(
        &mut self,
        candidate: &Candidate,
        names: &[String],
    ) -> Result<Option<Digest>, LoadError> {
        let Form::Oci(descriptor) = &candidate.form else {
            return Ok(None);
        };
        let bytes = self.blob_bytes(descriptor.digest)?;
        let document = Document::parse(&bytes, Some(&descriptor.media_type))
            .map_err(|error| self.wrong_manifest(error))?;
        let Document::Index(index) = document else {
            return Ok(None);
        };
        let mut there = Vec::with_capacity(index.manifests.len());
        for member in &index.manifests {
            let is_manifest = media::is_manifest(&member.media_type);
            if is_manifest && self.bundle.read(&blob_name(member.digest))?.is_some() {
                there.push(member);
            }
        }
        // One image is a list if anything is said of it.
        let images = there.iter().filter(|member| !member.is_attestation());
        let says_more = !index.annotations.is_empty()
            || there.iter().any(|member| !member.annotations.is_empty());
        match images.count() {
            0 => return Ok(None),
            1 if !says_more => return Ok(None),
            _ => {}
        }
        let source = names.first().map_or("", String::as_str);
        let mut list = List::default();
        list.annotations.clone_from(&index.annotations);
        descriptor.media_type.clone_into(&mut list.media_type);
        if there.len() == index.manifests.len() {
            list.came_as = Some(self.store.blobs().put(&bytes)?);
        }
        for member in there {
            let image = if member.is_attestation() || !self.is_image(member)? {
                self.take_blobs(member)?;
                None
            } else {
                let image = self.take_oci(member, &Platform::host())?;
                self.store.index().put_image(&image, &[])?;
                Some(image.config)
            };
            let mut member = Member::manifest(member, source, image);
            if source.is_empty() {
                member.source = None;
            }
            list.members.push(member);
        }
        Ok(Some(list.store(self.store, names)?))
    }

    fn is_image(&mut self, member: &Descriptor) -> Result<bool, LoadError> {
        let bytes = self.blob_bytes(member.digest)?;
        match Document::parse(&bytes, Some(&member.media_type)) {
            Ok(Document::Manifest(manifest)) => Ok(manifest.is_image()),
            Ok(Document::Index(_)) => Ok(false),
            Err(error) => Err(self.wrong_manifest(error)),
        }
    }

    /// Brings a manifest that is no image, and what it names, into the store.
    fn take_blobs(&mut self, member: &Descriptor) -> Result<(), LoadError> {
        let bytes = self.blob_bytes(member.digest)?;
        let document = Document::parse(&bytes, Some(&member.media_type))
            .map_err(|error| self.wrong_manifest(error))?;
        if let Document::Manifest(manifest) = document {
            for blob in manifest.blobs() {
                self.take_blob(blob.digest, blob.size)?;
            }
        }
        self.store.blobs().put(&bytes)?;
        Ok(())
    }
}
