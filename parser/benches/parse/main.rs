//! How long reading, expanding and checking take, by the length of the file:
//! `cargo bench -p strata-parser`.
//!
//! CPU time, so that other work on the machine counts less. A line for each shape: seconds of reading
//! for each length, then of expanding every instruction, of the checks and of the advice for the last
//! length. Times in proportion to the lengths mean linear time.
//!
//! Words behind `--` choose shapes by name; `--megabytes=1` sets the lengths; `--write=DIR` writes
//! the files there instead of reading them.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod shapes;

use strata_parser::Dockerfile;
use strata_parser::expand::Lexer;
use strata_parser::ignore::IgnoreFile;
use strata_parser::lint;

/// CPU time of this thread in seconds; zero where the kernel doesn't tell.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

/// What `work` gives, and its seconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = cpu_time();
    let result = work();
    (result, cpu_time() - start)
}

/// Expands the text of every instruction; says how many could be.
fn expand_all(file: &Dockerfile) -> usize {
    let lexer = Lexer::new(file.directives.escape);
    let lookup = |name: &str| (name.len() % 2 == 1).then(|| "value".to_owned());
    let instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    instructions
        .filter(|instruction| lexer.expand(&instruction.text, &lookup).is_ok())
        .count()
}

fn main() {
    // Test runners start benches too, without this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let setting =
        |name: &str| std::env::args().find_map(|word| word.strip_prefix(name).map(str::to_owned));
    let megabytes: Vec<usize> = match setting("--megabytes=") {
        Some(list) => list.split(',').filter_map(|one| one.parse().ok()).collect(),
        None => vec![1, 4, 10],
    };
    let directory = setting("--write=");
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    print!("{:24}", "seconds");
    for megabytes in &megabytes {
        print!(" {:>8}", format!("{megabytes} MB"));
    }
    println!("   expand    check   advice");
    for shape in shapes::SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == shape.name) {
            continue;
        }
        print!("{:24}", shape.name);
        for size in &megabytes {
            let text = shape.text(size << 20);
            if let Some(directory) = &directory {
                let path = format!("{directory}/{}-{size}", shape.name.replace(' ', "-"));
                let written = std::fs::write(&path, text);
                print!(
                    " {}",
                    written.map_or_else(|error| error.to_string(), |()| path)
                );
                continue;
            }
            let (parsed, seconds) = timed(|| Dockerfile::parse(text.as_bytes()));
            print!(" {seconds:8.3}");
            let file = match parsed {
                Ok(file) => file,
                Err(errors) => {
                    print!(" ({errors})");
                    continue;
                }
            };
            if Some(size) == megabytes.last() {
                let settings = lint::settings(&file);
                let (_, seconds) = timed(|| expand_all(&file));
                print!(" {seconds:8.3}");
                let (checked, seconds) = timed(|| lint::check(&file, &settings).len());
                print!(" {seconds:8.3}");
                let (advised, seconds) = timed(|| lint::advice(&file, &settings).len());
                print!(" {seconds:8.3}   {checked} and {advised} findings");
            }
        }
        println!();
    }
    if directory.is_none() && (wanted.is_empty() || wanted.iter().any(|word| word == "bounds")) {
        bounds();
    }
}

/// What is not in proportion to the length of one text: patterns times paths, pattern times value,
/// depth.
fn bounds() {
    let rules: String = (0..2000)
        .map(|n| match n % 4 {
            0 => format!("**/a{n}*.o\n"),
            1 => format!("**/d{n}/**\n"),
            2 => format!("!**/k?{n}\n"),
            _ => format!("x*/**/y{n}\n"),
        })
        .collect();
    let file = IgnoreFile::parse(&rules).expect("the rules are well formed");
    let (ignored, seconds) = timed(|| {
        (0..50_000)
            .filter(|n| file.is_ignored(&format!("src{}/d{}/file{n}.c", n % 50, n % 700)))
            .count()
    });
    println!("\n2,000 patterns with `**`, 50,000 paths: {seconds:.3} s, {ignored} ignored");

    let value = "ab".repeat(200_000);
    let pattern = "*a?".repeat(220);
    for form in ["%%", "##", "%", "#", "//"] {
        let slash = if form == "//" { "/x" } else { "" };
        let word = format!("${{v{form}{pattern}z{slash}}}");
        let lookup = |_: &str| Some(value.clone());
        let (result, seconds) = timed(|| Lexer::default().expand(&word, &lookup));
        let outcome = result.map_or_else(
            |error| error.to_string(),
            |text| text.text.len().to_string(),
        );
        println!("`{form}` with a pattern of 660 on 400,000 letters: {seconds:.3} s: {outcome}");
    }
    let deep = "${a:-".repeat(100_000);
    let (result, seconds) = timed(|| Lexer::default().expand(&deep, &|_| None));
    let outcome = result.map_or_else(|error| error.to_string(), |text| text.text);
    println!("100,000 nested substitutions: {seconds:.3} s: {outcome}");
}
