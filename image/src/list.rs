//! Lists of images: what one name stands for when it is several images, one for each platform.
//!
//! A list becomes an index when it leaves the store. Until then its members may be images that were
//! built here, whose manifests depend on how they will be packed; images that were pulled, whose
//! manifests stay as they came; or manifests in registries, of which the store has nothing.

mod members;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strata_cache::image::{StoredImage, StoredList};
use strata_cache::{Digest, Lease, Store, StoreError};

use crate::manifest::{Descriptor, Document, Index, ManifestError, media};
use crate::resolve::now_ms;
use crate::{ImageError, Images, Platform, Progress, PullPolicy, Reference};

pub use members::Wanted;
pub(crate) use members::no_platform;

/// The form of the document in the store.
const VERSION: u32 = 1;

/// Several images, in the order of their index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    version: u32,
    /// Its members.
    pub members: Vec<Member>,
    /// Annotations of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The media type of the index: one of the two that there are.
    pub media_type: String,
    /// The index that it came as, a blob of the store, as long as nothing was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_as: Option<Digest>,
}

/// A member of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Annotations of its descriptor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The image, by its ID, if the store has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Its manifest, if it has one that has to stay as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Descriptor>,
    /// A repository that has the manifest: a name in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Member {
    /// An image of the store that has no manifest yet.
    pub fn built(image: Digest, platform: Platform) -> Self {
        Self {
            platform: Some(platform),
            annotations: BTreeMap::new(),
            image: Some(image),
            manifest: None,
            source: None,
        }
    }

    /// A manifest as an index describes it, that `source` has. `image`: it is in the store, too.
    pub fn manifest(descriptor: &Descriptor, source: &str, image: Option<Digest>) -> Self {
        let mut manifest = descriptor.clone();
        let annotations = std::mem::take(&mut manifest.annotations);
        Self {
            platform: manifest.platform.take(),
            annotations,
            image,
            manifest: Some(manifest),
            source: Some(source.to_owned()),
        }
    }

    /// The descriptor by which an index names it, if `manifest` describes its manifest.
    pub(crate) fn described(&self, manifest: &Descriptor) -> Descriptor {
        let mut descriptor = manifest.clone();
        descriptor.platform.clone_from(&self.platform);
        descriptor.annotations.extend(self.annotations.clone());
        descriptor
    }

    /// True if it is no image, but says something of another member.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self
                .platform
                .as_ref()
                .is_some_and(|platform| platform.os == "unknown")
    }
}

impl Default for List {
    fn default() -> Self {
        Self {
            version: VERSION,
            members: Vec::new(),
            annotations: BTreeMap::new(),
            media_type: media::OCI_INDEX.to_owned(),
            came_as: None,
        }
    }
}

impl List {
    /// Reads the document of a stored list.
    pub fn parse(stored: &StoredList) -> Result<Self, ImageError> {
        let wrong = |reason: String| ImageError::List {
            id: stored.id,
            reason,
        };
        let list: Self =
            serde_json::from_str(&stored.document).map_err(|error| wrong(error.to_string()))?;
        if list.version == VERSION {
            Ok(list)
        } else {
            Err(wrong(format!("its form {} is not known", list.version)))
        }
    }

    /// Stores it under `names` (in full). The images that it names are stored already.
    pub fn store(&self, store: &Store, names: &[String]) -> Result<Digest, StoreError> {
        let document =
            serde_json::to_string(self).expect("string keys and plain values always serialise");
        let blobs = store.blobs();
        let mut kept: Vec<Digest> = self.came_as.into_iter().collect();
        for member in &self.members {
            let Some(manifest) = &member.manifest else {
                continue;
            };
            if !blobs.contains(manifest.digest) {
                continue;
            }
            kept.push(manifest.digest);
            if member.image.is_none() {
                kept.extend(blobs_of(&blobs.read(manifest.digest)?));
            }
        }
        kept.retain(|digest| blobs.contains(*digest));
        let list = StoredList {
            id: Digest::of(document.as_bytes()),
            document,
            members: self.members.iter().filter_map(|it| it.image).collect(),
            blobs: kept,
            created_ms: now_ms(),
        };
        store.index().put_list(&list, names)?;
        Ok(list.id)
    }

