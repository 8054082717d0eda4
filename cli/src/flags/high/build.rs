//! `strata build`

use std::io::Read;
use std::path::PathBuf;

use strata_cache::codec::Codec;
use strata_executor::cdi::SPEC_DIRECTORIES;
use strata_executor::sandbox::Isolation;
use strata_image::export::Encoding;
use strata_image::handover::Engine;
use strata_solver::remote::SignaturePolicy;
use strata_solver::request::BuildRequest;
use strata_solver::request::Context;
use strata_solver::request::ForeignOwners;
use strata_solver::request::Output;
use strata_solver::request::Pull;
use strata_solver::request::SshAgent;

use super::Networking;
use super::Surroundings;
use super::build_args;
use super::check::Call;
use super::check::Method;
use super::check::call;
use super::check::entitlement;
use super::check::ignore_file;
use super::confinement;
use super::each;
use super::flag;
use super::limits;
use super::shm_size;
use super::ulimits;
use crate::error::CommandError;
use crate::flags::annotation;
use crate::flags::attest;
use crate::flags::context::Elsewhere;
use crate::flags::context::Files;
use crate::flags::context::Found;
use crate::flags::context::Source;
use crate::flags::low;
use crate::flags::mount;
use crate::flags::mount::Everywhere;
use crate::flags::named;
use crate::flags::output;
use crate::flags::secret;
use crate::flags::ssh;
use crate::flags::stale;
use crate::flags::value;
use crate::flags::volume;
use crate::metadata;
use crate::progress::Mode;
use crate::sign::Sign;
use crate::verify;

/// A build and what to do with its result.
#[derive(Debug)]
pub(crate) struct Build {
    /// For the solver.
    pub(crate) request: BuildRequest,
    /// Where context and Dockerfile are, if the request doesn't have them yet.
    pub(crate) elsewhere: Option<Elsewhere>,
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
    /// Build twice first, and compare.
    pub(crate) verify: Option<verify::Format>,
    /// How to sign what is pushed.
    pub(crate) sign: Option<Sign>,
    /// What is not done as asked.
    pub(crate) notices: Vec<String>,
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
        let attest::Parsed {
            mut attestations,
            notices,
            ..
        } = attest::attestations(&low.attest, low.provenance.as_deref(), low.sbom.as_deref())
            .map_err(|(name, error)| CommandError::usage(format!("`{name}`: {error}")))?;
        if low.metadata_file.is_some() {
            let value = flag("--metadata-file", surroundings.text(metadata::PROVENANCE))?;
            attestations.metadata =
                flag("--metadata-file", metadata::provenance(value.as_deref()))?;
        }
        let mut tags = each("--tag", &low.tag, value::tag)?;
        let outputs = outputs(low, &mut tags, surroundings)?;
        let pushes = |output: &Output| matches!(output, Output::Registry { .. });
        if low.sign && !outputs.iter().any(pushes) {
            return Err(CommandError::usage(
                "`--sign` signs what is pushed, and nothing is: give `--push` or `--output \
                 type=registry`",
            ));
        }
        let sign = if low.sign {
            let path = flag("--sign", surroundings.text("PATH"))?;
            Some(Sign::new(low.sign_key.clone(), path.as_deref())?)
        } else {
            None
        };
        if low.verify.is_some() && outputs.iter().any(output::writes_stdout) {
            return Err(CommandError::usage(
                "`--verify` writes what it found to standard output, and so does `--output` its \
                 archive: give `dest=FILE`",
            ));
        }
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
        let mut build_args = build_args(&low.build_arg, surroundings)?;
        let labels = each("--label", &low.label, value::assignment)?
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect();
        let mut allow = each("--allow", &low.allow, entitlement)?;
        // That one is no matter of steps.
        allow.retain(|given| given != stale::LEAVE);
        let cdi_directories = if low.cdi_spec_dir.is_empty() {
            SPEC_DIRECTORIES.map(PathBuf::from).to_vec()
        } else {
            low.cdi_spec_dir
                .iter()
                .map(|path| surroundings.path(path))
                .collect()
        };
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
        let epoch = epoch(surroundings, &mut build_args)?;
        let jobs = match low.jobs.as_deref() {
            None => None,
            Some(text) => Some(flag(
                "--jobs",
                text.parse()
                    .ok()
                    .filter(|jobs| (1..=4096).contains(jobs))
                    .ok_or_else(|| format!("`{text}` is not a number from 1 to 4096")),
            )?),
        };
        let platforms = each("--platform", &low.platform, value::platform)?;
        if low.all_platforms && !platforms.is_empty() {
            return Err(CommandError::usage(
                "`--all-platforms`: the base images say which; leave out `--platform`",
            ));
        }
        let limits = limits(&low.limits)?;
        let ulimits = ulimits(&low.ulimit)?;
        let cache_ttl = low
            .cache_ttl
            .as_deref()
            .map(|text| flag("--cache-ttl", crate::human::parse_duration(text)))
            .transpose()?;
        let step_timeout = low
            .step_timeout
            .as_deref()
            .map(|text| flag("--step-timeout", value::timeout(text)))
            .transpose()?;
        let shm_size = shm_size(low.shm_size.as_deref())?;
        let confinement = confinement(&low.security, surroundings)?;
        let hostname = low
            .hostname
            .as_deref()
            .map(|text| flag("--hostname", value::hostname(text)))
            .transpose()?;
        let networking = Networking::new(&low.networking)?;

