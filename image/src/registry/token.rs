//! Fetching tokens (the registries' token specification, and its OAuth form).

use std::io::Read as _;

use ureq::Body;
use ureq::http::{Request, Response};

use super::auth::{self, TokenAnswer};
use super::client::{Answer, Client, Host, error_detail};
use super::url::{self, Origin};
use super::{Credentials, RegistryError, retry};

const MAX_TOKEN: u64 = 1 << 20;

/// What a token is asked for.
pub(super) struct TokenRequest<'a> {
    /// The token server's URL.
    pub(super) realm: &'a str,
    /// The registry's name for itself.
    pub(super) service: Option<&'a str>,
    /// Scopes, separated by blanks.
    pub(super) scope: &'a str,
}

fn get_token(
    agent: &ureq::Agent,
    wanted: &TokenRequest<'_>,
    authorization: Option<&str>,
) -> Result<Response<Body>, ureq::Error> {
    let mut url = wanted.realm.to_owned();
    if let Some(service) = wanted.service {
        url = url::with_query(&url, "service", service);
    }
    for scope in wanted.scope.split(' ').filter(|scope| !scope.is_empty()) {
        url = url::with_query(&url, "scope", scope);
    }
    let mut builder = Request::get(url);
    if let Some(authorization) = authorization {
        builder = builder.header("authorization", authorization);
    }
    agent.run(builder.body(())?)
}

fn post_token(
    agent: &ureq::Agent,
    wanted: &TokenRequest<'_>,
    refresh_token: &str,
) -> Result<Response<Body>, ureq::Error> {
    let form = format!(
        "grant_type=refresh_token&service={}&scope={}&client_id=strata&refresh_token={}",
        url::encode(wanted.service.unwrap_or_default()),
        url::encode(wanted.scope),
        url::encode(refresh_token),
    );
    let request = Request::post(wanted.realm)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)?;
    agent.run(request)
}

impl Client {
    /// Asks the token server, with the credentials if there are any.
    pub(super) fn fetch_token(
        &self,
        host: &Host,
        action: &str,
        wanted: &TokenRequest<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<TokenAnswer, RegistryError> {
        let protocol = |reason: String| RegistryError::Protocol {
            action: action.to_owned(),
            registry: host.registry.clone(),
            reason,
        };
        let origin = Origin::of(wanted.realm)
            .ok_or_else(|| protocol(format!("its token server `{}` is not a URL", wanted.realm)))?;
        if !origin.https && !origin.is_loopback() && !host.unchecked && credentials.is_some() {
            return Err(protocol(format!(
                "it wants the password to be sent to `{}` in plain HTTP",
                origin.host
            )));
        }
        let agent = self.agents.get(&origin, host.unchecked)?;
        let mut failures = 0;
        loop {
            let result = match credentials {
                Some(Credentials::IdentityToken(token)) => post_token(&agent, wanted, token),
                other => get_token(&agent, wanted, auth::basic_of(other).as_deref()),
            };
            let (retry_after, failure) = match result {
                Ok(response) if response.status() == 200 => {
                    let mut bytes = Vec::new();
                    let read = response
                        .into_body()
                        .into_reader()
                        .take(MAX_TOKEN)
                        .read_to_end(&mut bytes);
                    match read {
                        Ok(_) => {
                            return TokenAnswer::parse(&bytes).ok_or_else(|| {
                                protocol(format!("`{}` gave no token", origin.host))
                            });
                        }
                        Err(error) => (
                            None,
                            RegistryError::Transport {
                                action: format!("{action}: get a token"),
                                registry: origin.host.clone(),
                                source: Box::new(ureq::Error::Io(error)),
                            },
                        ),
                    }
                }
                Ok(response) => {
                    let status = response.status().as_u16();
                    let answer = Answer {
                        status,
                        url: wanted.realm.to_owned(),
                        response,
                    };
                    let after = answer.header("retry-after").map(str::to_owned);
                    let detail = error_detail(answer);
                    if matches!(status, 400 | 401 | 403) {
                        return Err(RegistryError::Denied {
                            action: action.to_owned(),
                            registry: host.registry.clone(),
                            detail,
                            anonymous: credentials.is_none(),
                        });
                    }
                    let error = RegistryError::Status {
                        action: format!("{action}: get a token"),
                        registry: origin.host.clone(),
                        status,
                        detail,
                    };
                    if !retry::is_temporary(status) {
                        return Err(error);
                    }
                    (after, error)
                }
                Err(error) => {
                    let hopeless = !retry::is_temporary_error(&error);
                    let error = RegistryError::Transport {
                        action: format!("{action}: get a token"),
                        registry: origin.host.clone(),
                        source: Box::new(error),
                    };
                    if hopeless {
                        return Err(error);
                    }
                    (None, error)
                }
            };
            failures += 1;
            if failures >= self.options.attempts() {
                return Err(failure);
            }
            let first = self.options.retry_pause_ms;
            std::thread::sleep(retry::pause(failures, retry_after.as_deref(), first));
        }
    }
}
