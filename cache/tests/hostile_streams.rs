//! More archives that were made to do harm: every kind of entry at every kind of place, cuts at every
//! block, whiteouts of everything, and streams that are compressed in ways that two programs read
//! differently, or that grow beyond all bounds.
//!
//! As in `hostile_archives.rs`, nothing outside the layer's directory may change, whatever the answer.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod hostile;

use std::fs;
use std::io::{Cursor, Read, Write as _};

use hostile::{BLOCK, LIMITS, Place, Tar, raw, record};
use strata_cache::diff::{Applied, DiffError, Limits};
use strata_cache::{LayerView, codec, diff};

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// It is unpacked.
    Taken,
    /// It is refused.
    Refused,
    /// Either will do: the surroundings are what counts.
    Whatever,
}

fn check(
    name: &str,
    expected: Answer,
    place: &Place,
    act: impl FnOnce() -> Result<Applied, DiffError>,
) {
    let before = place.surroundings();
    let answer = act();
    match expected {
        Answer::Taken => assert!(answer.is_ok(), "{name}: {answer:?}"),
        Answer::Refused => assert!(answer.is_err(), "{name}: {answer:?}"),
        Answer::Whatever => {}
    }
    assert_eq!(place.surroundings(), before, "{name}");
}

/// Unpacks what may be compressed, as it comes from a registry.
fn apply_stream(place: &Place, blob: &[u8], limits: Limits) -> Result<Applied, DiffError> {
    let input = Box::new(Cursor::new(blob.to_vec()));
    let mut plain = codec::decoder(input).map_err(DiffError::Stream)?;
    let below = LayerView::new(vec![place.root.path().join("below")]);
    let upper = place.root.path().join("upper");
    let applied = diff::apply_layer(&mut plain, &upper, &below, false, limits)?;
    // What follows the archive's end counts, too.
    std::io::copy(&mut plain, &mut std::io::sink()).map_err(DiffError::Stream)?;
    Ok(applied)
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// A skippable frame (RFC 8878, section 3.1.2) that says it has `length` bytes.
fn skippable(number: u8, length: u32, content: &[u8]) -> Vec<u8> {
    [
        &[0x50 | number, 0x2a, 0x4d, 0x18][..],
        &length.to_le_bytes(),
        content,
    ]
    .concat()
}

#[test]
fn every_kind_of_entry_at_every_kind_of_place_stays_inside() {
    let kinds: [(&str, u8, &str); 9] = [
        ("file", b'0', ""),
        ("hard link", b'1', "file"),
        ("hard link up", b'1', "up/canary"),
        ("symlink", b'2', "../../outside/canary"),
        ("character device", b'3', ""),
        ("block device", b'4', ""),
        ("directory", b'5', ""),
        ("fifo", b'6', ""),
        ("contiguous file", b'7', ""),
    ];
    let names: [(&str, Answer); 10] = [
        ("/absolute-name", Answer::Taken),
        ("//two/slashes", Answer::Taken),
        ("../outside/x", Answer::Refused),
        ("dir/../../outside/x", Answer::Refused),
        ("up/x", Answer::Taken),
        ("up/canary", Answer::Taken),
        ("absolute/x", Answer::Taken),
        ("dangling/x", Answer::Taken),
        ("loop/x", Answer::Refused),
        ("file/x", Answer::Refused),
    ];
    let mut count = 0;
    for (kind, flag, link) in kinds {
        for (name, expected) in names {
            let place = Place::new();
            let entry = raw(name.as_bytes(), flag)
                .link(link.as_bytes())
                .device(1, 3);
            let tar = Tar::new().raw(&entry).end();
            // `up/canary` does not lead out of the root, so there is nothing to link to.
            let expected = if kind == "hard link up" && expected == Answer::Taken {
                Answer::Refused
            } else {
                expected
            };
            check(&format!("{kind} at {name}"), expected, &place, || {
                place.apply(&tar, LIMITS)
            });
            count += 1;
        }
    }
    assert_eq!(count, 90);
}

#[test]
fn whatever_is_whited_out_is_inside() {
    for (name, expected) in [
        (".wh.file", Answer::Taken),
        (".wh.up", Answer::Taken),
        (".wh.absolute", Answer::Taken),
        (".wh.loop", Answer::Taken),
        (".wh.dangling", Answer::Taken),
        (".wh.dir", Answer::Taken),
        ("/.wh.file", Answer::Taken),
        ("up/.wh.canary", Answer::Taken),
        ("absolute/.wh.canary", Answer::Taken),
        ("dir/.wh.sub", Answer::Taken),
        (".wh..wh.file", Answer::Whatever),
        (".wh..wh..wh..opq", Answer::Whatever),
        (".wh.../canary", Answer::Refused),
        ("up/.wh..", Answer::Refused),
        ("up/.wh...", Answer::Refused),
        ("../.wh.outside", Answer::Refused),
        ("loop/.wh.x", Answer::Whatever),
    ] {
        let place = Place::new();
        let tar = Tar::new().file(name, b"").end();
        check(name, expected, &place, || place.apply(&tar, LIMITS));
    }
}

#[test]
fn a_cut_at_any_block_is_refused_or_harmless() {
    let global = record("comment", b"c");
    let pax = record("mtime", b"-1.5");
    let tar = Tar::new()
        .pax(b'g', &global)
        .dir("d")
        .pax(b'x', &pax)
        .file("d/f", &[7; 700])
        .raw(&raw(b"@", b'L').size(120))
        .data(&[b'n'; 120])
        .file("short", b"x")
        .symlink("s", "d/f")
        .hard_link("h", "d/f")
        .file("d/.wh.gone", b"")
        .end();
    for at in (0..tar.len()).step_by(BLOCK / 2) {
        for extra in [0, 1] {
            let cut = &tar[..(at + extra).min(tar.len())];
            let place = Place::new();
            check(
                &format!("cut at {at}+{extra}"),
                Answer::Whatever,
                &place,
                || place.apply(cut, LIMITS),
            );
            let whole = cut.len().is_multiple_of(BLOCK);
            let place = Place::new();
            let expected = if whole {
                Answer::Whatever
            } else {
                Answer::Refused
            };
            let gz = gzip(cut);
            check(
                &format!("compressed, cut at {at}+{extra}"),
                expected,
                &place,
                || apply_stream(&place, &gz, LIMITS),
            );
        }
    }
}

#[test]
fn numbers_at_their_ends_are_read_or_refused() {
    let field = |name: &str, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        let raw = raw(b"f", b'0');
        match name {
            "size" => raw.field(|raw| raw.size = bytes),
            "uid" => raw.field(|raw| raw.uid = bytes),
            _ => raw.field(|raw| raw.mtime = bytes),
        }
    };
    let binary = |bytes: [u8; 12]| bytes.to_vec();
    let wide = |value: u64| {
        let mut bytes = [0; 12];
        bytes[4..].copy_from_slice(&value.to_be_bytes());
        bytes[0] = 0x80;
        binary(bytes)
    };
    let short = |value: u32| {
        let mut bytes = [0x80, 0, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&value.to_be_bytes());
        bytes.to_vec()
    };
    for (case, name, bytes, expected) in [
        ("a binary size of nothing", "size", wide(0), Answer::Taken),
        (
            "a binary size of 2^63",
            "size",
            wide(1 << 63),
            Answer::Refused,
        ),
        (
            "a binary size of 2^64-1",
            "size",
            wide(u64::MAX),
            Answer::Refused,
        ),
        (
            "a size of all bits",
            "size",
            vec![0xff; 12],
            Answer::Refused,
        ),
        (
            "the largest octal size",
            "size",
            b"777777777777".to_vec(),
            Answer::Refused,
        ),
        (
            "a size without digits",
            "size",
            b"            ".to_vec(),
            Answer::Taken,
        ),
        (
            "a size with a sign",
            "size",
            b"-0000000001\0".to_vec(),
            Answer::Refused,
        ),
        (
            "a hexadecimal size",
            "size",
            b"0x000000000\0".to_vec(),
            Answer::Refused,
        ),
        ("a binary id", "uid", short(70_000), Answer::Taken),
        (
            "the id that means none",
            "uid",
            short(u32::MAX),
            Answer::Refused,
        ),
        (
            "a huge id",
            "uid",
            vec![0x80, 0, 0, 1, 0, 0, 0, 0],
            Answer::Refused,
        ),
        (
            "a negative binary id",
            "uid",
            vec![0xff; 8],
            Answer::Refused,
        ),
        ("a time before 1970", "mtime", vec![0xff; 12], Answer::Taken),
        (
            "a time in the year 2^55",
            "mtime",
            wide(1 << 55),
            Answer::Whatever,
        ),
        (
            "a time at the end of 64 bits",
            "mtime",
            wide(u64::MAX >> 1),
            Answer::Whatever,
        ),
    ] {
        let place = Place::new();
        let tar = Tar::new().raw(&field(name, &bytes)).end();
        check(case, expected, &place, || place.apply(&tar, LIMITS));
    }
}

