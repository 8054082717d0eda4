//! Archives that were made to do harm, or that two programs would read differently.
//!
//! Each case is unpacked into a directory beside a canary tree. Whatever the answer, nothing outside
//! the layer's directory may change. Needs root: an ordinary user could not do the harm.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use proptest::prelude::*;
use strata_cache::LayerView;
use strata_cache::diff::{DiffError, Limits, WriteOptions, write_layer};

mod hostile;

use hostile::{BLOCK, LIMITS, Place, Tar, long, raw, record, seal};

/// Archives that must be refused, and a word of the reason.
#[test]
fn what_must_be_refused_is() {
    let file = || Tar::new().file("f", b"x");
    let cut = |tar: Vec<u8>, length: usize| tar[..length].to_vec();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        // Names.
        ("parent", Tar::new().file("../x", b"x").end(), "`..`"),
        (
            "parent inside",
            Tar::new().file("a/../../x", b"x").end(),
            "`..`",
        ),
        ("parent alone", Tar::new().dir("..").end(), "`..`"),
        (
            "parent, absolute",
            Tar::new().file("/../x", b"x").end(),
            "`..`",
        ),
        (
            "parent in a whiteout's path",
            Tar::new().file("../.wh.x", b"").end(),
            "`..`",
        ),
        (
            "parent in PAX",
            Tar::new()
                .pax(b'x', &record("path", b"../x"))
                .file("a", b"")
                .end(),
            "`..`",
        ),
        ("no name", Tar::new().file("", b"x").end(), "no name"),
        (
            "empty name in PAX",
            Tar::new()
                .pax(b'x', &record("path", b""))
                .file("a", b"")
                .end(),
            "no name",
        ),
        (
            "NUL in a name",
            Tar::new()
                .pax(b'x', &record("path", b"a\0b"))
                .file("a", b"")
                .end(),
            "NUL",
        ),
        (
            "NUL in a long name",
            Tar::new()
                .raw(&raw(b"@", b'L').size(3))
                .data(b"a\0b")
                .file("a", b"")
                .end(),
            "NUL",
        ),
        (
            "NUL in a link",
            Tar::new()
                .pax(b'x', &record("linkpath", b"a\0b"))
                .symlink("a", "")
                .end(),
            "NUL",
        ),
        (
            "a component too long",
            Tar::new()
                .pax(b'x', &record("path", long(256).as_bytes()))
                .file("a", b"")
                .end(),
            "255",
        ),
        (
            "a path too long",
            Tar::new()
                .pax(b'x', &record("path", "d/".repeat(2500).as_bytes()))
                .dir("a")
                .end(),
            "4096",
        ),
        (
            "a file as the root",
            Tar::new().raw(&raw(b".", b'0')).end(),
            "root",
        ),
        (
            "a link as the root",
            Tar::new().symlink("/", "/etc").end(),
            "root",
        ),
        // Whiteouts.
        (
            "a whiteout of nothing",
            Tar::new().file("a/.wh.", b"").end(),
            "names nothing",
        ),
        (
            "a whiteout of `.`",
            Tar::new().file(".wh..", b"").end(),
            "names nothing",
        ),
        (
            "a whiteout of `..`",
            Tar::new().file("dir/.wh...", b"").end(),
            "names nothing",
        ),
        (
            "a directory as whiteout",
            Tar::new().dir(".wh.dir").end(),
            "whiteout",
        ),
        (
            "a symlink as whiteout",
            Tar::new().symlink(".wh.dir", "/").end(),
            "whiteout",
        ),
        (
            "a symlink as opaque mark",
            Tar::new().symlink("dir/.wh..wh..opq", "/").end(),
            "whiteout",
        ),
        (
            "something below a whiteout",
            Tar::new().file(".wh.a/x", b"").end(),
            "whiteout",
        ),
        (
            "whiteout name by symlink",
            Tar::new().symlink("s", ".wh.t").file("s/x", b"").end(),
            "whiteout",
        ),
        // Parents.
        (
            "a file as parent",
            file().file("f/x", b"x").end(),
            "not a directory",
        ),
        (
            "a lower file as parent",
            Tar::new().file("file/x", b"x").end(),
            "not a directory",
        ),
        (
            "a loop as parent",
            Tar::new().file("loop/x", b"x").end(),
            "symbolic links",
        ),
        (
            "a loop of two",
            Tar::new()
                .symlink("p", "q")
                .symlink("q", "p")
                .file("p/x", b"")
                .end(),
            "symbolic links",
        ),
        (
            "a fifo as parent",
            Tar::new().raw(&raw(b"p", b'6')).file("p/x", b"").end(),
            "not a directory",
        ),
        // Hard links.
        (
            "a link out",
            Tar::new().hard_link("l", "../outside/canary").end(),
            "`..`",
        ),
        (
            "a link to nothing",
            Tar::new().hard_link("l", "nothing").end(),
            "missing",
        ),
        (
            "a link to a directory",
            Tar::new().hard_link("l", "dir").end(),
            "directory",
        ),
        (
            "a link to the root",
            Tar::new().hard_link("l", "/").end(),
            "no target",
        ),
        (
            "a link to no name",
            Tar::new().hard_link("l", "").end(),
            "no target",
        ),
        (
            "a link to itself",
            file().hard_link("f", "f").end(),
            "own target",
        ),
        (
            "a link to itself, spelt otherwise",
            file().hard_link("./f", "/f").end(),
            "own target",
        ),
        (
            "a link through a symlink out",
            Tar::new().hard_link("l", "absolute/canary").end(),
            "missing",
        ),
        (
            "a link through `..`",
            Tar::new()
                .symlink("s", "../../outside")
                .hard_link("l", "s/canary")
                .end(),
            "missing",
        ),
        (
            "a link to a whiteout",
            Tar::new()
                .file(".wh.file", b"")
                .hard_link("l", ".wh.file")
                .end(),
            "whiteout",
        ),
        (
            "a link to what is deleted",
            Tar::new()
                .file(".wh.file", b"")
                .hard_link("l", "file")
                .end(),
            "missing",
        ),
        (
            "a link over its target's parent",
            Tar::new().file("d/f", b"").hard_link("d", "d/f").end(),
            "parent",
        ),
        (
            "a link with content",
            file()
                .raw(&raw(b"l", b'1').link(b"f").size(1))
                .data(b"x")
                .end(),
            "content",
        ),
        // Nodes.
        (
            "overlayfs's whiteout",
            Tar::new().raw(&raw(b"w", b'3')).end(),
            "0/0",
        ),
        (
            "a symlink to nothing",
            Tar::new().symlink("s", "").end(),
            "no target",
        ),
        (
            "a directory with content",
            Tar::new().raw(&raw(b"d/", b'5').size(1)).data(b"x").end(),
            "content",
        ),
        (
            "a symlink with content",
            Tar::new()
                .raw(&raw(b"s", b'2').link(b"x").size(9))
                .data(b"x")
                .end(),
            "content",
        ),
        (
            "a fifo with content",
            Tar::new().raw(&raw(b"p", b'6').size(1)).data(b"x").end(),
            "content",
        ),
        (
            "a sparse file",
            Tar::new().raw(&raw(b"s", b'S')).end(),
            "sparse",
        ),
        (
            "a PAX sparse file",
            Tar::new()
                .pax(b'x', &record("GNU.sparse.major", b"1"))
                .file("a", b"")
                .end(),
            "sparse",
        ),
        (
            "a prefix in an unknown version of ustar",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| {
                    h.magic = *b"ustar\x0001";
                    h.prefix = b"dir".to_vec();
                }))
                .end(),
            "version",
        ),
        (
            "an extended header of an old format",
            Tar::new()
                .raw(&raw(b"pax", b'x').size(10).field(|h| h.magic = [0; 8]))
                .data(b"10 path=b\n")
                .file("a", b"")
                .end(),
            "extended header",
        ),
        (
            "a long name in an unknown version of ustar",
            Tar::new()
                .raw(
                    &raw(b"long", b'L')
                        .size(1)
                        .field(|h| h.magic = *b"ustar\x0001"),
                )
                .data(b"b")
                .file("a", b"")
                .end(),
            "extended header",
        ),
        (
            "star's sparse file",
            Tar::new()
                .pax(b'x', &record("SCHILY.realsize", b"1"))
                .file("a", b"")
                .end(),
            "sparse",
        ),
        (
            "an unknown type",
            Tar::new().raw(&raw(b"q", b'Q')).end(),
            "unknown type",
        ),
        (
            "a volume label",
            Tar::new().raw(&raw(b"v", b'V')).end(),
            "unknown type",
        ),
        (
            "a continued volume",
            Tar::new().raw(&raw(b"m", b'M')).end(),
            "unknown type",
        ),
        (
            "Solaris's header",
            Tar::new().raw(&raw(b"X", b'X')).end(),
            "unknown type",
        ),
        // Numbers.
        (
            "a size of letters",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| h.size = b"zzz".to_vec()))
                .end(),
            "size",
        ),
        (
            "a size with an 8",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| h.size = b"00000000008\0".to_vec()))
                .end(),
            "size",
        ),
        (
            "a size with a gap",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| h.size = b"0000 000001\0".to_vec()))
                .end(),
            "size",
        ),
        (
            "a negative size",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| h.size = vec![0xff; 12]))
                .end(),
            "negative",
        ),
        (
            "a huge binary size",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| h.size = [&[0x80, 0, 0, 1][..], &[0; 8]].concat()))
                .end(),
            "size",
        ),
        (
            "a size beyond the limit",
            Tar::new()
                .raw(
                    &raw(b"a", b'0')
                        .field(|h| h.size = [&[0x80, 0, 0, 0, 0x7f][..], &[0; 7]].concat()),
                )
                .end(),
            "bytes",
        ),
        (
            "a PAX size beyond 64 bits",
            Tar::new()
                .pax(b'x', &record("size", b"99999999999999999999"))
                .file("a", b"")
                .end(),
            "size",
        ),
        (
            "a PAX size with a sign",
            Tar::new()
                .pax(b'x', &record("size", b"+1"))
                .file("a", b"x")
                .end(),
            "size",
        ),
        (
            "a PAX size of nothing",
            Tar::new()
                .pax(b'x', &record("size", b""))
                .file("a", b"x")
                .end(),
            "size",
        ),
        (
            "a PAX size for a directory",
            Tar::new()
                .pax(b'x', &record("size", b"512"))
                .dir("d")
                .data(&[1; 512])
                .end(),
            "content",
        ),
        (
            "the id that means none",
            Tar::new()
                .pax(b'x', &record("uid", b"4294967295"))
                .file("a", b"")
                .end(),
            "owner",
        ),
        (
            "an id beyond 32 bits",
            Tar::new()
                .pax(b'x', &record("gid", b"4294967296"))
                .file("a", b"")
                .end(),
            "owner",
        ),
        (
            "a negative id",
            Tar::new()
                .raw(&raw(b"a", b'0').field(|h| h.uid = vec![0xff; 8]))
                .end(),
            "negative",
        ),
        (
            "a time of letters",
            Tar::new()
                .pax(b'x', &record("mtime", b"now"))
                .file("a", b"")
                .end(),
            "mtime",
        ),
        (
            "a time with an exponent",
            Tar::new()
                .pax(b'x', &record("mtime", b"1e9"))
                .file("a", b"")
                .end(),
            "mtime",
        ),
        // Extended headers.
        (
            "a record without length",
            Tar::new().pax(b'x', b"path=a\n").file("a", b"").end(),
            "PAX",
        ),
        (
            "a record too long",
            Tar::new().pax(b'x', b"99 path=a\n").file("a", b"").end(),
            "PAX",
        ),
        (
            "a record too short",
            Tar::new().pax(b'x', b"8 path=a\n").file("a", b"").end(),
            "PAX",
        ),
        (
            "a record with junk behind",
            Tar::new().pax(b'x', b"9 path=a\njunk").file("a", b"").end(),
            "PAX",
        ),
        (
            "a key twice",
            Tar::new()
                .pax(b'x', b"9 path=a\n9 path=b\n")
                .file("a", b"")
                .end(),
            "twice",
        ),
        (
            "a size twice",
            Tar::new()
                .pax(b'x', b"9 size=0\n9 size=1\n")
                .file("a", b"x")
                .end(),
            "twice",
        ),
        (
            "two extended headers",
            Tar::new()
                .pax(b'x', b"9 path=a\n")
                .pax(b'x', b"9 path=b\n")
                .file("a", b"")
                .end(),
            "no entry",
        ),
        (
            "a global header between",
            Tar::new()
                .pax(b'x', b"9 path=a\n")
                .pax(b'g', &record("comment", b"x"))
                .file("a", b"")
                .end(),
            "no entry",
        ),
        (
            "a long name behind PAX",
            Tar::new()
                .pax(b'x', b"9 path=a\n")
                .raw(&raw(b"@", b'L').size(2))
                .data(b"b\0")
                .file("a", b"")
                .end(),
            "no entry",
        ),
        (
            "PAX behind a long name",
            Tar::new()
                .raw(&raw(b"@", b'L').size(2))
                .data(b"b\0")
                .pax(b'x', b"9 path=a\n")
                .file("a", b"")
                .end(),
            "no entry",
        ),
        (
            "two long names",
            Tar::new()
                .raw(&raw(b"@", b'L').size(2))
                .data(b"b\0")
                .raw(&raw(b"@", b'L').size(2))
                .data(b"c\0")
                .file("a", b"")
                .end(),
            "no entry",
        ),
        (
            "an empty long name",
            Tar::new()
                .raw(&raw(b"@", b'L').size(1))
                .data(b"\0")
                .file("a", b"")
                .end(),
            "no name",
        ),
        (
            "an extended header at the end",
            Tar::new().pax(b'x', b"9 path=a\n").end(),
            "extended header",
        ),
        (
            "a long name at the end",
            Tar::new().raw(&raw(b"@", b'L').size(2)).data(b"b\0").end(),
            "extended header",
        ),
        (
            "a global path",
            Tar::new().pax(b'g', b"9 path=a\n").file("b", b"").end(),
            "global",
        ),
        (
            "a global size",
            Tar::new().pax(b'g', b"9 size=1\n").file("b", b"").end(),
            "global",
        ),
        (
            "a global attribute",
            Tar::new()
                .pax(b'g', &record("SCHILY.xattr.user.a", b"1"))
                .file("b", b"")
                .end(),
            "global",
        ),
        (
            "an attribute without a name",
            Tar::new()
                .pax(b'x', &record("SCHILY.xattr.", b"1"))
                .file("b", b"")
                .end(),
            "no name",
        ),
        (
            "an extended header of 2 MiB",
            Tar::new()
                .pax(b'x', &vec![b'x'; 2 << 20])
                .file("b", b"")
                .end(),
            "1 MiB",
        ),
        (
            "a long name of 2 MiB",
            Tar::new()
                .raw(&raw(b"@", b'L').size(2 << 20))
                .data(&vec![b'x'; 2 << 20])
                .file("b", b"")
                .end(),
            "1 MiB",
        ),
        // Structure.
        (
            "a wrong checksum",
            {
                let mut tar = file().end();
                tar[0] = b'g';
                tar
            },
            "checksum",
        ),
        ("no archive", vec![b'x'; 2048], "no number"),
        (
            "an empty block in the middle",
            [file().0, vec![0; BLOCK], Tar::new().file("g", b"").end()].concat(),
            "between entries",
        ),
        (
            "an archive behind the end",
            [file().end(), Tar::new().file("g", b"").end()].concat(),
            "follows",
        ),
        (
            "a byte behind the end",
            [file().end(), vec![1]].concat(),
            "follows",
        ),
        ("cut in the header", cut(file().end(), 100), "can't be read"),
        (
            "cut in the content",
            cut(Tar::new().file("f", &[1; 2000]).end(), 1000),
            "can't be read",
        ),
        (
            "cut in the padding",
            cut(file().end(), 700),
            "can't be read",
        ),
        (
            "cut in an extended header",
            cut(Tar::new().pax(b'x', &[b'x'; 1000]).end(), 800),
            "can't be read",
        ),
        (
            "cut in the end",
            cut(file().end(), 1024 + 100),
            "can't be read",
        ),
    ];
    assert!(cases.len() >= 60, "{}", cases.len());
    for (name, tar, reason) in cases {
        let place = Place::new();
        let before = place.surroundings();
        match place.apply(&tar, LIMITS) {
            Ok(applied) => panic!("{name}: accepted: {applied:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(reason), "{name}: {text}");
            }
        }
        assert_eq!(place.surroundings(), before, "{name}");
    }
}

