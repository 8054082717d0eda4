//! ADD of local archives.

use std::io::Write;

use proptest::prelude::*;

use super::*;

/// A tar archive in the making.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn entry(
        &mut self,
        kind: tar::EntryType,
        name: &str,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> &mut Self {
        let mut header = tar::Header::new_gnu();
        // Straight into the field: names that the builder would refuse are what is tested.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(12);
        header.set_gid(34);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(&mut self, name: &str, content: &str) -> &mut Self {
        self.entry(tar::EntryType::Regular, name, 0o640, "", content.as_bytes())
    }

    fn directory(&mut self, name: &str) -> &mut Self {
        self.entry(tar::EntryType::Directory, name, 0o750, "", b"")
    }

    fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(tar::EntryType::Symlink, name, 0o777, target, b"")
    }

    fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(tar::EntryType::Link, name, 0o640, target, b"")
    }

    fn finish(&mut self) -> Vec<u8> {
        self.0.finish().unwrap();
        self.0.get_ref().clone()
    }
}

fn sample() -> Vec<u8> {
    Tar::new()
        .directory("d/")
        .file("d/f", "f")
        .file("top", "t")
        .finish()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).unwrap()
}

fn try_add(case: &Case, archive: &[u8], destination: &str) -> Result<Written, CopyError> {
    fs::write(case.at("context/archive"), archive).unwrap();
    let sources = strings(&["archive"]);
    let spec = CopySpec {
        sources: &sources,
        destination,
        unpack: true,
        ..CopySpec::default()
    };
    case.try_write(&case.context(), &spec)
}

fn add(case: &Case, archive: &[u8], destination: &str) -> Written {
    try_add(case, archive, destination).unwrap()
}

#[test]
fn archives_are_told_by_their_content() {
    let tar = sample();
    let twice = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
    for (what, archive) in [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("gzip in two parts", twice),
        ("bzip2", bzip2(&tar)),
        ("xz", xz(&tar)),
        ("zstd", zstd(&tar)),
    ] {
        let case = Case::new();
        add(&case, &archive, "/x/y");
        // The destination is a directory, with a slash or without.
        assert_eq!(
            case.layer(),
            ["x/", "x/y/", "x/y/d/", "x/y/d/f=f", "x/y/top=t"],
            "{what}"
        );
        assert_eq!(case.attributes("x/y"), "755 0:0", "{what}");
    }
}

#[test]
fn what_is_no_archive_is_copied() {
    for (what, content) in [
        ("empty", Vec::new()),
        ("short", b"x".to_vec()),
        ("text", vec![b'x'; 2000]),
        ("zeros", vec![0; 2000]),
        ("an empty tar", Tar::new().finish()),
        ("one compressed file", gzip(b"just text")),
        ("a large compressed file", zstd(&vec![b'x'; 4000])),
        ("broken gzip", [&[0x1f, 0x8b][..], &[7; 600]].concat()),
        ("gzip of half a block", gzip(&sample()[..300])),
    ] {
        let case = Case::new();
        add(&case, &content, "/x/");
        assert_eq!(
            fs::read(case.at("upper/x/archive")).unwrap(),
            content,
            "{what}"
        );
    }
    // COPY never unpacks.
    let case = Case::new();
    fs::write(case.at("context/archive"), sample()).unwrap();
    case.copy(&["archive"], "/x/");
    assert!(case.at("upper/x/archive").is_file());
    // Nor does ADD what is inside a directory.
    let case = Case::new();
    case.directory("context/d");
    fs::write(case.at("context/d/archive"), sample()).unwrap();
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        unpack: true,
        ..CopySpec::default()
    };
    case.write(&case.context(), &spec);
    assert!(case.at("upper/x/archive").is_file());
}

