//! Manifests, indexes, descriptors (OCI image specification, and Docker's older forms of the same).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strata_cache::Digest;

use crate::Platform;

/// Media types.
pub mod media {
    /// OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// The config of what is no image: `{}`.
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// OCI layer, plain tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker index.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, plain tar.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, zstd.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
    /// What a client accepts when it asks a registry for a manifest.
    pub const MANIFESTS: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

    /// True if `media_type` is an index of either kind.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_INDEX)
    }

    /// True if `media_type` is a manifest of either kind.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
    }

    /// The OCI type that says the same as a Docker layer type; others stay.
    pub fn oci_layer(media_type: &str) -> &str {
        match media_type {
            DOCKER_LAYER => OCI_LAYER,
            DOCKER_LAYER_GZIP => OCI_LAYER_GZIP,
            DOCKER_LAYER_ZSTD => OCI_LAYER_ZSTD,
            other => other,
        }
    }

    /// The Docker type that says the same as an OCI layer type; others stay.
    pub fn docker_layer(media_type: &str) -> &str {
        match media_type {
            OCI_LAYER => DOCKER_LAYER,
            OCI_LAYER_GZIP => DOCKER_LAYER_GZIP,
            OCI_LAYER_ZSTD => DOCKER_LAYER_ZSTD,
            other => other,
        }
    }
}

/// Largest manifest, index or config that is read: registries refuse manifests above 4 MiB.
pub const MAX_MANIFEST: u64 = 8 << 20;

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not JSON, or a field is missing or has the wrong type.
    #[error("manifest can't be parsed")]
    Json(#[source] serde_json::Error),
    /// Neither an image manifest nor an index.
    #[error("`{media_type}` is not the media type of an image: expected an OCI or docker manifest")]
    MediaType {
        /// What it is.
        media_type: String,
    },
    /// No member of the index runs on the platform.
    #[error("no image for platform {platform}; there are: {available}")]
    Platform {
        /// What was wanted.
        platform: Box<Platform>,
        /// What the index has, separated by commas.
        available: String,
    },
    /// An index names as a manifest what is an index.
    #[error("{digest} is an index, but is named as a manifest")]
    DisguisedIndex {
        /// Its digest.
        digest: Digest,
    },
    /// Indexes within indexes.
    #[error("indexes within indexes are followed {limit} levels deep, and there are more")]
    TooDeep {
        /// How many are followed.
        limit: usize,
    },
    /// Indexes within indexes.
    #[error("there are more than {limit} indexes within the index")]
    TooManyIndexes {
        /// How many may be.
        limit: usize,
    },
    /// Members of an index and of those within it.
    #[error("the index has more than {limit} members")]
    TooManyMembers {
        /// How many may be.
        limit: usize,
    },
    /// Manifest and config name different numbers of layers.
    #[error("manifest has {manifest} layers but its config has {config}")]
    LayerCount {
        /// In the manifest.
        manifest: usize,
        /// In the config.
        config: usize,
    },
}

/// A reference from one blob to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of blob it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Other places to get it from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Any texts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What a manifest without a config is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What it runs on (members of an index).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The blob itself, in base 64, where it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// A descriptor without annotations or platform.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
            platform: None,
            data: None,
        }
    }

    /// The descriptor of a manifest's bytes. `media_type` is what the sender called it, if it does not
    /// say itself what it is.
    pub(crate) fn of_document(bytes: &[u8], digest: Digest, media_type: Option<&str>) -> Self {
        let own = serde_json::from_slice::<Look>(bytes).ok();
        let own = own.and_then(|look| look.media_type);
        let media_type = own.as_deref().or(media_type).unwrap_or(media::OCI_MANIFEST);
        Self::new(media_type, digest, bytes.len() as u64)
    }

    /// True for a member of an index that says something about another member.
    pub fn is_attestation(&self) -> bool {
        is_attestation(&self.annotations, self.platform.as_ref())
    }
}

/// What serves `platform` best: exact before older variants, first among equals. What does not say what
/// it runs on never does.
pub(crate) fn best<'a, T>(
    offered: impl Iterator<Item = (Option<&'a Platform>, T)>,
    platform: &Platform,
) -> Option<T> {
    let fitting = offered.filter_map(|(own, member)| Some((platform.accepts(own?)?, member)));
    let best = fitting.min_by_key(|(distance, _)| *distance);
    best.map(|(_, member)| member)
}

/// What tells such a member from an image, as BuildKit writes it.
pub(crate) fn is_attestation(
    annotations: &BTreeMap<String, String>,
    platform: Option<&Platform>,
) -> bool {
    annotations.contains_key(crate::attest::TYPE_ANNOTATION)
        || platform.is_some_and(|platform| platform.os == "unknown")
}

/// An image manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI manifests may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// Layers, base first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Box<Descriptor>>,
    /// Any texts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// True if its config is an image's. Anything may be stored as a manifest.
    pub fn is_image(&self) -> bool {
        matches!(
            self.config.media_type.as_str(),
            media::OCI_CONFIG | media::DOCKER_CONFIG
        )
    }

    /// Layers and config.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().chain([&self.config])
    }
}

