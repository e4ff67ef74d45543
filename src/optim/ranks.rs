//! Gradients of several ranks, each of its own samples, as those of one batch.

use std::sync::Arc;

use super::OptimWrapper;
use crate::base::{Elem, Result};
use crate::comm::Comm;
use crate::params::{FlatGrads, Params};

impl OptimWrapper {
    /// Trains beside other ranks. The loss of each batch counts by its samples from now on, and the gradients of a window
    /// are added up over the ranks before they are divided by the samples of all: so a rank may have more than another,
    /// and all take the same step.
    pub fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.ranks = Some(comm);
    }

    /// Makes the sums of the gradients of a window means over the samples of all ranks, of which this one had so many;
    /// false of one alone. A parameter has a gradient afterwards if it had one on any rank.
    pub(super) fn mean_of_ranks<P: Params + ?Sized>(&self, params: &mut P, samples: u64) -> Result<bool> {
        let Some(comm) = &self.ranks else { return Ok(false) };
        params.exchange(&|p| self.moves(p.name), &mut |flat| mean(&**comm, flat, samples))?;
        Ok(true)
    }
}

/// Means of all pieces, whose sums are under way together. First come the samples and who has which gradients: whoever
/// adds up divides as well then, while the sum is in its cache.
fn mean(comm: &dyn Comm, FlatGrads { pieces, reached }: &mut FlatGrads, samples: u64) -> Result<()> {
    // Counts are exact up to 2^53.
    let mut counts: Vec<f64> = reached.iter().map(|reached| f64::from(u8::from(*reached))).collect();
    counts.push(samples as f64);
    comm.sum(&mut counts)?;
    // In the arithmetic of the weights, as the sum itself.
    let factor = 1.0 / counts.pop().unwrap_or(0.0).max(1.0) as Elem;
    reached.iter_mut().zip(&counts).for_each(|(reached, ranks)| *reached = *ranks > 0.0);
    let sums: Vec<_> = pieces
        .iter_mut()
        .map(|piece| comm.start_sum(std::mem::take(piece), factor))
        .collect::<Result<_>>()?;
    for (piece, sum) in pieces.iter_mut().zip(sums) {
        *piece = comm.finish(sum)?;
    }
    Ok(())
}
