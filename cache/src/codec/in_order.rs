//! Blocks that the threads of a pool work on, and whose results come back in the order of the blocks.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes of blocks on their way: with what they become, what bounds the memory on any number of cores.
const MOST_BYTES: usize = 24 << 20;

/// So many blocks may be on their way however large they are, if there are threads for them.
const ALWAYS: usize = 12;

/// Jobs on their way through a pool.
pub(super) struct InOrder<'a, T> {
    pool: &'a rayon::ThreadPool,
    jobs: VecDeque<Receiver<T>>,
    most: usize,
}

impl<'a, T: Send + 'static> InOrder<'a, T> {
    /// For blocks that hold about `block` bytes: two for each thread, so that none waits for the next, but no
    /// more than memory allows.
    pub(super) fn new(pool: &'a rayon::ThreadPool, block: usize) -> Self {
        let threads = pool.current_num_threads();
        Self {
            pool,
            jobs: VecDeque::new(),
            most: (2 * threads)
                .min(MOST_BYTES / block)
                .max(threads.min(ALWAYS)),
        }
    }

    /// True if a result has to be taken before the next job is given.
    pub(super) fn is_full(&self) -> bool {
        self.jobs.len() >= self.most
    }

    /// Gives the pool a job.
    pub(super) fn submit(&mut self, job: impl FnOnce() -> T + Send + 'static) {
        // Room for the one answer: the worker never waits for us.
        let (answer, result) = sync_channel(1);
        self.pool.spawn(move || {
            // If nobody listens any more, the work was dropped on an error.
            drop(answer.try_send(job()));
        });
        self.jobs.push_back(result);
    }

    /// Waits for the oldest job's result; none if there is no job.
    pub(super) fn next(&mut self) -> io::Result<Option<T>> {
        let Some(job) = self.jobs.pop_front() else {
            return Ok(None);
        };
        let result = job.recv();
        result
            .map(Some)
            .map_err(|_| io::Error::other("a compression thread died"))
    }
}
