//! Fetching manifests and blobs, checked against their digests.

use std::io::{Read, Write as _};

use strata_cache::{Digest, Hasher, Store};

use super::client::{Answer, Call};
use super::{Client, RegistryError, retry};
use crate::manifest::{MAX_MANIFEST, media};
use crate::pipe::REPORT;
use crate::{Progress, Reference};

/// A manifest or an index as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their digest, computed here.
    pub digest: Digest,
    /// What the registry called it.
    pub media_type: Option<String>,
}

/// What a registry says of a manifest without sending it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest, if the registry says so. Not checked.
    pub digest: Option<Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

impl Client {
    /// Fetches the manifest or index that `reference` names, by its digest if it has one, from a
    /// mirror or the registry.
    pub fn manifest(&self, reference: &Reference) -> Result<FetchedManifest, RegistryError> {
        self.first(reference, |place| self.manifest_at(place))
    }

    fn manifest_at(&self, reference: &Reference) -> Result<FetchedManifest, RegistryError> {
        let action = format!("pull manifest {reference}");
        let path = manifest_path(reference);
        let headers = [("accept", media::MANIFESTS.join(", "))];
        let call = Call {
            headers: &headers,
            ..Call::get(&action, reference, &path)
        };
        let mut failures = 0;
        loop {
            let answer = self.send(&call)?;
            if answer.status != 200 {
                return Err(self.reject(&call, answer));
            }
            let media_type = answer
                .header("content-type")
                .map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
            let bytes = match answer.read(MAX_MANIFEST) {
                Ok(bytes) => bytes,
                Err(error) => {
                    failures += 1;
                    if failures >= retry::ATTEMPTS {
                        return Err(transport(&call, error));
                    }
                    std::thread::sleep(retry::pause(failures, None, self.options.retry_pause_ms));
                    continue;
                }
            };
            if bytes.len() as u64 > MAX_MANIFEST {
                return Err(protocol(
                    &call,
                    format!("a manifest of more than {MAX_MANIFEST} bytes"),
                ));
            }
            let digest = Digest::of(&bytes);
            if let Some(expected) = reference.digest
                && digest != expected
            {
                return Err(content(&call, expected, digest, bytes.len() as u64));
            }
            return Ok(FetchedManifest {
                bytes,
                digest,
                media_type,
            });
        }
    }

    /// The digest and size that the registry says the manifest has; none if it has none.
    pub fn manifest_digest(
        &self,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let action = format!("look for manifest {reference}");
        let path = manifest_path(reference);
        let headers = [("accept", media::MANIFESTS.join(", "))];
        let call = Call {
            method: ureq::http::Method::HEAD,
            headers: &headers,
            ..Call::get(&action, reference, &path)
        };
        let answer = self.send(&call)?;
        match answer.status {
            200 => {
                let digest = answer.header("docker-content-digest");
                Ok(Some(ManifestHead {
                    digest: digest.and_then(|text| text.parse().ok()),
                    size: answer.length(),
                }))
            }
            404 => Ok(None),
            _ => Err(self.reject(&call, answer)),
        }
    }

