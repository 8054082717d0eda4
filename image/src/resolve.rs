//! From the name of a base image to layers that a step can stand on.

use std::path::Path;

use strata_cache::image::{StoredBlob, StoredImage, StoredLayer};
use strata_cache::{ChainId, DiffId, Digest, LayerId, Lease, Store, StoreError};

use crate::config::RawConfig;
use crate::list::no_platform;
use crate::load::{self, Memo, Selector};
use crate::manifest::{Document, Manifest, ManifestError, media};
use crate::nested::FoundIndex;
use crate::registry::{Client, FetchedManifest, RegistryError, RegistryOptions};
use crate::unpack::UnpackLimits;
use crate::{ImageConfig, List, LoadError, Platform, Progress, Reference, ReferenceError};

/// Why an image can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text is not a name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// It is not in the store, and pulling is not allowed.
    #[error("image `{name}` is not in the local store, and pulling is off")]
    NotLocal {
        /// Its name.
        name: String,
    },
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The archive or layout can't be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the image says of itself can't be used.
    #[error("image `{name}`")]
    Manifest {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// Its config can't be used.
    #[error("image `{name}`")]
    Config {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: crate::config::ConfigError,
    },
    /// A layer can't be unpacked.
    #[error("unpack layer {layer} of `{name}`")]
    Unpack {
        /// The image.
        name: String,
        /// The layer's blob or diff ID.
        layer: Digest,
        /// What is wrong.
        #[source]
        source: strata_cache::diff::DiffError,
    },
    /// The tar of a root file system can't be unpacked.
    #[error("import a root file system")]
    Import {
        /// What is wrong.
        #[source]
        source: strata_cache::diff::DiffError,
    },
    /// A layer is not what the config says.
    #[error("layer {blob} of `{name}` unpacks to {found}, but the config says {expected}")]
    DiffId {
        /// The image.
        name: String,
        /// The blob.
        blob: Digest,
        /// As the config has it.
        expected: Digest,
        /// As unpacked.
        found: Digest,
    },
    /// Several images have an ID that begins so.
    #[error("`{text}` is the beginning of {count} image IDs: give more digits")]
    Ambiguous {
        /// The text.
        text: String,
        /// How many.
        count: usize,
    },
    /// A list of the store can't be used.
    #[error("the list {id} of the store can't be read: {reason}")]
    List {
        /// Its ID.
        id: Digest,
        /// What is wrong.
        reason: String,
    },
    /// A layer's blob is not in the store any more, and nothing says where it came from.
    #[error(
        "layer {layer} of `{name}` is neither in the store nor known to a registry; pull or load the image again"
    )]
    LayerGone {
        /// The image.
        name: String,
        /// Its blob or diff ID.
        layer: Digest,
    },
}

/// When a registry is asked for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// If the store has no image of that name.
    #[default]
    Missing,
    /// Always: the name may have moved. Layers that are there are not fetched again.
    Always,
    /// Never.
    Never,
}

/// One layer of an image that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// The blob that the manifest names.
    pub blob: Option<StoredBlob>,
    /// The unpacked layer, if it is there already.
    pub layer: Option<LayerId>,
}

/// An image that was found: its config is here, its layers can be had.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedImage {
    /// Its name in full, or the transport text that it was asked by.
    pub name: String,
    /// Its config.
    pub config: ImageConfig,
    /// Digest of the config's bytes: the image ID.
    pub config_digest: Digest,
    /// Digest of the manifest of this one platform.
    pub manifest: Option<Digest>,
    /// Layers, base first.
    pub layers: Vec<ResolvedLayer>,
    /// Where layers that are not in the store can be fetched.
    pub source: Option<Reference>,
    /// Names that the store has to give it yet: [`Images::ensure_layers`] or [`Images::remember`]
    /// does. Until then they stand for what they stood for.
    pub unnamed: Option<Box<Unnamed>>,
}

/// Names that an image is to get.
#[derive(Debug, Clone, PartialEq)]
pub struct Unnamed {
    names: Vec<String>,
    /// The index that they stand for in the registry, which the image is a member of.
    index: Option<FoundIndex>,
}

