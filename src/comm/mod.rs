//! What the processes of a run say to each other. A run of one has [`Solo`]; those that a launcher started meet through
//! MPI ([`join`]); in tests [`testing::ranks`](crate::testing::ranks) makes ranks of threads.

use std::fmt::Debug;
use std::time::Duration;

use crate::base::{Elem, Error, Result};

mod launcher;
#[cfg(unix)]
mod mpi;
mod solo;
mod timed;

pub use launcher::{Launcher, Started, join};
pub use solo::Solo;
pub use timed::{Spent, Timed};

/// Which of the processes this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number among all, from 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// Its number among those of this machine.
    pub local_rank: usize,
    /// How many there are on this machine.
    pub local_world: usize,
}

impl Place {
    /// The only process.
    pub const SOLO: Self = Self { rank: 0, world: 1, local_rank: 0, local_world: 1 };

    /// Whether it is the one that writes the files of a run and speaks to the terminal.
    pub fn is_main(self) -> bool {
        self.rank == 0
    }
}

/// A sum under way. Its numbers are kept where the transport writes, so that nothing is freed under it when a rank
/// unwinds; dropping this forgets the result and nothing else.
#[derive(Debug)]
#[must_use = "the sum is had by `finish`"]
pub struct Pending {
    /// Its number among the calls of this rank.
    pub id: u64,
}

/// The processes of a run that train together.
///
/// **Contract.** All ranks make the same calls in the same order, whatever their data: `sum`, `start_sum`, `gather`,
/// `broadcast` and `agree` are such calls. `poll` and `finish` need no order; other calls may stand between the start
/// and the finish of a sum. One thread calls at a time. Calls that do not match (another kind, another length) are
/// errors on every rank, as is a rank that has failed or that does not come within the patience. After an error a group
/// is of no more use: what is left to do is [`fail`](Self::fail) and [`abort`](Self::abort).
///
/// Sums are made in the order of the ranks, `r0 + r1 + r2 …`, then times the factor, so that all ranks, runs, libraries
/// and sizes of buckets give equal bits.
pub trait Comm: Debug + Send + Sync {
    /// Which rank this is.
    fn place(&self) -> Place;

    /// Replaces each number by its sum over all ranks: statistics, losses, counts.
    ///
    /// # Errors
    /// As the contract says.
    fn sum(&self, numbers: &mut [f64]) -> Result<()>;

    /// Begins to sum elements of tensors, gradients, and to multiply the sum by a factor, for which all ranks give the
    /// same. Several sums may be under way.
    ///
    /// # Errors
    /// As the contract says.
    fn start_sum(&self, data: Vec<Elem>, factor: Elem) -> Result<Pending>;

    /// Moves on what is under way, without waiting. Between layers of a backward pass is the place for it.
    ///
    /// # Errors
    /// As the contract says.
    fn poll(&self) -> Result<()>;

    /// Waits for a sum.
    ///
    /// # Errors
    /// As the contract says.
    fn finish(&self, sum: Pending) -> Result<Vec<Elem>>;

    /// Sums elements by the transport's own call, in whatever order that takes: for whoever asks what the order of the
    /// ranks costs. A call that all make, which has no patience. False of a transport without one.
    ///
    /// # Errors
    /// What the transport says.
    fn sum_in_any_order(&self, _data: &mut [Elem]) -> Result<bool> {
        Ok(false)
    }

    /// The bytes of all ranks, of any lengths, in the order of the ranks.
    ///
    /// # Errors
    /// As the contract says.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Gives all ranks the bytes of one of them.
    ///
    /// # Errors
    /// As the contract says; no such rank.
    fn broadcast(&self, from: usize, data: &mut Vec<u8>) -> Result<()> {
        let Place { rank, world, .. } = self.place();
        if from >= world {
            return Err(Error::Comm(format!("rank {from} was to speak, there are {world}")));
        }
        let mut all = self.gather(if rank == from { data } else { &[] })?;
        *data = all.swap_remove(from);
        Ok(())
    }

    /// The bits that any rank sets: leave, save, not finite, stop early. Also the barrier.
    ///
    /// # Errors
    /// As the contract says.
    fn agree(&self, flags: u64) -> Result<u64> {
        if self.place().world == 1 {
            return Ok(flags);
        }
        let mut agreed = 0;
        for own in self.gather(&flags.to_le_bytes())? {
            let Ok(own) = own.try_into() else {
                return Err(Error::Comm("the ranks do not agree on what they agree about".into()));
            };
            agreed |= u64::from_le_bytes(own);
        }
        Ok(agreed)
    }

    /// How long a call waits for the other ranks; 30 minutes at first.
    fn set_patience(&self, limit: Duration);

    /// Tells the others that this rank has failed, and waits a few seconds for them to hear of it and to have said the
    /// same. True for the one rank that is to tell a person: it failed by itself, not because of another, and none
    /// before it says the same.
    fn fail(&self, why: &str) -> bool;

    /// Ends all ranks, this one with the code, and waits for none of them.
    fn abort(&self, code: i32) -> !;

    /// The orderly end, when all ranks have come to it. Dropping ends nothing: a rank that unwinds must not say that
    /// all is well.
    ///
    /// # Errors
    /// As the contract says.
    fn close(&self) -> Result<()>;
}
