//! Members for a list: what a name in the store or in a registry stands for.

use strata_cache::image::StoredImage;

use super::{List, Member};
use crate::config::RawConfig;
use crate::manifest::{Descriptor, Document, Manifest, ManifestError};
use crate::registry::FetchedManifest;
use crate::{ImageError, Images, Platform, Reference};

/// Which images of an index or a list are meant.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// All, with what is said about them.
    All,
    /// The one for this platform.
    One(Platform),
}

impl Images<'_> {
    /// The members that `text` gives a list: images of the store by name or ID, else manifests of a
    /// registry; `docker://NAME` is looked for in its registry only. Nothing but manifests and configs
    /// is fetched.
    pub fn members(&self, text: &str, wanted: &Wanted) -> Result<Vec<Member>, ImageError> {
        let name = match text.strip_prefix("docker://") {
            Some(name) => name,
            None => match self.local_members(text, wanted)? {
                Some(members) => return Ok(members),
                None => text,
            },
        };
        self.remote_members(&Reference::parse(name)?, wanted)
    }

    fn local_members(
        &self,
        text: &str,
        wanted: &Wanted,
    ) -> Result<Option<Vec<Member>>, ImageError> {
        if let Some((name, stored)) = self.find_list(text)? {
            let list = List::parse(&stored)?;
            let platform = match wanted {
                Wanted::All => return Ok(Some(list.members)),
                Wanted::One(platform) => platform,
            };
            return match list.choose(platform) {
                Some(member) => Ok(Some(vec![member.clone()])),
                None => Err(no_platform(name, platform, &list)),
            };
        }
        let Some((name, image)) = self.find_local(text)? else {
            return Ok(None);
        };
        Ok(Some(vec![self.stored_member(&name, &image)?]))
    }

    /// The member that a stored image is: with its manifest, if it was pulled by that name.
    fn stored_member(&self, name: &str, image: &StoredImage) -> Result<Member, ImageError> {
        let platform = self.config_of(name, image)?.config.platform();
        let mut member = Member::built(image.config, platform);
        if Reference::parse(name).is_ok()
            && let Some(manifest) = self.manifest_of(image)?
        {
            member.manifest = Some(manifest);
            member.source = Some(name.to_owned());
        }
        Ok(member)
    }

    /// The manifest that an image came with, if the store has that.
    fn manifest_of(&self, image: &StoredImage) -> Result<Option<Descriptor>, ImageError> {
        let Some(digest) = image.manifest else {
            return Ok(None);
        };
        if !self.store().blobs().contains(digest) {
            return Ok(None);
        }
        let bytes = self.store().blobs().read(digest)?;
        Ok(Some(Descriptor::of_document(&bytes, digest, None)))
    }

    /// An image that came with a manifest as a list that leaves the store as just that manifest. None
    /// if it was built here. `source`: a name that it was pulled by.
    pub fn as_it_came(
        &self,
        image: &StoredImage,
        source: Option<&Reference>,
    ) -> Result<Option<List>, ImageError> {
        let Some(manifest) = self.manifest_of(image)? else {
            return Ok(None);
        };
        let config = self.config_of(&image.config.to_string(), image)?;
        let mut member = Member::built(image.config, config.config.platform());
        member.manifest = Some(manifest);
        member.source = source.map(ToString::to_string);
        Ok(Some(List {
            members: vec![member],
            alone: true,
            ..List::default()
        }))
    }

    /// True if the store has all blobs of the manifests of a list.
    pub fn has_all(&self, list: &List) -> Result<bool, ImageError> {
        let blobs = self.store().blobs();
        for manifest in list.members.iter().filter_map(|it| it.manifest.as_ref()) {
            if !blobs.contains(manifest.digest) {
                return Ok(false);
            }
            let named = super::blobs_of(&blobs.read(manifest.digest)?);
            if !named.iter().all(|blob| blobs.contains(*blob)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn config_of(&self, name: &str, image: &StoredImage) -> Result<RawConfig, ImageError> {
        let bytes = self.store().blobs().read(image.config)?;
        RawConfig::parse(bytes).map_err(|source| ImageError::Config {
            name: name.to_owned(),
            source,
        })
    }

    fn remote_members(
        &self,
        reference: &Reference,
        wanted: &Wanted,
    ) -> Result<Vec<Member>, ImageError> {
        let name = reference.to_string();
        let wrong = |source: ManifestError| ImageError::Manifest {
            name: name.clone(),
            source,
        };
        let fetched = self.client().manifest(reference)?;
        let document = Document::parse(&fetched.bytes, fetched.media_type.as_deref());
        match (document.map_err(wrong)?, wanted) {
            (Document::Manifest(manifest), _) => {
                Ok(vec![self.remote_member(reference, &fetched, &manifest)?])
            }
            (Document::Index(index), wanted) => {
                let index = self.found_index(reference, fetched, index)?.index;
                Ok(match wanted {
                    Wanted::All => {
                        let members = index.manifests.iter();
                        members
                            .map(|it| Member::manifest(it, &name, None))
                            .collect()
                    }
                    Wanted::One(platform) => {
                        let chosen = index.choose(platform).map_err(wrong)?;
                        vec![Member::manifest(chosen, &name, None)]
                    }
                })
            }
        }
    }

    /// A manifest that no index describes: its config says what it runs on.
    fn remote_member(
        &self,
        reference: &Reference,
        fetched: &FetchedManifest,
        manifest: &Manifest,
    ) -> Result<Member, ImageError> {
        let name = reference.to_string();
        let media_type = fetched.media_type.as_deref();
        let (bytes, digest) = (&fetched.bytes, fetched.digest);
        let mut descriptor = Descriptor::of_document(bytes, digest, media_type);
        if manifest.is_image() {
            let config = &manifest.config;
            let bytes = self
                .client()
                .read_blob(reference, config.digest, config.size)?;
            let config = RawConfig::parse(bytes).map_err(|source| ImageError::Config {
                name: name.clone(),
                source,
            })?;
            descriptor.platform = Some(config.config.platform());
        } else {
            descriptor.artifact_type = Some(manifest.config.media_type.clone());
        }
        Ok(Member::manifest(&descriptor, &name, None))
    }

    /// The manifest or index that a registry has under a name, as it is.
    pub fn raw(&self, reference: &Reference) -> Result<FetchedManifest, ImageError> {
        Ok(self.client().manifest(reference)?)
    }
}

impl Member {
    /// What an index would say of it, as far as that is known before it is pushed.
    pub fn known_descriptor(&self) -> Option<Descriptor> {
        self.manifest.as_ref().map(|it| self.described(it))
    }
}

/// The error for a list without an image for `platform`.
pub(crate) fn no_platform(name: String, platform: &Platform, list: &List) -> ImageError {
    let platforms: Vec<String> = list.platforms().iter().map(ToString::to_string).collect();
    ImageError::Manifest {
        name,
        source: ManifestError::Platform {
            platform: Box::new(platform.clone()),
            available: platforms.join(", "),
        },
    }
}
