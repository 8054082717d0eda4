//! Progress on a terminal: finished steps scroll up, running ones are redrawn in place.
//!
//! ```text
//!  => CACHED [build 1/4] FROM debian:12                        0.0s
//!  => [build 2/4] COPY . .                                     0.2s
//! [+] 2 of 5 steps, 12.3s
//!  => [build 3/4] RUN make  cc -c parser.c                    12.1s
//!  => [docs 2/2] RUN mkdocs build  Building documentation...    3.4s
//! ```
//!
//! Events only change the model. One thread draws it, ten times a second, so a step that prints a
//! million lines costs the build no more than a million short visits to a lock.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use strata_solver::event::Event;
use strata_solver::event::Outcome;
use strata_solver::event::StepId;

use super::Display;
use super::text;
use crate::human;
use crate::terminal::Style;
use crate::terminal::paint;

/// Time between two pictures.
const FRAME: Duration = Duration::from_millis(100);

/// A build that is done sooner is never drawn, only listed.
const FIRST_FRAME: Duration = Duration::from_millis(60);

/// Characters of an output line that are looked at; no terminal is wider.
const LINE: usize = 1000;

/// The state of a screen.
#[derive(Debug)]
struct Model {
    colour: bool,
    names: BTreeMap<StepId, String>,
    finished: usize,
    running: BTreeMap<StepId, Running>,
    /// Lines to be scrolled out above the picture.
    scroll: Vec<Line>,
}

/// A line with something at its right end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    marks: Vec<(Style, &'static str)>,
    text: String,
    /// Shown dim after the text, as far as there is room.
    aside: String,
    right: String,
}

#[derive(Debug)]
struct Running {
    since: Duration,
    waiting: bool,
    /// The last line of output as it came.
    output: String,
    transfers: BTreeMap<String, (u64, Option<u64>)>,
    /// What is being done with the bytes that moved last: `unpack`, or nothing in particular.
    verb: String,
}

impl Model {
    fn new(colour: bool) -> Self {
        Self {
            colour,
            names: BTreeMap::new(),
            finished: 0,
            running: BTreeMap::new(),
            scroll: Vec::new(),
        }
    }

    fn event(&mut self, at: Duration, event: &Event) {
        match event {
            Event::Step(info) => {
                self.names
                    .insert(info.id, text::printable(&info.name).into_owned());
            }
            Event::Started(id) => {
                let step = self.step(*id, at);
                step.since = at;
                step.waiting = false;
            }
            Event::Waiting(id) => self.step(*id, at).waiting = true,
            Event::Output { step, line, .. } => {
                let step = self.step(*step, at);
                step.output.clear();
                // Made printable only if it is still the last one when the picture is drawn.
                step.output.push_str(tail(line));
            }
            Event::Transfer {
                step,
                what,
                done,
                total,
            } => {
                let step = self.step(*step, at);
                verb(what).clone_into(&mut step.verb);
                match step.transfers.entry(what.clone()) {
                    Entry::Occupied(mut entry) => *entry.get_mut() = (*done, *total),
                    Entry::Vacant(entry) => {
                        entry.insert((*done, *total));
                    }
                }
            }
            Event::Finished {
                step,
                outcome,
                elapsed,
            } => {
                self.finished += 1;
                let marks = match outcome {
                    Outcome::Cached => vec![(Style::Blue, "CACHED")],
                    Outcome::Ran => vec![],
                };
                self.end(*step, marks, *elapsed, "");
            }
            Event::Failed { step, message } => {
                let elapsed = self.since(*step, at);
                let message = text::printable(message).into_owned();
                self.end(*step, vec![(Style::Red, "ERROR")], elapsed, &message);
            }
            Event::Stopped(id) => {
                if self.running.contains_key(id) {
                    let elapsed = self.since(*id, at);
                    self.end(*id, vec![(Style::Yellow, "CANCELED")], elapsed, "");
                }
            }
            Event::Explained { step, reason } => {
                let name = self.names.get(step).cloned().unwrap_or_default();
                self.scroll.push(Line {
                    marks: vec![(Style::Yellow, "why:")],
                    text: name,
                    aside: text::printable(&reason.text).into_owned(),
                    right: String::new(),
                });
            }
            // Shown with their line of the Dockerfile, or in a table, when the build ends.
            Event::Warning(_) | Event::Used { .. } => {}
            Event::Notice(notice) => self.scroll.push(Line {
                marks: vec![(Style::Yellow, "note:")],
                text: text::printable(notice).into_owned(),
                aside: String::new(),
                right: String::new(),
            }),
        }
    }

