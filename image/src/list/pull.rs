//! Lists from registries: the images of an index, and what it says about them.

use strata_cache::image::StoredImage;
use strata_cache::{Digest, Lease, Store, StoreError};

use super::{List, Member};
use crate::attest::SUBJECT_ANNOTATION;
use crate::manifest::{Descriptor, Document, ManifestError};
use crate::nested::FoundIndex;
use crate::{ImageError, Images, Platform, Progress, PullPolicy, Reference};

impl FoundIndex {
    /// A list of some of its members, without any so far.
    pub(crate) fn list(&self) -> List {
        List {
            annotations: self.index.annotations.clone(),
            media_type: self.media_type.clone(),
            ..List::default()
        }
    }

    /// Notes in a list that it is all of the index, if it is: then it leaves the store as it came.
    fn complete(&self, list: &mut List, store: &Store) -> Result<(), StoreError> {
        let has = |descriptor: &Descriptor| {
            let mut members = list.members.iter();
            members.any(|it| it.is_manifest(descriptor.digest))
        };
        if !self.index.manifests.iter().all(has) {
            return Ok(());
        }
        list.came_as = Some(store.blobs().put(&self.bytes)?);
        list.nested.clear();
        for (descriptor, bytes) in &self.nested {
            store.blobs().put(bytes)?;
            list.nested.push(descriptor.clone());
        }
        Ok(())
    }

    fn is_of(&self, manifest: Digest) -> bool {
        self.index.manifests.iter().any(|it| it.digest == manifest)
    }
}

impl Member {
    fn is_manifest(&self, digest: Digest) -> bool {
        self.manifest.as_ref().is_some_and(|it| it.digest == digest)
    }
}

/// The manifest that a member of an index says something about.
fn subject_of(member: &Descriptor) -> Option<Digest> {
    member.annotations.get(SUBJECT_ANNOTATION)?.parse().ok()
}

