//! Files named by their digest.
//!
//! A blob is written to a scratch file, hashed on the way, renamed and entered in the index, in
//! that order (see [`crate::index`]). A file without a row is a leftover. A row that a power cut
//! made doubtful counts as missing, and the blob is written again.
//!
//! A blob whose digest is known before it is fetched is written to `blobs/partial/<hex>` instead, by one
//! process at a time. What a process leaves there is where the next one goes on
//! ([`resume`](Blobs::resume)). It is worth nothing before the whole has its digest.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use crate::lock::{self, FileLock};
use crate::store::{Owner, Shared};
use crate::{Digest, Hasher, StoreError};

/// The blob directory of a store.
#[derive(Debug, Clone)]
pub struct Blobs {
    shared: Arc<Shared>,
}

impl Blobs {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Where the blob is or would be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.shared.root.join("blobs/sha256").join(digest.hex())
    }

    /// True if the blob is there. From then on it is held by this process's leases. False, too, if
    /// that can't be found out: whoever needs the blob then gets the reason from writing it.
    pub fn contains(&self, digest: Digest) -> bool {
        matches!(self.shared.index.claim_blob(digest), Ok(Some(_)))
    }

    /// The size of a blob, if it is there. Holds it as [`contains`](Self::contains) does.
    pub fn size(&self, digest: Digest) -> Result<Option<u64>, StoreError> {
        self.shared.index.claim_blob(digest)
    }

    /// Opens a blob for reading.
    pub fn open(&self, digest: Digest) -> Result<File, StoreError> {
        if self.shared.index.claim_blob(digest)?.is_none() {
            return Err(StoreError::NoBlob { digest });
        }
        let path = self.path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NoBlob { digest },
            _ => StoreError::io("open", &path, source),
        })
    }

    /// Reads a small blob (a manifest or a config) whole, and checks it.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut self.open(digest)?, &mut bytes)
            .map_err(|source| StoreError::io("read", &self.path(digest), source))?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(StoreError::Corrupt {
                expected: digest,
                found,
            });
        }
        Ok(bytes)
    }

    /// Stores `bytes`.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if self.size(digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer
            .file
            .write_all(bytes)
            .map_err(|source| StoreError::io("write", &writer.path, source))?;
        writer.hasher.update(bytes);
        writer.size = bytes.len() as u64;
        writer.commit(Some(digest))?;
        Ok(digest)
    }

    /// Starts a blob whose digest is not known yet, or is to be checked at the end.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let owner = self.shared.owner()?;
        let path = owner.fresh("blob");
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StoreError::io("create", &path, source))?;
        Ok(BlobWriter {
            blobs: self.clone(),
            _owner: owner,
            keep: false,
            _lock: None,
            path,
            file,
            hasher: Hasher::default(),
            size: 0,
        })
    }

    /// Goes on with the blob `digest` of `size` bytes where an earlier process stopped; begins it if
    /// none did, or if another one is at it right now. The writer holds what is there already: see
    /// [`size`](BlobWriter::size). Dropped without a commit, it leaves that for the next.
    pub fn resume(&self, digest: Digest, size: u64) -> Result<BlobWriter, StoreError> {
        let owner = self.shared.owner()?;
        let name = self.shared.root.join("locks").join(partial_lock(digest));
        let Some(lock) = FileLock::try_acquire(name, false)? else {
            return self.writer();
        };
        let directory = partial_directory(&self.shared.root);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(StoreError::io("create", &directory, source)),
        }
        let path = directory.join(digest.hex());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| StoreError::io("create", &path, source))?;
        let mut writer = BlobWriter {
            blobs: self.clone(),
            _owner: owner,
            keep: true,
            _lock: Some(lock),
            path,
            file,
            hasher: Hasher::default(),
            size: 0,
        };
        if let Err(source) = writer.take_up(size) {
            // A disk that does not give back what was written to it: from the beginning, then.
            let error = StoreError::io("read", &writer.path, source);
            writer.restart().map_err(|_| error)?;
        }
        Ok(writer)
    }
}

/// Where blobs are that are still being fetched.
pub(crate) fn partial_directory(root: &std::path::Path) -> PathBuf {
    root.join("blobs/partial")
}

/// The file below `locks` that stands for a blob in that directory.
pub(crate) fn partial_lock(digest: Digest) -> String {
    lock::named(&format!("partial {digest}"))
}

/// A blob being written; hashed on the way. Dropped without a commit, one of
/// [`writer`](Blobs::writer) leaves nothing.
#[derive(Debug)]
#[must_use = "a blob that is not committed is thrown away"]
pub struct BlobWriter {
    blobs: Blobs,
    /// Keeps the scratch directory.
    _owner: Arc<Owner>,
    /// What is there is worth keeping: it is in `partial`, and nothing is known to be wrong with it.
    keep: bool,
    /// Of a blob in `partial`. Dropped after the file is gone.
    _lock: Option<FileLock>,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest of what was written so far.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Throws away what was written, and begins again.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(|source| StoreError::io("empty", &self.path, source))?;
        self.hasher = Hasher::default();
        self.size = 0;
        Ok(())
    }

    /// Reads what an earlier process left of a blob of `size` bytes.
    fn take_up(&mut self, size: u64) -> io::Result<()> {
        let mut buffer = vec![0; 256 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.hasher.update(&buffer[..count]);
                    self.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.size > size {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Publishes the blob under its digest, and gives that and the size. With `expected`, another
    /// digest is [`StoreError::Corrupt`] and nothing is published.
    pub fn commit(mut self, expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        // Whatever comes of it, there is nothing to go on with.
        self.keep = false;
        let found = std::mem::take(&mut self.hasher).finish();
        if let Some(expected) = expected
            && expected != found
        {
            return Err(StoreError::Corrupt { expected, found });
        }
        let target = self.blobs.path(found);
        self.blobs
            .shared
            .index
            .publish_blob(found, self.size, &self.path, &target)?;
        Ok((found, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buffer).map_err(|error| {
            // On a full disk what was fetched would only be in the way.
            self.keep = false;
            // Writers of archives pass on what they are given: it has to say by itself where there is
            // no room.
            match StoreError::io("write", &self.path, error) {
                StoreError::Io { source, .. } => source,
                error @ StoreError::NoSpace { .. } => {
                    io::Error::new(io::ErrorKind::StorageFull, error)
                }
                error => io::Error::other(error),
            }
        })?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.keep && self.size > 0 {
            return;
        }
        // Gone already after a commit that moved it.
        drop(std::fs::remove_file(&self.path));
    }
}
