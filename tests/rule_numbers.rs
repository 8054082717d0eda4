//! Every rule of `docs/dockerfile-rules.md` is shown by a test, and every number in a test is a rule.
//!
//! A test cites a rule as `§4.5`: at the beginning of a row of its table, or in the comment above a
//! case that is no table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of tables that there are at least.
const FEWEST_ROWS: usize = 400;

/// Where tests are.
const PLACES: [&str; 8] = [
    "parser/src",
    "parser/tests",
    "executor/src",
    "executor/tests",
    "cache/src",
    "image/src",
    "solver/src",
    "tests",
];

#[test]
fn every_rule_has_a_test_and_every_number_a_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let document = fs::read_to_string(root.join("docs/dockerfile-rules.md")).unwrap();
    let mut cited: BTreeMap<String, usize> = document
        .lines()
        .filter_map(|line| line.strip_prefix("- §"))
        .map(|rest| (number(rest).to_owned(), 0))
        .collect();
    assert!(cited.len() > 100, "{cited:?}");
    let (mut rows, mut unknown) = (0, Vec::new());
    for place in PLACES {
        for path in sources(&root.join(place)) {
            let text = fs::read_to_string(&path).unwrap();
            for (at, sign) in text.match_indices('§') {
                let number = number(&text[at + sign.len()..]);
                match cited.get_mut(number) {
                    Some(count) => *count += 1,
                    // In this file the sign stands alone.
                    None if number.is_empty() => {}
                    None => unknown.push(format!("§{number} in {}", path.display())),
                }
                let before = text[..at].strip_suffix('"').unwrap_or_default();
                rows += usize::from(before.trim_end().ends_with('('));
            }
        }
    }
    let open: Vec<String> = cited
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(number, _)| format!("§{number}"))
        .collect();
    assert!(unknown.is_empty(), "numbers of no rule: {unknown:#?}");
    assert!(open.is_empty(), "rules without a test: {}", open.join(", "));
    assert!(rows >= FEWEST_ROWS, "just {rows} rows cite a rule");
}

/// `4.5` at the beginning of `text`, or nothing.
fn number(text: &str) -> &str {
    let digit = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !digit(c)).unwrap_or(text.len());
    text[..end].trim_end_matches('.')
}

/// Rust files below `directory`.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}
