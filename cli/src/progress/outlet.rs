//! Lines on standard error, written by a thread of their own, once there is anything that they could
//! hold up. A build that finds everything has its few lines written when it is done: it needs no thread.

use std::io::Write;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

use strata_solver::event::Event;

use super::Display;

/// Turns events into bytes. Pure: the same events at the same times give the same bytes.
pub(super) trait Render: Send + 'static {
    /// Appends what `event` looks like to `out`.
    fn render(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>);
}

/// Bytes that may wait to be written. A step that fills them waits until half of them are gone: no
/// line is ever dropped.
const QUEUE: usize = 4 << 20;

/// Bytes that wait before there is a thread to write them.
const QUIET_QUEUE: usize = 64 << 10;

#[derive(Debug)]
struct State<R> {
    renderer: R,
    queue: Vec<u8>,
    closed: bool,
    /// There is a thread that writes. Before, whoever has the lock may.
    threaded: bool,
    /// Nobody reads any more (EPIPE): whatever comes is thrown away.
    broken: bool,
}

#[derive(Debug)]
struct Shared<R> {
    state: Mutex<State<R>>,
    filled: Condvar,
    drained: Condvar,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Sink = Box<dyn Write + Send>;

/// A display of lines.
pub(super) struct Lines<R> {
    shared: Arc<Shared<R>>,
    /// Where lines go, until a thread has it.
    sink: Mutex<Option<Sink>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl<R: Render> Lines<R> {
    /// Lines to standard error.
    pub(super) fn start(renderer: R) -> Self {
        Self::to(renderer, std::io::stderr())
    }

    fn to(renderer: R, sink: impl Write + Send + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    renderer,
                    queue: Vec::new(),
                    closed: false,
                    threaded: false,
                    broken: false,
                }),
                filled: Condvar::new(),
                drained: Condvar::new(),
            }),
            sink: Mutex::new(Some(Box::new(sink))),
            writer: Mutex::default(),
        }
    }

    fn sink(&self) -> MutexGuard<'_, Option<Sink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the sink to a thread that writes what is queued, from now on.
    fn start_writer(&self, state: &mut State<R>) {
        state.threaded = true;
        let Some(mut sink) = self.sink().take() else {
            return;
        };
        let worker = Arc::clone(&self.shared);
        let writer = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || write_queue(&worker, &mut sink));
        match writer {
            Ok(writer) => {
                *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            }
            // No thread to be had: a build can do without its progress.
            Err(_) => state.broken = true,
        }
    }

    /// Writes what is queued, while there is no thread for it.
    fn write_now(&self, state: &mut State<R>) {
        let queue = std::mem::take(&mut state.queue);
        if let Some(sink) = &mut *self.sink()
            && !queue.is_empty()
            && !state.broken
        {
            state.broken = sink.write_all(&queue).and_then(|()| sink.flush()).is_err();
        }
    }
}

/// When an event is to be seen.
fn urgency(event: &Event) -> Urgency {
    match event {
        // Of steps that are found, one after the other in no time.
        Event::Step(_) | Event::Finished { .. } => Urgency::Later,
        // Said before something that may take long.
        Event::Notice(_) | Event::Warning(_) | Event::Explained { .. } | Event::Used { .. } => {
            Urgency::Now
        }
        Event::Started(_)
        | Event::Waiting(_)
        | Event::Output { .. }
        | Event::Transfer { .. }
        | Event::Failed { .. }
        | Event::Stopped(_) => Urgency::Running,
    }
}

enum Urgency {
    /// With what comes next.
    Later,
    Now,
    /// Steps run, which no reader is to hold up.
    Running,
}

fn write_queue<R>(shared: &Shared<R>, sink: &mut dyn Write) {
    let mut batch = Vec::new();
    let mut state = shared.lock();
    loop {
        if state.queue.is_empty() {
            if state.closed {
                return;
            }
            state = shared
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        std::mem::swap(&mut batch, &mut state.queue);
        shared.drained.notify_all();
        drop(state);
        let written = sink.write_all(&batch).and_then(|()| sink.flush());
        batch.clear();
        state = shared.lock();
        if written.is_err() {
            state.broken = true;
            state.queue = Vec::new();
            shared.drained.notify_all();
            return;
        }
    }
}

impl<R: Render> Display for Lines<R> {
    fn event(&self, at: Duration, event: &Event) {
        let mut state = self.shared.lock();
        while state.queue.len() >= QUEUE && !state.broken && !state.closed {
            state = self
                .shared
                .drained
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.broken || state.closed {
            return;
        }
        let state = &mut *state;
        state.renderer.render(at, event, &mut state.queue);
        if state.threaded {
            self.shared.filled.notify_one();
            return;
        }
        match urgency(event) {
            Urgency::Running => self.start_writer(state),
            Urgency::Now => self.write_now(state),
            Urgency::Later if state.queue.len() >= QUIET_QUEUE => self.write_now(state),
            Urgency::Later => {}
        }
    }

    fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        if !state.threaded {
            self.write_now(&mut state);
            return;
        }
        drop(state);
        self.shared.filled.notify_one();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // A writer that panicked has nothing more to write.
            drop(writer.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use strata_solver::event::StepId;

    struct Counter;

    impl Render for Counter {
        fn render(&mut self, _at: Duration, _event: &Event, out: &mut Vec<u8>) {
            out.extend_from_slice(&[b'x'; 1000]);
        }
    }

    #[derive(Clone)]
    struct Slow(Arc<AtomicUsize>);

    impl Write for Slow {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            std::thread::yield_now();
            let length = buffer.len().min(100_000);
            self.0.fetch_add(length, Ordering::SeqCst);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_to_a_slow_reader_loses_no_byte() {
        let written = Slow(Arc::default());
        let lines = Lines::to(Counter, written.clone());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5000 {
                        lines.event(Duration::ZERO, &Event::Started(StepId(0)));
                        assert!(lines.shared.lock().queue.len() < QUEUE + 4000);
                    }
                });
            }
        });
        lines.close();
        assert_eq!(written.0.load(Ordering::SeqCst), 4 * 5000 * 1000);
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _buffer: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_stops_nobody() {
        let lines = Lines::to(Counter, Gone);
        for _ in 0..20_000 {
            lines.event(Duration::ZERO, &Event::Started(StepId(0)));
        }
        lines.close();
        lines.close();
    }
}
