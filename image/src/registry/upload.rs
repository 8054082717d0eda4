//! Sending blobs and manifests (OCI distribution specification, "Push").

use std::cell::Cell;
use std::io::Read;

use strata_cache::Digest;
use ureq::http::Method;

use super::client::{Answer, Call, Payload, Target};
use super::pull::protocol;
use super::{Client, RegistryError, retry, url};
use crate::stream::REPORT;
use crate::{Progress, Reference};

/// Size of the pieces when a blob can't be sent in one.
const CHUNK: u64 = 32 << 20;

/// A blob to be sent.
pub struct Upload<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Opens it for reading from an offset.
    pub open: &'a dyn Fn(u64) -> std::io::Result<Box<dyn Read + 'a>>,
    /// Other repositories of the same registry that may hold it.
    pub mount_from: &'a [String],
}

impl std::fmt::Debug for Upload<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Upload")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Present,
    /// The registry took it from another repository.
    Mounted,
    /// It was sent.
    Sent,
}

impl Client {
    /// The size of a blob in the repository of `reference`; none if it is not there.
    pub fn blob_size(
        &self,
        reference: &Reference,
        digest: Digest,
        access: &'static str,
    ) -> Result<Option<u64>, RegistryError> {
        let action = format!("look for {digest} in {}", reference.name());
        let path = format!("{}/blobs/{digest}", reference.repository);
        let call = Call {
            method: Method::HEAD,
            access,
            ..Call::get(&action, reference, &path)
        };
        let answer = self.send(&call)?;
        match answer.status {
            200 => Ok(Some(answer.length().unwrap_or(0))),
            404 => Ok(None),
            _ => Err(self.reject(&call, answer)),
        }
    }

    /// Whether the blob is known to be there. Who may only push may not be told, and some front ends
    /// do not know HEAD: whether the blob can be sent shows when it is.
    fn holds(&self, target: &Reference, digest: Digest) -> Result<bool, RegistryError> {
        let action = format!("look for {digest} in {}", target.name());
        let path = format!("{}/blobs/{digest}", target.repository);
        let call = Call {
            method: Method::HEAD,
            access: "pull,push",
            ..Call::get(&action, target, &path)
        };
        let answer = self.send(&call)?;
        match answer.status {
            200 => Ok(true),
            400..=499 | 501 => Ok(false),
            _ => Err(self.reject(&call, answer)),
        }
    }

    /// Sees to it that the repository of `target` holds a blob.
    pub fn upload(
        &self,
        target: &Reference,
        upload: &Upload<'_>,
        progress: &dyn Progress,
    ) -> Result<Uploaded, RegistryError> {
        let _turn = self.turn(&target.registry);
        let mut chunked = false;
        let mut failures = 0;
        loop {
            // Asked again after each failure: the answer may be what got lost.
            if self.holds(target, upload.digest)? {
                progress.update(&upload.digest.short(), upload.size, Some(upload.size));
                return Ok(if failures == 0 {
                    Uploaded::Present
                } else {
                    Uploaded::Sent
                });
            }
            let started = match self.start(target, upload, failures == 0) {
                // The answer may be all that was lost: look before it is sent.
                Err(RegistryError::Transport { source, .. })
                    if failures == 0
                        && !upload.mount_from.is_empty()
                        && retry::is_temporary_error(&source) =>
                {
                    failures += 1;
                    continue;
                }
                started => started?,
            };
            let session = match started {
                Started::Mounted => {
                    progress.update(&upload.digest.short(), upload.size, Some(upload.size));
                    return Ok(Uploaded::Mounted);
                }
                Started::Session(session) => session,
            };
            let result = if chunked {
                self.send_chunks(target, upload, session, progress)
            } else {
                self.send_whole(target, upload, &session.location, progress)
            };
            let error = match result {
                Ok(()) => return Ok(Uploaded::Sent),
                Err(error) => error,
            };
            match &error {
                // Too large for one request: something before the registry counts bytes.
                RegistryError::Status { status: 413, .. } if !chunked => chunked = true,
                RegistryError::Status { status, .. }
                    if retry::is_temporary(*status) || *status == 416 => {}
                RegistryError::Transport { source, .. } if retry::is_temporary_error(source) => {}
                // The session was lost, by a restart perhaps.
                RegistryError::NotFound { .. } => {}
                _ => return Err(error),
            }
            failures += 1;
            if failures >= self.options.attempts() {
                return Err(error);
            }
            std::thread::sleep(retry::pause(failures, None, self.options.retry_pause_ms));
        }
    }

