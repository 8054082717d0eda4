//! The diff ID of a layer while the layer is made.
//!
//! An archive is one stream, and its digest can't be split over cores: for a large layer it takes longer than
//! making the layer. Whoever makes a layer and knows beforehand all that will be in it ([`Coming`]) need not be
//! waited for: what the archive will say of each entry is known, and content is hashed as it arrives.
//!
//! What was foretold is not believed. The walk over the finished layer, which there is anyway, gives the
//! [fingerprint](crate::layer::fingerprint) of what is there; if it is another one than that of what was to come,
//! the diff ID is made from the layer as for any other.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};

use super::ahead::{SMALL, pool};
use super::write::{Content, LayerWriter, Source, is_marked};
use super::{DiffError, WriteOptions};
use crate::layer::HardLinks;
use crate::layer::fingerprint::Fingerprint;
use crate::pipe::{PipeWriter, pipe};
use crate::view::{FileKind, Metadata};
use crate::{DiffId, beneath};

/// An entry of a layer that is being made, as it will be. Without extended attributes, and no hard link.
#[derive(Debug)]
pub struct Coming {
    /// From the layer's root.
    pub path: PathBuf,
    /// A regular file, directory or symlink.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Bytes of a regular file.
    pub size: u64,
    /// Modification time in whole seconds.
    pub mtime: i64,
    /// Of a symlink.
    pub target: PathBuf,
}

/// Content of files that have arrived, by the number of the first among all regular files. None for what is to be
/// read from the layer.
type Arrived = (usize, Vec<Option<Vec<u8>>>);

/// Bytes that may be handed over before they are hashed.
const HANDED_OVER: usize = 8 << 20;

/// How many arrivals are read ahead.
const AHEAD: usize = 3;

/// A diff ID in the making.
#[derive(Debug)]
#[must_use = "it goes on until it is finished or dropped"]
pub struct Foretelling {
    fingerprint: Fingerprint,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<DiffId>>>,
}

/// Through which the maker of a layer says how far it is, from any thread.
#[derive(Debug, Clone)]
pub struct Arrivals {
    sender: Sender<Arrived>,
    waiting: Arc<AtomicUsize>,
}

impl Arrivals {
    /// `contents` of the regular files from number `first` on are in the layer, with all that they will have. They
    /// may be given if [there is room](Self::takes).
    pub fn arrived(&self, first: usize, contents: Vec<Option<Vec<u8>>>) {
        // Nobody listens if it was given up.
        drop(self.sender.send((first, contents)));
    }

    /// Whether content of `size` bytes is to be handed over: this was counted then.
    pub fn takes(&self, size: u64) -> bool {
        let Ok(size) = usize::try_from(size) else {
            return false;
        };
        if size as u64 > SMALL || self.waiting.load(Ordering::Relaxed) + size > HANDED_OVER {
            return false;
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        true
    }
}

impl Foretelling {
    /// Starts with the layer that is made in the directory `upper`, which may be renamed meanwhile. `entries` are
    /// in the order of the archive, without the root, which will be a usual one. None if this layer's archive
    /// can't be foretold.
    pub fn begin(upper: OwnedFd, entries: Vec<Coming>) -> Option<(Self, Arrivals)> {
        let mut fingerprint = Fingerprint::default();
        let mut last: Option<&Path> = None;
        for entry in &entries {
            let ascends = last.is_none_or(|last| last < entry.path.as_path());
            let kind = matches!(
                entry.kind,
                FileKind::File | FileKind::Directory | FileKind::Symlink
            );
            if !ascends || !kind || is_marked(&entry.path) {
                return None;
            }
            last = Some(&entry.path);
            let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
                return None;
            };
            let size = match entry.kind {
                FileKind::Symlink => entry.target.as_os_str().len() as u64,
                _ => entry.size,
            };
            let (parent, name) = (parent.as_os_str().as_bytes(), name.as_bytes());
            let (mode, owner, mtime) = (entry.mode, entry.owner, entry.mtime);
            fingerprint.add(parent, name, entry.kind, (mode, owner, size, mtime));
        }
        let (sender, receiver) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let files = Files::new(upper, entries, receiver, Arc::clone(&waiting));
        let inner = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("foretell".to_owned())
            .spawn(move || digest(files, &inner))
            .ok()?;
        let foretelling = Self {
            fingerprint,
            stop,
            thread: Some(thread),
        };
        Some((foretelling, Arrivals { sender, waiting }))
    }

