//! What was meant: flags checked against each other and turned into requests. Every error names
//! its flag.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use strata_cache::codec::Codec;
use strata_executor::sandbox::Limits;
use strata_executor::sandbox::Mount;
use strata_executor::sandbox::Network;
use strata_solver::request::BuildRequest;
use strata_solver::request::Output;
use strata_solver::request::Pull;

use super::context::Source;
use super::low;
use super::output;
use super::secret;
use super::value;
use super::volume;
use crate::error::CommandError;
use crate::human;
use crate::progress::Mode;

/// What flags are looked up in.
pub(crate) struct Surroundings<'a> {
    /// The working directory.
    pub(crate) directory: PathBuf,
    /// A variable of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether an archive on standard output would land on a screen.
    pub(crate) stdout_is_terminal: bool,
    /// Number of CPUs.
    pub(crate) cores: usize,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// The environment of this process.
fn process_variable(name: &str) -> Option<OsString> {
    // A name with `=` or NUL can't be in an environment.
    if name.is_empty() || name.contains(['=', '\0']) {
        return None;
    }
    std::env::var_os(name)
}

impl Surroundings<'static> {
    /// Those of this process.
    pub(crate) fn of_process() -> Result<Self, CommandError> {
        let directory = std::env::current_dir().map_err(|error| {
            CommandError::failed(format!("the working directory can't be used: {error}"))
        })?;
        Ok(Self {
            directory,
            variable: &process_variable,
            stdout_is_terminal: std::io::stdout().is_terminal(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        })
    }
}

impl Surroundings<'_> {
    /// `path` from the working directory.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        (self.variable)(name)
            .map(|value| {
                value
                    .into_string()
                    .map_err(|_| format!("variable `{name}` of the environment is not UTF-8"))
            })
            .transpose()
    }
}

/// Puts the flag's name before what is wrong with its value.
fn flag<T>(name: &str, result: Result<T, String>) -> Result<T, CommandError> {
    result.map_err(|message| CommandError::usage(format!("`{name}`: {message}")))
}

/// The same for every value of a flag.
fn each<T>(
    name: &str,
    values: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, CommandError> {
    values.iter().map(|value| flag(name, read(value))).collect()
}

/// A build and what to do with its result.
#[derive(Debug)]
pub(crate) struct Build {
    /// For the solver.
    pub(crate) request: BuildRequest,
    /// How to show progress.
    pub(crate) progress: Mode,
    /// Write the image ID to standard output.
    pub(crate) print_id: bool,
    /// Where to write the image ID.
    pub(crate) iidfile: Option<PathBuf>,
    /// Where to write the metadata.
    pub(crate) metadata_file: Option<PathBuf>,
    /// What to do with the Dockerfile in place of building it.
    pub(crate) call: Option<Call>,
}

/// Questions that a Dockerfile answers without being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// Which.
    pub(crate) method: Method,
    /// Answer in JSON.
    pub(crate) json: bool,
}

/// See [`Call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// What is wrong with it.
    Check,
    /// What the target takes.
    Outline,
    /// What can be built.
    Targets,
}

/// `METHOD[,format=FORMAT]`, as docker buildx has it.
fn call(text: &str) -> Result<Option<Call>, String> {
    let mut method = text;
    let mut json = false;
    if let Some((name, options)) = text.split_once(',') {
        method = name;
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("format", "json")) => json = true,
                Some(("format", "text" | "")) => json = false,
                Some(("format", format)) => {
                    return Err(format!("`{format}` is not a format: expected text or json"));
                }
                _ => return Err(format!("`{option}` is not an option: expected format=…")),
            }
        }
    }
    let method = match method {
        "build" | "" => return Ok(None),
        "check" | "lint" => Method::Check,
        "outline" => Method::Outline,
        "targets" => Method::Targets,
        other => {
            return Err(format!(
                "`{other}` is not a method: expected build, check, outline or targets"
            ));
        }
    };
    Ok(Some(Call { method, json }))
}