impl ResolvedImage {
    /// The names that it was pulled by and the index that they stand for, if they do for one.
    pub(crate) fn found_in(&self) -> Option<(&[String], &FoundIndex)> {
        let unnamed = self.unnamed.as_deref()?;
        Some((&unnamed.names, unnamed.index.as_ref()?))
    }
}

/// Finds images and unpacks them. One for each build is enough; it may be used from any thread.
#[derive(Debug)]
pub struct Images<'store> {
    store: &'store Store,
    client: Client,
    pub(crate) limits: UnpackLimits,
}

impl<'store> Images<'store> {
    /// Nothing is read and no connection made before a registry is needed.
    pub fn new(store: &'store Store, options: RegistryOptions) -> Self {
        Self {
            store,
            client: Client::new(options),
            limits: UnpackLimits::default(),
        }
    }

    /// The same with other limits on what a layer may hold.
    #[must_use]
    pub fn limited(mut self, limits: UnpackLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The store.
    pub fn store(&self) -> &'store Store {
        self.store
    }

    /// The registry client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Finds the image that `text` names: `debian:12`, `localhost:5000/x@sha256:…`, or one of the
    /// transports `oci-layout:DIRECTORY[:TAG|@DIGEST]` (`oci:` for short), `oci-archive:FILE[:TAG]`,
    /// `docker-archive:FILE[:NAME]`, `docker://NAME`.
    ///
    /// The store is asked first, as `policy` allows and always for a digest. From a registry only manifest and config are
    /// fetched; the store gives it its name once its layers are there, or when it is told to
    /// [`remember`](Self::remember) it.
    pub fn resolve(
        &self,
        lease: &Lease,
        text: &str,
        platform: &Platform,
        policy: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<ResolvedImage, ImageError> {
        let name = match Transport::of(text) {
            Transport::File(rest) => {
                let (path, selector) = load::split_selector(rest);
                return self.resolve_file(lease, text, &path, &selector, platform, progress);
            }
            Transport::Name(name) => name,
        };
        let reference = match Reference::parse(name) {
            Ok(reference) => reference,
            // An image ID is no name, but it is one in the store.
            Err(error) => {
                return match self.find_local(name)? {
                    Some((name, image)) => self.resolve_stored(lease, &name, &image),
                    None => Err(error.into()),
                };
            }
        };
        // A digest names the same bytes for ever, so a stored one is as good as a new answer.
        if policy == PullPolicy::Always && reference.digest.is_none() {
            return self.pull(lease, &reference, platform);
        }
        let never = policy == PullPolicy::Never;
        let Some(image) = self.stored(&reference, platform)? else {
            return if never {
                Err(ImageError::NotLocal {
                    name: reference.familiar(),
                })
            } else {
                self.pull(lease, &reference, platform)
            };
        };
        match self.resolve_stored(lease, &reference.to_string(), &image) {
            // One name stands for several images in a registry, but for one here. What was built
            // or imported here is nowhere else.
            Ok(found) if never || found.manifest.is_none() || fits(&found, platform) => Ok(found),
            Ok(_) => self.pull(lease, &reference, platform),
            // Its config was deleted or damaged: the registry has another.
            Err(ImageError::Store(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }))
                if !never =>
            {
                self.pull(lease, &reference, platform)
            }
            Err(error) => Err(error),
        }
    }

