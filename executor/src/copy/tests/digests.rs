//! What the digest of a selection covers, and what not.

use proptest::prelude::*;

use super::*;

/// The digest of `COPY sources… /x/` from a context.
fn of(case: &Case, sources: &[&str]) -> Digest {
    let sources = strings(sources);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    digest(&case.context(), &spec).0
}

fn case() -> Case {
    let case = Case::new();
    case.file("context/d/a", "a")
        .file("context/d/sub/b", "b")
        .link("context/d/l", "a")
        .file("context/f", "f");
    case
}

#[test]
fn times_and_places_are_not_covered() {
    let case = case();
    let before = (of(&case, &["d"]), of(&case, &["f"]), of(&case, &["d/*"]));
    for path in ["d", "d/a", "d/l", "d/sub", "f"] {
        case.mtime(&format!("context/{path}"), 1_000_000_000, 1);
    }
    fs::create_dir(case.at("context/moved")).unwrap();
    for name in ["d", "f"] {
        let moved = case.at("context/moved").join(name);
        fs::rename(case.at("context").join(name), moved).unwrap();
    }
    let after = (
        of(&case, &["moved/d"]),
        of(&case, &["moved/f"]),
        of(&case, &["moved/d/*"]),
    );
    assert_eq!(before, after);
    // A directory gives its contents: neither its name nor its own mode matter.
    fs::rename(case.at("context/moved/d"), case.at("context/other")).unwrap();
    case.mode("context/other", 0o700);
    assert_eq!(of(&case, &["other/"]), before.0);
}

#[test]
fn neutral_checkouts_are_one_whatever_the_umask() {
    let case = case();
    case.file("context/d/run", "r").mode("context/d/run", 0o755);
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let both = |case: &Case| {
        let neutral = digest(&case.context().neutral(true), &spec);
        (neutral, digest(&case.context(), &spec))
    };
    let (neutral, plain) = both(&case);
    // Under the umask 022 nothing is other than it is.
    assert_eq!(neutral, plain);
    for (path, mode) in [
        ("d/a", 0o600),
        ("d/sub", 0o2770),
        ("d/sub/b", 0o664),
        ("d/run", 0o4700),
    ] {
        case.mode(&format!("context/{path}"), mode);
    }
    let (again, plain) = both(&case);
    assert_eq!(neutral, again);
    assert_ne!(neutral.0, plain.0);
    // Whether something can be executed is no matter of the umask.
    case.mode("context/d/run", 0o655);
    assert_ne!(both(&case).0.0, neutral.0);
}

#[test]
fn everything_that_shows_in_the_layer_is_covered() {
    type Change = fn(&Case);
    let changes: &[(&str, Change)] = &[
        ("content", |case| {
            case.file("context/d/a", "A");
        }),
        ("length", |case| {
            case.file("context/d/a", "aa");
        }),
        ("mode", |case| {
            case.mode("context/d/a", 0o755);
        }),
        ("mode of a directory", |case| {
            case.mode("context/d/sub", 0o700);
        }),
        ("name", |case| {
            fs::rename(case.at("context/d/a"), case.at("context/d/aa")).unwrap();
        }),
        ("place below the source", |case| {
            fs::rename(case.at("context/d/a"), case.at("context/d/sub/a")).unwrap();
        }),
        ("link target", |case| {
            fs::remove_file(case.at("context/d/l")).unwrap();
            case.link("context/d/l", "sub/b");
        }),
        ("type", |case| {
            fs::remove_file(case.at("context/d/l")).unwrap();
            case.file("context/d/l", "a");
        }),
        ("new file", |case| {
            case.file("context/d/new", "");
        }),
        ("new directory", |case| {
            case.directory("context/d/new");
        }),
        ("removal", |case| {
            fs::remove_file(case.at("context/d/sub/b")).unwrap();
        }),
        ("hard link", |case| {
            fs::remove_file(case.at("context/d/sub/b")).unwrap();
            fs::hard_link(case.at("context/d/a"), case.at("context/d/sub/b")).unwrap();
        }),
    ];
    let original = of(&case(), &["d"]);
    let mut seen = vec![original];
    for (what, change) in changes {
        let case = case();
        change(&case);
        let changed = of(&case, &["d"]);
        assert!(!seen.contains(&changed), "{what}");
        seen.push(changed);
    }
    let equal_but_linked = {
        let case = case();
        case.file("context/d/sub/b", "a");
        of(&case, &["d"])
    };
    assert!(!seen.contains(&equal_but_linked));
}

#[test]
fn owner_and_mode_count_as_they_will_be_written() {
    let case = case();
    let sources = strings(&["d"]);
    let plain = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let chmod = |_: u32, _: bool| 0o600;
    let owned = CopySpec {
        owner: Some((1, 2)),
        ..plain
    };
    let moded = CopySpec {
        chmod: Some(&chmod),
        ..plain
    };
    let of = |spec: &CopySpec<'_>| digest(&case.context(), spec).0;
    assert_ne!(of(&plain), of(&owned));
    assert_ne!(of(&plain), of(&moded));
    let before = of(&moded);
    case.mode("context/d/a", 0o755).mode("context/d/sub", 0o711);
    assert_eq!(before, of(&moded));
    // Whoever owns the context: a copy is root's.
    if is_root("owners") {
        let before = of(&plain);
        case.owner("context/d/a", 5, 5).mode("context/d/a", 0o755);
        assert_eq!(before, of(&plain));
    }
}