/// A Dockerfile to look at.
#[derive(Debug)]
pub(crate) struct Check {
    /// For the solver: what a build would be.
    pub(crate) request: BuildRequest,
}

impl Check {
    /// Checks the flags of `strata check`.
    pub(crate) fn new(
        low: &low::Check,
        surroundings: &Surroundings<'_>,
        stdin: &mut dyn Read,
    ) -> Result<Self, CommandError> {
        let build_args = build_args(&low.build_arg, surroundings)?;
        let platform = low
            .platform
            .as_deref()
            .map(|text| flag("--platform", value::platform(text)))
            .transpose()?;
        let source = Source::find(
            &low.context,
            low.file.as_deref(),
            &surroundings.directory,
            stdin,
        )
        .map_err(CommandError::usage)?;
        if low.fix && source.path.is_none() {
            return Err(CommandError::usage(
                "`--fix` needs a file to write to, and standard input is none",
            ));
        }
        Ok(Self {
            request: BuildRequest {
                dockerfile: source.dockerfile,
                dockerfile_name: source.name,
                dockerfile_path: source.path,
                context: source.context,
                target: None,
                build_args,
                labels: Vec::new(),
                tags: Vec::new(),
                outputs: vec![Output::CacheOnly],
                no_cache: false,
                pull: Pull::Never,
                platform,
                network: Network::Host,
                allow: entitlements(),
                secrets: Vec::new(),
                limits: Limits::default(),
                ulimits: BTreeMap::new(),
                shm_size: SHM_SIZE,
                extra_hosts: Vec::new(),
                jobs: 1,
                epoch: None,
            },
        })
    }
}

/// Everything that `--allow` can give. Who only looks needs no leave.
pub(crate) fn entitlements() -> Vec<String> {
    ENTITLEMENTS.map(str::to_owned).to_vec()
}

const ENTITLEMENTS: [&str; 2] = ["network.host", "security.insecure"];