    fn step(&mut self, id: StepId, at: Duration) -> &mut Running {
        self.running.entry(id).or_insert_with(|| Running {
            since: at,
            waiting: false,
            output: String::new(),
            transfers: BTreeMap::new(),
            verb: String::new(),
        })
    }

    fn since(&self, id: StepId, at: Duration) -> Duration {
        self.running
            .get(&id)
            .map_or(Duration::ZERO, |step| at.saturating_sub(step.since))
    }

    fn end(
        &mut self,
        id: StepId,
        mut marks: Vec<(Style, &'static str)>,
        elapsed: Duration,
        aside: &str,
    ) {
        self.running.remove(&id);
        marks.insert(0, (Style::Green, "=>"));
        self.scroll.push(Line {
            marks,
            text: self.names.get(&id).cloned().unwrap_or_default(),
            aside: aside.to_owned(),
            right: human::duration(elapsed),
        });
    }

    /// The picture: a heading, and a line for each running step as far as `height` allows. Every
    /// line is shorter than `width` columns.
    fn frame(&self, at: Duration, width: usize, height: usize) -> Vec<String> {
        let mut frame = vec![self.fit(
            &Line {
                marks: vec![(Style::Bold, "[+]")],
                text: format!(
                    "{} of {}",
                    self.finished,
                    human::plural(self.names.len() as u64, "step")
                ),
                aside: String::new(),
                right: human::duration(at),
            },
            width,
        )];
        // Two lines stay free: the cursor's, and one so that nothing scrolls.
        let room = height.saturating_sub(3).max(1);
        let hidden = match self.running.len() {
            count if count > room => count - room + 1,
            _ => 0,
        };
        for (id, step) in self.running.iter().take(self.running.len() - hidden) {
            let right = if step.waiting {
                "waiting".to_owned()
            } else {
                human::duration(at.saturating_sub(step.since))
            };
            frame.push(self.fit(
                &Line {
                    marks: vec![(Style::Green, "=>")],
                    text: self.names.get(id).cloned().unwrap_or_default(),
                    aside: step.aside(),
                    right,
                },
                width,
            ));
        }
        if hidden > 0 {
            frame.push(self.fit(
                &Line {
                    marks: vec![],
                    text: format!("   and {hidden} more"),
                    aside: String::new(),
                    right: String::new(),
                },
                width,
            ));
        }
        frame
    }

    /// `line` as one line of less than `width` columns.
    fn fit(&self, line: &Line, width: usize) -> String {
        let width = width.saturating_sub(1).max(1);
        let mut left = String::new();
        let mut used = 0;
        for (style, mark) in &line.marks {
            // "=>" stands one column in, as in other builders' progress.
            let indent = if *mark == "=>" { " " } else { "" };
            let painted = paint(self.colour, *style, mark);
            write!(left, "{indent}{painted} ").expect("writing to a String can't fail");
            used += indent.len() + mark.len() + 1;
        }
        let right = line.right.len();
        let room = width.saturating_sub(used + right + 1);
        // A long name leaves a third of the line to what the step says.
        let for_text = if line.aside.is_empty() {
            room
        } else {
            room - room / 3
        };
        let name = cut(&line.text, for_text);
        let mut free = room.saturating_sub(console::measure_text_width(&name));
        left.push_str(&name);
        if !line.aside.is_empty() && free > 4 {
            let aside = cut(&line.aside, free - 2);
            free -= 2 + console::measure_text_width(&aside);
            left.push_str("  ");
            left.push_str(&paint(self.colour, Style::Dim, &aside));
        }
        if used + right + 1 > width {
            // Too narrow for anything but the beginning.
            return console::truncate_str(&left, width, "").into_owned();
        }
        if line.right.is_empty() {
            return left;
        }
        left.extend(std::iter::repeat_n(' ', free + 1));
        left.push_str(&line.right);
        left
    }
}

impl Running {
    fn aside(&self) -> String {
        if self.transfers.is_empty() {
            return text::last_segment(&self.output).trim().to_owned();
        }
        // Bytes that are fetched and bytes that are unpacked don't add up.
        let current = || {
            self.transfers
                .iter()
                .filter(|(what, _)| verb(what) == self.verb)
                .map(|(_, amounts)| amounts)
        };
        let done = current().fold(0_u64, |sum, (done, _)| sum.saturating_add(*done));
        let total =
            current().try_fold(0_u64, |sum, (_, total)| Some(sum.saturating_add((*total)?)));
        let amount = match total {
            Some(total) => format!("{} / {}", human::size(done), human::size(total)),
            None => human::size(done),
        };
        if self.verb.is_empty() {
            amount
        } else {
            format!("{} {amount}", text::printable(&self.verb))
        }
    }
}

/// The first word of a transfer such as `unpack 0123456789ab`; empty if there is only one word.
fn verb(what: &str) -> &str {
    what.split_once(' ').map_or("", |(verb, _)| verb)
}

/// The beginning of `text`, in at most `columns` columns.
fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    // The ellipsis alone would be wider than nothing.
    let end = if columns == 0 { "" } else { "…" };
    console::truncate_str(text, columns, end)
}

