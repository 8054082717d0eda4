//! `--chown`, `--chmod`, `--exclude`, `--parents`, `--link`.

use super::*;

#[test]
fn chown_is_for_everything_copied_and_made() {
    if !is_root("--chown") {
        return;
    }
    let case = Case::new();
    case.file("context/d/sub/f", "f")
        .link("context/d/l", "f")
        .file("context/g", "g")
        .directory("image/old");
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/old/new/x",
        owner: Some((12, 34)),
        ..CopySpec::default()
    };
    case.write(&case.context(), &spec);
    let sources = strings(&["g"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/old/other/",
        ..spec
    };
    case.write(&case.context(), &spec);
    for path in [
        "old/new",
        "old/new/x",
        "old/new/x/sub",
        "old/new/x/sub/f",
        "old/new/x/l",
    ] {
        assert!(case.attributes(path).ends_with(" 12:34"), "{path}");
    }
    assert_eq!(case.attributes("old/other/g"), "644 12:34");
    assert_eq!(case.attributes("old/other"), "755 12:34");
    // What was there is not.
    assert_eq!(case.attributes("old"), "755 0:0");
}

#[test]
fn the_owner_may_become_known_between_selecting_and_writing() {
    let case = Case::new();
    case.file("context/a", "a");
    let tree = case.context();
    let sources = strings(&["a"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let mut selection = select(&tree, &spec).unwrap();
    selection.digest(&tree, &spec, &mut |_, _| {}).unwrap();
    let spec = CopySpec {
        owner: Some((12, 34)),
        ..spec
    };
    selection
        .write(&tree, &spec, &case.below(), &case.at("upper"))
        .unwrap();
    if is_root("--chown") {
        assert_eq!(case.attributes("x/a"), "644 12:34");
    }
}

#[test]
fn chmod_is_for_files_and_directories_but_not_links() {
    let case = Case::new();
    case.file("context/d/sub/f", "f")
        .link("context/d/sub/l", "f")
        .directory("image/old");
    // An ordinary user can look into directories with an `x` only.
    let octal_mode = if reads_everything() { 0o640 } else { 0o740 };
    let octal = move |_: u32, _: bool| octal_mode;
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/old/new/x",
        chmod: Some(&octal),
        parent_mode: octal_mode,
        ..CopySpec::default()
    };
    case.write(&case.context(), &spec);
    assert_eq!(case.stat("old/new/x/sub/f").mode() & 0o7777, octal_mode);
    assert_eq!(case.stat("old/new/x/sub").mode() & 0o7777, octal_mode);
    assert_eq!(case.stat("old/new/x/sub/l").mode() & 0o7777, 0o777);
    // Created parents get an octal mode, existing ones do not.
    assert_eq!(case.stat("old/new/x").mode() & 0o7777, octal_mode);
    assert_eq!(case.stat("old/new").mode() & 0o7777, octal_mode);
    assert_eq!(case.stat("old").mode() & 0o7777, 0o755);

    let symbolic = |mode: u32, directory: bool| {
        if directory {
            mode | 0o011
        } else {
            mode & !0o044
        }
    };
    let spec = CopySpec {
        destination: "/symbolic/x",
        chmod: Some(&symbolic),
        parent_mode: 0o755,
        ..spec
    };
    case.write(&case.context(), &spec);
    assert_eq!(case.stat("symbolic/x/sub/f").mode() & 0o7777, 0o600);
    assert_eq!(case.stat("symbolic/x/sub").mode() & 0o7777, 0o755);
    assert_eq!(case.stat("symbolic").mode() & 0o7777, 0o755);
}

#[test]
fn exclude_is_relative_to_each_directory_and_not_for_files() {
    let case = Case::new();
    case.file("context/one/a.log", "1")
        .file("context/one/a.txt", "1")
        .file("context/one/deep/b.log", "1")
        .file("context/two/a.log", "2")
        .file("context/top.log", "3");
    let exclude = |path: &str, _: bool| path == "a.log" || path == "top.log" || path == "deep";
    for is_final in [false, true] {
        let sources = strings(&["one", "t*", "top.log"]);
        let spec = CopySpec {
            sources: &sources,
            destination: "/x/",
            exclude: Some(&exclude),
            exclude_is_final: is_final,
            ..CopySpec::default()
        };
        case.write(&case.context(), &spec);
        // `deep` goes with its contents only if the patterns say so themselves: each path is asked.
        let expected = if is_final {
            vec!["x/", "x/a.txt=1", "x/top.log=3"]
        } else {
            vec![
                "x/",
                "x/a.txt=1",
                "x/deep/",
                "x/deep/b.log=1",
                "x/top.log=3",
            ]
        };
        assert_eq!(case.layer(), expected);
        fs::remove_dir_all(case.at("upper/x")).unwrap();
    }
}

#[test]
fn a_path_taken_back_in_has_its_parents_and_nothing_else() {
    let case = Case::new();
    case.file("context/d/skip/deep/keep", "k")
        .file("context/d/skip/deep/other", "o")
        .file("context/d/skip/more/other", "o")
        .mode("context/d/skip", 0o711);
    let exclude = |path: &str, _: bool| path.starts_with("skip") && !path.ends_with("keep");
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x",
        exclude: Some(&exclude),
        ..CopySpec::default()
    };
    case.write(&case.context(), &spec);
    assert_eq!(
        case.layer(),
        ["x/", "x/skip/", "x/skip/deep/", "x/skip/deep/keep=k"]
    );
    assert_eq!(case.stat("x/skip").mode() & 0o7777, 0o711);
}