    /// The member that serves `platform` best, as [`Index::choose`] finds it.
    pub fn choose(&self, platform: &Platform) -> Option<&Member> {
        self.members
            .iter()
            .filter(|member| !member.is_attestation())
            .filter_map(|member| {
                let distance = platform.accepts(member.platform.as_ref()?)?;
                Some((distance, member))
            })
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, member)| member)
    }

    /// The platforms of its images, in order.
    pub fn platforms(&self) -> Vec<&Platform> {
        let images = self.members.iter().filter(|it| !it.is_attestation());
        images.filter_map(|it| it.platform.as_ref()).collect()
    }

    /// Notes that it is no longer what it came as.
    pub fn changed(&mut self) {
        self.came_as = None;
    }
}

/// Config and layers of a manifest, as far as it is one.
pub(crate) fn blobs_of(manifest: &[u8]) -> Vec<Digest> {
    match Document::parse(manifest, None) {
        Ok(Document::Manifest(manifest)) => {
            let layers = manifest.layers.iter().map(|layer| layer.digest);
            layers.chain([manifest.config.digest]).collect()
        }
        _ => Vec::new(),
    }
}

impl Images<'_> {
    /// The list of the local store that `text` means: a name, or the first digits of an ID. The name
    /// in the answer is the one in full, or the ID.
    pub fn find_list(&self, text: &str) -> Result<Option<(String, StoredList)>, ImageError> {
        let index = self.store().index();
        if let Ok(reference) = Reference::parse(text) {
            let name = reference.to_string();
            if let Some(list) = index.list_by_name(&name)? {
                return Ok(Some((name, list)));
            }
            if index.image_by_name(&name)?.is_some() {
                return Ok(None);
            }
        }
        let mut lists = index.lists_by_id(text)?;
        if lists.len() > 1 {
            return Err(ImageError::Ambiguous {
                text: text.to_owned(),
                count: lists.len(),
            });
        }
        Ok(lists.pop().map(|list| (list.id.to_string(), list)))
    }

    /// The image of a list for `platform`, if the store has one.
    pub fn member_image(
        &self,
        list: &StoredList,
        platform: &Platform,
    ) -> Result<Option<StoredImage>, ImageError> {
        let list = List::parse(list)?;
        match list.choose(platform).and_then(|member| member.image) {
            Some(config) => self.image(config),
            None => Ok(None),
        }
    }

    /// The image with just this ID.
    pub(crate) fn image(&self, config: Digest) -> Result<Option<StoredImage>, ImageError> {
        let mut found = self.store().index().images_by_id(&config.to_string())?;
        Ok(found.pop())
    }

    /// The list that `name` stands for once `image`, which `index` has, is pulled by it: with what the
    /// name stood for before, if all of that is of `index`, too. None if that is nothing else.
    pub(crate) fn gathered(
        &self,
        name: &str,
        index: &Index,
        image: &StoredImage,
    ) -> Result<Option<List>, ImageError> {
        let mut known: Vec<(Digest, Digest)> = Vec::new();
        let local = self.store().index();
        if let Some(old) = local.image_by_name(name)? {
            known.extend(old.manifest.map(|manifest| (manifest, old.config)));
        } else if let Some(stored) = local.list_by_name(name)? {
            let list = List::parse(&stored)?;
            if list.came_as.is_some() {
                // All of an index: it stays so as long as the name means that index.
                let bytes = list.came_as.map(|digest| self.store().blobs().read(digest));
                let same = bytes.is_some_and(|bytes| {
                    bytes.is_ok_and(|bytes| {
                        serde_json::from_slice::<Index>(&bytes).is_ok_and(|old| old == *index)
                    })
                });
                return Ok(same.then_some(list));
            }
            for member in &list.members {
                if let (Some(manifest), Some(config)) = (&member.manifest, member.image) {
                    known.push((manifest.digest, config));
                }
            }
        }
        let of_index = |manifest: &Digest| index.manifests.iter().any(|it| it.digest == *manifest);
        if !known.iter().all(|(manifest, _)| of_index(manifest)) {
            return Ok(None);
        }
        known.extend(image.manifest.map(|manifest| (manifest, image.config)));
        let mut list = List::default();
        for descriptor in &index.manifests {
            let config = known
                .iter()
                .rev()
                .find(|(manifest, _)| *manifest == descriptor.digest)
                .map(|(_, config)| *config);
            let repeated = list.members.iter().any(|it| {
                it.manifest
                    .as_ref()
                    .is_some_and(|it| it.digest == descriptor.digest)
            });
            if config.is_some() && !repeated {
                list.members
                    .push(Member::manifest(descriptor, name, config));
            }
        }
        Ok(Some(list).filter(|list| list.members.len() > 1))
    }

    /// Pulls the images of an index for `platforms`, all if that is empty, with what the index says
    /// about them, as one list. A name that stands for one image gives just that. Answers the name in
    /// full and the ID of the image or the list.
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
        let mut wanted: Vec<Digest> = Vec::with_capacity(platforms.len());
        for platform in platforms {
            wanted.push(index.choose(platform).map_err(wrong)?.digest);
        }
        let about = |member: &Descriptor| {
            let of = member.annotations.get("vnd.docker.reference.digest")?;
            of.parse::<Digest>().ok()
        };
        let mut list = List {
            annotations: index.annotations.clone(),
            ..List::default()
        };
        if let Some(media_type) = index.media_type.as_ref().or(fetched.media_type.as_ref())
            && media::is_index(media_type)
        {
            list.media_type.clone_from(media_type);
        }
        if platforms.is_empty() {
            list.came_as = Some(self.store().blobs().put(&fetched.bytes)?);
        }
        for descriptor in &index.manifests {
            let described = about(descriptor).unwrap_or(descriptor.digest);
            if !platforms.is_empty() && !wanted.contains(&described) {
                continue;
            }
            let fetched = self.member(reference, descriptor.digest)?;
            let parsed = Document::parse(&fetched.bytes, Some(&descriptor.media_type));
            let Document::Manifest(manifest) = parsed.map_err(wrong)? else {
                return Err(wrong(ManifestError::MediaType {
                    media_type: "an index within an index".to_owned(),
                }));
            };
            let image = if descriptor.is_attestation() || !manifest.is_image() {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    self.client().download(
                        reference,
                        blob.digest,
                        blob.size,
                        self.store(),
                        progress,
                    )?;
                }
                self.store().blobs().put(&fetched.bytes)?;
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
        let id = list.store(self.store(), std::slice::from_ref(&name))?;
        Ok((name, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(platform: &str) -> Member {
        Member::built(Digest::of(platform.as_bytes()), platform.parse().unwrap())
    }

    fn stored(document: &str) -> StoredList {
        StoredList {
            id: Digest::of(document.as_bytes()),
            document: document.to_owned(),
            members: Vec::new(),
            blobs: Vec::new(),
            created_ms: 0,
        }
    }

    #[test]
    fn the_best_member_is_chosen_and_no_attestation() {
        let mut list = List::default();
        for platform in [
            "unknown/unknown",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/amd64",
        ] {
            list.members.push(member(platform));
        }
        let choose = |platform: &str| {
            let chosen = list.choose(&platform.parse().unwrap())?;
            Some(chosen.platform.as_ref()?.to_string())
        };
        assert_eq!(choose("linux/arm/v7").as_deref(), Some("linux/arm/v7"));
        assert_eq!(choose("linux/arm/v6").as_deref(), Some("linux/arm/v5"));
        assert_eq!(choose("linux/s390x"), None);
        assert_eq!(choose("unknown/unknown"), None);
        assert_eq!(list.platforms().len(), 3);
    }

    #[test]
    fn a_document_of_another_form_is_refused() {
        let list = List {
            members: vec![member("linux/arm64")],
            ..List::default()
        };
        let document = serde_json::to_string(&list).unwrap();
        assert_eq!(List::parse(&stored(&document)).unwrap(), list);
        let newer = document.replacen("\"version\":1", "\"version\":2", 1);
        for wrong in [newer.as_str(), "", "[]", "{}"] {
            let error = List::parse(&stored(wrong)).unwrap_err().to_string();
            assert!(error.contains("can't be read"), "{error}");
        }
    }
}
