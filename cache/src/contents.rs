//! Which files a layer holds: what lets a later copy link a file that it would write once more.

use std::path::PathBuf;

use crate::{Digest, LayerId, Store, StoreError};

/// Bytes of one digest.
const SIZE: usize = 32;

/// More files than this are not remembered: the set is loaded as a whole.
const MOST: usize = 500_000;

/// A set of digests, each of which stands for one regular file of a layer: its path, content and
/// metadata. What exactly goes into such a digest is the business of whoever writes layers.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileSet(Vec<u8>);

impl FileSet {
    /// Whether `file` is in the set.
    pub fn holds(&self, file: &Digest) -> bool {
        let digests = self.0.as_chunks::<SIZE>().0;
        digests.binary_search(file.as_bytes()).is_ok()
    }

    /// True if nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many files are in the set.
    pub fn len(&self) -> usize {
        self.0.len() / SIZE
    }
}

impl FromIterator<Digest> for FileSet {
    fn from_iter<I: IntoIterator<Item = Digest>>(files: I) -> Self {
        let mut digests: Vec<[u8; SIZE]> = files.into_iter().map(|file| *file.as_bytes()).collect();
        digests.sort_unstable();
        digests.dedup();
        Self(digests.concat())
    }
}

impl std::fmt::Debug for FileSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "FileSet({} files)", self.len())
    }
}

/// A layer whose files may be linked into another one.
#[derive(Debug, Clone)]
pub struct KnownLayer {
    /// Its directory.
    pub directory: PathBuf,
    /// What is known to be in it.
    pub files: FileSet,
}

impl Store {
    /// Remembers which files `layer` holds.
    pub fn remember_files(&self, layer: LayerId, files: &FileSet) -> Result<(), StoreError> {
        if files.is_empty() || files.len() > MOST {
            return Ok(());
        }
        self.index().set_layer_contents(layer, &files.0)
    }

    /// The layer with what is known of its files; none if nothing is, or if there is no such layer any more.
    pub fn known_layer(&self, layer: LayerId) -> Result<Option<KnownLayer>, StoreError> {
        let files = self.index().layer_contents(layer)?;
        // A row of another length is damaged.
        let files = files.filter(|files| files.len().is_multiple_of(SIZE));
        Ok(files.map(|files| KnownLayer {
            directory: self.layer_path(layer),
            files: FileSet(files),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let files: Vec<Digest> = (0_u32..500).map(|n| Digest::of(&n.to_le_bytes())).collect();
        let set: FileSet = files.iter().chain(&files).copied().collect();
        assert_eq!(set.len(), 500);
        assert!(files.iter().all(|file| set.holds(file)));
        assert!(!set.holds(&Digest::of(b"another")));
        assert!(FileSet::default().is_empty());
        assert!(!FileSet::default().holds(&files[0]));
    }
}
