//! Contexts and images that mean harm, and files that change under the reader.

use std::ffi::OsStr;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::*;

#[test]
fn links_of_a_context_never_lead_out_of_it() {
    let case = Case::new();
    case.file("secret", "outside")
        .directory("context/d")
        .link("context/absolute", case.at("secret").to_str().unwrap())
        .link("context/relative", "../secret")
        .link("context/parent", "..")
        .link("context/d/deep", "../../secret");
    for source in [
        "absolute",
        "relative",
        "parent/secret",
        "../secret",
        "d/../../secret",
    ] {
        let error = case.try_copy(&[source], "/x/").unwrap_err();
        assert!(
            matches!(error, CopyError::NotFound { .. }),
            "{source}: {error}"
        );
    }
    // `..` at the root is the root.
    case.file("context/inside", "inside");
    case.copy(&["parent/inside"], "/x/");
    assert_eq!(case.layer(), ["x/", "x/inside=inside"]);
    case.copy(&["d"], "/y/");
    assert!(case.layer().contains(&"y/deep->../../secret".to_owned()));
}

#[test]
fn links_of_an_image_never_lead_out_of_the_layer() {
    let case = Case::new();
    case.file("context/a", "a")
        .directory("target")
        .link("image/absolute", case.at("target").to_str().unwrap())
        .link("image/relative", "../target")
        .link("image/chain", "relative/../../../../target");
    for destination in [
        "/absolute/",
        "/relative/",
        "/chain/",
        "/relative/../../target/",
    ] {
        case.copy(&["a"], destination);
    }
    assert_eq!(fs::read_dir(case.at("target")).unwrap().count(), 0);
    assert!(case.layer().contains(&"target/a=a".to_owned()));
}

#[test]
fn a_link_in_the_upper_directory_is_not_followed_by_the_kernel() {
    let case = Case::new();
    case.directory("target")
        .file("context/one/link/x", "x")
        .file("context/f", "f");
    // As an earlier COPY of the same step would leave it.
    case.link("upper/link", case.at("target").to_str().unwrap());
    let error = case.try_copy(&["one"], "/").unwrap_err();
    assert!(matches!(error, CopyError::Kind { .. }), "{error}");
    case.copy(&["f"], "/link/");
    assert_eq!(fs::read_dir(case.at("target")).unwrap().count(), 0);
}

