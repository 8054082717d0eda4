//! RUN.

use std::collections::HashSet;

use strata_executor::sandbox::Network;
use strata_parser::instruction::{Network as NetworkFlag, RunForm, RunInstruction, Security};
use strata_parser::{Diagnostic, Diagnostics};

use super::stage::{Applied, DEFAULT_PATH, StageState};
use super::{NewVertex, Planner, text};
use crate::graph::{MountOp, MountSource, Op, RunOp};

/// Host name of RUN steps, in their keys: always the same, so that machines agree.
const HOST_NAME: &str = "buildkitsandbox";

impl Planner<'_> {
    pub(super) fn run(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        run: &RunInstruction,
    ) -> Result<(), Diagnostics> {
        let mut script = None;
        let argv = match &run.form {
            RunForm::Shell(text) => shell_line(state, text),
            RunForm::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
            RunForm::Script { name, body } => {
                let path = format!("/dev/pipes/{name}");
                script = Some((name.clone(), body.clone()));
                shell_line(state, &path)
            }
        };
        let shown = shown(&applied.instruction.text, &run.form);
        if argv.first().is_none_or(String::is_empty) {
            return Err(applied
                .error(
                    "empty-command",
                    applied.instruction.span,
                    "RUN has no command",
                )
                .into());
        }
        let network = self.network(applied, run)?;
        let insecure = self.security(applied, run)?;
        let (devices, edits) = self.devices(applied, run)?;
        let mut agents = 0;
        let volumes = self.request.volumes.iter().map(|volume| MountOp {
            target: volume.target.clone(),
            source: MountSource::Host {
                path: volume.path.clone(),
                discard: volume.discard,
                devices: volume.devices,
            },
            read_only: volume.read_only,
            words: volume.words,
        });
        // Before the step's own, which may lie in them.
        let mut mounts: Vec<MountOp> = volumes.collect();
        let request = self.request;
        for flag in request.mounts.iter().chain(&run.mounts) {
            let mount: MountOp = self.mount(state, applied, flag, agents)?;
            agents += usize::from(matches!(mount.source, MountSource::Ssh { .. }));
            mounts.push(mount);
        }
        let mut env = state.scope.list().to_vec();
        if state.scope.get("PATH").is_none() {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let args: Vec<(String, String)> = state
            .args
            .list()
            .iter()
            .map(|(name, value)| {
                let current = state.scope.get(name).cloned();
                (
                    name.clone(),
                    current.or_else(|| value.clone()).unwrap_or_default(),
                )
            })
            .collect();
        // What ENV sets hides an argument of that name.
        let env_names: HashSet<&str> = state
            .config
            .config
            .env
            .iter()
            .map(|entry| {
                entry
                    .split_once('=')
                    .map_or(entry.as_str(), |(name, _)| name)
            })
            .collect();
        let arguments = args
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !env_names.contains(name.as_str()))
            .collect();
        let reuse = self.reuse_of_command(applied, &network);
        let history = text::run(&argv, &args);
        let hostname = self
            .request
            .hostname
            .as_deref()
            .or_else(|| self.global.build_arg("BUILDKIT_SANDBOX_HOSTNAME"))
            .unwrap_or(HOST_NAME)
            .to_owned();
        let vertex = self.add_vertex(
            applied.place,
            NewVertex {
                name: format!("{}{shown}", applied.prefix),
                text: shown,
                parent: state.root,
                op: Op::Run(RunOp {
                    argv,
                    env,
                    arguments,
                    hidden_env: self.global.proxies(),
                    cwd: state.workdir().to_owned(),
                    user: state.config.config.user.clone(),
                    network,
                    insecure,
                    mounts,
                    devices,
                    edits,
                    script,
                    hostname,
                }),
                span: applied.at(applied.instruction.span),
                platform: state.platform.clone(),
                reuse,
            },
        );
        state.step(vertex, history);
        Ok(())
    }

    fn network(&self, applied: &Applied<'_>, run: &RunInstruction) -> Result<Network, Diagnostic> {
        let Some(flag) = &run.network else {
            return Ok(self.request.network.clone());
        };
        match flag.value {
            NetworkFlag::Default => Ok(self.request.network.clone()),
            NetworkFlag::None => Ok(Network::None),
            NetworkFlag::Host => {
                self.entitled(applied, "network.host", flag.span)?;
                Ok(Network::Host)
            }
        }
    }

    fn security(&self, applied: &Applied<'_>, run: &RunInstruction) -> Result<bool, Diagnostic> {
        let Some(flag) = &run.security else {
            return Ok(false);
        };
        match flag.value {
            Security::Sandbox => Ok(false),
            Security::Insecure => {
                self.entitled(applied, "security.insecure", flag.span)?;
                Ok(true)
            }
        }
    }

    fn entitled(
        &self,
        applied: &Applied<'_>,
        name: &str,
        span: strata_parser::Span,
    ) -> Result<(), Diagnostic> {
        if self.request.allow.iter().any(|allowed| allowed == name) {
            return Ok(());
        }
        Err(applied
            .error(
                "entitlement",
                span,
                format!("this step wants `{name}`, which is not allowed"),
            )
            .with_help(format!(
                "if you trust this Dockerfile, build with `--allow {name}`"
            )))
    }
}

fn shell_line(state: &StageState, text: &str) -> Vec<String> {
    let mut argv = state.shell();
    argv.push(text.to_owned());
    argv
}

/// The instruction as people know it: flags included, and the first line of a heredoc that is the
/// whole command.
fn shown(instruction: &str, form: &RunForm) -> String {
    let line = one_line(instruction);
    let first = match form {
        RunForm::Shell(text) => first_line(text),
        RunForm::Exec(_) => "",
        RunForm::Script { body, .. } => first_line(body),
    };
    if line.contains(&one_line(first)) {
        line
    } else {
        format!("{line} ({first} …)")
    }
}

fn first_line(body: &str) -> &str {
    body.lines().next().unwrap_or_default()
}

/// The text on one line, for names.
pub(super) fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_with_its_flags_and_the_first_line_of_its_script() {
        let script = |body: &str| RunForm::Script {
            name: "EOT".to_owned(),
            body: body.to_owned(),
        };
        let shell = |text: &str| RunForm::Shell(text.to_owned());
        for (instruction, form, expected) in [
            (
                "RUN --network=none make",
                shell("make"),
                "RUN --network=none make",
            ),
            ("RUN <<EOT", shell("set -e\nx\n"), "RUN <<EOT (set -e …)"),
            (
                "RUN <<EOT",
                script("#!/bin/sh\nx\n"),
                "RUN <<EOT (#!/bin/sh …)",
            ),
            (
                "RUN <<EOT cat",
                shell("<<EOT cat\nx\nEOT\n"),
                "RUN <<EOT cat",
            ),
            ("RUN [\"a\"]", RunForm::Exec(Vec::new()), "RUN [\"a\"]"),
        ] {
            assert_eq!(shown(instruction, &form), expected);
        }
    }
}
