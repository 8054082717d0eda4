//! Lists of the store as an index and its manifests.

use strata_cache::image::StoredBlob;
use strata_cache::{Digest, Store, StoreError};

use super::layer::blob_for;
use super::set::{Assembled, Document, manifest_of};
use super::{BuiltImage, Encoding, ExportError};
use crate::list::{List, Member};
use crate::manifest::{self, Index, Manifest};
use crate::parallel::in_parallel;
use crate::{Platform, Progress};

/// Makes the layers' blobs that lack, and index and manifests. Manifests that have to stay as they are
/// have to be in the store with all their blobs.
pub(super) fn assemble(
    store: &Store,
    list: &List,
    encoding: &Encoding,
    progress: &dyn Progress,
) -> Result<Assembled, ExportError> {
    let mut small = Vec::new();
    let mut layers = Vec::new();
    let mut members = Vec::with_capacity(list.members.len());
    let mut artifacts = Vec::new();
    for member in &list.members {
        if let Some(document) = as_it_came(store, member)? {
            for blob in parsed(&document)?.blobs() {
                if !store.blobs().contains(blob.digest) {
                    return Err(gone(member, blob.digest));
                }
                layers.push(StoredBlob {
                    digest: blob.digest,
                    size: blob.size,
                    media_type: blob.media_type.clone(),
                });
            }
            members.push(member.described(&document.descriptor));
            small.push((document.descriptor.digest, document.bytes));
            continue;
        }
        let image = built(store, member)?;
        let write = image.write_options(store)?;
        let blobs = in_parallel(4, image.layers(), |layer| {
            blob_for(store, layer, encoding, write, progress)
        })?;
        let manifest = member_manifest(store, &image, member, &blobs, encoding);
        artifacts.extend(member.artifact(store, &manifest.descriptor)?);
        members.push(member.described(&manifest.descriptor));
        small.push((manifest.descriptor.digest, manifest.bytes));
        small.push((image.id(), image.config_bytes().to_vec()));
        layers.extend(blobs);
    }
    members.extend(artifacts.iter().map(|one| one.descriptor.clone()));
    let root = if let Some(only) = alone(list, &members) {
        only.clone()
    } else {
        let index = index_of(store, list, members)?;
        small.insert(0, (index.descriptor.digest, index.bytes));
        index.descriptor
    };
    for nested in &list.nested {
        small.push((nested.digest, store.blobs().read(nested.digest)?));
    }
    for artifact in artifacts {
        small.push((artifact.descriptor.digest, artifact.manifest));
        let blobs = artifact.blobs.into_iter();
        small.extend(blobs.map(|blob| (Digest::of(&blob), blob)));
    }
    Ok(Assembled {
        root,
        small,
        layers,
        images: Vec::new(),
    })
}

/// The only member of a list that has no index.
fn alone<'a>(list: &List, members: &'a [manifest::Descriptor]) -> Option<&'a manifest::Descriptor> {
    match members {
        [only] if list.alone => Some(only),
        _ => None,
    }
}

/// The manifest of a member that was built here, with the annotations that it is to have.
pub(crate) fn member_manifest(
    store: &Store,
    image: &BuiltImage,
    member: &Member,
    layers: &[StoredBlob],
    encoding: &Encoding,
) -> Document {
    if member.manifest_annotations.is_empty() {
        return manifest_of(store, image, layers, encoding);
    }
    let mut encoding = encoding.clone();
    let annotations = &mut encoding.annotations.manifest;
    annotations.extend(member.manifest_annotations.clone());
    manifest_of(store, image, layers, &encoding)
}

/// The manifest of a member that has one, if the store has it. An error if it has to be had from
/// elsewhere.
fn as_it_came(store: &Store, member: &Member) -> Result<Option<Document>, ExportError> {
    let Some(descriptor) = &member.manifest else {
        return Ok(None);
    };
    match store.blobs().read(descriptor.digest) {
        Ok(bytes) => Ok(Some(Document {
            descriptor: descriptor.clone(),
            bytes,
        })),
        Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }) => {
            Err(gone(member, descriptor.digest))
        }
        Err(error) => Err(error.into()),
    }
}

fn gone(member: &Member, blob: Digest) -> ExportError {
    ExportError::MemberGone {
        platform: member
            .platform
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), Platform::to_string),
        blob,
    }
}

pub(crate) fn parsed(document: &Document) -> Result<Manifest, ExportError> {
    match manifest::Document::parse(&document.bytes, Some(&document.descriptor.media_type)) {
        Ok(manifest::Document::Manifest(manifest)) => Ok(*manifest),
        Ok(manifest::Document::Index(_)) => Err(ExportError::Manifest {
            digest: document.descriptor.digest,
            source: manifest::ManifestError::MediaType {
                media_type: "an index within an index".to_owned(),
            },
        }),
        Err(source) => Err(ExportError::Manifest {
            digest: document.descriptor.digest,
            source,
        }),
    }
}

/// The image of a member that was built here.
pub(crate) fn built(store: &Store, member: &Member) -> Result<BuiltImage, ExportError> {
    let config = member.image.ok_or_else(|| gone(member, Digest::of(b"")))?;
    let mut found = store.index().images_by_id(&config.to_string())?;
    let image = found.pop().ok_or_else(|| gone(member, config))?;
    let image = BuiltImage::from_stored(store, &image)?;
    Ok(match &member.platform {
        Some(platform) => image.for_platform(platform.clone()),
        None => image,
    })
}

/// The index of a list whose members are described so: the one that it came as, if nothing changed.
pub(crate) fn index_of(
    store: &Store,
    list: &List,
    members: Vec<manifest::Descriptor>,
) -> Result<Document, ExportError> {
    let came_as = match list.came_as {
        Some(digest) if store.blobs().contains(digest) => Some(store.blobs().read(digest)?),
        _ => None,
    };
    let mut document = if let Some(bytes) = came_as {
        Document::of_bytes(&list.media_type, bytes)
    } else {
        let index = Index {
            schema_version: 2,
            media_type: Some(list.media_type.clone()),
            manifests: members,
            annotations: list.annotations.clone(),
        };
        Document::new(&list.media_type, &index)
    };
    document
        .descriptor
        .annotations
        .clone_from(&list.descriptor_annotations);
    Ok(document)
}
