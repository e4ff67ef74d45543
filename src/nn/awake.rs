//! Keeping the pool's threads from falling asleep between the kernels of an iteration.
//!
//! A small network cuts an iteration into dozens of kernels of some ten microseconds. In the short serial stretches between them a thread of
//! the pool finds no work, goes to sleep, and waking it costs about as much as the next kernel takes.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a thread looks for work before it may sleep: longer than what lies between two kernels, shorter than anybody would notice.
const PATIENCE: Duration = Duration::from_micros(200);

/// Watches that are called for or under way.
static WATCHES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static WATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Has the other threads of this thread's pool look out for work until there has been none for [`PATIENCE`]. Outside of a pool, nothing.
pub(super) fn keep_awake() {
    let Some(caller) = rayon::current_thread_index() else { return };
    for _ in WATCHES.load(Relaxed)..rayon::current_num_threads() - 1 {
        WATCHES.fetch_add(1, Relaxed);
        rayon::spawn(move || {
            // The caller has better to do, and a thread that watches already need not do so twice.
            if rayon::current_thread_index() != Some(caller) && !WATCHING.replace(true) {
                watch();
                WATCHING.set(false);
            }
            WATCHES.fetch_sub(1, Relaxed);
        });
    }
}

fn watch() {
    let mut idle = Instant::now();
    while idle.elapsed() < PATIENCE {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            idle = Instant::now();
        } else {
            // Whoever else wants this processor, a loader's worker say, comes first.
            std::thread::yield_now();
        }
    }
}
