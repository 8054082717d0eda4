//! Times, modes, owners, links, attributes, special files.

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};
use std::os::unix::fs::FileTypeExt;

use super::*;

#[test]
fn times_are_kept_to_the_nanosecond_or_clamped() {
    for (epoch, file, link, directory) in [
        (
            None,
            (1_234_567_890, 123_456_789),
            (1_234_567_891, 5),
            (1_234_567_892, 6),
        ),
        (
            Some(1_234_567_891),
            (1_234_567_890, 123_456_789),
            (1_234_567_891, 0),
            (1_234_567_891, 0),
        ),
        (Some(0), (0, 0), (0, 0), (0, 0)),
    ] {
        let case = Case::new();
        case.file("context/d/sub/f", "f")
            .link("context/d/sub/l", "f")
            .mtime("context/d/sub/f", 1_234_567_890, 123_456_789)
            .mtime("context/d/sub/l", 1_234_567_891, 5)
            .mtime("context/d/sub", 1_234_567_892, 6);
        let sources = strings(&["d"]);
        let spec = CopySpec {
            sources: &sources,
            destination: "/new/",
            epoch,
            ..CopySpec::default()
        };
        case.write(&case.context(), &spec);
        assert_eq!(case.time("new/sub/f"), file);
        assert_eq!(case.time("new/sub/l"), link);
        assert_eq!(case.time("new/sub"), directory);
        assert!(epoch.is_none_or(|epoch| case.time("new").0 <= epoch));
    }
}

#[test]
fn a_context_is_owned_by_root_and_a_stage_by_itself() {
    if !is_root("owners of sources") {
        return;
    }
    let case = Case::new();
    case.file("context/a", "a")
        .owner("context/a", 1000, 1000)
        .link("context/l", "a")
        .owner("context/l", 1000, 1000);
    case.copy(&["."], "/");
    assert_eq!(case.attributes("a"), "644 0:0");
    assert_eq!(case.attributes("l"), "777 0:0");

    let case = Case::new();
    case.file("image/d/sub/a", "a")
        .link("image/d/sub/l", "a")
        .mode("image/d/sub", 0o750)
        .owner("image/d", 1, 2)
        .owner("image/d/sub", 3, 4)
        .owner("image/d/sub/a", 5, 6)
        .owner("image/d/sub/l", 7, 8);
    let sources = strings(&["/d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/out/",
        ..CopySpec::default()
    };
    case.write(&case.image(), &spec);
    assert_eq!(case.attributes("out/sub/a"), "644 5:6");
    assert_eq!(case.attributes("out/sub/l"), "777 7:8");
    assert_eq!(case.attributes("out/sub"), "750 3:4");
    // The destination isn't the source directory.
    assert_eq!(case.attributes("out"), "755 0:0");
}

#[test]
fn hard_links_of_one_source_stay_links() {
    let case = Case::new();
    case.file("context/d/a", "x");
    fs::hard_link(case.at("context/d/a"), case.at("context/d/b")).unwrap();
    fs::create_dir(case.at("context/d/sub")).unwrap();
    fs::hard_link(case.at("context/d/a"), case.at("context/d/sub/c")).unwrap();
    fs::hard_link(case.at("context/d/a"), case.at("context/outside")).unwrap();
    let written = case.copy(&["d"], "/x/");
    assert_eq!(
        written.links,
        HardLinks(vec![vec![
            b"x/a".to_vec(),
            b"x/b".to_vec(),
            b"x/sub/c".to_vec()
        ]])
    );
    assert_eq!(case.stat("x/a").ino(), case.stat("x/sub/c").ino());
    assert_eq!(case.stat("x/a").nlink(), 3);

    // Two sources are two copies, and one name alone is no link.
    let case_two = Case::new();
    case_two.file("context/a", "x");
    fs::hard_link(case_two.at("context/a"), case_two.at("context/b")).unwrap();
    let written = case_two.copy(&["a", "b"], "/x/");
    assert_eq!(written.links, HardLinks::default());
    assert_ne!(case_two.stat("x/a").ino(), case_two.stat("x/b").ino());
}

#[test]
fn a_replaced_name_is_no_link_any_more() {
    let case = Case::new();
    case.file("context/d/a", "x").file("context/e/b", "new");
    fs::hard_link(case.at("context/d/a"), case.at("context/d/b")).unwrap();
    let written = case.copy(&["d", "e"], "/x/");
    assert_eq!(case.layer(), ["x/", "x/a=x", "x/b=new"]);
    assert_eq!(written.links, HardLinks::default());
    // Also when a later write of the same step replaces it.
    let mut first = case.copy(&["d"], "/y/");
    assert_eq!(first.links.0.len(), 1);
    let second = case.copy(&["e"], "/y/");
    first.merge(second);
    assert_eq!(first.links, HardLinks::default());
}

#[test]
fn links_of_a_layer_are_those_that_were_recorded() {
    let case = Case::new();
    case.file("image/d/a", "x").file("image/d/c", "y");
    fs::hard_link(case.at("image/d/a"), case.at("image/d/b")).unwrap();
    // The store links equal files: one inode says nothing.
    fs::hard_link(case.at("image/d/c"), case.at("image/d/d")).unwrap();
    let recorded = [HardLinks(vec![vec![b"d/a".to_vec(), b"d/b".to_vec()]])];
    let tree = LayerTree::new(case.below(), &recorded);
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        ..CopySpec::default()
    };
    let written = case.write(&tree, &spec);
    assert_eq!(
        written.links,
        HardLinks(vec![vec![b"x/a".to_vec(), b"x/b".to_vec()]])
    );
}

