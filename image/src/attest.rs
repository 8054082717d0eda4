//! What is said about an image, in the form that BuildKit attaches it: in-toto statements
//! (<https://in-toto.io/Statement/v0.1>) as layers of a manifest for no platform, which stands beside the
//! image in its index and names it in an annotation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use strata_cache::Digest;

use crate::export::Artifact;
use crate::manifest::{Descriptor, Manifest, media};
use crate::sbom::encode;
use crate::{Platform, Reference};

/// Media type of a statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";

/// What the entry of an index has that is an attestation manifest.
pub const TYPE_ANNOTATION: &str = "vnd.docker.reference.type";

/// Its value.
pub const TYPE: &str = "attestation-manifest";

/// The digest of the manifest that it is about.
pub const SUBJECT_ANNOTATION: &str = "vnd.docker.reference.digest";

/// What a statement is of, in the list of layers.
pub const PREDICATE_ANNOTATION: &str = "in-toto.io/predicate-type";

/// What an attestation manifest is as an artifact, in [`Form::Artifact`].
pub const ARTIFACT_TYPE: &str = "application/vnd.docker.attestation.manifest.v1+json";

/// The forms of an attestation manifest. In an index both look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// An image for no platform, whose layers are the statements.
    #[default]
    Image,
    /// An artifact whose subject is the image (OCI image specification 1.1): a registry lists it among
    /// what refers to the image.
    Artifact,
}

/// Something that is said, of whatever it will be attached to.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What it is: a URI.
    pub predicate_type: String,
    /// What it says.
    pub predicate: Value,
    /// The file that it becomes where there are no manifests, such as `provenance.json`.
    pub filename: String,
    /// There is no such file: it is attached to images only.
    pub inline_only: bool,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// A package URL, or the path of a file.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

impl Statement {
    /// The statement's bytes. BuildKit calls what has no name `_`.
    pub fn about(&self, subjects: &[Subject]) -> Vec<u8> {
        let subjects: Vec<Value> = subjects
            .iter()
            .map(
                |subject| json!({"name": subject.name, "digest": {"sha256": subject.digest.hex()}}),
            )
            .collect();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": self.predicate_type,
            "subject": subjects,
            "predicate": self.predicate,
        });
        let mut bytes = serde_json::to_vec_pretty(&statement)
            .expect("string keys and plain values always serialise");
        bytes.push(b'\n');
        bytes
    }
}

/// The manifest with `statements` about the image whose manifest is `image`, and that is known by
/// `names`. None if nothing is said.
pub fn artifact(
    image: &Descriptor,
    names: &[String],
    statements: &[Statement],
    form: Form,
) -> Option<Artifact> {
    if statements.is_empty() {
        return None;
    }
    let platform = image.platform.as_ref();
    let mut subjects: Vec<Subject> = names
        .iter()
        .filter_map(|name| Reference::parse(name).ok())
        .map(|name| Subject {
            name: package_url(&name, platform),
            digest: image.digest,
        })
        .collect();
    if subjects.is_empty() {
        subjects.push(Subject {
            name: "_".to_owned(),
            digest: image.digest,
        });
    }
    let mut blobs = Vec::with_capacity(statements.len() + 1);
    let mut layers = Vec::with_capacity(statements.len());
    for statement in statements {
        let bytes = statement.about(&subjects);
        let mut layer = Descriptor::new(STATEMENT, Digest::of(&bytes), bytes.len() as u64);
        let kind = statement.predicate_type.clone();
        layer
            .annotations
            .insert(PREDICATE_ANNOTATION.to_owned(), kind);
        layers.push(layer);
        blobs.push(bytes);
    }
    let config = match form {
        Form::Image => config_for(&layers),
        Form::Artifact => b"{}".to_vec(),
    };
    let mut manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media::OCI_CONFIG, Digest::of(&config), config.len() as u64),
        layers,
        subject: None,
        annotations: BTreeMap::new(),
    };
    if form == Form::Artifact {
        manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
        media::OCI_EMPTY.clone_into(&mut manifest.config.media_type);
        // `{}` in base 64.
        manifest.config.data = Some("e30=".to_owned());
        let subject = Descriptor::new(&image.media_type, image.digest, image.size);
        manifest.subject = Some(Box::new(subject));
    }
    blobs.insert(0, config);
    let manifest = serde_json::to_vec_pretty(&manifest)
        .expect("string keys and plain values always serialise");
    let mut descriptor = Descriptor::new(
        media::OCI_MANIFEST,
        Digest::of(&manifest),
        manifest.len() as u64,
    );
    descriptor.platform = Some(Platform::new("unknown", "unknown", None));
    for (name, value) in [
        (TYPE_ANNOTATION, TYPE.to_owned()),
        (SUBJECT_ANNOTATION, image.digest.to_string()),
    ] {
        descriptor.annotations.insert(name.to_owned(), value);
    }
    Some(Artifact {
        descriptor,
        manifest,
        blobs,
    })
}

