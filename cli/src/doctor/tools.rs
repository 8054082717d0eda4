//! What is beside strata and some builds want.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::Command;

use super::Check;
use super::State;

pub(super) fn git() -> Check {
    let output = Command::new("git").arg("--version").output();
    let found = output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    found.map_or_else(
        || {
            Check::wanting(
                "git",
                State::Limited,
                "not installed",
                "contexts and ADD sources that are git repositories fail",
                "install git",
            )
        },
        |version| Check::ok("git", version),
    )
}

pub(super) fn ssh_agent() -> Check {
    agent(std::env::var_os("SSH_AUTH_SOCK").as_deref().map(Path::new))
}

fn agent(socket: Option<&Path>) -> Check {
    let found = match socket {
        None => "`SSH_AUTH_SOCK` is not set".to_owned(),
        Some(path) => match path.metadata() {
            Ok(metadata) if metadata.file_type().is_socket() => {
                return Check::ok("ssh-agent", format!("`{}`", path.display()));
            }
            Ok(_) => format!("`{}` is no socket", path.display()),
            Err(error) => format!("`{}` can't be used: {error}", path.display()),
        },
    };
    Check::wanting(
        "ssh-agent",
        State::Limited,
        found,
        "builds with `--ssh default` fail, as do git repositories that need a key",
        "start one and give it a key: `eval $(ssh-agent) && ssh-add`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_socket() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(agent(Some(&socket)).state, State::Ok);
        for (path, part) in [
            (None, "not set"),
            (Some(directory.path()), "no socket"),
            (Some(Path::new("/none/such")), "can't be used"),
        ] {
            let check = agent(path);
            assert_eq!(check.state, State::Limited);
            assert!(check.found.contains(part), "{check:?}");
        }
    }
}
