//! Who we are at a registry: Docker's and podman's files, and what they say of helpers.
//!
//! Nothing here is read before a registry asks who we are. Secrets have no `Display`, a `Debug`
//! that shows nothing, and never get into an error.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::helper::Helper;
use super::{Credentials, RegistryError, RegistryOptions};
use crate::reference::{DEFAULT_API, DEFAULT_REGISTRY};

/// The name under which Docker keeps the credentials of its own registry.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";
pub(super) const MAX_FILE: u64 = 4 << 20;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: HashMap<String, AuthEntry>,
    #[serde(default)]
    cred_helpers: HashMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthEntry {
    fn credentials(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credentials::RegistryToken(self.registrytoken.clone())));
        }
        if !self.auth.is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(self.auth.trim())
                .map_err(|_| "`auth` is not base64")?;
            let text = String::from_utf8(decoded).map_err(|_| "`auth` is not UTF-8")?;
            let (username, password) = text
                .split_once(':')
                .ok_or("`auth` has no colon between user and password")?;
            // Docker pads the password with NULs in some old files.
            return Ok(Some(password_or_token(
                username,
                password.trim_matches('\0'),
            )));
        }
        if !self.username.is_empty() {
            return Ok(Some(password_or_token(&self.username, &self.password)));
        }
        Ok(None)
    }
}

pub(super) fn password_or_token(username: &str, secret: &str) -> Credentials {
    if username == "<token>" {
        Credentials::IdentityToken(secret.to_owned())
    } else {
        Credentials::Password {
            username: username.to_owned(),
            password: secret.to_owned(),
        }
    }
}

