//! Batches of samples that are about as long.

use std::cmp::Reverse;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::BatchSampler;
use crate::base::rng::permutation;
use crate::base::{Error, Result, keyed, memory};
use crate::data::Dataset;

crate::register! {
    /// Batches of samples that are about as long, so that little fills up short ones: for texts and sequences.
    ///
    /// ```yaml
    /// {type: LengthBatchSampler, batches: 50}
    /// ```
    dyn BatchSampler, "LengthBatchSampler" => LengthBatchSampler
}

/// Sorts every stretch of so many batches by length; then the batches change places.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LengthBatchSampler {
    /// How many batches are sorted together: more of them are more alike, and less shuffled.
    #[schemars(range(min = 1))]
    pub batches: usize,
    /// Whether the batches of a pass change places; else those of each stretch go from long to short.
    pub shuffle: bool,
    /// Whether to leave out the last batch of a pass when it is not full, as `drop_last` of the loader says it.
    pub drop_last: bool,
}

impl Default for LengthBatchSampler {
    fn default() -> Self {
        Self { batches: 50, shuffle: true, drop_last: false }
    }
}

impl BatchSampler for LengthBatchSampler {
    /// Without lengths: batches change places. A loader arranges by what [`BatchSampler::for_data`] gives.
    fn arrange(&self, drawn: &mut [usize], batch: usize, seed: u64, pass: u64) {
        if !self.shuffle {
            return;
        }
        // The last batch stays where it is if it is not full.
        let before = drawn.to_vec();
        let batches = before.chunks_exact(batch.max(1));
        let places = permutation(batches.len(), &mut keyed(seed, "batches", pass, 0));
        for (to, from) in drawn.chunks_exact_mut(batch.max(1)).zip(places) {
            to.copy_from_slice(before.chunks_exact(batch.max(1)).nth(from).unwrap_or_default());
        }
    }

    fn for_data(&self, data: &dyn Dataset) -> Result<Option<Arc<dyn BatchSampler>>> {
        memory::lists("the lengths of all samples", data.len(), size_of::<usize>())?;
        let untold = |index| {
            Error::invalid(format!(
                "the data set does not tell how long sample {index} is before it reads it"
            ))
        };
        let lengths = (0..data.len()).map(|index| data.length(index).ok_or_else(|| untold(index)));
        Ok(Some(Arc::new(Sorted { lengths: lengths.collect::<Result<_>>()?, of: self.clone() })))
    }

    fn drop_last(&self) -> bool {
        self.drop_last
    }
}

/// The same with the length of each sample.
struct Sorted {
    of: LengthBatchSampler,
    lengths: Vec<usize>,
}

impl BatchSampler for Sorted {
    fn arrange(&self, drawn: &mut [usize], batch: usize, seed: u64, pass: u64) {
        // The sort is stable: what is as long stays in the order drawn.
        for stretch in drawn.chunks_mut(batch.max(1).saturating_mul(self.of.batches.max(1))) {
            stretch.sort_by_key(|index| Reverse(self.lengths.get(*index).copied().unwrap_or(0)));
        }
        self.of.arrange(drawn, batch, seed, pass);
    }
}
