//! Names that somebody may have meant.

use std::path::{Path, PathBuf};

use strata_cache::view::FileKind;

use crate::tree::SourceTree;

/// Up to three paths in `tree` that are spelled much like `path`, best first. Whatever can't be
/// read gives no suggestion: there is an error to report already.
pub(super) fn suggestions(tree: &dyn SourceTree, path: &Path) -> Vec<String> {
    let mut missing: Vec<&std::ffi::OsStr> = Vec::new();
    let mut existing = path;
    let directory = loop {
        if let Ok(Some(entry)) = tree.lookup(existing, true) {
            break entry;
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name);
                existing = parent;
            }
            _ => return Vec::new(),
        }
    };
    let Some(wanted) = missing.pop() else {
        return Vec::new();
    };
    if directory.metadata.kind != FileKind::Directory {
        return Vec::new();
    }
    let wanted = wanted.to_string_lossy();
    let limit = (wanted.chars().count() / 3).max(1);
    let Ok(children) = tree.read_dir(&directory) else {
        return Vec::new();
    };
    let mut found: Vec<(usize, String)> = children
        .iter()
        .filter_map(|child| {
            let name = child.path.file_name()?.to_string_lossy();
            let distance = if name.eq_ignore_ascii_case(&wanted) {
                0
            } else {
                distance(&name, &wanted)
            };
            let mut whole = PathBuf::from(existing);
            whole.push(&*name);
            whole.extend(missing.iter().rev());
            (distance <= limit).then(|| (distance, super::shown(&whole)))
        })
        .collect();
    found.sort();
    found.truncate(3);
    found.into_iter().map(|(_, name)| name).collect()
}

/// How many insertions, deletions and replacements turn one text into the other. Long names are
/// taken as far apart as can be, so that a hostile directory costs nothing.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    if left.len() > 255 || right.len() > 255 || left.len().abs_diff(right.len()) > 8 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::MemoryTree;

    #[test]
    fn misspelled_names_are_recognised() {
        let names = ["main.c", "Makefile", "README.md", "main.h"];
        let tree = MemoryTree::new(
            names
                .iter()
                .map(|name| ((*name).to_owned(), Vec::new()))
                .collect(),
        );
        assert_eq!(suggestions(&tree, Path::new("mian.c")), ["main.c"]);
        assert_eq!(suggestions(&tree, Path::new("makefile")), ["Makefile"]);
        assert_eq!(
            suggestions(&tree, Path::new("main.x")),
            ["main.c", "main.h"]
        );
        assert!(suggestions(&tree, Path::new("nothing")).is_empty());
        assert!(suggestions(&tree, Path::new("main.c/x")).is_empty());
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
