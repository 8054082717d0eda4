//! Docker in strata's place, to see whether an expectation is right.
//!
//! With `STRATA_TEST_ORACLE=unix:///path/to/docker.sock` the builds of a case are done by that daemon
//! with BuildKit, and what comes out is held against the same expectations. A row that fails there
//! states something that Docker does not do; that may be meant, and then its comment says so. Cases
//! that use more of the command than `build` can't be done in this way.

use std::path::Path;
use std::process::Command;

use super::{Base, Image, Sandbox, run};

/// A Docker daemon to build with.
#[derive(Debug)]
pub(crate) struct Oracle(String);

impl Oracle {
    /// The daemon that the environment names.
    pub(crate) fn from_environment() -> Option<Self> {
        std::env::var("STRATA_TEST_ORACLE").ok().map(Self)
    }

    fn docker(&self) -> Command {
        // Debian's own: newer ones want the buildx plugin.
        let mut command = Command::new("/usr/bin/docker");
        command
            .args(["--host", &self.0])
            .env("DOCKER_BUILDKIT", "1");
        command
    }

    /// Makes `base` known under its usual name.
    pub(crate) fn import(&self, base: Base) {
        run(self
            .docker()
            .arg("import")
            .arg(base.path())
            .arg(base.name()));
    }

    /// Builds the sandbox's context.
    pub(crate) fn build(&self, sandbox: &Sandbox, args: &[&str], archive: &Path) -> Image {
        let tag = format!("oracle-{}", sandbox.account().uid);
        let tag = format!("{tag}-{}", std::process::id());
        run(self
            .docker()
            .args(["build", "--network=host", "-t", &tag])
            .args(args)
            .arg(sandbox.context()));
        run(self
            .docker()
            .args(["save", "--output"])
            .arg(archive)
            .arg(&tag));
        run(self.docker().args(["rmi", &tag]));
        Image::read(archive)
    }

    /// Builds the sandbox's context, which must fail; what it said.
    pub(crate) fn build_fails(&self, sandbox: &Sandbox, args: &[&str]) -> String {
        let mut command = self.docker();
        command
            .args(["build", "--network=host"])
            .args(args)
            .arg(sandbox.context());
        let output = command.output().unwrap();
        assert!(!output.status.success(), "docker takes what must fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}
