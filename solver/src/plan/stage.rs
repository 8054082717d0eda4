//! A stage: what it starts from, and its state while instructions are applied to it.

use std::collections::HashMap;

use strata_image::Platform as ImagePlatform;
use strata_image::config::{History, ImageConfig, RuntimeConfig};
use strata_parser::expand::Lexer;
use strata_parser::platform::{Platform, PlatformError};
use strata_parser::{
    Diagnostic, Diagnostics, Instruction, InstructionKind, Span, Spanned, Stage, parse_trigger,
};

use super::scope::{self, Variables, expand_error};
use super::{Place, Planner};
use crate::graph::{Root, VertexId};

/// PATH of images that have none.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A history entry to be.
#[derive(Debug, Clone)]
pub enum PlannedHistory {
    /// The base image's, kept as it is.
    Base(Box<History>),
    /// An instruction that made a layer.
    Layer {
        /// `created_by`.
        text: String,
        /// The vertex whose layer it is.
        vertex: VertexId,
    },
    /// An instruction that changed the config only.
    Empty {
        /// `created_by`.
        text: String,
    },
}

/// A stage as far as it is planned.
#[derive(Debug, Clone)]
pub struct StageState {
    /// Its name for people: `build`, `stage-1`; empty for the only stage of a file.
    pub name: String,
    /// The root reached.
    pub root: Root,
    /// The image's config, without history and layers.
    pub config: ImageConfig,
    /// History, the base's included.
    pub history: Vec<PlannedHistory>,
    /// Variables in scope: ENV and ARG, in order of definition.
    pub scope: Variables<String>,
    /// Build arguments in scope, with what they were set to.
    pub args: Variables<Option<String>>,
    /// Platform.
    pub platform: Platform,
    /// Vertices of this stage and of the stages it is built FROM.
    pub vertices: Vec<VertexId>,
    /// The base image's config is not known, and so neither are the variables that it sets.
    pub(super) base_unknown: bool,
    /// This stage has had a CMD.
    pub(super) cmd_set: bool,
    /// Where in the config's environment each variable is, as far as it was looked through.
    env_places: HashMap<String, usize>,
    env_indexed: usize,
}

impl StageState {
    pub(super) fn empty(name: String, platform: Platform) -> Self {
        let config = ImageConfig::empty(&platform.clone().into());
        Self {
            name,
            root: Root::Empty,
            config,
            history: Vec::new(),
            scope: Variables::default(),
            args: Variables::default(),
            platform,
            vertices: Vec::new(),
            base_unknown: false,
            cmd_set: false,
            env_places: HashMap::new(),
            env_indexed: 0,
        }
    }

    /// Goes on from a step, whose layer has this text in the image's history.
    pub(super) fn step(&mut self, vertex: VertexId, text: String) {
        self.root = Root::Step(vertex);
        self.vertices.push(vertex);
        self.history.push(PlannedHistory::Layer { text, vertex });
    }

    /// The runtime part of the config.
    pub(super) fn runtime(&mut self) -> &mut RuntimeConfig {
        &mut self.config.config
    }

    /// Sets what the config sets: a stage begins so, and an ARG of the stage below that hid a variable
    /// hides it no more.
    fn variables_of_config(&mut self) {
        for variable in &self.config.config.env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            self.scope.set(name, value.to_owned());
        }
    }

    /// Sets PATH if nothing has.
    pub(super) fn default_path(&mut self) {
        if self.platform.os != "windows" && self.config.config.env("PATH").is_none() {
            self.set_env("PATH", DEFAULT_PATH.to_owned());
        }
    }

    /// Sets a variable of the config, in its place if it is there, and of the scope.
    pub(super) fn set_env(&mut self, name: &str, value: String) {
        let env = &mut self.config.config.env;
        for (place, entry) in env.iter().enumerate().skip(self.env_indexed) {
            let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
            self.env_places.entry(key.to_owned()).or_insert(place);
        }
        self.env_indexed = env.len();
        let entry = format!("{name}={value}");
        match self.env_places.get(name) {
            Some(place) => env[*place] = entry,
            None => env.push(entry),
        }
        self.scope.set(name, value);
    }

    /// The shell for shell forms.
    pub(super) fn shell(&self) -> Vec<String> {
        if self.config.config.shell.is_empty() {
            vec!["/bin/sh".to_owned(), "-c".to_owned()]
        } else {
            self.config.config.shell.clone()
        }
    }

    /// The working directory, absolute.
    pub(super) fn workdir(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            directory => directory,
        }
    }

    /// Findings for names in `word` that nothing defines.
    pub(super) fn warn_unset(
        &self,
        unset: &[String],
        word: &Spanned<String>,
        warnings: &mut Vec<Diagnostic>,
    ) {
        if self.base_unknown || unset.is_empty() {
            return;
        }
        let is_declared = |name: &str| self.args.get(name).is_some();
        let declared = self.args.list().iter().map(|(name, _)| name.as_str());
        let set = self.scope.list().iter().map(|(name, _)| name.as_str());
        scope::warn_unset(unset, word, &is_declared, &declared.chain(set), warnings);
    }

    /// Adds a history entry of an instruction that changed the config only.
    pub(super) fn config_history(&mut self, text: String) {
        self.history.push(PlannedHistory::Empty { text });
    }

    /// A build argument came into scope.
    pub(super) fn set_arg(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = &value
            && !scope::INVISIBLE.contains(&name)
        {
            self.scope.set(name, value.clone());
        }
        self.args.set(name, value);
    }
}

