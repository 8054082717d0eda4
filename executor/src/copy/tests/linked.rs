//! Files of an earlier layer of the same copy: when one is linked, and when it is written anew.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::fs::XattrFlags;
use strata_cache::KnownLayer;

use super::super::{CopyError, CopySpec, Written, select};
use super::{Case, is_root, strings};

/// Copies `sources` to `/app/` and takes the upper directory away as the earlier layer.
fn first(case: &Case, sources: &[&str]) -> KnownLayer {
    let written = case.copy(sources, "/app/");
    keep(case, &written)
}

fn keep(case: &Case, written: &Written) -> KnownLayer {
    let directory = case.at("earlier");
    fs::rename(case.at("upper"), &directory).unwrap();
    case.directory("upper");
    KnownLayer {
        directory,
        files: written.files(),
    }
}

fn again(
    case: &Case,
    sources: &[&str],
    earlier: &KnownLayer,
    spec: &CopySpec<'_>,
) -> Result<Written, CopyError> {
    let sources = strings(sources);
    let spec = CopySpec {
        sources: &sources,
        destination: "/app/",
        earlier: Some(earlier),
        ..*spec
    };
    case.try_write(&case.context(), &spec)
}

/// Which of the files of the layer are inodes of the earlier one.
fn linked(case: &Case, names: &[&str]) -> Vec<bool> {
    let inode = |layer: &str, name: &str| {
        let path = case.at(&format!("{layer}/app/{name}"));
        fs::metadata(path).ok().map(|stat| (stat.dev(), stat.ino()))
    };
    names
        .iter()
        .map(|name| inode("upper", name).unwrap() == inode("earlier", name).unwrap_or_default())
        .collect()
}

#[test]
fn what_an_earlier_layer_has_is_linked_and_the_rest_is_written() {
    let case = Case::new();
    for number in 0..40 {
        case.file(
            &format!("context/d{}/{number}", number % 3),
            &format!("{number}"),
        );
    }
    let earlier = first(&case, &["."]);
    assert_eq!(earlier.files.len(), 40);
    case.file("context/d0/3", "edited")
        .file("context/d1/new", "new");
    fs::remove_file(case.at("context/d2/2")).unwrap();
    let written = again(&case, &["."], &earlier, &CopySpec::default()).unwrap();
    assert_eq!(written.files().len(), 40);
    assert_eq!(written.links.0, Vec::<Vec<Vec<u8>>>::new());
    assert_eq!(
        linked(&case, &["d0/0", "d0/3", "d1/1", "d1/new", "d2/5"]),
        [true, false, true, false, true]
    );
    let layer = case.layer();
    assert!(layer.contains(&"app/d0/3=edited".to_owned()), "{layer:?}");
    assert!(layer.contains(&"app/d1/new=new".to_owned()), "{layer:?}");
    assert!(!layer.contains(&"app/d2/2=2".to_owned()), "{layer:?}");
    let old = fs::read_to_string(case.at("earlier/app/d0/3")).unwrap();
    assert_eq!(old, "3");
}

#[test]
fn a_file_that_is_to_have_other_metadata_is_written_with_them() {
    let case = Case::new();
    for name in ["same", "mode", "time", "nanosecond", "attribute"] {
        case.file(&format!("context/{name}"), "content").mtime(
            &format!("context/{name}"),
            1_000_000,
            5,
        );
    }
    let earlier = first(&case, &["."]);
    case.mode("context/mode", 0o600)
        .mtime("context/time", 1_000_001, 5)
        .mtime("context/nanosecond", 1_000_000, 6);
    rustix::fs::setxattr(
        case.at("context/attribute"),
        "user.note",
        b"x",
        XattrFlags::empty(),
    )
    .expect("TMPDIR must have user xattrs");
    again(&case, &["."], &earlier, &CopySpec::default()).unwrap();
    assert_eq!(
        linked(&case, &["same", "mode", "time", "nanosecond", "attribute"]),
        [true, false, false, false, false]
    );
    assert_eq!(case.attributes("app/mode"), "600 0:0");
    assert_eq!(case.time("app/time"), (1_000_001, 5));
    assert_eq!(case.time("app/nanosecond"), (1_000_000, 6));
    let mut value = [0; 8];
    let length = rustix::fs::getxattr(case.at("upper/app/attribute"), "user.note", &mut value[..]);
    assert_eq!(length, Ok(1));
    // The earlier layer is as it was.
    let old = fs::metadata(case.at("earlier/app/mode")).unwrap();
    assert_eq!(old.mode() & 0o7777, 0o644);
}