#[test]
fn compressed_streams_mean_one_thing_or_are_refused() {
    let tar = Tar::new().file("a", b"first").end();
    let other = Tar::new().file("b", b"second").end();
    let (gz, zst) = (gzip(&tar), zstd(&tar));
    let (half, rest) = tar.split_at(700);
    let mut bad_crc = gz.clone();
    let mut bad_size = gz.clone();
    let mut bad_sum = zst.clone();
    let mut flags = gz.clone();
    let length = gz.len();
    bad_crc[length - 6] ^= 1;
    bad_size[length - 1] ^= 1;
    *bad_sum.last_mut().unwrap() ^= 1;
    flags[3] = 0xe0;
    let named = [
        &[0x1f, 0x8b, 8, 0x08, 0, 0, 0, 0, 0, 255][..],
        b"../../x\0",
        &gz[10..],
    ]
    .concat();
    let windowed = {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(30).unwrap();
        encoder.write_all(&tar).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    };
    let cases: Vec<(&str, Vec<u8>, Answer)> = vec![
        ("gzip", gz.clone(), Answer::Taken),
        ("zstd", zst.clone(), Answer::Taken),
        (
            "two members",
            [gzip(half), gzip(rest)].concat(),
            Answer::Taken,
        ),
        (
            "an empty member between",
            [gzip(half), gzip(b""), gzip(rest)].concat(),
            Answer::Taken,
        ),
        (
            "two archives in two members",
            [gz.clone(), gzip(&other)].concat(),
            Answer::Refused,
        ),
        (
            "a member of zeros behind",
            [gz.clone(), gzip(&[0; 1024])].concat(),
            Answer::Taken,
        ),
        ("a name in the member", named, Answer::Taken),
        ("reserved flags", flags, Answer::Whatever),
        (
            "garbage behind gzip",
            [gz.clone(), b"garbage".to_vec()].concat(),
            Answer::Refused,
        ),
        (
            "zeros behind gzip",
            [gz.clone(), vec![0; 512]].concat(),
            Answer::Whatever,
        ),
        (
            "half a member behind",
            [gz.clone(), gz[..9].to_vec()].concat(),
            Answer::Refused,
        ),
        (
            "zstd behind gzip",
            [gz.clone(), zst.clone()].concat(),
            Answer::Refused,
        ),
        ("gzip in gzip", gzip(&gz), Answer::Refused),
        ("zstd in gzip", gzip(&zst), Answer::Refused),
        ("a wrong checksum of gzip", bad_crc, Answer::Refused),
        ("a wrong size of gzip", bad_size, Answer::Refused),
        ("a magic alone", vec![0x1f, 0x8b], Answer::Refused),
        ("gzip of nothing", gzip(b""), Answer::Taken),
        (
            "an unknown method",
            [&[0x1f, 0x8b, 7][..], &gz[3..]].concat(),
            Answer::Refused,
        ),
        (
            "two frames",
            [zstd(half), zstd(rest)].concat(),
            Answer::Taken,
        ),
        (
            "two archives in two frames",
            [zst.clone(), zstd(&other)].concat(),
            Answer::Refused,
        ),
        (
            "a skippable frame before",
            [skippable(0, 3, b"abc"), zst.clone()].concat(),
            Answer::Taken,
        ),
        (
            "a skippable frame behind",
            [zst.clone(), skippable(15, 3, b"abc")].concat(),
            Answer::Taken,
        ),
        (
            "a skippable frame between",
            [zstd(half), skippable(7, 0, b""), zstd(rest)].concat(),
            Answer::Taken,
        ),
        (
            "nothing but skippable frames",
            skippable(1, 4, b"abcd"),
            Answer::Taken,
        ),
        (
            "a skippable frame beyond the end",
            [zst.clone(), skippable(0, u32::MAX, b"a")].concat(),
            Answer::Refused,
        ),
        (
            "half a skippable header",
            [zst.clone(), vec![0x50, 0x2a, 0x4d]].concat(),
            Answer::Refused,
        ),
        (
            "garbage behind zstd",
            [zst.clone(), b"garbage".to_vec()].concat(),
            Answer::Refused,
        ),
        (
            "gzip behind zstd",
            [zst.clone(), gz.clone()].concat(),
            Answer::Refused,
        ),
        ("a wrong checksum of zstd", bad_sum, Answer::Refused),
        ("a window of a gibibyte", windowed, Answer::Whatever),
        ("a zstd magic alone", zst[..4].to_vec(), Answer::Refused),
        (
            "a plain archive twice",
            [tar.clone(), other.clone()].concat(),
            Answer::Refused,
        ),
        (
            "an archive behind padding",
            [tar.clone(), vec![0; 10_240], other].concat(),
            Answer::Refused,
        ),
        ("bzip2", b"BZh91AY&SY".to_vec(), Answer::Refused),
        ("xz", b"\xfd7zXZ\0".to_vec(), Answer::Refused),
    ];
    assert_eq!(cases.len(), 36);
    for (name, blob, expected) in cases {
        let place = Place::new();
        check(name, expected, &place, || {
            apply_stream(&place, &blob, LIMITS)
        });
    }
    // Cut anywhere, a compressed stream is refused.
    for blob in [&gz, &zst] {
        for length in 1..blob.len() {
            let place = Place::new();
            check(&format!("cut at {length}"), Answer::Refused, &place, || {
                apply_stream(&place, &blob[..length], LIMITS)
            });
        }
    }
}