/// A stand-in for the ignore-file matcher: `**/` and plain names, and whatever is below a match.
fn pattern_match(pattern: &str, path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    (1..=parts.len()).any(|length| {
        let path = parts[..length].join("/");
        match pattern.split_once("**/") {
            Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
                let name = rest.rsplit('/').next().unwrap_or(rest);
                crate::glob::matches(after, name.as_bytes()).unwrap()
            }),
            None => crate::glob::matches(pattern, path.as_bytes()).unwrap(),
        }
    })
}

#[test]
fn parents_keep_the_path_below_the_destination() {
    for (source, expected) in [
        ("a/b/c.txt", vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt=c"]),
        ("/a/b/c.txt", vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt=c"]),
        ("./a/b/c.txt", vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt=c"]),
        (
            "a/b",
            vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt=c", "x/a/b/d=d"],
        ),
        ("a/*.txt", vec!["x/", "x/a/", "x/a/top.txt=t"]),
        (
            "a/**/*.txt",
            vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt=c", "x/a/top.txt=t"],
        ),
        (
            "**/*.txt",
            vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt=c", "x/a/top.txt=t"],
        ),
        // The pivot: only what follows is kept.
        ("a/./b/c.txt", vec!["x/", "x/b/", "x/b/c.txt=c"]),
        ("./a/./*.txt", vec!["x/", "x/top.txt=t"]),
        ("*/./b", vec!["x/", "x/b/", "x/b/c.txt=c", "x/b/d=d"]),
        ("a/b/./", vec!["x/", "x/c.txt=c", "x/d=d"]),
        ("a/none*", vec!["x/"]),
    ] {
        let case = Case::new();
        case.file("context/a/b/c.txt", "c")
            .file("context/a/b/d", "d")
            .file("context/a/top.txt", "t")
            .file("context/other/e", "e")
            .mode("context/a", 0o750)
            .mode("context/a/b", 0o700);
        let sources = strings(&[source]);
        let spec = CopySpec {
            sources: &sources,
            destination: "/x",
            parents: true,
            parents_match: Some(&pattern_match),
            ..CopySpec::default()
        };
        case.write(&case.context(), &spec);
        assert_eq!(case.layer(), expected, "{source}");
        // Parents come with their source's metadata.
        if expected.contains(&"x/a/") {
            assert_eq!(case.stat("x/a").mode() & 0o7777, 0o750, "{source}");
        }
    }
}

#[test]
fn a_missing_path_without_wildcards_is_an_error_with_parents() {
    let case = Case::new();
    case.file("context/a/b/c.txt", "c").link("context/l", "a");
    for source in ["a/b/c.tx", "a/./c.txt", "none/./x", "a/b/c.txt/d", "l/b"] {
        let sources = strings(&[source]);
        let spec = CopySpec {
            sources: &sources,
            destination: "/x/",
            parents: true,
            ..CopySpec::default()
        };
        let error = case.try_write(&case.context(), &spec).unwrap_err();
        assert!(
            matches!(error, CopyError::NotFound { .. }),
            "{source}: {error}"
        );
    }
    assert_eq!(case.layer(), [""; 0]);
}

#[test]
fn a_linked_copy_does_not_look_below() {
    let case = Case::new();
    case.file("context/a", "a")
        .link("image/bin", "usr/bin")
        .directory("image/dir")
        .mode("image/dir", 0o700)
        .file("image/file", "old");
    let sources = strings(&["a"]);
    for (destination, expected) in [
        ("/bin/", vec!["bin/", "bin/a=a"]),
        ("/dir/", vec!["dir/", "dir/a=a"]),
        // Without a slash a directory below is not seen.
        ("/dir", vec!["dir=a"]),
        ("/file/", vec!["file/", "file/a=a"]),
    ] {
        let spec = CopySpec {
            sources: &sources,
            destination,
            link: true,
            ..CopySpec::default()
        };
        case.write(&case.context(), &spec);
        assert_eq!(case.layer(), expected, "{destination}");
        if destination == "/dir/" {
            assert_eq!(case.attributes("dir"), "755 0:0");
        }
        fs::remove_dir_all(case.at("upper")).unwrap();
        fs::create_dir(case.at("upper")).unwrap();
    }
}
