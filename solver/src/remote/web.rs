//! Files of the web.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use strata_cache::{Digest, StoreError};
use strata_image::fetch::{self, Answer, Fetcher, Question};

use super::bucket::{self, Condition};
use super::signed::Keys;
use super::{RemoteError, Surroundings, WebFile};

/// What is known of a URL from the last time.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    digest: Digest,
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Known {
    fn mtime(&self) -> i64 {
        self.last_modified
            .as_deref()
            .and_then(fetch::http_date)
            .unwrap_or(0)
    }
}

/// Name of the file beside a URL's body that says what is known of it.
const KNOWN: &str = "known.json";

/// Has the file at `url` in the store's blobs. With a `checksum` whose blob is there, nobody is
/// asked for it. If the policy wants it signed, it is.
pub(crate) fn file(
    fetcher: &Fetcher,
    surroundings: Surroundings<'_>,
    url: &str,
    checksum: Option<Digest>,
) -> Result<WebFile, RemoteError> {
    let file = fetch_file(fetcher, surroundings, url, checksum)?;
    let Some(rule) = surroundings.signed.of_http(url) else {
        return Ok(file);
    };
    let beside = beside(url, rule.signature.as_deref().unwrap_or(SIGNATURE));
    let unsigned = |reason: String| RemoteError::Unsigned {
        what: format!("`{}`", fetch::shown(url)),
        rule: rule.url.clone(),
        reason,
    };
    let signature =
        fetch_file(fetcher, surroundings, &beside, None).map_err(|error| match error {
            RemoteError::Fetch(error) => unsigned(format!(
                "there is no signature at `{}` ({})",
                fetch::shown(&beside),
                crate::error::chain(&error)
            )),
            error => error,
        })?;
    let blobs = surroundings.store.blobs();
    let path = blobs.path(signature.digest);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path)
        .and_then(|signature| signature.take(LONGEST_SIGNATURE).read_to_end(&mut bytes));
    read.map_err(|source| RemoteError::Io {
        action: "read",
        path,
        source,
    })?;
    let keys = Keys::read(surroundings, rule)?;
    keys.check(surroundings, &blobs.path(file.digest), &bytes)?
        .map_err(unsigned)?;
    Ok(file)
}

/// What a signature's path ends with if nothing is said.
const SIGNATURE: &str = ".sig";

/// No signature is longer.
const LONGEST_SIGNATURE: u64 = 1 << 20;

/// The address with `suffix` behind its path.
fn beside(url: &str, suffix: &str) -> String {
    let (path, rest) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    format!("{path}{suffix}{rest}")
}

