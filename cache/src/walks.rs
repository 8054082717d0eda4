//! What earlier walks of a context saw, and what came of them.
//!
//! The [stat cache](crate::statcache) spares reading a file that has not changed. This spares looking at
//! each file's entry there, too: a walk that sees just what an earlier one saw comes to the same
//! answer. What a walk asks (which files, by which patterns), what it saw and what it found are given by
//! who walks; here they are a name, bytes, and a digest.
//!
//! One file for each context, beside the context's stat cache:
//! ```text
//! magic     8 bytes
//! walks     question (32 bytes), answer (32), length (u32), what was seen; the last used first
//! crc       u32      of everything before
//! ```
//! Numbers are little-endian. A file that is missing or damaged holds no walks.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::{Digest, Store, StoreError, statcache};

const MAGIC: &[u8; 8] = b"strawlk1";
/// Question, answer and length.
const HEAD: usize = 32 + 32 + 4;
/// Walks that are kept of one context: a few Dockerfiles with a few copies each.
const MOST: usize = 32;
/// Larger files are neither written nor read.
const MAX_FILE: usize = 64 << 20;

/// The walks of one context.
#[derive(Debug)]
pub struct Walks {
    file: PathBuf,
    /// The whole file, checked, or empty. Read when it is first asked for.
    bytes: OnceLock<Vec<u8>>,
    added: Vec<Walk<Vec<u8>>>,
}

/// A walk as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk<Seen> {
    /// What was asked.
    pub question: Digest,
    /// What was found.
    pub answer: Digest,
    /// What was seen.
    pub seen: Seen,
}

impl Walks {
    /// The walks of the context at `root`.
    pub fn of(store: &Store, root: &Path) -> Self {
        let file = statcache::file_of(store, root).with_extension("walks");
        Self {
            file,
            bytes: OnceLock::new(),
            added: Vec::new(),
        }
    }

    /// The last walk that asked `question`.
    pub fn find(&self, question: Digest) -> Option<Walk<&[u8]>> {
        walks(self.bytes()).find(|walk| walk.question == question)
    }

    /// Keeps a walk, in place of an earlier one with its question.
    pub fn insert(&mut self, walk: Walk<Vec<u8>>) {
        self.added.retain(|it| it.question != walk.question);
        self.added.push(walk);
    }

    /// Writes the file anew if anything was inserted (scratch file, then rename). Of two builds that save at
    /// once the later one wins.
    pub fn save(self, store: &Store) -> Result<(), StoreError> {
        if self.added.is_empty() || store.is_read_only() {
            return Ok(());
        }
        statcache::replace(store, &self.file, &self.encode())
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get_or_init(|| {
            let bytes = fs::read(&self.file).unwrap_or_default();
            if is_whole(&bytes) { bytes } else { Vec::new() }
        })
    }

    fn encode(&self) -> Vec<u8> {
        let new = self.added.iter().rev().map(|walk| Walk {
            question: walk.question,
            answer: walk.answer,
            seen: walk.seen.as_slice(),
        });
        let is_new = |question| self.added.iter().any(|new| new.question == question);
        let old = walks(self.bytes()).filter(|walk| !is_new(walk.question));
        let mut bytes = MAGIC.to_vec();
        for walk in new.chain(old).take(MOST) {
            let Ok(length) = u32::try_from(walk.seen.len()) else {
                continue;
            };
            if bytes.len() + HEAD + walk.seen.len() > MAX_FILE {
                continue;
            }
            bytes.extend_from_slice(walk.question.as_bytes());
            bytes.extend_from_slice(walk.answer.as_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(walk.seen);
        }
        let crc = statcache::checksum(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return false;
    };
    bytes.len() <= MAX_FILE + 4
        && body.starts_with(MAGIC)
        && statcache::checksum(body) == u32::from_le_bytes(*crc)
}

/// The walks in a file that [is whole](is_whole), or in none.
fn walks(bytes: &[u8]) -> impl Iterator<Item = Walk<&[u8]>> {
    let end = bytes.len().saturating_sub(4);
    let mut rest = bytes.get(MAGIC.len()..end).unwrap_or_default();
    std::iter::from_fn(move || {
        let (question, after) = rest.split_first_chunk::<32>()?;
        let (answer, after) = after.split_first_chunk::<32>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (seen, after) = after.split_at_checked(length)?;
        rest = after;
        Some(Walk {
            question: Digest::from_bytes(*question),
            answer: Digest::from_bytes(*answer),
            seen,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &tempfile::TempDir) -> Walks {
        Walks {
            file: directory.path().join("walks"),
            bytes: OnceLock::new(),
            added: Vec::new(),
        }
    }

    fn walk(question: &str, seen: &str) -> Walk<Vec<u8>> {
        Walk {
            question: Digest::of(question.as_bytes()),
            answer: Digest::of(seen.as_bytes()),
            seen: seen.into(),
        }
    }

    fn seen(walks: &Walks, question: &str) -> Option<String> {
        let found = walks.find(Digest::of(question.as_bytes()))?;
        assert_eq!(found.answer, Digest::of(found.seen));
        Some(String::from_utf8(found.seen.to_vec()).unwrap())
    }

    #[test]
    fn the_last_walk_of_each_question_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut walks = open(&directory);
        assert_eq!(seen(&walks, "a"), None);
        for (question, text) in [("a", "1"), ("b", ""), ("a", "2")] {
            walks.insert(walk(question, text));
        }
        fs::write(&walks.file, walks.encode()).unwrap();
        let mut walks = open(&directory);
        assert_eq!(seen(&walks, "a").unwrap(), "2");
        assert_eq!(seen(&walks, "b").unwrap(), "");
        assert_eq!(seen(&walks, "c"), None);
        walks.insert(walk("b", "3"));
        fs::write(&walks.file, walks.encode()).unwrap();
        let walks = open(&directory);
        assert_eq!(seen(&walks, "a").unwrap(), "2");
        assert_eq!(seen(&walks, "b").unwrap(), "3");
    }

    #[test]
    fn those_not_renewed_for_long_go() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..=MOST {
            let mut walks = open(&directory);
            walks.insert(walk(&number.to_string(), "x"));
            fs::write(&walks.file, walks.encode()).unwrap();
        }
        let walks = open(&directory);
        assert_eq!(seen(&walks, "0"), None);
        assert!((1..=MOST).all(|number| seen(&walks, &number.to_string()).is_some()));
    }

    #[test]
    fn a_damaged_file_holds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut walks = open(&directory);
        walks.insert(walk("a", "what was seen"));
        let bytes = walks.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&walks.file, &damaged).unwrap();
            assert_eq!(seen(&open(&directory), "a"), None, "byte {at}");
            fs::write(&walks.file, &bytes[..at]).unwrap();
            assert_eq!(seen(&open(&directory), "a"), None, "{at} bytes");
        }
        // With a right sum, but a length that is beyond the end.
        let mut lying = bytes[..bytes.len() - 4].to_vec();
        lying[8 + 64] = 200;
        lying.extend(statcache::checksum(&lying).to_le_bytes());
        fs::write(&walks.file, &lying).unwrap();
        assert_eq!(seen(&open(&directory), "a"), None);
    }
}
