//! A scratch directory with a store, a build context and a place for results.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::oracle::Oracle;
use super::users::{Account, binary_for};
use super::{Base, Image, Output, Steps, Strata, Who};

/// One case's world. Removed when dropped.
///
/// Everything in it belongs to the user that the case runs as:
///
/// ```text
/// store/    what `--root` names
/// context/  the build context
/// out/      results
/// home/     $HOME, so that nobody's own settings matter
/// ```
#[derive(Debug)]
pub(crate) struct Sandbox {
    directory: PathBuf,
    who: Who,
    account: Account,
    binary: PathBuf,
    outputs: AtomicU32,
}

impl Sandbox {
    /// A new sandbox for `who`, or why this machine can't have one.
    pub(crate) fn new(who: Who) -> Result<Self, String> {
        let account = who.account()?;
        if who != Who::Root && Oracle::from_environment().is_some() {
            return Err("the oracle builds as root".to_owned());
        }
        let binary = binary_for(&account);
        let directory = tempfile::Builder::new()
            .prefix("strata-e2e.")
            .tempdir()
            .unwrap()
            .keep();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Self {
            directory,
            who,
            account,
            binary,
            outputs: AtomicU32::new(0),
        };
        sandbox.own(&sandbox.directory);
        for name in ["store", "context", "out", "home"] {
            let path = sandbox.path(name);
            fs::create_dir(&path).unwrap();
            sandbox.own(&path);
        }
        sandbox.configure("");
        Ok(sandbox)
    }

    /// Writes the user's configuration file. Unless it says something of pruning itself, nothing is
    /// pruned after builds: the usual policy goes by how full this machine's disk happens to be.
    pub(crate) fn configure(&self, text: &str) -> &Self {
        let mut text = text.to_owned();
        if !text.contains("[[prune]]") {
            text.push_str("\n[[prune]]\nmax-used-space = \"100%\"\n");
        }
        let mut path = self.path("home");
        for name in [".config", "strata"] {
            path.push(name);
            fs::create_dir_all(&path).unwrap();
            self.own(&path);
        }
        path.push("config.toml");
        fs::write(&path, text).unwrap();
        self.own(&path);
        self
    }

    /// What kind of user this sandbox is for.
    pub(crate) fn who(&self) -> Who {
        self.who
    }

    /// The account that commands run as.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// The binary that commands run.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// A path in the sandbox.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// The build context.
    pub(crate) fn context(&self) -> PathBuf {
        self.path("context")
    }

    /// Makes `path` belong to the sandbox's user.
    fn own(&self, path: &Path) {
        if !self.account.is_me() {
            lchown(path, Some(self.account.uid), Some(self.account.gid)).unwrap();
        }
    }

    /// Makes the directories above `path`, mode 0755.
    fn parents(&self, path: &Path) {
        let parent = path.parent().unwrap();
        if !parent.exists() {
            self.parents(parent);
            fs::create_dir(parent).unwrap();
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
            self.own(parent);
        }
    }

