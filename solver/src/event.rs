//! What a build tells those who watch it: the progress display and the build log.

use std::time::Duration;

use strata_cache::Resources;
use strata_parser::Diagnostic;

use crate::explain::Reason;

/// Number of a step in one build. Steps of the plan are numbered in the order in which they are
/// listed to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub usize);

/// A step as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    /// Its number.
    pub id: StepId,
    /// Such as `[build 2/5] RUN make`, `[internal] load debian:12`, `exporting to oci image`.
    pub name: String,
}

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why a step did not have to run, or that it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its result was in the store.
    Cached,
    /// It ran.
    Ran,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step is known. Comes before any other event of that step.
    Step(StepInfo),
    /// It runs now.
    Started(StepId),
    /// Why it runs: only if the request asks for explanations.
    Explained {
        /// Which.
        step: StepId,
        /// Why.
        reason: Reason,
    },
    /// Another build is running the very same step; this one waits for its result.
    Waiting(StepId),
    /// A line of output, without its end of line. Not necessarily UTF-8 on its way here; replaced
    /// where it is not.
    Output {
        /// Whose.
        step: StepId,
        /// Which stream.
        stream: Stream,
        /// The line.
        line: String,
    },
    /// Bytes moved: downloads, unpacking, uploads, exports.
    Transfer {
        /// Whose.
        step: StepId,
        /// What is moved, such as a short digest.
        what: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// What its command used. Comes before it is done or has failed.
    Used {
        /// Which.
        step: StepId,
        /// How much.
        resources: Resources,
    },
    /// It is done.
    Finished {
        /// Which.
        step: StepId,
        /// Hit or ran.
        outcome: Outcome,
        /// Time from `Started`.
        elapsed: Duration,
    },
    /// It failed; the build ends with an error that says more.
    Failed {
        /// Which.
        step: StepId,
        /// One line.
        message: String,
    },
    /// It was stopped because the build was cancelled or another step failed.
    Stopped(StepId),
    /// A finding of the parser or linter.
    Warning(Diagnostic),
    /// Something that people should know once, such as "overlayfs can't be mounted here: …".
    Notice(String),
}

/// Takes events. Called from several threads; must not block for long.
pub trait EventSink: Send + Sync {
    /// One event.
    fn event(&self, event: Event);
}

/// A sink that drops everything.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl EventSink for Silent {
    fn event(&self, _event: Event) {}
}
