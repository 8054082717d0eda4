//! Instructions that change the config, and the switch over all of them.

use strata_image::config::Healthcheck as HealthcheckConfig;
use strata_parser::expose::Ports;
use strata_parser::instruction::{
    ArgInstruction, Command, Healthcheck, PairsInstruction, VolumeInstruction,
};
use strata_parser::{Diagnostic, Diagnostics, InstructionKind, Spanned};

use super::scope::expand_error;
use super::stage::{Applied, StageState};
use super::{NewVertex, Planner, join_path, text};
use crate::graph::{Op, Reuse, WorkdirOp};

impl Planner<'_> {
    /// Applies one instruction to `state`.
    pub(super) fn apply(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
    ) -> Result<(), Diagnostics> {
        match &applied.instruction.kind {
            InstructionKind::Run(run) => self.run(state, applied, run)?,
            InstructionKind::Copy(copy) => self.copy(state, applied, copy, false)?,
            InstructionKind::Add(copy) => self.copy(state, applied, copy, true)?,
            InstructionKind::Env(pairs) => self.env(state, applied, pairs)?,
            InstructionKind::Label(pairs) => self.label(state, applied, pairs)?,
            InstructionKind::Arg(arg) => self.arg(state, applied, arg)?,
            InstructionKind::Workdir(path) => self.workdir(state, applied, path)?,
            InstructionKind::User(user) => {
                let user = applied.expand(state, user, &mut self.warnings)?;
                state.config_history(format!("USER {user}"));
                state.runtime().user = user;
            }
            InstructionKind::Volume(volume) => self.volume(state, applied, volume)?,
            InstructionKind::Expose(words) => self.expose(state, applied, words)?,
            InstructionKind::Cmd(command) => {
                let argv = command_line(state, command);
                state.config_history(text::quoted_list("CMD", &argv));
                let runtime = state.runtime();
                runtime.cmd = Some(argv);
                // In either form, as images of other builders have it.
                runtime.args_escaped = true;
                state.cmd_set = true;
            }
            InstructionKind::Entrypoint(command) => {
                let argv = command_line(state, command);
                state.config_history(text::quoted_list("ENTRYPOINT", &argv));
                let cmd_set = state.cmd_set;
                let runtime = state.runtime();
                runtime.entrypoint = Some(argv).filter(|argv| !argv.is_empty());
                if !cmd_set {
                    // A CMD of the base was meant for the base's entry point.
                    runtime.cmd = None;
                }
            }
            InstructionKind::Shell(words) => {
                let words: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
                state.config_history(text::plain_list("SHELL", &words));
                state.runtime().shell = words;
            }
            InstructionKind::Healthcheck(check) => healthcheck(state, check),
            InstructionKind::Stopsignal(word) => {
                let signal = applied.expand(state, word, &mut self.warnings)?;
                if strata_parser::signal::parse(&signal).is_none() {
                    return Err(applied
                        .error(
                            "bad-signal",
                            word.span,
                            format!("`{signal}` is not a signal"),
                        )
                        .with_help("give a name such as `SIGTERM`, or a number")
                        .into());
                }
                state.config_history(format!("STOPSIGNAL {signal}"));
                state.runtime().stop_signal = signal;
            }
            InstructionKind::Onbuild(trigger) => {
                state.runtime().on_build.push(trigger.text.clone());
            }
            InstructionKind::Maintainer(author) => {
                state.config_history(format!("MAINTAINER {}", author.value));
                state.config.author = Some(author.value.clone());
            }
        }
        Ok(())
    }

    /// Expands all pairs with the variables as they were before the instruction.
    fn pairs(
        &mut self,
        state: &StageState,
        applied: &Applied<'_>,
        pairs: &PairsInstruction,
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut expanded = Vec::with_capacity(pairs.pairs.len());
        for pair in &pairs.pairs {
            let key = applied.expand(state, &pair.key, &mut self.warnings)?;
            if key.is_empty() {
                return Err(applied.error(
                    "blank-name",
                    pair.key.span,
                    format!("{} names can not be blank", applied.instruction.name()),
                ));
            }
            let value = applied.expand(state, &pair.value, &mut self.warnings)?;
            expanded.push((key, value));
        }
        Ok(expanded)
    }

    fn env(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        pairs: &PairsInstruction,
    ) -> Result<(), Diagnostic> {
        let pairs = self.pairs(state, applied, pairs)?;
        state.config_history(text::pairs("ENV", &pairs));
        for (name, value) in pairs {
            state.set_env(&name, value);
        }
        Ok(())
    }

    fn label(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        pairs: &PairsInstruction,
    ) -> Result<(), Diagnostic> {
        let pairs = self.pairs(state, applied, pairs)?;
        state.config_history(text::pairs("LABEL", &pairs));
        state.runtime().labels.extend(pairs);
        Ok(())
    }

    fn arg(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        arg: &ArgInstruction,
    ) -> Result<(), Diagnostic> {
        let mut shown = "ARG".to_owned();
        for item in &arg.items {
            let name = &item.name.value;
            let value = match (self.global.build_arg(name), &item.default) {
                (Some(value), _) => Some(value.to_owned()),
                // Unlike ENV, an ARG sees what the same line set before it.
                (None, Some(default)) => {
                    Some(applied.expand(state, default, &mut self.warnings)?)
                }
                (None, None) => self.global.get(name).map(str::to_owned),
            };
            shown.push(' ');
            shown.push_str(name);
            if let Some(value) = &value {
                shown.push('=');
                shown.push_str(value);
            }
            state.set_arg(name, value);
        }
        state.config_history(shown);
        Ok(())
    }

    fn workdir(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        word: &Spanned<String>,
    ) -> Result<(), Diagnostic> {
        let written = applied.expand(state, word, &mut self.warnings)?;
        let path = join_path(state.workdir(), &written);
        state.runtime().working_dir.clone_from(&path);
        let history = format!("WORKDIR {path}");
        if path == "/" {
            state.config_history(history);
            return Ok(());
        }
        let vertex = self.add_vertex(
            applied.place,
            NewVertex {
                name: format!("{}WORKDIR {written}", applied.prefix),
                text: history.clone(),
                parent: state.root,
                op: Op::Workdir(WorkdirOp {
                    path,
                    user: state.config.config.user.clone(),
                }),
                span: applied.at(applied.instruction.span),
                platform: state.platform.clone(),
                reuse: Reuse::default(),
            },
        );
        state.step(vertex, history);
        Ok(())
    }

    fn volume(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        volume: &VolumeInstruction,
    ) -> Result<(), Diagnostic> {
        let mut paths = Vec::with_capacity(volume.paths.len());
        for word in &volume.paths {
            let path = applied.expand(state, word, &mut self.warnings)?;
            if path.is_empty() {
                return Err(applied.error(
                    "blank-volume",
                    word.span,
                    "VOLUME specified can not be an empty string",
                ));
            }
            paths.push(path);
        }
        state.config_history(text::plain_list("VOLUME", &paths));
        state.runtime().volumes.extend(paths);
        Ok(())
    }

    fn expose(
        &mut self,
        state: &mut StageState,
        applied: &Applied<'_>,
        words: &[Spanned<String>],
    ) -> Result<(), Diagnostic> {
        let mut ports = Vec::new();
        // The words are sorted, not what comes of them.
        let mut words: Vec<&Spanned<String>> = words.iter().collect();
        words.sort_by(|left, right| left.value.cmp(&right.value));
        for word in words {
            let expanded = applied
                .lexer
                .expand_words(&word.value, &|name| state.scope.get(name).cloned())
                .map_err(|error| expand_error(&error, word))?;
            if applied.at.is_none() {
                state.warn_unset(&expanded.unset, word, &mut self.warnings);
            }
            for text in expanded.words {
                let parsed = Ports::parse(&text)
                    .map_err(|error| applied.error("bad-port", word.span, error.to_string()))?;
                ports.extend(parsed.keys());
            }
        }
        state.config_history(text::plain_list("EXPOSE", &ports));
        state.runtime().exposed_ports.extend(ports);
        Ok(())
    }
}

