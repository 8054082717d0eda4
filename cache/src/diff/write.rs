//! Layers and trees to tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ahead::{Ahead, Next, Walk};
use super::header::{EntryType, Header, TarWriter};
use super::{DiffError, OPAQUE_NAME, Tree, WHITEOUT_PREFIX, WriteOptions};
use crate::beneath;
use crate::layer::HardLinks;
use crate::view::{Entry, FileKind, LayerView, Metadata, is_opaque, is_whiteout};
use crate::xattr::{self, Xattr};

/// Bytes of one file's attributes. With the records' own bytes they stay below the megabyte that
/// readers of extended headers accept.
const MAX_ATTRIBUTES: usize = 900 * 1024;

/// How much of a file is read at once, by its size.
const SMALL_READ: usize = 16 * 1024;
const LARGEST_READ: usize = 256 * 1024;

pub(super) fn write_layer(
    directory: &Path,
    links: &HardLinks,
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    let mut writer = LayerWriter::new(links, options, output);
    writer.layer(directory)?;
    writer.finish()
}

pub(super) fn layer_size(
    directory: &Path,
    links: &HardLinks,
    options: WriteOptions,
) -> Result<u64, DiffError> {
    let mut written = Counted(0);
    let mut writer = LayerWriter::new(links, options, &mut written);
    writer.left_out = Some(0);
    writer.layer(directory)?;
    let left_out = writer.left_out.unwrap_or(0);
    writer.finish()?;
    Ok(written.0 + left_out)
}

/// Counts what is written into it.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn fail(action: &'static str, path: &Path) -> impl Fn(rustix::io::Errno) -> DiffError {
    move |source| DiffError::Io {
        action,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Whether a name means a deletion.
pub(super) fn is_marked(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_bytes().starts_with(WHITEOUT_PREFIX)
}

fn refuse_marked(path: &Path) -> Result<(), DiffError> {
    if !is_marked(path) {
        return Ok(());
    }
    Err(DiffError::Unrepresentable {
        path: path.to_owned(),
        reason: "names that begin with `.wh.` mean deletions in a layer archive",
    })
}

pub(super) fn write_tree(
    view: &LayerView,
    start: &Entry,
    links: &HardLinks,
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    let mut writer = LayerWriter::new(links, options, output);
    // A file is written under its own name, a directory's content without the directory's.
    let base = if start.is_dir() {
        start.path.clone()
    } else {
        start.path.parent().map(Path::to_owned).unwrap_or_default()
    };
    writer.base = base;
    writer.tree(view, start)?;
    writer.finish()
}

pub(super) fn write_trees(
    trees: &[Tree<'_>],
    options: WriteOptions,
    output: &mut dyn Write,
) -> Result<(), DiffError> {
    for tree in trees {
        let mut writer = LayerWriter::new(tree.links, options, output);
        tree.directory.clone_into(&mut writer.prefix);
        writer.tree(tree.view, &tree.view.root()?)?;
    }
    TarWriter::new(output).finish().map_err(DiffError::Output)
}

/// What a regular file holds.
pub(super) enum Content {
    /// To be read.
    File(File),
    /// All of it.
    Bytes(Vec<u8>),
}

/// What is to be written as one entry.
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) metadata: &'a Metadata,
    pub(super) xattrs: &'a [Xattr],
    /// The layer whose hard links count.
    pub(super) group_layer: usize,
    /// Whether members of a group must be one inode, too: in a stack, a group of one layer says
    /// nothing about files of another one.
    pub(super) same_inode: bool,
}

/// The first name written for a group of hard links.
struct FirstName {
    path: Vec<u8>,
    metadata: Metadata,
}

pub(super) struct LayerWriter<'a> {
    tar: TarWriter<'a>,
    options: WriteOptions,
    /// The groups that a path is a member of (several when groups of many layers are given).
    groups: HashMap<&'a [u8], Vec<usize>>,
    /// By group and layer.
    firsts: HashMap<(usize, usize), FirstName>,
    /// What is taken off the front of every path.
    base: PathBuf,
    /// The directory that every path is put into; empty for none.
    prefix: String,
    buffer: Vec<u8>,
    /// Bytes of content that were not written, as only the archive's size is wanted.
    left_out: Option<u64>,
}

impl<'a> LayerWriter<'a> {
    pub(super) fn new(
        links: &'a HardLinks,
        options: WriteOptions,
        output: &'a mut dyn Write,
    ) -> Self {
        let mut groups: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (index, group) in links.0.iter().enumerate() {
            for path in group {
                groups.entry(path).or_default().push(index);
            }
        }
        Self {
            tar: TarWriter::new(output),
            options,
            groups,
            firsts: HashMap::new(),
            base: PathBuf::new(),
            prefix: String::new(),
            buffer: Vec::new(),
            left_out: None,
        }
    }

