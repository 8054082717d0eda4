use super::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;
use tempfile::TempDir;

/// These tests make devices and change owners.
fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test has to run as root"
    );
}

const NO_LIMITS: Limits = Limits {
    entries: 1_000_000,
    bytes: 1 << 40,
};

fn written(directory: &Path, links: &HardLinks) -> Vec<u8> {
    let mut tar = Vec::new();
    write_layer(directory, links, WriteOptions::default(), &mut tar).unwrap();
    tar
}

fn apply(tar: &[u8], below: &[&Path]) -> Result<(TempDir, Applied), DiffError> {
    let upper = tempfile::tempdir().unwrap();
    set_mode(upper.path(), 0o755);
    let below = LayerView::new(below.iter().map(|path| (*path).to_owned()).collect());
    let applied = apply_layer(&mut &tar[..], upper.path(), &below, false, NO_LIMITS)?;
    Ok((upper, applied))
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}

/// A tree with one of everything.
fn sample_layer() -> (TempDir, HardLinks) {
    require_root();
    let layer = tempfile::tempdir().unwrap();
    let root = layer.path();
    let at = |name: &str| root.join(name);
    set_mode(root, 0o755);
    std::fs::create_dir_all(at("dir/sub")).unwrap();
    std::fs::create_dir(at("dir.d")).unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    set_mode(&at("empty"), 0o1777);
    std::fs::write(at("dir/file"), "content").unwrap();
    std::fs::write(at("dir/sub/setuid"), vec![7; 100_000]).unwrap();
    std::os::unix::fs::chown(at("dir/sub/setuid"), Some(12), Some(3_000_000)).unwrap();
    set_mode(&at("dir/sub/setuid"), 0o6755);
    std::fs::write(at("nothing"), "").unwrap();
    std::fs::hard_link(at("dir/file"), at("a link")).unwrap();
    std::fs::hard_link(at("dir/file"), at("zlink")).unwrap();
    symlink("/etc/passwd", at("dir/absolute")).unwrap();
    symlink("x".repeat(300), at("dir/long")).unwrap();
    std::fs::hard_link(at("dir/long"), at("dir/long2")).unwrap();
    std::fs::write(at("\u{e4}\u{f6}"), "umlauts").unwrap();
    std::fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "raw").unwrap();
    let deep = at(&format!("{}/{}", "d".repeat(120), "e".repeat(120)));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("f".repeat(200)), "deep").unwrap();
    run("mkfifo", &[at("fifo").to_str().unwrap()]);
    run("mknod", &[at("null").to_str().unwrap(), "c", "1", "3"]);
    run(
        "mknod",
        &[at("disk").to_str().unwrap(), "b", "259", "70000"],
    );
    run("mknod", &[at("dir/gone").to_str().unwrap(), "c", "0", "0"]);
    xattr_set(&at("dir/sub"), "trusted.overlay.opaque", b"y");
    xattr_set(&at("dir/file"), "user.note", b"a\0b\n");
    xattr_set(&at("dir.d"), "user.on.directory", b"");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr_set(&at("dir/sub/setuid"), "security.capability", &capability);
    let group = |names: &[&str]| {
        names
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect::<Vec<_>>()
    };
    let links = HardLinks(vec![
        group(&["a link", "dir/file", "zlink"]),
        group(&["dir/long", "dir/long2"]),
    ]);
    for (index, name) in ["dir/file", "dir/sub", "dir", "dir.d", "fifo"]
        .iter()
        .enumerate()
    {
        let seconds = 1_000_000_000 + i64::try_from(index).unwrap();
        set_mtime(&at(name), seconds - 2_000_000_000 * i64::from(index == 4));
    }
    (layer, links)
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &times,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
}

fn xattr_set(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
        .unwrap_or_else(|error| panic!("set {name} on {}: {error}", path.display()));
}

