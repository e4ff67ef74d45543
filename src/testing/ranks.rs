//! Processes that train together, as threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{Elem, Error, Result};
use crate::comm::{Comm, Pending, Place};

/// What each rank of a group does, with what it gave, in their order.
///
/// Ranks speak as processes do: each sum waits for all, calls that do not match are errors on every rank, and a rank
/// that ends too early, by an error or a panic, ends the calls of the others.
///
/// ```
/// use shanty::testing::ranks;
///
/// let sums = ranks(3, |rank, comm| {
///     let mut numbers = [rank as f64, 1.0];
///     comm.sum(&mut numbers)?;
///     Ok(numbers)
/// })?;
/// assert_eq!(sums, [[3.0, 3.0]; 3]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
///
/// # Errors
/// What the rank said that failed first.
pub fn ranks<R: Send>(
    world: usize,
    run: impl Fn(usize, Arc<dyn Comm>) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let shared = Arc::new(Shared { world, state: Mutex::default(), turned: Condvar::new() });
    let ended: Vec<Result<R>> = std::thread::scope(|scope| {
        let one = |rank: usize| {
            let (shared, run) = (Arc::clone(&shared), &run);
            scope.spawn(move || {
                let leaves = Leaves { rank, shared: Arc::clone(&shared) };
                // A rank that waits for the others holds no thread that these need.
                let own = rayon::ThreadPoolBuilder::new().num_threads(1).build();
                let own = own.map_err(|why| Error::Other(Box::new(why)));
                let comm = Arc::new(Rank { rank, shared, calls: Mutex::default() });
                let result = own.and_then(|own| own.install(|| run(rank, comm)));
                if let Err(error) = &result {
                    leaves.shared.fail(format!("rank {rank} failed: {error}"));
                }
                result
            })
        };
        let threads: Vec<_> = (0..world).map(one).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|result| result.unwrap_or_else(|_| Err(Error::invalid("a rank panicked")))).collect()
    });
    // That another rank has gone is said by those that did not fail first.
    let is_echo = |result: &Result<R>| matches!(result, Err(Error::Comm(_)));
    match ended.iter().any(|result| result.is_err() && !is_echo(result)) {
        true => ended.into_iter().filter(|result| !is_echo(result)).collect(),
        false => ended.into_iter().collect(),
    }
}

#[derive(Debug)]
struct Rank {
    rank: usize,
    shared: Arc<Shared>,
    /// How many calls this rank has made: the number of a call is the same on all ranks.
    calls: Mutex<u64>,
}

#[derive(Debug)]
struct Shared {
    world: usize,
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What the ranks gave to the calls that not all have taken the result of, by the number of the call.
    calls: BTreeMap<u64, Call>,
    /// The ranks that have left.
    left: BTreeSet<usize>,
    /// Why the group is of no more use.
    failed: Option<String>,
    patience: Patience,
}

#[derive(Debug)]
struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

#[derive(Debug, Default)]
struct Call {
    kind: String,
    given: BTreeMap<usize, Vec<u8>>,
    taken: usize,
}

/// Tells the others when a rank ends, however it does.
struct Leaves {
    rank: usize,
    shared: Arc<Shared>,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.left.insert(self.rank);
        self.shared.turned.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, why: String) -> Error {
        let mut state = self.lock();
        let why = state.failed.get_or_insert(why).clone();
        self.turned.notify_all();
        Error::Comm(why)
    }
}