/// Archives that are odd but mean one thing, and what must be in the layer then.
#[test]
fn what_means_one_thing_is_unpacked_inside() {
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "an absolute name",
            Tar::new().file("/x", b"x").end(),
            &["x"],
        ),
        (
            "dots and slashes",
            Tar::new().dir("./").file(".//a/./b", b"x").end(),
            &["a/b"],
        ),
        (
            "a symlink in the archive",
            Tar::new().symlink("s", "/etc").file("s/passwd", b"x").end(),
            &["s", "etc/passwd"],
        ),
        (
            "a symlink up in the archive",
            Tar::new()
                .symlink("s", "../../outside")
                .file("s/new", b"x")
                .end(),
            &["outside/new"],
        ),
        (
            "a lower symlink",
            Tar::new().file("inside/x", b"x").end(),
            &["dir/x"],
        ),
        (
            "a lower symlink up",
            Tar::new().file("up/canary", b"x").end(),
            &["outside/canary"],
        ),
        (
            "a dangling symlink",
            Tar::new().file("dangling/x", b"x").end(),
            &["nowhere/yet/x"],
        ),
        (
            "a directory over a symlink",
            Tar::new()
                .symlink("s", "/etc")
                .dir("s")
                .file("s/x", b"x")
                .end(),
            &["s/x"],
        ),
        (
            "a file over a symlink",
            Tar::new()
                .symlink("s", "../outside/canary")
                .file("s", b"x")
                .end(),
            &["s"],
        ),
        (
            "a file over a directory",
            Tar::new().file("d/e/f", b"x").file("d", b"x").end(),
            &["d"],
        ),
        (
            "a directory over a file",
            Tar::new()
                .file("d", b"x")
                .file("e", b"x")
                .dir("d")
                .file("d/x", b"")
                .end(),
            &["d/x", "e"],
        ),
        (
            "a file twice",
            Tar::new().file("f", b"1").file("f", b"2").end(),
            &["f"],
        ),
        (
            "a symlink chain",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "c")
                .dir("c")
                .file("a/x", b"")
                .end(),
            &["c/x"],
        ),
        (
            "a hard link through a symlink",
            Tar::new()
                .file("t/f", b"x")
                .symlink("s", "t")
                .hard_link("l", "s/f")
                .end(),
            &["l"],
        ),
        (
            "a hard link to a symlink",
            Tar::new()
                .symlink("s", "/outside")
                .hard_link("l", "s")
                .end(),
            &["l"],
        ),
        (
            "a hard link to a lower file",
            Tar::new().hard_link("l", "file").end(),
            &["l"],
        ),
        (
            "a hard link to a lower symlink",
            Tar::new().hard_link("l", "absolute").end(),
            &["l"],
        ),
        (
            "a hard link over a directory",
            Tar::new()
                .file("f", b"x")
                .file("d/e", b"x")
                .hard_link("d", "f")
                .end(),
            &["d"],
        ),
        (
            "GNU's long names",
            Tar::new()
                .raw(&raw(b"@", b'K').size(201))
                .data(&[long(200).as_bytes(), b"\0"].concat())
                .raw(&raw(b"@", b'L').size(152))
                .data(&[b"x/", long(149).as_bytes(), b"\0"].concat())
                .raw(
                    &raw(b"x/short", b'2')
                        .link(b"short")
                        .field(|h| h.magic = *b"ustar  \0"),
                )
                .end(),
            &["x"],
        ),
        (
            "v7",
            Tar::new()
                .raw(&raw(b"old/", 0).field(|h| h.magic = [0; 8]))
                .raw(&raw(b"old/f", 0).field(|h| h.magic = [0; 8]))
                .end(),
            &["old/f"],
        ),
        (
            "a contiguous file",
            Tar::new().raw(&raw(b"c", b'7')).end(),
            &["c"],
        ),
        (
            "a prefix",
            Tar::new()
                .raw(&raw(b"f", b'0').field(|h| h.prefix = b"some/where".to_vec()))
                .end(),
            &["some/where/f"],
        ),
        (
            "a binary size",
            Tar::new()
                .raw(&raw(b"b", b'0').field(|h| h.size = [&[0x80][..], &[0; 10], &[3]].concat()))
                .data(b"abc")
                .end(),
            &["b"],
        ),
        (
            "a negative time",
            Tar::new()
                .raw(&raw(b"b", b'0').field(|h| h.mtime = vec![0xff; 12]))
                .end(),
            &["b"],
        ),
        (
            "a PAX size over a wrong one",
            Tar::new()
                .pax(b'x', &record("size", b"3"))
                .raw(&raw(b"b", b'0').size(512))
                .data(b"abc")
                .file("after", b"")
                .end(),
            &["b", "after"],
        ),
        (
            "unknown records",
            Tar::new()
                .pax(
                    b'x',
                    &[
                        record("VENDOR.x", b"1"),
                        record("atime", b"1"),
                        record("uname", b"x"),
                    ]
                    .concat(),
                )
                .file("a", b"")
                .end(),
            &["a"],
        ),
        (
            "a global comment",
            Tar::new()
                .pax(b'g', &record("comment", b"git"))
                .file("a", b"")
                .end(),
            &["a"],
        ),
        (
            "type bits in the mode",
            Tar::new().raw(&raw(b"a", b'0').mode(0o100_644)).end(),
            &["a"],
        ),
        (
            "attributes of overlayfs",
            Tar::new()
                .pax(
                    b'x',
                    &[
                        record("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                        record("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                        record("SCHILY.xattr.user.overlay.opaque", b"y"),
                    ]
                    .concat(),
                )
                .dir("dir")
                .end(),
            &["dir"],
        ),
        (
            "aufs's own files",
            Tar::new()
                .dir(".wh..wh.plnk")
                .file(".wh..wh.plnk/1", b"x")
                .file(".wh..wh.aufs", b"")
                .hard_link(".wh.file", ".wh..wh.aufs")
                .end(),
            &[],
        ),
        (
            "a whiteout of nothing there",
            Tar::new().file("no/such/.wh.x", b"").end(),
            &[],
        ),
        (
            "a whiteout below a file",
            Tar::new().file("file/.wh.x", b"").end(),
            &[],
        ),
        (
            "a whiteout through a symlink",
            Tar::new()
                .file("absolute/.wh.canary", b"")
                .file("up/.wh.canary", b"")
                .end(),
            &[],
        ),
        (
            "an opaque mark through a symlink",
            Tar::new().file("absolute/.wh..wh..opq", b"").end(),
            &[],
        ),
        ("no end at all", Tar::new().file("a", b"x").0, &["a"]),
        (
            "one empty block",
            [Tar::new().file("a", b"x").0, vec![0; BLOCK]].concat(),
            &["a"],
        ),
        ("an empty stream", Vec::new(), &[]),
        (
            "long padding",
            [Tar::new().file("a", b"x").end(), vec![0; 100_000]].concat(),
            &["a"],
        ),
    ];
    for (name, tar, expected) in cases {
        let place = Place::new();
        let before = place.surroundings();
        if let Err(error) = place.apply(&tar, LIMITS) {
            panic!("{name}: {error}: {:?}", std::error::Error::source(&error));
        }
        assert_eq!(place.surroundings(), before, "{name}");
        for path in expected {
            assert!(
                place.upper(path).symlink_metadata().is_ok(),
                "{name}: {path}"
            );
        }
        if expected.is_empty() && !name.contains("aufs") {
            assert_eq!(fs::read_dir(place.upper("")).unwrap().count(), 0, "{name}");
        }
        assert_no_overlay_xattrs(&place.upper(""), name);
    }
}

