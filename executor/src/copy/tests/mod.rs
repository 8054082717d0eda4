//! COPY and ADD as the Dockerfile reference and the engines have them, row by row.

mod archives;
mod contexts;
mod destinations;
mod digests;
mod flags;
mod foretold;
mod hostile;
mod large;
mod linked;
mod metadata;
mod sources;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use strata_cache::{Digest, HardLinks, LayerView};

use super::{CopyError, CopySpec, SelectedFile, Written, select};
use crate::context::ContextTree;
use crate::tree::{LayerTree, SourceTree};

/// A context, an image of one layer and an upper directory, all empty at first.
struct Case {
    home: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for name in ["context", "image", "upper"] {
            fs::create_dir(home.path().join(name)).unwrap();
            fs::set_permissions(home.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { home }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// Makes a file with its parents: `context/a/b` or `image/etc/x`.
    fn file(&self, path: &str, content: &str) -> &Self {
        let path = self.at(path);
        make_parents(&path);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    fn directory(&self, path: &str) -> &Self {
        let path = self.at(path);
        make_parents(&path);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.at(path);
        make_parents(&path);
        symlink(target, path).unwrap();
        self
    }

    fn mode(&self, path: &str, mode: u32) -> &Self {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn owner(&self, path: &str, uid: u32, gid: u32) -> &Self {
        std::os::unix::fs::lchown(self.at(path), Some(uid), Some(gid)).unwrap();
        self
    }

    fn mtime(&self, path: &str, seconds: i64, nanoseconds: u32) -> &Self {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds.into(),
            },
        };
        rustix::fs::utimensat(CWD, self.at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self
    }

    fn context(&self) -> ContextTree {
        ContextTree::open(
            &self.at("context"),
            Box::new(|_, _| false),
            Box::new(|_| false),
            None,
        )
        .unwrap()
    }

    /// The image as a source (`COPY --from`).
    fn image(&self) -> LayerTree {
        LayerTree::new(self.below(), &[])
    }

    fn below(&self) -> LayerView {
        LayerView::new(vec![self.at("image")])
    }

    fn try_write(&self, tree: &dyn SourceTree, spec: &CopySpec<'_>) -> Result<Written, CopyError> {
        let mut selection = select(tree, spec)?;
        selection.digest(tree, spec, &mut |_, _| {})?;
        selection.write(tree, spec, &self.below(), &self.at("upper"))
    }

    fn write(&self, tree: &dyn SourceTree, spec: &CopySpec<'_>) -> Written {
        self.try_write(tree, spec).unwrap()
    }

    /// `COPY sources… destination` from the context.
    fn try_copy(&self, sources: &[&str], destination: &str) -> Result<Written, CopyError> {
        let sources = strings(sources);
        let spec = CopySpec {
            sources: &sources,
            destination,
            ..CopySpec::default()
        };
        self.try_write(&self.context(), &spec)
    }

    fn copy(&self, sources: &[&str], destination: &str) -> Written {
        self.try_copy(sources, destination).unwrap()
    }

    /// What the layer holds: `path=content`, `path/`, `path->target`, sorted.
    fn layer(&self) -> Vec<String> {
        listing(&self.at("upper"))
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.at("upper").join(path)).unwrap()
    }

    /// `755 0:0` of a path in the layer. What an ordinary user makes counts as root's: it stays
    /// theirs, because the owner can't be set.
    fn attributes(&self, path: &str) -> String {
        let stat = self.stat(path);
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let (uid, gid) = match (stat.uid(), stat.gid()) {
            owner if owner == own => (0, 0),
            owner => owner,
        };
        format!("{:o} {uid}:{gid}", stat.mode() & 0o7777)
    }

    fn time(&self, path: &str) -> (i64, i64) {
        let stat = self.stat(path);
        (stat.mtime(), stat.mtime_nsec())
    }
}

fn make_parents(path: &Path) {
    let parent = path.parent().unwrap();
    if !parent.exists() {
        make_parents(parent);
        fs::create_dir(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn digest(tree: &dyn SourceTree, spec: &CopySpec<'_>) -> (Digest, Vec<SelectedFile>) {
    let mut selection = select(tree, spec).unwrap();
    selection.digest(tree, spec, &mut |_, _| {}).unwrap()
}

fn listing(root: &Path) -> Vec<String> {
    fn visit(root: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap();
            let name = name.as_os_str().as_bytes().escape_ascii();
            let stat = fs::symlink_metadata(&path).unwrap();
            if stat.is_dir() {
                found.push(format!("{name}/"));
                visit(root, &path, found);
            } else if stat.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.push(format!("{name}->{}", target.display()));
            } else if stat.is_file() {
                let content = fs::read(&path).unwrap();
                found.push(format!("{name}={}", content.escape_ascii()));
            } else {
                found.push(format!("{name}?"));
            }
        }
    }
    let mut found = Vec::new();
    visit(root, root, &mut found);
    found.sort();
    found
}

/// True as the host's root, who may give files away and make devices; else says what is left out.
#[allow(clippy::print_stderr, reason = "a test that is left out has to say so")]
fn is_root(what: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let root = rustix::process::geteuid().is_root()
        && std::os::unix::fs::chown(file.path(), Some(12), Some(34)).is_ok();
    if !root {
        eprintln!("skipped: {what} needs root outside a user namespace");
    }
    root
}

/// True if modes keep us out of nothing.
fn reads_everything() -> bool {
    rustix::process::geteuid().is_root()
}