#[test]
fn flags_that_change_metadata_make_other_files() {
    let case = Case::new();
    case.file("context/f", "content");
    let earlier = first(&case, &["f"]);
    let chmod = |_: u32, _: bool| 0o600;
    let spec = CopySpec {
        chmod: Some(&chmod),
        ..CopySpec::default()
    };
    again(&case, &["f"], &earlier, &spec).unwrap();
    assert_eq!(linked(&case, &["f"]), [false]);
    assert_eq!(case.attributes("app/f"), "600 0:0");
    let spec = CopySpec {
        epoch: Some(77),
        ..CopySpec::default()
    };
    again(&case, &["f"], &earlier, &spec).unwrap();
    assert_eq!(linked(&case, &["f"]), [false]);
    assert_eq!(case.time("app/f"), (77, 0));
    if is_root("another owner") {
        let spec = CopySpec {
            owner: Some((12, 34)),
            ..CopySpec::default()
        };
        again(&case, &["f"], &earlier, &spec).unwrap();
        assert_eq!(linked(&case, &["f"]), [false]);
        assert_eq!(case.attributes("app/f"), "644 12:34");
    }
}

#[test]
fn what_was_replaced_within_a_copy_is_not_taken_for_what_is_there() {
    let case = Case::new();
    case.file("context/a/f", "first")
        .file("context/b/f", "second");
    for path in ["context/a/f", "context/b/f"] {
        case.mtime(path, 1_000_000, 0);
    }
    let earlier = first(&case, &["a/f", "b/f"]);
    assert!(earlier.files.is_empty());
    again(&case, &["a/f"], &earlier, &CopySpec::default()).unwrap();
    assert_eq!(case.layer(), ["app/", "app/f=first"]);
}

#[test]
fn what_the_earlier_layer_has_lost_is_written() {
    let case = Case::new();
    case.file("context/kept", "1")
        .file("context/gone", "2")
        .file("context/d/gone", "3");
    let earlier = first(&case, &["."]);
    fs::remove_file(case.at("earlier/app/gone")).unwrap();
    fs::remove_dir_all(case.at("earlier/app/d")).unwrap();
    again(&case, &["."], &earlier, &CopySpec::default()).unwrap();
    assert_eq!(
        linked(&case, &["kept", "gone", "d/gone"]),
        [true, false, false]
    );
    assert!(case.layer().contains(&"app/d/gone=3".to_owned()));
    // All of it may be gone.
    fs::remove_dir_all(&earlier.directory).unwrap();
    fs::remove_dir_all(case.at("upper")).unwrap();
    case.directory("upper");
    again(&case, &["."], &earlier, &CopySpec::default()).unwrap();
    assert_eq!(
        case.layer(),
        ["app/", "app/d/", "app/d/gone=3", "app/gone=2", "app/kept=1"]
    );
}

#[test]
fn hard_links_of_the_context_stay_hard_links_and_others_become_none() {
    let case = Case::new();
    case.file("context/a", "content")
        .file("context/c", "content");
    case.mtime("context/a", 1_000_000, 0)
        .mtime("context/c", 1_000_000, 0);
    fs::hard_link(case.at("context/a"), case.at("context/b")).unwrap();
    let group = vec![vec![b"app/a".to_vec(), b"app/b".to_vec()]];
    let written = case.copy(&["."], "/app/");
    assert_eq!(written.links.0, group);
    let earlier = keep(&case, &written);
    let written = again(&case, &["."], &earlier, &CopySpec::default()).unwrap();
    assert_eq!(written.links.0, group);
    assert_eq!(linked(&case, &["a", "b", "c"]), [true, true, true]);
    // One of the names becomes a file of its own with the same content.
    fs::remove_file(case.at("context/b")).unwrap();
    case.file("context/b", "content")
        .mtime("context/b", 1_000_000, 0);
    fs::remove_dir_all(case.at("upper/app")).unwrap();
    let written = again(&case, &["."], &earlier, &CopySpec::default()).unwrap();
    assert!(written.links.0.is_empty());
    assert_ne!(case.stat("app/a").ino(), case.stat("app/b").ino());
}

#[test]
fn a_link_is_what_was_hashed_whatever_becomes_of_the_source() {
    let case = Case::new();
    case.file("context/linked", "before")
        .file("context/written", "before");
    let earlier = first(&case, &["linked"]);
    let tree = case.context();
    let write = |name: &str| {
        let sources = strings(&[name]);
        let spec = CopySpec {
            sources: &sources,
            destination: "/app/",
            earlier: Some(&earlier),
            ..CopySpec::default()
        };
        let mut selection = select(&tree, &spec).unwrap();
        selection.digest(&tree, &spec, &mut |_, _| {}).unwrap();
        // Somebody writes to it after it was hashed.
        fs::write(case.at("context").join(name), "after!").unwrap();
        selection.write(&tree, &spec, &case.below(), &case.at("upper"))
    };
    write("linked").unwrap();
    assert_eq!(case.layer(), ["app/", "app/linked=before"]);
    let changed = write("written").unwrap_err();
    assert!(matches!(changed, CopyError::Changed { .. }), "{changed}");
}