/// Only opaque marks that the reader made itself may be in a layer.
fn assert_no_overlay_xattrs(root: &Path, name: &str) {
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let mut list = vec![0; 4096];
        let size = rustix::fs::llistxattr(&path, &mut list[..]).unwrap();
        for attribute in list[..size].split(|byte| *byte == 0) {
            let allowed = attribute == b"trusted.overlay.opaque" && name.contains("over a");
            let overlay = attribute.windows(9).any(|part| part == b".overlay.");
            assert!(allowed || !overlay, "{name}: {}", attribute.escape_ascii());
        }
        if path.symlink_metadata().unwrap().is_dir() {
            pending.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|child| child.unwrap().path()),
            );
        }
    }
}

fn names_below(view: &LayerView, path: &str) -> Vec<String> {
    let directory = view.lookup(Path::new(path), true).unwrap().unwrap();
    let children = view.read_dir(&directory).unwrap();
    children
        .iter()
        .map(|child| {
            child
                .path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect()
}

/// What is in `dir` (which holds `low` and `sub/` below) after an archive.
fn dir_after(tar: &[u8]) -> Vec<String> {
    let place = Place::new();
    place.apply(tar, LIMITS).unwrap();
    let layers = vec![place.root.path().join("below"), place.upper("")];
    names_below(&LayerView::new(layers), "dir")
}

#[test]
fn whiteouts_hide_lower_files_wherever_they_stand() {
    let own = || Tar::new().file("dir/low", b"own");
    for (tar, expected) in [
        (Tar::new().file("dir/.wh.low", b"").end(), &["sub"][..]),
        // The layer's own file stays, before or behind the whiteout.
        (own().file("dir/.wh.low", b"").end(), &["low", "sub"]),
        (
            Tar::new()
                .file("dir/.wh.low", b"")
                .file("dir/low", b"own")
                .end(),
            &["low", "sub"],
        ),
        (own().file("dir/.wh..wh..opq", b"").end(), &["low"]),
        (
            Tar::new()
                .file("dir/.wh..wh..opq", b"")
                .file("dir/new", b"")
                .end(),
            &["new"],
        ),
        (
            Tar::new()
                .file("dir/new", b"")
                .file("dir/.wh.low", b"")
                .file("dir/.wh..wh..opq", b"")
                .end(),
            &["new"],
        ),
        (
            Tar::new().file(".wh.dir", b"").file("dir/new", b"").end(),
            &["new"],
        ),
        (
            Tar::new().file("dir/new", b"").file(".wh.dir", b"").end(),
            &["new"],
        ),
        (
            Tar::new()
                .file("dir", b"file")
                .dir("dir")
                .file("dir/new", b"")
                .end(),
            &["new"],
        ),
        (
            Tar::new()
                .file(".wh..wh..opq", b"")
                .file("dir/new", b"")
                .end(),
            &["new"],
        ),
        (
            Tar::new()
                .file("dir/new", b"")
                .file(".wh..wh..opq", b"")
                .end(),
            &["new"],
        ),
        (
            Tar::new().file("dir/.wh.nothing", b"").end(),
            &["low", "sub"],
        ),
        (
            Tar::new().dir("dir").file("dir/new", b"").end(),
            &["low", "new", "sub"],
        ),
    ] {
        assert_eq!(dir_after(&tar), expected);
    }
}

#[test]
fn an_opaque_root_hides_every_name_below() {
    let place = Place::new();
    let tar = Tar::new()
        .file("new", b"")
        .file("file", b"own")
        .file(".wh..wh..opq", b"")
        .end();
    place.apply(&tar, LIMITS).unwrap();
    let layers = vec![place.root.path().join("below"), place.upper("")];
    assert_eq!(names_below(&LayerView::new(layers), ""), ["file", "new"]);
}

#[test]
fn no_whiteout_stays_in_an_opaque_directory() {
    let place = Place::new();
    let tar = Tar::new()
        .file("dir/.wh.low", b"")
        .file("dir/sub/x", b"")
        .file("dir/.wh..wh..opq", b"");
    place.apply(&tar.end(), LIMITS).unwrap();
    assert!(place.upper("dir/low").symlink_metadata().is_err());
    assert!(place.upper("dir/sub/x").exists());
}

#[test]
fn a_link_to_a_lower_file_is_a_copy_and_its_links_are_one_file() {
    let place = Place::new();
    let tar = Tar::new()
        .hard_link("one", "file")
        .hard_link("dir/two", "file")
        .end();
    let applied = place.apply(&tar, LIMITS).unwrap();
    assert_eq!(fs::read(place.upper("one")).unwrap(), b"file");
    let inode = |name: &str| place.upper(name).metadata().unwrap().ino();
    assert_eq!(inode("one"), inode("dir/two"));
    assert_eq!(
        applied.links.0,
        [vec![b"dir/two".to_vec(), b"one".to_vec()]]
    );
    assert!(place.upper("file").symlink_metadata().is_err());
}

#[test]
fn links_count_as_the_files_are_in_the_end() {
    let place = Place::new();
    let tar = Tar::new()
        .file("a", b"1")
        .hard_link("b", "a")
        .hard_link("c", "a")
        .file("b", b"replaced")
        .hard_link("d", "b")
        .end();
    let applied = place.apply(&tar, LIMITS).unwrap();
    let bytes = |names: [&str; 2]| names.map(|name| name.as_bytes().to_vec()).to_vec();
    assert_eq!(applied.links.0, [bytes(["a", "c"]), bytes(["b", "d"])]);
}

#[test]
fn parents_are_copied_up_with_their_metadata() {
    let place = Place::new();
    let below = place.root.path().join("below/dir/sub");
    fs::set_permissions(&below, std::os::unix::fs::PermissionsExt::from_mode(0o1770)).unwrap();
    std::os::unix::fs::chown(&below, Some(5), Some(6)).unwrap();
    let before = below.metadata().unwrap();
    place
        .apply(&Tar::new().file("dir/sub/x/y", b"").end(), LIMITS)
        .unwrap();
    let after = place.upper("dir/sub").metadata().unwrap();
    let facts = |metadata: &fs::Metadata| {
        (
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        )
    };
    assert_eq!(facts(&after), facts(&before));
    let made = place.upper("dir/sub/x").metadata().unwrap();
    assert_eq!(
        (made.mode() & 0o7777, made.uid(), made.mtime()),
        (0o755, 0, 0)
    );
}

#[test]
fn metadata_arrives_as_it_was_given() {
    let place = Place::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records = [
        record("SCHILY.xattr.security.capability", &capability),
        record("SCHILY.xattr.user.a", b"with\0nul\n"),
        record("gid", b"3000000"),
        record("mtime", b"-1.5"),
        record("uid", b"77"),
    ]
    .concat();
    let tar = Tar::new()
        .pax(b'x', &records)
        .raw(&raw(b"suid", b'0').mode(0o6711))
        .raw(&raw(b"null", b'3').device(1, 3).mode(0o666))
        .raw(&raw(b"disk", b'4').device(259, 0xfffff))
        .raw(&raw(b"pipe", b'6').mode(0o620))
        .end();
    let applied = place.apply(&tar, LIMITS).unwrap();
    assert_eq!(
        (
            applied.entries,
            applied.foreign_owners,
            applied.dropped_xattrs
        ),
        (4, 0, 0)
    );
    let metadata = place.upper("suid").metadata().unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o6711);
    assert_eq!((metadata.uid(), metadata.gid()), (77, 3_000_000));
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 500_000_000));
    let attribute = |name: &str| {
        let mut value = vec![0; 100];
        let size = rustix::fs::lgetxattr(place.upper("suid"), name, &mut value[..]).unwrap();
        value.truncate(size);
        value
    };
    assert_eq!(attribute("security.capability"), capability);
    assert_eq!(attribute("user.a"), b"with\0nul\n");
    let node = |name: &str| place.upper(name).symlink_metadata().unwrap();
    assert_eq!(
        (node("null").mode(), node("null").rdev()),
        (0o020_666, rustix::fs::makedev(1, 3))
    );
    assert_eq!(node("disk").rdev(), rustix::fs::makedev(259, 0xfffff));
    assert_eq!(node("pipe").mode(), 0o010_620);
}

