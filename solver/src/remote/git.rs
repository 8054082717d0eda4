//! Git repositories, by way of the `git` command.
//!
//! The command gets an environment of its own: no system or user configuration, no prompts, no
//! hooks, and only the protocols that the address may use. Credentials and the URL itself are handed
//! over as configuration in the environment, never as arguments, which every user of the machine can
//! read.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use strata_cache::view::FileKind;
use strata_cache::{HardLinks, LayerView, Store};

use super::context::Unpacked;
use super::process::{self, NotRun, Ran};
use super::signed::{Keys, Kind, Signed, last_line, why_not};
use super::web::decode;
use super::{GitAddress, RemoteError, Surroundings};

/// Keys are those of the agent that the build was given, never the user's files: what a Dockerfile
/// names must not open what only its user may see. Unknown hosts are refused.
const SSH: &str = "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none";

/// Variables that git and ssh need from the environment.
const PASSED: [&str; 13] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "TMPDIR",
];

/// Settings of every command.
const SETTINGS: [(&str, &str); 13] = [
    ("protocol.allow", "never"),
    ("protocol.https.allow", "always"),
    ("protocol.http.allow", "always"),
    ("protocol.git.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("gc.auto", "0"),
    ("core.autocrlf", "false"),
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.logAllRefUpdates", "false"),
    ("submodule.recurse", "false"),
];

/// One repository.
struct Git<'a> {
    surroundings: Surroundings<'a>,
    address: &'a GitAddress,
}

/// A tag that is an object of its own.
struct Tag {
    name: String,
    id: String,
}

/// The commit that `address` means. If the policy wants it signed, it is.
pub(crate) fn resolve(
    surroundings: Surroundings<'_>,
    address: &GitAddress,
) -> Result<String, RemoteError> {
    let git = Git {
        surroundings,
        address,
    };
    let (commit, tag) = match &address.reference {
        Some(id) if is_whole_id(id) => (id.to_ascii_lowercase(), None),
        reference => git.ask(reference.as_deref())?,
    };
    if let Some(expected) = &address.commit
        && !commit.starts_with(expected.as_str())
    {
        return Err(RemoteError::Checksum {
            url: address.to_string(),
            expected: expected.clone(),
            found: commit,
        });
    }
    // Before anything is looked up by the commit: an older build may have had no policy.
    if let Some(rule) = surroundings.signed.of_git(&address.url) {
        git.check(rule, &commit, tag.as_ref())?;
    }
    Ok(commit)
}

/// The files of `commit`, in a scratch directory of the store.
pub(crate) fn check_out<'s>(
    store: &'s Store,
    surroundings: Surroundings<'_>,
    address: &GitAddress,
    commit: &str,
) -> Result<Unpacked<'s>, RemoteError> {
    let git = Git {
        surroundings,
        address,
    };
    let scratch = store.scratch(&[])?;
    let root = scratch.upper().to_owned();
    {
        let (mirror, _guard) = surroundings.directory("git", &address.url)?;
        git.fetch(&mirror, commit)?;
        let modules = !address.without_submodules
            && git
                .run(
                    "cat-file",
                    &["-e", &format!("{commit}:.gitmodules")],
                    At::bare(&mirror),
                )
                .is_ok();
        if modules || address.keep_git_dir {
            git.clone_mirror(&mirror, commit, &root, modules)?;
        } else {
            let index = scratch.work_dir()?.join("index");
            let at = At {
                git_dir: Some(&mirror),
                work_tree: Some(&root),
                index: Some(&index),
                local: false,
            };
            git.run("read-tree", &["-u", "--reset", commit], at)?;
        }
        let time = if address.commit_time {
            git.time(&mirror, commit)?
        } else {
            None
        };
        normalise(&root, time)?;
    }
    let mut top = root.clone();
    if !address.subdirectory.is_empty() {
        // Resolved inside the checkout: a link in it leads nowhere else.
        let missing = || RemoteError::NoDirectory {
            url: address.to_string(),
            directory: address.subdirectory.clone(),
        };
        let view = LayerView::new(vec![root]);
        let found = view
            .lookup(Path::new(&address.subdirectory), true)
            .map_err(|_| missing())?
            .filter(|entry| entry.metadata.kind == FileKind::Directory)
            .ok_or_else(missing)?;
        top = found.host_path;
    }
    Ok(Unpacked::new(scratch, top, HardLinks::default()))
}

