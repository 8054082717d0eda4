//! What a Dockerfile takes and makes, for people who are about to build it.
//!
//! The descriptions are those of comments: `# NAME text` right above ARG or FROM.

use strata_image::Images;
use strata_parser::mount::{Mount, MountKind};
use strata_parser::{Diagnostics, Dockerfile, InstructionKind, Span, Stage};

use crate::bases::{Bases, NoBases};
use crate::error::{BuildError, Report};
use crate::lint::local;
use crate::plan::{self, Reached};
use crate::request::BuildRequest;

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outline {
    /// The target's name; empty if it has none.
    pub name: String,
    /// What it is.
    pub description: Option<String>,
    /// Build arguments that it uses, in the order of the file.
    pub args: Vec<Arg>,
    /// Secrets that steps ask for.
    pub secrets: Vec<Wanted>,
    /// SSH agents that steps ask for.
    pub ssh: Vec<Wanted>,
    /// Cache mounts.
    pub caches: Vec<Wanted>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it is set to.
    pub value: Option<String>,
    /// Where it is declared.
    pub span: Span,
}

/// Something that a mount asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its ID.
    pub id: String,
    /// Whether the step fails without it.
    pub required: bool,
    /// The first instruction that asks for it.
    pub span: Span,
}

/// A stage that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name; empty if it has none.
    pub name: String,
    /// Whether it is built without `--target`.
    pub default: bool,
    /// What it is.
    pub description: Option<String>,
    /// What it stands on, as written.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// Its FROM.
    pub span: Span,
}

/// Lists the stages of the request's Dockerfile that have a name, and the last one.
pub fn targets(request: &BuildRequest) -> Result<Vec<Target>, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile).map_err(refused(request))?;
    let last = file.stages.len() - 1;
    let stages = file.stages.iter().enumerate();
    Ok(stages
        .filter(|(index, stage)| *index == last || stage.name().is_some())
        .map(|(index, stage)| Target {
            name: stage.name().unwrap_or_default().to_owned(),
            default: index == last,
            description: stage.description.clone(),
            base: stage.from.image.value.clone(),
            platform: stage.from.platform.as_ref().map(|word| word.value.clone()),
            span: stage.span,
        })
        .collect())
}

/// What the request's target takes. Base images are asked for in the local store alone.
pub fn outline(
    request: &BuildRequest,
    images: Option<(&Images<'_>, &strata_cache::Lease)>,
) -> Result<Outline, BuildError> {
    let refuse = refused(request);
    let file = Dockerfile::parse(&request.dockerfile).map_err(&refuse)?;
    let store;
    let bases: &dyn Bases = match images {
        None => &NoBases,
        Some((images, lease)) => {
            store = local(images, lease);
            &store
        }
    };
    let (target, reached) = plan::reached(&file, request, bases).map_err(&refuse)?;
    let mut outline = Outline {
        name: file.stages[target].name().unwrap_or_default().to_owned(),
        description: file.stages[target].description.clone(),
        ..Outline::default()
    };
    global_args(&file, request, &reached, &mut outline);
    for Reached { index, state } in &reached {
        let stage = &file.stages[*index];
        for instruction in &stage.instructions {
            match &instruction.kind {
                InstructionKind::Arg(arg) => {
                    for item in &arg.items {
                        let name = item.name.as_str();
                        let value = state.args.get(name);
                        outline.add_arg(Arg {
                            name: name.to_owned(),
                            description: item.description.clone(),
                            value: value.cloned().flatten(),
                            span: instruction.span,
                        });
                    }
                }
                InstructionKind::Run(run) => {
                    let mounts = run.mounts.iter().filter_map(|flag| flag.mount.as_ref());
                    for mount in mounts {
                        outline.add_mount(mount, instruction.span);
                    }
                }
                _ => {}
            }
        }
    }
    Ok(outline)
}

/// Arguments before the first FROM that the FROM lines of the stages use, or that the stages
/// declare again.
fn global_args(
    file: &Dockerfile,
    request: &BuildRequest,
    reached: &[Reached],
    outline: &mut Outline,
) {
    let lexer = strata_parser::expand::Lexer::new(file.directives.escape);
    let mut used: Vec<String> = Vec::new();
    for Reached { index, .. } in reached {
        used.extend(names_of_from(&file.stages[*index], lexer));
    }
    let mut values: Vec<(&str, Option<String>)> = Vec::new();
    for global in &file.global_args {
        for item in &global.arg.items {
            let name = item.name.as_str();
            let given = request.build_args.iter().rev();
            let given = given.into_iter().find(|(known, _)| known == name);
            let lookup = |name: &str| {
                let known = values.iter().rev().find(|(known, _)| *known == name)?;
                known.1.clone()
            };
            let value = match (given, &item.default) {
                (Some((_, value)), _) => Some(value.clone()),
                (None, Some(default)) => lexer
                    .expand(default.as_str(), &lookup)
                    .ok()
                    .map(|expanded| expanded.text),
                (None, None) => None,
            };
            values.push((name, value.clone()));
            let redeclared = reached.iter().any(|stage| {
                let mut args = stage.state.args.list().iter();
                args.any(|(known, _)| known == name)
            });
            if redeclared || used.iter().any(|known| known == name) {
                outline.add_arg(Arg {
                    name: name.to_owned(),
                    description: item.description.clone(),
                    value,
                    span: global.span,
                });
            }
        }
    }
}

/// Variables that a FROM line names.
fn names_of_from(stage: &Stage, lexer: strata_parser::expand::Lexer) -> Vec<String> {
    let names = std::cell::RefCell::new(Vec::new());
    let note = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        Some("x".to_owned())
    };
    let words = [Some(&stage.from.image), stage.from.platform.as_ref()];
    for word in words.into_iter().flatten() {
        // A word that can't be expanded was refused when the stage was planned.
        drop(lexer.expand(word.as_str(), &note));
    }
    names.into_inner()
}

impl Outline {
    /// An argument declared again keeps its first place; what is said later counts.
    fn add_arg(&mut self, arg: Arg) {
        match self.args.iter_mut().find(|known| known.name == arg.name) {
            Some(known) => {
                known.description = arg.description.or(known.description.take());
                known.value = arg.value.or(known.value.take());
            }
            None => self.args.push(arg),
        }
    }

    fn add_mount(&mut self, mount: &Mount, span: Span) {
        let target = mount.target.as_deref().unwrap_or_default();
        let id = |default: &str| mount.id.clone().unwrap_or_else(|| default.to_owned());
        let base = target.rsplit('/').next().unwrap_or_default();
        let (list, id) = match mount.kind {
            MountKind::Secret => (
                &mut self.secrets,
                mount
                    .id
                    .clone()
                    .or_else(|| mount.source.clone())
                    .unwrap_or_else(|| base.to_owned()),
            ),
            MountKind::Ssh => (&mut self.ssh, id("default")),
            MountKind::Cache => (&mut self.caches, id(target)),
            MountKind::Bind | MountKind::Tmpfs => return,
        };
        match list.iter_mut().find(|known| known.id == id) {
            Some(known) => known.required |= mount.required,
            None => list.push(Wanted {
                id,
                required: mount.required,
                span,
            }),
        }
    }
}

fn refused(request: &BuildRequest) -> impl Fn(Diagnostics) -> BuildError {
    let report = |diagnostics| Report {
        file: request.dockerfile_name.clone(),
        source: strata_parser::source::text(&request.dockerfile).into_owned(),
        diagnostics,
    };
    move |diagnostics| BuildError::Dockerfile(Box::new(report(diagnostics)))
}
