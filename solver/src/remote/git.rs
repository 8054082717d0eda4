//! Git repositories, by way of the `git` command.
//!
//! The command gets an environment of its own: no system or user configuration, no prompts, no
//! hooks, and only the protocols that the address may use. Credentials and the URL itself are handed
//! over as configuration in the environment, never as arguments, which every user of the machine can
//! read.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use strata_cache::view::FileKind;
use strata_cache::{HardLinks, LayerView, Store};

use super::context::Unpacked;
use super::{GitAddress, RemoteError, Surroundings};

/// Pause between two looks at a running command.
const PAUSE: Duration = Duration::from_millis(10);

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

/// The commit that `address` means.
pub(crate) fn resolve(
    surroundings: Surroundings<'_>,
    address: &GitAddress,
) -> Result<String, RemoteError> {
    let git = Git {
        surroundings,
        address,
    };
    let commit = match &address.reference {
        Some(id) if is_whole_id(id) => id.to_ascii_lowercase(),
        reference => git.ask(reference.as_deref())?,
    };
    match &address.commit {
        Some(expected) if !commit.starts_with(expected.as_str()) => Err(RemoteError::Checksum {
            url: address.to_string(),
            expected: expected.clone(),
            found: commit,
        }),
        _ => Ok(commit),
    }
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
        let (mirror, _guard) = surroundings.directory(&format!("git {}", address.url))?;
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
            let index = scratch.work_dir().join("index");
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
    let (mirror, _guard) = surroundings.directory(&format!("git {}", address.url))?;
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
    /// Asks the server for the commit of a branch or tag, or of what it points at itself.
    fn ask(&self, reference: Option<&str>) -> Result<String, RemoteError> {
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
        .find_map(|name| find(name))
        .filter(|id| is_whole_id(id))
        .ok_or_else(|| RemoteError::NoReference {
            url: self.address.to_string(),
            reference: wanted.to_owned(),
        })
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
        let mut command = Command::new("git");
        command
            .arg(name)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
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
        let settings = self.settings(at.local);
        command.env("GIT_CONFIG_COUNT", settings.len().to_string());
        for (number, (key, value)) in settings.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        self.wait(name, &mut command)
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
        set("remote.origin.url", self.address.url.clone());
        if let Some((origin, header)) = self.authorization() {
            set(&format!("http.{origin}.extraheader"), header);
        }
        settings
    }

    /// The header for the repository's server, from a secret.
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
        } else {
            let token = secret("GIT_AUTH_TOKEN")?;
            let pair = format!("x-access-token:{token}");
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            format!("basic {encoded}")
        };
        Some((
            format!("{scheme}://{host}/"),
            format!("Authorization: {value}"),
        ))
    }

    /// Runs a command to its end, or until the build is stopped.
    fn wait(&self, name: &str, command: &mut Command) -> Result<String, RemoteError> {
        let mut child = command
            .spawn()
            .map_err(|source| RemoteError::NoGit { source })?;
        let mut stdout = child.stdout.take();
        let mut stderr = child.stderr.take();
        let status = std::thread::scope(|scope| {
            let output =
                scope.spawn(move || read(stdout.as_mut().map(|pipe| pipe as &mut dyn Read)));
            let errors =
                scope.spawn(move || read(stderr.as_mut().map(|pipe| pipe as &mut dyn Read)));
            let status = loop {
                if self.surroundings.cancel.is_cancelled() {
                    // The transport that it started goes with it.
                    if let Some(group) = i32::try_from(child.id())
                        .ok()
                        .and_then(rustix::process::Pid::from_raw)
                    {
                        let killed = rustix::process::kill_process_group(
                            group,
                            rustix::process::Signal::KILL,
                        );
                        // Gone already is as good.
                        killed.unwrap_or_default();
                    }
                    drop(child.wait());
                    break Err(RemoteError::Cancelled);
                }
                match child.try_wait() {
                    Ok(Some(status)) => break Ok(status),
                    Ok(None) => std::thread::sleep(PAUSE),
                    Err(source) => break Err(RemoteError::NoGit { source }),
                }
            };
            let output = output.join().unwrap_or_default();
            let errors = errors.join().unwrap_or_default();
            status.map(|status| (status, output, errors))
        });
        let (status, output, errors) = status?;
        if status.success() {
            return Ok(output);
        }
        let lines: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(4)..];
        Err(RemoteError::Git {
            command: name.to_owned(),
            url: self.address.to_string(),
            message: last
                .join("; ")
                .replace(&self.address.url, &self.address.to_string()),
        })
    }
}

fn read(pipe: Option<&mut dyn Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read is all there is to show.
        drop(pipe.read_to_end(&mut bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
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