/// When `commit` was made.
pub(crate) fn commit_time(
    surroundings: Surroundings<'_>,
    address: &GitAddress,
    commit: &str,
) -> Result<Option<i64>, RemoteError> {
    let git = Git {
        surroundings,
        address,
    };
    let (mirror, _guard) = surroundings.directory("git", &address.url)?;
    git.fetch(&mirror, commit)?;
    git.time(&mirror, commit)
}

fn is_whole_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Where a command works.
#[derive(Clone, Copy, Default)]
struct At<'a> {
    git_dir: Option<&'a Path>,
    work_tree: Option<&'a Path>,
    index: Option<&'a Path>,
    /// It may read repositories of this machine.
    local: bool,
}

impl<'a> At<'a> {
    fn bare(mirror: &'a Path) -> Self {
        Self {
            git_dir: Some(mirror),
            ..Self::default()
        }
    }
}

impl Git<'_> {
    /// Asks the server for the commit of a branch or tag, or of what it points at itself, and for the tag.
    fn ask(&self, reference: Option<&str>) -> Result<(String, Option<Tag>), RemoteError> {
        let wanted = reference.unwrap_or("HEAD");
        let peeled = format!("{wanted}^{{}}");
        let arguments = ["origin", wanted, peeled.as_str()];
        let answer = self.run("ls-remote", &arguments, At::default())?;
        let lines: Vec<(&str, &str)> = answer
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let find = |name: &str| {
            let line = lines.iter().find(|(_, known)| *known == name);
            line.map(|(id, _)| (*id).to_owned())
        };
        // As git-checkout does: branches before tags. A tag's own commit before its object.
        [
            format!("{wanted}^{{}}"),
            wanted.to_owned(),
            format!("refs/heads/{wanted}"),
            format!("refs/tags/{wanted}^{{}}"),
            format!("refs/tags/{wanted}"),
            format!("refs/{wanted}"),
        ]
        .iter()
        .find_map(|name| Some((find(name)?, name.strip_suffix("^{}"))))
        .filter(|(id, _)| is_whole_id(id))
        .map(|(id, name)| {
            let tag = name.and_then(|name| {
                let id = find(name).filter(|id| is_whole_id(id))?;
                let name = name.strip_prefix("refs/tags/")?.to_owned();
                Some(Tag { name, id })
            });
            (id, tag)
        })
        .ok_or_else(|| RemoteError::NoReference {
            url: self.address.to_string(),
            reference: wanted.to_owned(),
        })
    }

    /// Checks that `commit`, or the tag that it was found by, is signed as `rule` asks.
    fn check(&self, rule: &Signed, commit: &str, tag: Option<&Tag>) -> Result<(), RemoteError> {
        let keys = Keys::read(self.surroundings, rule)?;
        let (mirror, _guard) = self.surroundings.directory("git", &self.address.url)?;
        self.fetch(&mirror, commit)?;
        let mut why = match self.signature(&mirror, "commit", commit, &keys)? {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if let Some(tag) = tag {
            let of_tag = match self.of_tag(&mirror, commit, tag)? {
                Ok(()) => self.signature(&mirror, "tag", &tag.id, &keys)?,
                refused => refused,
            };
            match of_tag {
                Ok(()) => return Ok(()),
                Err(of_tag) => {
                    why = format!("of the commit, {why}; of the tag `{}`, {of_tag}", tag.name);
                }
            }
        }
        Err(RemoteError::Unsigned {
            what: format!("commit {commit} of `{}`", self.address),
            rule: rule.url.clone(),
            reason: why,
        })
    }

    /// Brings a tag into the mirror. An error says why it can't stand for the commit.
    fn of_tag(
        &self,
        mirror: &Path,
        commit: &str,
        tag: &Tag,
    ) -> Result<Result<(), String>, RemoteError> {
        let at = At::bare(mirror);
        if self.run("cat-file", &["-e", &tag.id], at).is_err() {
            let refs = format!("+refs/tags/{0}:refs/strata/tags/{0}", tag.name);
            let mut arguments = vec![
                "--quiet",
                "--no-tags",
                "--force",
                "--depth=1",
                "origin",
                &refs,
            ];
            if self.run("fetch", &arguments, at).is_err() {
                arguments.remove(3);
                self.run("fetch", &arguments, at)?;
            }
        }
        let text = self.run("cat-file", &["tag", &tag.id], at)?;
        let header = |name: &str| {
            let mut lines = text.lines().take_while(|line| !line.is_empty());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        // A server could show an old tag under a new name.
        Ok(if header("object") != Some(commit) {
            Err("it is of something else".to_owned())
        } else if header("tag") != Some(tag.name.as_str()) {
            Err("it was made under another name".to_owned())
        } else {
            Ok(())
        })
    }

    /// Whether the object `id`, a commit or a tag, is signed by one of `keys`; an error says why not.
    fn signature(
        &self,
        mirror: &Path,
        kind: &str,
        id: &str,
        keys: &Keys<'_>,
    ) -> Result<Result<(), String>, RemoteError> {
        let at = At::bare(mirror);
        let text = self.run("cat-file", &[kind, id], at)?;
        let Some(begin) = signature_of(kind, &text) else {
            return Ok(Err("there is no signature".to_owned()));
        };
        let begin = Kind::of(begin.as_bytes());
        let settings = match keys.git_settings(begin) {
            Ok(settings) => settings,
            Err(why) => return Ok(Err(why)),
        };
        let mut command = self.command(&format!("verify-{kind}"), &["--raw", id], at, settings);
        command.env("GNUPGHOME", keys.gnupg_home());
        let ran = self.finish(&mut command)?;
        if ran.status.success() {
            return Ok(Ok(()));
        }
        let why = match begin {
            Kind::OpenPgp => why_not(&ran.errors),
            _ if ran.errors.contains("No principal matched") => Some(
                "its signature is by a key that is none of the signers', or was not at that time"
                    .to_owned(),
            ),
            _ => None,
        };
        Ok(Err(why.unwrap_or_else(|| {
            format!("its signature is not good: {}", last_line(&ran.errors))
        })))
    }

    /// When `commit`, which is in the mirror, was made.
    fn time(&self, mirror: &Path, commit: &str) -> Result<Option<i64>, RemoteError> {
        let arguments = ["-s", "--format=%ct", commit];
        let text = self.run("show", &arguments, At::bare(mirror))?;
        Ok(text.trim().parse().ok())
    }

    /// Brings `commit` into the mirror.
    fn fetch(&self, mirror: &Path, commit: &str) -> Result<(), RemoteError> {
        let at = At::bare(mirror);
        if !mirror.join("HEAD").exists() {
            let format = if commit.len() == 64 { "sha256" } else { "sha1" };
            let format = format!("--object-format={format}");
            self.run("init", &["--quiet", "--bare", &format], at)?;
        }
        let object = format!("{commit}^{{commit}}");
        if self.run("cat-file", &["-e", &object], at).is_ok() {
            return Ok(());
        }
        let common = ["--quiet", "--no-tags", "--no-recurse-submodules", "--force"];
        let mut shallow = common.to_vec();
        shallow.extend(["--depth=1", "origin", commit]);
        // Servers may refuse to give single commits, or less than everything.
        if let Err(error) = self.run("fetch", &shallow, at) {
            if matches!(error, RemoteError::Cancelled | RemoteError::NoGit { .. }) {
                return Err(error);
            }
            let mut whole = common.to_vec();
            if mirror.join("shallow").exists() {
                whole.push("--unshallow");
            }
            whole.extend([
                "origin",
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
            ]);
            self.run("fetch", &whole, at)?;
            if self.run("cat-file", &["-e", &object], at).is_err() {
                return Err(RemoteError::NoReference {
                    url: self.address.to_string(),
                    reference: commit.to_owned(),
                });
            }
        }
        let pin = format!("refs/strata/{commit}");
        self.run("update-ref", &[&pin, commit], at).map(drop)
    }

    /// Makes a repository of its own at `root`, for submodules or because `.git` is asked for.
    fn clone_mirror(
        &self,
        mirror: &Path,
        commit: &str,
        root: &Path,
        modules: bool,
    ) -> Result<(), RemoteError> {
        let git_dir = root.join(".git");
        let at = At {
            git_dir: Some(&git_dir),
            work_tree: Some(root),
            index: None,
            local: false,
        };
        let format = if commit.len() == 64 { "sha256" } else { "sha1" };
        let format = format!("--object-format={format}");
        self.run("init", &["--quiet", &format], at)?;
        let source = mirror.display().to_string();
        let arguments = ["--quiet", "--no-tags", "--depth=1", source.as_str(), commit];
        self.run("fetch", &arguments, At { local: true, ..at })?;
        self.run("checkout", &["--quiet", "--force", "--detach", commit], at)?;
        if modules {
            let arguments = ["update", "--quiet", "--init", "--recursive", "--depth=1"];
            self.run("submodule", &arguments, at)?;
        }
        if self.address.keep_git_dir {
            // What it says of the mirror is nobody's business.
            drop(std::fs::remove_file(git_dir.join("FETCH_HEAD")));
            let url = self.address.to_string();
            self.run("config", &["remote.origin.url", &url], at)?;
            let refs = "+refs/heads/*:refs/remotes/origin/*";
            self.run("config", &["remote.origin.fetch", refs], at)?;
        } else {
            remove_git_dirs(root)?;
        }
        Ok(())
    }

    fn run(&self, name: &str, arguments: &[&str], at: At<'_>) -> Result<String, RemoteError> {
        let mut command = self.command(name, arguments, at, Vec::new());
        let ran = self.finish(&mut command)?;
        if ran.status.success() {
            return Ok(ran.output);
        }
        let lines: Vec<&str> = ran.errors.lines().filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(4)..];
        Err(RemoteError::Git {
            command: name.to_owned(),
            url: self.address.to_string(),
            message: last
                .join("; ")
                .replace(&self.address.url, &self.address.to_string()),
        })
    }

    /// Runs a command to its end, or until the build is stopped.
    fn finish(&self, command: &mut Command) -> Result<Ran, RemoteError> {
        process::run(self.surroundings.cancel, command).map_err(|problem| match problem {
            NotRun::Cancelled => RemoteError::Cancelled,
            NotRun::Start(source) => RemoteError::NoGit { source },
        })
    }

    /// A command of git with its surroundings and `more` settings.
    fn command(
        &self,
        name: &str,
        arguments: &[&str],
        at: At<'_>,
        more: Vec<(String, String)>,
    ) -> Command {
        let mut command = Command::new("git");
        command
            .arg(name)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null());
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "true")
            .env("GIT_LFS_SKIP_SMUDGE", "1")
            // No passwords of ~/.netrc, no attributes or ignores of the user.
            .env("HOME", "/nonexistent")
            .env("GIT_SSH_COMMAND", SSH);
        if let Some(agent) = self.surroundings.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        for (name, path) in [
            ("GIT_DIR", at.git_dir),
            ("GIT_WORK_TREE", at.work_tree),
            ("GIT_INDEX_FILE", at.index),
        ] {
            if let Some(path) = path {
                command.env(name, path);
            }
        }
        // Submodules start commands in directories of their own; these must not be told a place.
        if name == "submodule" {
            command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
        }
        command.current_dir(at.work_tree.or(at.git_dir).unwrap_or(Path::new("/")));
        let mut settings = self.settings(at.local);
        settings.extend(more);
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        command
    }

    fn settings(&self, local: bool) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
        if local || self.address.url.starts_with("file://") {
            set("protocol.file.allow", "always".to_owned());
        }
        // Programs that git starts get it as an argument, which everybody on the machine can read.
        let url = match self.given() {
            Some(_) => self.address.to_string(),
            None => self.address.url.clone(),
        };
        set("remote.origin.url", url);
        if let Some((origin, header)) = self.authorization() {
            set(&format!("http.{origin}.extraheader"), header);
        }
        settings
    }

    /// User and password in the address of a repository on the web, as a header.
    fn given(&self) -> Option<String> {
        let (scheme, rest) = self.address.url.split_once("://")?;
        if !scheme.to_ascii_lowercase().starts_with("http") {
            return None;
        }
        let (user, _) = rest.split('/').next()?.rsplit_once('@')?;
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let pair = format!("{}:{}", decode(name), decode(password));
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Some(format!("Basic {encoded}"))
    }

    /// The header for the repository's server, from a secret or the address.
    fn authorization(&self) -> Option<(String, String)> {
        let (scheme, rest) = self.address.url.split_once("://")?;
        if !scheme.to_ascii_lowercase().starts_with("http") {
            return None;
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let secret = |name: &str| {
            let special = self.surroundings.secret(&format!("{name}.{host}"));
            special.or_else(|| self.surroundings.secret(name))
        };
        let value = if let Some(header) = secret("GIT_AUTH_HEADER") {
            header
        } else if let Some(token) = secret("GIT_AUTH_TOKEN") {
            let pair = format!("x-access-token:{token}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("basic {encoded}")
        } else {
            self.given()?
        };
        Some((
            format!("{scheme}://{host}/"),
            format!("Authorization: {value}"),
        ))
    }
}

/// The signature that the text of a commit or tag holds.
fn signature_of<'t>(kind: &str, text: &'t str) -> Option<&'t str> {
    if kind == "commit" {
        let mut headers = text.lines().take_while(|line| !line.is_empty());
        return headers.find_map(|line| {
            line.strip_prefix("gpgsig ")
                .or_else(|| line.strip_prefix("gpgsig-sha256 "))
        });
    }
    let at = text
        .rfind("\n-----BEGIN ")
        .map(|at| at + 1)
        .filter(|at| text[*at..].contains("-----END "))?;
    Some(&text[at..])
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RemoteError {
    let path = path.to_owned();
    move |source| RemoteError::Io {
        action,
        path,
        source,
    }
}

