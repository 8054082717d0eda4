//! COPY and ADD.

use std::ops::Range;
use std::sync::Mutex;

use strata_cache::diff::Foretelling;
use strata_cache::{KeyPart, KnownLayer, LayerView, Scratch};
use strata_executor::copy::{self, CopyError, CopySpec};
use strata_executor::tree::{MemoryTree, SourceTree};
use strata_executor::users;

use super::{Failure, Shared, Stacks, user_error};
use crate::graph::{CopyFrom, CopyOp, Root, SourceId, Vertex, VertexId};
use crate::recipes::{copy_diagnostic, with_spec};
use crate::remote::RemoteError;
use crate::sources::remote_diagnostic;

impl Shared<'_> {
    /// Writes what `op` copies into the upper directory of `scratch`. Files that `earlier` has already are
    /// linked. The diff ID goes to `foretold`, if it can be told by then.
    pub(super) fn copy_files(
        &self,
        id: VertexId,
        op: &CopyOp,
        scratch: &Scratch<'_>,
        stacks: Stacks<'_>,
        earlier: Option<&KnownLayer>,
        foretold: Option<&Mutex<Option<Foretelling>>>,
    ) -> Result<copy::Written, Failure> {
        let vertex = &self.graph.vertices[id.0];
        let below = self.view(scratch.stack());
        let owner = match &op.chown {
            None => None,
            Some(text) => {
                Some(users::owner(&below, text).map_err(|error| user_error(&error, vertex.span))?)
            }
        };
        let copying = Copying {
            vertex,
            op,
            owner: self.squashed(owner),
            below,
            scratch,
            earlier,
            // Of a layer that is made in one go.
            foretold: foretold
                .filter(|_| op.sources.len() == 1 && op.remotes.is_empty() && op.files.is_empty()),
        };
        let mut result = copy::Written::default();
        // In the order in which they are written: a later source replaces files of an earlier one.
        let mut begin = 0;
        for (before, remote) in &op.remotes {
            if *before > begin {
                result.merge(self.local(id, &copying, begin..*before, stacks)?);
                begin = *before;
            }
            result.merge(self.remote(&copying, *remote)?);
        }
        if begin < op.sources.len() {
            result.merge(self.local(id, &copying, begin..op.sources.len(), stacks)?);
        }
        if !op.files.is_empty() {
            result.merge(self.heredocs(&copying)?);
        }
        self.count_owners(result.owners, vertex.span)?;
        Ok(result)
    }

    /// What the key of a vertex is made of.
    pub(super) fn parts(&self, id: VertexId) -> Result<Vec<KeyPart>, Failure> {
        let parts = self.recipes.parts(self.graph, self.sources, self.stop, id);
        let vertex = &self.graph.vertices[id.0];
        parts.map_err(|error| match error {
            CopyError::Cancelled => Failure::Stopped,
            error => Failure::from(copy_diagnostic(&error, vertex.span, "what it copies from")),
        })
    }

    /// Copies some of the sources in the context, a stage or an image.
    fn local(
        &self,
        id: VertexId,
        copying: &Copying<'_>,
        sources: Range<usize>,
        stacks: Stacks<'_>,
    ) -> Result<copy::Written, Failure> {
        let op = copying.op;
        let upper = copying.scratch.upper();
        let all = &op.sources;
        let written = with_spec(op, all, copying.owner, self.stop, |spec| match op.from {
            CopyFrom::Context | CopyFrom::Source(_) => {
                let selection = self
                    .recipes
                    .selection(self.graph, self.sources, self.stop, id)?
                    .expect("a step that copies from the context has a selection");
                let tree = self.sources.tree(op.from);
                let spec = &CopySpec {
                    earlier: copying.earlier,
                    foretold: copying.foretold,
                    ..*spec
                };
                selection.write_sources(sources, tree, spec, &copying.below, upper)
            }
            CopyFrom::Root(root) => {
                let tree = self.stage_tree(&stacks(root));
                let spec = &CopySpec {
                    foretold: copying.foretold,
                    ..*spec
                };
                copying.whole(&tree, spec)
            }
        });
        written.map_err(|error| copying.failure(error, &self.place(op.from)))
    }

    /// Copies a source that was fetched.
    fn remote(&self, copying: &Copying<'_>, remote: SourceId) -> Result<copy::Written, Failure> {
        let span = copying.vertex.span;
        let (tree, whole) = self.sources.remote(remote).map_err(|error| match error {
            RemoteError::Cancelled => Failure::Stopped,
            error => Failure::from(remote_diagnostic(&error, span)),
        })?;
        let op = CopyOp {
            unpack: copying.op.unpack_remotes,
            ..copying.op.clone()
        };
        let written = with_spec(&op, &[whole], copying.owner, self.stop, |spec| {
            copying.whole(tree, spec)
        });
        let name = &self.graph.sources[remote.0].name;
        written.map_err(|error| copying.failure(error, name))
    }

    /// Writes the files that are in the Dockerfile. They are what they are: never archives, and
    /// below no directory whose path could be kept.
    fn heredocs(&self, copying: &Copying<'_>) -> Result<copy::Written, Failure> {
        let op = CopyOp {
            unpack: false,
            parents: false,
            ..copying.op.clone()
        };
        let names: Vec<String> = op.files.iter().map(|(name, _)| name.clone()).collect();
        let tree = MemoryTree::new(
            op.files
                .iter()
                .map(|(name, content)| (name.clone(), content.clone().into_bytes()))
                .collect(),
        );
        let written = with_spec(&op, &names, copying.owner, self.stop, |spec| {
            copying.whole(&tree, spec)
        });
        written.map_err(|error| copying.failure(error, "the Dockerfile"))
    }

    /// What people call the place that is copied from.
    fn place(&self, from: CopyFrom) -> String {
        match from {
            CopyFrom::Context => "the build context".to_owned(),
            CopyFrom::Source(source) => self.graph.sources[source.0].name.clone(),
            CopyFrom::Root(Root::Empty) => "an empty stage".to_owned(),
            CopyFrom::Root(Root::Image(image)) => {
                format!("image `{}`", self.graph.images[image.0].reference)
            }
            CopyFrom::Root(Root::Step(step)) => {
                format!(
                    "the stage that ends with `{}`",
                    self.graph.vertices[step.0].text
                )
            }
        }
    }
}

/// One COPY or ADD while its sources are written, one after the other.
struct Copying<'a> {
    vertex: &'a Vertex,
    op: &'a CopyOp,
    owner: Option<(u32, u32)>,
    below: LayerView,
    scratch: &'a Scratch<'a>,
    /// What an earlier run of the same operation made.
    earlier: Option<&'a KnownLayer>,
    foretold: Option<&'a Mutex<Option<Foretelling>>>,
}

impl Copying<'_> {
    /// Writes everything that `spec` selects in `tree`.
    fn whole(
        &self,
        tree: &dyn SourceTree,
        spec: &CopySpec<'_>,
    ) -> Result<copy::Written, CopyError> {
        copy::select(tree, spec)?.write(tree, spec, &self.below, self.scratch.upper())
    }

    /// What a copy from `place` that failed means for the step.
    fn failure(&self, error: CopyError, place: &str) -> Failure {
        match error {
            CopyError::Cancelled => Failure::Stopped,
            error => Failure::from(copy_diagnostic(&error, self.vertex.span, place)),
        }
    }
}
