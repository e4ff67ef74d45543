//! The order in which samples are visited: a pure function of (length, seed, pass, rank).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::keyed;
use crate::base::rng::permutation;

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

/// How the order of a pass is dealt out to the ranks; each takes every `world`-th sample, beginning with its rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardPolicy {
    /// Equal shares: the order is repeated from its beginning until they come out even.
    RoundUp,
    /// Every sample once; shares may differ by one, and be empty.
    Uneven,
    /// An endless stream of passes, without a seam between them: batches run across, nothing is repeated or left out.
    Endless,
}

impl ShardPolicy {
    /// How many of the `n` samples of a pass this rank gets; for an endless stream all `n`, as MMEngine counts it.
    pub fn share(self, n: usize, shard: Shard) -> usize {
        match self {
            Self::RoundUp => n.div_ceil(shard.world),
            Self::Uneven => n.saturating_sub(shard.rank).div_ceil(shard.world),
            Self::Endless => n,
        }
    }
}

crate::registry!(dyn Sampler, "sampler");

/// Chooses the samples of each pass over a data set and their order.
pub trait Sampler: Send + Sync {
    /// The positions in a data set of `len` samples that all ranks together visit in pass `pass`, in order. Must depend
    /// on nothing but the arguments and the sampler's own settings: a resumed run calls it afresh.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize>;

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
        let (n, rank) = (drawn.len(), shard.rank);
        match self.policy() {
            _ if n == 0 => drawn,
            ShardPolicy::Endless => {
                // The stream does not restart with the pass, so the rank's first place in it moves.
                let done = (pass as u128 * n as u128 % shard.world as u128) as usize;
                let first = (rank + shard.world - done) % shard.world;
                drawn.into_iter().skip(first).step_by(shard.world).collect()
            }
            policy => (0..policy.share(n, shard)).map(|i| drawn[(i * shard.world + rank) % n]).collect(),
        }
    }
}

macro_rules! pointers_are_samplers {
    ($($pointer:ident),+) => {$(
        impl<S: Sampler + ?Sized> Sampler for $pointer<S> {
            fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
                (**self).draw(len, seed, pass)
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

crate::register! {
    /// Each sample once in a pass, shuffled anew for every pass.
    dyn Sampler, "DefaultSampler" => DefaultSampler
}

crate::register! {
    /// An endless stream of passes for training by iterations: every batch is full.
    dyn Sampler, "InfiniteSampler" => InfiniteSampler
}

/// Each sample once in a pass, shuffled anew for every pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DefaultSampler {
    /// Whether to shuffle; else in the order of the data set.
    pub shuffle: bool,
    /// Seed of the order; the run's seed if it is not given.
    pub seed: Option<u64>,
    /// Whether ranks get equal shares, the order repeated from its beginning to fill them up.
    pub round_up: bool,
}

impl Default for DefaultSampler {
    fn default() -> Self {
        Self { shuffle: true, seed: None, round_up: true }
    }
}

impl DefaultSampler {
    /// In the order of the data set, as one validates.
    pub fn sequential() -> Self {
        Self { shuffle: false, ..Self::default() }
    }
}

impl Sampler for DefaultSampler {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        one_pass(self.shuffle, len, self.seed.unwrap_or(seed), pass)
    }

    fn policy(&self) -> ShardPolicy {
        if self.round_up { ShardPolicy::RoundUp } else { ShardPolicy::Uneven }
    }
}

/// An endless stream of passes for training by iterations: batches run across the seam, so that all are full.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InfiniteSampler {
    /// Whether to shuffle each pass; else in the order of the data set.
    pub shuffle: bool,
    /// Seed of the order; the run's seed if it is not given.
    pub seed: Option<u64>,
}

impl Default for InfiniteSampler {
    fn default() -> Self {
        Self { shuffle: true, seed: None }
    }
}

impl Sampler for InfiniteSampler {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        one_pass(self.shuffle, len, self.seed.unwrap_or(seed), pass)
    }

    fn policy(&self) -> ShardPolicy {
        ShardPolicy::Endless
    }
}

fn one_pass(shuffle: bool, len: usize, seed: u64, pass: u64) -> Vec<usize> {
    if shuffle { permutation(len, &mut keyed(seed, "shuffle", pass, 0)) } else { (0..len).collect() }
}

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
