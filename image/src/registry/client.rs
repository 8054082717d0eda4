//! The client: one for each process, any number of registries.
//!
//! A [`Call`] is one thing that is asked. [`Client::send`] sees to everything that may stand
//! between the question and its answer: the challenge, the token, redirects, busy servers and
//! broken connections.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use ureq::http::{Method, Request, Response};
use ureq::{Body, SendBody};

use super::auth::{self, AuthState, Scheme};
use super::token::TokenRequest;
use super::transport::{Agents, COMMIT_TIMEOUT};
use super::url::{self, Origin};
use super::{Credentials, RegistryError, RegistryOptions, credentials, retry};
use crate::Reference;
use crate::reference::{DEFAULT_API, DEFAULT_REGISTRY};

const MAX_REDIRECTS: u32 = 10;
/// How often one request may be answered by another wish for who we are.
const MAX_CHALLENGES: u32 = 4;
/// As much of an error's text as is read.
const MAX_ERROR: u64 = 64 << 10;

/// Speaks to registries. Does nothing before it is first asked for something.
pub struct Client {
    pub(crate) options: RegistryOptions,
    pub(super) agents: Agents,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What is known of one registry.
pub(super) struct Host {
    /// As in references.
    pub(super) registry: String,
    /// `https://host:port`, once it was found out.
    base: Mutex<Option<String>>,
    pub(super) unchecked: bool,
    /// Plain HTTP was asked for.
    plain: bool,
    /// Whether anybody is there, once it was asked.
    answers: OnceLock<bool>,
    auth: Mutex<AuthState>,
    credentials: Mutex<HashMap<String, Option<Credentials>>>,
    /// Blobs that are on their way.
    transfers: Mutex<usize>,
    /// Told when there is room for another.
    room: Condvar,
}

/// A blob's turn with a registry, until it is dropped.
pub(super) struct Turn(Arc<Host>);

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.transfers) -= 1;
        self.0.room.notify_one();
    }
}

/// Where a call goes.
pub(crate) enum Target<'a> {
    /// Below `/v2/` of the registry.
    Path(&'a str),
    /// What the registry gave as a `Location`.
    Url(&'a str),
}

/// A body that can be sent again.
pub(crate) struct Payload<'a> {
    pub(crate) length: u64,
    pub(crate) open: &'a dyn Fn() -> std::io::Result<Box<dyn Read + 'a>>,
}

/// One thing that is asked of a registry.
pub(crate) struct Call<'a> {
    /// For errors: `pull manifest docker.io/library/debian:12`.
    pub(crate) action: &'a str,
    pub(crate) reference: &'a Reference,
    pub(crate) method: Method,
    pub(crate) target: Target<'a>,
    pub(crate) headers: &'a [(&'static str, String)],
    /// What the token must allow: `pull` or `pull,push`.
    pub(crate) access: &'static str,
    /// Another repository of the same registry that must be readable.
    pub(crate) also: Option<&'a str>,
    pub(crate) body: Option<Payload<'a>>,
    /// True if doing it twice does no harm.
    pub(crate) repeatable: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn get(action: &'a str, reference: &'a Reference, path: &'a str) -> Self {
        Self {
            action,
            reference,
            method: Method::GET,
            target: Target::Path(path),
            headers: &[],
            access: "pull",
            also: None,
            body: None,
            repeatable: true,
        }
    }

    fn scope(&self) -> String {
        // A login asks for no repository.
        if self.reference.repository.is_empty() {
            return String::new();
        }
        let own = format!("repository:{}:{}", self.reference.repository, self.access);
        match self.also {
            Some(other) => format!("{own} repository:{other}:pull"),
            None => own,
        }
    }
}

