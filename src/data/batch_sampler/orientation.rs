//! Batches of pictures that lie the same way round.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::BatchSampler;
use crate::base::Result;
use crate::data::Dataset;
use crate::data::sampler::orientations;

crate::register! {
    /// Batches of upright pictures and batches of wide ones, as MMDetection makes them, so that little is padded.
    dyn BatchSampler, "AspectRatioBatchSampler" => AspectRatioBatchSampler
}

/// Upright pictures, which are higher than wide, and all others in batches of their own, in the order in which those
/// fill up. What is left at the end of a pass, upright pictures first, makes the last batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AspectRatioBatchSampler {
    /// Whether to leave out the last batch of a pass when it is not full, as `drop_last` of the loader says it.
    pub drop_last: bool,
}

impl BatchSampler for AspectRatioBatchSampler {
    /// Without sizes: as they come. A loader arranges by what [`BatchSampler::for_data`] gives.
    fn arrange(&self, _: &mut [usize], _: usize, _: u64, _: u64) {}

    fn for_data(&self, data: &dyn Dataset) -> Result<Option<Arc<dyn BatchSampler>>> {
        Ok(Some(Arc::new(Oriented { groups: orientations(data)? })))
    }

    fn drop_last(&self) -> bool {
        self.drop_last
    }
}

/// The same with the way each picture lies: 0 for upright.
struct Oriented {
    groups: Vec<u32>,
}

impl BatchSampler for Oriented {
    fn arrange(&self, drawn: &mut [usize], batch: usize, _: u64, _: u64) {
        let (mut full, mut buckets) = (Vec::with_capacity(drawn.len()), [Vec::new(), Vec::new()]);
        for index in drawn.iter().copied() {
            let bucket = &mut buckets[usize::from(self.groups.get(index) != Some(&0))];
            bucket.push(index);
            if bucket.len() >= batch {
                full.append(bucket);
            }
        }
        full.extend(buckets.concat());
        drawn.copy_from_slice(&full);
    }
}
