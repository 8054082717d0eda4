//! Pushing lists: members that were built here are packed, others are copied from where they are.

use std::io::{self, Read};

use strata_cache::{Lease, StoreError};

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
        for member in &list.members {
            let document = if let Some(manifest) = &member.manifest {
                self.copy(member, manifest, target, progress)?
            } else {
                let image = export::built(self.store(), member)?;
                export::claim(self.store(), lease, &image)?;
                self.push_blobs(&image, target, options, progress)?
            };
            self.put_document(&document, target, true)?;
            members.push(member.described(&document.descriptor));
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
        let same_registry = source
            .as_ref()
            .filter(|source| source.registry == target.registry);
        let there = target.with_digest(manifest.digest);
        if self.client().manifest_digest(&there)?.is_some() {
            // With all that it names.
            return Ok(document);
        }
        let mount_from: Vec<String> = same_registry
            .map(|source| source.repository.clone())
            .into_iter()
            .collect();
        for blob in parsed.layers.iter().chain([&parsed.config]) {
            let there = self.client().blob_size(target, blob.digest, "pull,push")?;
            if there == Some(blob.size) {
                continue;
            }
            let store = self.store();
            // What is not here is passed on without being kept.
            let elsewhere = source
                .as_slice()
                .iter()
                .find(|_| !store.blobs().contains(blob.digest));
            let open = |offset: u64| -> io::Result<Box<dyn Read + '_>> {
                Ok(match elsewhere {
                    None => open_at(store, blob.digest, offset)?,
                    Some(source) => {
                        let origins = std::slice::from_ref(source);
                        let (digest, size) = (blob.digest, blob.size);
                        let stream = BlobStream::open(self.client(), origins, digest, size, offset);
                        Box::new(stream.map_err(io::Error::other)?)
                    }
                })
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