    /// The platforms that there are images for under the name `text`.
    pub fn platforms(
        &self,
        lease: &Lease,
        text: &str,
        policy: PullPolicy,
        progress: &dyn Progress,
    ) -> Result<Vec<Platform>, ImageError> {
        if let Transport::Name(name) = Transport::of(text)
            && let Ok(reference) = Reference::parse(name)
        {
            let local = self.store.index().list_by_name(&reference.to_string())?;
            let local = local.as_ref().map(List::parse).transpose()?;
            if let Some(list) = local
                && (policy == PullPolicy::Never
                    || list.members.iter().any(|it| it.source.is_none()))
            {
                return Ok(list.platforms().into_iter().cloned().collect());
            }
            let known = self.store.index().image_by_name(&reference.to_string())?;
            // What was built or imported here is nowhere else.
            let elsewhere = known.is_none_or(|image| image.manifest.is_some());
            if policy != PullPolicy::Never && elsewhere {
                self.store.index().end_state()?;
                let fetched = self.client.manifest(&reference)?;
                let document = Document::parse(&fetched.bytes, fetched.media_type.as_deref());
                if let Document::Index(index) = document.map_err(|source| ImageError::Manifest {
                    name: reference.to_string(),
                    source,
                })? {
                    let found = self.found_index(&reference, fetched, index)?;
                    let images = found.index.manifests.into_iter();
                    let images = images.filter(|member| !member.is_attestation());
                    return Ok(images.filter_map(|member| member.platform).collect());
                }
            }
        }
        let image = self.resolve(lease, text, &Platform::host(), policy, progress)?;
        Ok(vec![image.config.platform()])
    }

    /// The image of the local store that `text` means: a name, or the first digits of an ID. The
    /// name in the answer is the one in full, or the ID. Of a list it is the image for this machine,
    /// or the first that the store has.
    pub fn find_local(&self, text: &str) -> Result<Option<(String, StoredImage)>, ImageError> {
        self.find_local_for(text, &Platform::host())
    }

    /// The same with a platform to choose from a list by.
    pub fn find_local_for(
        &self,
        text: &str,
        platform: &Platform,
    ) -> Result<Option<(String, StoredImage)>, ImageError> {
        if let Some((name, list)) = self.find_list(text)? {
            let found = match self.member_image(&list, platform)? {
                Some(image) => Some(image),
                None => match List::parse(&list)?.members.iter().find_map(|it| it.image) {
                    Some(config) => self.image(config)?,
                    None => None,
                },
            };
            return Ok(found.map(|image| (name, image)));
        }
        if let Ok(reference) = Reference::parse(text)
            && let Some(image) = self.stored(&reference, platform)?
        {
            return Ok(Some((reference.to_string(), image)));
        }
        let mut matches = self.store.index().images_by_id(text)?;
        if matches.len() > 1 {
            return Err(ImageError::Ambiguous {
                text: text.to_owned(),
                count: matches.len(),
            });
        }
        Ok(matches.pop().map(|image| (image.config.to_string(), image)))
    }