/// All that a layer is, as text: one line for each file.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut inodes: BTreeMap<u64, usize> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_dir() {
            let mut children: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|child| child.unwrap().path())
                .collect();
            children.sort();
            children.reverse();
            pending.extend(children);
            String::new()
        } else if metadata.is_symlink() {
            format!("-> {}", std::fs::read_link(&path).unwrap().display())
        } else if metadata.is_file() {
            crate::Digest::of(&std::fs::read(&path).unwrap()).short()
        } else {
            format!("rdev {:x}", metadata.rdev())
        };
        let next = inodes.len();
        let group = *inodes.entry(metadata.ino()).or_insert(next);
        let mut xattrs = String::new();
        let fd = crate::beneath::open(
            crate::beneath::open_root(root).unwrap().as_fd(),
            path.strip_prefix(root).unwrap(),
            rustix::fs::OFlags::PATH,
        )
        .unwrap();
        for (name, value) in crate::xattr::list(fd.as_fd()).unwrap() {
            write!(xattrs, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
        }
        let whiteout = metadata.rdev() == 0 && metadata.mode() & 0o170_000 == 0o020_000;
        let line = format!(
            "{:o} {}:{} {} {content}{xattrs} #{}",
            if whiteout { 0 } else { metadata.mode() },
            metadata.uid(),
            metadata.gid(),
            // A whiteout's time and mode mean nothing.
            if whiteout { 0 } else { metadata.mtime() },
            if metadata.is_dir() { 0 } else { group },
        );
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
        lines.insert(name.escape_ascii().to_string(), line);
    }
    // The root's own time is not part of an archive.
    lines.remove("");
    lines
}

#[test]
fn a_layer_that_is_written_and_applied_is_the_same() {
    let (layer, links) = sample_layer();
    let below = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(below.path().join("dir/sub")).unwrap();
    std::fs::write(below.path().join("dir/gone"), "").unwrap();
    let tar = written(layer.path(), &links);
    let (applied, result) = apply(&tar, &[below.path()]).unwrap();
    let expected = listing(layer.path());
    let actual = listing(applied.path());
    for (name, line) in &expected {
        assert_eq!(actual.get(name), Some(line), "{name}");
    }
    assert_eq!(actual.len(), expected.len());
    assert_eq!(result.links, links);
    assert_eq!(result.foreign_owners, 0);
    assert_eq!(written(applied.path(), &result.links), tar);
}

#[test]
fn the_size_of_an_archive_is_known_before_it_is_written() {
    require_root();
    let (layer, links) = sample_layer();
    // Sizes at and around a block's, and names that take a record of their own.
    for size in [0, 1, 511, 512, 513] {
        let name = format!("{}-{size}", "n".repeat(150));
        std::fs::write(layer.path().join(name), vec![b'x'; size]).unwrap();
    }
    for epoch in [None, Some(0), Some(-1)] {
        let options = WriteOptions { epoch };
        let mut tar = Vec::new();
        write_layer(layer.path(), &links, options, &mut tar).unwrap();
        let size = layer_size(layer.path(), &links, options).unwrap();
        assert_eq!(size, tar.len() as u64, "{epoch:?}");
    }
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let (layer, links) = sample_layer();
    let tar = written(layer.path(), &links);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("layer.tar");
    std::fs::write(&file, &tar).unwrap();
    let out = place.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(
        "tar",
        &[
            "-xpf",
            file.to_str().unwrap(),
            "-C",
            out.to_str().unwrap(),
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ],
    );
    // To GNU tar, whiteouts are files.
    let mut expected = listing(layer.path());
    expected.remove("dir/gone");
    let sub = expected.get_mut("dir/sub").unwrap();
    *sub = sub.replace(" trusted.overlay.opaque=y", "");
    let mut actual = listing(&out);
    assert!(actual.remove("dir/.wh.gone").is_some());
    assert!(actual.remove("dir/sub/.wh..wh..opq").is_some());
    let strip = |map: BTreeMap<String, String>| -> BTreeMap<String, String> {
        // Numbers of groups count what was removed above, too.
        let lines = map.into_iter();
        lines
            .map(|(name, line)| (name, line.split(" #").next().unwrap().to_owned()))
            .collect()
    };
    assert_eq!(strip(expected), strip(actual));
    let inode = |name: &str| out.join(name).symlink_metadata().unwrap().ino();
    assert_eq!(inode("a link"), inode("dir/file"));
    assert_eq!(inode("a link"), inode("zlink"));
    assert_eq!(inode("dir/long"), inode("dir/long2"));
}