/// An index: one name for several manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI indexes may leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its members.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Any texts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index without members.
    pub fn empty() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.to_owned()),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// The member that serves `platform` best: exact before older variants, first in the list
    /// among equals. Attestations are never chosen. An only member without a platform is taken.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor, ManifestError> {
        let images: Vec<&Descriptor> = self
            .manifests
            .iter()
            .filter(|member| !member.is_attestation())
            .collect();
        if let [only] = images[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let offered = images.iter().map(|it| (it.platform.as_ref(), *it));
        best(offered, platform).ok_or_else(|| {
            let available: Vec<String> = images
                .iter()
                .filter_map(|member| member.platform.as_ref().map(ToString::to_string))
                .collect();
            ManifestError::Platform {
                platform: Box::new(platform.clone()),
                available: if available.is_empty() {
                    "none".to_owned()
                } else {
                    available.join(", ")
                },
            }
        })
    }
}

/// What tells documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Look {
    media_type: Option<String>,
    schema_version: Option<u32>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

/// A manifest or an index, by what its bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// An image.
    Manifest(Box<Manifest>),
    /// A choice of images.
    Index(Index),
}

impl Document {
    /// Parses `bytes`. `media_type` is what the sender called it; what the bytes say of
    /// themselves counts more, so that an index can't pass as a manifest or the other way round.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ManifestError> {
        let look: Look = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        let refused = |media_type: String| ManifestError::MediaType { media_type };
        if look.schema_version != Some(2) {
            return Err(refused(look.media_type.unwrap_or_else(|| {
                format!("manifest schema {}", look.schema_version.unwrap_or(0))
            })));
        }
        let own = look.media_type.as_deref().or(media_type);
        let is_index = match own {
            Some(own) if media::is_index(own) => true,
            Some(own) if media::is_manifest(own) => false,
            Some(own) if look.media_type.is_some() => return Err(refused(own.to_owned())),
            _ => look.manifests.is_some(),
        };
        // CVE-2021-41190: a document with the lists of both kinds means different things to
        // different readers.
        let ambiguous =
            look.manifests.is_some() && (look.config.is_some() || look.layers.is_some());
        if ambiguous {
            return Err(refused("manifest and index at once".to_owned()));
        }
        if is_index {
            let index = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            Ok(Self::Index(index))
        } else {
            let manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
            Ok(Self::Manifest(manifest))
        }
    }
}

/// A manifest with the bytes that it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What they say.
    pub manifest: Manifest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(members: &[(&str, Option<&str>)]) -> Index {
        Index {
            schema_version: 2,
            media_type: None,
            manifests: members
                .iter()
                .map(|(content, platform)| {
                    let digest = Digest::of(content.as_bytes());
                    let mut descriptor = Descriptor::new(media::OCI_MANIFEST, digest, 1);
                    descriptor.platform = platform.map(|text| text.parse().unwrap());
                    descriptor
                })
                .collect(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn the_best_member_of_an_index_is_chosen() {
        let arm = index(&[
            ("v5", Some("linux/arm/v5")),
            ("v7", Some("linux/arm/v7")),
            ("again", Some("linux/arm/v7")),
            ("amd", Some("linux/amd64")),
        ]);
        let choose = |index: &Index, platform: &str| {
            let platform: Platform = platform.parse().unwrap();
            index.choose(&platform).map(|member| member.digest)
        };
        assert_eq!(choose(&arm, "linux/arm/v7").unwrap(), Digest::of(b"v7"));
        assert_eq!(choose(&arm, "linux/arm/v6").unwrap(), Digest::of(b"v5"));
        let error = choose(&arm, "linux/s390x").unwrap_err().to_string();
        assert!(error.contains("linux/arm/v5, linux/arm/v7"), "{error}");

        let single = index(&[("only", None), ("attestation", Some("unknown/unknown"))]);
        assert_eq!(choose(&single, "linux/s390x").unwrap(), Digest::of(b"only"));
    }

    #[test]
    fn documents_are_told_apart_by_their_own_words() {
        let digest = Digest::of(b"");
        let config = format!(r#"{{"mediaType":"x","digest":"{digest}","size":1}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(matches!(
            Document::parse(manifest.as_bytes(), Some(media::OCI_MANIFEST)),
            Ok(Document::Manifest(_))
        ));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(
            Document::parse(index.as_bytes(), None),
            Ok(Document::Index(_))
        ));
        let rows = [
            // Both at once, whatever the sender calls it.
            format!(r#"{{"schemaVersion":2,"manifests":[],"config":{config},"layers":[]}}"#),
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            r#"{"schemaVersion":2,"mediaType":"application/json"}"#.to_owned(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{}"}}"#,
                media::OCI_MANIFEST
            ),
            "[]".to_owned(),
            String::new(),
        ];
        for text in rows {
            assert!(
                Document::parse(text.as_bytes(), Some(media::OCI_INDEX)).is_err(),
                "{text}"
            );
        }
    }
}
