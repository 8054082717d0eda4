//! `--ssh`: an agent that steps may ask for by its ID.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

use strata_solver::request::SshAgent;

use super::high::Surroundings;

/// Reads one `--ssh ID[=SOCKET]`.
pub(crate) fn agent(text: &str, surroundings: &Surroundings<'_>) -> Result<SshAgent, String> {
    let (id, path) = match text.split_once('=') {
        Some((id, path)) => (id, Some(path)),
        None => (text, None),
    };
    if id.is_empty() {
        return Err(format!("`{text}` has no ID"));
    }
    let socket = match path {
        Some("") => return Err(format!("`{text}` has nothing after its `=`")),
        Some(path) => surroundings.path(Path::new(path)),
        None => (surroundings.variable)("SSH_AUTH_SOCK")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            .ok_or("the environment has no `SSH_AUTH_SOCK`: is an agent running?")?,
    };
    let shown = socket.display();
    match socket.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(SshAgent {
            id: id.to_owned(),
            socket,
        }),
        Ok(_) => Err(format!(
            "`{shown}` is not the socket of an agent; a key file has to be added to an agent first, \
             with `ssh-add`"
        )),
        Err(error) => Err(format!("`{shown}` can't be used: {error}")),
    }
}