    /// Mounts the blob or opens an upload session.
    fn start(
        &self,
        target: &Reference,
        upload: &Upload<'_>,
        mount: bool,
    ) -> Result<Started, RegistryError> {
        let action = format!("push {} to {}", upload.digest, target.name());
        let plain = format!("{}/blobs/uploads/", target.repository);
        let sources = upload
            .mount_from
            .iter()
            .filter(|source| mount && **source != target.repository);
        for source in sources {
            let path = url::with_query(&plain, "mount", &upload.digest.to_string());
            let path = url::with_query(&path, "from", source);
            let call = Call {
                method: Method::POST,
                access: "pull,push",
                also: Some(source),
                repeatable: false,
                ..Call::get(&action, target, &path)
            };
            match self.send(&call) {
                Ok(answer) if answer.status == 201 => return Ok(Started::Mounted),
                Ok(answer) if answer.status == 202 => {
                    return session(&call, &answer).map(Started::Session);
                }
                // Not allowed to read the source, or no mounting here: send it.
                Ok(_)
                | Err(
                    RegistryError::Denied { .. }
                    | RegistryError::Status { .. }
                    | RegistryError::NotFound { .. },
                ) => {}
                Err(error) => return Err(error),
            }
        }
        let call = Call {
            method: Method::POST,
            access: "pull,push",
            repeatable: true,
            ..Call::get(&action, target, &plain)
        };
        let answer = self.send(&call)?;
        if answer.status != 202 {
            return Err(self.reject(&call, answer));
        }
        session(&call, &answer).map(Started::Session)
    }

    fn send_whole(
        &self,
        target: &Reference,
        upload: &Upload<'_>,
        location: &str,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let action = format!("push {} to {}", upload.digest, target.name());
        let url = url::with_query(location, "digest", &upload.digest.to_string());
        let failed = Cell::new(None);
        let open = || counted(upload, 0, upload.size, progress, &failed);
        let headers = [("content-type", "application/octet-stream".to_owned())];
        let call = Call {
            method: Method::PUT,
            target: Target::Url(&url),
            headers: &headers,
            access: "pull,push",
            body: Some(Payload {
                length: upload.size,
                open: &open,
            }),
            repeatable: false,
            ..Call::get(&action, target, "")
        };
        let result = self.send(&call);
        if let Some(source) = failed.take() {
            return Err(RegistryError::Payload { action, source });
        }
        let answer = result?;
        if matches!(answer.status, 201 | 204) {
            Ok(())
        } else {
            Err(self.reject(&call, answer))
        }
    }

    fn send_chunks(
        &self,
        target: &Reference,
        upload: &Upload<'_>,
        session: Session,
        progress: &dyn Progress,
    ) -> Result<(), RegistryError> {
        let action = format!("push {} to {}", upload.digest, target.name());
        let Session {
            mut location,
            chunk,
        } = session;
        let mut done = 0;
        while done < upload.size {
            let length = chunk.min(upload.size - done);
            let failed = Cell::new(None);
            let open = || counted(upload, done, length, progress, &failed);
            let headers = [
                ("content-type", "application/octet-stream".to_owned()),
                ("content-range", format!("{done}-{}", done + length - 1)),
            ];
            let call = Call {
                method: Method::PATCH,
                target: Target::Url(&location),
                headers: &headers,
                access: "pull,push",
                body: Some(Payload {
                    length,
                    open: &open,
                }),
                repeatable: false,
                ..Call::get(&action, target, "")
            };
            let result = self.send(&call);
            if let Some(source) = failed.take() {
                return Err(RegistryError::Payload { action, source });
            }
            let answer = result?;
            if answer.status == 416 {
                let refused = self.reject(&call, answer);
                // The registry has another idea of where we are: ask, and go on from there.
                let status = Call {
                    access: "pull,push",
                    target: Target::Url(&location),
                    ..Call::get(&action, target, "")
                };
                let answer = self.send(&status)?;
                let offset =
                    received(&answer).filter(|offset| *offset > done && *offset <= upload.size);
                // It does not know either: all again, in a new session.
                let Some(offset) = offset else {
                    return Err(refused);
                };
                done = offset;
                location = session_location(&status, &answer)?;
                continue;
            }
            if answer.status != 202 {
                return Err(self.reject(&call, answer));
            }
            location = session_location(&call, &answer)?;
            done += length;
        }
        let url = url::with_query(&location, "digest", &upload.digest.to_string());
        let call = Call {
            method: Method::PUT,
            target: Target::Url(&url),
            access: "pull,push",
            repeatable: false,
            ..Call::get(&action, target, "")
        };
        let answer = self.send(&call)?;
        if matches!(answer.status, 201 | 204) {
            Ok(())
        } else {
            Err(self.reject(&call, answer))
        }
    }

