//! The recipe keys of a whole graph, and the context files that its copies select.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, OnceLock, PoisonError};

use strata_cache::view::Entry;
use strata_cache::{CacheKey, Digest, KeyPart, StackId};
use strata_executor::copy::{self, CopyError, CopySpec, Selection};
use strata_executor::tree::SourceTree;
use strata_parser::ignore::IgnoreFile;

use crate::context::BuildContext;
use crate::error::{BuildError, Report, chain};
use crate::graph::{CopyFrom, CopyOp, Graph, MOUNTED_FILES, Op, Root, VertexId};
use crate::key::{self, Input, KeyInputs, Selected};
use crate::request::{BuildRequest, Cancel};
use crate::sources::{Files, Sources};

/// Keys of all vertices, and what was selected for them.
#[derive(Debug)]
pub(crate) struct Recipes {
    /// By vertex.
    pub(crate) keys: Vec<CacheKey>,
    /// What each vertex leaves, as those above it have it.
    left: Vec<Input>,
    /// For vertices that copy from the context or from a source.
    chosen: HashMap<VertexId, Chosen>,
    /// Names and identities of the remote sources of copies.
    remotes: HashMap<VertexId, Vec<(String, String)>>,
    ulimits: Vec<String>,
    extra_hosts: Vec<String>,
    shm_size: u64,
    /// Paths that are no part of a layer,
    ignored: Vec<String>,
    /// but of these: what a mount shows is no layer of an image.
    whole: HashSet<VertexId>,
    confinement: Vec<String>,
    foreign_owners: Option<&'static str>,
}

/// What a copy selects.
#[derive(Debug)]
struct Chosen {
    /// As its key has it. The files are told of only if they were looked at for that.
    selected: Selected,
    /// The files, looked at one by one.
    files: OnceLock<LookedAt>,
    looking: Mutex<()>,
}

#[derive(Debug)]
struct LookedAt {
    selection: Selection,
    selected: Selected,
}

impl Recipes {
    /// Computes every recipe key. Reads what is selected of the context, and nothing else.
    pub(crate) fn new(
        graph: &Graph,
        request: &BuildRequest,
        sources: &Sources<'_>,
        cancel: &Cancel,
        report: &dyn Fn(strata_parser::Diagnostic) -> Report,
    ) -> Result<Self, BuildError> {
        let ulimits = request.ulimits.iter();
        let extra_hosts = request.extra_hosts.iter();
        let mut recipes = Self {
            keys: Vec::with_capacity(graph.vertices.len()),
            left: Vec::with_capacity(graph.vertices.len()),
            chosen: HashMap::new(),
            remotes: HashMap::new(),
            ulimits: ulimits
                .map(|(name, (soft, hard))| format!("{name}={soft}:{hard}"))
                .collect(),
            extra_hosts: extra_hosts.map(|(name, _)| name.clone()).collect(),
            shm_size: request.shm_size,
            ignored: request.ignore_paths.clone(),
            whole: HashSet::new(),
            confinement: request.confinement.words(),
            foreign_owners: request.foreign_owners.word(),
        };
        let images: Vec<Input> = graph
            .images
            .iter()
            .map(|image| Input::image(&image.reference, image.base.config_digest))
            .collect();
        for (index, vertex) in graph.vertices.iter().enumerate() {
            let id = VertexId(index);
            if vertex.text.starts_with(MOUNTED_FILES) {
                recipes.whole.insert(id);
            }
            if let Op::Copy(copy) = &vertex.op
                && !matches!(copy.from, CopyFrom::Root(_))
                && !copy.sources.is_empty()
            {
                let chosen =
                    choose(sources.files(copy.from), copy, cancel).map_err(
                        |error| match error {
                            CopyError::Cancelled => BuildError::Cancelled,
                            error => {
                                let place = match copy.from {
                                    CopyFrom::Source(source) => {
                                        graph.sources[source.0].name.as_str()
                                    }
                                    _ => "the build context",
                                };
                                let diagnostic = copy_diagnostic(&error, vertex.span, place);
                                BuildError::Dockerfile(Box::new(report(diagnostic)))
                            }
                        },
                    )?;
                recipes.chosen.insert(id, chosen);
            }
            if let Op::Copy(copy) = &vertex.op
                && !copy.remotes.is_empty()
            {
                let remotes = copy.remotes.iter().map(|(_, remote)| {
                    let name = graph.sources[remote.0].name.clone();
                    (name, sources.identity(*remote).to_owned())
                });
                recipes.remotes.insert(id, remotes.collect());
            }
            let root = |root| match root {
                Root::Empty => Input::empty(),
                Root::Image(image) => images[image.0].clone(),
                Root::Step(vertex) => recipes.left[vertex.0].clone(),
            };
            let inputs = recipes.inputs(id, &vertex.platform, &root);
            let key = key::recipe_key(&vertex.op, vertex.stands_on(), &inputs);
            let below = (vertex.stands_on() != vertex.parent).then(|| root(vertex.parent));
            let left = match recipes.chosen.get(&id) {
                Some(chosen) if recipes.whole.contains(&id) => {
                    Input::files(key, &chosen.selected.files)
                }
                _ => Input::step(&vertex.text, key, below.as_ref()),
            };
            recipes.left.push(left);
            recipes.keys.push(key);
        }
        Ok(recipes)
    }

