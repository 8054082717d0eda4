//! `.dockerignore`.

use strata_parser::ignore::IgnoreFile;

use super::super::super::support::Random;
use super::context::Entry;

/// Draws the lines of an ignore file, or none.
pub(crate) fn lines(random: &mut Random, entries: &[Entry]) -> Vec<String> {
    if random.chance(50) {
        return Vec::new();
    }
    let mut lines: Vec<String> = Vec::new();
    for _ in 0..=random.below(6) {
        let line = match random.below(14) {
            0 => random.of(&["# a comment", "", "   ", "#*"]).to_owned(),
            1 => random
                .of(&["**/*.tmp", "**/node_modules", "**/.*", "**", "*"])
                .to_owned(),
            2 => random
                .of(&["*.txt", "*.c", "*/*.txt", "?.txt", "[a-c].txt", "*/*"])
                .to_owned(),
            3 => random
                .of(&[
                    "src/**",
                    "src/**/*.txt",
                    "**/a",
                    "a/**/b",
                    "**/*.md",
                    "docs/**/",
                ])
                .to_owned(),
            4 => random
                .of(&[
                    "Dockerfile",
                    ".dockerignore",
                    "Dockerfile*",
                    ".*",
                    "./src",
                    "/lib",
                ])
                .to_owned(),
            5..=8 => path(random, entries),
            9 => format!("{}/", path(random, entries)),
            _ => format!("!{}", exception(random, entries)),
        };
        lines.push(match random.below(16) {
            0 => format!("{line} "),
            1 => format!("  {line}"),
            2 => format!("{line}\r"),
            _ => line,
        });
    }
    // Everything but what is named, the way many projects have it.
    if random.chance(20) {
        lines.insert(0, random.of(&["*", "**"]).to_owned());
    }
    while !plain(&lines, entries) {
        lines.pop();
    }
    while let Some(line) = fruitless(&lines, entries) {
        lines.remove(line);
    }
    lines
}

/// Whether just the last pattern that matches a path, or a directory that it is in, decides. Where a
/// directory was ignored already, today's Moby forgets that a later pattern matches it as well, and an
/// exception in between counts; docker 20.10 doesn't.
fn plain(lines: &[String], entries: &[Entry]) -> bool {
    let Ok(file) = IgnoreFile::parse(&lines.join("\n")) else {
        return true;
    };
    entries.iter().all(|entry| {
        let last = lines.iter().rev().find(|line| {
            let pattern = line.trim().trim_start_matches('!');
            !line.starts_with('#')
                && IgnoreFile::parse(pattern).is_ok_and(|file| file.is_ignored(&entry.path))
        });
        let ignored = last.is_some_and(|line| !line.trim().starts_with('!'));
        ignored == file.is_ignored(&entry.path)
    })
}

/// An exception that takes nothing back of some ignored directory: docker 20.10 shows that directory,
/// empty.
fn fruitless(lines: &[String], entries: &[Entry]) -> Option<usize> {
    let file = IgnoreFile::parse(&lines.join("\n")).ok()?;
    let below = |directory: &str, path: &str| {
        path.strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    let shows = |directory: &str| {
        let mut inner = entries.iter().filter(|it| below(directory, &it.path));
        inner.any(|it| !file.is_ignored(&it.path))
    };
    let empty: Vec<&str> = entries
        .iter()
        .filter(|it| it.is_directory() && file.is_ignored(&it.path) && !shows(&it.path))
        .map(|it| it.path.as_str())
        .collect();
    lines.iter().position(|line| {
        let pattern = line.trim().trim_start_matches('!').trim_matches(['/', '.']);
        let near = |directory: &&str| pattern == *directory || below(directory, pattern);
        line.trim().starts_with('!') && empty.iter().any(near)
    })
}

/// What is taken back. Directories in it are literal: docker 20.10 doesn't look into ignored ones for
/// more.
fn exception(random: &mut Random, entries: &[Entry]) -> String {
    if random.chance(25) {
        return random
            .of(&["*.txt", "src", "src/*", "a/*.txt", "docs/?*", ".env"])
            .to_owned();
    }
    let path = random.any(entries).map_or("src", |entry| &entry.path);
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    if above.contains(['*', '?', '[', '\\']) {
        return "src/*".to_owned();
    }
    let mut pattern = String::from(random.of(&["", "", "", "/", "./"]));
    if !above.is_empty() {
        pattern += &format!("{above}/");
    }
    for character in name.chars() {
        if matches!(character, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + random.of(&["", "", "", "/", "/*"])
}

/// A pattern made of a path, or of a part of it.
fn path(random: &mut Random, entries: &[Entry]) -> String {
    let Some(entry) = random.any(entries) else {
        return "src".to_owned();
    };
    let mut path = String::new();
    for character in entry.path.chars() {
        // As a pattern, most of the time one that matches the name.
        if matches!(character, '*' | '?' | '[' | '\\') && random.chance(80) {
            path.push('\\');
        }
        path.push(character);
    }
    let base = path.rsplit('/').next().unwrap_or_default().to_owned();
    match random.below(12) {
        0 => format!("/{path}"),
        1 => format!("./{path}"),
        2 => format!("{path}/*"),
        3 => format!("**/{base}"),
        4 => base,
        5 => format!("*/{base}"),
        6 => format!("x/../{path}"),
        _ => path,
    }
}
