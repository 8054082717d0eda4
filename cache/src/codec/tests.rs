use super::*;
use crate::Digest;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A writer whose bytes can be taken out after its box is gone.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Text-like bytes, the same everywhere.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let mut data = Vec::with_capacity(size + 16);
    while data.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        data.extend_from_slice(format!("{:x} ", state >> 20).as_bytes());
    }
    data.truncate(size);
    data
}

fn compress(codec: Codec, data: &[u8]) -> Vec<u8> {
    let output = Shared::default();
    let mut encoder = codec.encoder(Box::new(output.clone())).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap();
    output.take()
}

fn gzip_on(threads: usize, data: &[u8], piece: usize) -> Vec<u8> {
    let pool = build_pool(threads).unwrap();
    let output = Shared::default();
    let mut encoder = gzip::GzipEncoder::new(Box::new(output.clone()), 6, &pool).unwrap();
    for piece in data.chunks(piece) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    Box::new(encoder).finish().unwrap();
    output.take()
}

fn zstd_on(threads: usize, level: i32, data: &[u8], piece: usize) -> Vec<u8> {
    let pool = build_pool(threads).unwrap();
    let output = Shared::default();
    let mut encoder = zstd::ZstdEncoder::new(Box::new(output.clone()), level, &pool).unwrap();
    for piece in data.chunks(piece) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    Box::new(encoder).finish().unwrap();
    output.take()
}

fn decompress(data: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut output = Vec::new();
    decoder(Box::new(Cursor::new(data)))?.read_to_end(&mut output)?;
    Ok(output)
}

fn accepted_by(program: &str, data: &[u8]) -> bool {
    let mut child = Command::new(program)
        .args(["-t", "-q"])
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs `{program}`: {error}"));
    child.stdin.take().unwrap().write_all(data).unwrap();
    child.wait().unwrap().success()
}

#[test]
fn gzip_bytes_do_not_depend_on_threads_or_on_how_they_are_written() {
    let data = sample(3_000_001);
    let one = gzip_on(1, &data, data.len());
    assert_eq!(one, gzip_on(2, &data, 10_007));
    assert_eq!(one, gzip_on(4, &data, 777_777));
    assert_eq!(one, compress(Codec::Gzip(6), &data));
}

#[test]
fn zstd_bytes_do_not_depend_on_threads_or_on_how_they_are_written() {
    let data = sample(20_000_001);
    for level in [1, 3, 9] {
        let one = zstd_on(1, level, &data, data.len());
        assert_eq!(one, zstd_on(2, level, &data, 10_007), "level {level}");
        assert_eq!(one, zstd_on(4, level, &data, 777_777), "level {level}");
        assert_eq!(one, zstd_on(16, level, &data, 3_000_000), "level {level}");
    }
}

#[test]
fn every_size_round_trips_and_is_accepted_by_the_usual_programs() {
    for size in [
        0, 1, 1_048_575, 1_048_576, 1_048_577, 2_097_152, 2_097_153, 8_388_609,
    ] {
        let data = sample(size);
        for codec in [
            Codec::None,
            Codec::Gzip(0),
            Codec::Gzip(1),
            Codec::Gzip(6),
            Codec::Gzip(9),
            Codec::Zstd(1),
            Codec::Zstd(3),
            Codec::Zstd(9),
        ] {
            let packed = compress(codec, &data);
            match codec {
                Codec::Gzip(_) => assert!(accepted_by("gzip", &packed), "{codec:?} {size}"),
                Codec::Zstd(_) => assert!(accepted_by("zstd", &packed), "{codec:?} {size}"),
                _ => {}
            }
            assert!(decompress(packed).unwrap() == data, "{codec:?} {size}");
        }
    }
}

#[test]
fn incompressible_input_round_trips() {
    let mut state = 1_u64;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(200_000)
    .flatten()
    .collect();
    for codec in [Codec::Gzip(0), Codec::Gzip(6), Codec::Zstd(3)] {
        assert!(decompress(compress(codec, &data)).unwrap() == data);
    }
}

#[test]
fn members_frames_and_skippable_frames_are_read_to_the_end() {
    let (first, second) = (sample(100_000), sample(50));
    let whole = [&first[..], &second].concat();
    let gzip = [
        compress(Codec::Gzip(6), &first),
        compress(Codec::Gzip(1), &second),
    ]
    .concat();
    assert_eq!(decompress(gzip).unwrap(), whole);
    let skippable = [0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let zstd = [
        &skippable[..],
        &compress(Codec::Zstd(3), &first),
        &skippable,
        &compress(Codec::Zstd(1), &second),
        &skippable,
    ]
    .concat();
    assert_eq!(decompress(zstd).unwrap(), whole);
}

#[test]
fn a_truncated_or_spoilt_stream_is_an_error() {
    let data = sample(1_000_000);
    for codec in [Codec::Gzip(6), Codec::Zstd(3)] {
        let packed = compress(codec, &data);
        for cut in [5, 20, packed.len() / 2, packed.len() - 1] {
            assert!(
                decompress(packed[..cut].to_vec()).is_err(),
                "{codec:?} {cut}"
            );
        }
        let mut spoilt = packed.clone();
        let last = spoilt.len() - 6;
        spoilt[last] ^= 1;
        assert!(decompress(spoilt).is_err(), "{codec:?}");
        let junk = [&packed[..], b"junk, and more of it than a header"].concat();
        assert!(decompress(junk).is_err(), "{codec:?}");
    }
}

#[test]
fn levels_out_of_range_are_refused() {
    for codec in [Codec::Gzip(10), Codec::Zstd(0), Codec::Zstd(23)] {
        assert!(codec.encoder(Box::new(io::sink())).is_err(), "{codec:?}");
    }
}

/// If this fails, the bytes of all blobs change: a dependency was updated. Find out which; if it is meant, change the names in
/// `Codec::encoding` and the digests here.
#[test]
fn the_bytes_of_each_encoding_are_the_known_ones() {
    let data = sample(2_000_000);
    for (codec, expected) in [
        (
            Codec::Gzip(1),
            "8f36f7ab3948c59bbec17a7fa7f0be50dcfa3feb63489744fa65d7399f280791",
        ),
        (
            Codec::Gzip(4),
            "de1047a81cfaef29086c3449fb6b2a38e8e4f242e2251efccbf80e311058559a",
        ),
        (
            Codec::Gzip(5),
            "c8a0dcb993b3108936f8ad124e008b4edc747cb46d3ea8e2117187cad9272ed7",
        ),
        (
            Codec::Gzip(6),
            "670efceb869a49609f9c5cc9b7b867d2407ae1494a4aba6c49994d9c3da9a0c2",
        ),
        (
            Codec::Zstd(3),
            "361b57287b292b9f783a19e1ce04cdb490ced884d68c1dabdebb2d010be1a966",
        ),
    ] {
        let digest = Digest::of(&compress(codec, &data));
        assert_eq!(digest.hex(), expected, "{}", codec.encoding());
    }
}
