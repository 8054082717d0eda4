//! A walk that is recalled is one of which nothing has changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strata_cache::statcache::StatCache;
use strata_cache::walks::Walks;
use strata_cache::{Digest, Store};

use super::ContextTree;
use crate::copy::{CopySpec, select};

/// A context of 600 files in 6 directories, and some hidden ones.
struct Case {
    directory: tempfile::TempDir,
    store: Store,
}

fn question() -> Digest {
    Digest::of(b"all")
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let case = Self { directory, store };
        for number in 0..600 {
            case.write(&format!("d{}/f{number}", number % 6), &number.to_string());
        }
        case.write("hidden/a", "a");
        case.write("hidden/b/c", "c");
        case.write("half/hidden", "h");
        std::os::unix::fs::symlink("d1/f1", case.at("link")).unwrap();
        fs::hard_link(case.at("d1/f1"), case.at("d2/same")).unwrap();
        case
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join("context").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Hides all that has `hidden` in its path, but for `taken-back`; looks for that everywhere.
    fn open(&self) -> ContextTree {
        let root = self.at("");
        let is_hidden =
            |path: &str, _: bool| path.contains("hidden") && !path.contains("taken-back");
        ContextTree::open(
            &root,
            Box::new(is_hidden),
            Box::new(|_| true),
            Some(StatCache::load(&self.store, &root)),
        )
        .unwrap()
        .with_walks(Walks::of(&self.store, &root))
    }

    /// The digest of everything, and whether it was recalled.
    fn digest(&self) -> (Digest, bool) {
        let tree = self.open();
        if let Some(digest) = tree.recall(question()) {
            assert_eq!(digest, looked_at(&tree));
            return (digest, true);
        }
        tree.note_walk();
        let digest = looked_at(&tree);
        tree.end_walk(Some((question(), digest)));
        tree.finish(&self.store).unwrap();
        (digest, false)
    }

    /// [`digest`](Self::digest) until what is there is old enough to be remembered.
    fn settled(&self) -> Digest {
        for _ in 0..100 {
            if let (digest, true) = self.digest() {
                return digest;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("nothing is recalled of a context that does not change");
    }
}

/// The digest of everything, twice, without anything recalled.
fn looked_at(tree: &ContextTree) -> Digest {
    let sources = [String::from("/"), String::from("d*/f1*")];
    let spec = CopySpec {
        sources: &sources,
        ..CopySpec::default()
    };
    let mut selection = select(tree, &spec).unwrap();
    let mut learn = |entry: &_, digest| tree.learn(entry, digest);
    selection.digest(tree, &spec, &mut learn).unwrap().0
}

/// Gives a file the times that it had.
fn keep_times(path: &Path, change: impl FnOnce()) {
    let before = fs::metadata(path).unwrap();
    change();
    let file = fs::File::open(path).unwrap();
    let times = fs::FileTimes::new()
        .set_accessed(before.accessed().unwrap())
        .set_modified(before.modified().unwrap());
    file.set_times(times).unwrap();
}

#[test]
fn any_change_of_what_is_shown_is_seen() {
    let case = Case::new();
    let mut last = case.settled();
    let set_mode = |path: &str, mode| {
        fs::set_permissions(case.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let changes: &[(&str, &dyn Fn(), bool)] = &[
        ("content", &|| case.write("d3/f3", "x"), true),
        (
            "content of the same length, with the old mtime",
            &|| keep_times(&case.at("d3/f9"), || case.write("d3/f9", "z")),
            true,
        ),
        ("a new file", &|| case.write("d3/new", "x"), true),
        (
            "a file that is gone",
            &|| fs::remove_file(case.at("d3/new")).unwrap(),
            true,
        ),
        (
            "an empty directory",
            &|| fs::create_dir(case.at("e")).unwrap(),
            true,
        ),
        ("a file's mode", &|| set_mode("d4/f4", 0o600), true),
        ("a directory's mode", &|| set_mode("d5", 0o700), true),
        (
            "another name",
            &|| fs::rename(case.at("d0/f0"), case.at("d0/g0")).unwrap(),
            true,
        ),
        (
            "a link's target",
            &|| {
                fs::remove_file(case.at("link")).unwrap();
                std::os::unix::fs::symlink("d1/f7", case.at("link")).unwrap();
            },
            true,
        ),
        (
            "a file in place of a link",
            &|| {
                fs::remove_file(case.at("link")).unwrap();
                case.write("link", "1");
            },
            true,
        ),
        (
            "a copy in place of a hard link",
            &|| {
                fs::remove_file(case.at("d2/same")).unwrap();
                fs::copy(case.at("d1/f1"), case.at("d2/same")).unwrap();
            },
            true,
        ),
        (
            "a hidden directory that has something to show",
            &|| case.write("hidden/b/taken-back", "x"),
            true,
        ),
        (
            "what a hidden directory shows",
            &|| case.write("hidden/b/taken-back", "y"),
            true,
        ),
        (
            "one that has nothing to show any more",
            &|| fs::remove_file(case.at("hidden/b/taken-back")).unwrap(),
            true,
        ),
        ("nothing but a time", &|| case.write("d3/f3", "x"), false),
    ];
    for (what, change, differs) in changes {
        change();
        let (now, recalled) = case.digest();
        assert!(!recalled, "{what} was not seen");
        assert_eq!(now != last, *differs, "{what}");
        last = case.settled();
        assert_eq!(last, now, "{what}");
    }
}

#[test]
fn what_is_hidden_may_change() {
    let case = Case::new();
    let before = case.settled();
    case.write("hidden/a", "other");
    case.write("half/hidden", "other");
    assert_eq!(case.digest(), (before, true));
}

#[test]
fn what_is_as_young_as_the_walk_is_not_recalled() {
    let case = Case::new();
    case.settled();
    let future = std::time::SystemTime::now() + Duration::from_secs(1_000);
    let file = fs::File::open(case.at("d3/f3")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(future))
        .unwrap();
    for _ in 0..3 {
        assert!(!case.digest().1);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_was_seen_can_be_cut_anywhere() {
    let case = Case::new();
    case.settled();
    let root = case.at("");
    let walks = Walks::of(&case.store, &root);
    let seen = walks.find(question()).unwrap().seen;
    let tree = case.open();
    let same = |seen: &[u8]| {
        super::trace::is_as_seen(&tree.root, seen, &|path, follow| {
            tree.find(path, follow).ok()
        })
    };
    assert!(same(seen));
    assert!(!same(&[seen, b"x"].concat()));
    for at in (0..seen.len()).step_by(11) {
        assert!(!same(&seen[..at]), "{at}");
    }
}