/// Removes `.git` of the checkout and of its submodules.
fn remove_git_dirs(directory: &Path) -> Result<(), RemoteError> {
    for path in children(directory)? {
        let metadata = path.symlink_metadata().map_err(io_error("read", &path))?;
        if path.file_name().is_some_and(|name| name == ".git") {
            let removed = if metadata.is_dir() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(io_error("remove", &path))?;
        } else if metadata.is_dir() {
            remove_git_dirs(&path)?;
        }
    }
    Ok(())
}

/// Gives everything below `directory` the mode that its executable bit asks for, whatever the
/// umask, and the time `time` if there is one.
fn normalise(directory: &Path, time: Option<i64>) -> Result<(), RemoteError> {
    for path in children(directory)? {
        let metadata = path.symlink_metadata().map_err(io_error("read", &path))?;
        if metadata.is_dir() {
            normalise(&path, time)?;
        } else if !metadata.is_symlink() {
            let executable = metadata.permissions().mode() & 0o111 != 0;
            set_mode(&path, if executable { 0o755 } else { 0o644 })?;
        }
        if let Some(time) = time
            && !metadata.is_dir()
        {
            set_time(&path, time)?;
        }
    }
    set_mode(directory, 0o755)?;
    match time {
        Some(time) => set_time(directory, time),
        None => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), RemoteError> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
        .map_err(io_error("set the mode of", path))
}

fn set_time(path: &Path, seconds: i64) -> Result<(), RemoteError> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| io_error("set the time of", path)(errno.into()))
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, RemoteError> {
    std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(io_error("read directory", directory))
}
