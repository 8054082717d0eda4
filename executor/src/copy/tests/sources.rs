//! Which sources a text stands for.

use super::*;

fn case() -> Case {
    let case = Case::new();
    case.file("context/a.txt", "a")
        .file("context/b.txt", "b")
        .file("context/dir/one", "1")
        .file("context/dir/sub/two", "2")
        .file("context/src/x.c", "x")
        .file("context/src/y.h", "y")
        .file("context/src/deep/z.c", "z");
    case
}

/// Sources, destination, what is in the layer then.
const TABLE: &[(&[&str], &str, &[&str])] = &[
    // A source is absolute at the root of the tree, and cleaned.
    (&["a.txt"], "/x/", &["x/", "x/a.txt=a"]),
    (&["/a.txt"], "/x/", &["x/", "x/a.txt=a"]),
    (&["../a.txt"], "/x/", &["x/", "x/a.txt=a"]),
    (&["../../dir/../a.txt"], "/x/", &["x/", "x/a.txt=a"]),
    (&["./dir/./one"], "/x/", &["x/", "x/one=1"]),
    // A trailing slash means nothing.
    (&["a.txt/"], "/x/", &["x/", "x/a.txt=a"]),
    (&["dir/"], "/x", &["x/", "x/one=1", "x/sub/", "x/sub/two=2"]),
    // A directory gives its contents, not itself.
    (&["dir"], "/x", &["x/", "x/one=1", "x/sub/", "x/sub/two=2"]),
    (&["dir"], "/x/", &["x/", "x/one=1", "x/sub/", "x/sub/two=2"]),
    (&["dir/sub"], "/", &["two=2"]),
    // Wildcards stop at slashes, and a matched directory is taken whole.
    (&["*.txt"], "/", &["a.txt=a", "b.txt=b"]),
    (&["?.txt"], "/x/", &["x/", "x/a.txt=a", "x/b.txt=b"]),
    (&["[b-z].txt"], "/", &["b.txt=b"]),
    (&["[^b].txt"], "/", &["a.txt=a"]),
    (&["src/*.c"], "/", &["x.c=x"]),
    (&["*/*.c"], "/", &["x.c=x"]),
    (&["s*/deep/?.c"], "/", &["z.c=z"]),
    (&["d*"], "/", &["one=1", "sub/", "sub/two=2"]),
    (&["**/*.c"], "/", &["x.c=x"]),
    (&["src/*"], "/", &["x.c=x", "y.h=y", "z.c=z"]),
    // No match is no error and copies nothing, not even the destination's parents.
    (&["*.none"], "/x/", &[]),
    (&["a.txt/*"], "/x/", &[]),
    (&["*.none", "a.txt"], "/x/", &["x/", "x/a.txt=a"]),
    // Several sources.
    (
        &["a.txt", "b.txt"],
        "/x/",
        &["x/", "x/a.txt=a", "x/b.txt=b"],
    ),
    (
        &["a.txt", "dir/sub"],
        "/x/",
        &["x/", "x/a.txt=a", "x/two=2"],
    ),
    // Into a destination that isn't there and has no slash, each overwrites the last.
    (&["a.txt", "b.txt"], "/x", &["x=b"]),
    (&["dir/sub", "a.txt"], "/x", &["x/", "x/a.txt=a", "x/two=2"]),
    // The same name twice: the last one stays.
    (&["dir/one", "dir/./one"], "/x/", &["x/", "x/one=1"]),
    // The whole context.
    (
        &["."],
        "/",
        &[
            "a.txt=a",
            "b.txt=b",
            "dir/",
            "dir/one=1",
            "dir/sub/",
            "dir/sub/two=2",
            "src/",
            "src/deep/",
            "src/deep/z.c=z",
            "src/x.c=x",
            "src/y.h=y",
        ],
    ),
];

#[test]
fn sources_are_what_the_reference_says() {
    for (sources, destination, expected) in TABLE {
        let case = case();
        case.copy(sources, destination);
        assert_eq!(case.layer(), *expected, "{sources:?} {destination}");
    }
}

