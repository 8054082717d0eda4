//! One Dockerfile with its context, and how it is to be built.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::Deserialize;

use super::Engine;
use crate::support::run;

/// When everything in a staged context was changed last: 2020-01-02 03:04:05 UTC.
pub(crate) const STAGED: i64 = 1_577_934_245;

/// Files of a fixture that are no part of its context.
const OURS: [&str; 3] = ["case.toml", "setup.sh", "expected"];

/// A case: read from a fixture, or put together by a test.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    name: String,
    directory: PathBuf,
    staged: bool,
    pub(crate) settings: Settings,
}

/// What `case.toml` says. Without the file, everything has its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `--build-arg`.
    pub(crate) args: BTreeMap<String, String>,
    /// `--target`.
    pub(crate) target: Option<String>,
    /// Further flags, for every engine. `{context}` and `{fixture}` stand for the staged context and for
    /// the fixture itself.
    pub(crate) flags: Vec<String>,
    /// The Dockerfile, relative to the context.
    pub(crate) dockerfile: Option<String>,
    /// The context's directory in the staged directory; `-` reads `stdin`.
    pub(crate) context: Option<String>,
    /// A file of the staged directory to be given on standard input.
    pub(crate) stdin: Option<String>,
    /// The build has to fail, with every engine.
    pub(crate) fails: bool,
    /// What strata says then.
    pub(crate) message: Option<String>,
    /// Absolute paths whose modification times are compared as well; `*` for all but
    /// directories', which engines set when they like.
    pub(crate) times: Vec<String>,
    /// Images to build first.
    pub(crate) base: Vec<BaseImage>,
    pub(crate) strata: Peculiar,
    pub(crate) docker: Peculiar,
    pub(crate) buildah: Peculiar,
}

/// An image that the case stands on, built by the same engine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BaseImage {
    /// Its context, in the fixture; no part of the case's own context.
    pub(crate) directory: String,
    /// Its name.
    pub(crate) name: String,
}

/// What holds for one engine only.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Peculiar {
    /// Why this engine can't build the case. The result is then held against `expected`.
    pub(crate) unable: Option<String>,
    /// Flags for this engine.
    pub(crate) flags: Vec<String>,
}

impl Case {
    /// A case whose context is the directory as it stands, with modes, owners and times.
    pub(crate) fn new(name: &str, directory: &Path) -> Self {
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            staged: false,
            settings: Settings::default(),
        }
    }

    /// A fixture, whose context is a copy with modes and times that don't depend on the checkout.
    pub(crate) fn read(directory: &Path) -> Self {
        let path = directory.join("case.toml");
        let settings = match fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            }
            Err(_) => Settings::default(),
        };
        let name = directory.file_name().unwrap().to_str().unwrap();
        Self {
            staged: true,
            settings,
            ..Self::new(name, directory)
        }
    }

    /// All fixtures in a directory, by name.
    pub(crate) fn all(directory: &Path) -> Vec<Self> {
        let mut directories: Vec<PathBuf> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        directories.sort();
        directories.iter().map(|path| Self::read(path)).collect()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What holds for `engine` only.
    pub(crate) fn peculiar(&self, engine: Engine) -> &Peculiar {
        match engine {
            Engine::Strata => &self.settings.strata,
            Engine::Docker => &self.settings.docker,
            Engine::Buildah => &self.settings.buildah,
        }
    }

    /// The file with what strata has to make of it, where no peer can say.
    pub(crate) fn expected(&self) -> PathBuf {
        self.directory.join("expected")
    }

    /// Fails the test if something is missing.
    pub(crate) fn check(&self) {
        let name = &self.name;
        assert!(
            self.settings.strata.unable.is_none(),
            "{name}: strata has to be able"
        );
        let unable =
            [Engine::Docker, Engine::Buildah].map(|engine| self.peculiar(engine).unable.is_some());
        assert!(
            unable == [false, false] || self.settings.fails || self.expected().exists(),
            "{name}: a peer can't build it and there is no `expected`"
        );
        // Made by a script, read from standard input, or missing on purpose.
        let elsewhere = self.directory.join("setup.sh").exists()
            || self.settings.stdin.is_some()
            || self.settings.fails;
        let context = self.settings.context.as_deref().unwrap_or(".");
        let dockerfile = self.settings.dockerfile.as_deref().unwrap_or("Dockerfile");
        let dockerfile = format!("{context}/{dockerfile}");
        assert!(
            elsewhere || self.directory.join(&dockerfile).exists(),
            "{name}: no {dockerfile}"
        );
    }

    /// Puts the context at `to`, which must not exist, and returns its path.
    pub(crate) fn stage(&self, to: &Path) -> PathBuf {
        if !self.staged {
            return self.directory.clone();
        }
        let mut omit: Vec<&str> = OURS.to_vec();
        omit.extend(
            self.settings
                .base
                .iter()
                .map(|base| base.directory.as_str()),
        );
        copy(&self.directory, to, &omit);
        let setup = self.directory.join("setup.sh");
        if setup.exists() {
            run(Command::new("bash")
                .args(["-euo", "pipefail"])
                .arg(&setup)
                .current_dir(to)
                .env_clear()
                .env(
                    "PATH",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                )
                .env("LC_ALL", "C")
                .env("TZ", "UTC")
                .env("FIXTURE", &self.directory));
        }
        to.to_owned()
    }

    /// Puts the context of an image that it stands on at `to`.
    pub(crate) fn stage_base(&self, base: &BaseImage, to: &Path) {
        copy(&self.directory.join(&base.directory), to, &[]);
    }
}

/// Copies a directory: files 0644 or 0755, directories 0755, everything as old as [`STAGED`].
fn copy(from: &Path, to: &Path, omit: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if omit.iter().any(|omitted| name == **omitted) {
            continue;
        }
        let target = to.join(&name);
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target, &[]);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
            age(&target);
        } else {
            let executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
            fs::copy(entry.path(), &target).unwrap();
            let mode = if executable { 0o755 } else { 0o644 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
            age(&target);
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
    age(to);
}

fn age(path: &Path) {
    let time = Timespec {
        tv_sec: STAGED,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
