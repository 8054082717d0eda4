//! Layers that hold nothing, such as those of commands that only look whether something is right.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{LayerId, Store, StoreError};

/// Of which layers it is known whether they hold anything. That never changes.
#[derive(Debug, Default)]
pub(crate) struct EmptyLayers(Mutex<HashMap<LayerId, bool>>);

impl EmptyLayers {
    /// Remembers whether `layer` holds nothing.
    pub(super) fn note(&self, layer: LayerId, empty: bool) {
        self.known().insert(layer, empty);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<LayerId, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The layers of `stack` that make a difference to what is seen of it: those that hold nothing
    /// are left out, but for the topmost, whose root is the root of the whole. A step sees the same
    /// through fewer layers, each of which costs it time.
    pub fn layers_that_tell(&self, stack: &[LayerId]) -> Result<Vec<LayerId>, StoreError> {
        let mut telling = Vec::with_capacity(stack.len());
        for (position, layer) in stack.iter().enumerate() {
            if position + 1 == stack.len() || !self.is_empty_layer(*layer)? {
                telling.push(*layer);
            }
        }
        Ok(telling)
    }

    fn is_empty_layer(&self, layer: LayerId) -> Result<bool, StoreError> {
        let known = &self.shared.empty_layers;
        if let Some(empty) = known.known().get(&layer) {
            return Ok(*empty);
        }
        let row = self.index().layer(layer)?;
        let empty = row.is_some_and(|row| row.entries == 0);
        known.note(layer, empty);
        Ok(empty)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Lease, RootfsPlan};

    /// A layer with a file for each of `names` on `stack`.
    fn layer(store: &Store, lease: &Lease, stack: &[LayerId], names: &[&str]) -> LayerId {
        let scratch = store.scratch(stack).unwrap();
        for name in names {
            fs::write(scratch.upper().join(name), name).unwrap();
        }
        scratch.commit(lease, None, None).unwrap()
    }

    #[test]
    fn layers_that_hold_nothing_are_left_out_but_for_the_topmost() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let lease = store.lease("test").unwrap();
        let base = layer(&store, &lease, &[], &["file"]);
        let empty = layer(&store, &lease, &[base], &[]);
        let last = layer(&store, &lease, &[base, empty], &[]);
        // A store that didn't make them asks its index.
        let other = Store::open(directory.path()).unwrap();
        for store in [&store, &other] {
            let tell = |stack: &[LayerId]| store.layers_that_tell(stack).unwrap();
            assert_eq!(tell(&[]), []);
            assert_eq!(tell(&[base]), [base]);
            assert_eq!(tell(&[base, empty]), [base, empty]);
            assert_eq!(tell(&[base, empty, last]), [base, last]);
            assert_eq!(tell(&[empty, last, base]), [base]);
        }
        let mut scratch = store.scratch(&[base, empty, last]).unwrap();
        let RootfsPlan::Overlay { lowers, .. } = scratch.rootfs(None).unwrap() else {
            panic!("overlays are the default");
        };
        assert_eq!(lowers, [last, base].map(|layer| store.layer_path(layer)));
    }
}
