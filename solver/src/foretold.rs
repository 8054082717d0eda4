//! Diff IDs of layers that are made beside them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use strata_cache::diff::Foretelling;
use strata_cache::{DiffId, LayerId};

use crate::graph::{Graph, Root, VertexId};

/// Which layers need a diff ID, and those that are on their way.
#[derive(Debug, Default)]
pub(crate) struct Foretold {
    /// By vertex.
    wanted: Vec<bool>,
    made: Mutex<HashMap<LayerId, Foretelling>>,
}

impl Foretold {
    /// For images that end at `targets`.
    pub(crate) fn for_images(graph: &Graph, targets: &[Root]) -> Self {
        Self {
            wanted: chain(graph, targets),
            made: Mutex::default(),
        }
    }

    pub(crate) fn wants(&self, vertex: VertexId) -> bool {
        self.wanted.get(vertex.0).copied().unwrap_or(false)
    }

    pub(crate) fn add(&self, layer: LayerId, foretelling: Foretelling) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.insert(layer, foretelling);
    }

    /// The diff ID of a layer, which is waited for. None if it is to be made from the layer.
    pub(crate) fn finish(&self, layer: LayerId) -> Option<DiffId> {
        let made = self.made.lock();
        let found = made.unwrap_or_else(PoisonError::into_inner).remove(&layer);
        found?.finish()
    }
}

/// Which vertices make a layer of what ends at `targets`.
pub(crate) fn chain(graph: &Graph, targets: &[Root]) -> Vec<bool> {
    let mut chain = vec![false; graph.vertices.len()];
    for target in targets {
        let mut root = *target;
        while let Root::Step(vertex) = root {
            chain[vertex.0] = true;
            root = graph.vertices[vertex.0].parent;
        }
    }
    chain
}
