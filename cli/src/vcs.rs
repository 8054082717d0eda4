//! Which commit a context is checked out from, for provenance: asked of `git`, as docker buildx does.
//!
//! Only what says something to others is told: no paths of this machine, and addresses without users'
//! passwords and queries. `git` itself refuses repositories that belong to somebody else; nothing that a
//! repository's settings name is run.

use std::path::Path;
use std::process::Command;

use strata_image::fetch;
use strata_image::redact;
use strata_solver::attest::Vcs;

/// `false` leaves the commit out.
const INFO: &str = "BUILDX_GIT_INFO";
/// `true` marks a commit whose files were changed.
const CHECK_DIRTY: &str = "BUILDX_GIT_CHECK_DIRTY";

/// What git says of the directory `context` and of the Dockerfile's. None if it is no checkout, or
/// nobody wants to know. An error is a notice: a build does without.
pub(crate) fn of(
    context: &Path,
    dockerfile: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Vcs>, String> {
    let is_on = |name: &str, default: bool| match variable(name).as_deref() {
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        _ => default,
    };
    if !is_on(INFO, true) {
        return Ok(None);
    }
    let git = |arguments: &[&str]| ask(context, arguments);
    let root = match git(&["rev-parse", "--show-toplevel"]) {
        Ok(root) => root,
        // What is no checkout, and may well be built where there is no git.
        Err(_) if context.join(".git").symlink_metadata().is_err() => return Ok(None),
        Err(why) => {
            return Err(format!(
                "provenance does not say the context's commit: {why}"
            ));
        }
    };
    // Where in the checkout a directory is.
    let place = |directory: &Path| {
        let same = ask(directory, &["rev-parse", "--show-toplevel"]).ok()? == root;
        let prefix = ask(directory, &["rev-parse", "--show-prefix"]).ok()?;
        let prefix = prefix.trim_end_matches('/');
        same.then(|| if prefix.is_empty() { "." } else { prefix }.to_owned())
    };
    let parent = dockerfile.and_then(Path::parent).map(|parent| {
        if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        }
    });
    let mut vcs = Vcs {
        context: place(context),
        dockerfile: parent.and_then(place),
        ..Vcs::default()
    };
    // A repository may have no commit yet.
    vcs.revision = git(&["rev-parse", "--verify", "--quiet", "HEAD"]).ok();
    if let Some(revision) = &mut vcs.revision
        && is_on(CHECK_DIRTY, false)
        && git(&["status", "--porcelain", "--ignored=no"]).is_ok_and(|changes| !changes.is_empty())
    {
        revision.push_str("-dirty");
    }
    let tracked = git(&["symbolic-ref", "--quiet", "--short", "HEAD"])
        .and_then(|branch| git(&["config", "--get", &format!("branch.{branch}.remote")]));
    let remotes = tracked
        .ok()
        .into_iter()
        .chain(["origin", "upstream"].map(str::to_owned));
    vcs.source = remotes
        .filter_map(|remote| git(&["config", "--get", &format!("remote.{remote}.url")]).ok())
        .find_map(|url| shown(&url));
    Ok(Some(vcs))
}

/// A remote's address for others; none for a directory of this machine.
fn shown(url: &str) -> Option<String> {
    if let Some((scheme, _)) = url.split_once("://") {
        // Of ssh the user is part of the address, and a password can't be.
        let clean = fetch::shown(url);
        return match scheme {
            "file" => None,
            "ssh" | "git+ssh" => Some(with_user(url, clean)),
            _ => Some(clean),
        };
    }
    // `user@host:path`
    let (host, path) = url.split_once(':')?;
    if host.is_empty() || host.contains('/') || path.is_empty() || path.contains('@') {
        return None;
    }
    let (user, machine) = host.rsplit_once('@').unwrap_or(("", host));
    let user = user.split(':').next().unwrap_or_default();
    Some(match user {
        "" => format!("{machine}:{path}"),
        user => format!("{user}@{machine}:{path}"),
    })
}

/// `clean` with the user of `url`, whatever password is beside it.
fn with_user(url: &str, clean: String) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let authority = url[start..]
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    let user = user.split(':').next().unwrap_or_default();
    if user.is_empty() {
        return clean;
    }
    format!("{}{user}@{}", &url[..start], &clean[start..])
}

/// Asks git about the checkout that `directory` is in.
fn ask(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(directory)
        // Programs that a repository's settings may name.
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(arguments)
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0");
    // What is meant is the context's own repository.
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
    ] {
        command.env_remove(name);
    }
    let output = command
        .output()
        .map_err(|error| format!("`git`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or("`git` failed");
    Err(redact::text(line.trim()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets_and_without_places_of_this_machine() {
        for (url, expected) in [
            ("https://e.com/a.git", Some("https://e.com/a.git")),
            (
                "https://me:token@e.com/a.git?x=1",
                Some("https://e.com/a.git"),
            ),
            ("https://token@e.com/a.git", Some("https://e.com/a.git")),
            ("git@e.com:a/b.git", Some("git@e.com:a/b.git")),
            ("git:pass@e.com:a/b.git", None),
            ("e.com:a/b.git", Some("e.com:a/b.git")),
            ("ssh://git@e.com:22/a.git", Some("ssh://git@e.com:22/a.git")),
            ("ssh://git:pass@e.com/a.git", Some("ssh://git@e.com/a.git")),
            ("ssh://e.com/a.git", Some("ssh://e.com/a.git")),
            ("file:///home/me/a", None),
            ("/home/me/a", None),
            ("../a", None),
            ("", None),
        ] {
            assert_eq!(shown(url).as_deref(), expected, "{url}");
        }
    }
}