    /// Fetches a blob of `size` bytes into the store, unless it is there. A broken download goes
    /// on where it stopped; what arrives must have the digest, or nothing is stored.
    pub fn download(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        if store.blobs().contains(digest) {
            return Ok(());
        }
        let what = digest.short();
        let mut second_try = false;
        loop {
            let mut writer = store.blobs().writer()?;
            let mut write_error = None;
            let result = self.fetch(reference, digest, size, &mut |event| match event {
                Event::Restart => match store.blobs().writer() {
                    Ok(fresh) => {
                        writer = fresh;
                        true
                    }
                    Err(error) => {
                        write_error = Some(error);
                        false
                    }
                },
                Event::Data(bytes, done) => {
                    let before = done - bytes.len() as u64;
                    if let Err(source) = writer.write_all(bytes) {
                        write_error = Some(strata_cache::StoreError::Io {
                            action: "write",
                            path: store.blobs().path(digest),
                            source,
                        });
                        return false;
                    }
                    if before / REPORT != done / REPORT || done == size {
                        progress.update(&what, done, Some(size));
                    }
                    true
                }
            });
            if let Some(error) = write_error {
                return Err(error.into());
            }
            match result {
                Ok(()) => {
                    writer.commit(Some(digest))?;
                    return Ok(());
                }
                // A proxy on the way may have kept something bad: ask once more.
                Err(RegistryError::Content { .. }) if !second_try => second_try = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Fetches a small blob (a config) into memory.
    pub fn read_blob(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        if size > MAX_MANIFEST {
            let action = blob_action(reference, digest);
            let call = Call::get(&action, reference, "");
            return Err(protocol(&call, format!("a config of {size} bytes")));
        }
        let mut bytes = Vec::new();
        self.fetch(reference, digest, size, &mut |event| {
            match event {
                Event::Restart => bytes.clear(),
                Event::Data(data, _) => bytes.extend_from_slice(data),
            }
            true
        })?;
        Ok(bytes)
    }

    /// Streams a blob to `take`, which may say stop (then `Ok` means nothing).
    fn fetch(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
        take: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), RegistryError> {
        let mut begun = false;
        self.first(reference, |place| {
            if begun && !take(Event::Restart) {
                return Ok(());
            }
            begun = true;
            self.fetch_at(place, digest, size, take)
        })
    }

    fn fetch_at(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
        take: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), RegistryError> {
        let action = blob_action(reference, digest);
        let path = format!("{}/blobs/{digest}", reference.repository);
        let mut hasher = Hasher::default();
        let mut done = 0;
        let mut furthest = 0;
        let mut failures = 0;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let headers = [("range", format!("bytes={done}-"))];
            let call = Call {
                headers: if done > 0 { &headers } else { &[] },
                ..Call::get(&action, reference, &path)
            };
            let answer = self.send(&call)?;
            match answer.status {
                206 if done > 0 && range_start(&answer) == Some(done) => {}
                200 => {
                    if done > 0 {
                        done = 0;
                        hasher = Hasher::default();
                        if !take(Event::Restart) {
                            return Ok(());
                        }
                    }
                }
                206 => {
                    return Err(protocol(
                        &call,
                        "another range than was asked for".to_owned(),
                    ));
                }
                _ => return Err(self.reject(&call, answer)),
            }
            let mut reader = answer.into_reader();
            let broken = loop {
                match reader.read(&mut buffer) {
                    Ok(0) => break None,
                    Ok(count) => {
                        done += count as u64;
                        if done > size {
                            return Err(protocol(
                                &call,
                                format!("more than the {size} bytes of the blob"),
                            ));
                        }
                        hasher.update(&buffer[..count]);
                        if !take(Event::Data(&buffer[..count], done)) {
                            return Ok(());
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => break Some(error),
                }
            };
            if done == size {
                break;
            }
            // What got through counts: only tries that brought nothing new use up patience.
            failures = if done > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(done);
            if failures >= retry::ATTEMPTS {
                let error = broken.unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
                return Err(transport(&call, error));
            }
            std::thread::sleep(retry::pause(failures, None, self.options.retry_pause_ms));
        }
        let found = hasher.finish();
        if found != digest {
            let call = Call::get(&action, reference, &path);
            return Err(content(&call, digest, found, size));
        }
        Ok(())
    }
}

enum Event<'a> {
    /// What came before is void.
    Restart,
    /// Bytes, and how many there are with them.
    Data(&'a [u8], u64),
}

pub(crate) fn manifest_path(reference: &Reference) -> String {
    format!(
        "{}/manifests/{}",
        reference.repository,
        reference.identifier()
    )
}

fn blob_action(reference: &Reference, digest: Digest) -> String {
    format!("pull {digest} of {}", reference.name())
}

/// First byte of a `Content-Range: bytes 5-9/10`.
fn range_start(answer: &Answer) -> Option<u64> {
    let range = answer
        .header("content-range")?
        .trim()
        .strip_prefix("bytes")?;
    range.trim().split_once('-')?.0.parse().ok()
}

pub(crate) fn protocol(call: &Call<'_>, reason: String) -> RegistryError {
    RegistryError::Protocol {
        action: call.action.to_owned(),
        registry: call.reference.registry.clone(),
        reason,
    }
}

fn content(call: &Call<'_>, expected: Digest, found: Digest, size: u64) -> RegistryError {
    RegistryError::Content {
        action: call.action.to_owned(),
        registry: call.reference.registry.clone(),
        expected,
        found,
        size,
    }
}

fn transport(call: &Call<'_>, error: std::io::Error) -> RegistryError {
    RegistryError::Transport {
        action: call.action.to_owned(),
        registry: call.reference.registry.clone(),
        source: Box::new(ureq::Error::Io(error)),
    }
}