    fn inputs<'a>(
        &'a self,
        id: VertexId,
        platform: &'a str,
        root: &'a dyn Fn(Root) -> Input,
    ) -> KeyInputs<'a> {
        KeyInputs {
            root,
            selection: self.chosen.get(&id).map(|chosen| &chosen.selected),
            remotes: self.remotes.get(&id).map_or(&[], Vec::as_slice),
            platform,
            ulimits: &self.ulimits,
            shm_size: self.shm_size,
            extra_hosts: &self.extra_hosts,
            confinement: &self.confinement,
            foreign_owners: self.foreign_owners,
            ignored: if self.whole.contains(&id) {
                &[]
            } else {
                &self.ignored
            },
        }
    }

    /// The files that a vertex copies from the context or from a source, looked at one by one.
    pub(crate) fn selection(
        &self,
        graph: &Graph,
        sources: &dyn Files,
        cancel: &Cancel,
        id: VertexId,
    ) -> Result<Option<&Selection>, CopyError> {
        let files = self.files(graph, sources, cancel, id)?;
        Ok(files.map(|files| &files.selection))
    }

    /// What the key of a vertex is made of, for people to be told.
    pub(crate) fn parts(
        &self,
        graph: &Graph,
        sources: &dyn Files,
        cancel: &Cancel,
        id: VertexId,
    ) -> Result<Vec<KeyPart>, CopyError> {
        let failed = RefCell::new(None);
        let root = |root| match root {
            Root::Empty => Input::empty(),
            Root::Image(image) => {
                let image = &graph.images[image.0];
                Input::image(&image.reference, image.base.config_digest)
            }
            // What it selected may have been recalled when `left` was made, without its files.
            Root::Step(step) if self.whole.contains(&step) => {
                match self.files(graph, sources, cancel, step) {
                    Ok(Some(files)) => Input::files(self.keys[step.0], &files.selected.files),
                    Ok(None) => self.left[step.0].clone(),
                    Err(error) => {
                        failed.replace(Some(error));
                        self.left[step.0].clone()
                    }
                }
            }
            Root::Step(step) => self.left[step.0].clone(),
        };
        let vertex = &graph.vertices[id.0];
        let files = self.files(graph, sources, cancel, id)?;
        let inputs = KeyInputs {
            selection: files.map(|files| &files.selected),
            ..self.inputs(id, &vertex.platform, &root)
        };
        let (_, parts) = key::recipe(&vertex.op, vertex.stands_on(), &inputs);
        failed.take().map_or(Ok(parts), Err)
    }

    fn files(
        &self,
        graph: &Graph,
        sources: &dyn Files,
        cancel: &Cancel,
        id: VertexId,
    ) -> Result<Option<&LookedAt>, CopyError> {
        let (Some(chosen), Op::Copy(copy)) = (self.chosen.get(&id), &graph.vertices[id.0].op)
        else {
            return Ok(None);
        };
        let _looking = chosen
            .looking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(files) = chosen.files.get() {
            return Ok(Some(files));
        }
        let from = copy.from;
        let mut learn = |entry: &Entry, digest| sources.learn(from, entry, digest);
        let files = select(sources.tree(from), &mut learn, copy, cancel)?;
        if files.selected.digest != chosen.selected.digest {
            // They were as the key says when it was made.
            return Err(CopyError::Changed {
                path: copy.sources.join(" "),
            });
        }
        Ok(Some(chosen.files.get_or_init(|| files)))
    }

    /// The operation of a vertex without its inputs.
    pub(crate) fn operation(&self, graph: &Graph, id: VertexId) -> Digest {
        let vertex = &graph.vertices[id.0];
        let inputs = self.inputs(id, &vertex.platform, &|_| Input::empty());
        key::operation(&vertex.op, &inputs)
    }

    /// The content key of a vertex whose inputs are there.
    pub(crate) fn content(
        &self,
        graph: &Graph,
        id: VertexId,
        stacks: &dyn Fn(Root) -> StackId,
    ) -> CacheKey {
        let vertex = &graph.vertices[id.0];
        let inputs = self.inputs(id, &vertex.platform, &|_| Input::empty());
        key::content(&vertex.op, vertex.stands_on(), &inputs, stacks)
    }
}

