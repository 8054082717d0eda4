//! The codecs at the levels that the command line takes by default, all on one sample: the archive of a
//! layer with 16 files of 2 MiB, cut out of Debian's root file system, which `make bases` puts into
//! `.test-cache/`.
//!
//! Bytes are those of the archive, in both directions. What a codec makes of it is said first.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::BytesCount;
use strata_cache::HardLinks;
use strata_cache::codec::{Codec, decoder, indexed};
use strata_cache::diff::{WriteOptions, write_layer};

const CODECS: [Codec; 4] = [
    Codec::GZIP,
    Codec::ZSTD,
    Codec::Estargz(6),
    Codec::ZstdChunked(3),
];

const FROM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.test-cache/debian.tar");
const FILES: u64 = 16;
const SIZE: u64 = 2 << 20;

static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut from =
        File::open(FROM).unwrap_or_else(|error| panic!("`make bases` first: {FROM}: {error}"));
    let length = from.metadata().expect("it has a size").len();
    let directory = tempfile::tempdir().expect("a temporary directory");
    for number in 0..FILES {
        from.seek(SeekFrom::Start(number * (length - SIZE) / FILES))
            .expect("it is long enough");
        let mut piece = Vec::new();
        (&from)
            .take(SIZE)
            .read_to_end(&mut piece)
            .expect("it can be read");
        std::fs::write(directory.path().join(format!("{number}")), piece)
            .expect("a file can be written");
    }
    let options = WriteOptions { epoch: Some(0) };
    let mut tar = Vec::new();
    write_layer(directory.path(), &HardLinks::default(), options, &mut tar)
        .expect("it can be written");
    tar
});

fn compressed(codec: Codec, tar: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    if codec.is_indexed() {
        indexed::compress(codec, &mut &tar[..], &mut output).expect("it can be compressed");
    } else {
        let mut encoder = codec
            .encoder(Box::new(&mut output))
            .expect("there is such a level");
        encoder.write_all(tar).expect("memory takes all");
        encoder.finish().expect("memory takes all");
    }
    output
}

fn main() {
    // Test runners start benches too, without this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("bytes of {}:", SAMPLE.len());
    for codec in CODECS {
        println!(
            "  {:24} {:>10}",
            codec.encoding(),
            compressed(codec, &SAMPLE).len()
        );
    }
    divan::main();
}

#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn compress(bencher: Bencher<'_, '_>, codec: Codec) {
    bencher
        .counter(BytesCount::new(SAMPLE.len()))
        .bench(|| compressed(codec, divan::black_box(&SAMPLE)));
}

#[divan::bench(args = CODECS, sample_count = 10, sample_size = 1)]
fn decompress(bencher: Bencher<'_, '_>, codec: Codec) {
    let blob = compressed(codec, &SAMPLE);
    bencher.counter(BytesCount::new(SAMPLE.len())).bench(|| {
        let mut input = decoder(Box::new(divan::black_box(&blob[..]))).expect("it is well formed");
        std::io::copy(&mut input, &mut std::io::sink()).expect("it is well formed")
    });
}
