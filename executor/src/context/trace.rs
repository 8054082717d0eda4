//! What a walk of a context sees, noted down, and held against what is there now.
//!
//! Which files a copy selects, and what they are, follows from the patterns and from what the kernel says:
//! of each path that is looked up, and of each directory that is listed. Those answers are noted while a
//! walk goes on. Later the same questions are put again, without anything else of a walk; if all
//! answers are the same, so is what came of it.
//!
//! An answer covers every field of `stat` that a key is made of, and the times, which say that content,
//! target and extended attributes are the same, too. That takes [times that are old
//! enough](strata_cache::statcache): a walk that saw something younger is not kept. What the
//! ignore file hides is a name, and whether it is a directory: such files may change.
//!
//! ```text
//! lookups       count (u32), each: path, follow (u8), digest of the answer (32 bytes)
//! directories   count (u32), each: path, hidden, digest of what is listed (32 bytes)
//! path          length (u32), bytes
//! hidden        count (u32), the places (u32) in the listing of what is hidden, ascending
//! ```
//! Names count in the order in which the kernel lists them: a file system that changes that costs
//! a walk.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, Stat};
use strata_cache::Digest;
use strata_cache::beneath;
use strata_cache::view::{Entry, Metadata};

/// Directories for each thread below which another one costs more than it saves.
const DIRECTORIES_PER_THREAD: usize = 8;

/// The answers that one walk got.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lookups: Vec<u8>,
    lookup_count: u32,
    directories: Vec<u8>,
    directory_count: u32,
    /// Entries of directories that were seen.
    entries: usize,
    /// Something was seen that says nothing for sure of what will be there later.
    unsure: bool,
}

impl Trace {
    /// Notes the answer to [`lookup`](crate::tree::SourceTree::lookup).
    pub(super) fn lookup(&mut self, path: &Path, follow: bool, answer: Option<&Entry>) {
        self.lookup_count += 1;
        if !push_path(&mut self.lookups, path) {
            self.unsure = true;
        }
        self.lookups.push(u8::from(follow));
        let digest = digest_of_answer(answer);
        self.lookups.extend_from_slice(digest.as_bytes());
    }

    /// Notes what is in a directory.
    pub(super) fn directory(&mut self, path: &Path, listing: &Listing) {
        self.directory_count += 1;
        self.entries += listing.places as usize;
        if !push_path(&mut self.directories, path) {
            self.unsure = true;
        }
        let hidden = u32::try_from(listing.hidden.len()).unwrap_or(u32::MAX);
        self.directories.extend_from_slice(&hidden.to_le_bytes());
        for place in &listing.hidden {
            self.directories.extend_from_slice(&place.to_le_bytes());
        }
        let digest = Digest::of(&listing.bytes);
        self.directories.extend_from_slice(digest.as_bytes());
    }

    /// The walk saw something that may be other later without leaving a trace.
    pub(super) fn is_unsure(&mut self) {
        self.unsure = true;
    }

    /// What was seen, if at least `least` entries were, and surely.
    pub(super) fn finish(self, least: usize) -> Option<Vec<u8>> {
        if self.unsure || self.entries < least {
            return None;
        }
        let mut seen = Vec::with_capacity(8 + self.lookups.len() + self.directories.len());
        seen.extend_from_slice(&self.lookup_count.to_le_bytes());
        seen.extend_from_slice(&self.lookups);
        seen.extend_from_slice(&self.directory_count.to_le_bytes());
        seen.extend_from_slice(&self.directories);
        Some(seen)
    }
}

/// A directory's entries in the order of the kernel.
#[derive(Debug, Default)]
pub(super) struct Listing {
    bytes: Vec<u8>,
    /// Places of what is hidden.
    hidden: Vec<u32>,
    places: u32,
}

impl Listing {
    /// Adds what is there for the walk.
    pub(super) fn shown(&mut self, name: &[u8], stat: &Stat) {
        self.name(name);
        self.bytes.push(2);
        push_stat(&mut self.bytes, stat);
    }

    /// Adds what is not.
    pub(super) fn hidden(&mut self, name: &[u8], is_directory: bool) {
        self.hidden.push(self.places);
        self.name(name);
        self.bytes.push(u8::from(is_directory));
    }

    fn name(&mut self, name: &[u8]) {
        self.places += 1;
        // The kernel's names are shorter than that by far.
        let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(name);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.hidden.clear();
        self.places = 0;
    }
}

fn push_path(bytes: &mut Vec<u8>, path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    let length = u32::try_from(path.len());
    bytes.extend_from_slice(&length.unwrap_or(0).to_le_bytes());
    if length.is_ok() {
        bytes.extend_from_slice(path);
    }
    length.is_ok()
}

