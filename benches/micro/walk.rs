//! Looking through a build context of ten thousand files, with and without an ignore file, and the
//! matching of the ignore file alone.

use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use strata_executor::context::ContextTree;
use strata_executor::copy::{CopySpec, Selection, select};
use strata_parser::ignore::IgnoreFile;

const FILES: usize = 10_000;

/// As those of large projects are: whole directories, suffixes anywhere, and something taken back.
const IGNORE: &str = "# what tools leave\n.git\n**/.DS_Store\n**/*.o\n**/*.log\n**/node_modules\n\
    **/__pycache__\n**/target/**\n*.md\n!README.md\ndist\ncoverage\n.env*\n!.env.example\n\
    d1?/f*[13579].txt\n**/tmp*/cache-??\ndocs/**/*.png\n";

fn name(number: usize) -> String {
    let suffix = if number.is_multiple_of(10) {
        "o"
    } else {
        "txt"
    };
    format!("d{}/e{}/f{number}.{suffix}", number % 20, number % 7)
}

fn context() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for number in 0..FILES {
        let path = directory.path().join(name(number));
        let folder = path.parent().expect("it is in a directory");
        std::fs::create_dir_all(folder).expect("a directory can be made");
        std::fs::write(path, format!("{number}\n")).expect("a file can be written");
    }
    directory
}

/// What `COPY . /` selects.
fn walk(directory: &Path, ignore: &Arc<IgnoreFile>) -> Selection {
    let below = Arc::clone(ignore);
    let ignore = Arc::clone(ignore);
    let tree = ContextTree::open(
        directory,
        Box::new(move |path, _| ignore.is_ignored(path)),
        Box::new(move |path| below.may_reinclude_below(path)),
        None,
    )
    .expect("it can be opened");
    let sources = [".".to_owned()];
    let spec = CopySpec {
        sources: &sources,
        ..CopySpec::default()
    };
    select(&tree, &spec).expect("it can be read")
}

fn main() {
    // Test runners start benches too, without this word.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}

fn walked(bencher: Bencher<'_, '_>, rules: &str) {
    let directory = context();
    let ignore = Arc::new(IgnoreFile::parse(rules).expect("the rules are well formed"));
    bencher
        .counter(ItemsCount::new(FILES))
        .bench(|| walk(directory.path(), &ignore));
}

#[divan::bench(sample_count = 50, sample_size = 1)]
fn files_10000(bencher: Bencher<'_, '_>) {
    walked(bencher, "");
}

#[divan::bench(sample_count = 50, sample_size = 1)]
fn files_10000_with_ignore_file(bencher: Bencher<'_, '_>) {
    walked(bencher, IGNORE);
}

#[divan::bench]
fn matching_alone(bencher: Bencher<'_, '_>) {
    let ignore = IgnoreFile::parse(IGNORE).expect("the rules are well formed");
    let names: Vec<String> = (0..FILES).map(name).collect();
    bencher.counter(ItemsCount::new(FILES)).bench(|| {
        let ignored = names.iter().filter(|name| ignore.is_ignored(name));
        ignored.count()
    });
}
