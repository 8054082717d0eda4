//! Upper directories as the kernel leaves them, made by hand.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::settle;
use crate::view::LayerView;

struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    /// Below: `/d/a`, `/d/b`, `/d/e/c` and a link `/d/l`, all of one time.
    fn new() -> Self {
        let case = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for tree in ["lower", "upper"] {
            fs::create_dir(case.directory.path().join(tree)).unwrap();
        }
        case.put("lower/d/a", "a");
        case.put("lower/d/b", "b");
        case.put("lower/d/e/c", "c");
        symlink("a", case.path("lower/d/l")).unwrap();
        case.age("lower");
        case
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Gives everything one time.
    fn age(&self, tree: &str) {
        fn one(path: &Path) {
            if path.is_dir() && !path.is_symlink() {
                for entry in fs::read_dir(path).unwrap() {
                    one(&entry.unwrap().path());
                }
            }
            let time = rustix::fs::Timespec {
                tv_sec: 1_000_000,
                tv_nsec: 5,
            };
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(CWD, path, &times, flags).unwrap();
        }
        one(&self.path(tree));
    }

    fn mark(&self, path: &str) {
        let path = self.path(path);
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(&path, "user.overlay.opaque", b"y", flags).unwrap();
    }

    /// What the upper directory holds, whiteouts with a `-` before them.
    fn settled(&self) -> Vec<String> {
        let view = LayerView::new(vec![self.path("lower")]);
        settle(&self.path("upper"), &view).unwrap();
        let once = self.upper();
        // What is settled is settled.
        settle(&self.path("upper"), &view).unwrap();
        assert_eq!(self.upper(), once);
        once
    }

    fn upper(&self) -> Vec<String> {
        fn add(path: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                let metadata = path.symlink_metadata().unwrap();
                let gone = metadata.mode() & 0o17_0000 == 0o2_0000;
                let marked = rustix::fs::lgetxattr(&path, "user.overlay.opaque", &mut [0; 1][..]);
                let sign = if gone {
                    "-"
                } else if marked.is_ok() {
                    "!"
                } else {
                    ""
                };
                found.push(format!("{sign}{name}"));
                if metadata.is_dir() {
                    add(&path, root, found);
                }
            }
        }
        let root = self.path("upper");
        let mut found = Vec::new();
        add(&root, &root, &mut found);
        found.sort();
        found
    }
}

#[test]
fn copies_that_nobody_changed_are_taken_out() {
    let case = Case::new();
    case.put("upper/d/a", "a");
    symlink("a", case.path("upper/d/l")).unwrap();
    case.age("upper");
    assert_eq!(case.settled(), Vec::<String>::new());
    for (what, change) in [
        (
            "content",
            &(|case: &Case| case.put("upper/d/a", "A")) as &dyn Fn(&Case),
        ),
        ("mode", &|case: &Case| {
            let mode = fs::Permissions::from_mode(0o600);
            fs::set_permissions(case.path("upper/d/a"), mode).unwrap();
        }),
        ("time", &|case: &Case| {
            let file = fs::File::options()
                .write(true)
                .open(case.path("upper/d/a"))
                .unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(7))
                .unwrap();
        }),
        ("attribute", &|case: &Case| {
            let path = case.path("upper/d/a");
            rustix::fs::setxattr(&path, "user.x", b"y", XattrFlags::empty()).unwrap();
        }),
        ("other name", &|case: &Case| {
            fs::hard_link(case.path("upper/d/a"), case.path("upper/d/a2")).unwrap();
        }),
    ] {
        let case = Case::new();
        case.put("upper/d/a", "a");
        case.age("upper");
        change(&case);
        if what == "content" {
            case.age("upper");
        }
        let left = case.settled();
        assert!(left.contains(&"d/a".to_owned()), "{what}: {left:?}");
    }
}

#[test]
fn marks_become_whiteouts_all_the_way_down() {
    let case = Case::new();
    case.put("upper/d/a", "new");
    fs::create_dir(case.path("upper/d/e")).unwrap();
    case.put("upper/d/n/x", "x");
    case.mark("upper/d");
    case.mark("upper/d/n");
    // A directory in place of nothing, and one in place of a file.
    fs::create_dir(case.path("upper/fresh")).unwrap();
    case.mark("upper/fresh");
    let before = case.path("upper/d").metadata().unwrap().modified().unwrap();
    assert_eq!(
        case.settled(),
        [
            "-d/b", "-d/e/c", "-d/l", "d", "d/a", "d/e", "d/n", "d/n/x", "fresh"
        ]
    );
    let after = case.path("upper/d").metadata().unwrap().modified().unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_directory_made_again_with_the_same_in_it_is_no_change_but_in_time() {
    let case = Case::new();
    case.put("upper/d/a", "a");
    case.put("upper/d/b", "b");
    case.put("upper/d/e/c", "c");
    symlink("a", case.path("upper/d/l")).unwrap();
    case.age("upper");
    case.mark("upper/d");
    assert_eq!(case.settled(), Vec::<String>::new());
}

#[test]
fn whiteouts_and_directories_with_other_attributes_stay() {
    let case = Case::new();
    fs::create_dir_all(case.path("upper/d/e")).unwrap();
    let path = case.path("upper/d/b");
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    case.age("upper");
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(case.path("upper/d/e"), mode).unwrap();
    assert_eq!(case.settled(), ["-d/b", "d", "d/e"]);
}
