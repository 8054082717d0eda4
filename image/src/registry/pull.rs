//! Fetching manifests and blobs, checked against their digests.

use std::io::{Read, Write as _};
use std::path::PathBuf;

use strata_cache::blob::BlobWriter;
use strata_cache::{Digest, Store, StoreError};

use super::client::{Answer, Call};
use super::{Client, RegistryError, retry};
use crate::manifest::{MAX_MANIFEST, media};
use crate::stream::REPORT;
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
    /// on where it stopped, be it in a process that is gone; what arrives must have the digest, or nothing
    /// is stored.
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
        let mut target = Download {
            writer: store.blobs().resume(digest, size)?,
            failure: None,
            path: store.blobs().path(digest),
            what: digest.short(),
            size,
            progress,
        };
        let result = self.fetch(reference, digest, size, &mut target);
        if let Some(error) = target.failure {
            return Err(error.into());
        }
        result?;
        target.writer.commit(Some(digest))?;
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
        self.fetch(reference, digest, size, &mut bytes)?;
        Ok(bytes)
    }

    /// Streams a blob to `target`, which may say stop (then `Ok` means nothing).
    fn fetch(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
        target: &mut dyn Target,
    ) -> Result<(), RegistryError> {
        // What one place has sent of it another one need not send again: the digest tells if they differ.
        self.first(reference, |place| {
            self.fetch_at(place, digest, size, target)
        })
    }

    /// Streams a blob from one place. What turns out to be spoilt, on the disk or by a cache on the way, is
    /// asked for once more from its beginning, and read as what its headers say it is, if they say that it
    /// was compressed under way.
    fn fetch_at(
        &self,
        reference: &Reference,
        digest: Digest,
        size: u64,
        target: &mut dyn Target,
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
        let is_resumed = target.held() > 0;
        let mut result = self.transfer(&mut transfer, target);
        if is_resumed && is_spoilt(&result) && target.restart() {
            result = self.transfer(&mut transfer, target);
        }
        if is_spoilt(&result) && target.restart() {
            transfer.decode = transfer.encoded;
            result = self.transfer(&mut transfer, target);
        }
        if is_spoilt(&result) {
            // Nobody is to go on with it. The error is the same, whether that works or not.
            let _: bool = target.restart();
        }
        result
    }

    fn transfer(
        &self,
        transfer: &mut Transfer<'_>,
        target: &mut dyn Target,
    ) -> Result<(), RegistryError> {
        let (digest, size) = (transfer.digest, transfer.size);
        let mut furthest = target.held();
        let mut failures = 0;
        let mut buffer = vec![0; 256 << 10];
        while target.held() < size || size == 0 {
            let mut done = target.held();
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
                        if !target.restart() {
                            return Ok(());
                        }
                    }
                }
                // There is no more than what is held, or less.
                416 if resumes => {
                    if !target.restart() {
                        return Ok(());
                    }
                    continue;
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
                        if !target.take(&buffer[..count]) {
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
        let found = target.digest();
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

/// What came is not the blob.
fn is_spoilt(result: &Result<(), RegistryError>) -> bool {
    matches!(
        result,
        Err(RegistryError::Content { .. } | RegistryError::Protocol { .. })
    )
}

/// Where a blob goes.
trait Target {
    /// How much of it is there.
    fn held(&self) -> u64;
    /// Throws that away. False if it can't.
    fn restart(&mut self) -> bool;
    /// Appends. False if it can't.
    fn take(&mut self, bytes: &[u8]) -> bool;
    /// The digest of all that is there.
    fn digest(&self) -> Digest;
}

impl Target for Vec<u8> {
    fn held(&self) -> u64 {
        self.len() as u64
    }

    fn restart(&mut self) -> bool {
        self.clear();
        true
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        self.extend_from_slice(bytes);
        true
    }

    fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// A blob on its way into the store.
struct Download<'a> {
    writer: BlobWriter,
    /// Why it can't be written.
    failure: Option<StoreError>,
    path: PathBuf,
    what: String,
    size: u64,
    progress: &'a dyn Progress,
}

impl Target for Download<'_> {
    fn held(&self) -> u64 {
        self.writer.size()
    }

    fn restart(&mut self) -> bool {
        match self.writer.restart() {
            Ok(()) => true,
            Err(error) => {
                self.failure = Some(error);
                false
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let before = self.writer.size();
        if let Err(source) = self.writer.write_all(bytes) {
            self.failure = Some(StoreError::Io {
                action: "write",
                path: self.path.clone(),
                source,
            });
            return false;
        }
        let done = self.writer.size();
        if before / REPORT != done / REPORT || done == self.size {
            self.progress.update(&self.what, done, Some(self.size));
        }
        true
    }

    fn digest(&self) -> Digest {
        self.writer.digest()
    }
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
