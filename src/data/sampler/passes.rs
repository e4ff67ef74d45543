//! Passes over all samples, in their order or shuffled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Sampler, ShardPolicy};
use crate::base::keyed;
use crate::base::rng::permutation;
use crate::base::{Error, Result};
use crate::registry::BuildCx;

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

crate::register! {
    /// Each sample once in a pass, in the order of the data set, in turns or in blocks by rank.
    dyn Sampler, "SequentialSampler" => fn SequentialSampler::from_config
}

/// Each sample once in a pass, in the order of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SequentialSampler {
    /// Whether ranks get equal shares, the order repeated from its beginning to fill them up.
    pub round_up: bool,
    /// default: ranks take turns; sequential: each takes a block.
    pub subsample_type: Subsample,
}

/// How ranks share the samples in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subsample {
    /// They take turns.
    #[default]
    Default,
    /// Each takes a block.
    Sequential,
}

impl Default for SequentialSampler {
    fn default() -> Self {
        Self { round_up: true, subsample_type: Subsample::Default }
    }
}

impl SequentialSampler {
    fn from_config(config: Self, _: &mut BuildCx) -> Result<Self> {
        match config {
            Self { round_up: false, subsample_type: Subsample::Sequential } => Err(Error::config(
                "blocks are equal shares: `subsample_type: sequential` goes with `round_up: true`",
            )),
            _ => Ok(config),
        }
    }
}

impl Sampler for SequentialSampler {
    fn draw(&self, len: usize, _: u64, _: u64) -> Vec<usize> {
        (0..len).collect()
    }

    fn policy(&self) -> ShardPolicy {
        match self.subsample_type {
            Subsample::Sequential => ShardPolicy::Blocks,
            Subsample::Default if self.round_up => ShardPolicy::RoundUp,
            Subsample::Default => ShardPolicy::Uneven,
        }
    }
}

pub(super) fn one_pass(shuffle: bool, len: usize, seed: u64, pass: u64) -> Vec<usize> {
    if shuffle { permutation(len, &mut keyed(seed, "shuffle", pass, 0)) } else { (0..len).collect() }
}
