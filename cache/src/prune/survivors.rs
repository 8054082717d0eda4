//! Records that are left while others are given up, leaves first.

use std::collections::HashMap;

use crate::index::usage::Snapshot;
use crate::{CacheRecord, LayerId};

/// The records that are left, and what they stand on.
pub(super) struct Survivors {
    /// How many surviving records have a layer as theirs.
    own: HashMap<LayerId, u32>,
    /// How many surviving records have a layer as parent.
    children: HashMap<LayerId, u32>,
    /// Records by their layer.
    by_layer: HashMap<LayerId, Vec<usize>>,
    layers: Vec<LayerId>,
    parents: Vec<Option<LayerId>>,
    alive: Vec<bool>,
}

impl Survivors {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut this = Self {
            own: HashMap::new(),
            children: HashMap::new(),
            by_layer: HashMap::new(),
            layers: Vec::new(),
            parents: Vec::new(),
            alive: vec![true; snapshot.records.len()],
        };
        for (index, record) in snapshot.records.iter().enumerate() {
            *this.own.entry(record.layer).or_default() += 1;
            this.by_layer.entry(record.layer).or_default().push(index);
            if let Some(parent) = record.parent {
                *this.children.entry(parent).or_default() += 1;
            }
            this.layers.push(record.layer);
            this.parents.push(record.parent);
        }
        this
    }

    pub(super) fn is_leaf(&self, index: usize) -> bool {
        self.alive[index] && self.children.get(&self.layers[index]).copied().unwrap_or(0) == 0
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.alive[index] = false;
        if let Some(count) = self.own.get_mut(&self.layers[index]) {
            *count -= 1;
        }
        if let Some(count) = self.parents[index].and_then(|parent| self.children.get_mut(&parent)) {
            *count -= 1;
        }
    }

    /// Records whose layer is the parent of `record`.
    pub(super) fn records_of_parent(&self, record: &CacheRecord) -> Vec<usize> {
        record
            .parent
            .and_then(|parent| self.by_layer.get(&parent))
            .cloned()
            .unwrap_or_default()
    }

    /// True if there were records of this layer: it goes with the last of them.
    pub(super) fn had(&self, layer: LayerId) -> bool {
        self.own.contains_key(&layer)
    }

    /// True if a surviving record is of this layer or stands on it.
    pub(super) fn needs(&self, layer: LayerId) -> bool {
        self.own.get(&layer).copied().unwrap_or(0) > 0
            || self.children.get(&layer).copied().unwrap_or(0) > 0
    }
}