impl Images<'_> {
    /// The list that `name` stands for once `image`, which `found` has, is pulled by it: with what the
    /// name stood for before, if all of that is of `found`, too. None if that is nothing else.
    pub(crate) fn gathered(
        &self,
        name: &str,
        found: &FoundIndex,
        image: &StoredImage,
    ) -> Result<Option<List>, ImageError> {
        let mut known: Vec<(Digest, Option<Digest>)> = Vec::new();
        let local = self.store().index();
        if let Some(old) = local.image_by_name(name)? {
            known.extend(old.manifest.map(|manifest| (manifest, Some(old.config))));
        } else if let Some(stored) = local.list_by_name(name)? {
            let list = List::parse(&stored)?;
            if let Some(came_as) = list.came_as {
                // All of an index: it stays so as long as the name means that index.
                return Ok((came_as == found.digest()).then_some(list));
            }
            for member in &list.members {
                if let Some(manifest) = &member.manifest {
                    known.push((manifest.digest, member.image));
                }
            }
        }
        if !known.iter().all(|(manifest, _)| found.is_of(*manifest)) {
            return Ok(None);
        }
        let own = image
            .manifest
            .map(|manifest| (manifest, Some(image.config)));
        known.extend(own);
        let mut list = found.list();
        for descriptor in &found.index.manifests {
            let mut newest_first = known.iter().rev();
            let there = newest_first.find(|(manifest, _)| *manifest == descriptor.digest);
            let repeated = list
                .members
                .iter()
                .any(|it| it.is_manifest(descriptor.digest));
            if let Some((_, config)) = there
                && !repeated
            {
                list.members
                    .push(Member::manifest(descriptor, name, *config));
            }
        }
        if list.members.len() < 2 {
            return Ok(None);
        }
        found.complete(&mut list, self.store())?;
        Ok(Some(list))
    }

    /// Fetches what is said about an image that was pulled just now, in the index that its name stands
    /// for, and keeps it with the image: the name is a list then.
    pub fn keep_said(
        &self,
        image: &crate::ResolvedImage,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let (Some((names, found)), Some(reference), Some(manifest)) =
            (image.found_in(), &image.source, image.manifest)
        else {
            return Ok(());
        };
        let about = |it: &&Descriptor| it.is_attestation() && subject_of(it) == Some(manifest);
        let name = reference.to_string();
        let mut known: Vec<Member> = Vec::new();
        for descriptor in found.index.manifests.iter().filter(about) {
            self.statement(reference, descriptor, progress)?;
            known.push(Member::manifest(descriptor, &name, None));
        }
        let described = |it: &Descriptor| it.digest == manifest && !it.annotations.is_empty();
        let says_more = !found.index.annotations.is_empty()
            || found.index.manifests.iter().any(described)
            || !known.is_empty();
        if !says_more {
            return Ok(());
        }
        if let Some(stored) = self.store().index().list_by_name(&names[0])? {
            let list = List::parse(&stored)?;
            if list.came_as.is_some() {
                return Ok(());
            }
            known.extend(list.members);
        } else {
            let own = found.index.manifests.iter();
            let own = own.filter(|it| it.digest == manifest);
            let member = |it| Member::manifest(it, &name, Some(image.config_digest));
            known.extend(own.map(member));
        }
        let mut list = found.list();
        for descriptor in &found.index.manifests {
            let member = known.iter().find(|it| it.is_manifest(descriptor.digest));
            let repeated = list
                .members
                .iter()
                .any(|it| it.is_manifest(descriptor.digest));
            list.members.extend(member.filter(|_| !repeated).cloned());
        }
        found.complete(&mut list, self.store())?;
        list.store(self.store(), names)?;
        Ok(())
    }

    /// Brings a manifest that is no image, and what it names, into the store.
    fn statement(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        let fetched = self.member(reference, descriptor.digest)?;
        let manifest = match Document::parse(&fetched.bytes, Some(&descriptor.media_type)) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => return Ok(()),
            Err(source) => {
                return Err(ImageError::Manifest {
                    name: reference.to_string(),
                    source,
                });
            }
        };
        for blob in manifest.blobs() {
            let (digest, size) = (blob.digest, blob.size);
            self.client()
                .download(reference, digest, size, self.store(), progress)?;
        }
        self.store().blobs().put(&fetched.bytes)?;
        Ok(())
    }

    /// Pulls the images of an index for `platforms`, all if that is empty, with what the index says
    /// about them, as one list. Indexes within it are followed. A name that stands for one image gives
    /// just that. Answers the name in full and the ID of the image or the list.
    pub fn pull_list(
        &self,
        lease: &Lease,
        reference: &Reference,
        platforms: &[Platform],
        progress: &dyn Progress,
    ) -> Result<(String, Digest), ImageError> {
        let name = reference.to_string();
        let wrong = |source: ManifestError| ImageError::Manifest {
            name: name.clone(),
            source,
        };
        let fetched = self.client().manifest(reference)?;
        let document = Document::parse(&fetched.bytes, fetched.media_type.as_deref());
        let Document::Index(index) = document.map_err(wrong)? else {
            let platform = platforms.first().cloned().unwrap_or_else(Platform::host);
            let always = PullPolicy::Always;
            let image = self.resolve(lease, &name, &platform, always, progress)?;
            self.ensure_layers(lease, &image, progress)?;
            return Ok((name, image.config_digest));
        };
        let found = self.found_index(reference, fetched, index)?;
        let mut wanted: Vec<Digest> = Vec::with_capacity(platforms.len());
        for platform in platforms {
            wanted.push(found.index.choose(platform).map_err(wrong)?.digest);
        }
        let mut list = found.list();
        for descriptor in &found.index.manifests {
            let described = subject_of(descriptor).unwrap_or(descriptor.digest);
            if !platforms.is_empty() && !wanted.contains(&described) {
                continue;
            }
            let fetched = self.member(reference, descriptor.digest)?;
            let parsed = Document::parse(&fetched.bytes, Some(&descriptor.media_type));
            let Document::Manifest(manifest) = parsed.map_err(wrong)? else {
                return Err(wrong(ManifestError::DisguisedIndex {
                    digest: descriptor.digest,
                }));
            };
            let image = if descriptor.is_attestation() || !manifest.is_image() {
                self.statement(reference, descriptor, progress)?;
                None
            } else {
                let image = self.take(reference, &fetched, &manifest)?;
                self.store().index().put_image(&image, &[])?;
                let resolved = self.resolve_stored(lease, &name, &image)?;
                self.ensure_layers(lease, &resolved, progress)?;
                Some(image.config)
            };
            list.members
                .push(Member::manifest(descriptor, &name, image));
        }
        found.complete(&mut list, self.store())?;
        let id = list.store(self.store(), std::slice::from_ref(&name))?;
        Ok((name, id))
    }
}