fn push_stat(bytes: &mut Vec<u8>, stat: &Stat) {
    push_metadata(bytes, &Metadata::of(stat));
}

/// Type, mode and device are what `stat` gives; owners count for nothing, everything in a context is root's.
fn push_metadata(bytes: &mut Vec<u8>, metadata: &Metadata) {
    bytes.push(metadata.kind as u8);
    bytes.extend_from_slice(&metadata.mode.to_le_bytes());
    for number in [
        metadata.inode.0,
        metadata.inode.1,
        metadata.size,
        u64::from(metadata.rdev.0) << 32 | u64::from(metadata.rdev.1),
        metadata.mtime.0.cast_unsigned(),
        metadata.ctime.0.cast_unsigned(),
        u64::from(metadata.mtime.1) << 32 | u64::from(metadata.ctime.1),
        metadata.links,
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

fn digest_of_answer(answer: Option<&Entry>) -> Digest {
    let mut bytes = Vec::new();
    if let Some(entry) = answer {
        push_metadata(&mut bytes, &entry.metadata);
        bytes.extend_from_slice(entry.path.as_os_str().as_bytes());
    }
    Digest::of(&bytes)
}

/// One directory to look at again.
struct Directory<'a> {
    path: &'a Path,
    /// Places of what is hidden, four bytes each.
    hidden: &'a [u8],
    digest: [u8; 32],
}

/// Whether the questions of a walk that saw `seen` get the same answers now. `lookup` answers those for a
/// path. What can't be read is another answer: whoever walks says what is wrong with it.
pub(super) fn is_as_seen(
    root: &OwnedFd,
    seen: &[u8],
    lookup: &dyn Fn(&Path, bool) -> Option<Option<Entry>>,
) -> bool {
    let mut reader = Reader(seen);
    let Some(directories) = lookups_are_as_seen(&mut reader, lookup)
        .filter(|same| *same)
        .and_then(|_| reader.directories())
    else {
        return false;
    };
    let next = AtomicUsize::new(0);
    let differs = AtomicBool::new(false);
    let look = || {
        let mut listing = Listing::default();
        while !differs.load(Ordering::Relaxed)
            && let Some(directory) = directories.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if !directory.is_as_seen(root, &mut listing) {
                differs.store(true, Ordering::Relaxed);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(directories.len() / DIRECTORIES_PER_THREAD);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without it there is one fewer.
            let _started = std::thread::Builder::new().spawn_scoped(scope, look);
        }
        look();
    });
    !differs.load(Ordering::Relaxed)
}

fn lookups_are_as_seen(
    reader: &mut Reader<'_>,
    lookup: &dyn Fn(&Path, bool) -> Option<Option<Entry>>,
) -> Option<bool> {
    for _ in 0..reader.number()? {
        let path = reader.path()?;
        let [follow] = reader.array()?;
        let expected: [u8; 32] = reader.array()?;
        let answer = lookup(path, follow != 0)?;
        if *digest_of_answer(answer.as_ref()).as_bytes() != expected {
            return Some(false);
        }
    }
    Some(true)
}

impl Directory<'_> {
    fn is_as_seen(&self, root: &OwnedFd, listing: &mut Listing) -> bool {
        listing.clear();
        self.list(root, listing).is_some() && *Digest::of(&listing.bytes).as_bytes() == self.digest
    }

    fn list(&self, root: &OwnedFd, listing: &mut Listing) -> Option<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = beneath::open(root.as_fd(), self.path, flags).ok()?;
        let mut hidden = self
            .hidden
            .chunks_exact(4)
            .map(|place| u32::from_le_bytes([place[0], place[1], place[2], place[3]]))
            .peekable();
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut entries = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.ok()?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = || rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
            if hidden.next_if_eq(&listing.places).is_some() {
                let is_directory = match entry.file_type() {
                    FileType::Unknown => {
                        FileType::from_raw_mode(stat()?.st_mode) == FileType::Directory
                    }
                    kind => kind == FileType::Directory,
                };
                listing.hidden(name.to_bytes(), is_directory);
            } else {
                listing.shown(name.to_bytes(), &stat()?);
            }
        }
        Some(())
    }
}

/// What is left of the bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn path(&mut self) -> Option<&'a Path> {
        let length = self.number()?;
        Some(Path::new(OsStr::from_bytes(self.bytes(length)?)))
    }

    fn directories(&mut self) -> Option<Vec<Directory<'a>>> {
        let count = self.number()?;
        let mut directories = Vec::new();
        for _ in 0..count {
            let path = self.path()?;
            let hidden = self.number()?.checked_mul(4)?;
            directories.push(Directory {
                path,
                hidden: self.bytes(hidden)?,
                digest: self.array()?,
            });
        }
        self.0.is_empty().then_some(directories)
    }
}
