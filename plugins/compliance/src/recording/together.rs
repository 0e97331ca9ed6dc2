//! Waits for the disk at many files at once. One sync after the other takes as long as all of them together; a disk
//! that has them all before it takes hardly longer for many than for one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// So many files are waited for at once, and so many are open at most.
pub const AT_ONCE: usize = 32;

/// Does the work on every item, on some threads where there are several. Gives the first error; all items had their turn
/// even then.
pub fn together<T: Send, E: Send>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items: Vec<T> = items.into_iter().collect();
    let helpers = items.len().min(AT_ONCE).saturating_sub(1);
    let items = Mutex::new(items.into_iter());
    let failed = Mutex::new(None);
    let run = || {
        loop {
            let Some(item) = lock(&items).next() else { return };
            if let Err(error) = work(item) {
                lock(&failed).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers {
            let helper = thread::Builder::new().name("compliance-disk".into());
            // Without another one, those that are there do all of it.
            if helper.spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Barrier;

    use super::*;

    #[test]
    fn many_wait_at_the_same_time() {
        // Nobody comes through before all are there.
        let barrier = Barrier::new(AT_ONCE);
        let done = together(0..AT_ONCE, |_| {
            barrier.wait();
            Ok::<_, ()>(())
        });
        assert_eq!(done, Ok(()));
    }

    #[test]
    fn every_item_has_its_turn_and_an_error_is_told() {
        for count in [0, 1, 2, 500] {
            let seen = Mutex::new(Vec::new());
            let done = together(0..count, |item| {
                seen.lock().unwrap().push(item);
                if item == 1 { Err("one") } else { Ok(()) }
            });
            assert_eq!(done, if count > 1 { Err("one") } else { Ok(()) });
            let mut seen = seen.into_inner().unwrap();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..count));
        }
    }
}