#[test]
fn names_are_bytes() {
    let case = Case::new();
    case.directory("context/d");
    for name in [
        &b"\xff\xfe"[..],
        b"new\nline",
        b"-rf",
        b"\xc3\xa9",
        b" ",
        b"\\",
    ] {
        fs::write(case.at("context/d").join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::create_dir(case.at("context/d").join(OsStr::from_bytes(b"\xf0dir"))).unwrap();
    case.copy(&["d"], "/x/");
    for name in [
        &b"\xff\xfe"[..],
        b"new\nline",
        b"-rf",
        b"\xc3\xa9",
        b" ",
        b"\\",
    ] {
        let copied = fs::read(case.at("upper/x").join(OsStr::from_bytes(name))).unwrap();
        assert_eq!(copied, name);
    }
    assert!(
        case.at("upper/x")
            .join(OsStr::from_bytes(b"\xf0dir"))
            .is_dir()
    );
    // Wildcards find them, too.
    case.copy(&["d/??"], "/y/");
    assert!(
        case.at("upper/y")
            .join(OsStr::from_bytes(b"\xff\xfe"))
            .is_file()
    );
}

#[test]
fn a_device_that_means_deletion_is_refused() {
    if !is_root("a 0/0 device") {
        return;
    }
    let case = Case::new();
    case.directory("context/d").file("image/d/passwd", "x");
    mknodat(
        CWD,
        case.at("context/d/passwd"),
        FileType::CharacterDevice,
        Mode::RUSR,
        makedev(0, 0),
    )
    .unwrap();
    let error = case.try_copy(&["d"], "/d/").unwrap_err();
    assert!(matches!(error, CopyError::Whiteout { .. }), "{error}");
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_an_error() {
    let case = Case::new();
    case.file("context/d/a", "before").file("context/d/b", "b");
    let tree = case.context();
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let mut selection = select(&tree, &spec).unwrap();
    selection.digest(&tree, &spec, &mut |_, _| {}).unwrap();
    // The same size and time, as an editor could leave it.
    let time = fs::metadata(case.at("context/d/a"))
        .unwrap()
        .modified()
        .unwrap();
    fs::write(case.at("context/d/a"), "after!").unwrap();
    fs::File::options()
        .write(true)
        .open(case.at("context/d/a"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    let error = selection
        .write(&tree, &spec, &case.below(), &case.at("upper"))
        .unwrap_err();
    assert!(
        matches!(&error, CopyError::Changed { path } if path == "d/a"),
        "{error}"
    );
}

#[test]
fn a_file_that_changes_before_it_is_hashed_is_hashed_as_it_is_then() {
    let case = Case::new();
    case.file("context/a", "before");
    let tree = case.context();
    let sources = strings(&["a"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/",
        ..CopySpec::default()
    };
    let mut selection = select(&tree, &spec).unwrap();
    case.file("context/a", "changed").mode("context/a", 0o755);
    let (digest_of_all, _) = selection.digest(&tree, &spec, &mut |_, _| {}).unwrap();
    selection
        .write(&tree, &spec, &case.below(), &case.at("upper"))
        .unwrap();
    assert_eq!(case.layer(), ["a=changed"]);
    assert_eq!(case.stat("a").mode() & 0o7777, 0o755);
    assert_eq!(digest_of_all, digest(&tree, &spec).0);
}

#[test]
fn a_file_that_becomes_something_else_is_an_error() {
    let case = Case::new();
    case.file("secret", "outside");
    for what in ["link", "fifo", "directory", "parent", "nothing"] {
        case.file("context/d/a", "a");
        let tree = case.context();
        let sources = strings(&["d"]);
        let spec = CopySpec {
            sources: &sources,
            destination: "/x/",
            ..CopySpec::default()
        };
        let mut selection = select(&tree, &spec).unwrap();
        let path = case.at("context/d/a");
        fs::remove_file(&path).unwrap();
        match what {
            "link" => symlink(case.at("secret"), &path).unwrap(),
            "fifo" => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            "directory" => fs::create_dir(&path).unwrap(),
            "parent" => {
                fs::remove_dir(case.at("context/d")).unwrap();
                fs::create_dir_all(case.at("elsewhere")).unwrap();
                fs::write(case.at("elsewhere/a"), "outside").unwrap();
                symlink("../elsewhere", case.at("context/d")).unwrap();
            }
            _ => {}
        }
        assert!(
            selection.digest(&tree, &spec, &mut |_, _| {}).is_err(),
            "{what}"
        );
        let written = selection.write(&tree, &spec, &case.below(), &case.at("upper"));
        assert!(written.is_err(), "{what}");
        for name in ["context/d", "upper/x"] {
            if fs::remove_file(case.at(name)).is_err() {
                fs::remove_dir_all(case.at(name)).unwrap();
            }
        }
    }
}

#[test]
fn a_deep_tree_is_copied() {
    let case = Case::new();
    let mut path = case.at("context/d");
    fs::create_dir(&path).unwrap();
    for _ in 0..300 {
        path.push("nested");
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), "x").unwrap();
    case.copy(&["d"], "/x/");
    let mut copied = case.at("upper/x");
    copied.extend(std::iter::repeat_n("nested", 300));
    assert_eq!(fs::read(copied.join("file")).unwrap(), b"x");
}

#[test]
fn a_directory_of_many_files_is_copied() {
    let case = Case::new();
    case.directory("context/d");
    for index in 0..3000 {
        fs::write(case.at(&format!("context/d/{index}")), index.to_string()).unwrap();
    }
    case.copy(&["d"], "/x/");
    assert_eq!(case.layer().len(), 3001);
    assert_eq!(fs::read_to_string(case.at("upper/x/2999")).unwrap(), "2999");
}

#[test]
fn a_copy_that_is_not_wanted_any_more_ends() {
    let case = Case::new();
    case.file("context/d/a", "a").file("context/d/b", "b");
    let tree = case.context();
    let sources = strings(&["d"]);
    let cancelled = || true;
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        cancelled: Some(&cancelled),
        ..CopySpec::default()
    };
    let mut selection = select(&tree, &spec).unwrap();
    let hashed = selection.digest(&tree, &spec, &mut |_, _| {});
    assert!(matches!(hashed, Err(CopyError::Cancelled)));
    let written = selection.write(&tree, &spec, &case.below(), &case.at("upper"));
    assert!(matches!(written, Err(CopyError::Cancelled)));
}
