//! `strata run`

use std::collections::BTreeMap;
use std::path::Path;

use strata_executor::sandbox::Confinement;
use strata_executor::sandbox::Limits;
use strata_executor::sandbox::Mount;

use super::Networking;
use super::Surroundings;
use super::confinement;
use super::each;
use super::flag;
use super::limits;
use super::shm_size;
use super::ulimits;
use crate::error::CommandError;
use crate::flags::low;
use crate::flags::value;
use crate::flags::volume;

/// What a command is handed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entrypoint {
    /// The image's entry point.
    Image,
    /// This program.
    Program(String),
    /// Nothing: the command is run itself.
    Nothing,
}

/// A container to run.
#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    /// Name or ID of the image.
    pub(crate) image: String,
    /// The command; empty means the image's.
    pub(crate) command: Vec<String>,
    /// Variables to set, in order.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory in place of the image's; absolute.
    pub(crate) workdir: Option<String>,
    /// User in place of the image's.
    pub(crate) user: Option<String>,
    /// Directories and files of the host.
    pub(crate) mounts: Vec<Mount>,
    /// Pass standard input through.
    pub(crate) interactive: bool,
    /// Give it a terminal.
    pub(crate) tty: bool,
    /// What the command is handed to.
    pub(crate) entrypoint: Entrypoint,
    /// Network.
    pub(crate) networking: Networking,
    /// Host name.
    pub(crate) hostname: Option<String>,
    /// Limits by control group.
    pub(crate) limits: Limits,
    /// rlimits.
    pub(crate) ulimits: BTreeMap<String, (u64, u64)>,
    /// Bytes of /dev/shm.
    pub(crate) shm_size: u64,
    /// All capabilities, no filter.
    pub(crate) privileged: bool,
    /// How it is confined if it is not privileged.
    pub(crate) confinement: Confinement,
    /// Signal in place of the image's.
    pub(crate) stop_signal: Option<i32>,
    /// When to download.
    pub(crate) pull: low::PullWhen,
    /// Which platform to download.
    pub(crate) platform: Option<String>,
}

impl Run {
    /// Checks the flags of `strata run`.
    pub(crate) fn new(
        low: &low::Run,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, CommandError> {
        let (image, command) = low
            .image_and_command
            .split_first()
            .ok_or_else(|| CommandError::usage("no image is given"))?;
        let mut env = Vec::new();
        for path in &low.env_file {
            let path = surroundings.path(path);
            let lines = flag("--env-file", env_file(&path, surroundings))?;
            env.extend(lines);
        }
        for (name, given) in each("--env", &low.env, value::assignment)? {
            let found = match given {
                Some(text) => Some(text),
                None => flag("--env", surroundings.text(&name))?,
            };
            if let Some(text) = found {
                env.push((name, text));
            }
        }
        let workdir = low.workdir.clone();
        if let Some(directory) = workdir.as_deref().filter(|path| !path.starts_with('/')) {
            return Err(CommandError::usage(format!(
                "`--workdir`: `{directory}` is not an absolute path"
            )));
        }
        let stop_signal = low
            .stop_signal
            .as_deref()
            .map(|text| flag("--stop-signal", crate::signals::number(text)))
            .transpose()?;
        Ok(Self {
            image: image.clone(),
            command: command.to_vec(),
            env,
            workdir,
            user: low.user.clone(),
            mounts: each("--volume", &low.volume, volume::of_run)?,
            interactive: low.interactive,
            tty: low.tty,
            entrypoint: match low.entrypoint.as_deref() {
                None => Entrypoint::Image,
                Some("") => Entrypoint::Nothing,
                Some(program) => Entrypoint::Program(program.to_owned()),
            },
            networking: Networking::new(&low.networking)?,
            hostname: low
                .hostname
                .as_deref()
                .map(|text| flag("--hostname", value::hostname(text)))
                .transpose()?,
            limits: limits(&low.limits)?,
            ulimits: ulimits(&low.ulimit)?,
            shm_size: shm_size(low.shm_size.as_deref())?,
            privileged: low.privileged,
            confinement: confinement(&low.security, surroundings)?,
            stop_signal,
            pull: low.pull,
            platform: low
                .platform
                .as_deref()
                .map(|text| flag("--platform", value::platform(text)))
                .transpose()?,
        })
    }
}

/// Lines `NAME=VALUE` or `NAME`; blank lines and those that begin with `#` are left out, and
/// nothing is unquoted, as in Docker.
fn env_file(path: &Path, surroundings: &Surroundings<'_>) -> Result<Vec<(String, String)>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("can't read `{}`: {error}", path.display()))?;
    let mut variables = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place =
            |message: String| format!("`{}`, line {}: {message}", path.display(), number + 1);
        let (name, value) = value::assignment(line).map_err(place)?;
        if name.contains(char::is_whitespace) {
            return Err(place(format!("the name `{name}` has a blank in it")));
        }
        let value = match value {
            Some(value) => Some(value),
            None => surroundings.text(&name)?,
        };
        if let Some(value) = value {
            variables.push((name, value));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::super::tests::surroundings;
    use super::*;
    use clap::Parser;

    fn run(arguments: &[&str]) -> Result<Run, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("env"),
            "# comment\n\nA=from file\n  FROM_ENV\nUNSET\nQ=\"kept\"\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("bad"), "OK=1\nnot a name=1\n").unwrap();
        let line = ["strata", "run"].iter().chain(arguments);
        let low::Command::Run(low) = low::Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        else {
            panic!("not a run");
        };
        Run::new(&low, &surroundings(directory.path())).map_err(|error| error.message())
    }

    #[test]
    fn the_environment_is_put_together_in_order() {
        let run = run(&[
            "--env-file",
            "env",
            "-e",
            "A=flag",
            "-e",
            "FROM_ENV",
            "img",
            "c",
        ])
        .unwrap();
        let expected = [
            ("A", "from file"),
            ("FROM_ENV", "env-value"),
            ("Q", "\"kept\""),
            ("A", "flag"),
            ("FROM_ENV", "env-value"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(run.env, expected);
        assert_eq!(
            (run.image.as_str(), run.command.as_slice()),
            ("img", &["c".to_owned()][..])
        );
    }

    #[test]
    fn mistakes_in_run_flags_name_their_flag() {
        for (arguments, part) in [
            (&["-v", "a:/b", "img"][..], "`--volume`"),
            (&["-w", "rel", "img"], "`--workdir`"),
            (&["--env-file", "missing", "img"], "`--env-file`"),
            (&["--env-file", "bad", "img"], "line 2"),
            (&["--hostname", "a b", "img"], "`--hostname`"),
            (&["--stop-signal", "SIGNOPE", "img"], "`--stop-signal`"),
        ] {
            let error = run(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn an_empty_entrypoint_is_none_at_all() {
        assert_eq!(run(&["img"]).unwrap().entrypoint, Entrypoint::Image);
        assert_eq!(
            run(&["--entrypoint=", "img"]).unwrap().entrypoint,
            Entrypoint::Nothing
        );
        assert_eq!(
            run(&["--entrypoint", "sh", "img"]).unwrap().entrypoint,
            Entrypoint::Program("sh".into())
        );
    }
}