/// The arguments that the config keeps.
fn command_line(state: &StageState, command: &Command) -> Vec<String> {
    match command {
        Command::Shell(text) => {
            let mut argv = state.shell();
            argv.push(text.value.clone());
            argv
        }
        Command::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
    }
}

fn healthcheck(state: &mut StageState, check: &Healthcheck) {
    let nanoseconds =
        |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let config = match check {
        Healthcheck::None => HealthcheckConfig {
            test: vec!["NONE".to_owned()],
            ..HealthcheckConfig::default()
        },
        Healthcheck::Cmd { command, options } => {
            let test = match command {
                Command::Shell(text) => vec!["CMD-SHELL".to_owned(), text.value.clone()],
                Command::Exec(words) => std::iter::once("CMD".to_owned())
                    .chain(words.iter().map(|word| word.value.clone()))
                    .collect(),
            };
            HealthcheckConfig {
                test,
                interval: nanoseconds(options.interval),
                timeout: nanoseconds(options.timeout),
                start_period: nanoseconds(options.start_period),
                start_interval: nanoseconds(options.start_interval),
                retries: i64::from(options.retries),
                ..HealthcheckConfig::default()
            }
        }
    };
    state.config_history(text::healthcheck(&config));
    state.runtime().healthcheck = Some(config);
}
