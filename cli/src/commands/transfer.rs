//! Progress of commands that move images: one step, shown like a build's.

use std::time::Instant;

use strata_image::Progress as ImageProgress;
use strata_solver::event::Event;
use strata_solver::event::EventSink;
use strata_solver::event::Outcome;
use strata_solver::event::StepId;
use strata_solver::event::StepInfo;

use crate::error::CommandError;
use crate::progress::Mode;
use crate::progress::Progress;

/// Tells a display how far a transfer is.
struct Bytes<'a> {
    progress: &'a Progress,
    step: StepId,
}

impl ImageProgress for Bytes<'_> {
    fn update(&self, what: &str, done: u64, total: Option<u64>) {
        self.progress.event(Event::Transfer {
            step: self.step,
            what: what.to_owned(),
            done,
            total,
        });
    }
}

/// The display of a command's transfers.
#[derive(Debug)]
pub(super) struct Transfers {
    progress: Progress,
    next: usize,
}

impl Transfers {
    /// Starts the display; a quiet one shows only errors.
    pub(super) fn start(quiet: bool) -> Self {
        let mode = if quiet { Mode::Quiet } else { Mode::Auto };
        Self {
            progress: Progress::start(mode),
            next: 0,
        }
    }

    /// Shows `work` as a step called `name`.
    pub(super) fn step<T>(
        &mut self,
        name: String,
        work: impl FnOnce(&dyn ImageProgress) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let step = StepId(self.next);
        self.next += 1;
        self.progress
            .event(Event::Step(StepInfo { id: step, name }));
        self.progress.event(Event::Started(step));
        let start = Instant::now();
        let result = work(&Bytes {
            progress: &self.progress,
            step,
        });
        self.progress.event(match &result {
            Ok(_) => Event::Finished {
                step,
                outcome: Outcome::Ran,
                elapsed: start.elapsed(),
            },
            Err(error) => Event::Failed {
                step,
                message: error.message(),
            },
        });
        result
    }

    /// Tells something besides.
    pub(super) fn notice(&self, text: String) {
        self.progress.event(Event::Notice(text));
    }

    /// Ends the display.
    pub(super) fn close(&self) {
        self.progress.close();
    }
}