    /// Whether a finished layer is what was to come.
    pub(crate) fn holds_for(&self, found: &Fingerprint) -> bool {
        self.fingerprint == *found
    }

    /// The diff ID, as soon as it is there. None if anything could not be read: what it was is seen by whoever
    /// makes the archive from the layer.
    #[must_use]
    pub fn finish(mut self) -> Option<DiffId> {
        self.thread.take()?.join().ok().flatten()
    }
}

impl Drop for Foretelling {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The digest of the archive. None if the layer never came to its end, or can't be read.
fn digest(files: Files, stop: &AtomicBool) -> Option<DiffId> {
    let (mut writer, [pieces]) = pipe();
    let hash = std::thread::Builder::new()
        .name("foretell-hash".to_owned())
        .spawn(move || pieces.digest())
        .ok()?;
    let mut output = Stoppable {
        inner: &mut writer,
        stop,
    };
    let written = files.write(&mut output);
    let ended = if written.is_ok() {
        writer.finish().is_ok()
    } else {
        // Whoever hashes is told that it breaks off.
        drop(writer);
        false
    };
    let digest = hash.join().ok()?.ok()?;
    ended.then_some(DiffId(digest))
}

/// Fails once nobody wants the archive any more.
struct Stoppable<'a> {
    inner: &'a mut PipeWriter,
    stop: &'a AtomicBool,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What is to come, and the content of its files in order.
struct Files {
    upper: Arc<OwnedFd>,
    entries: Arc<[Coming]>,
    /// Which of the entries are regular files.
    places: Arc<[usize]>,
    receiver: Receiver<Arrived>,
    waiting: Arc<AtomicUsize>,
    /// What has come before its turn.
    early: BTreeMap<usize, Vec<Option<Vec<u8>>>>,
    /// The number of the file whose arrival is to be read next.
    next: usize,
    reading: VecDeque<Reading>,
    current: std::vec::IntoIter<Option<Vec<u8>>>,
}

/// An arrival that is read or waits for its turn.
enum Reading {
    Whole(Vec<Option<Vec<u8>>>),
    Coming(Receiver<Vec<Option<Vec<u8>>>>, usize),
}

impl Files {
    fn new(
        upper: OwnedFd,
        entries: Vec<Coming>,
        receiver: Receiver<Arrived>,
        waiting: Arc<AtomicUsize>,
    ) -> Self {
        let files = entries.iter().enumerate();
        let files = files.filter(|(_, entry)| entry.kind == FileKind::File);
        Self {
            upper: Arc::new(upper),
            places: files.map(|(place, _)| place).collect(),
            entries: entries.into(),
            receiver,
            waiting,
            early: BTreeMap::new(),
            next: 0,
            reading: VecDeque::new(),
            current: Vec::new().into_iter(),
        }
    }

    fn write(mut self, output: &mut dyn Write) -> Result<(), DiffError> {
        let links = HardLinks::default();
        let entries = Arc::clone(&self.entries);
        let upper = Arc::clone(&self.upper);
        let mut writer = LayerWriter::new(&links, WriteOptions::default(), output);
        for entry in entries.iter() {
            let path = entry.path.as_path();
            let mut given = match entry.kind {
                FileKind::File => self.content()?,
                _ => None,
            };
            let metadata = Metadata::coming(entry);
            let source = Source {
                path,
                metadata: &metadata,
                xattrs: &[],
                group_layer: 0,
                same_inode: false,
            };
            writer.entry(
                &source,
                &mut || match given.take() {
                    Some(bytes) => Ok(Content::Bytes(bytes)),
                    None => open(upper.as_fd(), path).map(Content::File),
                },
                &mut || Ok(entry.target.as_os_str().as_bytes().to_vec()),
            )?;
        }
        writer.finish()
    }

