//! ADD of local archives: told by content, unpacked into the destination directory.
//!
//! Names never matter. What decompresses (gzip, bzip2, xz, zstd) or is plain, and starts with a
//! readable tar header, is an archive; anything else is an ordinary file. Unlike a layer, an
//! archive has no whiteouts: `.wh.x` is a name like any other. Names and links are confined to
//! the destination directory, as if it were the root.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use strata_cache::LayerView;
use strata_cache::diff::{ArchiveEntry, ArchiveReader, DiffError, EntryType, Limits};
use strata_cache::view::{Entry, FileKind};

use crate::copy::destination::{
    Attributes, Destination, failed, open_directory, set_attributes, set_attributes_at,
};
use crate::copy::write::Links;
use crate::copy::{CopyError, CopySpec};

/// Far beyond any real archive: the disk is full before.
const LIMITS: Limits = Limits {
    entries: 1 << 26,
    bytes: 1 << 50,
};

/// What an xz decoder may allocate: eight times what `xz -9` needs.
const XZ_MEMORY: u64 = 512 << 20;

/// The kernel's own limit on symlinks in one path.
const MAX_LINKS: usize = 40;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// A file that holds an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    compression: Compression,
}

impl Compression {
    fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

impl Archive {
    /// The tar stream inside.
    fn stream(&self) -> io::Result<Box<dyn Read>> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        let input = BufReader::with_capacity(128 * 1024, file);
        Ok(match self.compression {
            Compression::Plain => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    XZ_MEMORY,
                    liblzma::stream::CONCATENATED,
                )?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
            }
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        })
    }
}

/// True if `start`, the first 512 bytes of something, begins like an archive: like one of the
/// compressions, or like a tar.
pub fn begins_like_one(start: &[u8]) -> bool {
    Compression::of(start) != Compression::Plain
        || start.get(..512).is_some_and(|block| {
            let mut header = [0; 512];
            header.copy_from_slice(block);
            is_header(&header)
        })
}

/// True if ADD would unpack `file`.
pub fn is_archive(file: File) -> io::Result<bool> {
    Ok(sniff(file)?.is_some())
}

/// The archive that `file` is, if it is one.
pub(crate) fn sniff(mut file: File) -> io::Result<Option<Archive>> {
    let mut start = [0; 8];
    let length = fill(&mut file, &mut start)?;
    let archive = Archive {
        file,
        compression: Compression::of(&start[..length]),
    };
    let mut block = [0; 512];
    // What can't be decompressed is a file like any other.
    let Ok(mut stream) = archive.stream() else {
        return Ok(None);
    };
    match fill(&mut stream, &mut block) {
        Ok(512) if is_header(&block) => Ok(Some(archive)),
        Err(error) if archive.compression == Compression::Plain => Err(error),
        _ => Ok(None),
    }
}

fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// True if the block's checksum is right (POSIX pax, "ustar Interchange Format"), counted with
/// unsigned or, as some old programs did, signed bytes.
fn is_header(block: &[u8; 512]) -> bool {
    let field = &block[148..156];
    let digits: Vec<u8> = field
        .iter()
        .copied()
        .skip_while(|byte| *byte == b' ')
        .take_while(|byte| !matches!(byte, b' ' | 0))
        .collect();
    let Some(sum) = std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| i64::from_str_radix(digits, 8).ok())
    else {
        return false;
    };
    let bytes = || {
        block.iter().enumerate().map(|(at, byte)| {
            if (148..156).contains(&at) {
                b' '
            } else {
                *byte
            }
        })
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    sum == unsigned || sum == signed
}

