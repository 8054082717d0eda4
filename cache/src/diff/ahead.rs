//! What comes next in a layer, read on all cores while what comes before is written.
//!
//! A tar of many small files costs more for opening them than for what is in them, and only the stream
//! itself has to be written in order. So the walk is some batches of entries ahead of the writing, and the
//! files of each batch are read by one of some threads.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FileType, OFlags};

use super::DiffError;
use super::write::Content;
use crate::beneath;
use crate::view::{FileKind, Metadata};
use crate::xattr::{self, Xattr};

/// How many entries are a batch.
const BATCH: usize = 32;

/// How many batches are on their way. What they hold at most is open or in memory.
const BATCHES: usize = 4;

/// Fewer files than this in a batch are read when they are written.
const SERIAL: usize = 8;

/// Larger files are only opened.
pub(super) const SMALL: u64 = 32 << 10;

/// A regular file that is about to be written.
pub(super) struct Ahead {
    pub(super) metadata: Metadata,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) content: Content,
}

/// What is known of a regular file; none if it is none that can be opened: that is to be looked at more closely.
type Found = io::Result<Option<Ahead>>;

/// The next entry, by its path in the layer.
pub(super) struct Next {
    pub(super) path: PathBuf,
    /// For a regular file.
    pub(super) file: Option<Found>,
}

/// The entries of a layer in the order in which they are written.
pub(super) struct Walk {
    root: Arc<OwnedFd>,
    /// The largest file that is read ahead.
    most: u64,
    /// Names still to be put into batches, the next one last. Every file is opened by its path from the
    /// root, so that no depth of the tree takes more descriptors or stack.
    pending: Vec<(PathBuf, FileType)>,
    batches: VecDeque<Batch>,
    current: std::vec::IntoIter<(PathBuf, FileType)>,
    /// What was read of the files in `current`.
    found: std::vec::IntoIter<Found>,
}

struct Batch {
    entries: Vec<(PathBuf, FileType)>,
    /// Its files, in order, if they are read ahead.
    found: Option<Receiver<Vec<Found>>>,
}

impl Walk {
    /// Starts at `root`, which comes first. The content of files is read if it is wanted.
    pub(super) fn new(root: Arc<OwnedFd>, content: bool) -> Self {
        Self {
            root,
            most: if content { SMALL } else { 0 },
            pending: vec![(PathBuf::new(), FileType::Directory)],
            batches: VecDeque::new(),
            current: Vec::new().into_iter(),
            found: Vec::new().into_iter(),
        }
    }

    /// The next entry; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Next>, DiffError> {
        loop {
            if let Some((path, kind)) = self.current.next() {
                let file = (kind == FileType::RegularFile).then(|| {
                    let found = self.found.next();
                    found.unwrap_or_else(|| read(self.root.as_fd(), &path, self.most))
                });
                return Ok(Some(Next { path, file }));
            }
            while self.batches.len() < BATCHES && !self.pending.is_empty() {
                let batch = self.batch()?;
                self.batches.push_back(batch);
            }
            let Some(batch) = self.batches.pop_front() else {
                return Ok(None);
            };
            self.current = batch.entries.into_iter();
            // Whatever kept a thread from reading keeps nobody from reading it now.
            let found = batch.found.and_then(|found| found.recv().ok());
            self.found = found.unwrap_or_default().into_iter();
        }
    }

    fn batch(&mut self) -> Result<Batch, DiffError> {
        let mut entries = Vec::with_capacity(BATCH.min(self.pending.len()));
        while entries.len() < BATCH {
            let Some((path, kind)) = self.pending.pop() else {
                break;
            };
            if kind == FileType::Directory {
                self.list(&path)?;
            }
            entries.push((path, kind));
        }
        let files = entries
            .iter()
            .filter(|(_, kind)| *kind == FileType::RegularFile);
        let files: Vec<PathBuf> = files.map(|(path, _)| path.clone()).collect();
        let found = if files.len() < SERIAL { None } else { pool() }.map(|pool| {
            let (sender, found) = sync_channel(1);
            let (root, most) = (Arc::clone(&self.root), self.most);
            pool.spawn(move || {
                // If nobody waits for it any more, the writing has failed.
                drop(sender.send(read_all(root.as_fd(), &files, most)));
            });
            found
        });
        Ok(Batch { entries, found })
    }

    /// Puts what is in a directory before all that is pending.
    fn list(&mut self, path: &Path) -> Result<(), DiffError> {
        let fail = |action| {
            move |source: rustix::io::Errno| DiffError::Io {
                action,
                path: path.to_owned(),
                source: source.into(),
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = beneath::open(self.root.as_fd(), path, flags).map_err(fail("open"))?;
        let names = beneath::names(opened.as_fd());
        let mut names = names.map_err(fail("read directory"))?;
        names.sort_unstable_by(|one, other| other.0.cmp(&one.0));
        for (name, mut kind) in names {
            let child = beneath::join(path, &name);
            if kind == FileType::Unknown {
                let name = child.file_name().unwrap_or_default();
                let stat = beneath::stat_at(opened.as_fd(), name).map_err(fail("stat"))?;
                kind = stat.map_or(kind, |stat| FileType::from_raw_mode(stat.st_mode));
            }
            self.pending.push((child, kind));
        }
        Ok(())
    }
}

/// Reads some files. Neighbours have their directory in common.
fn read_all(root: BorrowedFd<'_>, paths: &[PathBuf], most: u64) -> Vec<Found> {
    let mut last: Option<(&Path, OwnedFd)> = None;
    let mut found = Vec::with_capacity(paths.len());
    for path in paths {
        let parent = path.parent().unwrap_or(Path::new(""));
        if last.as_ref().is_none_or(|(known, _)| *known != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let opened = beneath::open(root, parent, flags).ok();
            last = opened.map(|opened| (parent, opened));
        }
        found.push(match (&last, path.file_name()) {
            (Some((_, directory)), Some(name)) => read(directory.as_fd(), Path::new(name), most),
            _ => Ok(None),
        });
    }
    found
}

fn read(directory: BorrowedFd<'_>, path: &Path, most: u64) -> Found {
    let Ok((file, stat)) = beneath::open_regular(directory, path) else {
        return Ok(None);
    };
    let metadata = Metadata::of_file(&stat, file.as_fd());
    if metadata.kind != FileKind::File {
        return Ok(None);
    }
    let xattrs = xattr::list_portable(file.as_fd())?;
    let content = if metadata.size <= most {
        Content::Bytes(whole(file, metadata.size)?)
    } else {
        Content::File(file)
    };
    Ok(Some(Ahead {
        metadata,
        xattrs,
        content,
    }))
}

/// The first `size` bytes of a file. It never changes, so there are no fewer.
fn whole(mut file: File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Threads of its own: those of compressors may wait for what is read here. None if they can't be had.
pub(super) fn pool() -> Option<&'static rayon::ThreadPool> {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        rayon::ThreadPoolBuilder::new()
            .thread_name(|index| format!("read-{index}"))
            .build()
            .ok()
    });
    pool.as_ref()
}
