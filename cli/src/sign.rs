//! `--sign`: signatures by `cosign`, which has to be installed.
//!
//! What is signed is the digest that was pushed, never a tag. Keys and identities are cosign's
//! business: its own variables (`COSIGN_PASSWORD`, `COSIGN_KEY` …) and files are left as they are.

use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use strata_image::Reference;

use crate::error::CommandError;

const PROGRAM: &str = "cosign";

/// How to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sign {
    /// `--key`: a file, or where a key is kept. None leaves it to cosign.
    key: Option<String>,
    program: PathBuf,
}

impl Sign {
    /// Finds cosign before anything is built: an image that can't be signed need not be pushed.
    pub(crate) fn new(key: Option<String>, path: Option<&str>) -> Result<Self, CommandError> {
        let directories = path.unwrap_or_default().split(':');
        let mut programs = directories
            .filter(|directory| !directory.is_empty())
            .map(|directory| PathBuf::from(directory).join(PROGRAM));
        let program = programs.find(|program| is_executable(program));
        let program = program.ok_or_else(|| {
            CommandError::usage(
                "`--sign` needs `cosign`, which is in no directory of `PATH`: install it, as \
                 https://docs.sigstore.dev/cosign/system_config/installation/ says",
            )
        })?;
        Ok(Self { key, program })
    }

    /// Signs what was pushed as `name`.
    pub(crate) fn sign(
        &self,
        name: &str,
        digest: strata_cache::Digest,
    ) -> Result<(), CommandError> {
        let failed = |why: String| {
            CommandError::failed(format!(
                "`{name}` is pushed, but not signed: {why}; `cosign sign {name}@{digest}` tries again"
            ))
        };
        let reference = Reference::parse(name).map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(&self.program);
        command.args(["sign", "--yes"]);
        if let Some(key) = &self.key {
            command.args(["--key", key]);
        }
        command.arg(reference.with_digest(digest).to_string());
        // Standard output is for results of ours.
        let status = std::io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .and_then(|stderr| command.stdout(stderr).status())
            .map_err(|error| failed(format!("`{}`: {error}", self.program.display())))?;
        if status.success() {
            return Ok(());
        }
        Err(failed(match status.code() {
            Some(code) => format!("`cosign` ended with exit code {code}"),
            None => "`cosign` was killed".to_owned(),
        }))
    }
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_cosign_is_told_before_anything_is_done() {
        let empty = tempfile::tempdir().unwrap();
        let path = empty.path().display().to_string();
        for path in [None, Some(""), Some(path.as_str())] {
            let error = Sign::new(None, path).unwrap_err();
            assert!(error.message().contains("install it"), "{path:?}");
        }
    }
}