/// The credentials for `registry` (as in a reference) and `repository`; none to stay anonymous.
pub(crate) fn find(
    options: &RegistryOptions,
    registry: &str,
    repository: &str,
) -> Result<Option<Credentials>, RegistryError> {
    let given = options
        .credentials
        .iter()
        .find(|(host, _)| host == registry);
    if let Some((_, credentials)) = given {
        return Ok(Some(credentials.clone()));
    }
    let files = if options.auth_files.is_empty() {
        usual_files()
    } else {
        options.auth_files.clone()
    };
    for path in &files {
        let fail = |reason: String| RegistryError::Credentials {
            registry: registry.to_owned(),
            reason: format!("`{}`: {reason}", path.display()),
        };
        let Some(bytes) = read_file(path).map_err(|error| fail(error.to_string()))? else {
            continue;
        };
        let file: AuthFile = serde_json::from_slice(&bytes).map_err(|error| {
            // serde's text may quote the value, which may be a secret: say only where.
            fail(format!(
                "not a credentials file (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        if let Some(found) = look_up(&file, registry, repository).map_err(fail)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The name under which a registry stands in files and helpers.
pub(super) fn server_of(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY {
        DOCKER_KEY
    } else {
        registry
    }
}

fn look_up(
    file: &AuthFile,
    registry: &str,
    repository: &str,
) -> Result<Option<Credentials>, String> {
    let server = server_of(registry);
    if let Some(helper) = file.cred_helpers.get(registry)
        && let Some(found) = Helper::new(helper)?.get(server)?
    {
        return Ok(Some(found));
    }
    // Podman's keys may name a repository: the longest that fits goes first.
    let mut key = format!("{registry}/{repository}");
    loop {
        if let Some(entry) = find_entry(file, &key)
            && let Some(found) = entry.credentials().map_err(str::to_owned)?
        {
            return Ok(Some(found));
        }
        match key.rfind('/') {
            Some(position) => key.truncate(position),
            None => break,
        }
    }
    if !file.creds_store.is_empty() {
        return Helper::new(&file.creds_store)?.get(server);
    }
    Ok(None)
}

/// The registry that a key means: keys may be URLs, with a version of the API at the end.
pub(super) fn registry_of(key: &str) -> &str {
    let name = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let name = name.trim_end_matches('/');
    let name = name
        .strip_suffix("/v1")
        .or_else(|| name.strip_suffix("/v2"))
        .unwrap_or(name);
    match name {
        "index.docker.io" | DEFAULT_API => DEFAULT_REGISTRY,
        other => other,
    }
}

/// The entry with this key, in whatever spelling.
fn find_entry<'a>(file: &'a AuthFile, key: &str) -> Option<&'a AuthEntry> {
    if let Some(entry) = file.auths.get(key) {
        return Some(entry);
    }
    // Sorted, so that two spellings of one host always give the same answer.
    let mut names: Vec<&String> = file
        .auths
        .keys()
        .filter(|name| registry_of(name) == key)
        .collect();
    names.sort();
    names.first().and_then(|name| file.auths.get(*name))
}

/// The files in which credentials are looked for, in this order. The first is where they are kept.
pub fn usual_files() -> Vec<PathBuf> {
    files_by(&|name| std::env::var_os(name).map(PathBuf::from))
}

fn files_by(env: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = env("HOME");
    let mut files = Vec::new();
    if let Some(path) = env("REGISTRY_AUTH_FILE") {
        files.push(path);
    }
    if let Some(directory) = env("DOCKER_CONFIG") {
        files.push(directory.join("config.json"));
    } else if let Some(home) = &home {
        files.push(home.join(".docker/config.json"));
    }
    if let Some(directory) = env("XDG_RUNTIME_DIR") {
        files.push(directory.join("containers/auth.json"));
    }
    if let Some(directory) =
        env("XDG_CONFIG_HOME").or_else(|| home.map(|home| home.join(".config")))
    {
        files.push(directory.join("containers/auth.json"));
    }
    files
}

pub(super) fn read_file(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> AuthFile {
        serde_json::from_str(text).unwrap()
    }

    fn password(username: &str, password: &str) -> Credentials {
        Credentials::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        }
    }

    #[test]
    fn docker_files_are_read_in_all_spellings() {
        let file = parse(
            r#"{"auths": {
                "https://index.docker.io/v1/": {"auth": "dTpwOnc="},
                "localhost:5000": {"username": "a", "password": "b"},
                "https://quay.io/v2/": {"identitytoken": "t"},
                "broken.example": {"auth": "!"}
            }}"#,
        );
        assert_eq!(
            look_up(&file, "docker.io", "library/debian").unwrap(),
            Some(password("u", "p:w"))
        );
        assert_eq!(
            look_up(&file, "localhost:5000", "x").unwrap(),
            Some(password("a", "b"))
        );
        assert_eq!(
            look_up(&file, "quay.io", "x").unwrap(),
            Some(Credentials::IdentityToken("t".to_owned()))
        );
        assert_eq!(look_up(&file, "other.example", "x").unwrap(), None);
        assert!(look_up(&file, "broken.example", "x").is_err());
    }

    #[test]
    fn podman_keys_by_repository_go_before_the_host() {
        let file = parse(
            r#"{"auths": {
                "quay.io": {"username": "host", "password": "x"},
                "quay.io/team": {"username": "team", "password": "x"},
                "quay.io/team/app": {"username": "app", "password": "x"}
            }}"#,
        );
        assert_eq!(
            look_up(&file, "quay.io", "team/app").unwrap(),
            Some(password("app", "x"))
        );
        assert_eq!(
            look_up(&file, "quay.io", "team/other").unwrap(),
            Some(password("team", "x"))
        );
        assert_eq!(
            look_up(&file, "quay.io", "teams").unwrap(),
            Some(password("host", "x"))
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = password("user", "secret");
        assert_eq!(format!("{credentials:?}"), "[redacted]");
    }

    #[test]
    fn a_broken_file_is_named_but_not_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, r#"{"auths": "s3cret"}"#).unwrap();
        let options = RegistryOptions {
            auth_files: vec![path],
            ..RegistryOptions::default()
        };
        let error = find(&options, "quay.io", "x").unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn usual_places_follow_the_environment() {
        let env = |name: &str| match name {
            "HOME" => Some(PathBuf::from("/home/u")),
            "XDG_RUNTIME_DIR" => Some(PathBuf::from("/run/user/1")),
            _ => None,
        };
        assert_eq!(
            files_by(&env),
            [
                "/home/u/.docker/config.json",
                "/run/user/1/containers/auth.json",
                "/home/u/.config/containers/auth.json",
            ]
            .map(PathBuf::from)
        );
    }
}
