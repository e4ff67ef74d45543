//! Threads that make batches ahead. Any of them may finish first; the caller gets the batches in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::base::{Error, Result};

use super::orders::BatchIndices;
use super::plan::{Made, Plan};

/// The workers of one iterator. They hold no state of their own: what a batch contains does not depend on who makes it.
pub(super) struct WorkerPool {
    /// Batches by their number in this iterator. `None` once the workers are dismissed.
    jobs: Option<Sender<(u64, BatchIndices)>>,
    done: Receiver<(u64, Result<Made>)>,
    /// The batches that were submitted and not yet received, in order; `None` while in the making.
    ahead: VecDeque<Option<Result<Made>>>,
    /// Most batches in `ahead`: it bounds both channels and the memory.
    room: usize,
    /// Number of the first in `ahead`.
    received: u64,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl WorkerPool {
    /// Starts `workers` threads for `count` batches; `None` without workers, or when the system gives no thread.
    pub(super) fn spawn(plan: &Arc<Plan>, workers: usize, prefetch: usize, count: usize) -> Option<Self> {
        let room = (workers * prefetch).min(count);
        let (jobs, queue) = unbounded::<(u64, BatchIndices)>();
        let (results, done) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for number in 0..workers {
            let (plan, queue, results, stop) = (plan.clone(), queue.clone(), results.clone(), stop.clone());
            let work = move || {
                let stopped = || stop.load(Ordering::Relaxed);
                while let Ok((number, indices)) = queue.recv() {
                    if stopped() || results.send((number, plan.load(&indices, room, &stopped))).is_err() {
                        return;
                    }
                }
            };
            match std::thread::Builder::new().name(format!("loader-{number}")).spawn(work) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    log::warn!(
                        "{} of {workers} loader workers, the system gives no more: {error}",
                        threads.len()
                    );
                    break;
                }
            }
        }
        if threads.is_empty() {
            return None;
        }
        let room = room.min(threads.len() * prefetch);
        Some(Self { jobs: Some(jobs), done, ahead: VecDeque::new(), room, received: 0, stop, threads })
    }

    pub(super) fn has_room(&self) -> bool {
        self.ahead.len() < self.room
    }

    /// Submits the next batch; one that could not even be planned waits in line for its turn as an error.
    pub(super) fn submit(&mut self, indices: Result<BatchIndices>) {
        let number = self.received + self.ahead.len() as u64;
        self.ahead.push_back(match (indices, &self.jobs) {
            (Ok(indices), Some(jobs)) => jobs.send((number, indices)).err().map(|_| Err(gone())),
            (Ok(_), None) => Some(Err(gone())),
            (Err(error), _) => Some(Err(error)),
        });
    }

    /// The next batch in order, when it is ready.
    pub(super) fn recv(&mut self) -> Result<Made> {
        loop {
            match self.ahead.front_mut() {
                None => return Err(Error::invalid("no batch was submitted")),
                Some(Some(_)) => break,
                Some(None) => {}
            }
            let Some((number, batch)) = receive(&self.done) else { return Err(gone()) };
            self.ahead[(number - self.received) as usize] = Some(batch);
        }
        self.received += 1;
        self.ahead.pop_front().flatten().unwrap_or_else(|| Err(gone()))
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        while receive(&self.done).is_some() {}
        for thread in self.threads.drain(..) {
            // A worker catches the panics of foreign code; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

/// The next value, or `None` when all senders are gone. A thread of rayon's pool, as the runner trains on, does the
/// pool's work while it waits: it may be what the sender waits for.
fn receive<T>(from: &Receiver<T>) -> Option<T> {
    const PATIENCE: Duration = Duration::from_millis(1);
    if rayon::current_thread_index().is_none() {
        return from.recv().ok();
    }
    loop {
        match from.recv_timeout(PATIENCE) {
            Ok(value) => return Some(value),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => while rayon::yield_now() == Some(rayon::Yield::Executed) {},
        }
    }
}

fn gone() -> Error {
    Error::invalid("the loader's workers are gone")
}
