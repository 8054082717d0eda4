//! What fuzzing found worth keeping, once more: see `fuzz/`. Needs root, as the harm would.

#[path = "../fuzz/src/archive.rs"]
mod archive;
#[path = "../fuzz/src/gzip.rs"]
mod gzip;
#[path = "../fuzz/src/layers.rs"]
mod layers;
#[path = "../fuzz/src/place.rs"]
mod place;

use place::Place;

/// Gives every file of a corpus to `run`. A failure names the file.
fn replay(name: &str, run: fn(&[u8], &mut Place)) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test has to run as root"
    );
    let directory = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().expect("there is room for a directory");
    let mut place = Place::new(scratch.path());
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the corpus is there") {
        let path = entry.expect("the corpus can be listed").path();
        let bytes = std::fs::read(&path).expect("the file can be read");
        let place = std::panic::AssertUnwindSafe(&mut place);
        let outcome = std::panic::catch_unwind(move || run(&bytes, { place }.0));
        assert!(outcome.is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} files are no corpus");
}

#[test]
fn the_corpus_of_archives_stays_inside() {
    replay("archive", archive::run);
}

#[test]
fn the_corpus_of_layers_stays_inside_and_makes_the_round() {
    replay("layers", layers::run);
}

#[test]
fn the_corpus_of_gzip_makes_the_round() {
    replay("gzip", |bytes, _| gzip::run(bytes));
}