/// What `copy` selects, by an earlier build that saw the same if there was one.
fn choose(context: &BuildContext<'_>, copy: &CopyOp, cancel: &Cancel) -> Result<Chosen, CopyError> {
    let wanted = wanted(copy);
    if let Some(digest) = context.recall(&wanted) {
        return Ok(Chosen {
            selected: Selected {
                digest,
                files: Vec::new(),
            },
            files: OnceLock::new(),
            looking: Mutex::default(),
        });
    }
    let (files, _) = context.walk(&wanted, || {
        let mut learn = |entry: &Entry, digest| context.learn(entry, digest);
        let files = select(context.tree(), &mut learn, copy, cancel)?;
        let digest = files.selected.digest;
        Ok::<_, CopyError>((files, digest))
    })?;
    Ok(Chosen {
        selected: files.selected.clone(),
        files: OnceLock::from(files),
        looking: Mutex::default(),
    })
}

/// All of a copy that its selection goes by.
fn wanted(copy: &CopyOp) -> String {
    let chmod = copy.chmod.as_ref().map(|(text, _)| text);
    format!(
        "{} {:?} {:?}",
        copy::VERSION,
        (&copy.sources, copy.literal, &copy.excludes, chmod),
        (copy.parents, copy.add, copy.unpack, copy.link),
    )
}

fn select(
    tree: &dyn SourceTree,
    learn: &mut dyn FnMut(&Entry, Digest),
    copy: &CopyOp,
    cancel: &Cancel,
) -> Result<LookedAt, CopyError> {
    with_spec(copy, &copy.sources, None, cancel, |spec| {
        let mut selection = copy::select(tree, spec)?;
        let (digest, files) = selection.digest(tree, spec, learn)?;
        Ok(LookedAt {
            selection,
            selected: Selected { digest, files },
        })
    })
}

/// Calls `use_it` with the executor's form of `copy`, which ends early once `cancel` is asked.
pub(crate) fn with_spec<T>(
    copy: &CopyOp,
    sources: &[String],
    owner: Option<(u32, u32)>,
    cancel: &Cancel,
    use_it: impl FnOnce(&CopySpec<'_>) -> Result<T, CopyError>,
) -> Result<T, CopyError> {
    let excludes = IgnoreFile::from_patterns(&copy.excludes)
        .ok()
        .filter(|list| !list.is_empty());
    let exclude = |path: &str, _: bool| excludes.as_ref().is_some_and(|list| list.is_ignored(path));
    let exclude_is_final = excludes.as_ref().is_some_and(|list| !list.has_negations());
    let patterns: Vec<(&str, Option<IgnoreFile>)> = if copy.parents {
        sources
            .iter()
            .map(|source| {
                (
                    source.as_str(),
                    IgnoreFile::from_patterns(&[relative(source)]).ok(),
                )
            })
            .collect()
    } else {
        Vec::new()
    };
    let parents_match = |pattern: &str, path: &str| {
        let known = patterns
            .iter()
            .find(|(source, _)| relative(source) == relative(pattern));
        match known {
            Some((_, list)) => list.as_ref().is_some_and(|list| list.is_ignored(path)),
            None => IgnoreFile::from_patterns(&[relative(pattern)])
                .is_ok_and(|list| list.is_ignored(path)),
        }
    };
    let chmod = copy.chmod.as_ref().map(|(_, chmod)| chmod);
    let change =
        |mode: u32, directory: bool| chmod.map_or(mode, |chmod| chmod.apply(mode, directory));
    let parent_mode = match chmod {
        // Its set-id and sticky bits are for what is copied.
        Some(chmod) if chmod.is_octal() => chmod.apply(0o755, true) & 0o777,
        _ => 0o755,
    };
    use_it(&CopySpec {
        sources,
        literal: copy.literal,
        destination: &copy.dest,
        owner,
        chmod: chmod.is_some().then_some(&change),
        parent_mode,
        exclude: excludes.is_some().then_some(&exclude),
        exclude_is_final,
        parents: copy.parents,
        parents_match: copy.parents.then_some(&parents_match),
        unpack: copy.unpack,
        link: copy.link,
        epoch: None,
        earlier: None,
        foretold: None,
        cancelled: Some(&|| cancel.is_cancelled()),
    })
}

/// A source without its leading slash, as patterns have it.
fn relative(source: &str) -> &str {
    source.trim_start_matches('/')
}

/// A failed copy at its instruction.
pub(crate) fn copy_diagnostic(
    error: &CopyError,
    span: strata_parser::Span,
    place: &str,
) -> strata_parser::Diagnostic {
    match error {
        CopyError::NotFound { path, near, .. } => {
            let mut diagnostic = strata_parser::Diagnostic::error(
                "not-found",
                span,
                format!("`{path}` is not in {place}"),
            )
            .with_label("copies from it");
            if near.is_empty() {
                diagnostic = diagnostic.with_help(
                    "sources are paths from the root of what is copied from; an ignore file may hide them",
                );
            } else {
                diagnostic = diagnostic.with_help(format!("there is: {}", near.join(", ")));
            }
            diagnostic
        }
        error => strata_parser::Diagnostic::error("copy-failed", span, chain(error)),
    }
}

#[cfg(test)]
mod tests;
