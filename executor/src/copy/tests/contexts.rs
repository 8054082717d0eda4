//! The build context: what is ignored, what is remembered.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

fn ignoring(
    case: &Case,
    ignored: impl Fn(&str, bool) -> bool + Send + Sync + 'static,
    may_reinclude: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> ContextTree {
    ContextTree::open(
        &case.at("context"),
        Box::new(ignored),
        Box::new(may_reinclude),
        None,
    )
    .unwrap()
}

fn all(case: &Case, tree: &ContextTree) -> Vec<String> {
    let sources = strings(&["."]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/",
        ..CopySpec::default()
    };
    case.write(tree, &spec);
    let layer = case.layer();
    fs::remove_dir_all(case.at("upper")).unwrap();
    fs::create_dir(case.at("upper")).unwrap();
    layer
}

fn case() -> Case {
    let case = Case::new();
    case.file("context/keep", "1")
        .file("context/secret", "2")
        .file("context/node/a/x", "3")
        .file("context/node/b/y", "4")
        .link("context/to-secret", "secret")
        .link("context/to-node", "node");
    case
}

#[test]
fn what_is_ignored_is_not_there() {
    let case = case();
    let tree = ignoring(
        &case,
        |path, _| path == "secret" || path == "node" || path.starts_with("node/"),
        |_| false,
    );
    assert_eq!(
        all(&case, &tree),
        ["keep=1", "to-node->node", "to-secret->secret"]
    );
    for source in [
        "secret",
        "node",
        "node/a/x",
        "to-secret",
        "to-node",
        "./to-node/a",
    ] {
        let sources = strings(&[source]);
        let spec = CopySpec {
            sources: &sources,
            ..CopySpec::default()
        };
        let error = select(&tree, &spec).unwrap_err();
        assert!(matches!(error, CopyError::NotFound { .. }), "{source}");
    }
    let sources = strings(&["*e*", "node/*"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/",
        ..CopySpec::default()
    };
    // `to-node` matches, and its target isn't there.
    assert!(select(&tree, &spec).is_err());
}

#[test]
fn parents_of_what_is_taken_back_in_exist_and_empty_ones_do_not() {
    let case = case();
    case.mode("context/node", 0o711)
        .directory("context/node/empty");
    let tree = ignoring(
        &case,
        |path, _| path.starts_with("node") && path != "node/a/x",
        |path| path == "node" || path == "node/a",
    );
    let layer = all(&case, &tree);
    let node: Vec<_> = layer
        .iter()
        .filter(|path| path.starts_with("node"))
        .collect();
    assert_eq!(node, ["node/", "node/a/", "node/a/x=3"]);
    assert!(tree.lookup(Path::new("node"), true).unwrap().is_some());
    assert!(tree.lookup(Path::new("node/b"), true).unwrap().is_none());
    // Nothing taken back in: nothing is there.
    let tree = ignoring(&case, |path, _| path.starts_with("node"), |_| true);
    assert!(tree.lookup(Path::new("node"), true).unwrap().is_none());
}

#[test]
fn ignored_directories_are_not_entered_without_need() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let case = case();
    let tree = ignoring(
        &case,
        |path, _| {
            if path.starts_with("node/") {
                ASKED.fetch_add(1, Ordering::Relaxed);
            }
            path == "node"
        },
        |_| false,
    );
    all(&case, &tree);
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let case = case();
    case.mode("context/secret", 0);
    if reads_everything() {
        return;
    }
    let error = case.try_copy(&["."], "/").unwrap_err();
    assert!(error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_context_that_is_not_there_is_an_error() {
    let case = Case::new();
    let open = |path: &str| {
        ContextTree::open(
            &case.at(path),
            Box::new(|_, _| false),
            Box::new(|_| false),
            None,
        )
    };
    assert!(open("nowhere").is_err());
    case.file("file", "x");
    assert!(open("file").is_err());
    // The context's own path may be a link.
    case.link("alias", "context").file("context/a", "a");
    assert!(open("alias").is_ok());
}

#[test]
fn learned_digests_are_believed_next_time() {
    let case = Case::new();
    case.file("context/d/a", "a").file("context/d/marked", "b");
    let marked = rustix::fs::setxattr(
        case.at("context/d/marked"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::empty(),
    );
    // The cache takes no file that is as young as itself.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let store = strata_cache::Store::open(&case.at("store")).unwrap();
    let root = case.at("context");
    let open = || {
        let stat = strata_cache::statcache::StatCache::load(&store, &root);
        ContextTree::open(
            &root,
            Box::new(|_, _| false),
            Box::new(|_| false),
            Some(stat),
        )
        .unwrap()
    };
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        ..CopySpec::default()
    };
    let run = || {
        let tree = open();
        let mut learned = Vec::new();
        let mut selection = select(&tree, &spec).unwrap();
        let (digest, _) = selection
            .digest(&tree, &spec, &mut |entry, digest| {
                tree.learn(entry, digest);
                learned.push(entry.path.to_str().unwrap().to_owned());
            })
            .unwrap();
        tree.finish(&store).unwrap();
        (digest, learned)
    };
    let (first, learned) = run();
    // With extended attributes a file is looked at each time: what is known of one says that it has none.
    let plain: &[&str] = if marked.is_ok() {
        &["d/a"]
    } else {
        &["d/a", "d/marked"]
    };
    assert_eq!(learned, plain);
    let (second, learned) = run();
    assert_eq!(first, second);
    assert!(learned.is_empty(), "{learned:?}");
    case.file("context/d/a", "A");
    let (third, learned) = run();
    assert_ne!(first, third);
    assert!(learned.contains(&"d/a".to_owned()));
}
