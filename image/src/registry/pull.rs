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
        let mut second_try = false;
        loop {
            let answer = self.send(&call)?;
            if answer.status != 200 {
                return Err(self.reject(&call, answer));
            }
            // A tag says nothing of the bytes, but the registry may.
            let expected = reference
                .digest
                .or_else(|| answer.header("docker-content-digest")?.parse().ok());
            let encoded = is_encoded(&answer);
            let media_type = answer
                .header("content-type")
                .map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
            let bytes = match answer.read(MAX_MANIFEST) {
                Ok(bytes) => bytes,
                Err(error) => {
                    failures += 1;
                    if failures >= self.options.attempts() {
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
            let mut bytes = bytes;
            let mut digest = Digest::of(&bytes);
            if let Some(expected) = expected
                && digest != expected
            {
                if encoded && let Some(plain) = gunzip(&bytes) {
                    bytes = plain;
                    digest = Digest::of(&bytes);
                }
                if digest != expected {
                    // A proxy on the way may have kept something bad: ask once more.
                    if !std::mem::replace(&mut second_try, true) {
                        continue;
                    }
                    return Err(content(&call, expected, digest, bytes.len() as u64));
                }
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
            // Some front ends know GET alone.
            405 | 501 => match self.manifest_at(reference) {
                Ok(found) => Ok(Some(ManifestHead {
                    digest: Some(found.digest),
                    size: Some(found.bytes.len() as u64),
                })),
                Err(RegistryError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
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
        result?;
        writer.commit(Some(digest))?;
        Ok(())
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

    /// Streams a blob from one place. What a cache on the way has spoilt is asked for once more, and
    /// read as what its headers say it is, if they say that it was compressed under way.
    fn fetch_at(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
        take: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), RegistryError> {
        let _turn = self.turn(&reference.registry);
        let mut transfer = Transfer {
            action: &blob_action(reference, digest),
            path: &format!("{}/blobs/{digest}", reference.repository),
            reference,
            digest,
            size,
            decode: false,
            encoded: false,
        };
        match self.transfer(&mut transfer, take) {
            Err(RegistryError::Content { .. } | RegistryError::Protocol { .. })
                if take(Event::Restart) =>
            {
                transfer.decode = transfer.encoded;
                self.transfer(&mut transfer, take)
            }
            result => result,
        }
    }

    fn transfer(
        &self,
        transfer: &mut Transfer<'_>,
        take: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), RegistryError> {
        let (digest, size) = (transfer.digest, transfer.size);
        let mut hasher = Hasher::default();
        let mut done = 0;
        let mut furthest = 0;
        let mut failures = 0;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let headers = [("range", format!("bytes={done}-"))];
            // A range would count compressed bytes.
            let resumes = done > 0 && !transfer.decode;
            let call = Call {
                headers: if resumes { &headers } else { &[] },
                ..Call::get(transfer.action, transfer.reference, transfer.path)
            };
            let answer = self.send(&call)?;
            match answer.status {
                206 if resumes && range_start(&answer) == Some(done) => {}
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
            transfer.encoded = is_encoded(&answer);
            // Where the length is not the blob's, its end may never come.
            let decode = transfer.decode && transfer.encoded;
            let patient = answer.length() == Some(size - done) || decode;
            let body = answer.into_reader();
            let mut reader: Box<dyn Read + '_> = if decode {
                Box::new(flate2::read::MultiGzDecoder::new(body))
            } else {
                Box::new(body)
            };
            let broken = loop {
                if done == size && !patient {
                    break None;
                }
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
            drop(reader);
            if done == size {
                break;
            }
            // What got through counts: only tries that brought nothing new use up patience.
            failures = if done > furthest { 1 } else { failures + 1 };
            furthest = furthest.max(done);
            if failures >= self.options.attempts() {
                let error = broken.unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into());
                return Err(transport(&call, error));
            }
            std::thread::sleep(retry::pause(failures, None, self.options.retry_pause_ms));
        }
        let found = hasher.finish();
        if found != digest {
            let call = Call::get(transfer.action, transfer.reference, transfer.path);
            return Err(content(&call, digest, found, size));
        }
        Ok(())
    }
}

/// A blob on its way.
struct Transfer<'a> {
    action: &'a str,
    path: &'a str,
    reference: &'a Reference,
    digest: Digest,
    size: u64,
    /// Undo the compression that the headers tell of.
    decode: bool,
    /// The headers told of one.
    encoded: bool,
}

/// True if the answer says that it was compressed on its way, which was not asked for. Registries
/// that say so of a layer which is a gzip file by itself are as common.
fn is_encoded(answer: &Answer) -> bool {
    answer
        .header("content-encoding")
        .is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("gzip"))
}

/// The plain bytes of a manifest, if they are not too many.
fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(bytes).take(MAX_MANIFEST + 1);
    decoder.read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= MAX_MANIFEST).then_some(plain)
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

pub(crate) fn blob_action(reference: &Reference, digest: Digest) -> String {
    format!("pull {digest} of {}", reference.name())
}

/// First byte of a `Content-Range: bytes 5-9/10`.
pub(crate) fn range_start(answer: &Answer) -> Option<u64> {
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

pub(crate) fn transport(call: &Call<'_>, error: std::io::Error) -> RegistryError {
    RegistryError::Transport {
        action: call.action.to_owned(),
        registry: call.reference.registry.clone(),
        source: Box::new(ureq::Error::Io(error)),
    }
}
