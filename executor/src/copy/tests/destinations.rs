//! Where things go.

use super::*;

#[test]
fn a_file_keeps_its_name_only_in_a_directory() {
    for (image, destination, expected) in [
        ("", "/x", vec!["x=a"]),
        ("", "/x/", vec!["x/", "x/a=a"]),
        ("", "/x/.", vec!["x/", "x/a=a"]),
        ("", "/p/q/x", vec!["p/", "p/q/", "p/q/x=a"]),
        ("dir", "/x", vec!["x/", "x/a=a"]),
        ("dir", "/x/", vec!["x/", "x/a=a"]),
        ("dir", "/x/y", vec!["x/", "x/y=a"]),
        ("file", "/x", vec!["x=a"]),
        ("", "/", vec!["a=a"]),
        ("", "/p/../x", vec!["x=a"]),
    ] {
        let case = Case::new();
        case.file("context/a", "a");
        match image {
            "dir" => case.directory("image/x"),
            "file" => case.file("image/x", "old"),
            _ => &case,
        };
        case.copy(&["a"], destination);
        assert_eq!(case.layer(), expected, "{image} {destination}");
    }
}

#[test]
fn links_in_the_destination_are_followed_inside_the_root() {
    for (link, target, destination, expected) in [
        (
            "image/bin",
            "usr/bin",
            "/bin/",
            vec!["usr/", "usr/bin/", "usr/bin/a=a"],
        ),
        (
            "image/bin",
            "/usr/bin",
            "/bin/x",
            vec!["usr/", "usr/bin/", "usr/bin/x=a"],
        ),
        (
            "image/bin",
            "usr/bin",
            "/bin",
            vec!["usr/", "usr/bin/", "usr/bin/a=a"],
        ),
        // Out of the root and in again.
        (
            "image/bin",
            "../../../../usr/bin",
            "/bin/",
            vec!["usr/", "usr/bin/", "usr/bin/a=a"],
        ),
        // To where nothing is yet.
        (
            "image/bin",
            "/new/bin",
            "/bin/",
            vec!["new/", "new/bin/", "new/bin/a=a"],
        ),
        (
            "image/file",
            "/usr/bin/real",
            "/file",
            vec!["usr/", "usr/bin/", "usr/bin/real=a"],
        ),
    ] {
        let case = Case::new();
        case.file("context/a", "a")
            .directory("image/usr/bin")
            .link(link, target);
        case.copy(&["a"], destination);
        assert_eq!(case.layer(), expected, "{link} {target} {destination}");
    }
}

#[test]
fn a_link_to_a_file_at_the_destination_is_followed_but_one_below_is_replaced() {
    let case = Case::new();
    case.file("context/a", "new")
        .file("image/real", "old")
        .link("image/alias", "real")
        .link("image/dir/a", "../real");
    case.copy(&["a"], "/alias");
    assert_eq!(case.layer(), ["real=new"]);
    case.copy(&["a"], "/dir/");
    assert_eq!(case.layer(), ["dir/", "dir/a=new", "real=new"]);
}

#[test]
fn directories_and_files_do_not_replace_each_other() {
    for (prepare, sources, destination, what, onto) in [
        ("file", "dir", "/x", "directory", "file"),
        ("file", "dir", "/x/", "directory", "file"),
        ("below-file", "dir", "/x", "directory", "file"),
        ("below-dir", "dir", "/x", "file", "directory"),
        ("below-link", "dir", "/x", "directory", "file"),
        ("name-dir", "a", "/x/", "file", "directory"),
    ] {
        let case = Case::new();
        case.file("context/a", "a")
            .file("context/dir/one", "1")
            .file("context/dir/sub/two", "2");
        match prepare {
            "file" => case.file("image/x", "old"),
            "below-file" => case.file("image/x/sub", "old"),
            "below-dir" => case.directory("image/x/one"),
            "below-link" => case.directory("image/real").link("image/x/sub", "../real"),
            _ => case.directory("image/x/a"),
        };
        match case.try_copy(&[sources], destination).unwrap_err() {
            CopyError::Kind {
                what: found,
                onto: found_onto,
                ..
            } => assert_eq!((found, found_onto), (what, onto), "{prepare}"),
            error => panic!("{prepare}: {error}"),
        }
    }
}

#[test]
fn a_file_is_no_parent() {
    let case = Case::new();
    case.file("context/a", "a").file("image/x", "old");
    for destination in ["/x/", "/x/y", "/x/y/z/"] {
        let error = case.try_copy(&["a"], destination).unwrap_err();
        assert!(
            error.to_string().contains("`x` is not a directory"),
            "{destination}: {error}"
        );
    }
    assert_eq!(case.layer(), [""; 0]);
}

#[test]
fn parents_that_exist_below_come_up_as_they_are() {
    let case = Case::new();
    case.file("context/a", "a")
        .directory("image/opt/tool")
        .mode("image/opt", 0o711)
        .mode("image/opt/tool", 0o2775)
        .mtime("image/opt/tool", 1_000_000_007, 123_456_789)
        .mtime("image/opt", 1_000_000_008, 5)
        .mtime("upper", 1_000_000_009, 6);
    let root = is_root("owners of parents");
    if root {
        case.owner("image/opt/tool", 12, 34)
            .mode("image/opt/tool", 0o2775);
        case.mtime("image/opt/tool", 1_000_000_007, 123_456_789);
    }
    let below = fs::metadata(case.at("image/opt/tool")).unwrap();
    case.copy(&["a"], "/opt/tool/deep/");
    assert_eq!(
        case.layer(),
        ["opt/", "opt/tool/", "opt/tool/deep/", "opt/tool/deep/a=a"]
    );
    let above = case.stat("opt/tool");
    assert_eq!(above.mode(), below.mode());
    assert_eq!((above.uid(), above.gid()), (below.uid(), below.gid()));
    assert_eq!(case.time("opt/tool"), (1_000_000_007, 123_456_789));
    assert_eq!(case.time("opt"), (1_000_000_008, 5));
    // The root of the layer is a parent, too.
    assert_eq!(case.time(""), (1_000_000_009, 6));
    let group = if root { 34 } else { 0 };
    assert_eq!(case.attributes("opt/tool/deep"), format!("2755 0:{group}"));
}

