//! Builds a case with every engine and says what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;

use super::engines::Outcome;
use super::{Case, Engine, Engines, config, tree};
use crate::support::Image;

/// What is known of a built image: for each place (a path, or a part of the configuration), aspects and
/// their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts(BTreeMap<String, BTreeMap<&'static str, String>>);

impl Facts {
    /// Everything about an image.
    pub(crate) fn of(image: &Image, times: &[String]) -> Self {
        let mut facts = Self::default();
        tree::describe(&image.tree(), times, &mut facts);
        config::describe(image, &mut facts);
        facts
    }

    pub(crate) fn add(&mut self, place: &str, aspect: &'static str, value: String) {
        let aspects = self.0.entry(place.to_owned()).or_default();
        aspects.insert(aspect, value);
    }

    /// One line for a place.
    pub(crate) fn line(&self, place: &str) -> Option<String> {
        let aspects = self.0.get(place)?;
        let values = aspects
            .iter()
            .map(|(aspect, value)| format!("{aspect} {}", value.replace('\n', "\\n")));
        Some(values.collect::<Vec<_>>().join(", "))
    }

    /// A line for each place that is not the same in `below`, and for each that is not there any more.
    fn lines_above(&self, below: &Self) -> String {
        let mut text = String::new();
        let places = self.0.keys().chain(below.0.keys());
        let mut places: Vec<&String> = places.collect();
        places.sort();
        places.dedup();
        // What the machine is says nothing about the case.
        for place in places
            .into_iter()
            .filter(|place| !place.starts_with("image.arch"))
        {
            if self.0.get(place) != below.0.get(place) {
                let line = self.line(place).unwrap_or_else(|| "gone".to_owned());
                text.push_str(&format!("{place}: {line}\n"));
            }
        }
        text
    }
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    /// The name of the case.
    pub(crate) case: String,
    /// Whose result strata's differs from; none if it differs from the case's `expected`.
    pub(crate) engine: Option<Engine>,
    /// An absolute path, a part of the configuration (`config.Env`, `history[03]`, `layers`), or `build`.
    pub(crate) place: String,
    /// What about it: `type`, `mode`, `owner`, `content`, `target`, `xattrs`, `names` or `mtime` of a path,
    /// `text` and `layer` of a history entry, `value`, `result`; `whole` where the place is on one side only.
    pub(crate) aspect: String,
    pub(crate) strata: String,
    pub(crate) peer: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = self.engine.map_or("expected", Engine::name);
        write!(
            to,
            "{} {} {}: strata {}; {engine} {}",
            self.case, self.place, self.aspect, self.strata, self.peer
        )
    }
}

/// What a comparison found.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// All that differs, explained or not.
    pub(crate) differences: Vec<Difference>,
    /// What strata says, if it can't build the case.
    pub(crate) refused: Option<String>,
}

/// Builds `case` with strata and with those of `peers` that are able.
pub(crate) fn compare(case: &Case, engines: &Engines, peers: &[Engine]) -> Comparison {
    let ours = engines.build(Engine::Strata, case);
    let mut differences = Vec::new();
    against_expected(case, &ours, engines, &mut differences);
    for engine in peers.iter().copied() {
        if case.peculiar(engine).unable.is_none() {
            let theirs = engines.build(engine, case);
            between(case, engine, &ours, &theirs, &mut differences);
        }
    }
    Comparison {
        differences,
        refused: match &ours {
            Outcome::Built(_) => None,
            Outcome::Failed { said, .. } => Some(tail(said)),
        },
    }
}

