//! A part of the samples, each several times.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Sampler;
use super::passes::one_pass;

crate::register! {
    /// Each sample `num_repeats` times in a row, each time augmented anew, as many in all as there are samples.
    dyn Sampler, "RepeatAugSampler" => RepeatAugSampler
}

/// Repeated augmentation (Hoffer et al. 2020), as DeiT trains: a pass takes a part of the samples, each `num_repeats`
/// times, and is as long as one over all of them. Ranks take turns, so that each gets another copy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RepeatAugSampler {
    /// Whether to draw the part anew for each pass; else it is always the first one.
    pub shuffle: bool,
    /// How often each sample comes.
    #[schemars(range(min = 1))]
    pub num_repeats: usize,
    /// Seed of the order; the run's seed if it is not given.
    pub seed: Option<u64>,
}

impl Default for RepeatAugSampler {
    fn default() -> Self {
        Self { shuffle: true, num_repeats: 3, seed: None }
    }
}

impl Sampler for RepeatAugSampler {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let order = one_pass(self.shuffle, len, self.seed.unwrap_or(seed), pass);
        order
            .into_iter()
            .flat_map(|index| std::iter::repeat_n(index, self.num_repeats.max(1)))
            .take(len)
            .collect()
    }
}