#[test]
fn a_missing_source_is_an_error_with_names_near_it() {
    let case = case();
    for source in [
        "a.tx", "dir/onee", "A.TXT", "a.txt/x", "nowhere", "none/*.c", "dirr/*",
    ] {
        let error = case.try_copy(&["b.txt", source], "/x/").unwrap_err();
        let CopyError::NotFound { path, near, .. } = error else {
            panic!("{source}: {error}");
        };
        assert_eq!(path, source);
        match source {
            "a.tx" | "A.TXT" => assert_eq!(near, ["a.txt"]),
            "dirr/*" => assert_eq!(near, ["dir"]),
            "dir/onee" => assert_eq!(near, ["dir/one"]),
            _ => assert_eq!(near, [""; 0]),
        }
    }
    assert_eq!(case.layer(), [""; 0]);
}

#[test]
fn a_bad_wildcard_is_an_error() {
    let case = case();
    for source in ["[", "a[", "[]a]", "src/[z-", "d*/[a-"] {
        let error = case.try_copy(&[source], "/x/").unwrap_err();
        assert!(matches!(error, CopyError::Pattern(_)), "{source}: {error}");
    }
}

#[test]
fn a_path_is_followed_through_links_and_a_link_inside_is_copied() {
    let case = case();
    case.link("context/to-file", "a.txt")
        .link("context/to-dir", "/dir")
        .link("context/dir/inner", "one")
        .link("context/dir/broken", "nowhere")
        .link("context/up", "../../../../../../../dir");
    for (source, destination, expected) in [
        // The name is the one that was written.
        ("to-file", "/x/", vec!["x/", "x/to-file=a"]),
        ("to-dir/one", "/x/", vec!["x/", "x/one=1"]),
        ("to-f*", "/x/", vec!["x/", "x/to-file=a"]),
        ("up/one", "/x/", vec!["x/", "x/one=1"]),
        (
            "to-dir",
            "/x",
            vec![
                "x/",
                "x/broken->nowhere",
                "x/inner->one",
                "x/one=1",
                "x/sub/",
                "x/sub/two=2",
            ],
        ),
    ] {
        fs::remove_dir_all(case.at("upper")).unwrap();
        fs::create_dir(case.at("upper")).unwrap();
        case.copy(&[source], destination);
        assert_eq!(case.layer(), expected, "{source}");
    }
    let error = case.try_copy(&["dir/broken"], "/x").unwrap_err();
    assert!(matches!(error, CopyError::NotFound { .. }));
    case.link("context/loop", "loop");
    assert!(case.try_copy(&["loop"], "/x").is_err());
}

#[test]
fn escaped_wildcards_are_taken_as_they_are_written() {
    let case = Case::new();
    case.file("context/[x].txt", "1").file("context/x.txt", "2");
    // Go's Match unescapes within a pattern.
    case.copy(&["[[]x].t*"], "/");
    assert_eq!(case.layer(), ["[x].txt=1"]);
}

#[test]
fn a_source_of_a_stage_is_taken_from_its_root() {
    let case = Case::new();
    case.file("image/out/app", "app").link("image/bin", "out");
    let sources = strings(&["/bin/app"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/usr/bin/",
        ..CopySpec::default()
    };
    case.write(&case.image(), &spec);
    assert_eq!(case.layer(), ["usr/", "usr/bin/", "usr/bin/app=app"]);
}

#[test]
fn heredocs_are_files_of_their_own() {
    let case = Case::new();
    let tree = crate::tree::MemoryTree::new(vec![
        ("robots.txt".into(), b"none\n".to_vec()),
        ("EOF".into(), b"text".to_vec()),
    ]);
    let sources = strings(&["robots.txt", "EOF"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/www/",
        ..CopySpec::default()
    };
    case.write(&tree, &spec);
    assert_eq!(
        case.layer(),
        ["www/", "www/EOF=text", "www/robots.txt=none\\n"]
    );
    assert_eq!(case.attributes("www/EOF"), "644 0:0");
}
