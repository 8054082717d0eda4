//! Archives of layers: written from a directory, read, and unpacked into one.

use std::os::unix::fs::symlink;
use std::path::Path;

use divan::Bencher;
use divan::counter::BytesCount;
use strata_cache::diff::{ArchiveReader, Limits, WriteOptions, apply_layer, write_layer};
use strata_cache::{HardLinks, LayerView};
use tempfile::TempDir;

const LIMITS: Limits = Limits {
    entries: 1 << 20,
    bytes: 1 << 40,
};

/// What layers are made of.
#[derive(Debug, Clone, Copy)]
enum Layer {
    /// 4,000 files of 2 KiB, two hundred to a directory, and a link beside each tenth.
    Small,
    /// Four files of 16 MiB.
    Big,
}

const LAYERS: [Layer; 2] = [Layer::Small, Layer::Big];

impl Layer {
    fn directory(self) -> TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (count, size) = match self {
            Self::Small => (4_000, 2 << 10),
            Self::Big => (4, 16 << 20),
        };
        for number in 0..count {
            let folder = directory.path().join(format!("usr/share/{}", number / 200));
            std::fs::create_dir_all(&folder).expect("a directory can be made");
            std::fs::write(folder.join(format!("file-{number}")), vec![7; size])
                .expect("a file can be written");
            if number % 10 == 0 {
                symlink("../file", folder.join(format!("link-{number}")))
                    .expect("a link can be made");
            }
        }
        directory
    }

    fn archive(self) -> Vec<u8> {
        let mut tar = Vec::new();
        write(self.directory().path(), &mut tar);
        tar
    }
}

fn write(directory: &Path, output: &mut dyn std::io::Write) {
    let links = HardLinks::default();
    write_layer(directory, &links, WriteOptions::default(), output).expect("it can be written");
}

fn main() {
    // Test runners start benches too, without this word.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}

#[divan::bench(args = LAYERS, sample_count = 30, sample_size = 1)]
fn written(bencher: Bencher<'_, '_>, layer: Layer) {
    let directory = layer.directory();
    let mut tar = Vec::new();
    write(directory.path(), &mut tar);
    bencher
        .counter(BytesCount::new(tar.len()))
        .bench(|| write(directory.path(), &mut std::io::sink()));
}

/// Every header, and the contents of all files.
#[divan::bench(args = LAYERS, sample_count = 30, sample_size = 1)]
fn read(bencher: Bencher<'_, '_>, layer: Layer) {
    let tar = layer.archive();
    bencher.counter(BytesCount::new(tar.len())).bench(|| {
        let mut input = &tar[..];
        let mut archive = ArchiveReader::new(&mut input, LIMITS);
        let mut buffer = vec![0; 64 << 10];
        while let Some(entry) = archive.next().expect("it is well formed") {
            divan::black_box(entry);
            while archive.read(&mut buffer).expect("it is well formed") > 0 {}
        }
    });
}

#[divan::bench(args = LAYERS, sample_count = 15, sample_size = 1)]
fn unpacked(bencher: Bencher<'_, '_>, layer: Layer) {
    let tar = layer.archive();
    bencher
        .counter(BytesCount::new(tar.len()))
        .with_inputs(|| tempfile::tempdir().expect("a temporary directory"))
        .bench_values(|directory| {
            let below = LayerView::new(Vec::new());
            apply_layer(&mut &tar[..], directory.path(), &below, false, LIMITS)
                .expect("it can be unpacked");
            // Taken away after the clock was stopped.
            directory
        });
}
