//! How a manifest and new layers are written: compression, media types, annotations.

use std::collections::BTreeMap;

use strata_cache::codec::Codec;

use crate::Platform;
use crate::attest;
use crate::manifest::media;

/// The choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// For layers that have no blob yet.
    pub codec: Codec,
    /// Compress layers anew with `codec`, even those that came with a blob.
    pub force_codec: bool,
    /// What manifest, config and layers are called.
    pub types: MediaTypes,
    /// Texts in and about the manifest. With [`MediaTypes::Docker`] there can be none.
    pub annotations: Annotations,
    /// How statements about the image are attached.
    pub attestations: attest::Form,
}

/// The two families of media types. They differ in names only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MediaTypes {
    /// The OCI image specification's.
    #[default]
    Oci,
    /// Docker's image manifest version 2, schema 2, for old registries and tools.
    Docker,
}

/// Annotations (OCI image specification, "Annotations") by where they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Annotations {
    /// In every manifest.
    pub manifest: BTreeMap<String, String>,
    /// In every descriptor by which an index names a manifest.
    pub descriptor: BTreeMap<String, String>,
    /// In the index, where there is one.
    pub index: BTreeMap<String, String>,
    /// In the descriptor by which a layout names the index.
    pub index_descriptor: BTreeMap<String, String>,
    /// For single platforms. Of two with one key the one for the platform counts.
    pub platforms: Vec<PlatformAnnotations>,
}

/// Annotations for the image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformAnnotations {
    /// Which.
    pub platform: Platform,
    /// In its manifest.
    pub manifest: BTreeMap<String, String>,
    /// In the descriptor of its manifest.
    pub descriptor: BTreeMap<String, String>,
}

impl Annotations {
    /// None.
    pub const fn none() -> Self {
        Self {
            manifest: BTreeMap::new(),
            descriptor: BTreeMap::new(),
            index: BTreeMap::new(),
            index_descriptor: BTreeMap::new(),
            platforms: Vec::new(),
        }
    }

    /// True if there are none at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::none()
    }

    /// Those that only an index can have.
    pub fn needs_index(&self) -> bool {
        !self.index.is_empty() || !self.index_descriptor.is_empty()
    }

    /// What stands in the manifest of the image for `platform`.
    pub(crate) fn manifest_of(&self, platform: &Platform) -> BTreeMap<String, String> {
        let own = self
            .platforms
            .iter()
            .filter(|own| own.platform == *platform);
        let own = own.flat_map(|own| own.manifest.clone());
        self.manifest.clone().into_iter().chain(own).collect()
    }

    /// What stands in the descriptor of that manifest.
    pub(crate) fn descriptor_of(&self, platform: &Platform) -> BTreeMap<String, String> {
        let own = self
            .platforms
            .iter()
            .filter(|own| own.platform == *platform);
        let own = own.flat_map(|own| own.descriptor.clone());
        self.descriptor.clone().into_iter().chain(own).collect()
    }
}

impl Encoding {
    /// OCI types, no annotations; layers that have a blob keep it.
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            force_codec: false,
            types: MediaTypes::Oci,
            annotations: Annotations::none(),
            attestations: attest::Form::Image,
        }
    }
}

impl MediaTypes {
    /// Of an index.
    pub(crate) fn index(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_INDEX,
            Self::Docker => media::DOCKER_INDEX,
        }
    }

    /// Of a manifest.
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_MANIFEST,
            Self::Docker => media::DOCKER_MANIFEST,
        }
    }

    /// Of a config.
    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_CONFIG,
            Self::Docker => media::DOCKER_CONFIG,
        }
    }

    /// The type of this family that says the same as `layer`; one that has no like stays.
    pub(crate) fn layer(self, layer: &str) -> &str {
        match self {
            Self::Oci => media::oci_layer(layer),
            Self::Docker => media::docker_layer(layer),
        }
    }
}
