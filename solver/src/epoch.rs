//! `SOURCE_DATE_EPOCH`: the time that nothing in an image may be later than.
//!
//! It is a number of seconds, or the name of something whose time it takes: `context`, a named
//! context, or a stage that is nothing but one remote ADD on `scratch`. A repository has the time of
//! its commit, a file of the web its `Last-Modified`, an archive that of its newest file. A local
//! directory has none: then no time is clamped.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use strata_cache::Store;
use strata_image::fetch::Fetcher;
use strata_parser::expand::Lexer;
use strata_parser::instruction::{CopyInstruction, Source};
use strata_parser::{Diagnostic, Diagnostics, Dockerfile, InstructionKind, Span, Spanned, Stage};

use crate::error::{BuildError, Report, chain};
use crate::plan::{self, GlobalScope};
use crate::remote::context::web_files;
use crate::remote::{GitAddress, Remote, RemoteError, Surroundings, git, web};
use crate::request::{BuildRequest, Cancel, Context, NamedContext};
use crate::sources::remote_diagnostic;

/// The variable, argument and build argument.
const NAME: &str = "SOURCE_DATE_EPOCH";

/// Finds the time for `request`, and enters it there as a build argument, so that instructions which
/// ask for it see the number.
pub(crate) fn resolve(
    dockerfile: &Dockerfile,
    request: &mut BuildRequest,
    store: &Store,
    cancel: &Cancel,
    report: &dyn Fn(Diagnostics) -> Report,
) -> Result<Option<i64>, BuildError> {
    let refused = |errors: Diagnostics| BuildError::Dockerfile(Box::new(report(errors)));
    let global = plan::global_scope(dockerfile, request).map_err(refused)?;
    let given = global.build_arg(NAME).map(str::to_owned);
    let text = match (given, request.epoch) {
        (Some(text), _) => text,
        (None, Some(seconds)) => seconds.to_string(),
        (None, None) => match global.get(NAME) {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => return Ok(None),
        },
    };
    let epoch = if text.is_empty() {
        None
    } else if let Ok(seconds) = text.parse() {
        Some(seconds)
    } else {
        let agents = &request.ssh;
        let agent = agents.iter().find(|agent| agent.id == "default");
        let finder = Finder {
            dockerfile,
            request,
            global: &global,
            surroundings: Surroundings {
                store,
                secrets: &request.secrets,
                agent: agent.map(|agent| agent.socket.as_path()),
                cancel,
                signed: &request.signed,
                progress: &|_, _| {},
            },
        };
        finder.named(&text).map_err(|problem| match problem {
            Problem::Remote(RemoteError::Cancelled, _) => BuildError::Cancelled,
            Problem::Remote(RemoteError::Store(error), _) => BuildError::Store(error),
            Problem::Remote(error, Some(span)) => refused(remote_diagnostic(&error, span).into()),
            Problem::Remote(error, None) => BuildError::Remote {
                name: text.clone(),
                reason: chain(&error),
            },
            Problem::Stage(error) => refused((*error).into()),
            Problem::Unknown => BuildError::Request(format!(
                "`{NAME}={text}` is neither a number of seconds nor `context`, a named context or a stage"
            )),
        })?
    };
    request.build_args.retain(|(name, _)| name != NAME);
    let shown = epoch.map(|seconds| seconds.to_string());
    request
        .build_args
        .push((NAME.to_owned(), shown.unwrap_or_default()));
    Ok(epoch)
}

/// Why there is no time.
enum Problem {
    /// It can't be fetched; where the Dockerfile names it, if it does.
    Remote(RemoteError, Option<Span>),
    /// A stage that is not of the right kind.
    Stage(Box<Diagnostic>),
    /// Nothing has that name.
    Unknown,
}

impl From<Diagnostic> for Problem {
    fn from(error: Diagnostic) -> Self {
        Self::Stage(Box::new(error))
    }
}

struct Finder<'a> {
    dockerfile: &'a Dockerfile,
    request: &'a BuildRequest,
    global: &'a GlobalScope,
    surroundings: Surroundings<'a>,
}

