//! Keeping credentials where Docker keeps them, and forgetting them again.
//!
//! The file belongs to other programs, too: what is in it and not ours stays as it is. It is
//! replaced in one step, so that nobody ever reads half of it, and only its owner may read it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::{Map, Value};

use super::credentials::{read_file, registry_of, server_of};
use super::helper::Helper;

/// Where credentials are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// In this file, in a form that everybody who can read the file can read.
    File(PathBuf),
    /// By this credential helper.
    Helper(String),
}

/// Why credentials could not be kept or forgotten.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The file can't be read or written.
    #[error("{action} `{}`", path.display())]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be. Its text may hold secrets and is not shown.
    #[error("`{}` is no credentials file: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The credential helper failed.
    #[error("credential helper: {0}")]
    Helper(String),
}

/// A file with credentials, in Docker's or podman's form.
#[derive(Debug)]
pub struct CredentialsFile {
    path: PathBuf,
    content: Map<String, Value>,
}

impl CredentialsFile {
    /// Reads a file; one that is not there is empty.
    pub fn read(path: &Path) -> Result<Self, LoginError> {
        let path = target_of(path)?;
        let bytes = read_file(&path).map_err(|source| LoginError::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let content = match bytes {
            None => Map::new(),
            Some(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Value::Object(content)) => content,
                Ok(_) => {
                    return Err(LoginError::Content {
                        path,
                        reason: "it is not a JSON object".to_owned(),
                    });
                }
                Err(error) => {
                    return Err(LoginError::Content {
                        path,
                        reason: format!("line {}, column {}", error.line(), error.column()),
                    });
                }
            },
        };
        Ok(Self { path, content })
    }

    /// Keeps user name and password for `registry`, with the helper that the file names for it, or
    /// else in the file.
    pub fn keep(
        mut self,
        registry: &str,
        username: &str,
        password: &str,
    ) -> Result<Keeper, LoginError> {
        let server = server_of(registry);
        if let Some(helper) = self.helper(registry)? {
            helper
                .store(server, username, password)
                .map_err(LoginError::Helper)?;
            return Ok(Keeper::Helper(helper.program().to_owned()));
        }
        let secret =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
        let auths = self.auths()?;
        auths.retain(|key, _| registry_of(key) != registry);
        auths.insert(server.to_owned(), serde_json::json!({ "auth": secret }));
        self.write()?;
        Ok(Keeper::File(self.path))
    }

    /// Forgets what is kept for `registry`. None if that is nothing.
    pub fn forget(mut self, registry: &str) -> Result<Option<Keeper>, LoginError> {
        let mut found = None;
        if let Some(helper) = self.helper(registry)? {
            let erased = helper
                .erase(server_of(registry))
                .map_err(LoginError::Helper)?;
            found = erased.then(|| Keeper::Helper(helper.program().to_owned()));
        }
        if self.content.contains_key("auths") {
            let auths = self.auths()?;
            let before = auths.len();
            auths.retain(|key, _| registry_of(key) != registry);
            if auths.len() < before {
                self.write()?;
                found = Some(Keeper::File(self.path));
            }
        }
        Ok(found)
    }

    fn helper(&self, registry: &str) -> Result<Option<Helper>, LoginError> {
        let text = |value: Option<&Value>| {
            value
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
        };
        let own = self.content.get("credHelpers");
        let name = text(own.and_then(|helpers| helpers.get(registry)))
            .or_else(|| text(self.content.get("credsStore")));
        name.map(|name| Helper::new(&name).map_err(LoginError::Helper))
            .transpose()
    }

    fn auths(&mut self) -> Result<&mut Map<String, Value>, LoginError> {
        self.content
            .entry("auths")
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
            .ok_or_else(|| LoginError::Content {
                path: self.path.clone(),
                reason: "`auths` is not an object".to_owned(),
            })
    }

    fn write(&self) -> Result<(), LoginError> {
        let failed = |source| LoginError::File {
            action: "write",
            path: self.path.clone(),
            source,
        };
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut text = serde_json::to_vec_pretty(&self.content)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        text.push(b'\n');
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(name);
        let written =
            write_private(&draft, &text).and_then(|()| std::fs::rename(&draft, &self.path));
        written.map_err(|error| {
            drop(std::fs::remove_file(&draft));
            failed(error)
        })
    }
}

/// Writes a new file that only its owner can read, down to the disk.
fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    drop(std::fs::remove_file(path));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// What `path` leads to, if it is a symlink (people keep such files elsewhere): replacing the link
/// itself would part it from its target.
fn target_of(path: &Path) -> Result<PathBuf, LoginError> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(LoginError::Content {
        path,
        reason: "too many symlinks".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::super::{Credentials, RegistryOptions, credentials};
    use super::*;

    fn known(path: &Path, registry: &str) -> Option<Credentials> {
        let options = RegistryOptions {
            auth_files: vec![path.to_owned()],
            ..RegistryOptions::default()
        };
        credentials::find(&options, registry, "team/app").unwrap()
    }

    #[test]
    fn what_is_kept_is_found_and_what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker/config.json");
        let keep = |registry: &str, user: &str| {
            let file = CredentialsFile::read(&path).unwrap();
            file.keep(registry, user, "p:w").unwrap()
        };
        assert_eq!(keep("localhost:5000", "a"), Keeper::File(path.clone()));
        let text = r#"{"auths": {"https://localhost:5000/v2/": {"auth": "eDp5"}, "quay.io":
            {"auth": "eDp5"}}, "HttpHeaders": {"X": "y"}}"#;
        std::fs::write(&path, text).unwrap();
        keep("localhost:5000", "b");
        keep("docker.io", "c");
        let password = |username: &str, password: &str| {
            Some(Credentials::Password {
                username: username.to_owned(),
                password: password.to_owned(),
            })
        };
        assert_eq!(known(&path, "localhost:5000"), password("b", "p:w"));
        assert_eq!(known(&path, "docker.io"), password("c", "p:w"));
        assert_eq!(known(&path, "quay.io"), password("x", "y"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("HttpHeaders") && text.contains("index.docker.io/v1/"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        let forget = |registry: &str| CredentialsFile::read(&path).unwrap().forget(registry);
        assert_eq!(
            forget("docker.io").unwrap(),
            Some(Keeper::File(path.clone()))
        );
        assert_eq!(forget("docker.io").unwrap(), None);
        assert_eq!(known(&path, "docker.io"), None);
        assert_eq!(known(&path, "localhost:5000"), password("b", "p:w"));
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "no draft is left");
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("dotfiles.json");
        let link = directory.path().join("config.json");
        std::os::unix::fs::symlink("dotfiles.json", &link).unwrap();
        let file = CredentialsFile::read(&link).unwrap();
        file.keep("quay.io", "u", "p").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(real.is_file());
    }

    #[test]
    fn a_file_that_is_something_else_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for text in ["[1]", "{\"auths\": \"s3cret\"}", "s3cret"] {
            std::fs::write(&path, text).unwrap();
            let error = CredentialsFile::read(&path)
                .and_then(|file| file.keep("quay.io", "u", "p"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("config.json") && !error.contains("s3cret"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