/// An answer: status, headers, body to be read, and where it came from after redirects.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) url: String,
    pub(super) response: Response<Body>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    pub(crate) fn into_reader(self) -> impl Read {
        self.response.into_body().into_reader()
    }

    /// The body if it has no more than `limit` bytes; else as many and one more.
    pub(crate) fn read(self, limit: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.into_reader().take(limit + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The absolute URL in `Location`.
    pub(crate) fn location(&self) -> Option<String> {
        url::join(&self.url, self.header("location")?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client with `options`.
    pub fn new(options: RegistryOptions) -> Self {
        Self {
            agents: Agents::new(&options),
            options,
            hosts: Mutex::default(),
        }
    }

    fn host(&self, registry: &str) -> Arc<Host> {
        lock(&self.hosts)
            .entry(registry.to_owned())
            .or_insert_with(|| {
                let options = self.options.hosts.get(registry);
                let plain = options.is_some_and(|host| host.http);
                Arc::new(Host {
                    registry: registry.to_owned(),
                    base: Mutex::new(None),
                    unchecked: plain || options.is_some_and(|host| host.insecure),
                    plain,
                    answers: OnceLock::new(),
                    auth: Mutex::default(),
                    credentials: Mutex::default(),
                    transfers: Mutex::default(),
                    room: Condvar::new(),
                })
            })
            .clone()
    }

    /// Waits until another blob may be on its way from or to `registry`.
    pub(super) fn turn(&self, registry: &str) -> Turn {
        let host = self.host(registry);
        let most = self.options.transfers(registry);
        let mut transfers = lock(&host.transfers);
        while *transfers >= most {
            transfers = host
                .room
                .wait(transfers)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *transfers += 1;
        drop(transfers);
        Turn(host)
    }

    /// Scheme, host and port of the API. For hosts that may speak either, HTTPS is tried once.
    fn base(&self, host: &Host) -> Result<String, RegistryError> {
        let mut base = lock(&host.base);
        if let Some(base) = &*base {
            return Ok(base.clone());
        }
        let name = if host.registry == DEFAULT_REGISTRY {
            DEFAULT_API
        } else {
            &host.registry
        };
        let https = format!("https://{name}");
        let http = format!("http://{name}");
        // A certificate that can't be read would only make this look like a registry without TLS.
        if let Some(origin) = Origin::of(&https).filter(|_| !host.plain) {
            self.agents.get(&origin, host.unchecked)?;
        }
        let probe = |url: &str| -> Result<Answer, ureq::Error> {
            let origin = Origin::of(url).ok_or(ureq::Error::HostNotFound)?;
            let request = Request::get(format!("{url}/v2/")).body(())?;
            let agent = self
                .agents
                .get(&origin, host.unchecked)
                .map_err(|_| ureq::Error::HostNotFound)?;
            let response = agent.run(request)?;
            Ok(Answer {
                status: response.status().as_u16(),
                url: url.to_owned(),
                response,
            })
        };
        let found = if host.plain {
            http
        } else if url::is_loopback(name) {
            match probe(&http) {
                Ok(answer) => {
                    if wants_tls(answer) {
                        https
                    } else {
                        http
                    }
                }
                Err(ureq::Error::Io(error))
                    if error.kind() == std::io::ErrorKind::ConnectionRefused =>
                {
                    http
                }
                // A TLS server may also just hang up.
                Err(_) => match probe(&https) {
                    Ok(_) => https,
                    Err(error) if error.to_string().contains("ertificate") => https,
                    Err(_) => http,
                },
            }
        } else if host.unchecked && probe(&https).is_err() {
            http
        } else {
            https
        };
        *base = Some(found.clone());
        Ok(found)
    }

    /// Whether a registry gives any answer at all: asked once, without patience.
    pub(super) fn answers(&self, registry: &str) -> Result<bool, RegistryError> {
        let host = self.host(registry);
        if let Some(known) = host.answers.get() {
            return Ok(*known);
        }
        let url = format!("{}/v2/", self.base(&host)?);
        let Some(origin) = Origin::of(&url) else {
            return Ok(false);
        };
        let agent = self.agents.get(&origin, host.unchecked)?;
        let request = Request::get(url).body(());
        let answers = request.is_ok_and(|request| agent.run(request).is_ok());
        Ok(*host.answers.get_or_init(|| answers))
    }

    /// Asks, and answers with whatever status is final: the caller knows which ones are good.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        let host = self.host(&call.reference.registry);
        let base = self.base(&host)?;
        let url = match call.target {
            Target::Path(path) => format!("{base}/v2/{path}"),
            Target::Url(url) => url.to_owned(),
        };
        let scope = call.scope();
        let mut failures = 0;
        let mut challenges = 0;
        loop {
            let (authorization, last) = self.authorization(&host, call, &scope)?;
            let result = self.follow(&host, &base, call, &url, authorization.as_deref());
            let wait = match result {
                Ok(answer) if answer.status == 401 && is_same_origin(&answer.url, &base) => {
                    let headers = answer.response.headers().get_all("www-authenticate");
                    let scheme =
                        auth::parse_challenges(headers.iter().filter_map(|h| h.to_str().ok()));
                    challenges += 1;
                    let mut state = lock(&host.auth);
                    // A token from before may have run out; one that was made for this is refused for
                    // good, unless something else is wanted by now.
                    let again = !last || state.scheme != scheme;
                    let Some(scheme) = scheme.filter(|_| again && challenges < MAX_CHALLENGES)
                    else {
                        drop(state);
                        return Err(self.failure(&host, call, answer));
                    };
                    state.scheme = Some(scheme);
                    state.forget_token(&scope, authorization.as_deref());
                    continue;
                }
                Ok(answer) if retry::is_temporary(answer.status) => {
                    failures += 1;
                    // A request that was turned away has done nothing yet.
                    let turned_away = matches!(answer.status, 429 | 503);
                    if failures >= self.options.attempts() || !(call.repeatable || turned_away) {
                        return Err(self.failure(&host, call, answer));
                    }
                    let after = answer.header("retry-after").map(str::to_owned);
                    retry::pause(failures, after.as_deref(), self.options.retry_pause_ms)
                }
                Ok(answer) => return Ok(answer),
                Err(Failure::Transport(error)) => {
                    failures += 1;
                    let hopeless = !retry::is_temporary_error(&error);
                    if failures >= self.options.attempts() || !call.repeatable || hopeless {
                        return Err(RegistryError::Transport {
                            action: call.action.to_owned(),
                            registry: host.registry.clone(),
                            source: error,
                        });
                    }
                    retry::pause(failures, None, self.options.retry_pause_ms)
                }
                Err(Failure::Final(error)) => return Err(error),
            };
            std::thread::sleep(wait);
        }
    }

    /// One request and the redirects that it meets.
    fn follow(
        &self,
        host: &Host,
        base: &str,
        call: &Call<'_>,
        url: &str,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let protocol = |reason: String| {
            Failure::Final(RegistryError::Protocol {
                action: call.action.to_owned(),
                registry: host.registry.clone(),
                reason,
            })
        };
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let origin = Origin::of(&url)
                .ok_or_else(|| protocol(format!("`{url}` is not a URL that can be followed")))?;
            if !origin.https && base.starts_with("https:") && !origin.is_loopback() {
                return Err(protocol(format!(
                    "it sends us from HTTPS to plain HTTP at `{}`",
                    origin.host
                )));
            }
            let trusted = is_same_origin(&url, base);
            let agent = self
                .agents
                .get(&origin, host.unchecked)
                .map_err(|error| Failure::Final(error.into()))?;
            let mut builder = Request::builder().method(call.method.clone()).uri(&url);
            for (name, value) in call.headers {
                builder = builder.header(*name, value);
            }
            if let Some(authorization) = authorization.filter(|_| trusted) {
                builder = builder.header("authorization", authorization);
            }
            let invalid = |error: ureq::http::Error| protocol(format!("request: {error}"));
            let transport = |error| Failure::Transport(Box::new(error));
            let response = match &call.body {
                None if call.method == Method::GET || call.method == Method::HEAD => {
                    agent.run(builder.body(()).map_err(invalid)?)
                }
                None => agent.run(builder.body(&b""[..]).map_err(invalid)?),
                Some(payload) => {
                    let mut reader =
                        (payload.open)().map_err(|error| transport(ureq::Error::Io(error)))?;
                    let request = builder
                        .header("content-length", payload.length)
                        .body(SendBody::from_reader(&mut reader))
                        .map_err(invalid)?;
                    let request = agent
                        .configure_request(request)
                        .timeout_per_read(Some(COMMIT_TIMEOUT))
                        .build();
                    agent.run(request)
                }
            }
            .map_err(transport)?;
            let answer = Answer {
                status: response.status().as_u16(),
                url,
                response,
            };
            let redirected = matches!(answer.status, 301 | 302 | 303 | 307 | 308)
                && (call.method == Method::GET
                    || call.method == Method::HEAD
                    || matches!(answer.status, 307 | 308));
            if !redirected {
                return Ok(answer);
            }
            url = answer
                .location()
                .ok_or_else(|| protocol("a redirect without a usable `Location`".to_owned()))?;
        }
        Err(protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// The `Authorization` header for `call`, if the registry has asked for one before; and whether
    /// that is the last word, because nothing better can be had.
    fn authorization(
        &self,
        host: &Host,
        call: &Call<'_>,
        scope: &str,
    ) -> Result<(Option<String>, bool), RegistryError> {
        // The lock is held while a token is fetched: others who need one wait for it rather than
        // fetch it, too.
        let mut state = lock(&host.auth);
        let Some(scheme) = state.scheme.clone() else {
            return Ok((None, false));
        };
        let credentials = self.credentials(host, &call.reference.repository)?;
        if let Some(Credentials::RegistryToken(token)) = &credentials {
            return Ok((Some(format!("Bearer {token}")), true));
        }
        match scheme {
            Scheme::Basic => Ok((auth::basic_of(credentials.as_ref()), true)),
            Scheme::Bearer { realm, service } => {
                if let Some(token) = state.token(scope) {
                    return Ok((Some(format!("Bearer {token}")), false));
                }
                let wanted = TokenRequest {
                    realm: &realm,
                    service: service.as_deref(),
                    scope,
                };
                let answer = self.fetch_token(host, call.action, &wanted, credentials.as_ref())?;
                state.set_token(scope, answer);
                let token = state.token(scope).map(|token| format!("Bearer {token}"));
                Ok((token, true))
            }
        }
    }

    fn credentials(
        &self,
        host: &Host,
        repository: &str,
    ) -> Result<Option<Credentials>, RegistryError> {
        let mut known = lock(&host.credentials);
        if let Some(found) = known.get(repository) {
            return Ok(found.clone());
        }
        let found = credentials::find(&self.options, &host.registry, repository)?;
        known.insert(repository.to_owned(), found.clone());
        Ok(found)
    }

    /// The error that an answer stands for.
    pub(crate) fn reject(&self, call: &Call<'_>, answer: Answer) -> RegistryError {
        let host = self.host(&call.reference.registry);
        self.failure(&host, call, answer)
    }

    fn failure(&self, host: &Host, call: &Call<'_>, answer: Answer) -> RegistryError {
        let status = answer.status;
        let action = call.action.to_owned();
        let registry = host.registry.clone();
        let detail = error_detail(answer);
        match status {
            404 => RegistryError::NotFound {
                action,
                registry,
                detail,
            },
            401 | 403 => RegistryError::Denied {
                action,
                registry,
                detail,
                anonymous: matches!(self.credentials(host, &call.reference.repository), Ok(None)),
            },
            status => RegistryError::Status {
                action,
                registry,
                status,
                detail,
            },
        }
    }

    /// Asks whether the registry is there and takes our credentials: what a login checks.
    pub fn ping(&self, registry: &str) -> Result<(), RegistryError> {
        let reference = Reference {
            registry: registry.to_owned(),
            repository: String::new(),
            tag: None,
            digest: None,
        };
        let call = Call::get("log in", &reference, "");
        let answer = self.send(&call)?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(self.reject(&call, answer))
        }
    }
}

enum Failure {
    /// Perhaps better next time.
    Transport(Box<ureq::Error>),
    Final(RegistryError),
}

fn is_same_origin(url: &str, base: &str) -> bool {
    Origin::of(url).is_some_and(|origin| Some(origin) == Origin::of(base))
}

/// True for what TLS servers say to plain HTTP: Go's, nginx's, Apache's.
fn wants_tls(answer: Answer) -> bool {
    if answer.status != 400 {
        return false;
    }
    let bytes = answer.read(MAX_ERROR).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    ["HTTPS", "SSL", "TLS"]
        .iter()
        .any(|word| text.contains(word))
}

/// The registry's own words: codes and messages of its JSON, or the first line of a text.
pub(super) fn error_detail(answer: Answer) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<Entry>,
        details: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let is_html = answer
        .header("content-type")
        .is_some_and(|kind| kind.contains("html"));
    let bytes = answer.read(MAX_ERROR).unwrap_or_default();
    let text = match serde_json::from_slice::<Errors>(&bytes) {
        Ok(errors) if !errors.errors.is_empty() => {
            let words: Vec<String> = errors
                .errors
                .into_iter()
                .map(
                    |entry| match (entry.code.is_empty(), entry.message.is_empty()) {
                        (_, true) => entry.code,
                        (true, false) => entry.message,
                        (false, false) => format!("{} ({})", entry.message, entry.code),
                    },
                )
                .collect();
            words.join("; ")
        }
        Ok(errors) => errors.details.unwrap_or_default(),
        Err(_) if is_html => String::new(),
        Err(_) => String::from_utf8_lossy(&bytes)
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    // It goes to a terminal: nothing in it may move the cursor.
    text.chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}
