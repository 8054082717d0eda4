//! Pushing lists: members that were built here are packed, others are copied from where they are.

use std::io::{self, Read};

use strata_cache::{Digest, Lease, StoreError};

use super::push::neighbours;
use super::stream::BlobStream;
use super::{PushError, PushOptions, Upload};
use crate::export::{self, Document, open_at};
use crate::list::{List, Member};
use crate::manifest::Descriptor;
use crate::{Images, Progress, Reference, RegistryError};

impl Images<'_> {
    /// Pushes the members of `list` to the repository of `target`, and their index to its tag. Blobs
    /// that the registry has are left out; manifests stay as they are.
    pub fn push_list(
        &self,
        lease: &Lease,
        list: &List,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Descriptor, PushError> {
        let mut members = Vec::with_capacity(list.members.len());
        let mut artifacts = Vec::new();
        for member in &list.members {
            let document = if let Some(manifest) = &member.manifest {
                self.copy(member, manifest, target, options, progress)?
            } else {
                let image = export::built(self.store(), member)?;
                export::claim(self.store(), lease, &image)?;
                let options = PushOptions {
                    write: image.write_options(self.store())?,
                    ..options.clone()
                };
                let layers = self.push_blobs(&image, target, &options, progress)?;
                let encoding = &options.encoding;
                let manifest =
                    export::member_manifest(self.store(), &image, member, &layers, encoding);
                artifacts.extend(member.artifact(self.store(), &manifest.descriptor)?);
                manifest
            };
            let described = member.described(&document.descriptor);
            if list.alone && list.members.len() == 1 {
                self.put_document(&document, target, options.by_digest)?;
                return Ok(described);
            }
            self.put_document(&document, target, true)?;
            members.push(described);
        }
        for artifact in artifacts {
            for blob in &artifact.blobs {
                self.push_bytes(target, Digest::of(blob), blob)?;
            }
            members.push(artifact.descriptor.clone());
            let document = Document {
                descriptor: artifact.descriptor,
                bytes: artifact.manifest,
            };
            self.put_document(&document, target, true)?;
        }
        for nested in &list.nested {
            let document = Document {
                descriptor: nested.clone(),
                bytes: self.store().blobs().read(nested.digest)?,
            };
            self.put_document(&document, target, true)?;
        }
        let index = export::index_of(self.store(), list, members)?;
        self.put_document(&index, target, options.by_digest)?;
        Ok(index.descriptor)
    }

    /// Brings the blobs of a manifest to `target`, and answers the manifest.
    fn copy(
        &self,
        member: &Member,
        manifest: &Descriptor,
        target: &Reference,
        options: &PushOptions,
        progress: &dyn Progress,
    ) -> Result<Document, PushError> {
        let source = member.source.as_deref();
        let source = source.and_then(|name| Reference::parse(name).ok());
        let bytes = self.manifest_bytes(manifest, source.as_ref())?;
        let document = Document {
            descriptor: manifest.clone(),
            bytes,
        };
        let parsed = export::parsed(&document)?;
        let there = target.with_digest(manifest.digest);
        if self.client().manifest_digest(&there)?.is_some() {
            // With all that it names.
            return Ok(document);
        }
        let mut first: Vec<Reference> = source.into_iter().collect();
        first.extend(options.sources.iter().cloned());
        let store = self.store();
        for blob in parsed.blobs() {
            let there = self.client().blob_size(target, blob.digest, "pull,push")?;
            if there == Some(blob.size) {
                continue;
            }
            let origins = self.origins(blob.digest, &first)?;
            let mount_from = neighbours(&origins, target);
            // What is not here is passed on without being kept.
            let here = origins.is_empty() || store.blobs().contains(blob.digest);
            let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
                if here {
                    return open_at(store, blob.digest, offset);
                }
                let (digest, size) = (blob.digest, blob.size);
                let stream = BlobStream::open(self.client(), &origins, digest, size, offset);
                Ok(Box::new(stream.map_err(io::Error::other)?))
            };
            let upload = Upload {
                digest: blob.digest,
                size: blob.size,
                open: &open,
                mount_from: &mount_from,
            };
            self.client().upload(target, &upload, progress)?;
        }
        Ok(document)
    }

    /// The bytes of a manifest: the store's, or those of a repository that has it.
    pub(crate) fn manifest_bytes(
        &self,
        manifest: &Descriptor,
        source: Option<&Reference>,
    ) -> Result<Vec<u8>, RegistryError> {
        match (self.store().blobs().read(manifest.digest), source) {
            (Ok(bytes), _) => Ok(bytes),
            (Err(StoreError::NoBlob { .. } | StoreError::Corrupt { .. }), Some(source)) => {
                let fetched = self
                    .client()
                    .manifest(&source.with_digest(manifest.digest))?;
                Ok(fetched.bytes)
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}
