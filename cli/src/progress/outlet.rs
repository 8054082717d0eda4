//! Lines on standard error, written by a thread of their own.

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

#[derive(Debug)]
struct State<R> {
    renderer: R,
    queue: Vec<u8>,
    closed: bool,
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

/// A display of lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    shared: Arc<Shared<R>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl<R: Render> Lines<R> {
    /// Lines to standard error.
    pub(super) fn start(renderer: R) -> Self {
        Self::to(renderer, std::io::stderr())
    }

    fn to(renderer: R, mut sink: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                renderer,
                queue: Vec::new(),
                closed: false,
                broken: false,
            }),
            filled: Condvar::new(),
            drained: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("progress".into())
            .spawn(move || write_queue(&worker, &mut sink));
        if writer.is_err() {
            // No thread to be had: a build can do without its progress.
            shared.lock().broken = true;
        }
        Self {
            shared,
            writer: Mutex::new(writer.ok()),
        }
    }
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
        self.shared.filled.notify_one();
    }

    fn close(&self) {
        self.shared.lock().closed = true;
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