fn build_args(
    given: &[String],
    surroundings: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, CommandError> {
    let mut build_args = Vec::new();
    for (name, given) in each("--build-arg", given, value::assignment)? {
        // A name that the environment lacks stays unset, as for docker build.
        let found = match given {
            Some(text) => Some(text),
            None => flag("--build-arg", surroundings.text(&name))?,
        };
        if let Some(text) = found {
            build_args.push((name, text));
        }
    }
    Ok(build_args)
}

impl Build {
    /// Checks the flags of `strata build`.
    pub(crate) fn new(
        low: &low::Build,
        surroundings: &Surroundings<'_>,
        stdin: &mut dyn Read,
    ) -> Result<Self, CommandError> {
        let progress = match (low.quiet, low.progress) {
            (true, None | Some(Mode::Quiet | Mode::Auto)) => Mode::Quiet,
            (true, Some(mode)) => {
                return Err(CommandError::usage(
                    format!("`--quiet` and `--progress {mode:?}` contradict each other")
                        .to_lowercase(),
                ));
            }
            (false, mode) => mode.unwrap_or_default(),
        };
        for (name, value) in [("--provenance", &low.provenance), ("--sbom", &low.sbom)] {
            if value
                .as_deref()
                .is_some_and(|value| !["false", "0"].contains(&value))
            {
                return Err(CommandError::usage(format!(
                    "`{name}`: attestations are not supported yet"
                )));
            }
        }
        let mut tags = each("--tag", &low.tag, value::tag)?;
        let outputs = outputs(low, &mut tags, surroundings)?;
        let print_id = low.quiet;
        if print_id && outputs.iter().any(output::writes_stdout) {
            return Err(CommandError::usage(
                "`--quiet` writes the image ID to standard output, and so does `--output` its \
                 archive: give `dest=FILE`",
            ));
        }

        let call = match low.call.as_deref() {
            _ if low.check => Some(Call {
                method: Method::Check,
                json: false,
            }),
            None => None,
            Some(text) => flag("--call", call(text))?,
        };
        let build_args = build_args(&low.build_arg, surroundings)?;
        let labels = each("--label", &low.label, value::assignment)?
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect();
        for entitlement in &low.allow {
            if !ENTITLEMENTS.contains(&entitlement.as_str()) {
                return Err(CommandError::usage(format!(
                    "`--allow`: `{entitlement}` is not an entitlement: expected network.host or \
                     security.insecure"
                )));
            }
        }
        let mut secrets = Vec::with_capacity(low.secret.len());
        for text in &low.secret {
            let new = flag("--secret", secret::secret(text, surroundings))?;
            if secrets
                .iter()
                .any(|secret: &strata_solver::request::Secret| secret.id == new.id)
            {
                return Err(CommandError::usage(format!(
                    "`--secret`: the ID `{}` is given twice",
                    new.id
                )));
            }
            secrets.push(new);
        }
        let epoch = flag("SOURCE_DATE_EPOCH", epoch(surroundings))?;
        let jobs = match low.jobs.as_deref() {
            None => surroundings.cores,
            Some(text) => flag(
                "--jobs",
                text.parse()
                    .ok()
                    .filter(|jobs| (1..=4096).contains(jobs))
                    .ok_or_else(|| format!("`{text}` is not a number from 1 to 4096")),
            )?,
        };
        let platform = low
            .platform
            .as_deref()
            .map(|text| flag("--platform", value::platform(text)))
            .transpose()?;
        let limits = limits(&low.limits)?;
        let ulimits = ulimits(&low.ulimit)?;
        let shm_size = shm_size(low.shm_size.as_deref())?;
        let extra_hosts = each("--add-host", &low.add_host, value::extra_host)?;
        let network = flag("--network", value::network(&low.network))?;

        // Last, because it may wait for standard input.
        let source = Source::find(
            &low.context,
            low.file.as_deref(),
            &surroundings.directory,
            stdin,
        )
        .map_err(CommandError::usage)?;
        Ok(Self {
            request: BuildRequest {
                dockerfile: source.dockerfile,
                dockerfile_name: source.name,
                dockerfile_path: source.path,
                context: source.context,
                target: low.target.clone(),
                build_args,
                labels,
                tags,
                outputs,
                no_cache: low.no_cache,
                pull: if low.pull {
                    Pull::Always
                } else {
                    Pull::Missing
                },
                platform,
                network,
                allow: low.allow.clone(),
                secrets,
                limits,
                ulimits,
                shm_size,
                extra_hosts,
                jobs,
                epoch,
            },
            progress,
            print_id,
            iidfile: low.iidfile.as_deref().map(|path| surroundings.path(path)),
            metadata_file: low
                .metadata_file
                .as_deref()
                .map(|path| surroundings.path(path)),
            call,
        })
    }
}

fn outputs(
    low: &low::Build,
    tags: &mut Vec<String>,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Output>, CommandError> {
    let mut outputs = Vec::new();
    for text in &low.output {
        let mut parsed = flag(
            "--output",
            output::output(text, surroundings.stdout_is_terminal),
        )?;
        // Paths are the working directory's, which the solver needn't know.
        if let Some(path) = output::path_mut(&mut parsed.output) {
            *path = surroundings.path(path);
        }
        tags.extend(parsed.name.filter(|name| !tags.contains(name)));
        outputs.push(parsed.output);
    }
    if outputs
        .iter()
        .filter(|output| output::writes_stdout(output))
        .count()
        > 1
    {
        return Err(CommandError::usage(
            "`--output`: only one output can be written to standard output",
        ));
    }
    if low.push {
        let codec = Codec::Gzip(6);
        outputs.push(Output::Registry { name: None, codec });
    }
    if low.load && !outputs.contains(&Output::Store) {
        outputs.push(Output::Store);
    }
    if outputs.is_empty() {
        outputs.push(Output::Store);
    }
    let nameless = |output: &Output| matches!(output, Output::Registry { name: None, .. });
    if tags.is_empty() && outputs.iter().any(nameless) {
        let name = if low.push { "--push" } else { "--output" };
        return Err(CommandError::usage(format!(
            "`{name}`: an image needs a name to be uploaded: give `--tag`"
        )));
    }
    Ok(outputs)
}

fn epoch(surroundings: &Surroundings<'_>) -> Result<Option<i64>, String> {
    match surroundings.text("SOURCE_DATE_EPOCH")? {
        Some(text) if !text.is_empty() => text
            .parse()
            .ok()
            .filter(|seconds| *seconds >= 0)
            .map(Some)
            .ok_or_else(|| format!("`{text}` is not a number of seconds since 1970")),
        _ => Ok(None),
    }
}

fn limits(low: &low::Limits) -> Result<Limits, CommandError> {
    let memory = low
        .memory
        .as_deref()
        .map(|text| flag("--memory", value::memory(text)))
        .transpose()?;
    let memory_swap = match low.memory_swap.as_deref() {
        None => None,
        Some("-1") => Some(u64::MAX),
        Some(text) => Some(flag("--memory-swap", value::memory(text))?),
    };
    match (memory, memory_swap) {
        (None, Some(_)) => {
            return Err(CommandError::usage("`--memory-swap` needs `--memory`"));
        }
        (Some(memory), Some(both)) if both < memory => {
            return Err(CommandError::usage(
                "`--memory-swap` is memory and swap together and can't be less than `--memory`",
            ));
        }
        _ => {}
    }
    let cpus = low
        .cpus
        .as_deref()
        .map(|text| flag("--cpus", value::cpus(text)))
        .transpose()?;
    let pids = match low.pids_limit.as_deref() {
        None | Some("-1" | "0") => None,
        Some(text) => Some(flag(
            "--pids-limit",
            text.parse()
                .map_err(|_| format!("`{text}` is not a number of processes")),
        )?),
    };
    Ok(Limits {
        memory,
        memory_swap,
        cpus,
        pids,
    })
}

fn ulimits(values: &[String]) -> Result<BTreeMap<String, (u64, u64)>, CommandError> {
    Ok(each("--ulimit", values, value::ulimit)?
        .into_iter()
        .collect())
}

/// Docker's size of /dev/shm.
const SHM_SIZE: u64 = 64 << 20;

fn shm_size(text: Option<&str>) -> Result<u64, CommandError> {
    match text {
        None => Ok(SHM_SIZE),
        Some(text) => match flag("--shm-size", human::parse_size(text))? {
            0 => Ok(SHM_SIZE),
            size => Ok(size),
        },
    }
}

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
    pub(crate) network: Network,
    /// Host name.
    pub(crate) hostname: Option<String>,
    /// Lines for /etc/hosts.
    pub(crate) extra_hosts: Vec<(String, String)>,
    /// Limits by control group.
    pub(crate) limits: Limits,
    /// rlimits.
    pub(crate) ulimits: BTreeMap<String, (u64, u64)>,
    /// Bytes of /dev/shm.
    pub(crate) shm_size: u64,
    /// All capabilities, no filter.
    pub(crate) privileged: bool,
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
            mounts: each("--volume", &low.volume, volume::volume)?,
            interactive: low.interactive,
            tty: low.tty,
            entrypoint: match low.entrypoint.as_deref() {
                None => Entrypoint::Image,
                Some("") => Entrypoint::Nothing,
                Some(program) => Entrypoint::Program(program.to_owned()),
            },
            network: flag("--network", value::network(&low.network))?,
            hostname: low
                .hostname
                .as_deref()
                .map(|text| flag("--hostname", value::hostname(text)))
                .transpose()?,
            extra_hosts: each("--add-host", &low.add_host, value::extra_host)?,
            limits: limits(&low.limits)?,
            ulimits: ulimits(&low.ulimit)?,
            shm_size: shm_size(low.shm_size.as_deref())?,
            privileged: low.privileged,
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

/// What `strata cache prune` removes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prune {
    /// Everything that nothing needs.
    pub(crate) all: bool,
    /// What was used in this time stays.
    pub(crate) keep_duration: Option<Duration>,
    /// What fits stays, in bytes.
    pub(crate) max_used_space: Option<u64>,
    /// Remove nothing.
    pub(crate) dry_run: bool,
}

impl Prune {
    /// Checks the flags of `strata cache prune`.
    pub(crate) fn new(low: &low::CachePrune) -> Result<Self, CommandError> {
        let keep_duration = match (&low.keep_duration, &low.filter) {
            (Some(text), _) => Some(flag("--keep-duration", human::parse_duration(text))?),
            (None, Some(text)) => Some(flag("--filter", until(text))?),
            (None, None) => None,
        };
        let max_used_space = low
            .max_used_space
            .as_deref()
            .map(|text| flag("--max-used-space", human::parse_size(text)))
            .transpose()?;
        Ok(Self {
            all: low.all,
            keep_duration,
            max_used_space,
            dry_run: low.dry_run,
        })
    }
}

fn until(text: &str) -> Result<Duration, String> {
    match text.split_once('=') {
        Some(("until", span)) => human::parse_duration(span),
        Some((key, _)) => Err(format!("`{key}` is not supported: expected `until=SPAN`")),
        None => Err(format!("`{text}` is not of the form `until=SPAN`")),
    }
}

/// Compression of an archive or an upload.
pub(crate) fn compression(text: &str) -> Result<Codec, CommandError> {
    match text {
        "gzip" => Ok(Codec::Gzip(6)),
        "zstd" => Ok(Codec::Zstd(3)),
        "uncompressed" => Ok(Codec::None),
        other => Err(CommandError::usage(format!(
            "`--compression`: `{other}` is not supported: expected gzip, zstd or uncompressed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn surroundings(directory: &Path) -> Surroundings<'static> {
        Surroundings {
            directory: directory.to_owned(),
            variable: &|name| match name {
                "FROM_ENV" => Some("env-value".into()),
                "SOURCE_DATE_EPOCH" => Some("1700000000".into()),
                _ => None,
            },
            stdout_is_terminal: false,
            cores: 3,
        }
    }

    fn build(arguments: &[&str]) -> Result<Build, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        let line = ["strata", "build"].iter().chain(arguments).chain(&["."]);
        let low::Command::Build(low) = low::Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        else {
            panic!("not a build");
        };
        Build::new(&low, &surroundings(directory.path()), &mut &b""[..])
            .map_err(|error| error.message())
    }

    #[test]
    fn without_flags_the_image_goes_into_the_store() {
        let build = build(&[]).unwrap();
        assert_eq!(build.request.outputs, [Output::Store]);
        assert_eq!(build.request.dockerfile, b"FROM scratch\n");
        assert_eq!(build.request.dockerfile_name, "Dockerfile");
        assert_eq!(build.request.jobs, 3);
        assert_eq!(build.request.epoch, Some(1_700_000_000));
        assert_eq!(build.request.shm_size, 64 << 20);
        assert_eq!(build.progress, Mode::Auto);
    }

    #[test]
    fn build_arguments_come_from_the_environment_or_stay_unset() {
        let build = build(&[
            "--build-arg",
            "A=1",
            "--build-arg",
            "FROM_ENV",
            "--build-arg",
            "UNSET",
            "--build-arg",
            "E=",
        ])
        .unwrap();
        let expected = [("A", "1"), ("FROM_ENV", "env-value"), ("E", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(build.request.build_args, expected);
    }

    #[test]
    fn errors_name_their_flag() {
        for (arguments, part) in [
            (&["--build-arg", "=x"][..], "`--build-arg`"),
            (&["--output", "type=x"], "`--output`"),
            (&["-o", "-", "-o", "type=oci"], "only one"),
            (&["-o", "-", "-q"], "`--quiet`"),
            (&["-q", "--progress", "plain"], "contradict"),
            (&["--memory", "lots"], "`--memory`"),
            (&["--memory-swap", "1g"], "needs `--memory`"),
            (&["-m", "2g", "--memory-swap", "1g"], "less than"),
            (&["--cpus", "none"], "`--cpus`"),
            (&["--pids-limit", "x"], "`--pids-limit`"),
            (&["--jobs", "0"], "`--jobs`"),
            (&["--network", "bridge"], "`--network`"),
            (&["--allow", "everything"], "`--allow`"),
            (&["--add-host", "x"], "`--add-host`"),
            (&["--ulimit", "x"], "`--ulimit`"),
            (&["--shm-size", "x"], "`--shm-size`"),
            (&["--secret", "id=x,src=/nonexistent"], "`--secret`"),
            (
                &["--secret", "id=FROM_ENV", "--secret", "id=FROM_ENV"],
                "twice",
            ),
            (&["--platform", "linux/amd64,linux/arm64"], "`--platform`"),
            (&["--push"], "`--push`"),
            (&["--call", "dance"], "`--call`"),
            (&["--call", "outline,format=xml"], "`xml`"),
            (&["--call", "outline,json"], "`json`"),
            (&["--call", "check", "--check"], "--check"),
            (&["--provenance", "mode=max"], "`--provenance`"),
            (&["--sbom=true"], "`--sbom`"),
        ] {
            let error = build(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_call_takes_the_place_of_building() {
        for (arguments, method, json) in [
            (&["--check"][..], Some(Method::Check), false),
            (&["--call", "build"], None, false),
            (&["--call", "lint"], Some(Method::Check), false),
            (&["--call=outline,format=json"], Some(Method::Outline), true),
            (
                &["--call", "targets,format=text"],
                Some(Method::Targets),
                false,
            ),
        ] {
            let call = build(arguments).unwrap().call;
            assert_eq!(call, method.map(|method| Call { method, json }));
        }
    }

    #[test]
    fn flags_of_docker_that_change_nothing_are_taken() {
        for arguments in [
            &["--rm", "--force-rm"][..],
            &["--rm=true", "--provenance=false", "--sbom", "0"],
        ] {
            assert!(build(arguments).is_ok(), "{arguments:?}");
        }
    }

    #[test]
    fn outputs_replace_the_store_unless_it_is_asked_for() {
        let build = build(&["-o", "out", "--load", "--load"]);
        assert!(build.is_err(), "a switch can't be given twice");
        let build = self::build(&["-o", "out"]).unwrap();
        assert!(matches!(
            build.request.outputs.as_slice(),
            [Output::Local { destination }] if destination.is_absolute()
        ));
        let build = self::build(&["-o", "out", "--load"]).unwrap();
        assert_eq!(build.request.outputs.last(), Some(&Output::Store));
    }

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

    fn prune(arguments: &[&str]) -> Result<Prune, String> {
        let line = ["strata", "cache", "prune"].iter().chain(arguments);
        let low::Command::Cache(low::Cache::Prune(low)) = low::Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        else {
            panic!("not a prune");
        };
        Prune::new(&low).map_err(|error| error.message())
    }

    #[test]
    fn prune_reads_spans_and_sizes() {
        let expected = Prune {
            all: true,
            keep_duration: Some(Duration::from_hours(24)),
            max_used_space: Some(20 << 30),
            dry_run: false,
        };
        for arguments in [
            ["-a", "--keep-duration", "24h", "--max-used-space", "20g"],
            ["-a", "--filter", "until=24h", "--keep-storage", "20g"],
        ] {
            assert_eq!(prune(&arguments).as_ref(), Ok(&expected));
        }
        for (arguments, part) in [
            (["--filter", "label=x"], "`--filter`"),
            (["--filter", "24h"], "`--filter`"),
            (["--keep-duration", "24"], "`--keep-duration`"),
            (["--max-used-space", "x"], "`--max-used-space`"),
        ] {
            let error = prune(&arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
