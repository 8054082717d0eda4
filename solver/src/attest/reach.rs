//! What of a graph a result is made of: with several platforms there is more in it.

use crate::graph::{CopyFrom, Graph, Op, Root};

/// Which parts of a graph were used, by their numbers.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(super) images: Vec<bool>,
    pub(super) vertices: Vec<bool>,
    pub(super) sources: Vec<bool>,
}

impl Reach {
    /// What `root` is made of, and what is built whatever the target takes from it.
    pub(crate) fn of(graph: &Graph, root: Root) -> Self {
        let mut reach = Self {
            images: vec![false; graph.images.len()],
            vertices: vec![false; graph.vertices.len()],
            sources: vec![false; graph.sources.len()],
        };
        let mut pending = vec![root];
        pending.extend(&graph.also);
        while let Some(root) = pending.pop() {
            match root {
                Root::Empty => {}
                Root::Image(image) => reach.images[image.0] = true,
                Root::Step(id) => {
                    if std::mem::replace(&mut reach.vertices[id.0], true) {
                        continue;
                    }
                    let vertex = &graph.vertices[id.0];
                    pending.push(vertex.parent);
                    pending.extend(vertex.inputs());
                    if let Op::Copy(copy) = &vertex.op {
                        let remotes = copy.remotes.iter().map(|(_, source)| *source);
                        let from = match copy.from {
                            CopyFrom::Source(source) => Some(source),
                            CopyFrom::Context | CopyFrom::Root(_) => None,
                        };
                        for source in remotes.chain(from) {
                            reach.sources[source.0] = true;
                        }
                    }
                }
            }
        }
        reach
    }
}
