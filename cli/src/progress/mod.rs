//! What people see of a build while it runs.
//!
//! [`Progress`] takes the solver's events from any thread. It remembers what the end of the build
//! has to tell (the last lines of each step, warnings, which step failed) and passes the events on
//! to one [`Display`]: [`tty`] draws a screen, [`plain`] and [`json`] write lines, quiet shows
//! nothing. Everything goes to standard error; standard output is for results.
//!
//! A display must not slow the build. The screen is a picture of a model that events change in
//! passing; it is drawn ten times a second, however many lines come. The line writers queue bytes
//! for a thread of their own ([`outlet`]) and lose none: only when a whole queue is full does a
//! step wait for whoever reads standard error.

pub(crate) mod json;
mod outlet;
pub(crate) mod plain;
pub(crate) mod resources;
pub(crate) mod summary;
pub(crate) mod text;
pub(crate) mod tty;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use strata_cache::Resources;
use strata_parser::Diagnostic;
use strata_solver::event::Event;
use strata_solver::event::EventSink;
use strata_solver::event::StepId;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A screen if standard error is a terminal, lines otherwise.
    #[default]
    Auto,
    /// Lines, each with the number of its step.
    Plain,
    /// A screen with a line for each running step.
    Tty,
    /// Nothing but errors.
    Quiet,
    /// One JSON object a line.
    #[value(alias = "rawjson")]
    Json,
}

impl Mode {
    /// What `Auto` comes to on this terminal.
    fn settled(self) -> Self {
        match self {
            Self::Auto if crate::terminal::can_redraw() => Self::Tty,
            Self::Auto => Self::Plain,
            mode => mode,
        }
    }
}

/// One way to show events.
trait Display: Send + Sync {
    /// One event, `at` the time since the start of the build.
    fn event(&self, at: Duration, event: &Event);

    /// Shows what is still to be shown, and stops. Nothing comes after it.
    fn close(&self);
}

/// Shows nothing.
#[derive(Debug)]
struct Nothing;

impl Display for Nothing {
    fn event(&self, _at: Duration, _event: &Event) {}

    fn close(&self) {}
}

/// How many lines of a step are repeated when it fails.
const TAIL_LINES: usize = 20;

/// Longer lines are cut in a tail. The whole line was shown when it came.
const TAIL_BYTES: usize = 2000;

/// What a build said, kept for its end.
#[derive(Debug, Default)]
struct Record {
    names: BTreeMap<StepId, String>,
    tails: BTreeMap<StepId, VecDeque<String>>,
    failed: Option<StepId>,
    warnings: Vec<Diagnostic>,
    notices: Vec<String>,
    used: BTreeMap<StepId, Resources>,
}

/// The last words of a step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedStep {
    /// Its name: `[build 2/5] RUN make`.
    pub(crate) name: String,
    /// Its last lines of output.
    pub(crate) tail: Vec<String>,
}

/// Takes a build's events; see the [module](self).
pub(crate) struct Progress {
    start: Instant,
    mode: Mode,
    record: Mutex<Record>,
    display: Box<dyn Display>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Progress")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Starts to show progress in `mode`.
    pub(crate) fn start(mode: Mode) -> Self {
        let mode = mode.settled();
        let display: Box<dyn Display> = match mode {
            Mode::Tty => Box::new(tty::Screen::start()),
            Mode::Plain | Mode::Auto => Box::new(outlet::Lines::start(plain::Plain::default())),
            Mode::Json => Box::new(outlet::Lines::start(json::Json)),
            Mode::Quiet => Box::new(Nothing),
        };
        Self {
            start: Instant::now(),
            mode,
            record: Mutex::default(),
            display,
        }
    }

    /// The mode, never `Auto`.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the display: after it, standard error is free for the summary or the error.
    pub(crate) fn close(&self) {
        self.display.close();
    }