    fn stored(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<StoredImage>, ImageError> {
        let index = self.store.index();
        let name = reference.to_string();
        if let Some(image) = index.image_by_name(&name)? {
            return Ok(Some(image));
        }
        if let Some(stored) = index.list_by_name(&name)? {
            let found = self.member_image(&stored, platform)?;
            if found.is_none() {
                let list = List::parse(&stored)?;
                // What was built here is nowhere else.
                if list.members.iter().all(|member| member.source.is_none()) {
                    // An only image is what is meant, as if nothing were said of it.
                    return match list.only_image().and_then(|only| only.image) {
                        Some(config) => self.image(config),
                        None => Err(no_platform(name, platform, &list)),
                    };
                }
            }
            return Ok(found);
        }
        // A digest says more than the tag beside it.
        match reference.digest {
            Some(digest) if reference.tag.is_some() => {
                Ok(index.image_by_name(&reference.with_digest(digest).to_string())?)
            }
            _ => Ok(None),
        }
    }

    /// A stored image as [`resolve`](Self::resolve) gives it; its layers and their blobs are claimed for `lease`.
    pub fn resolve_stored(
        &self,
        lease: &Lease,
        name: &str,
        image: &StoredImage,
    ) -> Result<ResolvedImage, ImageError> {
        let blobs = self.store.blobs();
        let config =
            RawConfig::parse(blobs.read(image.config)?).map_err(|source| ImageError::Config {
                name: name.to_owned(),
                source,
            })?;
        // The store forgets blobs that it has not (yet, or any more). The manifest knows them.
        let manifest = match image.manifest {
            Some(digest) if blobs.contains(digest) => {
                match Document::parse(&blobs.read(digest)?, None) {
                    Ok(Document::Manifest(manifest)) => Some(manifest),
                    _ => None,
                }
            }
            _ => None,
        };
        let index = self.store.index();
        let mut layers = Vec::with_capacity(image.layers.len());
        let mut chain: Option<ChainId> = None;
        for (position, stored) in image.layers.iter().enumerate() {
            let this = match chain {
                Some(below) => below.push(stored.diff_id),
                None => ChainId(stored.diff_id.0),
            };
            chain = Some(this);
            let layer = match stored.layer {
                Some(layer) if index.claim_layer_id(lease, layer)? => Some(layer),
                _ => index.claim_chain(lease, this)?,
            };
            let named = manifest
                .as_ref()
                .and_then(|manifest| manifest.layers.get(position))
                .map(stored_blob);
            let blob = stored.blob.clone().or(named);
            // Held from here on: what was pulled or imported can't be packed again with the same
            // digest, should the image be removed meanwhile.
            if let Some(blob) = &blob {
                blobs.size(blob.digest)?;
            }
            layers.push(ResolvedLayer {
                diff_id: stored.diff_id,
                blob,
                layer,
            });
        }
        Ok(ResolvedImage {
            name: name.to_owned(),
            config: config.config,
            config_digest: config.digest,
            manifest: image.manifest,
            layers,
            source: image.manifest.and_then(|_| Reference::parse(name).ok()),
            unnamed: None,
        })
    }

    fn resolve_file(
        &self,
        lease: &Lease,
        text: &str,
        path: &Path,
        selector: &Selector,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<ResolvedImage, ImageError> {
        let memo = Memo::open(self.store, path, selector, platform);
        let known = match &memo {
            Some(memo) => memo.image(self.store)?,
            None => None,
        };
        let image = if let Some(image) = known {
            image
        } else {
            self.store.index().end_state()?;
            let image = load::load_one(self.store, path, selector, platform, progress)?;
            self.store.index().put_image(&image, &[])?;
            if let Some(memo) = memo {
                memo.remember(self.store, image.config)?;
            }
            image
        };
        let mut resolved = self.resolve_stored(lease, text, &image)?;
        resolved.source = None;
        Ok(resolved)
    }

    /// Gives `image` the names that it was found by, so that no registry has to be asked next time.
    pub fn remember(&self, image: &ResolvedImage) -> Result<(), ImageError> {
        let Some(unnamed) = &image.unnamed else {
            return Ok(());
        };
        let Unnamed { names, index } = &**unnamed;
        let Some(stored) = self.store.index().image(image.config_digest)? else {
            return Ok(());
        };
        // Seen from now: another platform's image may have come by the same name meanwhile.
        let list = match index {
            Some(index) => self.gathered(&names[0], index, &stored)?,
            None => None,
        };
        match list {
            Some(list) => drop(list.store(self.store, names)?),
            None => self.store.index().put_image(&stored, names)?,
        }
        Ok(())
    }

    /// Fetches manifest and config.
    fn pull(
        &self,
        lease: &Lease,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, ImageError> {
        let name = reference.to_string();
        let wrong = |source: ManifestError| ImageError::Manifest {
            name: name.clone(),
            source,
        };
        self.store.index().end_state()?;
        let fetched = self.client.manifest(reference)?;
        let document =
            Document::parse(&fetched.bytes, fetched.media_type.as_deref()).map_err(wrong)?;
        let mut listed = None;
        let (fetched, manifest) = match document {
            Document::Manifest(manifest) => (fetched, manifest),
            Document::Index(index) => {
                let found = listed.insert(self.found_index(reference, fetched, index)?);
                let digest = found.index.choose(platform).map_err(wrong)?.digest;
                let fetched = self.member(reference, digest)?;
                match Document::parse(&fetched.bytes, fetched.media_type.as_deref())
                    .map_err(wrong)?
                {
                    Document::Manifest(manifest) => (fetched, manifest),
                    Document::Index(_) => {
                        return Err(wrong(ManifestError::DisguisedIndex { digest }));
                    }
                }
            }
        };
        let image = self.take(reference, &fetched, &manifest)?;
        let mut names = vec![name.clone()];
        if let (Some(_), Some(digest)) = (&reference.tag, reference.digest) {
            names = vec![reference.with_digest(digest).to_string()];
        }
        let mut resolved = self.resolve_stored(lease, &name, &image)?;
        resolved.source = Some(reference.clone());
        resolved.unnamed = Some(Box::new(Unnamed {
            names,
            index: listed,
        }));
        Ok(resolved)
    }

    /// The image of a manifest that `reference` has. Its config is fetched, its layers are not.
    pub(crate) fn take(
        &self,
        reference: &Reference,
        fetched: &FetchedManifest,
        manifest: &Manifest,
    ) -> Result<StoredImage, ImageError> {
        let name = reference.to_string();
        let blobs = self.store.blobs();
        let config_bytes = match blobs.read(manifest.config.digest) {
            Ok(bytes) => bytes,
            Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }) => {
                let descriptor = &manifest.config;
                let bytes = self
                    .client
                    .read_blob(reference, descriptor.digest, descriptor.size)?;
                blobs.put(&bytes)?;
                bytes
            }
            Err(error) => return Err(error.into()),
        };
        let config = RawConfig::parse(config_bytes).map_err(|source| ImageError::Config {
            name: name.clone(),
            source,
        })?;
        let layers = stored_layers(manifest, &config.config)
            .map_err(|source| ImageError::Manifest { name, source })?;
        blobs.put(&fetched.bytes)?;
        let image = StoredImage {
            config: config.digest,
            manifest: Some(fetched.digest),
            layers,
            created_ms: now_ms(),
        };
        let digests: Vec<Digest> = image
            .layers
            .iter()
            .filter_map(|layer| Some(layer.blob.as_ref()?.digest))
            .collect();
        let index = self.store.index();
        index.add_origins(&reference.name(), &digests)?;
        index.put_image(&image, &[])?;
        Ok(image)
    }

    /// A member of an index: from the store if it was fetched before.
    pub(crate) fn member(
        &self,
        reference: &Reference,
        digest: Digest,
    ) -> Result<FetchedManifest, ImageError> {
        match self.store.blobs().read(digest) {
            Ok(bytes) => Ok(FetchedManifest {
                bytes,
                digest,
                media_type: None,
            }),
            Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }) => {
                Ok(self.client.manifest(&reference.with_digest(digest))?)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// True if an image runs on `platform`, or does not say what it runs on.
fn fits(image: &ResolvedImage, platform: &Platform) -> bool {
    image.config.architecture.is_empty() || platform.accepts(&image.config.platform()).is_some()
}

/// What a text in FROM is.
enum Transport<'a> {
    /// A layout or an archive, in whichever form.
    File(&'a str),
    /// A name.
    Name(&'a str),
}

impl<'a> Transport<'a> {
    fn of(text: &'a str) -> Self {
        for prefix in ["oci-layout:", "oci-archive:", "docker-archive:", "oci:"] {
            if let Some(rest) = text.strip_prefix(prefix) {
                // BuildKit writes `oci-layout://PATH`, with an absolute path after the slashes.
                return Self::File(rest.strip_prefix("//").unwrap_or(rest));
            }
        }
        Self::Name(text.strip_prefix("docker://").unwrap_or(text))
    }
}

fn stored_blob(descriptor: &crate::manifest::Descriptor) -> StoredBlob {
    StoredBlob {
        digest: descriptor.digest,
        size: descriptor.size,
        media_type: media::oci_layer(&descriptor.media_type).to_owned(),
    }
}

/// The layers that manifest and config name together.
pub(crate) fn stored_layers(
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Vec<StoredLayer>, ManifestError> {
    let diff_ids = config.diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        return Err(ManifestError::LayerCount {
            manifest: manifest.layers.len(),
            config: diff_ids.len(),
        });
    }
    Ok(diff_ids
        .iter()
        .zip(&manifest.layers)
        .map(|(diff_id, descriptor)| StoredLayer {
            diff_id: *diff_id,
            layer: None,
            blob: Some(stored_blob(descriptor)),
        })
        .collect())
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
