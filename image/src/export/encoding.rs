//! How a manifest and new layers are written: compression, media types, annotations.

use std::collections::BTreeMap;

use strata_cache::codec::Codec;

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
    /// In the manifest.
    pub manifest: BTreeMap<String, String>,
    /// In the descriptor by which the index of a layout names the manifest.
    pub descriptor: BTreeMap<String, String>,
}

impl Annotations {
    /// True if there are none at all.
    pub fn is_empty(&self) -> bool {
        self.manifest.is_empty() && self.descriptor.is_empty()
    }
}

impl Encoding {
    /// OCI types, no annotations; layers that have a blob keep it.
    pub const fn new(codec: Codec) -> Self {
        Self {
            codec,
            force_codec: false,
            types: MediaTypes::Oci,
            annotations: Annotations {
                manifest: BTreeMap::new(),
                descriptor: BTreeMap::new(),
            },
        }
    }
}

impl MediaTypes {
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
