//! Where a run computes: on a thread of rayon's pool, so that no kernel has to hand its work over to another one first.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a run is on a thread of the pool.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the place back, whatever becomes of the run.
struct Place;

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// Calls `run` on a thread of the pool, or on this thread if another run is in the pool: a thread that waits for a part
/// of one run would begin with the whole of the other, and the first stand still until that ended. For ever, if the
/// second waits for something that the first holds.
pub(super) fn on_pool<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    if TAKEN.swap(true, Ordering::Acquire) {
        return run();
    }
    let _place = Place;
    rayon::scope(|_| run())
}