    /// Writes the layer at `directory`. What can't be read is named by its place on the disk.
    fn layer(&mut self, directory: &Path) -> Result<(), DiffError> {
        self.entries_of(directory).map_err(|error| match error {
            DiffError::Io {
                action,
                path,
                source,
            } => DiffError::Io {
                action,
                path: directory.join(path),
                source,
            },
            other => other,
        })
    }

    fn entries_of(&mut self, directory: &Path) -> Result<(), DiffError> {
        let root = beneath::open_root(directory).map_err(fail("open", directory))?;
        let root = Arc::new(root);
        let mut walk = Walk::new(Arc::clone(&root), self.left_out.is_none());
        while let Some(Next { path, file }) = walk.next()? {
            let found = file.transpose().map_err(|source| DiffError::Io {
                action: "read",
                path: path.clone(),
                source,
            })?;
            match found.flatten() {
                Some(found) => self.file(&path, found)?,
                None => self.other(root.as_fd(), &path)?,
            }
        }
        Ok(())
    }

    /// Writes a regular file of a layer.
    fn file(&mut self, path: &Path, found: Ahead) -> Result<(), DiffError> {
        refuse_marked(path)?;
        let source = Source {
            path,
            metadata: &found.metadata,
            xattrs: &found.xattrs,
            group_layer: 0,
            same_inode: false,
        };
        let mut content = Some(found.content);
        self.entry(
            &source,
            &mut || {
                let gone = || fail("open", path)(rustix::io::Errno::NOENT);
                content.take().ok_or_else(gone)
            },
            &mut || Ok(Vec::new()),
        )
    }

    /// Writes what is at `path` in a layer, whatever it is, without what is in it.
    fn other(&mut self, root: BorrowedFd<'_>, path: &Path) -> Result<(), DiffError> {
        let found = beneath::find(root, path).map_err(fail("look up", path))?;
        let Some((file, stat)) = found else {
            return Err(fail("look up", path)(rustix::io::Errno::NOENT));
        };
        if is_whiteout(&stat) {
            return self.whiteout(path);
        }
        let metadata = Metadata::of_file(&stat, file.as_fd());
        let xattrs =
            xattr::list_portable(file.as_fd()).map_err(fail("read attributes of", path))?;
        let source = Source {
            path,
            metadata: &metadata,
            xattrs: &xattrs,
            group_layer: 0,
            same_inode: false,
        };
        refuse_marked(path)?;
        self.entry(
            &source,
            &mut || {
                let opened = beneath::open_file(root, path);
                opened.map(Content::File).map_err(fail("open", path))
            },
            &mut || {
                let target = rustix::fs::readlinkat(&file, "", Vec::new());
                Ok(target.map_err(fail("read link", path))?.into_bytes())
            },
        )?;
        let is_directory = metadata.kind == FileKind::Directory;
        if is_directory && !path.as_os_str().is_empty() && is_opaque(file.as_fd()) {
            self.whiteout_file(&[path.as_os_str().as_bytes(), b"/", OPAQUE_NAME].concat())?;
        }
        Ok(())
    }

    /// Writes everything from `start` on.
    fn tree(&mut self, view: &LayerView, start: &Entry) -> Result<(), DiffError> {
        view.try_walk(start, &mut |entry| {
            let xattrs = view.portable_xattrs(entry)?;
            let source = Source {
                path: &entry.path,
                metadata: &entry.metadata,
                xattrs: &xattrs,
                group_layer: entry.layer,
                same_inode: true,
            };
            self.entry(
                &source,
                &mut || Ok(Content::File(view.open(entry)?)),
                &mut || Ok(view.read_link(entry)?.into_os_string().into_encoded_bytes()),
            )
        })
    }

