//! Copying what stands in the Dockerfile itself: the heredocs of COPY and ADD.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use strata_cache::Digest;
use strata_cache::view::{Entry, FileKind, Metadata};

use super::{SourceTree, TreeError, Xattr};

/// A directory of a few files that exist in memory only: regular, 0644, owned by 0:0, as old as
/// the tree.
#[derive(Debug)]
pub struct MemoryTree {
    files: Vec<(String, Vec<u8>)>,
    created: (i64, u32),
}

impl MemoryTree {
    /// A tree with `files` (name, content) in its root. Of two files with one name the later is
    /// taken.
    pub fn new(mut files: Vec<(String, Vec<u8>)>) -> Self {
        // Stable, so that the later of two equal names stays the later one.
        files.sort_by(|left, right| left.0.cmp(&right.0));
        files.reverse();
        files.dedup_by(|later, earlier| later.0 == earlier.0);
        files.reverse();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let created = (
            i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            now.subsec_nanos(),
        );
        Self { files, created }
    }

    fn entry(&self, path: &str, inode: u64, kind: FileKind, mode: u32, size: u64) -> Entry {
        let metadata = Metadata {
            kind,
            mode,
            uid: 0,
            gid: 0,
            size,
            mtime: self.created,
            ctime: self.created,
            inode: (0, inode),
            links: 1,
            rdev: (0, 0),
        };
        Entry::outside_layers(PathBuf::from(path), metadata, PathBuf::new())
    }

    fn file(&self, index: usize) -> Entry {
        let (name, content) = &self.files[index];
        let inode = index as u64 + 2;
        self.entry(name, inode, FileKind::File, 0o644, content.len() as u64)
    }

    fn content(&self, entry: &Entry) -> Option<&[u8]> {
        let (_, content) = self
            .files
            .iter()
            .find(|(name, _)| Path::new(name) == entry.path)?;
        Some(content)
    }
}

impl SourceTree for MemoryTree {
    fn lookup(&self, path: &Path, _follow: bool) -> Result<Option<Entry>, TreeError> {
        let names: Vec<_> = path
            .components()
            .filter(|component| matches!(component, Component::Normal(_)))
            .collect();
        match names.as_slice() {
            [] => Ok(Some(self.entry("", 1, FileKind::Directory, 0o755, 0))),
            [Component::Normal(name)] => Ok(self
                .files
                .iter()
                .position(|(file, _)| Path::new(file) == Path::new(name))
                .map(|index| self.file(index))),
            _ => Ok(None),
        }
    }

    fn read_dir(&self, _directory: &Entry) -> Result<Vec<Entry>, TreeError> {
        Ok((0..self.files.len())
            .map(|index| self.file(index))
            .collect())
    }

    fn read_link(&self, entry: &Entry) -> Result<PathBuf, TreeError> {
        Err(TreeError::Io {
            action: "read link",
            path: entry.path.clone(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })
    }

    fn open(&self, entry: &Entry) -> Result<File, TreeError> {
        let failed = |source| TreeError::Io {
            action: "read",
            path: entry.path.clone(),
            source,
        };
        let content = self
            .content(entry)
            .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        // A descriptor that knows no path: nobody else can change what it holds.
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let memory =
            rustix::fs::memfd_create("heredoc", flags).map_err(|errno| failed(errno.into()))?;
        let mut file = File::from(memory);
        file.write_all(content).map_err(failed)?;
        file.rewind().map_err(failed)?;
        Ok(file)
    }

    fn xattrs(&self, _entry: &Entry) -> Result<Vec<Xattr>, TreeError> {
        Ok(Vec::new())
    }

    fn owner(&self, _entry: &Entry) -> (u32, u32) {
        (0, 0)
    }

    fn known_digest(&self, entry: &Entry) -> Option<Digest> {
        self.content(entry).map(Digest::of)
    }

    fn immutable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_later_of_two_files_with_one_name_is_taken() {
        let tree = MemoryTree::new(vec![
            ("b".into(), b"1".to_vec()),
            ("a".into(), b"2".to_vec()),
            ("b".into(), b"3".to_vec()),
        ]);
        let root = tree.lookup(Path::new(""), true).unwrap().unwrap();
        let entries = tree.read_dir(&root).unwrap();
        let mut found = Vec::new();
        for entry in &entries {
            let mut text = String::new();
            tree.open(entry).unwrap().read_to_string(&mut text).unwrap();
            found.push((entry.path.to_str().unwrap(), text));
        }
        assert_eq!(found, [("a", "2".to_owned()), ("b", "3".to_owned())]);
        assert!(tree.lookup(Path::new("/b"), true).unwrap().is_some());
        assert!(tree.lookup(Path::new("c"), true).unwrap().is_none());
        assert!(tree.lookup(Path::new("b/c"), true).unwrap().is_none());
    }
}