/// One instruction while it is applied.
pub(super) struct Applied<'a> {
    pub(super) instruction: &'a Instruction,
    /// For ONBUILD triggers: the FROM line, because their own text is not in this file.
    pub(super) at: Option<Span>,
    pub(super) lexer: Lexer,
    pub(super) place: Place,
    /// `[build 2/5] `.
    pub(super) prefix: String,
    /// Index of the stage.
    pub(super) stage: usize,
}

impl Applied<'_> {
    /// Where to point for something at `span` of the instruction's text.
    pub(super) fn at(&self, span: Span) -> Span {
        self.at.unwrap_or(span)
    }

    /// An error at a word.
    pub(super) fn error(
        &self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
    ) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, self.at(span), message);
        match self.at {
            None => diagnostic,
            Some(_) => diagnostic.with_note(format!(
                "in the trigger `ONBUILD {}` of the base image",
                strata_image::redact::passwords(&self.instruction.text)
            )),
        }
    }

    /// The word with its variables replaced.
    pub(super) fn expand(
        &self,
        state: &StageState,
        word: &Spanned<String>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<String, Diagnostic> {
        let word = Spanned::new(word.value.clone(), self.at(word.span));
        let expanded = self
            .lexer
            .expand(&word.value, &|name| state.scope.get(name).cloned())
            .map_err(|error| expand_error(&error, &word))?;
        // Nobody can mend a base image's trigger here.
        if self.at.is_none() {
            state.warn_unset(&expanded.unset, &word, warnings);
        }
        Ok(expanded.text)
    }
}

/// How many stages may be planned from within one another.
const MAX_NESTED: usize = 100;

