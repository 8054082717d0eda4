//! strata, docker and buildah, each with a store of its own and the same base image.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;

use super::Case;
use super::compare::Facts;
use crate::support::{Base, Dockerd, Image, Sandbox, run};

/// One of the builders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Strata,
    /// Debian's docker.io with `DOCKER_BUILDKIT=1`.
    Docker,
    /// Debian's buildah, docker format.
    Buildah,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strata => "strata",
            Self::Docker => "docker",
            Self::Buildah => "buildah",
        }
    }
}

/// How a build ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Built(Facts),
    Failed {
        /// Standard error, and output.
        said: String,
        code: Option<i32>,
    },
}

/// All of them, ready to build `FROM busybox` and `FROM scratch`.
///
/// Any number of builds may go on at once.
pub(crate) struct Engines<'a> {
    sandbox: &'a Sandbox,
    docker: Dockerd,
    base: Facts,
    number: AtomicU32,
}

impl fmt::Debug for Engines<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Engines").finish_non_exhaustive()
    }
}

impl<'a> Engines<'a> {
    /// Starts what has to be started; why it can't be.
    pub(crate) fn start(sandbox: &'a Sandbox) -> Result<Self, String> {
        let docker = Dockerd::start(sandbox)?;
        let archive = sandbox.path("base.tar");
        sandbox.run(&[
            "import",
            "-c",
            "CMD [\"sh\"]",
            Base::Busybox.path().to_str().unwrap(),
            Base::Busybox.name(),
        ]);
        // Saved once, so that the three have the very same layer and history below their own.
        sandbox.run(&["save", "-o", archive.to_str().unwrap(), "busybox"]);
        let engines = Self {
            sandbox,
            docker,
            base: Facts::of(&Image::read(&archive), &[]),
            number: AtomicU32::new(0),
        };
        run(engines.docker().args(["load", "--input"]).arg(&archive));
        run(engines
            .buildah()
            .args(["pull", "--quiet"])
            .arg(format!("docker-archive:{}", archive.display())));
        Ok(engines)
    }

    /// What is known of the base image.
    pub(crate) fn base(&self) -> &Facts {
        &self.base
    }

    /// Builds the case, and what it stands on, with one engine.
    pub(crate) fn build(&self, engine: Engine, case: &Case) -> Outcome {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let scratch = self.sandbox.path(format!("case-{number}"));
        fs::create_dir(&scratch).unwrap();
        let outcome = self.build_in(engine, case, &scratch, &format!("case/{number}"));
        // Odd contexts may hold what can't be removed; the sandbox's end tries again.
        fs::remove_dir_all(&scratch).ok();
        outcome
    }

    fn build_in(&self, engine: Engine, case: &Case, scratch: &Path, tag: &str) -> Outcome {
        for (number, base) in case.settings.base.iter().enumerate() {
            let context = scratch.join(format!("base-{number}"));
            case.stage_base(base, &context);
            let mut command = self.command(engine);
            command.args(["-t", &base.name]).arg(&context);
            if let Err(failed) = finish(&mut command, None) {
                return failed;
            }
        }
        let staged = case.stage(&scratch.join("context"));
        let settings = &case.settings;
        let from_stdin = settings.context.as_deref() == Some("-");
        let context = staged.join(settings.context.as_deref().unwrap_or("."));
        let archive = scratch.join("image.tar");
        let mut command = self.command(engine);
        match engine {
            Engine::Strata => {
                let to = format!(
                    "type=oci,compression=uncompressed,dest={}",
                    archive.display()
                );
                command.args(["--output", &to]);
            }
            Engine::Docker | Engine::Buildah => {
                command.args(["-t", tag]);
            }
        }
        for (name, value) in &settings.args {
            command.arg("--build-arg").arg(format!("{name}={value}"));
        }
        if let Some(target) = &settings.target {
            command.args(["--target", target]);
        }
        if let Some(dockerfile) = &settings.dockerfile {
            command.arg("-f").arg(context.join(dockerfile));
        }
        for flag in settings.flags.iter().chain(&case.peculiar(engine).flags) {
            let flag = flag.replace("{context}", staged.to_str().unwrap());
            command.arg(flag.replace("{fixture}", scratch.to_str().unwrap()));
        }
        if from_stdin {
            command.arg("-");
        } else {
            command.arg(&context);
        }
        let stdin = settings.stdin.as_ref().map(|name| staged.join(name));
        if let Err(failed) = finish(&mut command, stdin) {
            return failed;
        }
        if let Err(failed) = self.fetch(engine, tag, &archive) {
            return failed;
        }
        Outcome::Built(Facts::of(&Image::read(&archive), &settings.times))
    }

