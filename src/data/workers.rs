//! Threads that make batches ahead. Any of them may finish first; the caller gets the batches in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::base::{Error, Result, caught_from};

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
    /// The sample that each worker reads; [`IDLE`] of one that reads none.
    reading: Vec<Arc<AtomicUsize>>,
    /// How long a batch may be waited for.
    timeout: Option<Duration>,
    /// Some worker does not come to its end.
    stuck: bool,
}

const IDLE: usize = usize::MAX;

/// How long samples that are being read are waited for at the end: the error of a bad one must not wait for a slow one.
const FAREWELL: Duration = Duration::from_millis(500);

impl WorkerPool {
    /// Starts `workers` threads for `count` batches; `None` without workers, or when the system gives no thread.
    pub(super) fn spawn(plan: &Arc<Plan>, workers: usize, prefetch: usize, count: usize) -> Option<Self> {
        let room = (workers * prefetch).min(count);
        let (jobs, queue) = unbounded::<(u64, BatchIndices)>();
        let (results, done) = unbounded();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut reading) = (Vec::new(), Vec::new());
        for number in 0..workers {
            let (plan, queue, results, stop) = (plan.clone(), queue.clone(), results.clone(), stop.clone());
            let sample = Arc::new(AtomicUsize::new(IDLE));
            reading.push(sample.clone());
            let work = move || {
                let stopped = |index| {
                    sample.store(index, Ordering::Relaxed);
                    stop.load(Ordering::Relaxed)
                };
                while let Ok((number, indices)) = queue.recv() {
                    // Whoever waits for a batch of a worker that is gone waits for ever.
                    let load =
                        || caught_from("a worker of the loader", || plan.load(&indices, room, &stopped));
                    if stopped(IDLE) || results.send((number, load())).is_err() {
                        return;
                    }
                    sample.store(IDLE, Ordering::Relaxed);
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
        let (jobs, ahead) = (Some(jobs), VecDeque::new());
        Some(Self {
            jobs,
            done,
            ahead,
            room,
            received: 0,
            stop,
            threads,
            reading,
            timeout: None,
            stuck: false,
        })
    }

    /// The same, whose batches may be waited for as long as that.
    pub(super) fn patient(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
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
        let until = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match self.ahead.front_mut() {
                None => return Err(Error::invalid("no batch was submitted")),
                Some(Some(_)) => break,
                Some(None) => {}
            }
            match receive(&self.done, until) {
                // A batch that came too late has no place any more.
                Ok((number, batch)) => {
                    let place =
                        number.checked_sub(self.received).and_then(|at| self.ahead.get_mut(at as usize));
                    if let Some(place) = place {
                        *place = Some(batch);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) => {
                    self.ahead[0] = Some(Err(self.late()));
                    self.stuck = true;
                }
            }
        }
        self.received += 1;
        self.ahead.pop_front().flatten().unwrap_or_else(|| Err(gone()))
    }

    fn late(&self) -> Error {
        let mut samples: Vec<usize> = self
            .reading
            .iter()
            .map(|sample| sample.load(Ordering::Relaxed))
            .filter(|at| *at != IDLE)
            .collect();
        samples.sort_unstable();
        let samples: Vec<String> = samples.iter().map(usize::to_string).collect();
        Error::Other(
            format!(
                "no batch came within the {} s of `timeout`; its workers read samples {}",
                self.timeout.unwrap_or_default().as_secs_f64(),
                samples.join(", ")
            )
            .into(),
        )
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        // Who waits for one that is stuck is stuck, too.
        if self.stuck {
            return;
        }
        let until = Instant::now().checked_add(FAREWELL);
        loop {
            match receive(&self.done, until) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                // It ends behind its sample, and nobody needs it any more.
                Err(RecvTimeoutError::Timeout) => return,
            }
        }
        for thread in self.threads.drain(..) {
            // A worker catches the panics of foreign code; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

/// The next value, unless all senders are gone, or that time has come. A thread of rayon's pool, as the runner trains on, does the
/// pool's work while it waits: it may be what the sender waits for.
fn receive<T>(from: &Receiver<T>, until: Option<Instant>) -> Result<T, RecvTimeoutError> {
    const PATIENCE: Duration = Duration::from_millis(1);
    if rayon::current_thread_index().is_none() {
        return match until {
            Some(until) => from.recv_deadline(until),
            None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
    }
    loop {
        match from.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) if until.is_none_or(|until| Instant::now() < until) => {
                while rayon::yield_now() == Some(rayon::Yield::Executed) {}
            }
            received => return received,
        }
    }
}

fn gone() -> Error {
    Error::invalid("the loader's workers are gone")
}
