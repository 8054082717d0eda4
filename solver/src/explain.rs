//! Why a step missed: the first input that differs from the nearest earlier record, by name.

mod sentence;

use std::collections::HashMap;

use strata_cache::index::Index;
use strata_cache::{CacheKey, KeyPart, NewRecord, StoreError};

use sentence::{Part, sentence};

pub use sentence::short;

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

/// What differs between two lists of parts, the most telling first: what belongs to the step itself, in
/// the order of the newer list, then what it reads from elsewhere, then what it stands on.
///
/// Parts with the same name (the words of a command) are compared in their order.
fn differences<'a>(before: &'a [KeyPart], now: &'a [KeyPart]) -> Vec<Difference> {
    let place = |part: &'a KeyPart| Part::of(&part.name).compared();
    let mut old: HashMap<Part<'a>, Vec<&'a str>> = HashMap::new();
    for part in before.iter().rev() {
        old.entry(place(part)).or_default().push(&part.value);
    }
    let mut found = Vec::new();
    for part in now {
        match old.get_mut(&place(part)).and_then(Vec::pop) {
            Some(value) if value == part.value => {}
            before => found.push(Difference {
                name: part.name.clone(),
                before: before.map(str::to_owned),
                now: Some(part.value.clone()),
            }),
        }
    }
    for part in before {
        if let Some(values) = old.get_mut(&place(part))
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
    join_roots(&mut found);
    found.sort_by_key(|one| Part::of(&one.name).rank());
    found
}

/// Where one step or base took the place of another, that is one difference.
fn join_roots(found: &mut Vec<Difference>) {
    let mut index = 0;
    while index < found.len() {
        let new = &found[index];
        let place = Part::of(&new.name).root_place();
        let gone = place.filter(|_| new.before.is_none()).and_then(|place| {
            found.iter().position(|other| {
                other.now.is_none() && Part::of(&other.name).root_place() == Some(place)
            })
        });
        if let Some(gone) = gone {
            let before = found[gone].name.clone();
            found[index].before = Some(before);
            found.remove(gone);
            if gone < index {
                continue;
            }
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use strata_cache::{Digest, StackId, StepKind, Store};

    use super::*;
    use crate::key::Encoder;

    fn record(key: &str, parts: Vec<KeyPart>) -> NewRecord {
        NewRecord {
            key: CacheKey(Digest::of(key.as_bytes())),
            parent: None,
            stack: StackId::empty(),
            inputs: Vec::new(),
            selection: None,
            operation: Digest::of(b"operation"),
            content: CacheKey(Digest::of(b"content")),
            kind: StepKind::Run,
            text: "RUN a".to_owned(),
            parts,
            cost_ms: 1,
            resources: None,
            made_ms: None,
        }
    }

    #[test]
    fn a_record_of_an_older_key_format_is_a_miss_that_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let lease = store.lease("test").unwrap();
        let command = || KeyPart {
            name: "command".to_owned(),
            value: "a".to_owned(),
        };
        let explained = |now: &NewRecord| miss(store.index(), now, None).unwrap().text;
        let (_, mut parts) = Encoder::new("run").finish();
        parts.push(command());
        let now = record("new", parts);
        assert_eq!(explained(&now), "never built on this store");
        let scratch = store.scratch(&[]).unwrap();
        let old = record("old", vec![command()]);
        scratch.commit(&lease, None, Some(old)).unwrap();
        assert_eq!(
            explained(&now),
            "it was made by an older strata, which had other keys"
        );
    }
}
