//! What a selection is, in one digest: the part of a COPY that a cache key covers.
//!
//! The encoding is versioned and length-prefixed, so that no two selections have one text. It
//! leaves out times, and where in the tree a source lies. Of a source directory itself only the
//! contents count: the directory that is made for it does not get its mode.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use rayon::prelude::*;
use strata_cache::view::{Entry, FileKind, Metadata};
use strata_cache::{Digest, Hasher};

use super::{
    CopyError, CopySpec, Item, MOST_DESCRIBED, SelectedFile, Selection, attributes, on_pool, shown,
};
use crate::tree::SourceTree;

/// Changes whenever the encoding of a selection's digest does: old keys then miss.
pub const VERSION: &str = "strata copy 1";

/// How often a file that changes under the reader is read again.
const ATTEMPTS: usize = 3;

/// Below these, threads cost more than they save.
const SERIAL_FILES: usize = 16;
const SERIAL_BYTES: u64 = 1 << 20;

/// Items from which on even looking at each is shared.
const MANY: usize = 4_096;

/// Fills in the content digests of all regular files.
pub(super) fn contents(
    selection: &mut Selection,
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
    learned: &mut dyn FnMut(&Entry, Digest),
) -> Result<(), CopyError> {
    let mut unknown = Vec::new();
    let mut bytes = 0_u64;
    let wanted = |item: &Item| {
        item.kind() == FileKind::File && item.same_as.is_none() && item.digest.is_none()
    };
    for (index, item) in selection.items.iter_mut().enumerate() {
        if !wanted(item) {
            continue;
        }
        item.digest = tree.known_digest(&item.entry);
        if item.digest.is_none() {
            bytes = bytes.saturating_add(item.entry.metadata.size);
            unknown.push(index);
        }
    }
    let hash = |index: &usize| content(tree, spec, &selection.items[*index]);
    let hashed: Vec<Result<Hashed, CopyError>> =
        if unknown.len() <= 1 || (unknown.len() < SERIAL_FILES && bytes < SERIAL_BYTES) {
            unknown.iter().map(hash).collect()
        } else {
            on_pool(|| unknown.par_iter().map(hash).collect())
        };
    // In order, so that of several failures the same one is reported each time.
    for (index, hashed) in unknown.into_iter().zip(hashed) {
        let hashed = hashed?;
        let item = &mut selection.items[index];
        let mut bare = true;
        if let Some(metadata) = hashed.metadata {
            // Its attributes were read between the two: what has none, and is as it was, had none when it was hashed.
            bare = item.xattrs.is_empty() && metadata.ctime == item.entry.metadata.ctime;
            item.entry.metadata = metadata;
        }
        item.digest = Some(hashed.digest);
        if bare {
            learned(&item.entry, hashed.digest);
        }
    }
    for index in 0..selection.items.len() {
        if let Some(first) = selection.items[index].same_as {
            let first = &selection.items[first];
            let (digest, metadata) = (first.digest, first.entry.metadata.clone());
            let item = &mut selection.items[index];
            item.digest = digest;
            item.entry.metadata = metadata;
        }
    }
    Ok(())
}

/// A file with more bytes than this in holes is refused.
const MOST_HOLES: u64 = 64 << 30;

struct Hashed {
    digest: Digest,
    /// The file's metadata when it was hashed, if they may have changed since the selection.
    metadata: Option<Metadata>,
}