#[test]
fn the_order_and_the_names_of_sources_count() {
    let case = case();
    case.file("context/g", "f");
    assert_ne!(of(&case, &["f", "d"]), of(&case, &["d", "f"]));
    assert_ne!(of(&case, &["f"]), of(&case, &["g"]));
    assert_ne!(of(&case, &["f"]), of(&case, &["f", "f"]));
    assert_ne!(of(&case, &["d"]), of(&case, &["d/*"]));
    assert_eq!(of(&case, &["f"]), of(&case, &["./f"]));
    assert_eq!(of(&case, &["d/sub", "f"]), of(&case, &["/d/sub/", "f*"]));
}

#[test]
fn a_context_and_a_layer_with_the_same_files_have_one_digest() {
    if !is_root("owners of the layer") {
        return;
    }
    let case = case();
    case.file("image/d/a", "a")
        .file("image/d/sub/b", "b")
        .link("image/d/l", "a");
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        ..CopySpec::default()
    };
    assert_eq!(digest(&case.context(), &spec), digest(&case.image(), &spec));
}

#[test]
fn each_file_is_told_with_a_digest_of_its_own() {
    let case = case();
    let sources = strings(&["d", "f"]);
    let spec = CopySpec {
        sources: &sources,
        ..CopySpec::default()
    };
    let (_, before) = digest(&case.context(), &spec);
    let paths: Vec<_> = before.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["d/a", "d/l", "d/sub", "d/sub/b", "f"]);
    case.file("context/d/sub/b", "changed");
    let (_, after) = digest(&case.context(), &spec);
    let changed: Vec<_> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(before, _)| before.path.as_str())
        .collect();
    assert_eq!(changed, ["d/sub/b"]);
}

#[test]
fn contents_that_had_to_be_hashed_are_told() {
    let case = case();
    fs::hard_link(case.at("context/d/a"), case.at("context/d/z")).unwrap();
    let tree = case.context();
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        ..CopySpec::default()
    };
    let mut selection = select(&tree, &spec).unwrap();
    let mut learned = Vec::new();
    selection
        .digest(&tree, &spec, &mut |entry, digest| {
            learned.push((entry.path.clone(), digest));
        })
        .unwrap();
    assert_eq!(
        learned,
        [
            (PathBuf::from("d/a"), Digest::of(b"a")),
            (PathBuf::from("d/sub/b"), Digest::of(b"b")),
        ]
    );
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    content: Vec<u8>,
    mode: u32,
    mtime: i64,
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let sample = (
        "[a-d]{1,2}",
        proptest::collection::vec(any::<u8>(), 0..8),
        prop_oneof![Just(0o600_u32), Just(0o644), Just(0o755)],
        0..2_000_000_000_i64,
    )
        .prop_map(|(name, content, mode, mtime)| Sample {
            name,
            content,
            mode,
            mtime,
        });
    proptest::collection::vec(sample, 0..6)
}

fn build(samples: &[Sample], place: &str) -> (Case, Digest) {
    let case = Case::new();
    fs::create_dir_all(case.at("context").join(place)).unwrap();
    for sample in samples {
        let path = format!("context/{place}/{}", sample.name);
        fs::write(case.at(&path), &sample.content).unwrap();
        case.mode(&path, sample.mode).mtime(&path, sample.mtime, 0);
    }
    let digest = of(&case, &[place]);
    (case, digest)
}

/// What the digest is meant to tell apart.
fn essence(samples: &[Sample]) -> std::collections::BTreeMap<String, (Vec<u8>, u32)> {
    samples
        .iter()
        .map(|sample| (sample.name.clone(), (sample.content.clone(), sample.mode)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn digests_are_equal_exactly_if_names_modes_and_contents_are(
        left in samples(),
        right in samples(),
        moved in "[e-h]{1,3}",
    ) {
        let (_, first) = build(&left, "d");
        let mut aged = left.clone();
        for sample in &mut aged {
            sample.mtime /= 2;
        }
        let (_, elsewhere) = build(&aged, &format!("{moved}/deep"));
        prop_assert_eq!(first, elsewhere);
        let (_, other) = build(&right, "d");
        prop_assert_eq!(first == other, essence(&left) == essence(&right));
    }
}

#[test]
fn many_directories_are_selected_in_order_and_links_found_between_them() {
    let case = Case::new();
    let mut expected = Vec::new();
    for outer in 'a'..='h' {
        expected.push(format!("d/{outer}"));
        for inner in 0..5 {
            expected.push(format!("d/{outer}/{inner}"));
            for number in 10..50 {
                let path = format!("d/{outer}/{inner}/{number}");
                case.file(&format!("context/{path}"), &path);
                expected.push(path);
            }
        }
        // Were whole paths compared, it would come before what is in the directory.
        let path = format!("d/{outer}.txt");
        case.file(&format!("context/{path}"), &path);
        expected.push(path);
    }
    for (name, of) in [("b/3/10", "h/4/49"), ("e/0/10", "a/0/10")] {
        let name = case.at("context/d").join(name);
        fs::remove_file(&name).unwrap();
        fs::hard_link(case.at("context/d").join(of), name).unwrap();
    }
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let (first, files) = digest(&case.context(), &spec);
    let paths: Vec<&str> = files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, expected);
    let facts = |path: &str| &*files.iter().find(|it| it.path == path).unwrap().facts;
    assert!(
        facts("d/e/0/10").ends_with(" = d/a/0/10"),
        "{}",
        facts("d/e/0/10")
    );
    assert!(
        facts("d/h/4/49").ends_with(" = d/b/3/10"),
        "{}",
        facts("d/h/4/49")
    );
    for _ in 0..20 {
        assert_eq!(digest(&case.context(), &spec).0, first);
    }
}
