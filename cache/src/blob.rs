//! Files named by their digest.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::{Digest, StoreError};

/// The blob directory of a store.
#[derive(Debug)]
pub struct Blobs {}

impl Blobs {
    /// Where the blob is or would be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let _ = digest;
        todo!()
    }

    /// True if the blob is there.
    pub fn contains(&self, digest: Digest) -> bool {
        let _ = digest;
        todo!()
    }

    /// Opens a blob for reading.
    pub fn open(&self, digest: Digest) -> Result<File, StoreError> {
        let _ = digest;
        todo!()
    }

    /// Reads a small blob (a manifest or a config) whole.
    pub fn read(&self, digest: Digest) -> Result<Vec<u8>, StoreError> {
        let _ = digest;
        todo!()
    }

    /// Stores `bytes`.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let _ = bytes;
        todo!()
    }

    /// Starts a blob whose digest is not known yet, or is to be checked at the end.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        todo!()
    }
}

/// A blob being written; hashed on the way. Dropped without a commit, it leaves nothing.
#[derive(Debug)]
#[must_use = "a blob that is not committed is thrown away"]
pub struct BlobWriter {}

impl BlobWriter {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        todo!()
    }

    /// Publishes the blob under its digest. With `expected`, a different digest is an error
    /// (`StoreError::Corrupt` or the like) and nothing is published.
    pub fn commit(self, expected: Option<Digest>) -> Result<(Digest, u64), StoreError> {
        let _ = expected;
        todo!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let _ = buffer;
        todo!()
    }

    fn flush(&mut self) -> io::Result<()> {
        todo!()
    }
}
