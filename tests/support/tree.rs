//! File trees as values: read from a directory or a tar, to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// To this target.
    Symlink(String),
    /// A further name (in a tar) of this path.
    HardLink(String),
    /// Devices, with major and minor.
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Permission bits, set-id and sticky bits included.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    /// SHA-256 of a file's content, in hex.
    pub(crate) sha256: String,
    /// A file's content, of files up to 64 KiB.
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Node {
    /// `f 0644 0:0`, with a letter as `ls` has it; `-> target` for links.
    pub(crate) fn line(&self) -> String {
        let (letter, rest) = match &self.kind {
            Kind::File => ('f', String::new()),
            Kind::Directory => ('d', String::new()),
            Kind::Symlink(target) => ('l', format!(" -> {target}")),
            Kind::HardLink(target) => ('h', format!(" => {target}")),
            Kind::Character(major, minor) => ('c', format!(" {major}:{minor}")),
            Kind::Block(major, minor) => ('b', format!(" {major}:{minor}")),
            Kind::Fifo => ('p', String::new()),
            Kind::Socket => ('s', String::new()),
        };
        format!("{letter} {:04o} {}:{}{rest}", self.mode, self.uid, self.gid)
    }
}

/// Paths (relative, without `./` and trailing slashes; the root is the empty path) and what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Node>);

impl Tree {
    /// Reads a directory. Needs to be allowed to read all of it.
    pub(crate) fn of_directory(root: &Path) -> Self {
        let mut tree = Self::default();
        tree.walk(root, "");
        tree
    }