    /// Stores a manifest or index under the tag (or digest) of `target`. The bytes are stored as
    /// they are, so their digest is known.
    pub fn put_manifest(
        &self,
        target: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let action = format!("push manifest {target}");
        let digest = Digest::of(bytes);
        let name = match (&target.tag, target.digest) {
            (Some(tag), _) => tag.clone(),
            (None, _) => digest.to_string(),
        };
        let path = format!("{}/manifests/{name}", target.repository);
        let headers = [("content-type", media_type.to_owned())];
        let open = || -> std::io::Result<Box<dyn Read>> { Ok(Box::new(bytes)) };
        let call = Call {
            method: Method::PUT,
            headers: &headers,
            access: "pull,push",
            body: Some(Payload {
                length: bytes.len() as u64,
                open: &open,
            }),
            repeatable: true,
            ..Call::get(&action, target, &path)
        };
        let answer = self.send(&call)?;
        if !matches!(answer.status, 200..=204) {
            return Err(self.reject(&call, answer));
        }
        Ok(digest)
    }
}

enum Started {
    Mounted,
    Session(Session),
}

struct Session {
    location: String,
    chunk: u64,
}

fn session(call: &Call<'_>, answer: &Answer) -> Result<Session, RegistryError> {
    let least = answer
        .header("oci-chunk-min-length")
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Ok(Session {
        location: session_location(call, answer)?,
        chunk: CHUNK.max(least),
    })
}

fn session_location(call: &Call<'_>, answer: &Answer) -> Result<String, RegistryError> {
    answer
        .location()
        .ok_or_else(|| protocol(call, "an upload without a usable `Location`".to_owned()))
}

/// How many bytes the registry has: one more than the end of its `Range: 0-n`. That of `0-0` may be
/// one or, as docker-registry has it, none.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.header("range")?;
    let end = range.rsplit_once('-')?.1.trim().parse::<u64>().ok()?;
    end.checked_add(1).filter(|_| end > 0)
}

fn counted<'a>(
    upload: &'a Upload<'_>,
    offset: u64,
    length: u64,
    progress: &'a dyn Progress,
    failed: &'a Cell<Option<std::io::Error>>,
) -> std::io::Result<Box<dyn Read + 'a>> {
    match (upload.open)(offset) {
        Ok(reader) => Ok(Box::new(Counted {
            inner: reader.take(length),
            name: upload.digest.short(),
            done: offset,
            total: upload.size,
            progress,
            failed,
        })),
        Err(error) => {
            failed.set(Some(error));
            Err(std::io::ErrorKind::InvalidData.into())
        }
    }
}

struct Counted<'a, R> {
    inner: R,
    name: String,
    done: u64,
    total: u64,
    progress: &'a dyn Progress,
    /// Where a failure of the file goes, which is not one of the connection.
    failed: &'a Cell<Option<std::io::Error>>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                let before = self.done;
                self.done += count as u64;
                if before / REPORT != self.done / REPORT || self.done == self.total {
                    self.progress
                        .update(&self.name, self.done, Some(self.total));
                }
                Ok(count)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.failed.set(Some(error));
                Err(std::io::ErrorKind::InvalidData.into())
            }
        }
    }
}
