//! Locks between processes: flock on small files, freed by the kernel when their holder dies.
//!
//! A lock file is removed by its holder, while it still holds it. So whoever gets a lock has to
//! check that the file it locked is the one that the name stands for, and start again if not.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::{CacheKey, Digest, Store, StoreError};

/// The lock of one cache key or of one name, held until dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct KeyGuard {
    /// None in a store that can't be written to: there is nobody to wait for.
    _lock: Option<FileLock>,
}

/// A locked file that is removed when the lock is dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    path: PathBuf,
    shared: bool,
}

impl FileLock {
    /// Takes the lock at `path`; calls `on_wait` once if another holds it.
    pub(crate) fn acquire(
        path: PathBuf,
        shared: bool,
        on_wait: &mut dyn FnMut(),
    ) -> Result<Self, StoreError> {
        let mut waited = false;
        loop {
            let file = open(&path)?;
            if !try_flock(&file, shared).map_err(|source| lock_error(&path, source))? {
                if !waited {
                    waited = true;
                    on_wait();
                }
                flock(&file, shared).map_err(|source| lock_error(&path, source))?;
            }
            if is_current(&file, &path)? {
                return Ok(Self { file, path, shared });
            }
        }
    }

    /// Takes the lock at `path`, or none if another holds it.
    pub(crate) fn try_acquire(path: PathBuf, shared: bool) -> Result<Option<Self>, StoreError> {
        loop {
            let file = open(&path)?;
            if !try_flock(&file, shared).map_err(|source| lock_error(&path, source))? {
                return Ok(None);
            }
            if is_current(&file, &path)? {
                return Ok(Some(Self { file, path, shared }));
            }
        }
    }

    /// The locked file.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // ORDER: the name goes while the lock is held, so that nobody can lock a file that is about
        // to lose its name without noticing. A shared holder removes it only if it is the last.
        if self.shared {
            match try_flock(&self.file, false) {
                Ok(true) if is_current(&self.file, &self.path).unwrap_or(false) => {}
                _ => return,
            }
        }
        // A file that stays behind is harmless: it is collected.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Store {
    /// Takes the lock for `key`, or waits until whoever holds it is done; `on_wait` is called once
    /// if it has to wait.
    ///
    /// After waiting, look the key up again: the other build has most likely stored it.
    pub fn lock_key(
        &self,
        key: CacheKey,
        on_wait: &mut dyn FnMut(),
    ) -> Result<KeyGuard, StoreError> {
        self.guard(format!("k-{}", key.0.hex()), false, on_wait)
    }

    /// Takes the lock for `key` if nobody holds it, for callers that have something else to watch
    /// while they wait.
    pub fn try_lock_key(&self, key: CacheKey) -> Result<Option<KeyGuard>, StoreError> {
        if self.is_read_only() {
            return Ok(Some(KeyGuard { _lock: None }));
        }
        let path = self.locks_dir().join(format!("k-{}", key.0.hex()));
        let lock = FileLock::try_acquire(path, false)?;
        Ok(lock.map(|lock| KeyGuard { _lock: Some(lock) }))
    }

    /// Takes a lock by name, alone or `shared` with others: cache mounts use it. `on_wait` as in
    /// [`lock_key`](Self::lock_key).
    pub fn lock_named(
        &self,
        name: &str,
        shared: bool,
        on_wait: &mut dyn FnMut(),
    ) -> Result<KeyGuard, StoreError> {
        self.guard(named(name), shared, on_wait)
    }

    /// Takes a lock by name if that needs no waiting.
    pub fn try_lock_named(&self, name: &str, shared: bool) -> Result<Option<KeyGuard>, StoreError> {
        if self.is_read_only() {
            return Ok(Some(KeyGuard { _lock: None }));
        }
        let lock = FileLock::try_acquire(self.locks_dir().join(named(name)), shared)?;
        Ok(lock.map(|lock| KeyGuard { _lock: Some(lock) }))
    }

    fn guard(
        &self,
        file: String,
        shared: bool,
        on_wait: &mut dyn FnMut(),
    ) -> Result<KeyGuard, StoreError> {
        if self.is_read_only() {
            return Ok(KeyGuard { _lock: None });
        }
        let lock = FileLock::acquire(self.locks_dir().join(file), shared, on_wait)?;
        Ok(KeyGuard { _lock: Some(lock) })
    }
}

/// The file name of a named lock: names may hold anything, so they are hashed.
pub(crate) fn named(name: &str) -> String {
    format!("n-{}", Digest::of(name.as_bytes()).hex())
}

fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::io("open lock", path, source))
}

fn flock(file: &File, shared: bool) -> io::Result<()> {
    loop {
        let result = if shared {
            file.lock_shared()
        } else {
            file.lock()
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// True if the lock was taken, false if another holds it.
fn try_flock(file: &File, shared: bool) -> io::Result<bool> {
    loop {
        let result = if shared {
            file.try_lock_shared()
        } else {
            file.try_lock()
        };
        match result {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// True if `path` still names the file that was locked.
fn is_current(file: &File, path: &Path) -> Result<bool, StoreError> {
    let ours = file
        .metadata()
        .map_err(|source| StoreError::io("stat lock", path, source))?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.dev() == ours.dev() && named.ino() == ours.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io("stat lock", path, source)),
    }
}

fn lock_error(path: &Path, source: io::Error) -> StoreError {
    match Errno::from_io_error(&source) {
        Some(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS) => StoreError::Locking {
            path: path.to_owned(),
            source,
        },
        _ => StoreError::io("lock", path, source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_waits_and_the_file_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first =
            FileLock::acquire(path.clone(), false, &mut || panic!("nobody holds it")).unwrap();
        assert!(
            FileLock::try_acquire(path.clone(), false)
                .unwrap()
                .is_none()
        );
        assert!(FileLock::try_acquire(path.clone(), true).unwrap().is_none());
        let waits = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                FileLock::acquire(path.clone(), false, &mut || {
                    waits.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                })
                .unwrap()
            });
            while waits.load(std::sync::atomic::Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            drop(first);
            drop(second.join().unwrap());
        });
        assert_eq!(waits.into_inner(), 1);
        assert!(!path.exists());
    }

    #[test]
    fn shared_holders_do_not_wait_and_the_last_one_removes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::try_acquire(path.clone(), true).unwrap().unwrap();
        let second = FileLock::try_acquire(path.clone(), true).unwrap().unwrap();
        assert!(
            FileLock::try_acquire(path.clone(), false)
                .unwrap()
                .is_none()
        );
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn many_threads_are_never_inside_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let inside = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lock = FileLock::acquire(path.clone(), false, &mut || {}).unwrap();
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