/// Names, link targets and content of an archive, as the strict reader sees it.
fn entries(tar: &[u8]) -> Vec<String> {
    let mut input = tar;
    let mut reader = ArchiveReader::new(&mut input, NO_LIMITS);
    let mut lines = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut content = Vec::new();
        let mut buffer = [0; 1000];
        loop {
            let count = reader.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            content.extend_from_slice(&buffer[..count]);
        }
        lines.push(format!(
            "{}{}{} {}",
            String::from_utf8_lossy(&entry.name),
            if entry.link.is_empty() { "" } else { " -> " },
            String::from_utf8_lossy(&entry.link),
            String::from_utf8_lossy(&content)
        ));
    }
    lines
}

fn tree_of(view: &LayerView, start: &str, links: &HardLinks) -> Vec<String> {
    let start = view.lookup(Path::new(start), false).unwrap().unwrap();
    let mut tar = Vec::new();
    write_tree(view, &start, links, WriteOptions::default(), &mut tar).unwrap();
    entries(&tar)
}

fn group(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[test]
fn a_tree_is_written_without_whiteouts_and_with_the_links_that_still_hold() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::create_dir_all(at("0/d")).unwrap();
    std::fs::create_dir_all(at("1/d")).unwrap();
    for name in ["0/d/a", "0/gone", "1/d/.wh.kept"] {
        std::fs::write(at(name), name).unwrap();
    }
    for name in ["0/d/b", "0/e", "0/f"] {
        std::fs::hard_link(at("0/d/a"), at(name)).unwrap();
    }
    // One name of the group is another file in the layer above, and linked to a new one there.
    std::fs::write(at("1/d/a"), "new").unwrap();
    std::fs::hard_link(at("1/d/a"), at("1/d/c")).unwrap();
    run("mknod", &[at("1/gone").to_str().unwrap(), "c", "0", "0"]);
    let view = LayerView::new(vec![at("0"), at("1")]);
    let links = HardLinks(vec![
        group(&["d/a", "d/b", "e", "f"]),
        group(&["d/a", "d/c"]),
    ]);
    assert_eq!(
        tree_of(&view, "", &links),
        [
            "d/ ",
            "d/.wh.kept 1/d/.wh.kept",
            "d/a new",
            "d/b 0/d/a",
            "d/c -> d/a ",
            "e -> d/b ",
            "f -> d/b "
        ]
    );
    assert_eq!(
        tree_of(&view, "d", &links),
        [".wh.kept 1/d/.wh.kept", "a new", "b 0/d/a", "c -> a "]
    );
    assert_eq!(tree_of(&view, "d/b", &links), ["b 0/d/a"]);
}

#[test]
fn links_that_are_not_recorded_are_files_of_their_own() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("a"), "x").unwrap();
    std::fs::hard_link(place.path().join("a"), place.path().join("b")).unwrap();
    assert_eq!(
        entries(&written(place.path(), &HardLinks::default())),
        ["a x", "b x"]
    );
    // A record that disagrees with the files loses nothing.
    std::fs::write(place.path().join("c"), "other").unwrap();
    let links = HardLinks(vec![group(&["a", "c", "missing"])]);
    assert_eq!(
        entries(&written(place.path(), &links)),
        ["a x", "b x", "c other"]
    );
}

