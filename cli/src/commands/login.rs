//! `strata login`, `strata logout`

use std::io::BufRead as _;
use std::io::IsTerminal as _;
use std::io::Read as _;

use strata_image::registry::Client;
use strata_image::registry::Credentials;
use strata_image::registry::CredentialsFile;
use strata_image::registry::Keeper;
use strata_image::registry::LoginError;
use strata_image::registry::usual_files;

use crate::config::Config;
use crate::error::CommandError;
use crate::error::Kind;
use crate::flags::low;
use crate::output;
use crate::terminal;

/// Longest password that is read from standard input.
const MAX_PASSWORD: u64 = 1 << 20;

pub(crate) fn run(flags: &low::Login) -> Result<(), CommandError> {
    let registry = registry(flags.registry.as_deref())?;
    let file = flags
        .authfile
        .clone()
        .or_else(|| usual_files().into_iter().next());
    let Some(file) = file else {
        return Err(
            CommandError::usage("there is no place to keep a password: `HOME` is not set")
                .with_hint("name a file with `--authfile`"),
        );
    };
    // Before anybody types a password: can it be kept at all?
    let kept = CredentialsFile::read(&file)?;
    let (username, password) = ask(flags, &registry)?;
    let mut options = Config::load()?.registries();
    options.credentials.push((
        registry.clone(),
        Credentials::Password {
            username: username.clone(),
            password: password.clone(),
        },
    ));
    Client::new(options)
        .ping(&registry)
        .map_err(|error| CommandError::new(Kind::Failed, error))?;
    match kept.keep(&registry, &username, &password)? {
        Keeper::Helper(program) => {
            output::write(|out| writeln!(out, "logged in to {registry}; kept by {program}"))
        }
        Keeper::File(path) => output::write(|out| {
            writeln!(out, "logged in to {registry}; kept in {}", path.display())
        }),
    }
}

pub(crate) fn forget(flags: &low::Logout) -> Result<(), CommandError> {
    let registry = registry(flags.registry.as_deref())?;
    let files = flags
        .authfile
        .clone()
        .map_or_else(usual_files, |file| vec![file]);
    let mut keepers: Vec<String> = Vec::new();
    for file in files {
        match CredentialsFile::read(&file)?.forget(&registry)? {
            Some(Keeper::Helper(program)) => keepers.push(program),
            Some(Keeper::File(path)) => keepers.push(path.display().to_string()),
            None => {}
        }
    }
    output::write(|out| {
        if keepers.is_empty() {
            return writeln!(out, "not logged in to {registry}");
        }
        let keepers = keepers.join(", ");
        writeln!(out, "logged out of {registry}; removed from {keepers}")
    })
}

/// The registry as it stands in references.
fn registry(given: Option<&str>) -> Result<String, CommandError> {
    let name = given.unwrap_or("docker.io");
    let bare = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name)
        .trim_end_matches('/');
    let bare = bare
        .strip_suffix("/v1")
        .or_else(|| bare.strip_suffix("/v2"))
        .unwrap_or(bare);
    if bare.is_empty() || bare.contains(['/', '@', ' ']) {
        return Err(CommandError::usage(format!(
            "`{name}` is not a registry: give its host, with a port if it has one"
        )));
    }
    Ok(match bare {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        bare => bare.to_owned(),
    })
}

/// User name and password, of flags, standard input or the terminal.
fn ask(flags: &low::Login, registry: &str) -> Result<(String, String), CommandError> {
    let failed = |error: std::io::Error| CommandError::new(Kind::Failed, error);
    if flags.password_stdin {
        let Some(username) = flags.username.clone() else {
            return Err(CommandError::usage("`--password-stdin` needs `--username`"));
        };
        let mut text = String::new();
        let mut input = std::io::stdin().lock().take(MAX_PASSWORD);
        input.read_to_string(&mut text).map_err(failed)?;
        let password = text.trim_end_matches(['\r', '\n']).to_owned();
        return complete(username, password);
    }
    let can_ask = std::io::stdin().is_terminal();
    let missing = |what: &str, flag: &str| {
        CommandError::usage(format!("no {what}, and no terminal to ask for it"))
            .with_hint(format!("give it with `{flag}`"))
    };
    let username = match &flags.username {
        Some(username) => username.clone(),
        None if can_ask => {
            terminal::prompt(&format!("User name for {registry}: "));
            let mut line = String::new();
            std::io::stdin()
                .lock()
                .read_line(&mut line)
                .map_err(failed)?;
            line.trim().to_owned()
        }
        None => return Err(missing("user name", "--username")),
    };
    let password = match &flags.password {
        Some(password) => password.clone(),
        None if can_ask => {
            terminal::prompt("Password: ");
            terminal::read_secret()?
        }
        None => return Err(missing("password", "--password-stdin")),
    };
    complete(username, password)
}

fn complete(username: String, password: String) -> Result<(String, String), CommandError> {
    if username.is_empty() || username.contains(':') {
        return Err(CommandError::usage(
            "the user name is empty or has a colon in it",
        ));
    }
    if password.is_empty() {
        return Err(CommandError::usage("the password is empty"));
    }
    Ok((username, password))
}

impl From<LoginError> for CommandError {
    fn from(error: LoginError) -> Self {
        Self::new(Kind::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_all_spellings() {
        for (given, expected) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("https://r.example/v2/"), "r.example"),
        ] {
            assert_eq!(registry(given).ok().as_deref(), Some(expected));
        }
        for wrong in ["", "a/b", "https://u@h"] {
            assert!(registry(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
