//! The files of a context.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::super::super::support::Random;
use super::archive;

/// What a path of the context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    File(Vec<u8>),
    /// A tar, as it is or compressed.
    Archive(Vec<u8>),
    Directory,
    Symlink(String),
    /// A further name of the file at this path.
    HardLink(String),
}

/// One path of the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) time: i64,
    pub(crate) what: What,
}

impl Entry {
    /// What it is, in a line.
    pub(crate) fn line(&self) -> String {
        let Self {
            path, mode, what, ..
        } = self;
        match what {
            What::File(content) => format!("{mode:04o} {path:?} ({} bytes)", content.len()),
            What::Archive(content) => format!("{mode:04o} {path:?} (archive, {})", content.len()),
            What::Directory => format!("{mode:04o} {path:?}/"),
            What::Symlink(to) => format!("     {path:?} -> {to:?}"),
            What::HardLink(to) => format!("     {path:?} => {to:?}"),
        }
    }

    /// Whether it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        matches!(
            self.what,
            What::File(_) | What::Archive(_) | What::HardLink(_)
        )
    }

    /// Whether it is a directory.
    pub(crate) fn is_directory(&self) -> bool {
        self.what == What::Directory
    }
}

// No backslashes: BuildKit takes them for escapes on the way of a context to it.
const DIRECTORIES: [&str; 23] = [
    "src",
    "lib",
    "docs",
    "a",
    "b",
    "data",
    "build",
    ".cache",
    "node_modules",
    "conf.d",
    "deep",
    "sp ace",
    "quo'te",
    "do$lar",
    "ha#sh",
    "ünï",
    "-dash",
    "st*r",
    "br[a]ck",
    "q?m",
    "{brace}",
    "...",
    "UPPER",
];

const FILES: [&str; 33] = [
    "main.c",
    "util.c",
    "util.h",
    "README.md",
    "a.txt",
    "b.txt",
    "c.txt",
    "app.log",
    "x.tmp",
    "Makefile",
    "run.sh",
    "config.yml",
    ".env",
    ".hidden",
    "data.json",
    "noext",
    "with space.txt",
    "it's.txt",
    "say\"hi\".txt",
    "$HOME.txt",
    "#1.txt",
    "-f.txt",
    "--flag",
    "*.txt",
    "[x].txt",
    "what?.txt",
    "ü.txt",
    "日本.txt",
    "~",
    "a,b=c.txt",
    "%20.txt",
    "semi;colon&.txt",
    "x..",
];

const FILE_MODES: [u32; 14] = [
    0o644, 0o644, 0o644, 0o644, 0o755, 0o755, 0o600, 0o640, 0o400, 0o000, 0o4755, 0o2755, 0o1644,
    0o7777,
];
/// Set-user-id, set-group-id and sticky.
const SPECIAL: u32 = 0o7000;
const DIRECTORY_MODES: [u32; 10] = [
    0o755, 0o755, 0o755, 0o755, 0o700, 0o750, 0o1777, 0o2775, 0o555, 0o711,
];

/// Draws a context, with set-id and sticky bits if `special`.
pub(crate) fn entries(random: &mut Random, special: bool) -> Vec<Entry> {
    let mut tree = Vec::new();
    fill(random, &mut tree, "", 0);
    let archives = [0, 0, 1, 1, 2];
    for _ in 0..random.of(&archives) {
        let (name, content) = archive::any(random);
        let path = place(random, &tree, name);
        add(random, &mut tree, path, What::Archive(content));
    }
    for _ in 0..random.below(4) {
        let name = random.of(&["link", "link.txt", "other", "current", "l nk", "latest"]);
        let path = place(random, &tree, name);
        let to = if random.chance(5) {
            name.to_owned()
        } else {
            target(random, &tree, &path)
        };
        add(random, &mut tree, path, What::Symlink(to));
    }
    for _ in 0..random.below(3) {
        let files: Vec<_> = tree
            .iter()
            .filter(|entry: &&Entry| matches!(entry.what, What::File(_)))
            .map(|entry| entry.path.clone())
            .collect();
        let Some(to) = random.any(&files).cloned() else {
            break;
        };
        let name = random.of(&["same", "twin.txt", "0first"]);
        let path = place(random, &tree, name);
        add(random, &mut tree, path, What::HardLink(to));
    }
    // Where a name looks like a wildcard, docker doesn't send what a link in it leads to.
    let odd = |text: &str| text.contains(['*', '?', '[']);
    tree.retain(|entry| match &entry.what {
        What::Symlink(to) => !odd(&entry.path) && !odd(to),
        _ => true,
    });
    if !special {
        for entry in &mut tree {
            entry.mode &= !SPECIAL;
        }
    }
    tree
}