/// The last [`LINE`] bytes or so of the line, which is all that a redrawn line shows.
fn tail(line: &str) -> &str {
    if line.len() <= LINE {
        return line;
    }
    let line = line.trim_end_matches('\r');
    let last = line.rfind('\r').map_or(line, |at| &line[at + 1..]);
    let end = (0..=LINE.min(last.len()))
        .rev()
        .find(|end| last.is_char_boundary(*end))
        .unwrap_or(0);
    &last[..end]
}

#[derive(Debug)]
struct State {
    model: Model,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    closing: Condvar,
    start: Instant,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A terminal's screen.
#[derive(Debug)]
pub(super) struct Screen {
    shared: Arc<Shared>,
    drawer: Mutex<Option<JoinHandle<()>>>,
}

impl Screen {
    /// Starts to draw on standard error.
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                model: Model::new(crate::terminal::colour()),
                closed: false,
            }),
            closing: Condvar::new(),
            start: Instant::now(),
        });
        let worker = Arc::clone(&shared);
        let drawer = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || draw(&worker));
        Self {
            shared,
            // Without a thread, nothing is shown until the end.
            drawer: Mutex::new(drawer.ok()),
        }
    }
}

impl Display for Screen {
    fn event(&self, at: Duration, event: &Event) {
        self.shared.lock().model.event(at, event);
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.closing.notify_all();
        let drawer = self
            .drawer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(drawer) = drawer {
            // A drawer that panicked has nothing more to draw.
            drop(drawer.join());
        }
    }
}

/// Columns and lines of the terminal.
fn size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .ok()
        .filter(|size| size.ws_col > 0 && size.ws_row > 0)
        .map_or((80, 24), |size| {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        })
}

