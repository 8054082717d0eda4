//! Bounded reads of a stranger's files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use strata_cache::LayerView;
use strata_cache::view::{Entry, FileKind, ViewError};

use super::Found;

/// Reads files of a view.
pub(super) struct Reader<'a> {
    view: &'a LayerView,
}

impl<'a> Reader<'a> {
    pub(super) fn new(view: &'a LayerView) -> Self {
        Self { view }
    }

    /// The regular file at `path`, symbolic links followed inside the root.
    pub(super) fn file(&self, path: &str) -> Result<Option<Entry>, ViewError> {
        self.kind(path, FileKind::File)
    }

    /// What is in the directory at `path`, sorted by name.
    pub(super) fn directory(&self, path: &str) -> Result<Vec<Entry>, ViewError> {
        match self.kind(path, FileKind::Directory)? {
            Some(entry) => self.view.read_dir(&entry),
            None => Ok(Vec::new()),
        }
    }

    fn kind(&self, path: &str, kind: FileKind) -> Result<Option<Entry>, ViewError> {
        match self.view.lookup(Path::new(path), true) {
            Ok(entry) => Ok(entry.filter(|entry| entry.metadata.kind == kind)),
            // A circle of links is nothing that can be read.
            Err(ViewError::Loop { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content of a file of at most `limit` bytes. A larger one is noted, and None.
    pub(super) fn read(
        &self,
        entry: &Entry,
        limit: u64,
        found: &mut Found,
    ) -> Result<Option<Vec<u8>>, ViewError> {
        let size = entry.metadata.size;
        if size > limit {
            found.note(&entry.path, "is too large to be read");
            return Ok(None);
        }
        let file = self.view.open(entry)?;
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(limit)
            .read_to_end(&mut content)
            .map_err(|source| failed(entry, source))?;
        Ok(Some(content))
    }

    /// [`read`](Self::read) as text; what is no UTF-8 is replaced.
    pub(super) fn text(
        &self,
        entry: &Entry,
        limit: u64,
        found: &mut Found,
    ) -> Result<Option<String>, ViewError> {
        let content = self.read(entry, limit, found)?;
        Ok(content.map(|content| match String::from_utf8(content) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }))
    }

    /// Opens a file to read parts of it.
    pub(super) fn open(&self, entry: &Entry) -> Result<Parts, ViewError> {
        Ok(Parts {
            file: self.view.open(entry)?,
            size: entry.metadata.size,
        })
    }
}

fn failed(entry: &Entry, source: std::io::Error) -> ViewError {
    ViewError::Io {
        action: "read",
        path: entry.host_path.clone(),
        source,
    }
}

/// A file of which parts are read.
pub(super) struct Parts {
    file: File,
    /// Its length.
    pub(super) size: u64,
}

impl Parts {
    /// The bytes from `offset` on, if there are `length` of them and they can be read.
    pub(super) fn at(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        if offset.checked_add(length)? > self.size {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }
}
