//! Batches of samples that are about as long.

use std::cmp::Reverse;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Sampler;
use super::passes::one_pass;
use crate::base::rng::permutation;
use crate::base::{Error, Result, keyed, memory};
use crate::data::Dataset;

crate::register! {
    /// Batches of samples that are about as long, so that little fills up short ones: for texts and sequences.
    ///
    /// ```yaml
    /// {type: LengthGroupedSampler, batches: 50}
    /// ```
    dyn Sampler, "LengthGroupedSampler" => LengthGroupedSampler
}

/// A shuffled order of which every stretch of so many batches is sorted by length; then the batches change places. A
/// batch is as long as `batch_size` says, of all ranks together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LengthGroupedSampler {
    /// How many batches are sorted together: more of them are more alike, and less shuffled.
    #[schemars(range(min = 1))]
    pub batches: usize,
    /// Seed of the order; the run's seed if it is not given.
    pub seed: Option<u64>,
}

impl Default for LengthGroupedSampler {
    fn default() -> Self {
        Self { batches: 50, seed: None }
    }
}

impl Sampler for LengthGroupedSampler {
    /// Without lengths: shuffled. A loader draws from what [`Sampler::for_data`] gives.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        one_pass(true, len, self.seed.unwrap_or(seed), pass)
    }

    fn for_data(&self, data: &dyn Dataset, batch: usize) -> Result<Option<Arc<dyn Sampler>>> {
        memory::lists("the lengths of all samples", data.len(), size_of::<usize>())?;
        let untold = |index| {
            Error::invalid(format!(
                "the data set does not tell how long sample {index} is before it reads it"
            ))
        };
        let lengths = (0..data.len()).map(|index| data.length(index).ok_or_else(|| untold(index)));
        let (lengths, batch) = (lengths.collect::<Result<_>>()?, batch.max(1));
        Ok(Some(Arc::new(Grouped { of: self.clone(), lengths, batch })))
    }
}

/// The same with the length of each sample.
struct Grouped {
    of: LengthGroupedSampler,
    lengths: Vec<usize>,
    batch: usize,
}

impl Sampler for Grouped {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let mut order = self.of.draw(len, seed, pass);
        // The sort is stable: what is as long stays in the order drawn.
        for stretch in order.chunks_mut(self.batch.saturating_mul(self.of.batches.max(1))) {
            stretch.sort_by_key(|index| Reverse(self.lengths.get(*index).copied().unwrap_or(0)));
        }
        // The last batch stays where it is if it is not full.
        let full = order.chunks_exact(self.batch);
        let rest = full.remainder().to_vec();
        let batches: Vec<&[usize]> = full.collect();
        let places = permutation(batches.len(), &mut keyed(self.of.seed.unwrap_or(seed), "batches", pass, 0));
        places.into_iter().flat_map(|at| batches[at].iter().copied()).chain(rest).collect()
    }
}
