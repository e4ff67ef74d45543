//! What the layers of several processes tell each other.

use crate::base::Result;

/// Sums over the processes of a run that train one network on parts of a batch. A
/// [`SyncBatchNorm`](super::SyncBatchNorm) takes its statistics by it, and the gradients that go through them.
pub trait RankSums: std::fmt::Debug + Send + Sync {
    /// Replaces each number by its sum over all ranks, added in their order, so that all get the same bits. Every rank
    /// calls it in the same order with as many numbers.
    ///
    /// # Errors
    /// When another rank is gone, or sums other numbers.
    fn sum(&self, numbers: &mut [f64]) -> Result<()>;
}