#[test]
fn limits_hold_while_the_archive_streams() {
    let entries = |entries| Limits { entries, ..LIMITS };
    let bytes = |bytes| Limits { bytes, ..LIMITS };
    let two = Tar::new().file("a", b"123").file("b", b"456").end();
    for (tar, limits, accepted) in [
        (two.clone(), entries(2), true),
        (two.clone(), entries(1), false),
        (two.clone(), bytes(6), true),
        (two, bytes(5), false),
        // Parents that an entry implies count, too.
        (Tar::new().file("a/b/c/d", b"").end(), entries(4), true),
        (Tar::new().file("a/b/c/d", b"").end(), entries(3), false),
        // So do copies of lower files, and padding.
        (Tar::new().hard_link("l", "file").end(), bytes(4), true),
        (Tar::new().hard_link("l", "file").end(), bytes(3), false),
        (
            [Tar::new().end(), vec![0; 4096]].concat(),
            bytes(100),
            false,
        ),
        (
            (0..50)
                .fold(Tar::new(), |tar, _| tar.pax(b'g', &record("comment", b"")))
                .end(),
            entries(5),
            false,
        ),
    ] {
        let place = Place::new();
        let answer = place.apply(&tar, limits);
        assert_eq!(answer.is_ok(), accepted, "{limits:?}: {answer:?}");
    }
    // A promise of 5 MB is refused before any of them arrives.
    let place = Place::new();
    let tar = Tar::new().raw(&raw(b"big", b'0').size(5_000_000)).0;
    let answer = place.apply(&tar, bytes(1000));
    assert!(
        matches!(answer, Err(DiffError::Refused { .. })),
        "{answer:?}"
    );
}

