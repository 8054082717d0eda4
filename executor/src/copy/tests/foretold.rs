//! Diff IDs that are made beside the copy: they are those of the layers, or there are none.

use std::fs;
use std::sync::Mutex;

use strata_cache::diff::{Foretelling, WriteOptions, write_layer};
use strata_cache::{Digest, Hasher, KnownLayer};

use super::super::CopySpec;
use super::{Case, SourceTree, Written, strings};

/// Copies `/` of the tree as `spec` says, and what is foretold of the layer.
fn begun(
    case: &Case,
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
) -> (Option<Foretelling>, Written) {
    let slot: Mutex<Option<Foretelling>> = Mutex::new(None);
    let sources = strings(&["."]);
    let spec = CopySpec {
        sources: &sources,
        foretold: Some(&slot),
        ..*spec
    };
    let written = case.write(tree, &spec);
    (slot.into_inner().unwrap(), written)
}

/// The same: what was foretold of the layer, and what it is.
fn copied(
    case: &Case,
    tree: &dyn SourceTree,
    spec: &CopySpec<'_>,
) -> (Option<Digest>, Digest, Written) {
    let (foretold, written) = begun(case, tree, spec);
    let mut hasher = Hasher::default();
    let options = WriteOptions::default();
    write_layer(&case.at("upper"), &written.links, options, &mut hasher).unwrap();
    let told = foretold.map(|foretold| foretold.finish().expect("nothing failed").0);
    (told, hasher.finish(), written)
}

/// Directories of small files, large ones, and names that sort in their own way or are too long for a header.
fn filled() -> Case {
    let case = Case::new();
    for number in 0..700 {
        let size = number * 7 % 3_000;
        case.file(
            &format!("context/many.{}/{number}", number % 4),
            &"x".repeat(size),
        );
    }
    let long = "l".repeat(120);
    case.file("context/many.0.d/a", "")
        .file("context/many", "no directory")
        .file("context/big", &"large".repeat(500_000))
        .file(&format!("context/{long}/{long}"), "long")
        .directory("context/empty")
        .mode("context/many.1", 0o750)
        .mode("context/many.1/5", 0o4711)
        .link("context/link", "many.0/0")
        .mtime("context/big", -5, 7);
    case
}

fn to_app() -> CopySpec<'static> {
    CopySpec {
        destination: "/opt/app/",
        ..CopySpec::default()
    }
}

/// A user's copy belongs to the user, whatever was to come.
fn as_root() -> bool {
    super::is_root("the owner that was to come")
}

#[test]
fn a_cold_copy_is_foretold() {
    if !as_root() {
        return;
    }
    let case = filled();
    let (told, found, _) = copied(&case, &case.context(), &to_app());
    assert_eq!(told, Some(found));
}

#[test]
fn a_copy_of_large_files_is_foretold() {
    if !as_root() {
        return;
    }
    let case = Case::new();
    for number in 0..5 {
        let content = number.to_string().repeat(400_000);
        case.file(&format!("context/{number}"), &content);
    }
    let (told, found, _) = copied(&case, &case.context(), &to_app());
    assert_eq!(told, Some(found));
}

#[test]
fn a_copy_into_the_root_is_foretold() {
    if !as_root() {
        return;
    }
    let case = filled();
    case.directory("image/empty").mode("image/empty", 0o700);
    let spec = CopySpec {
        destination: "/",
        ..to_app()
    };
    let (told, found, _) = copied(&case, &case.context(), &spec);
    assert_eq!(told, Some(found));
}

#[test]
fn a_copy_that_links_is_foretold() {
    if !as_root() {
        return;
    }
    let case = filled();
    let (first, _, written) = copied(&case, &case.context(), &to_app());
    let directory = case.at("earlier");
    fs::rename(case.at("upper"), &directory).unwrap();
    case.directory("upper")
        .file("context/many.2/6", "edited")
        .mtime("context/many.2/6", 1, 2);
    let earlier = KnownLayer {
        directory,
        files: written.files(),
    };
    let spec = CopySpec {
        earlier: Some(&earlier),
        ..to_app()
    };
    let (told, found, _) = copied(&case, &case.context(), &spec);
    assert_eq!(told, Some(found));
    assert_ne!(told, first);

    // Once more, from a layer.
    fs::remove_dir_all(case.at("image")).unwrap();
    fs::rename(case.at("upper"), case.at("image")).unwrap();
    case.directory("upper");
    let spec = CopySpec {
        destination: "/elsewhere",
        ..to_app()
    };
    let (told, found, _) = copied(&case, &case.image(), &spec);
    assert_eq!(told, Some(found));
}

#[test]
fn what_is_no_plain_tree_is_not_foretold() {
    let linked = filled();
    fs::hard_link(linked.at("context/big"), linked.at("context/other")).unwrap();
    let special = filled();
    let pipe = special.at("context/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let marked = filled();
    marked.file("context/.wh.name", "");
    let full = filled();
    full.file("upper/before", "");
    let small = Case::new();
    small.file("context/file", "");
    for (what, case) in [
        ("hard links", &linked),
        ("a fifo", &special),
        ("the name of a whiteout", &marked),
        ("what was there before", &full),
        ("next to nothing", &small),
    ] {
        let (foretold, _) = begun(case, &case.context(), &to_app());
        assert!(foretold.is_none(), "{what}");
    }
}