        let mut ssh: Vec<SshAgent> = Vec::with_capacity(low.ssh.len());
        for text in &low.ssh {
            let new = flag("--ssh", ssh::agent(text, surroundings))?;
            if ssh.iter().any(|agent| agent.id == new.id) {
                let id = new.id;
                return Err(CommandError::usage(format!(
                    "`--ssh`: the ID `{id}` is given twice"
                )));
            }
            ssh.push(new);
        }

        let mut build_contexts = Vec::with_capacity(low.build_context.len());
        for text in &low.build_context {
            build_contexts.push(flag("--build-context", named::context(text, surroundings))?);
        }

        // Last, because it may wait for standard input.
        let found = Found::find(
            &low.context,
            low.file.as_deref(),
            &surroundings.directory,
            stdin,
        )
        .map_err(CommandError::usage)?;
        let (source, elsewhere) = match found {
            Found::Here(source) => (source, None),
            Found::Elsewhere(elsewhere) => {
                let source = Source {
                    dockerfile: Vec::new(),
                    name: String::new(),
                    path: None,
                    context: Context::Empty,
                };
                (source, Some(elsewhere))
            }
        };
        let is_directory = match &elsewhere {
            None => matches!(source.context, Context::Directory(_)),
            Some(elsewhere) => matches!(elsewhere.files, Files::Directory(_)),
        };
        let ignore_file = ignore_file(low.ignorefile.as_deref(), is_directory, surroundings)?;
        let mut ignore_paths = each("--ignore-path", &low.ignore_path, value::layer_path)?;
        ignore_paths.sort();
        ignore_paths.dedup();
        let mut volumes = each("--volume", &low.volume, volume::of_build)?;
        let mut mounts = Vec::new();
        for everywhere in each("--mount", &low.mount, mount::everywhere)? {
            match everywhere {
                Everywhere::Volume(volume) => volumes.push(volume),
                Everywhere::Mount(mount) => mounts.push(mount),
            }
        }
        Ok(Self {
            request: BuildRequest {
                dockerfile: source.dockerfile,
                dockerfile_name: source.name,
                dockerfile_path: source.path,
                ignore_file,
                context: source.context,
                build_contexts,
                target: low.target.clone(),
                build_args,
                labels,
                omit_history: low.omit_history,
                ignore_paths,
                tags,
                outputs,
                signed: SignaturePolicy::default(),
                neutral_modes: low.neutral_modes.unwrap_or(false),
                no_cache: low.no_cache,
                no_cache_filter: low.no_cache_filter.clone(),
                cache_ttl,
                explain: low.explain,
                pull: if low.pull {
                    Pull::Always
                } else {
                    Pull::Missing
                },
                platforms,
                all_platforms: low.all_platforms,
                network: networking.network.unwrap_or_default(),
                allow,
                cdi_directories: Some(cdi_directories),
                secrets,
                ssh,
                volumes,
                mounts,
                limits,
                // What can be had is found out when the process begins.
                isolation: Isolation::default(),
                foreign_owners: match low.foreign_owners {
                    low::Owners::Record => ForeignOwners::Record,
                    low::Owners::Squash => ForeignOwners::Squash,
                    low::Owners::Refuse => ForeignOwners::Refuse,
                },
                step_timeout,
                ulimits,
                shm_size,
                confinement,
                hostname,
                extra_hosts: networking.extra_hosts,
                dns: networking.dns,
                jobs,
                epoch,
                context_time: None,
                origin: None,
                fetched: Vec::new(),
                trial: None,
                attestations,
            },
            elsewhere,
            progress,
            print_id,
            iidfile: low.iidfile.as_deref().map(|path| surroundings.path(path)),
            metadata_file: low
                .metadata_file
                .as_deref()
                .map(|path| surroundings.path(path)),
            call,
            verify: low.verify,
            sign,
            notices,
        })
    }
}

