//! Threads that are kept for the next job: most steps follow another one, and to make a thread is no
//! small part of a small step.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender};

type Job<'scope> = Box<dyn FnOnce() + Send + 'scope>;

/// As many threads as there were jobs at once. They end when this is dropped and their jobs are done.
pub(crate) struct Workers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    jobs: Sender<Job<'scope>>,
    waiting: Receiver<Job<'scope>>,
    /// Threads that wait, less the jobs that are on their way to them.
    idle: &'scope AtomicUsize,
}

impl<'scope, 'env> Workers<'scope, 'env> {
    /// No threads yet; `idle` is theirs, and zero.
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, idle: &'scope AtomicUsize) -> Self {
        let (jobs, waiting) = crossbeam_channel::unbounded();
        Self {
            scope,
            jobs,
            waiting,
            idle,
        }
    }

    /// Runs `job` at once, beside everything else.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'scope) {
        let take = |idle: usize| idle.checked_sub(1);
        let taken = self
            .idle
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        if taken.is_ok() {
            // It waits, or is about to: this side of the queue is kept open here.
            drop(self.jobs.send(Box::new(job)));
            return;
        }
        let (waiting, idle) = (self.waiting.clone(), self.idle);
        self.scope.spawn(move || {
            job();
            loop {
                idle.fetch_add(1, Ordering::SeqCst);
                let Ok(job) = waiting.recv() else { return };
                job();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn jobs_run_at_once_and_threads_are_used_again() {
        let (idle, barrier) = (AtomicUsize::new(0), Barrier::new(3));
        let threads = std::sync::Mutex::new(std::collections::HashSet::new());
        std::thread::scope(|scope| {
            let workers = Workers::new(scope, &idle);
            for round in 0..50 {
                // Each would wait for ever if they did not all run.
                for _ in 0..2 {
                    workers.run(|| {
                        threads.lock().unwrap().insert(std::thread::current().id());
                        barrier.wait();
                    });
                }
                barrier.wait();
                while idle.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                assert!(round == 0 || threads.lock().unwrap().len() == 2);
            }
        });
        assert_eq!(threads.into_inner().unwrap().len(), 2);
    }
}