#[test]
fn an_unchanged_file_of_a_layer_is_linked_and_a_changed_one_is_not() {
    let case = Case::new();
    case.file("image/a", "x");
    let sources = strings(&["a"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/same/",
        ..CopySpec::default()
    };
    let written = case.write(&case.image(), &spec);
    let inode = fs::metadata(case.at("image/a")).unwrap().ino();
    assert_eq!(case.stat("same/a").ino(), inode);
    // The image has two files: the store's link is none of its own.
    assert_eq!(written.links, HardLinks::default());
    let chmod = |mode: u32, _: bool| mode | 0o111;
    let changes = [
        CopySpec {
            chmod: Some(&chmod),
            ..spec
        },
        CopySpec {
            epoch: Some(1),
            ..spec
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let destination = format!("/{index}/");
        let change = CopySpec {
            destination: &destination,
            ..change
        };
        case.write(&case.image(), &change);
        assert_ne!(case.stat(&format!("{index}/a")).ino(), inode);
    }
    let stat = fs::metadata(case.at("image/a")).unwrap();
    assert_eq!(stat.mode() & 0o7777, 0o644);
    // What goes where it is written to later is never linked.
    let apart = CopySpec {
        destination: "/apart/",
        ..spec
    };
    case.write(&case.image().without_links(), &apart);
    assert_ne!(case.stat("apart/a").ino(), inode);
}

#[test]
fn extended_attributes_are_copied_but_never_those_of_overlayfs() {
    let case = Case::new();
    case.file("context/d/a", "x").directory("context/d/sub");
    for path in ["context/d/a", "context/d/sub"] {
        for (name, value) in [("user.note", "kept"), ("user.overlay.opaque", "y")] {
            let set =
                rustix::fs::setxattr(case.at(path), name, value.as_bytes(), XattrFlags::empty());
            if set.is_err() {
                return;
            }
        }
    }
    let capabilities = is_root("file capabilities");
    if capabilities {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::fs::setxattr(
            case.at("context/d/a"),
            "security.capability",
            &capability,
            XattrFlags::empty(),
        )
        .unwrap();
    }
    case.copy(&["d"], "/x/");
    let get = |path: &str, name: &str| {
        let mut value = [0; 64];
        rustix::fs::getxattr(case.at("upper").join(path), name, &mut value[..])
            .ok()
            .map(|size| value[..size].to_vec())
    };
    for path in ["x/a", "x/sub"] {
        assert_eq!(get(path, "user.note"), Some(b"kept".to_vec()));
        assert_eq!(get(path, "user.overlay.opaque"), None);
    }
    if capabilities {
        assert_eq!(
            get("x/a", "security.capability").map(|value| value.len()),
            Some(20)
        );
    }
}

#[test]
fn special_files_are_made_again() {
    let case = Case::new();
    case.directory("context/d");
    let make = |name: &str, kind, device| {
        mknodat(
            CWD,
            case.at("context/d").join(name),
            kind,
            Mode::RUSR | Mode::WGRP,
            device,
        )
    };
    make("fifo", FileType::Fifo, 0).unwrap();
    make("socket", FileType::Socket, 0).unwrap();
    let devices = is_root("devices");
    if devices {
        make("null", FileType::CharacterDevice, makedev(1, 3)).unwrap();
        make("loop", FileType::BlockDevice, makedev(7, 0)).unwrap();
    }
    case.mtime("context/d/fifo", 1_000_000_000, 1)
        .mode("context/d/fifo", 0o620);
    case.copy(&["d"], "/x/");
    assert!(case.stat("x/fifo").file_type().is_fifo());
    assert_eq!(case.attributes("x/fifo"), "620 0:0");
    assert_eq!(case.time("x/fifo"), (1_000_000_000, 1));
    assert!(case.stat("x/socket").file_type().is_socket());
    if devices {
        assert!(case.stat("x/null").file_type().is_char_device());
        assert_eq!(case.stat("x/null").rdev(), makedev(1, 3));
        assert!(case.stat("x/loop").file_type().is_block_device());
        // A single one, too.
        case.copy(&["d/null"], "/");
        assert!(case.stat("null").file_type().is_char_device());
    }
}

#[test]
fn special_mode_bits_survive_the_change_of_owner() {
    let case = Case::new();
    case.file("context/tool", "x").mode("context/tool", 0o6755);
    let sources = strings(&["tool"]);
    let owner = is_root("a foreign owner").then_some((12, 13));
    let spec = CopySpec {
        sources: &sources,
        destination: "/bin/",
        owner,
        ..CopySpec::default()
    };
    case.write(&case.context(), &spec);
    assert_eq!(case.stat("bin/tool").mode() & 0o7777, 0o6755);
}

#[test]
fn large_files_arrive_whole() {
    let case = Case::new();
    case.directory("context/d");
    let mut expected = Vec::new();
    for index in 0..40_u32 {
        let content: Vec<u8> = (0..100_000_u32 + index)
            .flat_map(|word| (word.wrapping_mul(2_654_435_761) ^ index).to_le_bytes())
            .collect();
        fs::write(case.at(&format!("context/d/{index:02}")), &content).unwrap();
        expected.push(content);
    }
    case.copy(&["d"], "/x/");
    for (index, content) in expected.iter().enumerate() {
        let copied = fs::read(case.at(&format!("upper/x/{index:02}"))).unwrap();
        assert!(copied == *content, "{index}");
    }
}

#[test]
fn owners_that_can_not_be_set_are_counted() {
    let case = Case::new();
    case.file("context/d/a", "a").link("context/d/l", "a");
    let sources = strings(&["d"]);
    let spec = CopySpec {
        sources: &sources,
        destination: "/x/",
        owner: Some((12, 34)),
        ..CopySpec::default()
    };
    let written = case.write(&case.context(), &spec);
    assert_eq!(case.layer(), ["x/", "x/a=a", "x/l->a"]);
    let expected = if is_root("giving files away") { 0 } else { 3 };
    // The root of the layer is not given away: whether it could be set is another matter.
    assert!((expected..=expected + 1).contains(&written.owners.lost));
}
