//! A small number for each thread, for what is kept once per thread inside shared values.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many slots there are. Threads beyond that share them.
pub const SLOTS: usize = 16;

/// The calling thread's slot, below [`SLOTS`].
pub fn of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOT: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS;
    }
    SLOT.with(|slot| *slot)
}