    pub(super) fn entry(
        &mut self,
        source: &Source<'_>,
        open: &mut dyn FnMut() -> Result<Content, DiffError>,
        read_link: &mut dyn FnMut() -> Result<Vec<u8>, DiffError>,
    ) -> Result<(), DiffError> {
        let metadata = source.metadata;
        let kind = match metadata.kind {
            FileKind::File => EntryType::File,
            FileKind::Directory => EntryType::Directory,
            FileKind::Symlink => EntryType::Symlink,
            FileKind::Fifo => EntryType::Fifo,
            FileKind::CharDevice => EntryType::CharDevice,
            FileKind::BlockDevice => EntryType::BlockDevice,
            // A socket is nothing without the process that made it.
            FileKind::Socket => return Ok(()),
        };
        let attributes = source.xattrs.iter();
        let attributes: usize = attributes
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if attributes > MAX_ATTRIBUTES {
            return Err(DiffError::Unrepresentable {
                path: source.path.to_owned(),
                reason: "its extended attributes are larger than readers accept",
            });
        }
        let relative = source.path.strip_prefix(&self.base).unwrap_or(source.path);
        let mut path = self.prefix.as_bytes().to_vec();
        if !path.is_empty() && !relative.as_os_str().is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(relative.as_os_str().as_bytes());
        if kind == EntryType::Directory {
            if path.is_empty() {
                // The root is there anyway. It is written only if it is not the usual one.
                if (metadata.mode, metadata.uid, metadata.gid) == (0o755, 0, 0)
                    && source.xattrs.is_empty()
                {
                    return Ok(());
                }
                path.push(b'.');
            }
            path.push(b'/');
        }
        let mut header = Header {
            path: &path,
            kind,
            mode: if kind == EntryType::Symlink {
                0o777
            } else {
                metadata.mode
            },
            uid: metadata.uid,
            gid: metadata.gid,
            size: 0,
            mtime: match self.options.epoch {
                Some(epoch) => metadata.mtime.0.min(epoch),
                None => metadata.mtime.0,
            },
            link: &[],
            device: metadata.rdev,
            xattrs: source.xattrs,
        };
        if kind != EntryType::Directory
            && let Some(first) = self.first_name(source, &path)
        {
            header.kind = EntryType::HardLink;
            header.link = &first;
            // The file itself carries them.
            header.xattrs = &[];
            return self.tar.header(&header).map_err(DiffError::Output);
        }
        match kind {
            EntryType::Symlink => {
                let target = read_link()?;
                header.link = &target;
                self.tar.header(&header).map_err(DiffError::Output)
            }
            EntryType::File => {
                header.size = metadata.size;
                if let Some(left_out) = &mut self.left_out {
                    self.tar.header(&header).map_err(DiffError::Output)?;
                    *left_out += self.tar.leave_out();
                    return Ok(());
                }
                let content = open()?;
                self.tar.header(&header).map_err(DiffError::Output)?;
                match content {
                    Content::File(file) => self.copy(file, source.path),
                    Content::Bytes(bytes) => self.tar.content(&bytes).map_err(DiffError::Output),
                }
            }
            _ => self.tar.header(&header).map_err(DiffError::Output),
        }
    }

    /// The name that this file was already written under; remembers it if it is the first.
    fn first_name(&mut self, source: &Source<'_>, path: &[u8]) -> Option<Vec<u8>> {
        let groups = self.groups.get(source.path.as_os_str().as_bytes())?;
        let same = |first: &&FirstName| {
            let (one, other) = (&first.metadata, source.metadata);
            // A record that disagrees with the files must never lose content.
            one.kind == other.kind
                && one.size == other.size
                && (!source.same_inode || one.inode == other.inode)
        };
        let firsts = &self.firsts;
        let known = groups
            .iter()
            .filter_map(|group| firsts.get(&(*group, source.group_layer)));
        if let Some(first) = known.clone().find(same) {
            return Some(first.path.clone());
        }
        for group in groups {
            let key = (*group, source.group_layer);
            self.firsts.entry(key).or_insert_with(|| FirstName {
                path: path.to_vec(),
                metadata: source.metadata.clone(),
            });
        }
        None
    }

    fn copy(&mut self, mut file: File, path: &Path) -> Result<(), DiffError> {
        // Most layers that commands make hold small files, or none at all.
        let size = if self.tar.remaining() > SMALL_READ as u64 {
            LARGEST_READ
        } else {
            SMALL_READ
        };
        if self.buffer.len() < size {
            self.buffer = vec![0; size];
        }
        while self.tar.remaining() > 0 {
            let wanted = usize::try_from(self.tar.remaining()).unwrap_or(usize::MAX);
            let wanted = wanted.min(self.buffer.len());
            let fail = |source| DiffError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            };
            match file.read(&mut self.buffer[..wanted]) {
                // The header is written: there is no way back.
                Ok(0) => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self
                    .tar
                    .content(&self.buffer[..count])
                    .map_err(DiffError::Output)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    /// The file that says that the name at `path` is gone.
    fn whiteout(&mut self, path: &Path) -> Result<(), DiffError> {
        let Some(name) = path.file_name() else {
            return Ok(());
        };
        let marked = [WHITEOUT_PREFIX, name.as_bytes()].concat();
        let path = beneath::join(path.parent().unwrap_or(Path::new("")), &marked);
        self.whiteout_file(path.as_os_str().as_bytes())
    }

    fn whiteout_file(&mut self, path: &[u8]) -> Result<(), DiffError> {
        // All zero, as containerd writes it.
        let header = Header {
            path,
            kind: EntryType::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            link: &[],
            device: (0, 0),
            xattrs: &[],
        };
        self.tar.header(&header).map_err(DiffError::Output)
    }

    pub(super) fn finish(self) -> Result<(), DiffError> {
        self.tar.finish().map_err(DiffError::Output)
    }
}