impl Rank {
    fn give(&self, kind: String, own: Vec<u8>) -> Result<u64> {
        let number = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            *calls += 1;
            *calls
        };
        let mut state = self.shared.lock();
        if let Some(why) = &state.failed {
            return Err(Error::Comm(why.clone()));
        }
        let call =
            state.calls.entry(number).or_insert_with(|| Call { kind: kind.clone(), ..Call::default() });
        if call.kind != kind {
            let why = format!("rank {} came to {kind}, another rank to {}", self.rank, call.kind);
            drop(state);
            return Err(self.shared.fail(why));
        }
        call.given.insert(self.rank, own);
        self.shared.turned.notify_all();
        Ok(number)
    }

    /// Waits until all have given to a call; then what they gave, in their order.
    fn take(&self, number: u64) -> Result<Vec<Vec<u8>>> {
        let world = self.shared.world;
        let mut state = self.shared.lock();
        let began = Instant::now();
        loop {
            let State { calls, left, failed, patience } = &mut *state;
            let Some(call) = calls.get_mut(&number) else {
                return Err(Error::Comm("a sum of another group is waited for".into()));
            };
            if call.given.len() == world {
                call.taken += 1;
                let all = call.given.values().cloned().collect();
                if call.taken == world {
                    calls.remove(&number);
                }
                return Ok(all);
            }
            // What is complete is had, whatever went wrong later.
            if let Some(why) = failed {
                return Err(Error::Comm(why.clone()));
            }
            let missing = |rank: &usize| !call.given.contains_key(rank);
            let gone = (0..world).filter(missing).find(|rank| left.contains(rank));
            if let Some(gone) = gone {
                drop(state);
                return Err(self.shared.fail(format!("another rank has left: rank {gone}")));
            }
            let patience = patience.0;
            let Some(rest) = patience.checked_sub(began.elapsed()) else {
                let late: Vec<String> = (0..world).filter(missing).map(|rank| rank.to_string()).collect();
                let why = format!("rank {} has not come to {} in {patience:?}", late.join(", "), call.kind);
                drop(state);
                return Err(self.shared.fail(why));
            };
            state = self.shared.turned.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Comm for Rank {
    fn place(&self) -> Place {
        let (rank, world) = (self.rank, self.shared.world);
        Place { rank, world, local_rank: rank, local_world: world }
    }

    fn sum(&self, numbers: &mut [f64]) -> Result<()> {
        let call =
            self.give(format!("a sum of {} numbers", numbers.len()), bytemuck::cast_slice(numbers).to_vec())?;
        for (rank, given) in self.take(call)?.into_iter().enumerate() {
            let given = given.chunks_exact(size_of::<f64>()).map(bytemuck::pod_read_unaligned::<f64>);
            numbers
                .iter_mut()
                .zip(given)
                .for_each(|(sum, own)| *sum = if rank == 0 { own } else { *sum + own });
        }
        Ok(())
    }

    fn start_sum(&self, mut data: Vec<Elem>, factor: Elem) -> Result<Pending> {
        let kind = format!("a sum of {} elements", data.len());
        // Behind them stands the factor.
        data.push(factor);
        Ok(Pending { id: self.give(kind, bytemuck::cast_slice(&data).to_vec())? })
    }

    fn poll(&self) -> Result<()> {
        match &self.shared.lock().failed {
            Some(why) => Err(Error::Comm(why.clone())),
            None => Ok(()),
        }
    }

    fn finish(&self, sum: Pending) -> Result<Vec<Elem>> {
        let (mut sums, mut factor): (Vec<Elem>, _) = (Vec::new(), None);
        for given in self.take(sum.id)? {
            let given = given.chunks_exact(size_of::<Elem>()).map(bytemuck::pod_read_unaligned);
            let mut given: Vec<Elem> = given.collect();
            match factor.replace(given.pop().unwrap_or(1.0)) {
                None => sums = given,
                Some(_) => sums.iter_mut().zip(given).for_each(|(sum, own)| *sum += own),
            }
        }
        sums.iter_mut().for_each(|sum| *sum *= factor.unwrap_or(1.0));
        Ok(sums)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let call = self.give("a gathering".into(), own.to_vec())?;
        self.take(call)
    }

    fn set_patience(&self, limit: Duration) {
        self.shared.lock().patience = Patience(limit);
    }

    fn fail(&self, why: &str) -> bool {
        let first = self.shared.lock().failed.is_none();
        self.shared.fail(format!("rank {} failed: {why}", self.rank));
        first
    }

    /// A thread does not end its process: it unwinds.
    fn abort(&self, code: i32) -> ! {
        self.fail(&format!("aborted with {code}"));
        std::panic::resume_unwind(Box::new(code))
    }

    fn close(&self) -> Result<()> {
        self.agree(0).map(drop)
    }
}
