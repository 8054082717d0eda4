//! What fuzzing found worth keeping, once more: see `fuzz/`.

#[path = "../fuzz/src/dockerfile.rs"]
mod dockerfile;
#[path = "../fuzz/src/expand.rs"]
mod expand;
#[path = "../fuzz/src/ignore.rs"]
mod ignore;

/// Gives every file of a corpus to `run`. A failure names the file.
fn replay(name: &str, run: fn(&[u8])) {
    let directory = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("the corpus is there") {
        let path = entry.expect("the corpus can be listed").path();
        let bytes = std::fs::read(&path).expect("the file can be read");
        let outcome = std::panic::catch_unwind(|| run(&bytes));
        assert!(outcome.is_ok(), "{} fails", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} files are no corpus");
}

#[test]
fn the_corpus_of_dockerfiles_holds() {
    replay("dockerfile", dockerfile::run);
}

#[test]
fn the_corpus_of_expansions_holds() {
    replay("expand", expand::run);
}

#[test]
fn the_corpus_of_ignore_files_agrees_with_the_model() {
    replay("ignore", ignore::run);
}
