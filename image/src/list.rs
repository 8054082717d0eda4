//! Lists of images: what one name stands for when it is several images, one for each platform.
//!
//! A list becomes an index when it leaves the store. Until then its members may be images that were
//! built here, whose manifests depend on how they will be packed; images that were pulled, whose
//! manifests stay as they came; or manifests in registries, of which the store has nothing.

mod members;
mod pull;
mod said;
mod told;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strata_cache::image::{StoredImage, StoredList};
use strata_cache::{Digest, Store, StoreError};

use crate::manifest::{Descriptor, Document, best, is_attestation, media};
use crate::resolve::now_ms;
use crate::{ImageError, Images, Platform, Reference};

pub use members::Wanted;
pub(crate) use members::no_platform;
pub use said::{Said, SaidStatement};
pub use told::Told;

/// The form of the document in the store.
const VERSION: u32 = 1;
/// The form of one that says more than an index does: an older strata must not read it, as it would
/// drop that.
const VERSION_SAID: u32 = 2;

/// Several images, in the order of their index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The form of the document.
    pub(crate) version: u32,
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
    /// It leaves the store as the manifest of its only member, without an index.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alone: bool,
    /// Indexes within that index, blobs of the store, each before those that name it: their members are
    /// among those of the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<Descriptor>,
    /// What a layout says of the index.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub descriptor_annotations: BTreeMap<String, String>,
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
    /// Annotations of the manifest that is yet to be made.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub manifest_annotations: BTreeMap<String, String>,
    /// What is said of an image whose manifest is yet to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Box<Said>>,
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
            manifest_annotations: BTreeMap::new(),
            said: None,
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
            manifest_annotations: BTreeMap::new(),
            said: None,
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
        is_attestation(&self.annotations, self.platform.as_ref())
    }

    /// What is said of it, if its manifest is yet to be made.
    pub fn statements(&self) -> &[SaidStatement] {
        self.said.as_deref().map_or(&[], |said| &said.statements)
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
            alone: false,
            nested: Vec::new(),
            descriptor_annotations: BTreeMap::new(),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "that is how serde calls it"
)]
fn is_false(value: &bool) -> bool {
    !value
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
        if matches!(list.version, VERSION | VERSION_SAID) {
            Ok(list)
        } else {
            Err(wrong(format!("its form {} is not known", list.version)))
        }
    }

    /// The form that an older strata may read, if it loses nothing by it.
    fn form(&self) -> u32 {
        let more = self.alone
            || !self.nested.is_empty()
            || !self.descriptor_annotations.is_empty()
            || self
                .members
                .iter()
                .any(|member| member.said.is_some() || !member.manifest_annotations.is_empty());
        if more { VERSION_SAID } else { VERSION }
    }

    /// Stores it under `names` (in full). The images that it names are stored already.
    pub fn store(&self, store: &Store, names: &[String]) -> Result<Digest, StoreError> {
        let list = Self {
            version: self.form(),
            ..self.clone()
        };
        let document =
            serde_json::to_string(&list).expect("string keys and plain values always serialise");
        let blobs = store.blobs();
        let mut kept: Vec<Digest> = self.came_as.into_iter().collect();
        kept.extend(self.nested.iter().map(|index| index.digest));
        for member in &self.members {
            kept.extend(member.statements().iter().map(|said| said.predicate));
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

    /// The member that serves `platform` best, as [`Index::choose`](crate::manifest::Index::choose) finds it.
    pub fn choose(&self, platform: &Platform) -> Option<&Member> {
        let images = self.members.iter().filter(|it| !it.is_attestation());
        let offered = images.map(|it| (it.platform.as_ref(), it));
        best(offered, platform)
    }

    /// The platforms of its images, in order.
    pub fn platforms(&self) -> Vec<&Platform> {
        let images = self.members.iter().filter(|it| !it.is_attestation());
        images.filter_map(|it| it.platform.as_ref()).collect()
    }

    /// Its only image; none if there are several, or none.
    pub fn only_image(&self) -> Option<&Member> {
        let mut images = self.members.iter().filter(|it| !it.is_attestation());
        let first = images.next()?;
        images.next().is_none().then_some(first)
    }

    /// True if it says anything of its images: attestations, annotations.
    pub fn says_more(&self) -> bool {
        let says = |member: &Member| {
            member.is_attestation()
                || member.said.is_some()
                || !member.annotations.is_empty()
                || !member.manifest_annotations.is_empty()
        };
        !self.annotations.is_empty() || self.members.iter().any(says)
    }

    /// Notes that it is no longer what it came as.
    pub fn changed(&mut self) {
        self.came_as = None;
        self.alone = false;
        self.nested.clear();
    }
}

/// Config and layers of a manifest, as far as it is one.
pub(crate) fn blobs_of(manifest: &[u8]) -> Vec<Digest> {
    match Document::parse(manifest, None) {
        Ok(Document::Manifest(manifest)) => manifest.blobs().map(|blob| blob.digest).collect(),
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
        let newer = document.replacen("\"version\":1", "\"version\":3", 1);
        for wrong in [newer.as_str(), "", "[]", "{}"] {
            let error = List::parse(&stored(wrong)).unwrap_err().to_string();
            assert!(error.contains("can't be read"), "{error}");
        }
    }
}
