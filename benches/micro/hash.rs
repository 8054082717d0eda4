//! SHA-256 of what is in memory, and of files.

use std::fs::File;

use divan::Bencher;
use divan::counter::BytesCount;
use strata_cache::Digest;

fn main() {
    // Test runners start benches too, without this word.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}

#[divan::bench(args = [64, 4 << 10, 1 << 20])]
fn memory(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = vec![7; size];
    bencher
        .counter(BytesCount::new(size))
        .bench(|| Digest::of(divan::black_box(&bytes)));
}

/// `count` files of `size` bytes, in the page cache.
fn files(bencher: Bencher<'_, '_>, count: usize, size: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths: Vec<_> = (0..count)
        .map(|number| directory.path().join(format!("{number}")))
        .collect();
    for path in &paths {
        std::fs::write(path, vec![7; size]).expect("a file can be written");
    }
    bencher.counter(BytesCount::new(count * size)).bench(|| {
        for path in &paths {
            let mut file = File::open(path).expect("it can be opened");
            divan::black_box(Digest::of_reader(&mut file).expect("it can be read"));
        }
    });
}

#[divan::bench(sample_count = 50)]
fn files_1000_of_4_kib(bencher: Bencher<'_, '_>) {
    files(bencher, 1_000, 4 << 10);
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn file_of_64_mib(bencher: Bencher<'_, '_>) {
    files(bencher, 1, 64 << 20);
}