fn content(tree: &dyn SourceTree, spec: &CopySpec<'_>, item: &Item) -> Result<Hashed, CopyError> {
    let failed = |source| CopyError::Io {
        action: "read",
        path: item.entry.host_path.clone(),
        source,
    };
    let hash = |file: &mut File, expected| {
        // Told from a failure by the question that it comes from.
        hash(file, expected, &mut || spec.go_on().is_err())
            .map_err(|error| spec.go_on().err().unwrap_or_else(|| failed(error)))
    };
    let mut of_kernel = false;
    for _ in 0..ATTEMPTS {
        let mut file = tree.open(&item.entry)?;
        if tree.immutable() {
            let (digest, _) = hash(&mut file, u64::MAX)?;
            return Ok(Hashed {
                digest,
                metadata: None,
            });
        }
        let stat = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
        let before = Metadata::of(&stat);
        refuse_holes(item, &stat)?;
        of_kernel = is_of_kernel(&file, before.inode.0);
        let (digest, size) = match hash(&mut file, before.size) {
            Err(CopyError::Io { .. }) if of_kernel => break,
            answer => answer?,
        };
        let after = file_metadata(&file).map_err(failed)?;
        if same_content(&before, &after) && size == before.size {
            // What such a file holds is told only to who reads on.
            if of_kernel && size == 0 {
                break;
            }
            return Ok(Hashed {
                digest,
                metadata: Some(before),
            });
        }
    }
    let path = item.source();
    Err(if of_kernel {
        CopyError::OfKernel { path }
    } else {
        CopyError::Changed { path }
    })
}

/// A layer can't hold holes: each would become so many zeroes, in the store, in the image and wherever it
/// is pulled to.
fn refuse_holes(item: &Item, stat: &rustix::fs::Stat) -> Result<(), CopyError> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let written = u64::try_from(stat.st_blocks)
        .unwrap_or(0)
        .saturating_mul(512);
    if size.saturating_sub(written) <= MOST_HOLES {
        return Ok(());
    }
    Err(CopyError::Sparse {
        path: item.source(),
        size,
        written,
    })
}

/// Whether a file is one of /proc, /sys and the like, whose content is made when it is read.
fn is_of_kernel(file: &File, device: u64) -> bool {
    thread_local! {
        /// The last device that was asked for, and the answer: neighbours have it in common.
        static LAST: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    }
    if let Some((last, answer)) = LAST.get()
        && last == device
    {
        return answer;
    }
    let answer = is_on_kernel_device(file);
    LAST.set(Some((device, answer)));
    answer
}

fn is_on_kernel_device(file: &File) -> bool {
    /// `PROC_SUPER_MAGIC`, `SYSFS_MAGIC`, `DEBUGFS_MAGIC`, `TRACEFS_MAGIC`, `SECURITYFS_MAGIC`,
    /// `CGROUP_SUPER_MAGIC`, `CGROUP2_SUPER_MAGIC`.
    const KINDS: [u64; 7] = [
        0x9fa0,
        0x6265_6572,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0x0027_e0eb,
        0x6367_7270,
    ];
    #[allow(
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "a number without a sign that some architectures give one"
    )]
    rustix::fs::fstatfs(file)
        .is_ok_and(|stat| KINDS.contains(&((stat.f_type as u64) & 0xffff_ffff)))
}

pub(super) fn file_metadata(file: &File) -> std::io::Result<Metadata> {
    Ok(Metadata::of(&rustix::fs::fstat(file)?))
}

pub(super) fn same_content(before: &Metadata, after: &Metadata) -> bool {
    before.inode == after.inode
        && before.size == after.size
        && before.mtime == after.mtime
        && before.ctime == after.ctime
}