#[test]
fn the_order_of_making_does_not_show_and_components_are_compared() {
    let names = ["a/x", "a.b", "a-b/y", "b", "a/.z", "B", "\u{e4}"];
    let make = |order: &mut dyn Iterator<Item = &&str>| {
        let place = tempfile::tempdir().unwrap();
        set_mode(place.path(), 0o755);
        for name in order {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        for entry in ["a", "a-b"].iter().chain(&names) {
            set_mtime(&place.path().join(entry), 1_000);
        }
        written(place.path(), &HardLinks::default())
    };
    let forward = make(&mut names.iter());
    assert!(forward == make(&mut names.iter().rev()));
    assert_eq!(
        entries(&forward),
        [
            "B ", "a/ ", "a/.z ", "a/x ", "a-b/ ", "a-b/y ", "a.b ", "b ", "\u{e4} "
        ]
    );
}

#[test]
fn times_are_clamped_to_the_epoch() {
    let place = tempfile::tempdir().unwrap();
    for (name, seconds) in [("new", 2_000), ("old", 500)] {
        std::fs::write(place.path().join(name), "").unwrap();
        set_mtime(&place.path().join(name), seconds);
    }
    let mut tar = Vec::new();
    let options = WriteOptions { epoch: Some(1_000) };
    write_layer(place.path(), &HardLinks::default(), options, &mut tar).unwrap();
    let mut input = &tar[..];
    let mut reader = ArchiveReader::new(&mut input, NO_LIMITS);
    let times: Vec<_> = std::iter::from_fn(|| reader.next().unwrap())
        .filter(|entry| entry.kind == EntryType::File)
        .map(|entry| entry.mtime)
        .collect();
    assert_eq!(times, [(1_000, 0), (500, 0)]);
}

#[test]
fn the_root_is_written_only_if_it_is_unusual() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    set_mode(root, 0o755);
    assert_eq!(
        entries(&written(root, &HardLinks::default())),
        Vec::<String>::new()
    );
    set_mode(root, 0o711);
    let tar = written(root, &HardLinks::default());
    assert_eq!(entries(&tar), ["./ "]);
    let (applied, _) = apply(&tar, &[]).unwrap();
    assert_eq!(applied.path().metadata().unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn sockets_are_left_out_and_names_of_whiteouts_are_an_error() {
    let place = tempfile::tempdir().unwrap();
    set_mode(place.path(), 0o755);
    let _socket = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
    assert_eq!(
        entries(&written(place.path(), &HardLinks::default())),
        Vec::<String>::new()
    );
    std::fs::write(place.path().join(".wh.x"), "").unwrap();
    let links = HardLinks::default();
    let answer = write_layer(
        place.path(),
        &links,
        WriteOptions::default(),
        &mut Vec::new(),
    );
    assert!(matches!(answer, Err(DiffError::Unrepresentable { .. })));
}

#[test]
fn a_failing_output_or_input_is_an_error_of_its_own() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("a"), "x").unwrap();
    let links = HardLinks::default();
    let answer = write_layer(place.path(), &links, WriteOptions::default(), &mut Full);
    assert!(matches!(answer, Err(DiffError::Output(_))));
    let below = LayerView::new(Vec::new());
    let answer = apply_layer(&mut Broken, place.path(), &below, false, NO_LIMITS);
    assert!(matches!(answer, Err(DiffError::Stream(_))));
}

#[test]
fn numbers_that_do_not_fit_are_records() {
    let mut tar = Vec::new();
    let mut writer = header::TarWriter::new(&mut tar);
    let kind = EntryType::File;
    let header = header::Header {
        path: b"big",
        kind,
        mode: 0o600,
        uid: u32::MAX - 1,
        gid: 2_097_152,
        size: 9 << 30,
        mtime: -5,
        link: &[],
        device: (0, 0),
        xattrs: &[],
    };
    writer.header(&header).unwrap();
    let mut input = &tar[..];
    let mut reader = ArchiveReader::new(&mut input, NO_LIMITS);
    let entry = reader.next().unwrap().unwrap();
    assert_eq!((entry.uid, entry.gid), (u32::MAX - 1, 2_097_152));
    assert_eq!((entry.size, entry.mtime), (9 << 30, (-5, 0)));
    let records = String::from_utf8_lossy(&tar[512..1024]).into_owned();
    assert!(
        records.starts_with("15 gid=2097152\n12 mtime=-5\n19 size=9663676416\n18 uid=4294967294\n"),
        "{records}"
    );
}
