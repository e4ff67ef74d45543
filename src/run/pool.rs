//! Where a run computes: on a thread of rayon's pool, so that no kernel has to hand its work over to another one first.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many runs there are now, on the pool and beside it.
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Ends the count of a run, whatever becomes of it.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        RUNS.fetch_sub(1, Ordering::Release);
    }
}

/// Calls `run` on a thread of the pool, or on this thread if there is another run, on the pool or beside it: a thread that
/// waits for a part of one run would begin with the whole of the other, and the first stand still until that ended. For
/// ever, if the second waits for something that the first holds.
pub(super) fn on_pool<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    let is_alone = RUNS.fetch_add(1, Ordering::Acquire) == 0;
    let _counted = Counted;
    if is_alone { rayon::scope(|_| run()) } else { run() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::on_pool;
    use crossbeam_channel::unbounded;
    use std::thread::spawn;

    fn is_on_pool() -> bool {
        rayon::current_thread_index().is_some()
    }

    #[test]
    fn a_run_that_begins_beside_another_one_keeps_off_the_pool() {
        let ((tell, told), (end, ended)) = (unbounded(), unbounded());
        let second = on_pool(|| {
            let second = spawn(move || {
                on_pool(|| {
                    tell.send(is_on_pool()).unwrap();
                    ended.recv().unwrap();
                })
            });
            assert!(!told.recv().unwrap(), "the first is on the pool");
            second
        });
        // The first has ended, and the second, which has its work done on the pool, goes on.
        assert!(!on_pool(is_on_pool));
        end.send(()).unwrap();
        second.join().unwrap();
    }
}