    /// Writes the peer's image to `archive` and takes it out of its store.
    fn fetch(&self, engine: Engine, tag: &str, archive: &Path) -> Result<(), Outcome> {
        match engine {
            Engine::Strata => {}
            Engine::Docker => {
                let mut save = self.docker();
                // It refuses to save an image without layers.
                let saved = finish(save.args(["save", "--output"]).arg(archive).arg(tag), None);
                run(self.docker().args(["rmi", tag]));
                return saved;
            }
            Engine::Buildah => {
                run(self
                    .buildah()
                    .args(["push", "--quiet", tag])
                    .arg(format!("docker-archive:{}:{tag}", archive.display())));
            }
        }
        Ok(())
    }

    /// A build command, but for the image's name and the context.
    fn command(&self, engine: Engine) -> Command {
        match engine {
            Engine::Strata => {
                let mut command = Command::new(self.sandbox.binary());
                self.clean(&mut command);
                command.arg("--root").arg(self.sandbox.path("store"));
                command.args(["build", "--progress", "plain", "--no-cache"]);
                command
            }
            Engine::Docker => {
                let mut command = self.docker();
                command.args(["build", "--network=host", "--progress=plain", "--no-cache"]);
                command
            }
            Engine::Buildah => {
                let mut command = self.buildah();
                command.args([
                    "build",
                    "--layers",
                    "--no-cache",
                    "--network=host",
                    "--pull-never",
                ]);
                command.args(["--format=docker", "--identity-label=false"]);
                // crun, the default where both are there, refuses the hybrid layout of control groups.
                command.args(["--runtime", "runc"]);
                command
            }
        }
    }

    fn docker(&self) -> Command {
        let mut command = self.docker.command();
        self.clean(&mut command);
        command.env("DOCKER_BUILDKIT", "1");
        command.env("DOCKER_CONFIG", self.sandbox.path("home"));
        command
    }

    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        self.clean(&mut command);
        command.arg("--root").arg(self.buildah_root());
        command
            .arg("--runroot")
            .arg(self.sandbox.path("buildah-run"));
        command.args(["--storage-driver", "overlay"]);
        command
    }

    fn buildah_root(&self) -> PathBuf {
        self.sandbox.path("buildah")
    }

    /// Nobody's own settings and proxies.
    fn clean(&self, command: &mut Command) {
        command
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("HOME", self.sandbox.path("home"))
            .current_dir(self.sandbox.path("out"));
    }
}

impl Drop for Engines<'_> {
    fn drop(&mut self) {
        // buildah binds its store's directory to itself and leaves that behind.
        let overlay = self.buildah_root().join("overlay");
        rustix::mount::unmount(&overlay, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

/// Runs a build; how it failed.
fn finish(command: &mut Command, stdin: Option<PathBuf>) -> Result<(), Outcome> {
    command.stdin(match stdin {
        Some(path) => Stdio::from(fs::File::open(path).unwrap()),
        None => Stdio::null(),
    });
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run `make deps`"));
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let gone = ["Cannot connect to the Docker daemon", "failed to dial gRPC"];
    assert!(
        !gone.iter().any(|text| said.contains(text)),
        "docker's daemon has ended: {command:?}\n{said}"
    );
    Err(Outcome::Failed {
        said,
        code: output.status.code(),
    })
}
