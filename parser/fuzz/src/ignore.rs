//! Ignore files, beside a simple model of them.
//!
//! The input is text: the ignore file, an empty line, and paths, one on each line.

use strata_parser::ignore::IgnoreFile;
use strata_parser::ignore::ParentMatch;
use strata_parser::pattern::Pattern;
use strata_parser::pattern::clean;

/// The model tries everything; longer texts would take it too long.
const LONGEST: usize = 40;
const MOST: usize = 12;

/// Reads an ignore file, asks it for every path and checks what holds for any.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (rules, paths) = text.split_once("\n\n").unwrap_or((text, ""));
    let parsed = IgnoreFile::parse(rules);
    let file = match parsed {
        Ok(file) => file,
        Err(error) => {
            assert!(rules.get(error.span.start..error.span.end).is_some());
            assert!(error.line <= rules.split('\n').count());
            return;
        }
    };
    let model = model(rules);
    for path in paths.lines().take(MOST) {
        let path = path.trim_matches('/');
        if path.is_empty() || clean(path) != path || path.starts_with("..") {
            continue;
        }
        let ignored = file.is_ignored(path);
        if let Some(model) = &model
            && path.len() <= LONGEST
        {
            assert_eq!(ignored, model_ignores(model, path), "`{path}` by {model:?}");
        }
        check_walk(&file, path, ignored);
    }
}

/// A walker must come to the same answer, whatever it leaves out.
fn check_walk(file: &IgnoreFile, path: &str, ignored: bool) {
    let mut parent = ParentMatch::default();
    for (slash, _) in path.match_indices('/') {
        let directory = &path[..slash];
        let (left_out, next) = file.step(directory, &parent);
        if left_out && !file.may_reinclude_below(directory) {
            assert!(ignored, "`{path}` is taken back below `{directory}`");
        }
        parent = next;
    }
    assert_eq!(file.step(path, &parent).0, ignored);
}

/// The rules as the model has them: whether one takes back, and its cleaned pattern. None if the
/// model would take too long.
fn model(text: &str) -> Option<Vec<(bool, Vec<char>)>> {
    let mut rules = Vec::new();
    for line in text.trim_start_matches('\u{feff}').split('\n') {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let line = line.trim();
        let (negated, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        let cleaned = clean(pattern);
        let cleaned = match cleaned.strip_prefix('/') {
            Some("") | None => cleaned.as_str(),
            Some(rest) => rest,
        };
        // Cleaned again without its slash, as a pattern by itself is.
        let cleaned = clean(cleaned);
        if cleaned.len() > LONGEST || cleaned.matches('*').count() > 6 || rules.len() >= MOST {
            return None;
        }
        assert!(Pattern::new(&cleaned).is_ok(), "{cleaned}");
        rules.push((negated, cleaned.chars().collect()));
    }
    Some(rules)
}

/// The last rule that applies decides; one that couldn't change the answer isn't tried, and isn't
/// remembered for what lies below.
fn model_ignores(rules: &[(bool, Vec<char>)], path: &str) -> bool {
    let mut applied = vec![false; rules.len()];
    let mut ignored = false;
    let names: Vec<&str> = path.split('/').collect();
    for depth in 1..=names.len() {
        let path: Vec<char> = names[..depth].join("/").chars().collect();
        ignored = false;
        for (index, (negated, pattern)) in rules.iter().enumerate() {
            applied[index] |= *negated == ignored && model_matches(pattern, &path);
            if applied[index] {
                ignored = !negated;
            }
        }
    }
    ignored
}

fn model_matches(pattern: &[char], path: &[char]) -> bool {
    let plain = |text: &[char]| {
        !text
            .iter()
            .any(|c| matches!(c, '*' | '?' | '[' | '\\' | ']'))
    };
    // `**name` means any ending, if nothing else in it is special; not just one after a slash.
    if let ['*', '*', rest @ ..] = pattern
        && plain(rest)
    {
        return path.ends_with(rest) || rest.strip_prefix(&['/']) == Some(path);
    }
    matches(pattern, path)
}

/// Whether all of `path` matches all of `pattern`, by trying.
fn matches(pattern: &[char], path: &[char]) -> bool {
    let one = |rest: &[char], taken: bool| taken && matches(rest, &path[1..]);
    match pattern {
        [] => path.is_empty(),
        ['*', '*'] | ['*', '*', '/'] => true,
        ['*', '*', rest @ ..] => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            let after_slash = |at: usize| at > 0 && path[at - 1] == '/';
            (0..=path.len()).any(|at| (at == 0 || after_slash(at)) && matches(rest, &path[at..]))
        }
        ['*', rest @ ..] => {
            let stop = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=stop).any(|at| matches(rest, &path[at..]))
        }
        ['?', rest @ ..] => one(rest, path.first().is_some_and(|c| *c != '/')),
        ['\\', literal, rest @ ..] => one(rest, path.first() == Some(literal)),
        ['[', class @ ..] => {
            let (negated, mut class) = match class {
                ['^', class @ ..] => (true, class),
                class => (false, class),
            };
            let Some(next) = path.first() else {
                return false;
            };
            let mut inside = false;
            let mut first = true;
            loop {
                if let [']', rest @ ..] = class
                    && !first
                {
                    return one(rest, inside != negated);
                }
                first = false;
                let low;
                (low, class) = bound(class);
                let mut high = low;
                if let ['-', after @ ..] = class {
                    (high, class) = bound(after);
                }
                inside |= (low..=high).contains(next);
            }
        }
        [literal, rest @ ..] => one(rest, path.first() == Some(literal)),
    }
}

/// One end of a range of a class. The pattern was found well formed.
fn bound(class: &[char]) -> (char, &[char]) {
    match class {
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal, rest),
        [] => panic!("the class is not closed"),
    }
}