fn fill(random: &mut Random, tree: &mut Vec<Entry>, above: &str, depth: u32) {
    let files = if depth == 0 {
        2 + random.below(5)
    } else {
        random.below(4)
    };
    for _ in 0..files {
        let path = join(above, random.of(&FILES));
        let content = content(random, &path);
        add(random, tree, path, What::File(content));
    }
    if depth == 3 {
        return;
    }
    let directories = if depth == 0 {
        1 + random.below(4)
    } else {
        random.below(3)
    };
    for _ in 0..directories {
        let path = join(above, random.of(&DIRECTORIES));
        if add(random, tree, path.clone(), What::Directory) {
            fill(random, tree, &path, depth + 1);
        }
    }
}

/// Adds a path unless it is there, or is one of those that a build reads itself.
fn add(random: &mut Random, tree: &mut Vec<Entry>, path: String, what: What) -> bool {
    if tree.iter().any(|entry| entry.path == path) {
        return false;
    }
    let modes: &[u32] = if what == What::Directory {
        &DIRECTORY_MODES
    } else {
        &FILE_MODES
    };
    // After 2001, so that no one takes them for unset.
    let time = 1_000_000_000 + i64::try_from(random.below(700_000_000)).unwrap();
    tree.push(Entry {
        mode: random.of(modes),
        path,
        time,
        what,
    });
    true
}

fn content(random: &mut Random, path: &str) -> Vec<u8> {
    match random.below(12) {
        0 => Vec::new(),
        1 => vec![b'z'; usize::try_from(random.below(70_000)).unwrap()],
        2 => (0..=255).collect(),
        3 => b"the same\n".to_vec(),
        _ => format!("{path} {}\n", random.below(1_000_000)).into_bytes(),
    }
}

/// `name` in some directory.
fn place(random: &mut Random, tree: &[Entry], name: &str) -> String {
    let directories: Vec<_> = tree.iter().filter(|entry| entry.is_directory()).collect();
    match random.any(&directories) {
        Some(entry) if random.chance(50) => join(&entry.path, name),
        _ => name.to_owned(),
    }
}

/// Where a symbolic link at `at` may point: most of the time at something that is there.
fn target(random: &mut Random, tree: &[Entry], at: &str) -> String {
    let path = random
        .any(tree)
        .map_or_else(|| "nowhere".to_owned(), |entry| entry.path.clone());
    let up = "../".repeat(at.matches('/').count());
    match random.below(14) {
        0 => "nowhere/at/all".to_owned(),
        1 => "/etc/passwd".to_owned(),
        2 => format!("../{path}"),
        3 | 4 => format!("/{path}"),
        5 => ".".to_owned(),
        6 | 7 => format!("./{up}{path}"),
        _ => format!("{up}{path}"),
    }
}

/// `above/name`; `name` at the top.
pub(crate) fn join(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}/{name}")
    }
}

/// Makes the files below `directory`, with modes and times.
pub(crate) fn write(entries: &[Entry], directory: &Path) {
    for entry in entries {
        let path = directory.join(&entry.path);
        // Shrinking may have taken away what it would be in.
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &entry.what {
            What::File(content) | What::Archive(content) => fs::write(&path, content).unwrap(),
            What::Directory => fs::create_dir_all(&path).unwrap(),
            What::Symlink(to) => symlink(to, &path).unwrap(),
            What::HardLink(to) => {
                if fs::hard_link(directory.join(to), &path).is_err() {
                    fs::write(&path, to).unwrap();
                }
            }
        }
    }
    // From the inside out: what is written in a directory sets its time.
    for entry in entries.iter().rev() {
        let path = directory.join(&entry.path);
        if !matches!(entry.what, What::Symlink(_) | What::HardLink(_)) {
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)).unwrap();
        }
        set_time(&path, entry.time);
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    set_time(directory, 1_600_000_000);
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        },
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
}
