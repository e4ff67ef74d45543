//! Processes that train together, as threads.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::base::{Error, Result};
use crate::nn::RankSums;

/// What each rank of a group does, with what it gave, in their order.
///
/// Ranks add up their numbers as processes do: each sum waits for all, and a rank that ends with an error ends the
/// sums of the others.
///
/// ```
/// use shanty::testing::ranks;
///
/// let sums = ranks(3, |rank, group| {
///     let mut numbers = [rank as f64, 1.0];
///     group.sum(&mut numbers)?;
///     Ok(numbers)
/// })?;
/// assert_eq!(sums, [[3.0, 3.0]; 3]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
///
/// # Errors
/// The first of a rank.
pub fn ranks<R: Send>(
    world: usize,
    run: impl Fn(usize, Arc<dyn RankSums>) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let shared = Arc::new(Shared { world, state: Mutex::default(), turned: Condvar::new() });
    std::thread::scope(|scope| {
        let one = |rank: usize| {
            let (shared, run) = (Arc::clone(&shared), &run);
            scope.spawn(move || {
                let _leaves = Leaves(Arc::clone(&shared));
                run(rank, Arc::new(Rank { rank, shared }))
            })
        };
        let threads: Vec<_> = (0..world).map(one).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|result| result.unwrap_or_else(|_| Err(Error::invalid("a rank panicked")))).collect()
    })
}

#[derive(Debug)]
struct Rank {
    rank: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: usize,
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The numbers of the ranks that have come to the sum that is under way.
    given: Vec<(usize, Vec<f64>)>,
    /// The last sum that is complete, and how many there have been.
    sum: Vec<f64>,
    done: u64,
    /// Whether a rank has left.
    left: bool,
}

/// Tells the others when a rank ends, however it does.
struct Leaves(Arc<Shared>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).left = true;
        self.0.turned.notify_all();
    }
}

impl RankSums for Rank {
    fn sum(&self, numbers: &mut [f64]) -> Result<()> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let round = state.done;
        state.given.push((self.rank, numbers.to_vec()));
        if state.given.len() == self.shared.world {
            let mut given = std::mem::take(&mut state.given);
            given.sort_by_key(|(rank, _)| *rank);
            if given.iter().any(|(_, own)| own.len() != numbers.len()) {
                state.left = true;
                self.shared.turned.notify_all();
                return Err(Error::invalid("the ranks add up different numbers of numbers"));
            }
            state.sum = vec![0.0; numbers.len()];
            for (_, own) in given {
                state.sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
            }
            state.done += 1;
            self.shared.turned.notify_all();
        }
        while state.done == round && !state.left {
            state = self.shared.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.done == round {
            return Err(Error::invalid("another rank has left"));
        }
        numbers.copy_from_slice(&state.sum);
        Ok(())
    }
}
