//! The recipe keys of a whole graph, and the context files that its copies select.

use std::collections::HashMap;

use strata_cache::{CacheKey, KeyPart};
use strata_executor::copy::{CopyError, CopySpec, Selection};
use strata_parser::ignore::IgnoreFile;

use crate::context::BuildContext;
use crate::error::{BuildError, Report, chain};
use crate::graph::{CopyFrom, CopyOp, Graph, Op, Root, VertexId};
use crate::key::{self, KeyInputs, Selected};
use crate::request::BuildRequest;

/// Keys of all vertices, and what was selected for them.
#[derive(Debug)]
pub(crate) struct Recipes {
    /// By vertex.
    pub(crate) keys: Vec<CacheKey>,
    /// By vertex.
    pub(crate) parts: Vec<Vec<KeyPart>>,
    /// For vertices that copy from the context.
    pub(crate) selections: HashMap<VertexId, Selection>,
}

/// Computes every key. Reads what is selected of the context, and nothing else.
pub(crate) fn recipes(
    graph: &Graph,
    request: &BuildRequest,
    context: Option<&BuildContext>,
    report: &dyn Fn(strata_parser::Diagnostic) -> Report,
) -> Result<Recipes, BuildError> {
    let ulimits: Vec<String> = request
        .ulimits
        .iter()
        .map(|(name, (soft, hard))| format!("{name}={soft}:{hard}"))
        .collect();
    let extra_hosts: Vec<String> = request
        .extra_hosts
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let images: Vec<CacheKey> = graph
        .images
        .iter()
        .map(|image| key::image_key(image.base.config_digest))
        .collect();
    let empty = key::empty_key();

    let mut recipes = Recipes {
        keys: Vec::new(),
        parts: Vec::new(),
        selections: HashMap::new(),
    };
    for (index, vertex) in graph.vertices.iter().enumerate() {
        let mut selected = None;
        if let Op::Copy(copy) = &vertex.op
            && copy.from == CopyFrom::Context
            && !copy.sources.is_empty()
        {
            let context = context.expect("a context is open if a step copies from it");
            let (selection, found) = select(context, copy).map_err(|error| {
                BuildError::Dockerfile(Box::new(report(copy_diagnostic(
                    &error,
                    vertex.span,
                    "the build context",
                ))))
            })?;
            recipes.selections.insert(VertexId(index), selection);
            selected = Some(found);
        }
        let keys = &recipes.keys;
        let (key, parts) = key::recipe(
            &vertex.op,
            vertex.parent,
            &KeyInputs {
                root: &|root| match root {
                    Root::Empty => empty,
                    Root::Image(image) => images[image.0],
                    Root::Step(vertex) => keys[vertex.0],
                },
                root_name: &|root| match root {
                    Root::Empty => "base scratch".to_owned(),
                    Root::Image(image) => format!("base {}", graph.images[image.0].reference),
                    Root::Step(vertex) => format!("step {}", graph.vertices[vertex.0].text),
                },
                selection: selected.as_ref(),
                platform: &vertex.platform,
                ulimits: &ulimits,
                shm_size: request.shm_size,
                extra_hosts: &extra_hosts,
            },
        );
        recipes.keys.push(key);
        recipes.parts.push(parts);
    }
    Ok(recipes)
}

fn select(context: &BuildContext, copy: &CopyOp) -> Result<(Selection, Selected), CopyError> {
    with_spec(copy, &copy.sources, None, |spec| {
        let tree = context.tree();
        let mut selection = strata_executor::copy::select(tree, spec)?;
        let (digest, files) = selection.digest(tree, spec, &mut |entry, digest| {
            context.learn(entry, digest);
        })?;
        let files = files
            .into_iter()
            .map(|file| (file.path, file.digest))
            .collect();
        Ok((selection, Selected { digest, files }))
    })
}

/// Calls `use_it` with the executor's form of `copy`.
pub(crate) fn with_spec<T>(
    copy: &CopyOp,
    sources: &[String],
    owner: Option<(u32, u32)>,
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
        Some(chmod) if chmod.is_octal() => chmod.apply(0o755, true),
        _ => 0o755,
    };
    use_it(&CopySpec {
        sources,
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
        cancelled: None,
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
