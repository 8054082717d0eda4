//! RUN.

use strata_executor::sandbox::Network;
use strata_parser::instruction::{Network as NetworkFlag, RunForm, RunInstruction, Security};
use strata_parser::{Diagnostic, Diagnostics};

use super::scope::set;
use super::stage::{Applied, DEFAULT_PATH, PlannedHistory, StageState};
use super::{NewVertex, Planner, text};
use crate::graph::{Op, Root, RunOp};

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
        let (argv, shown) = match &run.form {
            RunForm::Shell(text) => (shell_line(state, text), text.clone()),
            RunForm::Exec(words) => {
                let argv: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
                let shown = argv.join(" ");
                (argv, shown)
            }
            RunForm::Script { name, body } => {
                let path = format!("/dev/pipes/{name}");
                script = Some((name.clone(), body.clone()));
                (
                    shell_line(state, &path),
                    format!("<<{name} ({})", first_line(body)),
                )
            }
        };
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
        if let Some(device) = run.devices.first() {
            return Err(applied
                .error(
                    "no-devices",
                    device.span,
                    "`RUN --device` is not supported yet",
                )
                .into());
        }
        let mut mounts = Vec::with_capacity(run.mounts.len());
        for flag in &run.mounts {
            mounts.push(self.mount(state, applied, flag)?);
        }
        let mut env = state.scope.clone();
        if !env.iter().any(|(name, _)| name == "PATH") {
            set(&mut env, "PATH", DEFAULT_PATH.to_owned());
        }
        let args: Vec<(String, String)> = state
            .args
            .iter()
            .map(|(name, value)| {
                let current = super::scope::find(&state.scope, name).map(str::to_owned);
                (
                    name.clone(),
                    current.or_else(|| value.clone()).unwrap_or_default(),
                )
            })
            .collect();
        let reuse = self.reuse_of_command(applied, network);
        let history = text::run(&argv, &args);
        let hostname = self
            .global
            .build_arg("BUILDKIT_SANDBOX_HOSTNAME")
            .unwrap_or(HOST_NAME)
            .to_owned();
        let vertex = self.add_vertex(
            applied.place,
            NewVertex {
                name: format!("{}RUN {}", applied.prefix, one_line(&shown)),
                text: format!("RUN {}", one_line(&shown)),
                parent: state.root,
                op: Op::Run(RunOp {
                    argv,
                    env,
                    hidden_env: self.global.proxies(),
                    cwd: state.workdir().to_owned(),
                    user: state.config.config.user.clone(),
                    network,
                    insecure,
                    mounts,
                    script,
                    hostname,
                }),
                span: applied.at(applied.instruction.span),
                platform: state.platform.clone(),
                reuse,
            },
        );
        state.root = Root::Step(vertex);
        state.vertices.push(vertex);
        state.history.push(PlannedHistory::Layer {
            text: history,
            vertex,
        });
        Ok(())
    }

    fn network(&self, applied: &Applied<'_>, run: &RunInstruction) -> Result<Network, Diagnostic> {
        let Some(flag) = &run.network else {
            return Ok(self.request.network);
        };
        match flag.value {
            NetworkFlag::Default => Ok(self.request.network),
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

fn first_line(body: &str) -> String {
    body.lines().next().unwrap_or_default().to_owned()
}

/// The text on one line, for names.
pub(super) fn one_line(text: &str) -> String {
    text.split(['\n', '\r'])
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
