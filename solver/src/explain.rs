//! Why a step missed: the first input that differs from the nearest earlier record, by name.

use std::collections::HashMap;

use strata_cache::index::Index;
use strata_cache::{CacheKey, KeyPart, NewRecord, StoreError};

/// How many earlier records are looked at for the nearest.
const MOST_COMPARED: usize = 16;

/// Why a step that is about to run was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// One line for people.
    pub text: String,
    /// Every difference: name of the part, earlier value, value now. Empty where there is nothing to
    /// compare with.
    pub differences: Vec<Difference>,
    /// The record that was compared with.
    pub nearest: Option<CacheKey>,
}

/// One part of a key that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which part, such as `variable VERSION` or `file src/main.rs`.
    pub name: String,
    /// What it was; none if it was not there.
    pub before: Option<String>,
    /// What it is; none if it is gone.
    pub now: Option<String>,
}

/// Explains why `record`, which is about to be made, was not found.
///
/// `refusal`: there may be a record, but it must not be taken, and this is why.
pub fn miss(
    index: &Index,
    record: &NewRecord,
    refusal: Option<String>,
) -> Result<Reason, StoreError> {
    let plain = |text: &str| Reason {
        text: text.to_owned(),
        differences: Vec::new(),
        nearest: None,
    };
    if let Some(refusal) = refusal {
        return Ok(plain(&refusal));
    }
    if index.record(record.key)?.is_some() {
        return Ok(Reason {
            nearest: Some(record.key),
            ..plain("a step below it was run again and left something else")
        });
    }
    if let Some((at, why)) = index.pruned(record.key)? {
        let age = crate::step::now_ms().saturating_sub(at) / 1_000;
        return Ok(plain(&format!("pruned {} ago by {why}", span(age))));
    }
    nearest(index, record.key, &record.text, record.kind, &record.parts)
}

/// A time span by its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Explains a record that is there: how it differs from the one before it.
pub fn record(index: &Index, key: CacheKey) -> Result<Option<Reason>, StoreError> {
    let Some(record) = index.record(key)? else {
        return Ok(None);
    };
    let parts = index.parts(key)?;
    nearest(index, key, &record.text, record.kind, &parts).map(Some)
}

fn nearest(
    index: &Index,
    key: CacheKey,
    text: &str,
    kind: strata_cache::StepKind,
    parts: &[KeyPart],
) -> Result<Reason, StoreError> {
    let mut best: Option<(CacheKey, Vec<Difference>)> = None;
    for earlier in index.records_like(kind, text, MOST_COMPARED)? {
        if earlier.key == key {
            continue;
        }
        let found = differences(&index.parts(earlier.key)?, parts);
        if best
            .as_ref()
            .is_none_or(|(_, least)| found.len() < least.len())
        {
            best = Some((earlier.key, found));
        }
    }
    Ok(match best {
        None => Reason {
            text: "never built on this store".to_owned(),
            differences: Vec::new(),
            nearest: None,
        },
        Some((nearest, differences)) => Reason {
            text: sentence(&differences),
            differences,
            nearest: Some(nearest),
        },
    })
}

/// What differs between two lists of parts, in the order of the newer one, with what is gone last.
/// Parts with the same name (the words of a command) are compared in their order.
fn differences(before: &[KeyPart], now: &[KeyPart]) -> Vec<Difference> {
    let mut old: HashMap<&str, Vec<&str>> = HashMap::new();
    for part in before.iter().rev() {
        old.entry(&part.name).or_default().push(&part.value);
    }
    let mut found = Vec::new();
    for part in now {
        match old.get_mut(part.name.as_str()).and_then(Vec::pop) {
            Some(value) if value == part.value => {}
            before => found.push(Difference {
                name: part.name.clone(),
                before: before.map(str::to_owned),
                now: Some(part.value.clone()),
            }),
        }
    }
    for part in before {
        if let Some(values) = old.get_mut(part.name.as_str())
            && values.pop().is_some()
        {
            found.push(Difference {
                name: part.name.clone(),
                before: Some(part.value.clone()),
                now: None,
            });
        }
    }
    // The digest of a selection differs whenever one of its files does: the files say more.
    if found.iter().any(|one| one.name.starts_with("file ")) {
        found.retain(|one| one.name != "files");
    }
    found
}

fn sentence(differences: &[Difference]) -> String {
    let Some(first) = differences.first() else {
        return "the same step was built on other layers".to_owned();
    };
    let text = match first.name.split_once(' ') {
        Some(("file", path)) => match (&first.before, &first.now) {
            (None, _) => format!("`{path}` is new"),
            (_, None) => format!("`{path}` is gone"),
            _ => format!("`{path}` changed"),
        },
        Some(("variable", name)) => {
            format!("variable `{name}` {}", change(first))
        }
        Some(("base", name)) if first.before.is_some() => format!("base `{name}` moved"),
        Some(("base", name)) => format!("the base is now `{name}`"),
        Some(("step", text)) if first.before.is_some() => {
            format!("the step below, `{text}`, changed")
        }
        Some(("step", text)) => format!("the step below is now `{text}`"),
        _ => format!("{} {}", first.name, change(first)),
    };
    match differences.len() {
        1 => text,
        count => format!("{text} (and {} more)", count - 1),
    }
}

fn change(difference: &Difference) -> String {
    match (&difference.before, &difference.now) {
        (Some(before), Some(now)) => format!("{} -> {}", short(before), short(now)),
        (None, Some(now)) => format!("is new: {}", short(now)),
        (_, None) => "is gone".to_owned(),
    }
}

/// A value on one line, cut where it is long.
fn short(value: &str) -> String {
    const LONGEST: usize = 60;
    let value = value.replace('\n', " ");
    if value.chars().count() <= LONGEST {
        return if value.is_empty() {
            "(empty)".to_owned()
        } else {
            value
        };
    }
    let start: String = value.chars().take(LONGEST).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[(&str, &str)]) -> Vec<KeyPart> {
        parts
            .iter()
            .map(|(name, value)| KeyPart {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect()
    }

    fn explained(before: &[(&str, &str)], now: &[(&str, &str)]) -> String {
        sentence(&differences(&parts(before), &parts(now)))
    }

    #[test]
    fn the_first_difference_is_named() {
        for (before, now, expected) in [
            (
                &[
                    ("files", "a"),
                    ("file a.c", "1"),
                    ("file b.c", "1"),
                    ("file c.c", "1"),
                ][..],
                &[
                    ("files", "b"),
                    ("file a.c", "2"),
                    ("file b.c", "1"),
                    ("file d.c", "1"),
                ][..],
                "`a.c` changed (and 2 more)",
            ),
            (
                &[("variable V", "1.2")],
                &[("variable V", "1.3")],
                "variable `V` 1.2 -> 1.3",
            ),
            (&[], &[("variable V", "1")], "variable `V` is new: 1"),
            (
                &[("base debian:12", "x")],
                &[("base debian:12", "y")],
                "base `debian:12` moved",
            ),
            (
                &[("command", "sh"), ("command", "a")],
                &[("command", "sh"), ("command", "b")],
                "command a -> b",
            ),
            (
                &[("step RUN a", "x")],
                &[("step RUN a", "y")],
                "the step below, `RUN a`, changed",
            ),
            (&[("user", "")], &[("user", "app")], "user (empty) -> app"),
            (&[("file x", "1")], &[], "`x` is gone"),
        ] {
            assert_eq!(explained(before, now), expected);
        }
    }
}
