//! The same work on several things at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Runs `work` on all `items`, `at_once` at a time, and gives the results in order. After a failure
/// nothing new is started; the failure of the first item counts.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    at_once: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Vec<Mutex<Option<Result<R, E>>>> =
        items.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..at_once.min(items.len()) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(item), Some(slot)) = (items.get(position), results.get(position))
                    else {
                        break;
                    };
                    let result = work(item);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let mut done = Vec::with_capacity(items.len());
    for slot in results {
        // Items are taken in order, so a slot without a result comes after one with an error.
        match slot.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(result) => done.push(result?),
            None => break,
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let items: Vec<u32> = (0..100).collect();
        let doubled: Result<Vec<u32>, ()> = in_parallel(4, &items, |item| Ok(item * 2));
        assert_eq!(
            doubled.unwrap(),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
        let none: Result<Vec<u32>, ()> = in_parallel(4, &[], |item: &u32| Ok(*item));
        assert!(none.unwrap().is_empty());
    }

    #[test]
    fn the_first_failure_counts_and_nothing_new_is_started() {
        let items: Vec<usize> = (0..10).collect();
        let started = AtomicUsize::new(0);
        let work = |item: &usize| {
            started.fetch_add(1, Ordering::Relaxed);
            if *item == 3 { Err(*item) } else { Ok(()) }
        };
        assert_eq!(in_parallel(1, &items, work), Err(3));
        assert_eq!(started.load(Ordering::Relaxed), 4);
        assert_eq!(in_parallel(4, &items, work), Err(3));
    }
}