    /// The step that failed, if any.
    pub(crate) fn failed_step(&self) -> Option<FailedStep> {
        let record = self.record();
        let failed = record.failed?;
        Some(FailedStep {
            name: record.names.get(&failed).cloned().unwrap_or_default(),
            tail: record
                .tails
                .get(&failed)
                .map(|tail| {
                    tail.iter()
                        .map(|line| shortened(&text::last_segment(line)))
                        .collect()
                })
                .unwrap_or_default(),
        })
    }

    /// What each step that ran a command used, with its name.
    pub(crate) fn used(&self) -> Vec<(String, Resources)> {
        let record = self.record();
        let used = record.used.iter();
        used.map(|(step, resources)| {
            let name = record.names.get(step).cloned().unwrap_or_default();
            (name, *resources)
        })
        .collect()
    }

    /// Findings, in the order in which they came.
    pub(crate) fn warnings(&self) -> Vec<Diagnostic> {
        self.record().warnings.clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // A thread that panicked left at most one line out.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Progress {
    fn event(&self, event: Event) {
        if let Event::Notice(notice) = &event {
            let mut record = self.record();
            if record.notices.contains(notice) {
                return;
            }
            record.notices.push(notice.clone());
        }
        self.display.event(self.start.elapsed(), &event);
        let mut record = self.record();
        match event {
            Event::Step(info) => {
                record.names.insert(info.id, info.name);
            }
            Event::Output { step, line, .. } => {
                let tail = record.tails.entry(step).or_default();
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                // Most lines are never seen again: they are made printable when they are.
                tail.push_back(line);
            }
            Event::Used { step, resources } => {
                record.used.insert(step, resources);
            }
            Event::Finished { step, .. } | Event::Stopped(step) => {
                record.tails.remove(&step);
            }
            Event::Failed { step, .. } => {
                // The first failure is the one that stopped the build.
                record.failed.get_or_insert(step);
            }
            Event::Warning(diagnostic) => record.warnings.push(diagnostic),
            Event::Started(_)
            | Event::Explained { .. }
            | Event::Waiting(_)
            | Event::Transfer { .. }
            | Event::Notice(_) => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.display.close();
    }
}

fn shortened(line: &str) -> String {
    if line.len() <= TAIL_BYTES {
        return line.to_owned();
    }
    let end = (0..=TAIL_BYTES)
        .rev()
        .find(|end| line.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}…", &line[..end])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use strata_solver::event::StepInfo;
    use strata_solver::event::Stream;

    pub(crate) fn step(id: usize, name: &str) -> Event {
        Event::Step(StepInfo {
            id: StepId(id),
            name: name.into(),
        })
    }

    pub(crate) fn line(id: usize, line: &str) -> Event {
        Event::Output {
            step: StepId(id),
            stream: Stream::Stdout,
            line: line.into(),
        }
    }

    #[test]
    fn a_failed_step_keeps_its_last_twenty_lines() {
        let progress = Progress::start(Mode::Quiet);
        progress.event(step(0, "RUN a"));
        progress.event(step(1, "RUN b"));
        for number in 0..30 {
            progress.event(line(0, &format!("a{number}")));
            progress.event(line(1, &format!("b{number}")));
        }
        for id in [1, 0] {
            progress.event(Event::Failed {
                step: StepId(id),
                message: "exit code 1".into(),
            });
        }
        let failed = progress.failed_step().unwrap();
        assert_eq!(failed.name, "RUN b");
        assert_eq!(failed.tail.len(), TAIL_LINES);
        assert_eq!(failed.tail.first().map(String::as_str), Some("b10"));
        assert_eq!(failed.tail.last().map(String::as_str), Some("b29"));
    }

    #[test]
    fn a_notice_is_kept_once() {
        let progress = Progress::start(Mode::Quiet);
        for _ in 0..3 {
            progress.event(Event::Notice("no overlay".into()));
        }
        assert_eq!(progress.record().notices, ["no overlay"]);
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let cut = shortened(&"é".repeat(TAIL_BYTES));
        assert_eq!(cut.chars().count(), TAIL_BYTES / 2 + 1);
    }
}
