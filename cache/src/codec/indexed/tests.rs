//! Both forms, read as their readers read them: plain from the beginning, and by their tables.

use std::io::{Cursor, Read as _, Seek as _, SeekFrom, Write as _};

use serde_json::Value;

use super::{CHUNK, annotations, compress};
use crate::Digest;
use crate::codec::{Codec, decoder};

const CODECS: [Codec; 2] = [Codec::Estargz(6), Codec::ZstdChunked(3)];

/// A plain archive with entries of each kind: what is in it, and its bytes.
fn archive() -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let large: Vec<u8> = (0..=250).cycle().take(2 * CHUNK + 77).collect();
    let files = [
        ("d/empty", Vec::new()),
        ("d/small", b"small".to_vec()),
        ("d/block", vec![7; 512]),
        ("large", large),
        ("exact", vec![1; CHUNK]),
        ("snow-\u{2603}", b"man".to_vec()),
    ];
    let mut bytes = Vec::new();
    let mut put = |name: &str, flag: u8, link: &str, content: &[u8]| {
        let mut block = super::estargz::test_header(name, content.len() as u64);
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    };
    put("d/", b'5', "", b"");
    for (name, content) in &files {
        put(name, b'0', "", content);
    }
    put("link", b'2', "d/small", b"");
    put("hard", b'1', "d/small", b"");
    put("d/.wh.gone", b'0', "", b"");
    bytes.resize(bytes.len() + 1024, 0);
    let files = files.map(|(name, content)| (name.to_owned(), content));
    (files.to_vec(), bytes)
}

fn packed(codec: Codec, plain: &[u8]) -> (Vec<u8>, Digest) {
    let mut blob = Vec::new();
    let digest = compress(codec, &mut &plain[..], &mut blob).unwrap();
    (blob, digest)
}

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut reader = decoder(Box::new(Cursor::new(blob.to_vec()))).unwrap();
    reader.read_to_end(&mut plain).unwrap();
    plain
}

fn as_file(blob: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(blob).unwrap();
    file
}