/// The config of an image for no platform.
fn config_for(layers: &[Descriptor]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.digest.to_string())
        .collect();
    json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

/// The package URL of an image: `pkg:docker/debian@12?platform=linux%2Famd64`.
pub fn package_url(name: &Reference, platform: Option<&Platform>) -> String {
    let familiar = Reference {
        tag: None,
        digest: None,
        ..name.clone()
    }
    .familiar();
    let mut url = String::from("pkg:docker");
    for part in familiar.split('/') {
        url.push('/');
        encode(part, &mut url);
    }
    if let Some(tag) = &name.tag {
        url.push('@');
        encode(tag, &mut url);
    }
    let digest = name.digest.map(|digest| ("digest", digest.to_string()));
    let platform = platform.map(|platform| ("platform", platform.to_string()));
    for (index, (key, value)) in digest.into_iter().chain(platform).enumerate() {
        url.push(if index == 0 { '?' } else { '&' });
        url.push_str(key);
        url.push('=');
        encode(&value, &mut url);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_package_urls() {
        let platform = Platform::new("linux", "amd64", None);
        let digest = Digest::of(b"");
        for (name, expected) in [
            (
                "debian",
                "pkg:docker/debian@latest?platform=linux%2Famd64".to_owned(),
            ),
            (
                "r.io:5000/a/b:1",
                "pkg:docker/r.io:5000/a/b@1?platform=linux%2Famd64".to_owned(),
            ),
            (
                &format!("debian:12@{digest}"),
                format!("pkg:docker/debian@12?digest={digest}&platform=linux%2Famd64"),
            ),
        ] {
            let name = Reference::parse(name).unwrap();
            assert_eq!(package_url(&name, Some(&platform)), expected);
        }
    }

    fn an_image_and_a_statement() -> (Descriptor, Statement) {
        let mut image = Descriptor::new(media::OCI_MANIFEST, Digest::of(b"image"), 5);
        image.platform = Some(Platform::new("linux", "arm64", None));
        let said = Statement {
            predicate_type: "https://x/y".into(),
            predicate: json!({"a": 1}),
            filename: "y.json".into(),
            inline_only: false,
        };
        (image, said)
    }

    #[test]
    fn the_manifest_names_its_subject_and_what_it_says() {
        let (image, said) = an_image_and_a_statement();
        assert!(artifact(&image, &[], &[], Form::Image).is_none());
        let said = std::slice::from_ref(&said);
        let artifact = artifact(&image, &[], said, Form::Image).unwrap();
        assert!(artifact.descriptor.is_attestation());
        let digest = Digest::of(b"image").to_string();
        assert_eq!(artifact.descriptor.annotations[SUBJECT_ANNOTATION], digest);
        assert_eq!(artifact.descriptor.digest, Digest::of(&artifact.manifest));
        let manifest: Manifest = serde_json::from_slice(&artifact.manifest).unwrap();
        assert_eq!(manifest.config.digest, Digest::of(&artifact.blobs[0]));
        assert_eq!(manifest.layers[0].digest, Digest::of(&artifact.blobs[1]));
        assert_eq!(
            manifest.layers[0].annotations[PREDICATE_ANNOTATION],
            "https://x/y"
        );
        let statement: Value = serde_json::from_slice(&artifact.blobs[1]).unwrap();
        assert_eq!(statement["subject"][0]["name"], "_");
        assert_eq!(
            statement["subject"][0]["digest"]["sha256"],
            Digest::of(b"image").hex()
        );
        assert_eq!(statement["predicate"]["a"], 1);
    }

    #[test]
    fn an_artifact_has_a_subject_and_an_empty_config() {
        let (image, said) = an_image_and_a_statement();
        let artifact = artifact(&image, &[], &[said], Form::Artifact).unwrap();
        assert!(artifact.descriptor.is_attestation());
        let manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
        assert_eq!(manifest["artifactType"], ARTIFACT_TYPE);
        assert_eq!(
            manifest["config"],
            json!({
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": Digest::of(b"{}").to_string(),
                "size": 2,
                "data": "e30=",
            })
        );
        assert_eq!(
            manifest["subject"],
            json!({
                "mediaType": media::OCI_MANIFEST,
                "digest": image.digest.to_string(),
                "size": 5,
            })
        );
        assert_eq!(artifact.blobs[0], b"{}");
    }
}
