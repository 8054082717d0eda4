//! Credential helpers: `docker-credential-NAME`, which keep secrets in a key ring or get them of a
//! cloud (the protocol of Docker's credential helpers: a verb as argument, JSON on standard input
//! and output).

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Credentials;
use super::credentials::{MAX_FILE, password_or_token};

/// How long a helper may think (it may ask a key ring, or a cloud).
const TIMEOUT: Duration = Duration::from_mins(1);
/// What helpers say if they know nothing of a server.
const NOT_FOUND: &str = "credentials not found";

/// One helper.
pub(super) struct Helper {
    program: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    #[serde(rename = "Username")]
    username: &'a str,
    #[serde(rename = "Secret")]
    secret: &'a str,
}

impl Helper {
    pub(super) fn new(name: &str) -> Result<Self, String> {
        let program = format!("docker-credential-{name}");
        if name.contains('/') {
            return Err(format!(
                "`{program}` is not the name of a credential helper"
            ));
        }
        Ok(Self { program })
    }

    /// What the helper is called.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// What it has for `server`, if anything.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credentials>, String> {
        let Some(bytes) = self.run("get", &format!("{server}\n"))? else {
            return Ok(None);
        };
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| format!("`{}` gave an answer that is not credentials", self.program))?;
        if answer.username.is_empty() && answer.secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(password_or_token(&answer.username, &answer.secret)))
    }

    /// Has it keep a secret.
    pub(super) fn store(&self, server: &str, username: &str, secret: &str) -> Result<(), String> {
        let entry = Entry {
            server,
            username,
            secret,
        };
        let text = serde_json::to_string(&entry).map_err(|error| error.to_string())?;
        self.run("store", &text).map(drop)
    }

    /// Has it forget what it has for `server`. False if that is nothing.
    pub(super) fn erase(&self, server: &str) -> Result<bool, String> {
        let known = self.get(server)?.is_some();
        self.run("erase", &format!("{server}\n"))?;
        Ok(known)
    }

    /// Runs it. None if it has nothing for the server.
    fn run(&self, verb: &str, input: &str) -> Result<Option<Vec<u8>>, String> {
        let program = &self.program;
        let mut child = Command::new(program)
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("run `{program}`: {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read its input (it may have failed already) is judged by its
            // answer.
            drop(stdin.write_all(input.as_bytes()));
        }
        let mut output = child
            .stdout
            .take()
            .ok_or_else(|| format!("run `{program}`: no output"))?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let result = output.by_ref().take(MAX_FILE).read_to_end(&mut bytes);
            drop(sender.send(result.map(|_| bytes)));
        });
        let answer = receiver.recv_timeout(TIMEOUT);
        if answer.is_err() {
            drop(child.kill());
        }
        let status = child
            .wait()
            .map_err(|error| format!("run `{program}`: {error}"))?;
        let bytes = match answer {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => return Err(format!("read from `{program}`: {error}")),
            Err(_) => {
                return Err(format!(
                    "`{program}` gave no answer in {} s",
                    TIMEOUT.as_secs()
                ));
            }
        };
        if status.success() {
            return Ok(Some(bytes));
        }
        let text = String::from_utf8_lossy(&bytes);
        if text.contains(NOT_FOUND) {
            return Ok(None);
        }
        Err(format!("`{program}` failed ({status}): {}", text.trim()))
    }
}
