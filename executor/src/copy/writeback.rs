//! Beginning early with what has to be on the disk when the build ends.
//!
//! A build ends with one sync of the store, which waits for all that was written. The kernel leaves much of that
//! in memory for half a minute. So the parts of large files are handed to the disk as they are written, by a
//! thread that nobody waits for: the disk works while layers are hashed and later steps run, and little is left
//! for the sync. It only makes the sync shorter, so what fails here, or finds the thread busy, is left out.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags};

use crate::sys;

/// Bytes from which on a file is worth it, and of which its parts are.
const PART: u64 = 4 << 20;

/// Parts that may wait for the thread; each may hold a file open.
const WAITING: usize = 64;

/// A part of a file: offset and length.
type Part = (Arc<File>, i64, i64);

/// A large file that is being written.
pub(super) struct Writeback {
    file: Arc<File>,
    /// Up to where it is on its way to the disk.
    begun: u64,
    size: u64,
}

impl Writeback {
    /// For the file `name` in `directory`, which was made just now and will have `size` bytes. None for a small
    /// one.
    pub(super) fn of(directory: BorrowedFd<'_>, name: &OsStr, size: u64) -> Option<Self> {
        if size < PART {
            return None;
        }
        // For reading: as long as a file is open for writing, it can't be executed, and a later step may
        // want to.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
        Some(Self {
            file: Arc::new(File::from(file)),
            begun: 0,
            size,
        })
    }

    /// The first `written` bytes are written.
    pub(super) fn written(&mut self, written: u64) {
        if written < self.begun + PART && written < self.size {
            return;
        }
        let part = i64::try_from(self.begun)
            .ok()
            .zip(i64::try_from(written.saturating_sub(self.begun)).ok());
        let (Some(thread), Some((offset, length))) = (thread(), part) else {
            return;
        };
        // A length of 0 would mean all that follows.
        if length == 0 {
            return;
        }
        match thread.try_send((Arc::clone(&self.file), offset, length)) {
            Ok(()) => self.begun = written,
            // It comes with the next part, or with the sync.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The thread that waits where the disk is slow.
fn thread() -> Option<&'static SyncSender<Part>> {
    static THREAD: OnceLock<Option<SyncSender<Part>>> = OnceLock::new();
    let start = || {
        let (sender, parts) = sync_channel::<Part>(WAITING);
        let run = move || {
            for (file, offset, length) in parts {
                // File systems without it write when they are synced.
                drop(sys::start_writing(file.as_fd(), offset, length));
            }
        };
        let thread = std::thread::Builder::new().name(String::from("writeback"));
        thread.spawn(run).ok().map(|_| sender)
    };
    THREAD.get_or_init(start).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_begun_one_after_the_other_and_none_twice() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), vec![1; 9 << 20]).unwrap();
        let opened = File::open(directory.path()).unwrap();
        let of = |size| Writeback::of(opened.as_fd(), OsStr::new("file"), size);
        assert!(of(PART - 1).is_none());
        let mut writeback = of(9 << 20).unwrap();
        for (written, begun) in [
            (1 << 20, 0),
            (5 << 20, 5 << 20),
            (8 << 20, 5 << 20),
            (9 << 20, 9 << 20),
            (9 << 20, 9 << 20),
        ] {
            writeback.written(written);
            assert_eq!(writeback.begun, begun, "{written}");
        }
    }
}
