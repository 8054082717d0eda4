//! How long reading and checking take, by the length of the file: `cargo bench -p strata-parser`.
//!
//! CPU time, so that other work on the machine counts less. A line for each shape, a column for each length; equal columns of seconds for each megabyte mean
//! linear time.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use strata_parser::Dockerfile;
use strata_parser::lint;

/// Name, what is repeated, what ends the file.
const SHAPES: [(&str, &str, &str); 16] = [
    ("short RUN", "RUN x\n", ""),
    ("one long RUN", "RUN x \\\n", "\n"),
    ("continuations", " x y z \\\n", "\n"),
    ("comments", "# c\n", "RUN x\n"),
    ("heredocs", "COPY <<E /x\nE\n", ""),
    ("heredoc body", "a line of a body\n", "E\n"),
    ("blank continuations", "RUN x \\\n\n#c\n", "\n"),
    ("ENV", "ENV a=$b c='d'\n", ""),
    ("legacy ENV", "ENV a b c\n", ""),
    ("ONBUILD", "ONBUILD RUN x\n", ""),
    ("blank lines", "\n", "RUN x\n"),
    ("stages", "FROM a AS b\n", ""),
    ("stages of stages", "FROM b AS b\nRUN a | b\n", ""),
    ("JSON", "CMD [\"a\", \"b\"]\n", ""),
    (
        "mounts",
        "RUN --mount=type=cache,target=/var/lib/apt/lists apt-get update && apt-get install -y x\n",
        "",
    ),
    ("COPY", "COPY --chown=1:1 --chmod=755 a b c /d/\n", ""),
];

const MEGABYTES: [usize; 3] = [1, 4, 10];

/// CPU time of this thread in seconds; zero where the kernel doesn't tell.
fn cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn main() {
    // Test runners start benches too, without this word.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!(
        "{:24} {:>8} {:>8} {:>8}   check  advice at the last",
        "seconds", "1 MB", "4 MB", "10 MB"
    );
    // Words behind `--` choose shapes by name.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    for (name, piece, end) in SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
            continue;
        }
        let first = match name {
            "continuations" => "FROM a\nRUN a \\\n",
            "heredoc body" => "FROM a\nRUN <<E\n",
            _ => "FROM a\n",
        };
        print!("{name:24}");
        for megabytes in MEGABYTES {
            let text = format!(
                "{first}{}{end}",
                piece.repeat((megabytes << 20) / piece.len())
            );
            let start = cpu_time();
            let parsed = Dockerfile::parse(text.as_bytes());
            print!(" {:8.3}", cpu_time() - start);
            let Ok(file) = parsed else {
                print!(" (refused)");
                continue;
            };
            if Some(&megabytes) == MEGABYTES.last() {
                let settings = lint::settings(&file);
                let start = cpu_time();
                let checked = lint::check(&file, &settings).len();
                print!("   {:.3} ({checked})", cpu_time() - start);
                let start = cpu_time();
                let advised = lint::advice(&file, &settings).len();
                print!("  {:.3} ({advised})", cpu_time() - start);
            }
        }
        println!();
    }
}