#[test]
fn deep_trees_are_made_and_replaced_without_running_out_of_anything() {
    let place = Place::new();
    let deep = "d/".repeat(1500);
    let tar = Tar::new()
        .pax(b'x', &record("path", format!("{deep}f").as_bytes()))
        .file("a", b"x")
        .end();
    let limits = Limits {
        entries: 5000,
        ..LIMITS
    };
    place.apply(&tar, limits).unwrap();
    let mut out = Vec::new();
    let links = strata_cache::HardLinks::default();
    write_layer(&place.upper(""), &links, WriteOptions::default(), &mut out).unwrap();
    let replaced = Tar(tar[..tar.len() - 2 * BLOCK].to_vec())
        .file("d", b"x")
        .end();
    let other = Place::new();
    other.apply(&replaced, limits).unwrap();
    assert!(other.upper("d").is_file());
    assert_eq!(fs::read_dir(other.upper("")).unwrap().count(), 1);
}

#[test]
fn names_in_messages_can_not_steer_a_terminal() {
    let place = Place::new();
    let tar = Tar::new().file("\u{1b}[31m/../x", b"").end();
    let text = place.apply(&tar, LIMITS).unwrap_err().to_string();
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

/// A random archive whose parts are hostile more often than not.
fn random_tar() -> impl Strategy<Value = Vec<u8>> {
    let component = prop::sample::select(vec![
        "a",
        "b",
        "..",
        ".",
        "",
        "dir",
        "up",
        "absolute",
        "inside",
        "file",
        ".wh.a",
        ".wh.dir",
        ".wh..wh..opq",
        ".wh.",
        "low",
        "loop",
        "dangling",
    ]);
    let path = prop::collection::vec(component, 1..5).prop_map(|parts| parts.join("/"));
    let entry = (path.clone(), path, 0..10_u8, 0..3_usize);
    prop::collection::vec(entry, 0..14).prop_map(|entries| {
        let mut tar = Tar::new();
        for (name, link, kind, size) in entries {
            let content = &b"abc"[..size];
            tar = match kind {
                0..=2 => tar.file(&name, content),
                3..=4 => tar.dir(&name),
                5 => tar.symlink(&name, &link),
                6 => tar.symlink(&name, &format!("/{link}")),
                7 => tar.hard_link(&name, &link),
                8 => tar
                    .pax(b'x', &record("path", link.as_bytes()))
                    .file(&name, content),
                _ => tar.raw(&raw(name.as_bytes(), b'6')),
            };
        }
        tar.end()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_archives_stay_inside(tar in random_tar()) {
        let place = Place::new();
        let before = place.surroundings();
        let applied = place.apply(&tar, LIMITS);
        prop_assert_eq!(place.surroundings(), before);
        if let Ok(applied) = applied {
            // What was accepted can be written, and gives the same layer again.
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let options = WriteOptions::default();
            write_layer(&place.upper(""), &applied.links, options, &mut first).unwrap();
            let other = Place::new();
            let again = other.apply(&first, LIMITS).unwrap();
            prop_assert_eq!(&again.links, &applied.links);
            write_layer(&other.upper(""), &again.links, options, &mut second).unwrap();
            prop_assert!(first == second);
        }
    }

    #[test]
    fn spoilt_archives_stay_inside(
        tar in random_tar(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        mend in any::<bool>(),
    ) {
        let mut tar = tar;
        for (at, byte) in places {
            let at = at.index(tar.len());
            tar[at] = byte;
            let block = at / BLOCK * BLOCK;
            if mend && tar[block..].len() >= BLOCK {
                // With a right checksum the change gets past the first check.
                seal(&mut tar[block..block + BLOCK]);
            }
        }
        let place = Place::new();
        let before = place.surroundings();
        place.apply(&tar, LIMITS).ok();
        prop_assert_eq!(place.surroundings(), before);
    }

    #[test]
    fn random_bytes_are_no_archive_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let place = Place::new();
        place.apply(&bytes, LIMITS).ok();
        prop_assert!(place.upper("").is_dir());
    }
}

#[test]
fn raw_bytes_in_names_survive() {
    let place = Place::new();
    let tar = Tar::new().raw(&raw(b"\xff\xfe\n", b'0')).end();
    place.apply(&tar, LIMITS).unwrap();
    let name = Path::new(OsStr::from_bytes(b"\xff\xfe\n"));
    assert!(place.upper("").join(name).is_file());
}
