//! The order in which samples are visited: a pure function of (length, seed, pass, rank).

mod by_class;
mod grouped;
mod groups;
mod passes;
mod repeat_aug;
mod repeat_factor;
mod weighted;

use std::sync::Arc;

use super::Dataset;
use crate::base::Result;

pub use by_class::ClassAwareSampler;
pub use grouped::GroupSampler;
pub(super) use groups::orientations;
pub use passes::{DefaultSampler, InfiniteSampler, SequentialSampler, Subsample};
pub use repeat_aug::RepeatAugSampler;
pub use repeat_factor::RepeatFactorSampler;
pub(super) use repeat_factor::repeat_factors;
pub use weighted::{SampleWeights, WeightedRandomSampler};

/// Which of several processes this one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub world: usize,
}

impl Shard {
    /// The only process.
    pub const SOLO: Self = Self { rank: 0, world: 1 };

    /// Where in the order of all ranks the `position`-th sample of this rank stands.
    pub fn place(self, position: u64) -> u64 {
        position.saturating_mul(self.world as u64).saturating_add(self.rank as u64)
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::SOLO
    }
}

/// How the order of a pass is dealt out to the ranks; but for blocks, each takes every `world`-th sample, beginning
/// with its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardPolicy {
    /// Equal shares: the order is repeated from its beginning until they come out even.
    RoundUp,
    /// Every sample once; shares may differ by one, and be empty.
    Uneven,
    /// Equal shares as blocks, one behind the other: the order is repeated from its beginning to fill the last ones.
    Blocks,
    /// An endless stream of passes, without a seam between them: batches run across, nothing is repeated or left out.
    Endless,
}

impl ShardPolicy {
    /// How many of the `n` samples of a pass this rank gets; for an endless stream all `n`, as MMEngine counts it.
    pub fn share(self, n: usize, shard: Shard) -> usize {
        match self {
            Self::RoundUp | Self::Blocks => n.div_ceil(shard.world),
            Self::Uneven => n.saturating_sub(shard.rank).div_ceil(shard.world),
            Self::Endless => n,
        }
    }

    /// Where in the order of a pass of `n` samples the `position`-th of this rank stands.
    pub(super) fn place(self, position: u64, n: usize, shard: Shard) -> u64 {
        match self {
            Self::Blocks => {
                (shard.rank as u64).saturating_mul(self.share(n, shard) as u64).saturating_add(position)
            }
            _ => shard.place(position),
        }
    }
}

crate::registry!(dyn Sampler, "sampler");

/// Chooses the samples of each pass over a data set and their order.
pub trait Sampler: Send + Sync {
    /// The positions in a data set of `len` samples that all ranks together visit in pass `pass`, in order. Must depend
    /// on nothing but the arguments and the sampler's own settings: a resumed run calls it afresh. A sample that comes
    /// several times in a pass is augmented anew each time.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize>;

    /// The sampler for these data, where it has to know more of them than how many there are: the classes, say. All
    /// ranks together take `batch` samples at a time. A loader asks it before the first pass, and then draws from what
    /// it gives, also how long a pass is; its `policy` is that of this.
    ///
    /// # Errors
    /// When the data do not tell, or do not fit.
    fn for_data(&self, _data: &dyn Dataset, _batch: usize) -> Result<Option<Arc<dyn Sampler>>> {
        Ok(None)
    }

    /// Number of samples in each pass, if it is not the length of the data set.
    fn pass_len(&self, len: usize) -> usize {
        len
    }

    /// How a pass is dealt out to the ranks.
    fn policy(&self) -> ShardPolicy {
        ShardPolicy::RoundUp
    }

    /// Whether batches run on from one pass into the next.
    fn infinite(&self) -> bool {
        self.policy() == ShardPolicy::Endless
    }