#[test]
fn an_existing_destination_keeps_its_mode_and_gets_the_time_of_the_source() {
    let case = Case::new();
    case.file("context/dir/sub/file", "1")
        .mode("context/dir", 0o700)
        .mode("context/dir/sub", 0o751)
        .mtime("context/dir/sub", 1_100_000_000, 7)
        .mtime("context/dir", 1_200_000_000, 8)
        .directory("image/x/sub")
        .mode("image/x", 0o1777)
        .mode("image/x/sub", 0o700);
    let expected = if is_root("owners of destinations") {
        case.owner("image/x", 5, 6).owner("image/x/sub", 5, 6);
        case.mode("image/x", 0o1777);
        "1777 5:6"
    } else {
        "1777 0:0"
    };
    case.copy(&["dir"], "/x");
    assert_eq!(case.layer(), ["x/", "x/sub/", "x/sub/file=1"]);
    assert_eq!(case.attributes("x"), expected);
    assert_eq!(case.time("x"), (1_200_000_000, 8));
    // Below it, everything is the source's.
    assert_eq!(case.attributes("x/sub"), "751 0:0");
    assert_eq!(case.time("x/sub"), (1_100_000_000, 7));
}

#[test]
fn a_destination_made_for_a_directory_does_not_get_its_mode() {
    let case = Case::new();
    case.file("context/dir/file", "1")
        .mode("context/dir", 0o700)
        .mtime("context/dir", 1_200_000_000, 8);
    case.copy(&["dir"], "/p/x");
    assert_eq!(case.attributes("p"), "755 0:0");
    assert_eq!(case.attributes("p/x"), "755 0:0");
    assert_eq!(case.time("p/x"), (1_200_000_000, 8));
}

#[test]
fn a_file_replaces_a_file_without_touching_the_old_one() {
    let case = Case::new();
    case.file("context/a", "new")
        .mode("context/a", 0o600)
        .file("image/a", "old")
        .mode("image/a", 0o755);
    case.copy(&["a"], "/");
    assert_eq!(case.layer(), ["a=new"]);
    assert_eq!(case.attributes("a"), "600 0:0");
    assert_eq!(fs::read_to_string(case.at("image/a")).unwrap(), "old");
    // Also one of the same layer.
    case.file("context/a", "newer");
    case.copy(&["a"], "/");
    assert_eq!(case.layer(), ["a=newer"]);
}

#[test]
fn later_sources_see_what_earlier_ones_wrote() {
    let case = Case::new();
    case.file("context/f", "f")
        .directory("context/d")
        .file("context/d/x", "x");
    let error = case.try_copy(&["f", "d"], "/dst").unwrap_err();
    assert!(matches!(
        error,
        CopyError::Kind {
            what: "directory",
            ..
        }
    ));
}

#[test]
fn a_working_directory_is_made_once() {
    let case = Case::new();
    case.directory("image/srv").mode("image/srv", 0o700);
    let upper = case.at("upper");
    let make = |path: &str, owner, epoch| {
        crate::copy::make_directory(path, owner, epoch, &case.below(), &upper)
            .unwrap()
            .is_some()
    };
    assert!(!make("/", None, None));
    assert!(!make("/srv", None, None));
    assert_eq!(case.layer(), [""; 0]);
    assert!(make("/srv/a/b", None, Some(1_000_000_000)));
    assert_eq!(case.layer(), ["srv/", "srv/a/", "srv/a/b/"]);
    assert_eq!(case.attributes("srv"), "700 0:0");
    assert_eq!(case.attributes("srv/a/b"), "755 0:0");
    assert_eq!(case.time("srv/a/b"), (1_000_000_000, 0));
    case.file("image/file", "");
    let error = crate::copy::make_directory("/file/x", None, None, &case.below(), &upper);
    assert!(error.is_err());
    if is_root("the owner of a working directory") {
        assert!(make("/home/me", Some((7, 8)), None));
        assert_eq!(case.attributes("home/me"), "755 7:8");
    }
}

/// As in a file system that is mounted, where mkdir(2) sees to it.
#[test]
fn directories_made_on_the_way_have_the_group_that_is_handed_down() {
    if !is_root("the group of a directory") {
        return;
    }
    let case = Case::new();
    case.directory("image/g")
        .owner("image/g", 5, 6)
        .mode("image/g", 0o2750);
    case.directory("context/d").file("context/d/f", "");
    case.copy(&["d"], "/g/a/b/");
    assert_eq!(case.attributes("g"), "2750 5:6");
    assert_eq!(case.attributes("g/a"), "2755 0:6");
    assert_eq!(case.attributes("g/a/b"), "2755 0:6");
    // Files are given their owner.
    assert_eq!(case.attributes("g/a/b/f"), "644 0:0");
    let upper = case.at("upper");
    let make = |path: &str, owner| {
        crate::copy::make_directory(path, owner, None, &case.below(), &upper)
            .unwrap()
            .is_some()
    };
    assert!(make("/g/w/x", None) && make("/g/own", Some((7, 8))));
    assert_eq!(case.attributes("g/w/x"), "2755 0:6");
    assert_eq!(case.attributes("g/own"), "2755 7:8");
}
