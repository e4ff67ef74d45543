//! Threads of the pool that spin between the kernels of an iteration instead of going to sleep.
//!
//! A small network cuts an iteration into dozens of kernels of some ten microseconds. In the short serial stretches
//! between them a thread of the pool finds no work and goes to sleep, and waking it costs about as much as the next
//! kernel takes.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a thread spins without work before it may sleep: longer than what lies between two kernels, shorter than
/// anybody would notice.
const PATIENCE: Duration = Duration::from_micros(200);

/// Threads that spin or have been asked to.
static SPINNING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SPINS: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the other threads of this thread's pool looking for work until there has been none for 200 microseconds.
/// Outside of a pool it does nothing.
pub fn keep_threads_hot() {
    let Some(caller) = rayon::current_thread_index() else { return };
    for _ in SPINNING.load(Relaxed)..rayon::current_num_threads() - 1 {
        SPINNING.fetch_add(1, Relaxed);
        rayon::spawn(move || {
            // The caller has better to do, and a thread that spins already need not do so twice.
            if rayon::current_thread_index() != Some(caller) && !SPINS.replace(true) {
                spin();
                SPINS.set(false);
            }
            SPINNING.fetch_sub(1, Relaxed);
        });
    }
}

fn spin() {
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