    /// What one rank visits in pass `pass`, in order: it follows from [`Sampler::draw`] and [`Sampler::policy`], which
    /// the loader asks, so there is no point in overriding it.
    fn order(&self, len: usize, seed: u64, pass: u64, shard: Shard) -> Vec<usize> {
        let drawn = self.draw(len, seed, pass);
        let n = drawn.len();
        match self.policy() {
            _ if n == 0 => drawn,
            ShardPolicy::Endless => {
                // The stream does not restart with the pass, so the rank's first place in it moves.
                let done = (pass as u128 * n as u128 % shard.world as u128) as usize;
                let first = (shard.rank + shard.world - done) % shard.world;
                drawn.into_iter().skip(first).step_by(shard.world).collect()
            }
            policy => {
                let place = |i| (policy.place(i as u64, n, shard) % n as u64) as usize;
                (0..policy.share(n, shard)).map(|i| drawn[place(i)]).collect()
            }
        }
    }
}

macro_rules! pointers_are_samplers {
    ($($pointer:ident),+) => {$(
        impl<S: Sampler + ?Sized> Sampler for $pointer<S> {
            fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
                (**self).draw(len, seed, pass)
            }

            fn for_data(&self, data: &dyn Dataset, batch: usize) -> Result<Option<Arc<dyn Sampler>>> {
                (**self).for_data(data, batch)
            }

            fn pass_len(&self, len: usize) -> usize {
                (**self).pass_len(len)
            }

            fn policy(&self) -> ShardPolicy {
                (**self).policy()
            }
        }
    )+};
}
pointers_are_samplers!(Box, Arc);

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(sampler: &dyn Sampler, len: usize, world: usize) -> Vec<Vec<usize>> {
        (0..world).map(|rank| sampler.order(len, 0, 0, Shard { rank, world })).collect()
    }

    #[test]
    fn smp_01_a_set_smaller_than_the_world() {
        let even = DefaultSampler { shuffle: false, ..Default::default() };
        let expected: Vec<Vec<usize>> = [0, 1, 2, 0, 1, 2, 0, 1].iter().map(|&i| vec![i]).collect();
        assert_eq!(orders(&even, 3, 8), expected);
        let uneven = DefaultSampler { round_up: false, ..even };
        let lengths: Vec<usize> = orders(&uneven, 3, 8).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, 1, 0, 0, 0, 0, 0]);
        assert!(orders(&uneven, 0, 2).iter().all(Vec::is_empty));
    }

    /// 8 examples on 2 ranks, as MMPretrain's documentation has it, and 5 on 3.
    #[test]
    fn blocks_follow_each_other() {
        let blocks = SequentialSampler { subsample_type: Subsample::Sequential, ..Default::default() };
        assert_eq!(orders(&blocks, 8, 2), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        assert_eq!(orders(&blocks, 5, 3), [vec![0, 1], vec![2, 3], vec![4, 0]]);
        let turns = SequentialSampler::default();
        assert_eq!(orders(&turns, 8, 2), [vec![0, 2, 4, 6], vec![1, 3, 5, 7]]);
    }

    #[test]
    fn ranks_interleave_and_the_padding_comes_from_the_front() {
        let sampler = DefaultSampler { shuffle: false, ..Default::default() };
        assert_eq!(orders(&sampler, 5, 2), [vec![0, 2, 4], vec![1, 3, 0]]);
    }

    #[test]
    fn the_endless_stream_is_dealt_out_without_a_seam() {
        let sampler = InfiniteSampler { shuffle: false, ..Default::default() };
        let stream = |rank| -> Vec<usize> {
            (0..2).flat_map(|pass| sampler.order(3, 0, pass, Shard { rank, world: 2 })).collect()
        };
        // 0 1 2 0 1 2 dealt to two ranks
        assert_eq!([stream(0), stream(1)], [[0, 2, 1], [1, 0, 2]]);
    }

    #[test]
    fn an_order_belongs_to_its_pass_and_its_seed() {
        let sampler = DefaultSampler::default();
        let order = |seed, pass| sampler.order(64, seed, pass, Shard::SOLO);
        assert_eq!(order(0, 1), order(0, 1));
        assert_ne!(order(0, 1), order(0, 2));
        assert_ne!(order(0, 1), order(1, 1));
        // RES-02: an epoch reached by its number is no composition of the epochs before.
        let composed: Vec<usize> = order(0, 0).iter().map(|&i| order(0, 1)[i]).collect();
        assert_ne!(order(0, 1), composed);
        let own = DefaultSampler { seed: Some(1), ..Default::default() };
        assert_eq!(own.order(64, 0, 1, Shard::SOLO), order(1, 1));
    }
}
