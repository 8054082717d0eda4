//! Progress as lines, for logs of continuous integration and for pipes.
//!
//! The form is that of `BuildKit`'s plain progress, which log viewers know:
//!
//! ```text
//! #3 [build 2/5] RUN make
//! #3 0.412 cc -o x x.c
//! #3 DONE 1.2s
//!
//! #4 [build 3/5] COPY . .
//! #4 CACHED
//! ```
//!
//! Lines of steps that run side by side are mixed; the number says whose a line is.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use strata_solver::event::Event;
use strata_solver::event::Outcome;
use strata_solver::event::StepId;

use super::outlet::Render;
use super::text;
use crate::human;

/// A transfer is mentioned this often, and when it ends.
const TRANSFER_INTERVAL: Duration = Duration::from_secs(3);

/// The text form of a build.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    steps: BTreeMap<StepId, Step>,
    any: bool,
}

#[derive(Debug, Default)]
struct Step {
    name: String,
    introduced: bool,
    started: Duration,
    transfers: BTreeMap<String, Transfer>,
}

#[derive(Debug)]
struct Transfer {
    begun: Duration,
    mentioned: Option<Duration>,
    done: bool,
}

impl Render for Plain {
    fn render(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>) {
        self.write(at, event, out)
            .expect("writing to a Vec can't fail");
    }
}

impl Plain {
    fn write(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>) -> std::io::Result<()> {
        match event {
            Event::Step(info) => {
                self.steps.entry(info.id).or_default().name = text::printable(&info.name).into();
            }
            Event::Started(id) => {
                self.introduce(*id, out)?;
                self.steps.entry(*id).or_default().started = at;
            }
            Event::Explained { step, reason } => {
                self.introduce(*step, out)?;
                let reason = text::printable(&reason.text);
                writeln!(out, "#{} why: {reason}", number(*step))?;
            }
            Event::Waiting(id) => {
                self.introduce(*id, out)?;
                writeln!(out, "#{} waiting for another build", number(*id))?;
            }
            Event::Output { step, line, .. } => {
                let id = *step;
                self.introduce(id, out)?;
                let since = at.saturating_sub(self.steps.entry(id).or_default().started);
                // A line that redraws itself ends in its last state.
                let line = text::last_segment(line);
                let line = line.trim_end();
                writeln!(out, "#{} {:.3} {line}", number(id), since.as_secs_f64())?;
            }
            Event::Transfer {
                step,
                what,
                done,
                total,
            } => {
                self.introduce(*step, out)?;
                self.transfer(*step, what, *done, *total, at, out)?;
            }
            Event::Finished {
                step,
                outcome,
                elapsed,
            } => {
                self.introduce(*step, out)?;
                let number = number(*step);
                match outcome {
                    Outcome::Cached => writeln!(out, "#{number} CACHED")?,
                    Outcome::Ran => {
                        writeln!(out, "#{number} DONE {}", human::duration(*elapsed))?;
                    }
                }
                self.forget(*step);
            }
            Event::Failed { step, message } => {
                self.introduce(*step, out)?;
                let message = text::printable(message);
                writeln!(out, "#{} ERROR: {message}", number(*step))?;
                self.forget(*step);
            }
            Event::Stopped(id) => {
                // A step that never ran is not worth a line.
                if self.steps.get(id).is_some_and(|step| step.introduced) {
                    writeln!(out, "#{} CANCELED", number(*id))?;
                }
                self.forget(*id);
            }
            // Shown with their line of the Dockerfile, or in a table, when the build ends.
            Event::Warning(_) | Event::Used { .. } => {}
            Event::Notice(notice) => writeln!(out, "note: {}", text::printable(notice))?,
        }
        Ok(())
    }

    /// Writes the line that names a step, before its first other line.
    fn introduce(&mut self, id: StepId, out: &mut Vec<u8>) -> std::io::Result<()> {
        let step = self.steps.entry(id).or_default();
        if step.introduced {
            return Ok(());
        }
        step.introduced = true;
        if self.any {
            writeln!(out)?;
        }
        self.any = true;
        writeln!(out, "#{} {}", number(id), step.name)
    }

