//! The files that copies read: the build context, named contexts, and what was fetched.

use strata_cache::Store;

use crate::context::BuildContext;
use crate::error::{BuildError, Report};
use crate::graph::{CopyFrom, Graph, Op, Source, SourceVertex};
use crate::request::BuildRequest;

/// Everything of a graph that is copied from and is no stage or image, opened.
pub(crate) struct Sources {
    /// None if no step copies from it.
    context: Option<BuildContext>,
    /// By [`SourceId`](crate::graph::SourceId).
    opened: Vec<BuildContext>,
}

impl Sources {
    /// Opens what the steps of `graph` copy from.
    pub(crate) fn open(
        graph: &Graph,
        request: &BuildRequest,
        store: &Store,
        report: &dyn Fn(strata_parser::Diagnostic) -> Report,
    ) -> Result<Self, BuildError> {
        let context = if copies_from_context(graph) {
            Some(BuildContext::open(request, store)?)
        } else {
            None
        };
        let mut opened = Vec::with_capacity(graph.sources.len());
        for vertex in &graph.sources {
            opened.push(open(vertex, store, report)?);
        }
        Ok(Self { context, opened })
    }

    /// The files of the context or of a source, which a vertex of the graph copies from.
    pub(crate) fn files(&self, from: CopyFrom) -> &BuildContext {
        match from {
            CopyFrom::Source(source) => &self.opened[source.0],
            _ => self
                .context
                .as_ref()
                .expect("the context is open if a step copies from it"),
        }
    }

    /// Saves what was learned of local files.
    pub(crate) fn finish(self, store: &Store) {
        for files in self.context.into_iter().chain(self.opened) {
            files.finish(store);
        }
    }
}

fn open(
    vertex: &SourceVertex,
    store: &Store,
    report: &dyn Fn(strata_parser::Diagnostic) -> Report,
) -> Result<BuildContext, BuildError> {
    match &vertex.source {
        Source::Directory(root) => {
            BuildContext::directory(root, None, store).map_err(|error| match error {
                BuildError::Context { .. } => {
                    let message = format!("{} can't be used: {error}", vertex.name);
                    let diagnostic =
                        strata_parser::Diagnostic::error("bad-context", vertex.span, message);
                    BuildError::Dockerfile(Box::new(report(diagnostic)))
                }
                error => error,
            })
        }
    }
}

fn copies_from_context(graph: &Graph) -> bool {
    graph.vertices.iter().any(|vertex| {
        matches!(&vertex.op, Op::Copy(copy)
            if copy.from == CopyFrom::Context && !copy.sources.is_empty())
    })
}
