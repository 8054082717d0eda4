//! How many files this process may open, and how many its commands may.

use std::borrow::Cow;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::RunSpec;

/// The limit that this process was started with, if it was raised.
static GIVEN: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises this process's limit of open files as far as it may go: a tall stack of layers takes a
/// descriptor for each. Commands in sandboxes keep the limit that this process was started with, as
/// some programs do something for every descriptor that they might have.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // What is not granted is done without.
    if setrlimit(Resource::Nofile, raised).is_ok() {
        let number = |value: Option<u64>| value.unwrap_or(u64::MAX);
        GIVEN.get_or_init(|| (number(limit.current), number(limit.maximum)));
    }
}

/// `spec` with the limit that its command would have had without [`raise_open_files`].
pub(super) fn with_given(spec: &RunSpec) -> Cow<'_, RunSpec> {
    let Some(given) = GIVEN.get() else {
        return Cow::Borrowed(spec);
    };
    let mut spec = Cow::Borrowed(spec);
    if !spec.ulimits.contains_key("nofile") {
        spec.to_mut().ulimits.insert("nofile".to_owned(), *given);
    }
    spec
}
