//! ADD: local archives are unpacked, everything else is as in COPY.

use std::fs::File;
use std::process::Command;

use crate::support::{Kind, Sandbox, cases, run};

cases! { Root, User =>
    an_archive_is_unpacked_whatever_its_name_and_compression,
    an_archive_keeps_owners_modes_times_and_links,
    chown_applies_to_all_that_is_unpacked,
    what_is_no_archive_is_copied,
    copy_never_unpacks,
    unpacking_merges_into_what_is_there,
    unpack_false_keeps_the_archive,
}

cases! { Root =>
    an_archive_can_not_write_outside,
    a_broken_archive_fails,
}

/// Makes `name` in the context: a tar of a small tree, compressed by `compress`.
fn archive(sandbox: &Sandbox, name: &str, compress: &str) {
    let tree = sandbox.path("tree");
    if !tree.exists() {
        run(Command::new("sh")
            .current_dir(sandbox.path(""))
            .arg("-ec")
            .arg(
                "mkdir -p tree/sub
             echo text > tree/file
             ln tree/file tree/hard
             ln -s sub/inner tree/soft
             echo inner > tree/sub/inner
             chmod 0640 tree/sub/inner
             chmod 2750 tree/sub
             touch -d @1111111111 tree/file tree/sub/inner",
            ));
    }
    let plain = run_tar(sandbox, &["--owner=5", "--group=6", "."]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(compress)
        .stdin(File::open(&plain).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{compress}: {output:?}");
    sandbox.write(name, &output.stdout);
}

/// Runs GNU tar over the tree; the path of the tar.
fn run_tar(sandbox: &Sandbox, args: &[&str]) -> std::path::PathBuf {
    let path = sandbox.path("plain.tar");
    run(Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&path)
        .arg("--directory")
        .arg(sandbox.path("tree"))
        .args(["--sort=name", "--numeric-owner"])
        .args(args));
    path
}

const UNPACKED: [&str; 6] = [
    "d 0755 0:0 new",
    "f 0644 5:6 new/file",
    "h 0644 5:6 new/hard => new/file",
    "l 0777 5:6 new/soft -> sub/inner",
    "d 2750 5:6 new/sub",
    "f 0640 5:6 new/sub/inner",
];

/// The changes of a build, but for the destination itself: an archive's `./` may set its owner.
fn changes_inside(image: &crate::support::Image) -> Vec<String> {
    image
        .changes()
        .into_iter()
        .filter(|line| !line.ends_with(" new"))
        .collect()
}

/// §9.20.
fn an_archive_is_unpacked_whatever_its_name_and_compression(sandbox: &Sandbox) {
    sandbox.busybox();
    for (name, compress) in [
        ("a.tar", "cat"),
        ("a.tar.gz", "gzip"),
        ("a.tar.bz2", "bzip2"),
        ("a.tar.xz", "xz"),
        ("no-suffix", "gzip"),
        ("picture.png", "cat"),
    ] {
        archive(sandbox, name, compress);
        for to in ["/new", "/new/"] {
            let image = sandbox.build(&format!("FROM busybox\nADD {name} {to}\n"));
            assert_eq!(changes_inside(&image), UNPACKED[1..], "{name} {to}");
            assert_eq!(image.tree().text("new/hard"), "text\n");
        }
    }
}

fn an_archive_keeps_owners_modes_times_and_links(sandbox: &Sandbox) {
    sandbox.busybox();
    archive(sandbox, "a.tar", "cat");
    let image = sandbox.build("FROM busybox\nWORKDIR /w\nADD a.tar new\n");
    let tree = image.tree();
    assert_eq!(tree.at("w/new/file").mtime, 1_111_111_111);
    assert_eq!(tree.at("w/new/sub/inner").mtime, 1_111_111_111);
    assert_eq!(
        tree.at("w/new/soft").kind,
        Kind::Symlink("sub/inner".into())
    );
    assert_eq!(
        tree.at("w/new/hard").kind,
        Kind::HardLink("w/new/file".into())
    );
}

/// §9.20.
fn chown_applies_to_all_that_is_unpacked(sandbox: &Sandbox) {
    sandbox.busybox();
    archive(sandbox, "a.tar", "cat");
    let image = sandbox.build("FROM busybox\nADD --chown=app:9 a.tar /new/\n");
    assert_eq!(
        changes_inside(&image),
        [
            "f 0644 1000:9 new/file",
            "h 0644 1000:9 new/hard => new/file",
            "l 0777 1000:9 new/soft -> sub/inner",
            "d 2750 1000:9 new/sub",
            "f 0640 1000:9 new/sub/inner",
        ]
    );
    // Directories that the archive doesn't list are root's.
    let plain = run_tar(sandbox, &["--owner=5", "--group=6", "sub/inner"]);
    sandbox.write("implied.tar", std::fs::read(plain).unwrap());
    let image = sandbox.build("FROM busybox\nADD --chown=app:9 implied.tar /new/\n");
    assert_eq!(
        changes_inside(&image),
        ["d 0755 0:0 new/sub", "f 0640 1000:9 new/sub/inner"]
    );
}

fn what_is_no_archive_is_copied(sandbox: &Sandbox) {
    sandbox.busybox();
    sandbox
        .write("a.tar", "no tar at all")
        .write("text", "text")
        .write("empty.tar", "");
    sandbox.write("dir/x", "x");
    // A compressed file that holds no tar stays compressed.
    archive(sandbox, "unused.tar", "cat");
    let mut gzip = Command::new("sh");
    let compressed = gzip
        .args(["-c", "echo plain | gzip -n"])
        .output()
        .unwrap()
        .stdout;
    sandbox.write("text.gz", &compressed);
    for (body, expected) in [
        ("ADD a.tar /new", &["f 0644 0:0 new"] as &[_]),
        ("ADD a.tar /tmp/", &["f 0644 0:0 tmp/a.tar"]),
        ("ADD text.gz /tmp/", &["f 0644 0:0 tmp/text.gz"]),
        ("ADD empty.tar /tmp/", &["f 0644 0:0 tmp/empty.tar"]),
        (
            "ADD dir text /tmp/",
            &["f 0644 0:0 tmp/text", "f 0644 0:0 tmp/x"],
        ),
        (
            "ADD --chown=7 --chmod=600 text /tmp/",
            &["f 0600 7:7 tmp/text"],
        ),
        ("ADD t*t /tmp/", &["f 0644 0:0 tmp/text"]),
    ] {
        let image = sandbox.build(&format!("FROM busybox\n{body}\n"));
        assert_eq!(image.changes(), expected, "{body}");
    }
}

fn copy_never_unpacks(sandbox: &Sandbox) {
    sandbox.busybox();
    archive(sandbox, "a.tar.gz", "gzip");
    let image = sandbox.build("FROM busybox\nCOPY a.tar.gz /tmp/\n");
    assert_eq!(image.changes(), ["f 0644 0:0 tmp/a.tar.gz"]);
}

fn unpacking_merges_into_what_is_there(sandbox: &Sandbox) {
    sandbox.busybox();
    archive(sandbox, "a.tar", "cat");
    let image = sandbox.build(
        "FROM busybox\nRUN mkdir -p /new/sub && echo old > /new/file && echo kept > /new/sub/kept\n\
         ADD a.tar /new/\n",
    );
    let tree = image.tree();
    assert_eq!(tree.text("new/file"), "text\n");
    assert_eq!(tree.text("new/sub/kept"), "kept\n");
    assert_eq!(tree.at("new/sub").mode, 0o2750);
}

/// §9.20.
fn unpack_false_keeps_the_archive(sandbox: &Sandbox) {
    sandbox.busybox();
    archive(sandbox, "a.tar", "cat");
    let image = sandbox.build("FROM busybox\nADD --unpack=false a.tar /tmp/\n");
    assert_eq!(image.changes(), ["f 0644 0:0 tmp/a.tar"]);
}

fn an_archive_can_not_write_outside(sandbox: &Sandbox) {
    sandbox.busybox();
    let outside = sandbox.path("out/target");
    std::fs::create_dir(&outside).unwrap();
    let outside_text = outside.to_str().unwrap();
    // Names with `..`, an absolute name, and a link that a later entry goes through.
    let mut builder = tar::Builder::new(Vec::new());
    let mut entry = |kind, name: &[u8], link: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        // Past the checks of `set_path`: a hostile archive has no such scruples.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    entry(tar::EntryType::Symlink, b"out", outside_text, b"");
    entry(tar::EntryType::Regular, b"out/through-link", "", b"bad");
    let absolute = format!("{outside_text}/absolute");
    entry(tar::EntryType::Regular, absolute.as_bytes(), "", b"bad");
    entry(
        tar::EntryType::Regular,
        b"../../../../../../dots",
        "",
        b"bad",
    );
    let bytes = builder.into_inner().unwrap();
    sandbox.write("hostile.tar", bytes);
    sandbox.dockerfile("FROM busybox\nADD hostile.tar /new/\n");
    // Refused, or resolved inside the root: either is right. Nothing outside may be touched.
    let output = sandbox.try_build(&[]);
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!std::path::Path::new("/dots").exists());
}

fn a_broken_archive_fails(sandbox: &Sandbox) {
    sandbox.busybox();
    archive(sandbox, "whole.tar.gz", "gzip");
    let whole = std::fs::read(sandbox.context().join("whole.tar.gz")).unwrap();
    sandbox.write("cut.tar.gz", &whole[..whole.len() - 30]);
    let said = sandbox.build_fails("FROM busybox\nADD cut.tar.gz /new/\n", 1);
    assert!(said.contains("cut.tar.gz"), "{said}");
}
