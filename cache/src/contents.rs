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
    /// To look for files.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup::new(self.0.as_chunks::<SIZE>().0)
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

/// A [`FileSet`] in which many files are to be looked for.
///
/// Digests are spread evenly, so their first bits say where each begins: a look-up reads two places of memory, where
/// halving the set reads as many as the number of its files has digits, most of which are in no cache.
#[derive(Debug)]
pub struct Lookup<'a> {
    digests: &'a [[u8; SIZE]],
    /// For each value of the first bits, how many digests have a smaller one; and how many there are.
    starts: Vec<u32>,
    shift: u32,
}

impl<'a> Lookup<'a> {
    fn new(digests: &'a [[u8; SIZE]]) -> Self {
        let bits = digests.len().max(2).ilog2();
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        for (place, digest) in digests.iter().enumerate() {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            // The set is sorted; of one that is not, files are not found.
            while starts.len() as u64 <= leading(digest) >> shift {
                starts.push(place);
            }
        }
        starts.resize(
            (1 << bits) + 1,
            u32::try_from(digests.len()).unwrap_or(u32::MAX),
        );
        Self {
            digests,
            starts,
            shift,
        }
    }

    /// Whether `file` is in the set.
    pub fn holds(&self, file: &Digest) -> bool {
        let file = file.as_bytes();
        let bucket = usize::try_from(leading(file) >> self.shift).unwrap_or(usize::MAX);
        let start = |bucket| self.starts.get(bucket).map(|start| *start as usize);
        let (Some(begin), Some(end)) = (start(bucket), start(bucket.saturating_add(1))) else {
            return false;
        };
        let bucket = self.digests.get(begin..end).unwrap_or_default();
        bucket.binary_search(file).is_ok()
    }
}

fn leading(digest: &[u8; SIZE]) -> u64 {
    digest
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
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
        let lookup = set.lookup();
        assert!(files.iter().all(|file| lookup.holds(file)));
        assert!(!lookup.holds(&Digest::of(b"another")));
        assert!(FileSet::default().is_empty());
        assert!(!FileSet::default().lookup().holds(&files[0]));
        for few in 1..5 {
            let set: FileSet = files[..few].iter().copied().collect();
            let lookup = set.lookup();
            let found = files.iter().filter(|file| lookup.holds(file));
            assert_eq!(found.count(), few);
        }
    }

    #[test]
    fn digests_that_are_not_spread_evenly_are_found() {
        let crowd = |last: u8| {
            let mut bytes = [0x80; SIZE];
            bytes[SIZE - 1] = last;
            Digest::from_bytes(bytes)
        };
        let ends = [[0; SIZE], [0xff; SIZE]].map(Digest::from_bytes);
        let files: Vec<Digest> = (0..250).map(crowd).chain(ends).collect();
        let set: FileSet = files.iter().copied().collect();
        let lookup = set.lookup();
        assert!(files.iter().all(|file| lookup.holds(file)));
        assert!(!lookup.holds(&crowd(251)));
        assert!(!lookup.holds(&Digest::of(b"another")));
    }
}
