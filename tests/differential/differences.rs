//! The reviewed list of differences.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use serde::Deserialize;

use super::{Case, Difference, Engine};

/// Why something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// The peer is older than the rule: today's BuildKit does what strata does.
    Age,
    /// The peer does not follow the reference.
    Peer,
    /// Left open by the reference: either is right.
    Open,
    /// strata differs on purpose, and `docs/dockerfile.md` says so.
    Meant,
}

/// One entry: some differences that have one cause.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    engine: Engine,
    /// Names of cases; `*` stands for any text.
    cases: Vec<String>,
    /// Places; `*` stands for any text.
    places: Vec<String>,
    /// Aspects; all if left out.
    #[serde(default)]
    aspects: Vec<String>,
    /// The value that strata has; any if left out.
    strata: Option<String>,
    /// The value that the peer has; any if left out.
    peer: Option<String>,
    reason: Reason,
    /// What happens.
    why: String,
    /// The rule that decides: a section of Docker's Dockerfile reference or of the image specification, or
    /// `docs/dockerfile.md`.
    rule: String,
}

/// The list, with a note of what was met.
#[derive(Debug)]
pub(crate) struct Differences {
    entries: Vec<Entry>,
    /// Entry, and which of its `cases` and `places` met something.
    used: Mutex<BTreeSet<(usize, String, String)>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    difference: Vec<Entry>,
}

impl Differences {
    /// Reads the list.
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let list: List =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            entries: list.difference,
            used: Mutex::default(),
        }
    }

    /// Fails the test if an entry says too little, or names a case that is not there.
    pub(crate) fn check(&self, cases: &[Case]) {
        for entry in &self.entries {
            assert!(!entry.why.is_empty() && !entry.rule.is_empty(), "{entry:?}");
            assert_ne!(entry.engine, Engine::Strata, "{entry:?}");
            for pattern in &entry.cases {
                let generated = pattern == "generated-*";
                assert!(
                    generated || cases.iter().any(|case| matches(pattern, case.name())),
                    "no case is called `{pattern}`: {}",
                    entry.why
                );
            }
        }
    }

    /// Why this difference is there, if an entry explains it.
    pub(crate) fn explain(&self, difference: &Difference) -> Option<Reason> {
        let mut reason = None;
        let mut used = self.used.lock().unwrap();
        for (number, entry) in self.entries.iter().enumerate() {
            let fits = |wanted: &Option<String>, value: &str| {
                wanted
                    .as_deref()
                    .is_none_or(|wanted| matches(wanted, value))
            };
            let aspect = entry.aspects.is_empty() || entry.aspects.contains(&difference.aspect);
            if difference.engine != Some(entry.engine)
                || !aspect
                || !fits(&entry.strata, &difference.strata)
                || !fits(&entry.peer, &difference.peer)
            {
                continue;
            }
            for case in entry
                .cases
                .iter()
                .filter(|it| matches(it, &difference.case))
            {
                for place in entry
                    .places
                    .iter()
                    .filter(|it| matches(it, &difference.place))
                {
                    used.insert((number, case.clone(), place.clone()));
                    reason = reason.or(Some(entry.reason));
                }
            }
        }
        reason
    }

    /// Entries, or parts of entries, that `cases` should have met and didn't. What is for any case (`*`) is
    /// only judged if they are `all` cases.
    pub(crate) fn unused(&self, cases: &[Case], all: bool) -> Vec<String> {
        let used = self.used.lock().unwrap();
        let mut unused = Vec::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let ran = |pattern: &String| {
                (all || !pattern.contains('*'))
                    && cases.iter().any(|case| matches(pattern, case.name()))
            };
            for case in entry.cases.iter().filter(|case| ran(case)) {
                if !used
                    .iter()
                    .any(|(entry, by, _)| *entry == number && by == case)
                {
                    unused.push(format!("case `{case}` of: {}", entry.why));
                }
            }
            for place in entry.places.iter().filter(|_| entry.cases.iter().all(ran)) {
                if !used
                    .iter()
                    .any(|(entry, _, at)| *entry == number && at == place)
                {
                    unused.push(format!("place `{place}` of: {}", entry.why));
                }
            }
        }
        unused
    }
}

/// Whether `text` is what `pattern` says; `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn a_star_stands_for_any_text() {
    for (pattern, text, expected) in [
        ("copy-*", "copy-x", true),
        ("copy-*", "copy", false),
        ("*", "", true),
        ("/a/*/c", "/a/b/x/c", true),
        ("/a/*/c", "/a/c", false),
        ("history[*]", "history[03]", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*a", "a", false),
        ("a", "ab", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