impl Planner<'_> {
    /// Plans the stage at `index` as [`stage`](Self::stage) does, however long the way down to the
    /// first one is: a file may have a thousand stages that each stand on the one above.
    pub(super) fn target(&mut self, index: usize) -> Result<StageState, Diagnostics> {
        let below = self.below(index);
        if below.len() > MAX_NESTED {
            for index in below {
                self.stage(index)?;
            }
        }
        self.stage(index)
    }

    /// Plans the stage at `index`, and what it needs, once.
    pub(super) fn stage(&mut self, index: usize) -> Result<StageState, Diagnostics> {
        if let Some(state) = self.stages.get(&index) {
            return Ok(state.clone());
        }
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[index];
        if let Some(state) = self.replaced(index, stage)? {
            self.stages.insert(index, state.clone());
            return Ok(state);
        }
        let mut state = self.start(index, stage)?;

        let triggers = std::mem::take(&mut state.runtime().on_build);
        let mut errors: Vec<Diagnostic> = Vec::new();
        let mut from_triggers = Vec::with_capacity(triggers.len());
        for trigger in &triggers {
            match parse_trigger(trigger) {
                Ok(instruction) => from_triggers.push(instruction),
                Err(found) => errors.extend(found.list.into_iter().map(|mut diagnostic| {
                    diagnostic.notes.push(format!(
                        "in the trigger `ONBUILD {trigger}` of the base image"
                    ));
                    diagnostic.span = stage.span;
                    diagnostic.related.clear();
                    diagnostic.fix = None;
                    diagnostic
                })),
            }
        }
        if !errors.is_empty() {
            return Err(Diagnostics { list: errors });
        }

        let own = Lexer::new(dockerfile.directives.escape);
        let all: Vec<(&Instruction, Option<Span>, Lexer)> = from_triggers
            .iter()
            .map(|instruction| (instruction, Some(stage.span), Lexer::default()))
            .chain(
                stage
                    .instructions
                    .iter()
                    .map(|instruction| (instruction, None, own)),
            )
            .collect();
        let total = 1 + all
            .iter()
            .filter(|(instruction, ..)| makes_step(&instruction.kind))
            .count();
        let mut number = 1;
        for (position, (instruction, at, lexer)) in all.into_iter().enumerate() {
            number += usize::from(makes_step(&instruction.kind));
            let applied = Applied {
                instruction,
                at,
                lexer,
                place: (index, position + 1),
                prefix: self.step_prefix(
                    &state.platform,
                    Some(&state.scope),
                    &state.name,
                    (number, total),
                ),
                stage: index,
            };
            self.apply(&mut state, &applied)?;
        }
        self.stages.insert(index, state.clone());
        Ok(state)
    }

    /// What FROM names, its variables replaced: the image or stage, and `--platform`.
    pub(super) fn base_words(
        &self,
        stage: &Stage,
    ) -> Result<(String, Option<Platform>), Diagnostic> {
        let lexer = Lexer::new(self.dockerfile.directives.escape);
        // Names that aren't declared are found by the linter, in the stages that aren't built too.
        let expand = |word: &Spanned<String>| -> Result<String, Diagnostic> {
            let expanded = lexer
                .expand(&word.value, &|name| {
                    self.global.get(name).map(str::to_owned)
                })
                .map_err(|error| expand_error(&error, word))?;
            Ok(expanded.text)
        };
        let image = expand(&stage.from.image)?;
        if image.is_empty() {
            return Err(Diagnostic::error(
                "blank-base",
                stage.from.image.span,
                format!("base name `{}` should not be blank", stage.from.image.value),
            )
            .with_help("give the argument a default, or pass it with `--build-arg`"));
        }
        let platform = match &stage.from.platform {
            None => None,
            Some(word) => {
                let parsed = Platform::parse(&expand(word)?, &self.host);
                let bad = |error: PlatformError| {
                    Diagnostic::error("bad-platform", word.span, error.to_string())
                };
                Some(parsed.map_err(bad)?)
            }
        };
        Ok((image, platform))
    }

    /// The state after FROM.
    fn start(&mut self, index: usize, stage: &Stage) -> Result<StageState, Diagnostics> {
        let (image, platform) = self.base_words(stage)?;
        let platform = platform.unwrap_or_else(|| self.platform.clone());

        let only = self.dockerfile.stages.len() == 1 && stage.name().is_none();
        let name = match stage.name() {
            Some(name) => name.to_owned(),
            None if only => String::new(),
            None => format!("stage-{index}"),
        };
        let total = 1 + stage
            .instructions
            .iter()
            .filter(|one| makes_step(&one.kind))
            .count();

        // A stage's name hides an image's, but only stages above count.
        let above = self.stage_above(&image, index);
        self.plan_after(index, above)?;
        let mut state = if let Some(above) = above {
            // Its platform too, whatever `--platform` says: that chooses among images.
            let mut state = self.stage(above)?;
            state.name = name;
            state.cmd_set = false;
            state.variables_of_config();
            state
        } else if image == "scratch" {
            // An empty image is for whatever is built.
            let mut state = StageState::empty(name, self.platform.clone());
            "/".clone_into(&mut state.runtime().working_dir);
            state
        } else if let Some(named) = self.named(&image, &platform) {
            let prefix = self.step_prefix(&platform, None, &name, (1, total));
            let span = stage.from.image.span;
            self.stage_on_context(((index, 0), prefix), name, &image, &named, platform, span)?
        } else {
            let prefix = self.step_prefix(&platform, None, &name, (1, total));
            let text = format!("{prefix}FROM {image}");
            let span = stage.from.image.span;
            let id = self.image((index, 0), text, &image, &platform, span)?;
            if self.unknown.contains(&id) {
                let mut state = StageState::empty(name, platform);
                state.root = Root::Image(id);
                state.base_unknown = true;
                self.unknown_bases.push(image);
                state
            } else {
                let found = &self.graph.images[id.0].base.config;
                let given = !self.request.platforms.is_empty() || stage.from.platform.is_some();
                let other = other_platform(&image, span, &platform, &found.platform(), given);
                self.warnings.extend(other);
                self.on_image(name, platform, id)
            }
        };
        state.default_path();
        Ok(state)
    }

    pub(super) fn on_image(
        &self,
        name: String,
        platform: Platform,
        id: crate::graph::ImageId,
    ) -> StageState {
        let base = &self.graph.images[id.0].base;
        let mut state = StageState::empty(name, platform);
        state.root = Root::Image(id);
        let history = base
            .config
            .history
            .iter()
            .map(|entry| PlannedHistory::Base(Box::new(entry.clone())))
            .collect();
        state.history = history;
        let mut config = base.config.clone();
        config.created = None;
        config.history.clear();
        config.rootfs.diff_ids.clear();
        if !self.request.platforms.is_empty() {
            config.set_platform(&state.platform.clone().into());
        }
        state.config = config;
        state.variables_of_config();
        state
    }
}

/// A finding if the base image was made for another kind of machine. `given`: somebody said which
/// platform is wanted.
fn other_platform(
    image: &str,
    span: Span,
    wanted: &Platform,
    found: &ImagePlatform,
    given: bool,
) -> Option<Diagnostic> {
    // An image that doesn't say is for any.
    let differs = |wanted: &str, found: &str| !found.is_empty() && wanted != found;
    if !differs(&wanted.os, &found.os) && !differs(&wanted.arch, &found.architecture) {
        return None;
    }
    let message = format!("the base image `{image}` is for `{found}`, and `{wanted}` is built");
    let help = if given {
        format!("use an image for `{wanted}`, or build for `{found}`")
    } else {
        "use an image for that platform, or give `--platform`".to_owned()
    };
    Some(Diagnostic::warning("InvalidBaseImagePlatform", span, message).with_help(help))
}

/// Whether an instruction makes a layer, and so counts in `[stage 2/5]`.
fn makes_step(kind: &InstructionKind) -> bool {
    matches!(
        kind,
        InstructionKind::Run(_)
            | InstructionKind::Copy(_)
            | InstructionKind::Add(_)
            | InstructionKind::Workdir(_)
    )
}