    /// Writes a context file, mode 0644.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        self.write_mode(name, content, 0o644)
    }

    /// Writes a context file with a mode of its own.
    pub(crate) fn write_mode(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> &Self {
        let path = self.context().join(name);
        self.parents(&path);
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(content.as_ref()).unwrap();
        self.own(&path);
        // After the change of owner, which clears set-id bits.
        file.set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
        self
    }

    /// Makes a context directory.
    pub(crate) fn mkdir(&self, name: &str, mode: u32) -> &Self {
        let path = self.context().join(name);
        self.parents(&path);
        fs::create_dir(&path).unwrap();
        self.own(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// Makes a symbolic link in the context.
    pub(crate) fn symlink(&self, target: &str, name: &str) -> &Self {
        let path = self.context().join(name);
        self.parents(&path);
        symlink(target, &path).unwrap();
        self.own(&path);
        self
    }

    /// Removes a context file.
    pub(crate) fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.context().join(name)).unwrap();
        self
    }

    /// Writes the context's `Dockerfile`.
    pub(crate) fn dockerfile(&self, text: &str) -> &Self {
        self.write("Dockerfile", text)
    }

    /// Copies a directory into the context, with modes.
    pub(crate) fn copy_in(&self, from: &Path, name: &str) -> &Self {
        let to = self.context().join(name);
        self.parents(&to.join("x"));
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let inner = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                self.copy_in(&entry.path(), &inner);
            } else {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
                self.write_mode(&inner, fs::read(entry.path()).unwrap(), mode);
            }
        }
        self
    }

    /// `strata --root STORE`, to be given a subcommand.
    pub(crate) fn strata(&self) -> Strata {
        Strata::new(self)
    }

    /// Runs `strata` with `args`, whatever its result.
    pub(crate) fn try_run(&self, args: &[&str]) -> Output {
        self.strata().args(args).output()
    }

    /// Runs `strata` with `args`, which must succeed.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.try_run(args).success()
    }

    /// Imports `base` into the store under its usual name (`busybox`, `demo/debian:12`).
    pub(crate) fn import(&self, base: Base) -> &Self {
        if let Some(oracle) = Oracle::from_environment() {
            oracle.import(base);
            return self;
        }
        let path = base.path();
        let mut args = vec!["import", path.to_str().unwrap(), base.name()];
        if let Some(platform) = base.platform() {
            args.extend(["--platform", platform]);
        }
        self.run(&args);
        self
    }

    /// A sandbox whose store has the `busybox` image.
    pub(crate) fn busybox(&self) -> &Self {
        self.import(Base::Busybox)
    }

    /// A new path in `out/`.
    pub(crate) fn fresh_output(&self, extension: &str) -> PathBuf {
        let number = self.outputs.fetch_add(1, Ordering::Relaxed);
        self.path(format!("out/{number}.{extension}"))
    }

    /// Builds the context with `args` and whatever result; progress as JSON, for [`Output::steps`].
    pub(crate) fn try_build(&self, args: &[&str]) -> Output {
        self.strata()
            .args(["build", "--progress", "json"])
            .args(args)
            .arg(self.context())
            .output()
    }

    /// Builds the context with `args`, which must succeed; what it did.
    pub(crate) fn steps(&self, args: &[&str]) -> Steps {
        self.try_build(args).success().steps()
    }

    /// Builds the context with `args`, which must succeed, and reads the image that comes out.
    pub(crate) fn build_with(&self, args: &[&str]) -> (Image, Steps) {
        let archive = self.fresh_output("tar");
        if let Some(oracle) = Oracle::from_environment() {
            return (oracle.build(self, args, &archive), Steps::default());
        }
        let to = format!("type=oci,dest={}", archive.display());
        let mut all = vec!["--output", to.as_str()];
        all.extend_from_slice(args);
        let steps = self.steps(&all);
        (Image::read(&archive), steps)
    }

    /// Writes the Dockerfile, builds, and reads the image.
    pub(crate) fn build(&self, dockerfile: &str) -> Image {
        self.dockerfile(dockerfile);
        self.build_with(&[]).0
    }

    /// Writes the Dockerfile and builds; the build must fail with `code`. Returns stderr, redacted.
    pub(crate) fn build_fails(&self, dockerfile: &str, code: i32) -> String {
        self.dockerfile(dockerfile);
        if let Some(oracle) = Oracle::from_environment() {
            return oracle.build_fails(self, &[]);
        }
        self.strata()
            .args(["build", "--progress", "plain"])
            .arg(self.context())
            .output()
            .failure(code)
            .stderr_redacted(self)
    }

    /// Exports an image of the store and reads it.
    pub(crate) fn saved(&self, name: &str) -> Image {
        let archive = self.fresh_output("save.tar");
        self.run(&["save", "--output", archive.to_str().unwrap(), name]);
        Image::read(&archive)
    }

    /// Mounts below the sandbox that are visible to the tests, which should be none.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = self.directory.to_str().unwrap();
        mounts
            .lines()
            .filter(|line| {
                line.split(' ')
                    .nth(4)
                    .is_some_and(|at| at.starts_with(below))
            })
            .map(ToOwned::to_owned)
            .collect()
    }

    /// Processes that run the sandbox's store: their command lines.
    pub(crate) fn processes(&self) -> Vec<String> {
        let store = self.path("store");
        let store = store.to_str().unwrap();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(store))
            .collect()
    }

    /// Makes a file that the case wrote itself readable to the sandbox's user.
    pub(crate) fn hand_over(&self, path: &Path) {
        if !self.account.is_me() {
            chown(path, Some(self.account.uid), Some(self.account.gid)).unwrap();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::env::var_os("STRATA_TEST_KEEP").is_some() {
            return;
        }
        if fs::remove_dir_all(&self.directory).is_ok() {
            return;
        }
        // An ordinary user's store holds files of its subordinate ids, which only a process with the
        // same map can remove. What is left after that is left: the test has its result.
        Command::new("unshare")
            .args(["--map-root-user", "--map-auto", "rm", "-rf"])
            .arg(&self.directory)
            .status()
            .ok();
    }
}
