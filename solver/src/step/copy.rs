//! COPY and ADD.

use std::sync::atomic::Ordering;

use strata_cache::{HardLinks, Scratch};
use strata_executor::copy::{self, CopyError, CopySpec};
use strata_executor::tree::{MemoryTree, SourceTree};
use strata_executor::users;

use super::{Failure, Shared, Stacks, user_error};
use crate::graph::{CopyFrom, CopyOp, Root, Vertex, VertexId};
use crate::recipes::{copy_diagnostic, with_spec};
use crate::remote::RemoteError;
use crate::sources::remote_diagnostic;

impl Shared<'_> {
    /// Writes what `op` copies into the upper directory of `scratch`.
    pub(super) fn copy_files(
        &self,
        id: VertexId,
        vertex: &Vertex,
        op: &CopyOp,
        scratch: &Scratch<'_>,
        stacks: Stacks<'_>,
    ) -> Result<HardLinks, Failure> {
        let below = self.view(scratch.stack());
        let owner = match &op.chown {
            None => None,
            Some(text) => {
                Some(users::owner(&below, text).map_err(|error| user_error(&error, vertex.span))?)
            }
        };
        let place = self.place(op.from);
        let failed = |error: CopyError| match error {
            CopyError::Cancelled => Failure::Stopped,
            error => Failure::from(copy_diagnostic(&error, vertex.span, &place)),
        };
        let mut result = copy::Written::default();
        if !op.sources.is_empty() {
            let written = with_spec(op, &op.sources, owner, self.stop, |spec| match op.from {
                CopyFrom::Context | CopyFrom::Source(_) => {
                    let selection = &self.recipes.selections[&id];
                    let tree = self.sources.tree(op.from);
                    selection.write(tree, spec, &below, scratch.upper())
                }
                CopyFrom::Root(root) => {
                    let tree = self.stage_tree(&stacks(root));
                    write_all(&tree, spec, &below, scratch)
                }
            });
            result.merge(written.map_err(failed)?);
        }
        for remote in &op.remotes {
            let source = &self.graph.sources[remote.0];
            let name = source.name.as_str();
            let (tree, whole) = self.sources.remote(*remote).map_err(|error| match error {
                RemoteError::Cancelled => Failure::Stopped,
                error => Failure::from(remote_diagnostic(&error, vertex.span)),
            })?;
            let failed = |error: CopyError| match error {
                CopyError::Cancelled => Failure::Stopped,
                error => Failure::from(copy_diagnostic(&error, vertex.span, name)),
            };
            let op = CopyOp {
                unpack: op.unpack_remotes,
                ..op.clone()
            };
            let written = with_spec(&op, &[whole], owner, self.stop, |spec| {
                write_all(tree, spec, &below, scratch)
            });
            result.merge(written.map_err(failed)?);
        }
        if !op.files.is_empty() {
            let names: Vec<String> = op.files.iter().map(|(name, _)| name.clone()).collect();
            let tree = MemoryTree::new(
                op.files
                    .iter()
                    .map(|(name, content)| (name.clone(), content.clone().into_bytes()))
                    .collect(),
            );
            let written = with_spec(op, &names, owner, self.stop, |spec| {
                write_all(&tree, spec, &below, scratch)
            });
            result.merge(written.map_err(failed)?);
        }
        self.foreign_owners
            .fetch_add(result.foreign_owners, Ordering::Relaxed);
        Ok(result.links)
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

fn write_all(
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
    below: &strata_cache::LayerView,
    scratch: &Scratch<'_>,
) -> Result<copy::Written, CopyError> {
    copy::select(tree, spec)?.write(tree, spec, below, scratch.upper())
}