#[test]
fn bombs_end_at_their_limits_and_take_no_memory() {
    let limits = Limits {
        entries: 2000,
        bytes: 50_000_000,
    };
    // 40 GB of zeros in a file that says so, as far as anybody reads.
    let mut huge = Vec::new();
    {
        let mut encoder = zstd::Encoder::new(&mut huge, 1).unwrap();
        let entry = raw(b"zeros", b'0').field(|raw| {
            let mut size = [0; 12];
            size[4..].copy_from_slice(&40_000_000_000_u64.to_be_bytes());
            size[0] = 0x80;
            raw.size = size.to_vec();
        });
        encoder.write_all(&Tar::new().raw(&entry).0).unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..200 {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.finish().unwrap();
    }
    let many = |count: usize| {
        let tar = (0..count).fold(Tar::new(), |tar, number| {
            tar.file(&format!("f{number}"), b"")
        });
        tar.end()
    };
    let headers = {
        let record = record("comment", &vec![b'x'; 900_000]);
        (0..60)
            .fold(Tar::new(), |tar, _| tar.pax(b'g', &record))
            .end()
    };
    let deep = Tar::new()
        .pax(b'x', &record("path", "d/".repeat(2040).as_bytes()))
        .dir("x")
        .end();
    let attributes = {
        let records: Vec<u8> = (0..3000)
            .flat_map(|number| record(&format!("SCHILY.xattr.user.a{number}"), &[b'v'; 200]))
            .collect();
        Tar::new().pax(b'x', &records).file("f", b"").end()
    };
    let links = (0..3000)
        .fold(Tar::new().file("f", &[1; 1000]), |tar, number| {
            tar.hard_link(&format!("l{number}"), "f")
        })
        .end();
    let copies = (0..50).fold(Tar::new(), |tar, number| {
        tar.hard_link(&format!("dir/l{number}"), "file")
    });
    for (name, blob, expected) in [
        ("a huge file", huge, Answer::Refused),
        ("many entries", gzip(&many(2001)), Answer::Refused),
        (
            "as many entries as allowed",
            gzip(&many(2000)),
            Answer::Taken,
        ),
        (
            "zeros behind the end",
            gzip(&vec![0; 60_000_000]),
            Answer::Refused,
        ),
        (
            "zeros behind the end, by zstd",
            zstd(&vec![0; 60_000_000]),
            Answer::Refused,
        ),
        ("large headers", gzip(&headers), Answer::Whatever),
        ("a deep path", gzip(&deep), Answer::Refused),
        ("many attributes", gzip(&attributes), Answer::Whatever),
        ("many links", gzip(&links), Answer::Refused),
        ("copies of a lower file", gzip(&copies.end()), Answer::Taken),
    ] {
        let place = Place::new();
        check(name, expected, &place, || {
            apply_stream(&place, &blob, limits)
        });
    }
    // Vectors of 60 MB are this test's own.
    let peak = peak();
    assert!(peak < 400 << 10, "{peak} KiB");
}

#[test]
fn a_stream_that_never_ends_is_read_in_bounded_memory() {
    /// Zeros for ever behind a header that promises them.
    struct Endless(Cursor<Vec<u8>>, u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            buffer.fill(0);
            self.1 += buffer.len() as u64;
            Ok(buffer.len())
        }
    }
    let place = Place::new();
    let before = place.surroundings();
    let below = LayerView::new(vec![place.root.path().join("below")]);
    let end = Tar::new().file("f", b"x").end();
    let mut endless = Endless(Cursor::new(end), 0);
    let limits = Limits {
        entries: 10,
        bytes: 300_000_000,
    };
    let upper = place.root.path().join("upper");
    let answer = diff::apply_layer(&mut endless, &upper, &below, false, limits);
    assert!(answer.is_err(), "{answer:?}");
    assert!(endless.1 < 310_000_000, "{}", endless.1);
    assert_eq!(place.surroundings(), before);
    assert!(peak() < 64 << 10, "{} KiB", peak());
}