/// Hashes up to `expected` bytes of a file: that its size is still the same is seen afterwards, and
/// costs less than another read.
fn hash(
    file: &mut File,
    expected: u64,
    cancelled: &mut dyn FnMut() -> bool,
) -> std::io::Result<(Digest, u64)> {
    thread_local! {
        // One buffer a thread: most files are smaller than the cost of a fresh one.
        static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 * 1024]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut hasher = Hasher::default();
        let mut size = 0;
        while size < expected {
            if cancelled() {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            match file.read(buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((hasher.finish(), size))
    })
}

/// What `job` makes of each item, in order; on several threads if there are many.
fn each<T: Send>(items: &[Item], job: &(dyn Fn(&Item) -> T + Sync)) -> Vec<T> {
    if items.len() < MANY {
        return items.iter().map(job).collect();
    }
    on_pool(|| items.par_iter().with_min_len(MANY / 4).map(job).collect())
}

/// The digest of the whole selection, and of each entry in it.
pub(super) fn combine(
    selection: &Selection,
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
) -> (Digest, Vec<SelectedFile>) {
    let mut whole = Encoder::default();
    let mut files = Vec::with_capacity(selection.items.len().min(MOST_DESCRIBED));
    whole.bytes(VERSION.as_bytes());
    whole.number(selection.groups.len() as u64);
    for group in &selection.groups {
        let mut items = group.items.clone();
        if group.directory {
            items.next();
            whole.bytes(if group.parents {
                b"parents"
            } else {
                b"contents"
            });
        } else {
            // The name that the file gets if the destination is a directory.
            whole.bytes(b"file");
            whole.bytes(group.name.as_os_str().as_bytes());
        }
        whole.number(items.len() as u64);
        let chosen = &selection.items[items];
        let digests = each(chosen, &|item| entry(tree, spec, item, group.items.start));
        for (item, digest) in chosen.iter().zip(digests) {
            whole.bytes(item.name().as_os_str().as_bytes());
            whole.bytes(digest.as_bytes());
            if files.len() < MOST_DESCRIBED {
                files.push(SelectedFile {
                    path: item.source(),
                    facts: facts(selection, tree, spec, item),
                });
            }
        }
    }
    (whole.finish(), files)
}

/// The digest of one entry without its name. Hard links are told from equal files by the position
/// of the first name in the group.
fn entry(tree: &dyn SourceTree, spec: &CopySpec<'_>, item: &Item, start: usize) -> Digest {
    let mut encoder = Encoder::default();
    let metadata = &item.entry.metadata;
    encoder.bytes(kind_name(metadata.kind).as_bytes());
    let (mode, owner) = attributes(tree, spec, &item.entry);
    encoder.number(u64::from(mode));
    encoder.number(u64::from(owner.0));
    encoder.number(u64::from(owner.1));
    match metadata.kind {
        FileKind::File => {
            let digest = item
                .digest
                .as_ref()
                .map_or(&[][..], |known| known.as_bytes());
            encoder.bytes(digest);
            encoder.number(item.same_as.map_or(0, |first| (first - start) as u64 + 1));
        }
        FileKind::Symlink => {
            let target = item.target.as_deref().unwrap_or(std::path::Path::new(""));
            encoder.bytes(target.as_os_str().as_bytes());
        }
        FileKind::CharDevice | FileKind::BlockDevice => {
            encoder.number(u64::from(metadata.rdev.0));
            encoder.number(u64::from(metadata.rdev.1));
        }
        FileKind::Directory | FileKind::Fifo | FileKind::Socket => {}
    }
    encoder.number(item.xattrs.len() as u64);
    for (name, value) in &item.xattrs {
        encoder.bytes(name);
        encoder.bytes(value);
    }
    encoder.finish()
}

fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::File => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::CharDevice => "character device",
        FileKind::BlockDevice => "block device",
    }
}

/// See [`SelectedFile::facts`]. Blanks in a type's name are hyphens; what comes last may hold any.
fn facts(selection: &Selection, tree: &dyn SourceTree, spec: &CopySpec<'_>, item: &Item) -> String {
    let metadata = &item.entry.metadata;
    let kind = kind_name(metadata.kind).replace(' ', "-");
    let (mode, (uid, gid)) = attributes(tree, spec, &item.entry);
    let xattrs = if item.xattrs.is_empty() {
        "-".to_owned()
    } else {
        let mut encoder = Encoder::default();
        for (name, value) in &item.xattrs {
            encoder.bytes(name);
            encoder.bytes(value);
        }
        encoder.finish().short()
    };
    let holds = match metadata.kind {
        FileKind::File => {
            let digest = item.digest.map(|digest| digest.to_string());
            let first = item.same_as.map(|first| &selection.items[first]);
            let link = first.map(|first| format!(" = {}", first.source()));
            format!("{}{}", digest.unwrap_or_default(), link.unwrap_or_default())
        }
        FileKind::Symlink => item.target.as_deref().map(shown).unwrap_or_default(),
        FileKind::CharDevice | FileKind::BlockDevice => {
            format!("{}:{}", metadata.rdev.0, metadata.rdev.1)
        }
        FileKind::Directory | FileKind::Fifo | FileKind::Socket => "-".to_owned(),
    };
    format!("{kind} {mode:o} {uid}:{gid} {xattrs} {holds}")
}

#[derive(Default)]
struct Encoder(Hasher);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}