fn outputs(
    low: &low::Build,
    tags: &mut Vec<String>,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Output>, CommandError> {
    let mut outputs = Vec::new();
    let mut store = false;
    for text in &low.output {
        let mut parsed = flag(
            "--output",
            output::output(text, surroundings.stdout_is_terminal),
        )?;
        // Paths are the working directory's, which the solver needn't know.
        if let Some(path) = output::path_mut(&mut parsed.output) {
            *path = surroundings.path(path);
        }
        if let Output::Local {
            destination,
            delete: true,
            ..
        } = &parsed.output
        {
            let allowed = low.allow.iter().any(|given| given == stale::LEAVE);
            flag(
                "--output",
                stale::check(destination, &surroundings.directory, allowed),
            )?;
        }
        store |= parsed.store;
        for name in parsed.names {
            if !tags.contains(&name) {
                tags.push(name);
            }
        }
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
        outputs.push(Output::Registry {
            names: Vec::new(),
            by_digest: false,
            encoding: Encoding::new(Codec::GZIP),
        });
    }
    let in_store = |output: &Output| matches!(output, Output::Store { .. });
    let stored = || Output::Store {
        encoding: Encoding::new(Codec::GZIP),
    };
    let mut loads: Vec<Option<Engine>> = low.load.iter().map(|load| load.engine()).collect();
    loads.extend(store.then_some(None));
    for load in loads {
        match load {
            None if outputs.iter().any(in_store) => {}
            None => outputs.push(stored()),
            Some(engine) => {
                let output = Output::Engine {
                    engine,
                    names: Vec::new(),
                };
                if !outputs.contains(&output) {
                    outputs.push(output);
                }
            }
        }
    }
    if outputs.is_empty() {
        outputs.push(stored());
    }
    for text in &low.annotation {
        let (places, name, value) = flag("--annotation", annotation::of_flag(text))?;
        let mut taken = false;
        for encoding in outputs.iter_mut().filter_map(output::encoding_mut) {
            for place in &places {
                flag(
                    "--annotation",
                    annotation::add(encoding, place, &name, &value),
                )?;
            }
            taken = true;
        }
        if !taken {
            return Err(CommandError::usage(
                "`--annotation`: only manifests have annotations: give an output that has one, \
                 such as `--push` or `-o type=oci,dest=FILE`",
            ));
        }
    }
    let nameless =
        |output: &Output| matches!(output, Output::Registry { names, .. } if names.is_empty());
    if tags.is_empty() && outputs.iter().any(nameless) {
        let name = if low.push { "--push" } else { "--output" };
        return Err(CommandError::usage(format!(
            "`{name}`: an image needs a name to be uploaded: give `--tag`"
        )));
    }
    let engine = outputs.iter().find_map(|output| match output {
        Output::Engine {
            engine: engine @ Engine::Containerd,
            names,
        } if names.is_empty() => Some(engine),
        _ => None,
    });
    if let Some(engine) = engine.filter(|_| tags.is_empty()) {
        return Err(CommandError::usage(format!(
            "{engine} keeps no image without a name: give `--tag`"
        )));
    }
    Ok(outputs)
}

/// The environment's `SOURCE_DATE_EPOCH`. If it is no number it names something that the solver finds, as
/// the build argument does.
fn epoch(
    surroundings: &Surroundings<'_>,
    build_args: &mut Vec<(String, String)>,
) -> Result<Option<i64>, CommandError> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    match flag(NAME, surroundings.text(NAME))? {
        Some(text) if !text.is_empty() => match text.parse::<i64>() {
            Ok(seconds) if seconds >= 0 => Ok(Some(seconds)),
            Ok(_) => Err(CommandError::usage(format!(
                "`{NAME}`: `{text}` is before 1970"
            ))),
            Err(_) => {
                if !build_args.iter().any(|(name, _)| name == NAME) {
                    build_args.push((NAME.to_owned(), text));
                }
                Ok(None)
            }
        },
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::surroundings;
    use super::*;
    use clap::Parser;

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
        assert!(matches!(build.request.outputs[..], [Output::Store { .. }]));
        assert_eq!(build.request.dockerfile, b"FROM scratch\n");
        assert_eq!(build.request.dockerfile_name, "Dockerfile");
        assert_eq!(build.request.jobs, None);
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
            (&["--build-context", "x"], "`--build-context`"),
            (&["--build-context", "x=missing"], "`missing`"),
            (&["--build-context", "=."], "name"),
            (&["--build-context", "x=docker-image://A B"], "A B"),
            (&["--ssh", "default"], "SSH_AUTH_SOCK"),
            (&["--ssh", "x=/dev/null"], "not the socket"),
            (&["--ssh", "=x"], "no ID"),
            (&["--memory", "lots"], "`--memory`"),
            (&["--memory-swap", "1g"], "needs `--memory`"),
            (&["-m", "2g", "--memory-swap", "1g"], "less than"),
            (&["--cpus", "none"], "`--cpus`"),
            (&["--cpus", "1", "--cpu-quota", "5000"], "contradict"),
            (&["--cpu-quota", "5"], "`--cpu-quota`"),
            (&["--cpu-shares", "1"], "`--cpu-shares`"),
            (&["--cpuset-cpus", "x"], "`--cpuset-cpus`"),
            (&["--blkio-weight", "9"], "`--blkio-weight`"),
            (&["--device-write-bps", "/dev/null:1m"], "block device"),
            (&["--step-timeout", "0"], "`--step-timeout`"),
            (&["--pids-limit", "x"], "`--pids-limit`"),
            (&["--jobs", "0"], "`--jobs`"),
            (&["--network", "container:x"], "`--network`"),
            (&["--dns", "x"], "`--dns`"),
            (&["--dns-search", "a b"], "`--dns-search`"),
            (&["--dns-option", "a\nb"], "`--dns-option`"),
            (&["--allow", "everything"], "`--allow`"),
            (&["--allow", "device=gpu"], "`--allow`"),
            (&["--add-host", "x"], "`--add-host`"),
            (&["--ulimit", "x"], "`--ulimit`"),
            (&["--shm-size", "x"], "`--shm-size`"),
            (&["--secret", "id=x,src=/nonexistent"], "`--secret`"),
            (
                &["--secret", "id=FROM_ENV", "--secret", "id=FROM_ENV"],
                "twice",
            ),
            (&["--platform", "linux/amd64,a/b/c/d"], "`--platform`"),
            (&["--platform", "amd64", "--all-platforms"], "`--platform`"),
            (&["--push"], "`--push`"),
            (&["--sign"], "`--push`"),
            (&["--sign-key", "k"], "--sign"),
            (&["--call", "dance"], "`--call`"),
            (&["--call", "outline,format=xml"], "`xml`"),
            (&["--call", "outline,json"], "`json`"),
            (&["--call", "check", "--check"], "--check"),
            (&["--provenance", "mode=most"], "`--provenance`"),
            (&["--sbom=maybe"], "`--sbom`"),
            (&["--attest", "x"], "`--attest`"),
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
        let made = build(&["-o", "out"]).unwrap();
        assert!(matches!(
            made.request.outputs.as_slice(),
            [Output::Local { destination, .. }] if destination.is_absolute()
        ));
        let made = build(&["-o", "out", "--load"]).unwrap();
        assert!(matches!(
            made.request.outputs.last(),
            Some(Output::Store { .. })
        ));
        let made = build(&["--load=podman", "--load=podman"]).unwrap();
        let podman = Output::Engine {
            engine: Engine::Podman,
            names: Vec::new(),
        };
        assert_eq!(made.request.outputs, [podman]);
        let made = build(&["--load", "--load=docker", "--load=true"]).unwrap();
        assert_eq!(made.request.outputs.len(), 2);
        for arguments in [&["--load=containerd"][..], &["-o", "type=containerd"]] {
            let error = build(arguments).unwrap_err();
            assert!(error.contains("--tag"), "{}", error);
        }
        assert!(build(&["--load=containerd", "-t", "x"]).is_ok());
    }
}
