//! Reading Dockerfiles: one as people write them, and ten thousand lines of everything. How time grows
//! with odd shapes is `parser/benches/parse`'s subject.

#![expect(
    clippy::format_push_string,
    reason = "how fast the text is made is not measured"
)]

use divan::Bencher;
use divan::counter::BytesCount;
use strata_parser::Dockerfile;
use strata_parser::lint;

const LARGE: &str = include_str!("large.Dockerfile");

/// Ten lines for each of a thousand stages.
fn ten_thousand_lines() -> String {
    let mut text = String::new();
    for stage in 0..1_000 {
        text += &format!(
            "FROM scratch AS s{stage}\nARG A{stage}=1\nENV B=$A{stage} C=\"x ${{B:-y}}\"\n\
             WORKDIR /w{stage}\nCOPY --chmod=644 --exclude=*.o f{stage} g{stage} /d/\n\
             LABEL a=1 \\\n    b=\"2 3\"\nRUN --mount=type=cache,target=/c <<EOT\nmake {stage}\nEOT\n"
        );
    }
    text
}

fn main() {
    // Test runners start benches too, without this word.
    if std::env::args().any(|argument| argument == "--bench") {
        divan::main();
    }
}

fn parse(bencher: Bencher<'_, '_>, text: &str) {
    bencher
        .counter(BytesCount::of_str(text))
        .bench(|| Dockerfile::parse(divan::black_box(text.as_bytes())).expect("it is well formed"));
}

#[divan::bench]
fn large_file(bencher: Bencher<'_, '_>) {
    parse(bencher, LARGE);
}

#[divan::bench]
fn lines_10000(bencher: Bencher<'_, '_>) {
    parse(bencher, &ten_thousand_lines());
}

#[divan::bench]
fn checks_of_large_file(bencher: Bencher<'_, '_>) {
    let file = Dockerfile::parse(LARGE.as_bytes()).expect("it is well formed");
    let settings = lint::settings(&file);
    bencher
        .counter(BytesCount::of_str(LARGE))
        .bench(|| lint::check(divan::black_box(&file), &settings));
}