impl Finder<'_> {
    fn named(&self, name: &str) -> Result<Option<i64>, Problem> {
        let remote = |error| Problem::Remote(error, None);
        if name == "context" {
            if self.request.context_time.is_some() {
                return Ok(self.request.context_time);
            }
            return match &self.request.context {
                Context::Unpacked { root, .. } => newest(root).map_err(remote),
                Context::Directory(_) | Context::Empty => Ok(None),
            };
        }
        let contexts = &self.request.build_contexts;
        if let Some((_, context)) = contexts.iter().rfind(|(known, _)| known == name) {
            return match context {
                NamedContext::Remote(Remote::Web(url)) => self.of_web(url).map_err(remote),
                NamedContext::Remote(Remote::Git(address)) => self.of_git(address).map_err(remote),
                NamedContext::Directory(_) | NamedContext::Image(_) => Ok(None),
            };
        }
        let stages = &self.dockerfile.stages;
        let stage = stages.iter().find(|stage| {
            stage
                .name()
                .is_some_and(|known| known.eq_ignore_ascii_case(name))
        });
        match stage {
            Some(stage) => self.of_stage(stage),
            None => Err(Problem::Unknown),
        }
    }

    /// The time of a stage's only source.
    fn of_stage(&self, stage: &Stage) -> Result<Option<i64>, Problem> {
        let lexer = Lexer::new(self.dockerfile.directives.escape);
        let mut scope: Vec<(String, String)> = Vec::new();
        let expand = |scope: &[(String, String)], word: &Spanned<String>| {
            let lookup = |name: &str| {
                let own = plan::find(scope, name);
                own.or_else(|| self.global.get(name)).map(str::to_owned)
            };
            lexer
                .expand(&word.value, &lookup)
                .map(|expanded| expanded.text)
                .map_err(|error| plan::expand_error(&error, word))
        };
        if expand(&scope, &stage.from.image)? != "scratch" {
            return Err(not_a_source(stage.from.image.span, "it has to be `FROM scratch`").into());
        }
        let mut found = None;
        for instruction in &stage.instructions {
            match &instruction.kind {
                InstructionKind::Arg(arg) => {
                    for item in &arg.items {
                        let name = &item.name.value;
                        let value = match (self.global.build_arg(name), &item.default) {
                            (Some(value), _) => value.to_owned(),
                            (None, Some(default)) => expand(&scope, default)?,
                            (None, None) => continue,
                        };
                        scope.push((name.clone(), value));
                    }
                }
                InstructionKind::Add(add) if found.is_none() => {
                    let [Source::Path(word)] = add.sources.as_slice() else {
                        let what = "its ADD has to have one source";
                        return Err(not_a_source(instruction.span, what).into());
                    };
                    let remote = Remote::of_source(&expand(&scope, word)?)
                        .map_err(|error| not_a_source(word.span, &error.to_string()))?;
                    let Some(remote) = remote else {
                        let what = "its ADD has to be of a URL or a repository";
                        return Err(not_a_source(word.span, what).into());
                    };
                    found = Some((remote, word.span, add));
                }
                _ => {
                    let what = "it may hold nothing but one remote ADD, and ARG";
                    return Err(not_a_source(instruction.span, what).into());
                }
            }
        }
        let Some((remote, span, add)) = found else {
            return Err(not_a_source(stage.span, "it has no remote ADD").into());
        };
        self.of_remote(remote, add)
            .map_err(|error| Problem::Remote(error, Some(span)))
    }

    fn of_remote(&self, remote: Remote, add: &CopyInstruction) -> Result<Option<i64>, RemoteError> {
        match remote {
            Remote::Web(url) => self.of_web(&url),
            Remote::Git(mut address) => {
                address.keep_git_dir |= add.keep_git_dir.unwrap_or(false);
                self.of_git(&address)
            }
        }
    }

    fn of_git(&self, address: &GitAddress) -> Result<Option<i64>, RemoteError> {
        let commit = git::resolve(self.surroundings, address)?;
        git::commit_time(self.surroundings, address, &commit)
    }

    fn of_web(&self, url: &str) -> Result<Option<i64>, RemoteError> {
        let file = web::file(&Fetcher::default(), self.surroundings, url, None)?;
        if file.mtime != 0 {
            return Ok(Some(file.mtime));
        }
        match web_files(
            self.surroundings.store,
            &file,
            url,
            self.surroundings.cancel,
        )? {
            Ok(unpacked) => newest(unpacked.root()),
            Err(_) => Ok(None),
        }
    }
}

fn not_a_source(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(
        "epoch-stage",
        span,
        format!("this stage can't give `{NAME}` its time: {what}"),
    )
}

/// The time of the newest regular file below `directory`.
pub(crate) fn newest(directory: &Path) -> Result<Option<i64>, RemoteError> {
    let failed = |action, path: &Path| {
        let path: PathBuf = path.to_owned();
        move |source| RemoteError::Io {
            action,
            path,
            source,
        }
    };
    let mut newest = None;
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries =
            std::fs::read_dir(&directory).map_err(failed("read directory", &directory))?;
        for entry in entries {
            let entry = entry.map_err(failed("read directory", &directory))?;
            let path = entry.path();
            let metadata = path.symlink_metadata().map_err(failed("read", &path))?;
            if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_file() {
                newest = newest.max(Some(metadata.mtime()));
            }
        }
    }
    Ok(newest)
}