fn fetch_file(
    fetcher: &Fetcher,
    surroundings: Surroundings<'_>,
    url: &str,
    checksum: Option<Digest>,
) -> Result<WebFile, RemoteError> {
    let blobs = surroundings.store.blobs();
    let (directory, _guard) = surroundings.directory("web", url)?;
    let path = directory.join(KNOWN);
    let known = std::fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
    if let Some(digest) = checksum
        && let Some(size) = blobs.size(digest)?
    {
        let mtime = known
            .filter(|known| known.digest == digest)
            .map_or(0, |known| known.mtime());
        return Ok(WebFile {
            digest,
            size,
            mtime,
            moved: false,
        });
    }
    let known = match known {
        Some(known) => blobs.size(known.digest)?.map(|size| (known, size)),
        None => None,
    };
    let authorization = authorization(surroundings, url);
    let condition = Condition {
        etag: known.as_ref().and_then(|(known, _)| known.etag.as_deref()),
        last_modified: known
            .as_ref()
            .and_then(|(known, _)| known.last_modified.as_deref()),
    };
    let asked = if surroundings.environment && authorization.is_none() {
        let now = jiff::Timestamp::now();
        bucket::request(url, condition, &bucket::of_environment, now)?
    } else {
        None
    };
    let question = Question {
        url: asked.as_ref().map_or(url, |asked| asked.url.as_str()),
        authorization: authorization.as_deref(),
        headers: asked.as_ref().map_or(&[], |asked| asked.headers.as_slice()),
        etag: condition.etag,
        last_modified: condition.last_modified,
    };
    let answer = fetcher.get(question)?;
    let mut file = match (answer, known) {
        (Answer::NotModified, Some((known, size))) => {
            check(url, checksum, known.digest)?;
            return Ok(WebFile {
                digest: known.digest,
                size,
                mtime: known.mtime(),
                moved: false,
            });
        }
        (Answer::File(file), _) => file,
        (Answer::NotModified, None) => {
            return Err(RemoteError::Body {
                url: fetch::shown(url),
                source: std::io::Error::other("the server says that nothing changed"),
            });
        }
    };
    let failed = |source| RemoteError::Body {
        url: fetch::shown(url),
        source,
    };
    let mut writer = blobs.writer()?;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        if surroundings.cancel.is_cancelled() {
            return Err(RemoteError::Cancelled);
        }
        let count = file.body.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        writer.write_all(&buffer[..count]).map_err(failed)?;
        (surroundings.progress)(writer.size(), file.length);
    }
    if let Some(length) = file.length
        && length != writer.size()
    {
        return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let (digest, size) = match writer.commit(checksum) {
        Err(StoreError::Corrupt { found, .. }) => {
            check(url, checksum, found)?;
            return Err(StoreError::NoBlob { digest: found }.into());
        }
        result => result?,
    };
    let known = Known {
        digest,
        etag: file.etag,
        last_modified: file.last_modified,
    };
    // Only the next build's question gets longer if this can't be written.
    if let Ok(text) = serde_json::to_vec(&known) {
        let scratch = directory.join("known.new");
        drop(std::fs::write(&scratch, text).and_then(|()| std::fs::rename(&scratch, &path)));
    }
    Ok(WebFile {
        digest,
        size,
        mtime: known.mtime(),
        moved: true,
    })
}

fn check(url: &str, expected: Option<Digest>, found: Digest) -> Result<(), RemoteError> {
    match expected {
        Some(expected) if expected != found => Err(RemoteError::Checksum {
            url: fetch::shown(url),
            expected: expected.to_string(),
            found: found.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The header that a secret for the URL's host holds.
fn authorization(surroundings: Surroundings<'_>, url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.to_ascii_lowercase().starts_with("http") {
        return None;
    }
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if let Some(header) = surroundings.secret(&format!("HTTP_AUTH_HEADER_{host}")) {
        return Some(header);
    }
    let token = surroundings.secret(&format!("HTTP_AUTH_TOKEN_{host}"))?;
    Some(format!("Bearer {token}"))
}

/// The name that ADD gives to the file of a URL: the last part of its path.
pub(crate) fn file_name(url: &str) -> String {
    let unnamed = || "__unnamed__".to_owned();
    let Some((_, rest)) = url.split_once("://") else {
        return unnamed();
    };
    let rest = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    let path = decode(rest.find('/').map_or("", |slash| &rest[slash..]));
    let last = path.trim_end_matches('/').rsplit('/').next();
    match last.unwrap_or_default() {
        "" | "." | ".." => unnamed(),
        name if name.contains('\0') => unnamed(),
        name => name.to_owned(),
    }
}

/// Resolves `%41`. What is no such escape stays.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escape {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{beside, file_name};

    #[test]
    fn a_signature_lies_beside_its_file() {
        for (url, expected) in [
            ("https://h/a.tgz", "https://h/a.tgz.asc"),
            ("https://h/a?x=/y#z", "https://h/a.asc?x=/y#z"),
        ] {
            assert_eq!(beside(url, ".asc"), expected);
        }
    }

    #[test]
    fn a_file_is_named_after_the_last_part_of_its_path() {
        for (url, name) in [
            ("https://h/a/b.tar.gz", "b.tar.gz"),
            ("https://h/a/b?x=/y#z/w", "b"),
            ("https://h/a/", "a"),
            ("https://h/", "__unnamed__"),
            ("https://h", "__unnamed__"),
            ("https://h?q", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/a%2Fb", "b"),
            ("https://h/a%00b", "__unnamed__"),
            ("https://h/..", "__unnamed__"),
            ("https://h/50%", "50%"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