    fn transfer(
        &mut self,
        id: StepId,
        what: &str,
        done: u64,
        total: Option<u64>,
        at: Duration,
        out: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let step = self.steps.entry(id).or_default();
        let transfer = step.transfers.entry(what.to_owned()).or_insert(Transfer {
            begun: at,
            mentioned: None,
            done: false,
        });
        let complete = total == Some(done);
        let since = at.saturating_sub(transfer.mentioned.unwrap_or(transfer.begun));
        if transfer.done || (!complete && since < TRANSFER_INTERVAL) {
            return Ok(());
        }
        transfer.mentioned = Some(at);
        transfer.done = complete;
        let number = number(id);
        let what = text::printable(what);
        let elapsed = human::duration(at.saturating_sub(transfer.begun));
        let size = human::size(done);
        match total {
            Some(_) if complete => writeln!(out, "#{number} {what} {size} {elapsed} done"),
            Some(total) => {
                let total = human::size(total);
                writeln!(out, "#{number} {what} {size} / {total} {elapsed}")
            }
            None => writeln!(out, "#{number} {what} {size} {elapsed}"),
        }
    }

    /// Drops what only a running step needs. That it was introduced stays known.
    fn forget(&mut self, id: StepId) {
        if let Some(step) = self.steps.get_mut(&id) {
            step.transfers = BTreeMap::new();
        }
    }
}

/// Steps are counted from 1 for people.
fn number(id: StepId) -> usize {
    id.0 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::line;
    use crate::progress::tests::step;

    fn text(events: &[(u64, Event)]) -> String {
        let mut plain = Plain::default();
        let mut out = Vec::new();
        for (ms, event) in events {
            plain.render(Duration::from_millis(*ms), event, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    fn finished(id: usize, outcome: Outcome, ms: u64) -> Event {
        Event::Finished {
            step: StepId(id),
            outcome,
            elapsed: Duration::from_millis(ms),
        }
    }

    fn transfer(done: u64, total: Option<u64>) -> Event {
        Event::Transfer {
            step: StepId(0),
            what: "sha256:0123456789ab".into(),
            done,
            total,
        }
    }

    #[test]
    fn a_build_reads_as_numbered_blocks() {
        let text = text(&[
            (0, step(0, "[internal] load debian:12")),
            (0, step(1, "[build 1/3] COPY . .")),
            (0, step(2, "[build 2/3] RUN make")),
            (0, step(3, "[build 3/3] RUN never")),
            (1, finished(0, Outcome::Cached, 0)),
            (2, finished(1, Outcome::Cached, 0)),
            (10, Event::Started(StepId(2))),
            (422, line(2, "cc -o x \u{1b}[1mx.c\u{1b}[0m")),
            (1210, finished(2, Outcome::Ran, 1200)),
            (1300, Event::Stopped(StepId(3))),
        ]);
        assert_eq!(
            text,
            "#1 [internal] load debian:12\n\
             #1 CACHED\n\
             \n\
             #2 [build 1/3] COPY . .\n\
             #2 CACHED\n\
             \n\
             #3 [build 2/3] RUN make\n\
             #3 0.412 cc -o x x.c\n\
             #3 DONE 1.2s\n"
        );
    }

    #[test]
    fn steps_side_by_side_keep_their_numbers_and_failures_stand_out() {
        let text = text(&[
            (0, step(0, "[a 1/1] RUN a")),
            (0, step(1, "[b 1/1] RUN b")),
            (0, Event::Started(StepId(0))),
            (0, Event::Waiting(StepId(1))),
            (5, Event::Started(StepId(1))),
            (10, line(0, "one")),
            (15, line(1, "two\r")),
            (
                20,
                Event::Failed {
                    step: StepId(0),
                    message: "`false` ended with exit code 1".into(),
                },
            ),
            (21, Event::Stopped(StepId(1))),
            (22, Event::Notice("overlayfs can't be mounted".into())),
        ]);
        assert_eq!(
            text,
            "#1 [a 1/1] RUN a\n\
             \n\
             #2 [b 1/1] RUN b\n\
             #2 waiting for another build\n\
             #1 0.010 one\n\
             #2 0.010 two\n\
             #1 ERROR: `false` ended with exit code 1\n\
             #2 CANCELED\n\
             note: overlayfs can't be mounted\n"
        );
    }

    #[test]
    fn transfers_are_mentioned_now_and_then_and_at_their_end_once() {
        let mut events = vec![(0, step(0, "pull")), (0, Event::Started(StepId(0)))];
        for second in 0..=8 {
            events.push((second * 1000, transfer(second * 1_000_000, Some(8_000_000))));
        }
        events.push((8100, transfer(8_000_000, Some(8_000_000))));
        assert_eq!(
            text(&events),
            "#1 pull\n\
             #1 sha256:0123456789ab 3.0 MB / 8.0 MB 3.0s\n\
             #1 sha256:0123456789ab 6.0 MB / 8.0 MB 6.0s\n\
             #1 sha256:0123456789ab 8.0 MB 8.0s done\n"
        );
    }
}