#[test]
fn entries_keep_their_metadata_and_chown_overrides_the_owner() {
    let case = Case::new();
    add(&case, &sample(), "/x/");
    let owner = if is_root("owners of entries") {
        "12:34"
    } else {
        "0:0"
    };
    assert_eq!(case.attributes("x/d/f"), format!("640 {owner}"));
    assert_eq!(case.attributes("x/d"), format!("750 {owner}"));
    assert_eq!(case.time("x/d/f"), (1_000_000_000, 0));
    assert_eq!(case.time("x/d"), (1_000_000_000, 0));
    if owner == "0:0" {
        return;
    }
    let chmod = |_: u32, _: bool| 0o777;
    let sources = strings(&["archive"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/owned/",
        unpack: true,
        owner: Some((5, 6)),
        chmod: Some(&chmod),
        epoch: Some(7),
        ..CopySpec::default()
    };
    case.write(&case.context(), &spec);
    // `--chmod` is not for entries.
    assert_eq!(case.attributes("owned/d/f"), "640 5:6");
    assert_eq!(case.attributes("owned"), "755 5:6");
    assert_eq!(case.time("owned/d/f"), (7, 0));
}

#[test]
fn names_never_lead_out_of_the_destination() {
    for name in ["../out", "a/../../out", "..", "d/../../../out"] {
        let case = Case::new();
        let archive = Tar::new().file(name, "x").finish();
        let error = try_add(&case, &archive, "/x/").unwrap_err();
        assert!(
            matches!(error, CopyError::Archive { .. }),
            "{name}: {error}"
        );
    }
    let case = Case::new();
    case.directory("target");
    let target = case.at("target");
    let archive = Tar::new()
        .symlink("out", target.to_str().unwrap())
        .file("out/f", "1")
        .symlink("up", "../../../..")
        .file("up/g", "2")
        .file("/absolute", "3")
        .file("a/./../b", "4")
        .finish();
    add(&case, &archive, "/x/");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    let layer = case.layer();
    for expected in ["x/g=2", "x/absolute=3", "x/b=4"] {
        assert!(
            layer.contains(&expected.to_owned()),
            "{expected}: {layer:?}"
        );
    }
    let inside = format!("x/{}/f=1", target.strip_prefix("/").unwrap().display());
    assert!(layer.contains(&inside), "{layer:?}");
}

#[test]
fn links_that_are_there_are_followed_inside_the_destination() {
    let case = Case::new();
    case.directory("image/usr/lib").link("image/lib", "usr/lib");
    let archive = Tar::new().file("lib/f", "1").finish();
    add(&case, &archive, "/");
    assert_eq!(case.layer(), ["usr/", "usr/lib/", "usr/lib/f=1"]);
    // A directory entry takes the link's place.
    let case = Case::new();
    case.directory("image/usr/lib").link("image/lib", "usr/lib");
    let archive = Tar::new().directory("lib/").file("lib/f", "1").finish();
    add(&case, &archive, "/");
    assert_eq!(case.layer(), ["lib/", "lib/f=1"]);
}

#[test]
fn entries_replace_what_is_there() {
    let case = Case::new();
    case.file("image/x/dir/old", "old")
        .file("image/x/file", "old")
        .file("image/x/merged/old", "old")
        .mode("image/x/merged", 0o700);
    let archive = Tar::new()
        .file("dir", "a file now")
        .directory("file/")
        .file("file/inside", "1")
        .directory("merged/")
        .file("merged/new", "2")
        .file("again", "first")
        .file("again", "second")
        .finish();
    add(&case, &archive, "/x");
    assert_eq!(
        case.layer(),
        [
            "x/",
            "x/again=second",
            "x/dir=a file now",
            "x/file/",
            "x/file/inside=1",
            "x/merged/",
            "x/merged/new=2"
        ]
    );
    assert_eq!(case.stat("x/merged").mode() & 0o7777, 0o750);
    let view = case.below().with_upper(case.at("upper"));
    assert!(
        view.lookup(Path::new("x/merged/old"), false)
            .unwrap()
            .is_some()
    );
    assert!(
        view.lookup(Path::new("x/dir/old"), false)
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_directory_that_was_replaced_on_the_way_does_not_show_through() {
    let case = Case::new();
    case.file("image/x/dir/old", "old");
    let archive = Tar::new()
        .file("dir", "a file for a moment")
        .directory("dir/")
        .file("dir/new", "1")
        .finish();
    add(&case, &archive, "/x");
    let view = case.below().with_upper(case.at("upper"));
    assert!(
        view.lookup(Path::new("x/dir/new"), false)
            .unwrap()
            .is_some()
    );
    assert!(
        view.lookup(Path::new("x/dir/old"), false)
            .unwrap()
            .is_none()
    );
    // Also with contents of its own.
    let case = Case::new();
    let archive = Tar::new()
        .file("dir/deep/one", "1")
        .hard_link("dir/deep/two", "dir/deep/one")
        .file("dir", "a file now")
        .finish();
    let written = add(&case, &archive, "/x");
    assert_eq!(case.layer(), ["x/", "x/dir=a file now"]);
    assert_eq!(written.links, HardLinks::default());
}

#[test]
fn hard_links_are_links_also_to_what_was_there() {
    let case = Case::new();
    case.file("image/x/below", "below")
        .mode("image/x/below", 0o600);
    let archive = Tar::new()
        .file("a", "1")
        .hard_link("b", "a")
        .hard_link("sub/c", "./a")
        .hard_link("d", "below")
        .finish();
    let written = add(&case, &archive, "/x/");
    assert_eq!(
        case.layer(),
        [
            "x/",
            "x/a=1",
            "x/b=1",
            "x/below=below",
            "x/d=below",
            "x/sub/",
            "x/sub/c=1"
        ]
    );
    let names = |names: &[&str]| -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    };
    assert_eq!(
        written.links.0,
        [
            names(&["x/a", "x/b", "x/sub/c"]),
            names(&["x/below", "x/d"])
        ]
    );
    assert_eq!(case.stat("x/a").ino(), case.stat("x/sub/c").ino());
    // The metadata of the last entry count.
    assert_eq!(case.attributes("x/d").split(' ').next(), Some("640"));
    assert_eq!(case.attributes("x/below"), case.attributes("x/d"));
    let below = fs::metadata(case.at("image/x/below")).unwrap();
    assert_eq!(below.mode() & 0o7777, 0o600);
    for (link, target) in [
        ("l", "nothing"),
        ("l", "l"),
        ("l", "../x/a"),
        ("l", "sub"),
        ("l", "."),
    ] {
        let archive = Tar::new()
            .file("a", "1")
            .directory("sub/")
            .file("l", "kept")
            .hard_link(link, target)
            .finish();
        let error = try_add(&Case::new(), &archive, "/x/").unwrap_err();
        assert!(
            matches!(error, CopyError::Archive { .. }),
            "{target}: {error}"
        );
    }
}

#[test]
fn whiteout_names_are_names_like_any_other() {
    let case = Case::new();
    case.file("image/x/gone", "still here");
    let archive = Tar::new()
        .file(".wh.gone", "1")
        .file("d/.wh..wh..opq", "2")
        .finish();
    add(&case, &archive, "/x/");
    assert_eq!(
        case.layer(),
        ["x/", "x/.wh.gone=1", "x/d/", "x/d/.wh..wh..opq=2"]
    );
}

#[test]
fn special_entries_are_made_and_deletions_refused() {
    use std::os::unix::fs::FileTypeExt;
    let case = Case::new();
    let archive = Tar::new()
        .symlink("l", "../anywhere")
        .entry(tar::EntryType::Fifo, "fifo", 0o600, "", b"")
        .finish();
    add(&case, &archive, "/x/");
    assert!(case.stat("x/fifo").file_type().is_fifo());
    assert_eq!(
        fs::read_link(case.at("upper/x/l")).unwrap(),
        Path::new("../anywhere")
    );
    let archive = Tar::new()
        .entry(tar::EntryType::Char, "null", 0o600, "", b"")
        .finish();
    let error = try_add(&case, &archive, "/x/").unwrap_err();
    assert!(matches!(error, CopyError::Archive { .. }), "{error}");
}

#[test]
fn damaged_archives_are_errors_that_name_them() {
    let tar = Tar::new()
        .file("a", &"x".repeat(5000))
        .file("b", "y")
        .finish();
    let mut broken = tar.clone();
    broken[512 + 5120 + 20] ^= 1;
    let packed = gzip(&tar);
    for (what, archive) in [
        ("cut", tar[..3000].to_vec()),
        ("wrong checksum", broken),
        ("cut gzip", packed[..packed.len() - 12].to_vec()),
    ] {
        let error = try_add(&Case::new(), &archive, "/x/").unwrap_err();
        let CopyError::Archive { path, .. } = error else {
            panic!("{what}: {error}");
        };
        assert_eq!(path, "archive", "{what}");
    }
}

#[test]
fn an_archive_onto_a_file_is_an_error() {
    let case = Case::new();
    case.file("image/x", "old");
    assert!(try_add(&case, &sample(), "/x").is_err());
}

fn hostile_entries() -> impl Strategy<Value = Vec<(u8, String, String)>> {
    let name = proptest::sample::select(vec![
        "a",
        "b",
        "a/b",
        "a/b/c",
        "b/a",
        "./a",
        "/a",
        "../a",
        "a/../b",
        "a/../../b",
        "..",
        ".",
        "a/",
    ]);
    let target = proptest::sample::select(vec![
        "a",
        "b",
        "a/b",
        "..",
        "../..",
        "../../../outside",
        "/",
        "/a",
        "a/b/c",
        "/outside",
    ]);
    let entry = (
        0_u8..5,
        name.prop_map(str::to_owned),
        target.prop_map(str::to_owned),
    );
    proptest::collection::vec(entry, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_archive_reaches_outside_its_destination(entries in hostile_entries()) {
        let case = Case::new();
        case.file("outside/a", "safe")
            .file("image/etc/a", "below")
            .link("image/etc/b", "../../outside")
            .directory("image/etc/c");
        let mut tar = Tar::new();
        for (kind, name, target) in &entries {
            match kind {
                0 | 1 => tar.file(name, "written"),
                2 => tar.directory(name),
                3 => tar.symlink(name, target),
                _ => tar.hard_link(name, target),
            };
        }
        let result = try_add(&case, &tar.finish(), "/etc/");
        prop_assert_eq!(listing(&case.at("outside")), ["a=safe"]);
        prop_assert_eq!(
            listing(&case.at("image")),
            ["etc/", "etc/a=below", "etc/b->../../outside", "etc/c/"]
        );
        if result.is_ok() {
            for path in case.layer() {
                prop_assert!(path == "etc/" || path.starts_with("etc/"), "{path}");
            }
        }
    }

    #[test]
    fn no_damage_makes_unpacking_panic(
        at in proptest::collection::vec((0_usize..3000, any::<u8>()), 1..6),
        packed in any::<bool>(),
    ) {
        let mut archive = sample();
        if packed {
            archive = gzip(&archive);
        }
        for (place, byte) in at {
            let length = archive.len();
            archive[place % length] = byte;
        }
        let case = Case::new();
        // Either is fine.
        drop(try_add(&case, &archive, "/x/"));
    }
}
