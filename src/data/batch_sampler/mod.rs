//! How the samples that a sampler drew are put into batches: a pure function of the order, the seed and the pass.

mod by_length;
mod orientation;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Dataset;
use crate::base::Result;

pub use by_length::LengthBatchSampler;
pub use orientation::AspectRatioBatchSampler;

crate::registry!(dyn BatchSampler, "batch_sampler");

/// Says which of the samples that a [`Sampler`](super::Sampler) drew go into one batch.
pub trait BatchSampler: Send + Sync {
    /// Puts the samples of a pass into the order in which batches are cut from them, `batch` samples for all ranks
    /// together; a last one that is not full stays behind. None is left out, none is added. It must depend on nothing
    /// but the arguments and its own settings: a resumed run calls it afresh.
    ///
    /// Of an endless sampler it gets a pass without the samples that fill up the batch which the pass before has begun.
    fn arrange(&self, drawn: &mut [usize], batch: usize, seed: u64, pass: u64);

    /// The batch sampler for these data, where it has to know more of them than their positions: lengths, say. A loader
    /// asks it before the first pass.
    ///
    /// # Errors
    /// When the data do not tell.
    fn for_data(&self, _data: &dyn Dataset) -> Result<Option<Arc<dyn BatchSampler>>> {
        Ok(None)
    }

    /// Whether the last batch of a pass is left out where it is not full; so it is where the loader says it.
    fn drop_last(&self) -> bool {
        false
    }
}

macro_rules! pointers_are_batch_samplers {
    ($($pointer:ident),+) => {$(
        impl<S: BatchSampler + ?Sized> BatchSampler for $pointer<S> {
            fn arrange(&self, drawn: &mut [usize], batch: usize, seed: u64, pass: u64) {
                (**self).arrange(drawn, batch, seed, pass);
            }

            fn for_data(&self, data: &dyn Dataset) -> Result<Option<Arc<dyn BatchSampler>>> {
                (**self).for_data(data)
            }

            fn drop_last(&self) -> bool {
                (**self).drop_last()
            }
        }
    )+};
}
pointers_are_batch_samplers!(Box, Arc);

crate::register! {
    /// Batches in the order of the sampler, one behind the other: PyTorch's, and what a loader does by itself.
    dyn BatchSampler, "BatchSampler" => DefaultBatchSampler
}

/// Batches in the order of the sampler, one behind the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DefaultBatchSampler {
    /// Whether to leave out the last batch of a pass when it is not full, as `drop_last` of the loader says it.
    pub drop_last: bool,
}

impl BatchSampler for DefaultBatchSampler {
    fn arrange(&self, _: &mut [usize], _: usize, _: u64, _: u64) {}

    fn drop_last(&self) -> bool {
        self.drop_last
    }
}
