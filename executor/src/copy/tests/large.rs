//! Large files, which are copied without a second hashing where their metadata say that they are what was
//! hashed.

use std::fs;

use strata_cache::Store;
use strata_cache::statcache::StatCache;

use super::super::{CopyError, CopySpec, select};
use super::{Case, strings};
use crate::context::ContextTree;

/// More than is copied at once, and no multiple of anything.
const SIZE: usize = (9 << 20) + 12_345;

fn content(seed: usize) -> Vec<u8> {
    (0..SIZE)
        .map(|at| ((at + seed).wrapping_mul(0x9e37_79b9) >> 11).to_le_bytes()[0])
        .collect()
}

/// Copies a large file that is old enough for its times to tell of changes; `between` is done when it was
/// hashed.
fn copy(case: &Case, between: &dyn Fn()) -> Result<(), CopyError> {
    case.directory("context/d");
    fs::write(case.at("context/d/large"), content(0)).unwrap();
    case.mode("context/d/large", 0o750)
        .mtime("context/d/large", 1_000_000, 5);
    // A file as young as the cache could change without a trace.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let store = Store::open(&case.at("store")).unwrap();
    let root = case.at("context");
    let tree = ContextTree::open(
        &root,
        Box::new(|_, _| false),
        Box::new(|_| false),
        Some(StatCache::load(&store, &root)),
    )
    .unwrap();
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let mut selection = select(&tree, &spec).unwrap();
    selection.digest(&tree, &spec, &mut |_, _| {}).unwrap();
    between();
    let written = selection.write(&tree, &spec, &case.below(), &case.at("upper"))?;
    assert_eq!(written.files().len(), 1);
    Ok(())
}

fn replace(case: &Case, content: &[u8]) {
    let path = case.at("context/d/large");
    // In place: the inode and the size stay, and the time of modification is given back.
    fs::write(&path, content).unwrap();
    case.mtime("context/d/large", 1_000_000, 5);
}

#[test]
fn one_that_stays_arrives_with_its_metadata() {
    let case = Case::new();
    copy(&case, &|| {}).unwrap();
    assert!(fs::read(case.at("upper/x/large")).unwrap() == content(0));
    assert_eq!(case.attributes("x/large"), "750 0:0");
    assert_eq!(case.time("x/large"), (1_000_000, 5));
}

#[test]
fn one_that_changes_after_it_was_hashed_is_an_error() {
    let case = Case::new();
    let error = copy(&case, &|| replace(&case, &content(1))).unwrap_err();
    assert!(
        matches!(&error, CopyError::Changed { path } if path == "d/large"),
        "{error}"
    );
}

#[test]
fn one_that_was_only_touched_arrives() {
    let case = Case::new();
    copy(&case, &|| replace(&case, &content(0))).unwrap();
    assert!(fs::read(case.at("upper/x/large")).unwrap() == content(0));
}