    fn walk(&mut self, path: &Path, name: &str) {
        let metadata = fs::symlink_metadata(path).unwrap();
        let file_type = metadata.file_type();
        let device = metadata.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            Kind::Symlink(text_of(fs::read_link(path).unwrap().as_os_str().as_bytes()))
        } else if file_type.is_char_device() {
            Kind::Character(major, minor)
        } else if file_type.is_block_device() {
            Kind::Block(major, minor)
        } else if file_type.is_fifo() {
            Kind::Fifo
        } else if file_type.is_socket() {
            Kind::Socket
        } else {
            Kind::File
        };
        let content = if kind == Kind::File {
            fs::read(path).unwrap()
        } else {
            Vec::new()
        };
        let node = Node {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid().into(),
            gid: metadata.gid().into(),
            size: if kind == Kind::File {
                metadata.size()
            } else {
                0
            },
            mtime: metadata.mtime(),
            sha256: sha256_of_file(&kind, &content),
            content: short(content),
            xattrs: xattrs(path),
            kind,
        };
        let is_directory = node.kind == Kind::Directory;
        self.0.insert(name.to_owned(), node);
        if is_directory {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let base = text_of(entry.file_name().as_bytes());
                let inner = if name.is_empty() {
                    base
                } else {
                    format!("{name}/{base}")
                };
                self.walk(&entry.path(), &inner);
            }
        }
    }

    /// Reads an uncompressed tar. A path that occurs twice fails the test.
    pub(crate) fn of_tar(reader: impl Read) -> Self {
        let mut tree = Self::default();
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = text_of(&entry.path_bytes());
            let name = name.trim_start_matches("./").trim_matches('/').to_owned();
            let name = if name == "." { String::new() } else { name };
            let link = |entry: &tar::Entry<'_, _>| text_of(&entry.link_name_bytes().unwrap());
            let header = entry.header().clone();
            let device = || {
                (
                    header.device_major().unwrap().unwrap_or_default(),
                    header.device_minor().unwrap().unwrap_or_default(),
                )
            };
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Symlink(link(&entry)),
                tar::EntryType::Link => {
                    Kind::HardLink(link(&entry).trim_start_matches("./").to_owned())
                }
                tar::EntryType::Char => Kind::Character(device().0, device().1),
                tar::EntryType::Block => Kind::Block(device().0, device().1),
                tar::EntryType::Fifo => Kind::Fifo,
                tar::EntryType::Regular => Kind::File,
                other => panic!("{name}: tar entry of type {other:?}"),
            };
            let mut uid = header.uid().unwrap();
            let mut gid = header.gid().unwrap();
            let mut mtime = i64::try_from(header.mtime().unwrap()).unwrap();
            let mut xattrs = BTreeMap::new();
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                let key = record.key().unwrap();
                let number = || record.value().unwrap().parse().unwrap();
                match key {
                    "uid" => uid = number(),
                    "gid" => gid = number(),
                    "mtime" => {
                        let seconds = record.value().unwrap().split('.').next().unwrap();
                        mtime = seconds.parse().unwrap();
                    }
                    _ => {
                        if let Some(xattr) = key.strip_prefix("SCHILY.xattr.") {
                            xattrs.insert(xattr.to_owned(), record.value_bytes().to_owned());
                        }
                    }
                }
            }
            let size = if kind == Kind::File { entry.size() } else { 0 };
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let node = Node {
                mode: header.mode().unwrap() & 0o7777,
                uid,
                gid,
                size,
                mtime,
                sha256: sha256_of_file(&kind, &content),
                content: short(content),
                xattrs,
                kind,
            };
            assert!(
                tree.0.insert(name.clone(), node).is_none(),
                "`{name}` is there twice"
            );
        }
        tree
    }

    /// Whether the path is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path.trim_matches('/'))
    }

    /// What is at `path`; fails the test if there is nothing.
    #[track_caller]
    pub(crate) fn at(&self, path: &str) -> &Node {
        self.0
            .get(path.trim_matches('/'))
            .unwrap_or_else(|| panic!("no `{path}` among\n{}", self.lines().join("\n")))
    }

    /// The text of a file, followed through hard links.
    #[track_caller]
    pub(crate) fn text(&self, path: &str) -> String {
        let node = self.at(path);
        match &node.kind {
            Kind::File => String::from_utf8_lossy(&node.content).into_owned(),
            Kind::HardLink(target) => self.text(target),
            other => panic!("`{path}` is {other:?}, not a file"),
        }
    }

    /// One line for each path, in the order of paths: `f 0644 0:0 etc/passwd`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(path, node)| {
                let line = node.line();
                // Type, mode, owner; path; what a link points at.
                let (head, rest) = match line.match_indices(' ').nth(2) {
                    Some((at, _)) => line.split_at(at),
                    None => (line.as_str(), ""),
                };
                format!("{head} {}{rest}", if path.is_empty() { "/" } else { path })
            })
            .collect()
    }

    /// The lines of what is below `directory`, itself included.
    pub(crate) fn lines_below(&self, directory: &str) -> Vec<String> {
        self.below(directory).lines()
    }

    /// What is below `directory`, itself included, with full paths.
    pub(crate) fn below(&self, directory: &str) -> Self {
        let directory = directory.trim_matches('/');
        let inside = |path: &str| {
            path.strip_prefix(directory)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let nodes = self.0.iter().filter(|(path, _)| inside(path));
        Self(
            nodes
                .map(|(path, node)| (path.clone(), node.clone()))
                .collect(),
        )
    }

    /// The names of everything but directories.
    pub(crate) fn files(&self) -> Vec<&str> {
        let files = self
            .0
            .iter()
            .filter(|(_, node)| node.kind != Kind::Directory);
        files.map(|(path, _)| path.as_str()).collect()
    }

    /// Puts a layer on top: whiteouts remove, everything else replaces.
    pub(crate) fn apply(&mut self, layer: &Self) {
        // Whiteouts speak of the layers below only, so they go first.
        for path in layer.0.keys() {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            if name == ".wh..wh..opq" {
                let prefix = if parent.is_empty() {
                    String::new()
                } else {
                    format!("{parent}/")
                };
                self.0
                    .retain(|known, _| known == parent || !known.starts_with(&prefix));
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let gone = if parent.is_empty() {
                    hidden.to_owned()
                } else {
                    format!("{parent}/{hidden}")
                };
                assert!(
                    self.has(&gone),
                    "a whiteout for `{gone}`, which isn't there"
                );
                self.remove(&gone);
            }
        }
        for (path, node) in &layer.0 {
            if path
                .rsplit('/')
                .next()
                .is_some_and(|name| name.starts_with(".wh."))
            {
                continue;
            }
            if node.kind != Kind::Directory {
                self.remove(path);
            }
            self.0.insert(path.clone(), node.clone());
        }
    }

    /// The other names of a file that is about to go stay one file.
    fn promote(&mut self, path: &str) {
        let link = Kind::HardLink(path.to_owned());
        let mut names = self.0.iter().filter(|(_, node)| node.kind == link);
        let Some(first) = names.next().map(|(name, _)| name.clone()) else {
            return;
        };
        let file = self.0[path].clone();
        self.0.insert(first.clone(), file);
        for node in self.0.values_mut().filter(|node| node.kind == link) {
            node.kind = Kind::HardLink(first.clone());
        }
    }

    fn remove(&mut self, path: &str) {
        self.promote(path);
        let prefix = format!("{path}/");
        self.0
            .retain(|known, _| known != path && !known.starts_with(&prefix));
    }
}

/// A name as text; one that is not UTF-8 with its bytes escaped, so that no two names become one.
fn text_of(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) => text.to_owned(),
        Err(_) => name.escape_ascii().to_string(),
    }
}

fn sha256_of_file(kind: &Kind, content: &[u8]) -> String {
    if *kind != Kind::File {
        return String::new();
    }
    hex(&Sha256::digest(content))
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn short(content: Vec<u8>) -> Vec<u8> {
    if content.len() > 64 * 1024 {
        Vec::new()
    } else {
        content
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else {
        return BTreeMap::new();
    };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| {
            let mut value = vec![0; 4096];
            let size = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
            value.truncate(size);
            Some((String::from_utf8_lossy(name).into_owned(), value))
        })
        .collect()
}