fn draw(shared: &Shared) {
    let mut bar: Option<ProgressBar> = None;
    let mut pause = FIRST_FRAME;
    loop {
        let state = shared.lock();
        let (mut state, _) = shared
            .closing
            .wait_timeout_while(state, pause, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        pause = FRAME;
        let (width, height) = size();
        let closed = state.closed;
        let scroll = std::mem::take(&mut state.model.scroll);
        let scroll: Vec<String> = scroll
            .iter()
            .map(|line| state.model.fit(line, width))
            .collect();
        let frame = state
            .model
            .frame(shared.start.elapsed(), width, height)
            .join("\n");
        // Writing to a terminal may block (XOFF): never with the lock held.
        drop(state);
        if closed {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
            let mut text = scroll.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            // The build matters more than its picture.
            drop(std::io::stderr().write_all(text.as_bytes()));
            return;
        }
        let bar = bar.get_or_insert_with(|| {
            let target = ProgressDrawTarget::stderr_with_hz(30);
            ProgressBar::with_draw_target(None, target)
                .with_style(ProgressStyle::with_template("{msg}").expect("a constant template"))
        });
        bar.set_message(frame);
        if !scroll.is_empty() {
            bar.println(scroll.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::tests::line;
    use crate::progress::tests::step;

    fn model() -> Model {
        let mut model = Model::new(false);
        for (id, name) in [
            (0, "[build 1/3] FROM debian:12"),
            (1, "[build 2/3] RUN make"),
            (2, "[docs 1/1] RUN mkdocs"),
        ] {
            model.event(Duration::ZERO, &step(id, name));
        }
        model
    }

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn finished_steps_scroll_and_running_ones_show_their_last_line() {
        let mut model = model();
        model.event(
            at(1),
            &Event::Finished {
                step: StepId(0),
                outcome: Outcome::Cached,
                elapsed: Duration::ZERO,
            },
        );
        model.event(at(100), &Event::Started(StepId(1)));
        model.event(at(150), &line(1, "first"));
        model.event(at(200), &line(1, "\u{1b}[31mcc\t-c\u{1b}[0m\u{7}"));
        let scroll: Vec<String> = model
            .scroll
            .iter()
            .map(|line| model.fit(line, 60))
            .collect();
        assert_eq!(
            scroll,
            [" => CACHED [build 1/3] FROM debian:12                  0.0s"]
        );
        assert_eq!(
            model.frame(at(1300), 60, 24),
            [
                "[+] 1 of 3 steps                                       1.3s",
                " => [build 2/3] RUN make  cc      -c                   1.2s",
            ]
        );
    }

    #[test]
    fn no_line_is_as_wide_as_the_terminal() {
        let mut model = model();
        model.event(at(0), &step(1, &"长名字".repeat(40)));
        model.event(at(0), &Event::Started(StepId(1)));
        model.event(at(0), &line(1, &"输出 output ".repeat(300)));
        for width in 0..200 {
            for text in model.frame(at(1000), width, 24) {
                let columns = console::measure_text_width(&text);
                assert!(columns < width.max(2), "{columns} of {width}: {text}");
            }
        }
    }

    #[test]
    fn more_steps_than_lines_are_counted() {
        let mut model = Model::new(false);
        for id in 0..50 {
            model.event(at(0), &step(id, "RUN x"));
            model.event(at(0), &Event::Started(StepId(id)));
        }
        let frame = model.frame(at(0), 40, 10);
        assert_eq!(frame.len(), 8);
        assert_eq!(frame.last().map(String::as_str), Some("   and 44 more"));
    }

    #[test]
    fn transfers_are_summed() {
        let mut model = model();
        for (what, done) in [("a", 500_000), ("b", 1_500_000), ("a", 1_000_000)] {
            model.event(
                at(0),
                &Event::Transfer {
                    step: StepId(0),
                    what: what.into(),
                    done,
                    total: Some(2_000_000),
                },
            );
        }
        assert_eq!(model.running[&StepId(0)].aside(), "2.5 MB / 4.0 MB");
        model.event(
            at(0),
            &Event::Transfer {
                step: StepId(0),
                what: "unpack a".into(),
                done: 1000,
                total: None,
            },
        );
        assert_eq!(model.running[&StepId(0)].aside(), "unpack 1.0 kB");
    }
}
