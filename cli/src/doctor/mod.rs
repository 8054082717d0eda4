//! What this host offers for builds: each thing tried or looked at, what came of it, what follows
//! from that, and how to get more.
//!
//! Where that is possible a thing is tried as a build would do it (a user namespace, an overlay, a
//! sandbox), as no list of versions and settings tells as surely whether it works. Nothing is left
//! behind, and the store isn't made if it isn't there.

mod host;
mod limits;
mod sandbox;
mod store;
mod tools;

use std::path::Path;

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// All that builds could want.
    Ok,
    /// Builds work, but some can't have what they ask for, or are slower.
    Limited,
    /// No RUN step works, or none at all.
    Missing,
}

impl State {
    /// The word for people and programs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Check {
    /// What it is about, in one word.
    pub(crate) name: &'static str,
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What follows from it, if it isn't all that builds could want.
    pub(crate) consequence: Option<String>,
    /// How to get more.
    pub(crate) advice: Option<String>,
}

impl Check {
    /// All is well.
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            found: found.into(),
            consequence: None,
            advice: None,
        }
    }

    /// Something is wanting.
    fn wanting(
        name: &'static str,
        state: State,
        found: impl Into<String>,
        consequence: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            state,
            found: found.into(),
            consequence: Some(consequence.into()),
            advice: Some(advice.into()),
        }
    }
}

/// Looks at everything. Must be called while the process has one thread, since it enters a user
/// namespace if a build would.
pub(crate) fn examine(root: &Path) -> Vec<Check> {
    // What is seen differently from inside a user namespace comes first.
    let mut checks = vec![host::kernel(), host::clock()];
    let limits = limits::limits();
    let tools = [tools::git(), tools::ssh_agent()];
    let emulators = host::emulators();
    let (rights, may_run) = sandbox::rights();
    checks.push(rights);
    if may_run {
        let place = store::place(root);
        checks.push(sandbox::overlay(place.as_deref()));
        checks.push(sandbox::sandbox(place.as_deref()));
        checks.push(sandbox::network(place.as_deref()));
    }
    checks.push(limits);
    checks.extend(store::store(root));
    checks.push(emulators);
    checks.extend(tools);
    checks
}

/// The worst of all states.
pub(crate) fn verdict(checks: &[Check]) -> State {
    checks
        .iter()
        .map(|check| check.state)
        .max()
        .unwrap_or(State::Ok)
}