/// The table of contents, found as the annotations and footers say.
fn table(codec: Codec, blob: &[u8]) -> Value {
    let found = annotations(&mut as_file(blob)).unwrap();
    if codec.changes_archive() {
        let footer = &blob[blob.len() - 51..];
        let offset = std::str::from_utf8(&footer[16..32]).unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let plain = unpacked(&blob[offset..blob.len() - 51]);
        let size = std::str::from_utf8(&plain[124..135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        let json = &plain[512..512 + size];
        let digest = Digest::of(json).to_string();
        assert_eq!(found["containerd.io/snapshot/stargz/toc.digest"], digest);
        serde_json::from_slice(json).unwrap()
    } else {
        let name = |name: &str| format!("io.github.containers.zstd-chunked.{name}");
        let numbers: Vec<usize> = found[&name("manifest-position")]
            .split(':')
            .map(|text| text.parse().unwrap())
            .collect();
        let packed = &blob[numbers[0]..numbers[0] + numbers[1]];
        assert_eq!(
            found[&name("manifest-checksum")],
            Digest::of(packed).to_string()
        );
        let json = zstd::decode_all(packed).unwrap();
        assert_eq!((json.len(), numbers[3]), (numbers[2], 1));
        serde_json::from_slice(&json).unwrap()
    }
}

#[test]
fn plain_readers_get_the_archive() {
    let (_, plain) = archive();
    for codec in CODECS {
        let (blob, digest) = packed(codec, &plain);
        let read = unpacked(&blob);
        assert_eq!(Digest::of(&read), digest, "{codec:?}");
        if codec.changes_archive() {
            // A landmark before, the table behind.
            let own = &plain[..plain.len() - 1024];
            assert_eq!(&read[1024..1024 + own.len()], own);
            assert!(read.ends_with(&[0; 1024]));
        } else {
            assert_eq!(read, plain);
        }
        assert_eq!(packed(codec, &plain).0, blob, "{codec:?}: twice the same");
    }
}

#[test]
fn offsets_point_at_the_files_bytes() {
    let (files, plain) = archive();
    for codec in CODECS {
        let (blob, _) = packed(codec, &plain);
        let table = table(codec, &blob);
        let entries = table["entries"].as_array().unwrap();
        for (name, content) in &files {
            let parts: Vec<&Value> = entries.iter().filter(|it| it["name"] == **name).collect();
            assert_eq!(parts[0]["type"], "reg", "{name}");
            assert_eq!(parts[0]["size"].as_u64().unwrap_or(0), content.len() as u64);
            if content.is_empty() {
                assert_eq!(parts[0].get("offset"), None);
                continue;
            }
            assert_eq!(parts[0]["digest"], Digest::of(content).to_string());
            let mut whole = Vec::new();
            for part in &parts {
                assert_eq!(
                    part["chunkOffset"].as_u64().unwrap_or(0),
                    whole.len() as u64
                );
                // One member or frame, from there on, begins with the content.
                let offset = usize::try_from(part["offset"].as_u64().unwrap()).unwrap();
                let mut bytes = Vec::new();
                let left = (content.len() - whole.len()) as u64;
                let size = part["chunkSize"].as_u64().unwrap_or(left);
                if codec.changes_archive() {
                    let member = flate2::read::GzDecoder::new(&blob[offset..]);
                    member.take(size).read_to_end(&mut bytes).unwrap();
                } else {
                    let frame = zstd::Decoder::new(&blob[offset..]).unwrap().single_frame();
                    frame.take(size).read_to_end(&mut bytes).unwrap();
                }
                if parts.len() > 1 || codec.changes_archive() {
                    assert_eq!(
                        part["chunkDigest"],
                        Digest::of(&bytes).to_string(),
                        "{name}"
                    );
                }
                whole.extend_from_slice(&bytes);
            }
            assert_eq!(&whole, content, "{codec:?} {name}");
        }
        let link = entries.iter().find(|it| it["name"] == "link").unwrap();
        assert_eq!(
            (&link["type"], &link["linkName"]),
            (&"symlink".into(), &"d/small".into())
        );
    }
}

#[test]
fn the_archive_can_be_put_together_from_its_files() {
    use base64::Engine as _;
    let (files, plain) = archive();
    let (blob, _) = packed(Codec::ZstdChunked(3), &plain);
    let found = annotations(&mut as_file(&blob)).unwrap();
    let position = &found["io.github.containers.zstd-chunked.tarsplit-position"];
    let numbers: Vec<usize> = position
        .split(':')
        .map(|text| text.parse().unwrap())
        .collect();
    let lines = zstd::decode_all(&blob[numbers[0]..numbers[0] + numbers[1]]).unwrap();
    assert_eq!(lines.len(), numbers[2]);
    let mut made = Vec::new();
    for (number, line) in lines.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            continue;
        };
        assert_eq!(line["position"], number);
        if line["type"] == 2 {
            let payload = line["payload"].as_str().unwrap();
            let engine = base64::engine::general_purpose::STANDARD;
            made.extend(engine.decode(payload).unwrap());
        } else {
            let file = files.iter().find(|(name, _)| line["name"] == **name);
            made.extend(file.map(|(_, content)| content.clone()).unwrap_or_default());
        }
    }
    assert!(made == plain);
}

#[test]
fn what_was_made_before_is_left_out_and_made_anew() {
    let (_, plain) = archive();
    let (blob, digest) = packed(Codec::Estargz(6), &plain);
    let again = packed(Codec::Estargz(6), &unpacked(&blob));
    assert!(again == (blob, digest));
}

#[test]
fn what_is_no_table_gives_no_annotations() {
    let (_, plain) = archive();
    let (estargz, _) = packed(Codec::Estargz(6), &plain);
    let (chunked, _) = packed(Codec::ZstdChunked(3), &plain);
    let mut cases = vec![Vec::new(), vec![0; 40], plain];
    for blob in [estargz, chunked] {
        cases.push(blob[1..].to_vec());
        cases.push(blob[..blob.len() - 1].to_vec());
        // An offset beyond the end.
        let mut beyond = blob.clone();
        let at = beyond.len() - if blob[0] == 0x1f { 35 } else { 60 };
        beyond[at] = b'f';
        cases.push(beyond);
    }
    for blob in cases {
        let mut file = as_file(&blob);
        let length = blob.len();
        let shifted = annotations(&mut file).unwrap();
        // A blob that lost its first byte still ends in a footer; what it points at is something else.
        assert!(shifted.len() <= 3, "{length}: {shifted:?}");
        file.seek(SeekFrom::Start(0)).unwrap();
    }
    assert!(compress(Codec::Estargz(6), &mut &b"no archive"[..], &mut Vec::new()).is_err());
    assert!(compress(Codec::Gzip(6), &mut &b""[..], &mut Vec::new()).is_err());
}