/// Holds strata's result against what the case itself says.
fn against_expected(
    case: &Case,
    ours: &Outcome,
    engines: &Engines,
    differences: &mut Vec<Difference>,
) {
    let mut add = |place: &str, aspect: &str, strata: &str, peer: &str| {
        differences.push(Difference {
            case: case.name().to_owned(),
            engine: None,
            place: place.to_owned(),
            aspect: aspect.to_owned(),
            strata: strata.to_owned(),
            peer: peer.to_owned(),
        });
    };
    match ours {
        Outcome::Failed { said, code } => {
            if !case.settings.fails {
                add(
                    "build",
                    "result",
                    &format!("fails: {}", tail(said)),
                    "builds",
                );
            }
            // 1: the build; 2: the Dockerfile or the flags; 3: the store. Others are no answer.
            if !matches!(code, Some(1..=3)) {
                add(
                    "build",
                    "code",
                    &format!("{code:?}: {}", tail(said)),
                    "1, 2 or 3",
                );
            }
            if let Some(message) = &case.settings.message
                && !said.contains(message)
            {
                add("build", "message", &tail(said), message);
            }
        }
        Outcome::Built(facts) => {
            if case.settings.fails {
                add("build", "result", "builds", "fails");
            }
            let path = case.expected();
            let nothing = Facts::default();
            let on_base = facts.0.contains_key("/bin/busybox");
            let text = facts.lines_above(if on_base { engines.base() } else { &nothing });
            if std::env::var_os("STRATA_DIFFERENTIAL_BLESS").is_some() && path.exists() {
                fs::write(&path, &text).unwrap();
            }
            if let Ok(expected) = fs::read_to_string(&path) {
                for line in text
                    .lines()
                    .filter(|line| !expected.lines().any(|it| it == *line))
                {
                    add("expected", "line", line, "has no such line");
                }
                for line in expected
                    .lines()
                    .filter(|line| !text.lines().any(|it| it == *line))
                {
                    add("expected", "line", "has no such line", line);
                }
            }
        }
    }
}

/// What differs between strata's result and a peer's.
fn between(
    case: &Case,
    engine: Engine,
    ours: &Outcome,
    theirs: &Outcome,
    differences: &mut Vec<Difference>,
) {
    let mut add = |place: &str, aspect: &str, strata: &str, peer: &str| {
        differences.push(Difference {
            case: case.name().to_owned(),
            engine: Some(engine),
            place: place.to_owned(),
            aspect: aspect.to_owned(),
            strata: strata.to_owned(),
            peer: peer.to_owned(),
        });
    };
    let (ours, theirs) = match (ours, theirs) {
        (Outcome::Failed { .. }, Outcome::Failed { .. }) => return,
        (Outcome::Failed { said, .. }, Outcome::Built(_)) => {
            return add(
                "build",
                "result",
                &format!("fails: {}", tail(said)),
                "builds",
            );
        }
        (Outcome::Built(_), Outcome::Failed { said, .. }) => {
            return add(
                "build",
                "result",
                "builds",
                &format!("fails: {}", tail(said)),
            );
        }
        (Outcome::Built(ours), Outcome::Built(theirs)) => (ours, theirs),
    };
    let mut places: Vec<&String> = ours.0.keys().chain(theirs.0.keys()).collect();
    places.sort();
    places.dedup();
    for place in places {
        // buildah's history has texts of its own, and entries where Docker has none. Its variables come
        // in any order.
        if engine == Engine::Buildah && place.starts_with("history[") {
            continue;
        }
        match (ours.0.get(place), theirs.0.get(place)) {
            (Some(one), Some(other)) => {
                let mut aspects: Vec<_> = one.keys().chain(other.keys()).collect();
                aspects.sort();
                aspects.dedup();
                for aspect in aspects {
                    let none = "none".to_owned();
                    let (one, other) = (one.get(aspect), other.get(aspect));
                    let same = match (one, other) {
                        (Some(one), Some(other)) if place == "config.Env" => {
                            one == other || engine == Engine::Buildah && same_set(one, other)
                        }
                        (one, other) => one == other,
                    };
                    if !same {
                        add(place, aspect, one.unwrap_or(&none), other.unwrap_or(&none));
                    }
                }
            }
            (one, _) => {
                let here = if one.is_some() { ours } else { theirs };
                let line = here.line(place).unwrap_or_default();
                if one.is_some() {
                    add(place, "whole", &line, "absent");
                } else {
                    add(place, "whole", "absent", &line);
                }
            }
        }
    }
}

/// Whether two JSON lists have the same members.
fn same_set(one: &str, other: &str) -> bool {
    let set = |text| serde_json::from_str::<BTreeSet<String>>(text).ok();
    set(one).is_some() && set(one) == set(other)
}

/// The last lines of what a build said.
fn tail(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}
