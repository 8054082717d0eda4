//! Copying a single file that lies elsewhere: something fetched.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use strata_cache::Digest;
use strata_cache::view::{Entry, FileKind, Metadata};

use super::{SourceTree, TreeError, Xattr};

/// A directory with one regular file, owned by 0:0, whose content is a file of the host that
/// nobody writes to.
#[derive(Debug)]
pub struct FileTree {
    /// Its name.
    pub name: String,
    /// Where its content is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds since the epoch.
    pub mtime: i64,
    /// Digest of the content, if it is known.
    pub digest: Option<Digest>,
}

impl FileTree {
    fn entry(&self, kind: FileKind) -> Entry {
        let file = kind == FileKind::File;
        let metadata = Metadata {
            kind,
            mode: if file { self.mode } else { 0o755 },
            uid: 0,
            gid: 0,
            size: if file { self.size } else { 0 },
            mtime: (self.mtime, 0),
            ctime: (self.mtime, 0),
            inode: (0, if file { 2 } else { 1 }),
            links: 1,
            rdev: (0, 0),
        };
        let path = if file {
            PathBuf::from(&self.name)
        } else {
            PathBuf::new()
        };
        Entry::outside_layers(path, metadata, self.path.clone())
    }

    /// The file's name as a source: wildcards in it stand for themselves.
    pub fn source(&self) -> String {
        if !crate::glob::has_wildcard(&self.name) {
            return self.name.clone();
        }
        let mut source = String::new();
        for character in self.name.chars() {
            match character {
                '[' | '*' | '?' => {
                    source.push('[');
                    source.push(character);
                    source.push(']');
                }
                '\\' => source.push_str("\\\\"),
                _ => source.push(character),
            }
        }
        source
    }
}

impl SourceTree for FileTree {
    fn lookup(&self, path: &Path, _follow: bool) -> Result<Option<Entry>, TreeError> {
        let names: Vec<_> = path
            .components()
            .filter(|component| matches!(component, Component::Normal(_)))
            .collect();
        Ok(match names.as_slice() {
            [] => Some(self.entry(FileKind::Directory)),
            [Component::Normal(name)] if *name == self.name.as_str() => {
                Some(self.entry(FileKind::File))
            }
            _ => None,
        })
    }

    fn read_dir(&self, _directory: &Entry) -> Result<Vec<Entry>, TreeError> {
        Ok(vec![self.entry(FileKind::File)])
    }

    fn read_link(&self, entry: &Entry) -> Result<PathBuf, TreeError> {
        Err(TreeError::Io {
            action: "read link",
            path: entry.path.clone(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })
    }

    fn open(&self, _entry: &Entry) -> Result<File, TreeError> {
        File::open(&self.path).map_err(|source| TreeError::Io {
            action: "open",
            path: self.path.clone(),
            source,
        })
    }

    fn xattrs(&self, _entry: &Entry) -> Result<Vec<Xattr>, TreeError> {
        Ok(Vec::new())
    }

    fn owner(&self, _entry: &Entry) -> (u32, u32) {
        (0, 0)
    }

    fn known_digest(&self, _entry: &Entry) -> Option<Digest> {
        self.digest
    }

    /// The host's file has another mode and time: it can't be linked.
    fn immutable(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{CopySpec, select};

    #[test]
    fn a_name_with_wildcards_stands_for_itself() {
        for name in ["plain", "a[1]b", "*", "x?y\\[", "back\\slash"] {
            let tree = FileTree {
                name: name.to_owned(),
                path: PathBuf::from("/dev/null"),
                size: 0,
                mode: 0o600,
                mtime: 0,
                digest: None,
            };
            let sources = [tree.source()];
            let spec = CopySpec {
                sources: &sources,
                ..CopySpec::default()
            };
            let selection = select(&tree, &spec).unwrap();
            assert!(!selection.is_empty(), "{name}");
        }
    }
}
