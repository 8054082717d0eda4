//! Files of the web: one GET, with the redirects that it meets, and the questions that spare the
//! body if it is known already (RFC 9110, "Conditional Requests").

use std::io::Read;
use std::time::Duration;

use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use crate::RegistryOptions;
use crate::registry::CertificateError;
use crate::registry::transport::Agents;
use crate::registry::url::{self, Origin};

const MAX_REDIRECTS: u32 = 10;
/// How often a busy or silent server is asked.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(300);

/// Fetches files. One for each build is enough; it may be used from any thread.
pub struct Fetcher {
    agents: Agents,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            agents: Agents::new(&RegistryOptions::default()),
        }
    }
}

/// What is asked of a server.
#[derive(Clone, Copy, Default)]
pub struct Question<'a> {
    /// The whole URL, `http` or `https`.
    pub url: &'a str,
    /// The header `Authorization`. Goes to the URL's own origin only.
    pub authorization: Option<&'a str>,
    /// Further headers, which go there only, too.
    pub headers: &'a [(&'static str, String)],
    /// The `ETag` that the known body came with.
    pub etag: Option<&'a str>,
    /// The `Last-Modified` that it came with.
    pub last_modified: Option<&'a str>,
}

impl std::fmt::Debug for Question<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Question")
            .field("url", &shown(self.url))
            .finish_non_exhaustive()
    }
}

/// What came back.
pub enum Answer {
    /// The known body is still the right one.
    NotModified,
    /// A body.
    File(File),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::NotModified => "NotModified",
            Self::File(_) => "File",
        })
    }
}

/// A file on its way.
pub struct File {
    /// Its `ETag`.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as it stands there.
    pub last_modified: Option<String>,
    /// Bytes, if the server says how many.
    pub length: Option<u64>,
    /// The bytes. Ends with an error if the connection breaks.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("File")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Why a file can't be had. Queries of URLs, which may hold signatures, are not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It is no URL of the web, or holds a password.
    #[error("`{url}` is not an http(s) URL without a user in it")]
    Url {
        /// The URL.
        url: String,
    },
    /// A file with a certificate or a key of that host is of no use.
    #[error("certificates of the host")]
    Certificate(#[from] CertificateError),
    /// No answer, or the connection broke.
    #[error("no answer from `{url}`")]
    Transport {
        /// The URL.
        url: String,
        /// What happened.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The server refused.
    #[error("`{url}` answered {status}")]
    Status {
        /// The URL.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("`{url}` leads {reason}")]
    Redirect {
        /// The URL.
        url: String,
        /// Where.
        reason: &'static str,
    },
}

/// A URL without its query and fragment, for messages.
pub fn shown(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    crate::redact::url(&url[..end])
}

impl Fetcher {
    /// Asks `question`. A server that is busy or does not answer is asked again twice.
    pub fn get(&self, question: Question<'_>) -> Result<Answer, FetchError> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            let result = self.follow(question);
            let again = match &result {
                Err(FetchError::Transport { .. }) => true,
                Err(FetchError::Status { status, .. }) => {
                    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
                }
                _ => false,
            };
            if !again || tries == TRIES {
                return result;
            }
            std::thread::sleep(pause);
            pause *= 3;
            tries += 1;
        }
    }

    fn follow(&self, question: Question<'_>) -> Result<Answer, FetchError> {
        let mut url = question
            .url
            .split('#')
            .next()
            .unwrap_or_default()
            .to_owned();
        let invalid = |url: &str| FetchError::Url { url: shown(url) };
        let first = Origin::of(&url).ok_or_else(|| invalid(&url))?;
        for _ in 0..=MAX_REDIRECTS {
            let origin = Origin::of(&url).ok_or_else(|| invalid(&url))?;
            if first.https && !origin.https {
                return Err(FetchError::Redirect {
                    url: shown(question.url),
                    reason: "from HTTPS to plain HTTP",
                });
            }
            let agent = self.agents.get(&origin, false)?;
            let response = ask(&agent, &url, question, origin == first)?;
            let status = response.status().as_u16();
            match status {
                200 => {}
                304 if question.etag.is_some() || question.last_modified.is_some() => {
                    return Ok(Answer::NotModified);
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = header(&response, "location").unwrap_or_default();
                    url = url::join(&url, &location).ok_or_else(|| FetchError::Redirect {
                        url: shown(&url),
                        reason: "to no place that can be followed",
                    })?;
                    continue;
                }
                status => {
                    return Err(FetchError::Status {
                        url: shown(&url),
                        status,
                    });
                }
            }
            return Ok(Answer::File(File {
                etag: header(&response, "etag"),
                last_modified: header(&response, "last-modified"),
                length: header(&response, "content-length")
                    .and_then(|length| length.trim().parse().ok()),
                body: Box::new(response.into_body().into_reader()),
            }));
        }
        Err(FetchError::Redirect {
            url: shown(question.url),
            reason: "round in circles",
        })
    }
}

fn ask(
    agent: &Agent,
    url: &str,
    question: Question<'_>,
    trusted: bool,
) -> Result<Response<Body>, FetchError> {
    let mut builder = Request::builder().method("GET").uri(url);
    if let Some(etag) = question.etag {
        builder = builder.header("if-none-match", etag);
    }
    if let Some(time) = question.last_modified {
        builder = builder.header("if-modified-since", time);
    }
    if let Some(authorization) = question.authorization.filter(|_| trusted) {
        builder = builder.header("authorization", authorization);
    }
    for (name, value) in question.headers.iter().filter(|_| trusted) {
        builder = builder.header(*name, value.as_str());
    }
    let request = builder
        .body(())
        .map_err(|_| FetchError::Url { url: shown(url) })?;
    agent.run(request).map_err(|source| FetchError::Transport {
        url: shown(url),
        source: Box::new(source),
    })
}

fn header(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// Seconds since the epoch of an HTTP date.
pub fn http_date(text: &str) -> Option<i64> {
    let time = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(time.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_secret_of_a_url() {
        for (url, expected) in [
            ("https://h/a?token=x#y", "https://h/a"),
            ("https://user:pw@h/a", "https://h/a"),
            ("https://h/a@b", "https://h/a@b"),
            ("x", "x"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(
            http_date("Wed, 21 Oct 2015 07:28:00 GMT"),
            Some(1_445_412_480)
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