    /// What was given or read ahead of the next regular file.
    fn content(&mut self) -> Result<Option<Vec<u8>>, DiffError> {
        loop {
            if let Some(content) = self.current.next() {
                return Ok(content);
            }
            self.read_ahead();
            match self.reading.pop_front() {
                Some(Reading::Whole(contents)) => self.current = contents.into_iter(),
                // Whatever kept a thread from reading keeps nobody from reading it now.
                Some(Reading::Coming(receiver, count)) => {
                    let contents = receiver.recv().unwrap_or_else(|_| vec![None; count]);
                    self.current = contents.into_iter();
                }
                None => {
                    let gone = |_| DiffError::Stream(io::ErrorKind::UnexpectedEof.into());
                    let (first, contents) = self.receiver.recv().map_err(gone)?;
                    self.early.insert(first, contents);
                }
            }
        }
    }

    /// Has small files read of what has arrived and comes next.
    fn read_ahead(&mut self) {
        while let Ok((first, contents)) = self.receiver.try_recv() {
            self.early.insert(first, contents);
        }
        while self.reading.len() < AHEAD
            && let Some(contents) = self.early.remove(&self.next)
        {
            let first = self.next;
            self.next += contents.len();
            let given = contents.iter().flatten().map(Vec::len).sum();
            self.waiting.fetch_sub(given, Ordering::Relaxed);
            let missing = contents.iter().any(Option::is_none);
            self.reading.push_back(match pool() {
                Some(pool) if missing => {
                    let (sender, receiver) = sync_channel(1);
                    let (upper, entries) = (Arc::clone(&self.upper), Arc::clone(&self.entries));
                    let places = Arc::clone(&self.places);
                    let count = contents.len();
                    pool.spawn(move || {
                        let places = places.get(first..).unwrap_or_default();
                        let read = read_all(upper.as_fd(), &entries, places, contents);
                        // If nobody waits for it any more, it was given up.
                        drop(sender.send(read));
                    });
                    Reading::Coming(receiver, count)
                }
                _ => Reading::Whole(contents),
            });
        }
    }
}

/// Reads the small files among those at `places` that were not given. What can't be read is left to who needs it.
fn read_all(
    upper: BorrowedFd<'_>,
    entries: &[Coming],
    places: &[usize],
    mut contents: Vec<Option<Vec<u8>>>,
) -> Vec<Option<Vec<u8>>> {
    let mut last: Option<(&Path, OwnedFd)> = None;
    for (content, place) in contents.iter_mut().zip(places) {
        let entry = &entries[*place];
        if content.is_some() || entry.size > SMALL {
            continue;
        }
        let parent = entry.path.parent().unwrap_or(Path::new(""));
        if last.as_ref().is_none_or(|(known, _)| *known != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let opened = beneath::open(upper, parent, flags).ok();
            last = opened.map(|opened| (parent, opened));
        }
        if let (Some((_, directory)), Some(name)) = (&last, entry.path.file_name()) {
            *content = read(directory.as_fd(), name.as_ref(), entry.size).ok();
        }
    }
    contents
}

/// The first `size` bytes of a file. One that has another size gives another fingerprint.
fn read(directory: BorrowedFd<'_>, name: &Path, size: u64) -> io::Result<Vec<u8>> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn open(upper: BorrowedFd<'_>, path: &Path) -> Result<File, DiffError> {
    beneath::open_file(upper, path).map_err(|source| DiffError::Io {
        action: "open",
        path: path.to_owned(),
        source: source.into(),
    })
}