/// Unpacks `archive`, which was `source` in its tree, into the directory at `root`, which is there.
pub(crate) fn unpack(
    archive: &Archive,
    source: &str,
    root: &Path,
    spec: &CopySpec<'_>,
    below: &LayerView,
    destination: &mut Destination,
    links: &mut Links,
) -> Result<(), CopyError> {
    let mut stream = archive.stream().map_err(|error| CopyError::Archive {
        path: source.to_owned(),
        entry: String::new(),
        reason: error.to_string(),
    })?;
    destination.enter(root)?;
    let mut unpacking = Unpacking {
        source,
        root,
        spec,
        below,
        destination,
        links,
        resolved: HashMap::new(),
        fresh: HashSet::new(),
        buffer: vec![0; 128 * 1024],
    };
    let mut reader = ArchiveReader::new(&mut *stream, LIMITS);
    loop {
        spec.go_on()?;
        match reader.next() {
            Ok(Some(entry)) => unpacking.entry(&entry, &mut reader)?,
            Ok(None) => return Ok(()),
            Err(error) => return Err(unpacking.unreadable(&[], error)),
        }
    }
}

struct Unpacking<'a> {
    source: &'a str,
    root: &'a Path,
    spec: &'a CopySpec<'a>,
    below: &'a LayerView,
    destination: &'a mut Destination,
    links: &'a mut Links,
    /// Directories of the archive and where they are, symlinks followed.
    resolved: HashMap<PathBuf, PathBuf>,
    /// Directories that were made by this archive: whatever is in them is in the upper directory.
    fresh: HashSet<PathBuf>,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn refused(&self, name: &[u8], reason: impl Into<String>) -> CopyError {
        let name = String::from_utf8_lossy(&name[..name.len().min(200)]);
        CopyError::Archive {
            path: self.source.to_owned(),
            entry: name.escape_debug().to_string(),
            reason: reason.into(),
        }
    }

    fn unreadable(&self, name: &[u8], error: DiffError) -> CopyError {
        match error {
            DiffError::Refused { entry, reason } => CopyError::Archive {
                path: self.source.to_owned(),
                entry,
                reason,
            },
            DiffError::Stream(error) => self.refused(name, error.to_string()),
            error => self.refused(name, error.to_string()),
        }
    }

    fn entry(
        &mut self,
        entry: &ArchiveEntry,
        reader: &mut ArchiveReader<'_>,
    ) -> Result<(), CopyError> {
        let name = self.inside(&entry.name, &entry.name)?;
        let (Some(parent), Some(last)) = (name.parent(), name.file_name()) else {
            // The archive's own root: the destination keeps its metadata.
            return Ok(());
        };
        let parent = self.directory(parent, &entry.name)?;
        let path = parent.join(last);
        let existing = self.existing(&parent, &path)?;
        if entry.kind == EntryType::Directory {
            return self.make_directory(&path, existing.as_ref(), self.attributes(entry));
        }
        // Resolved before anything is removed: a link to itself must not lose its file.
        let target = match entry.kind {
            EntryType::HardLink => Some(self.link_target(entry, &path)?),
            _ => None,
        };
        if let Some(existing) = existing {
            self.remove(&path, &existing)?;
        }
        match entry.kind {
            EntryType::HardLink => {
                let target = target.unwrap_or_default();
                self.link(&target, &path, entry)
            }
            EntryType::File => self.file(&path, entry, reader),
            _ => self.special(&path, entry),
        }
    }

    /// A name of the archive as a path below the root of it: cleaned, and never above.
    fn inside(&self, name: &[u8], entry: &[u8]) -> Result<PathBuf, CopyError> {
        let mut path = PathBuf::new();
        for part in name.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if !path.pop() {
                        return Err(self.refused(entry, "it leads out of the destination"));
                    }
                }
                part => path.push(OsStr::from_bytes(part)),
            }
        }
        Ok(path)
    }

    /// Where the archive's directory `name` is, made if it is missing. Symlinks are followed as if
    /// the destination were the root.
    fn directory(&mut self, name: &Path, entry: &[u8]) -> Result<PathBuf, CopyError> {
        if let Some(known) = self.resolved.get(name) {
            return Ok(known.clone());
        }
        let mut pending: Vec<std::ffi::OsString> = Vec::new();
        push_components(&mut pending, name);
        let mut path = self.root.to_owned();
        let mut followed = 0;
        while let Some(part) = pending.pop() {
            if part == ".." {
                if path != self.root {
                    path.pop();
                }
                continue;
            }
            let next = path.join(&part);
            match self.existing(&path, &next)? {
                None => {
                    let attributes = Attributes {
                        mode: 0o755,
                        // Not `--chown`'s owner: that is for what the archive lists.
                        owner: (0, 0),
                        mtime: self.destination.now(),
                        xattrs: Vec::new(),
                    };
                    self.make_directory(&next, None, attributes)?;
                    path = next;
                }
                Some(found) => match found.metadata.kind {
                    FileKind::Directory => {
                        self.destination.enter(&next)?;
                        path = next;
                    }
                    FileKind::Symlink => {
                        followed += 1;
                        if followed > MAX_LINKS {
                            return Err(self.refused(entry, "too many symbolic links"));
                        }
                        let target = self.destination.read_link(&found)?;
                        if target.is_absolute() {
                            path = self.root.to_owned();
                        }
                        push_components(&mut pending, &target);
                    }
                    _ => return Err(self.refused(entry, "a file is where a directory should be")),
                },
            }
        }
        self.resolved.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    fn existing(&mut self, parent: &Path, path: &Path) -> Result<Option<Entry>, CopyError> {
        if self.fresh.contains(parent) && !self.destination.has(path)? {
            return Ok(None);
        }
        Ok(self.destination.lookup(path)?)
    }

    fn attributes(&self, entry: &ArchiveEntry) -> Attributes {
        Attributes {
            mode: entry.mode & 0o7777,
            owner: self.spec.owner.unwrap_or((entry.uid, entry.gid)),
            mtime: self.destination.clamp(entry.mtime),
            xattrs: entry.xattrs.clone(),
        }
    }

    fn make_directory(
        &mut self,
        path: &Path,
        existing: Option<&Entry>,
        attributes: Attributes,
    ) -> Result<(), CopyError> {
        match existing {
            Some(existing) if existing.metadata.kind == FileKind::Directory => {
                self.destination.enter(path)?;
                if let Some(entered) = self.destination.attributes(path) {
                    *entered = attributes;
                }
                return Ok(());
            }
            Some(existing) => self.remove(path, existing)?,
            None => {}
        }
        self.destination.create(path, attributes)?;
        // It took the place of a file that had taken the place of a directory: what was in that
        // must not come back.
        let hidden = self.below.lookup(path, false)?;
        if hidden.is_some_and(|hidden| hidden.metadata.kind == FileKind::Directory) {
            self.destination.make_opaque(path)?;
        }
        self.fresh.insert(path.to_owned());
        Ok(())
    }

    /// Takes away what is in the way of something that is no directory, or of a directory.
    fn remove(&mut self, path: &Path, existing: &Entry) -> Result<(), CopyError> {
        if existing.metadata.kind == FileKind::Directory {
            self.resolved.clear();
            self.fresh.retain(|fresh| !fresh.starts_with(path));
            self.links.remove_below(path);
            return self.destination.remove_tree(path);
        }
        if existing.metadata.kind == FileKind::Symlink {
            self.resolved.clear();
        }
        self.links.remove(path);
        if self.destination.in_upper(existing) {
            self.destination.unlink(path)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        entry: &ArchiveEntry,
        reader: &mut ArchiveReader<'_>,
    ) -> Result<(), CopyError> {
        let (parent, name) = self.destination.parent(path)?;
        let mut file = create(parent.as_fd(), &name, path)?;
        loop {
            self.spec.go_on()?;
            match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => file
                    .write_all(&self.buffer[..count])
                    .map_err(failed("write", path))?,
                Err(error) => return Err(self.unreadable(&entry.name, error)),
            }
        }
        let owners = set_attributes(file.as_fd(), path, &self.attributes(entry))?;
        self.destination.owners += owners;
        Ok(())
    }

    fn special(&mut self, path: &Path, entry: &ArchiveEntry) -> Result<(), CopyError> {
        let (parent, name) = self.destination.parent(path)?;
        let attributes = self.attributes(entry);
        let kind = match entry.kind {
            EntryType::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                rustix::fs::symlinkat(target, &*parent, &name).map_err(failed("create", path))?;
                let owners = set_attributes_at(parent.as_fd(), &name, path, &attributes, true)?;
                self.destination.owners += owners;
                return Ok(());
            }
            EntryType::Fifo => FileType::Fifo,
            EntryType::BlockDevice => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        };
        let (major, minor) = entry.device;
        if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
            return Err(self.refused(&entry.name, "a 0/0 character device means a deletion"));
        }
        let device = rustix::fs::makedev(major, minor);
        match rustix::fs::mknodat(&*parent, &name, kind, Mode::RUSR | Mode::WUSR, device) {
            Ok(()) => {}
            // An ordinary user can make no devices. Root file systems as archives bring some, and
            // are of use without them: a sandbox has its own.
            Err(Errno::PERM) if kind != FileType::Fifo => return Ok(()),
            Err(errno) => return Err(failed("create device", path)(errno)),
        }
        let owners = set_attributes_at(parent.as_fd(), &name, path, &attributes, false)?;
        self.destination.owners += owners;
        Ok(())
    }

    /// Where the file lies that a hard link names, brought into the upper directory.
    fn link_target(&mut self, entry: &ArchiveEntry, path: &Path) -> Result<PathBuf, CopyError> {
        let missing = "it is a hard link to something that is not there";
        let name = self.inside(&entry.link, &entry.name)?;
        let (Some(parent), Some(last)) = (name.parent(), name.file_name()) else {
            return Err(self.refused(&entry.name, "it is a hard link to a directory"));
        };
        let parent = self.directory(parent, &entry.name)?;
        let target = parent.join(last);
        if target == path {
            return Err(self.refused(&entry.name, "it is a hard link to itself"));
        }
        let Some(found) = self.existing(&parent, &target)? else {
            return Err(self.refused(&entry.name, missing));
        };
        if found.metadata.kind == FileKind::Directory {
            return Err(self.refused(&entry.name, "it is a hard link to a directory"));
        }
        if !self.destination.in_upper(&found) {
            self.destination.copy_up(&found)?;
        }
        Ok(target)
    }

    /// Makes a hard link. The entry's own metadata are given to the file, as every program does.
    fn link(&mut self, target: &Path, path: &Path, entry: &ArchiveEntry) -> Result<(), CopyError> {
        let above = target.parent().unwrap_or(Path::new(""));
        let old = target.file_name().unwrap_or_default();
        let from = open_directory(self.destination.upper(), above)?;
        let (to, name) = self.destination.parent(path)?;
        rustix::fs::linkat(&from, old, &*to, &name, AtFlags::empty())
            .map_err(failed("link", path))?;
        let attributes = self.attributes(entry);
        let stat = rustix::fs::statat(&*to, &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("look up", path))?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let owners = set_attributes_at(to.as_fd(), &name, path, &attributes, is_link)?;
        self.destination.owners += owners;
        let group = match self.links.of(target) {
            Some(group) => group,
            None => self.links.group(),
        };
        self.links.add(group, target);
        self.links.add(group, path);
        Ok(())
    }
}

/// Creates a file that isn't there.
pub(crate) fn create(
    parent: std::os::fd::BorrowedFd<'_>,
    name: &OsStr,
    path: &Path,
) -> Result<File, CopyError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(failed("create", path))
}

/// Puts the components of `path` on the stack, the first one on top.
fn push_components(pending: &mut Vec<std::ffi::OsString>, path: &Path) {
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    let parts = parts.rev().filter(|part| !matches!(*part, b"" | b"."));
    pending.extend(parts.map(|part| OsStr::from_bytes(part).to_owned()));
}
