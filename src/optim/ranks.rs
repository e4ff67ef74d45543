//! Gradients of several ranks, each of its own samples, as those of one batch.

use std::sync::Arc;

use super::OptimWrapper;
use crate::base::{Elem, Result};
use crate::comm::Comm;
use crate::params::{FlatGrads, Params};

/// What counts beyond this is added up in a number of its own: 32-bit floats count exactly up to 2^24.
const LIMB: u64 = 1 << 12;

impl OptimWrapper {
    /// Trains beside other ranks. The loss of each batch counts by its samples from now on, and the gradients of a window
    /// are added up over the ranks before they are divided by the samples of all: so a rank may have more than another,
    /// and all take the same step.
    pub fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.ranks = Some(comm);
    }

    /// Adds up the gradients of all ranks, and the samples that they are of; on one alone they stay as they are. A
    /// parameter has a gradient afterwards if it had one on any rank.
    pub(super) fn join<P: Params + ?Sized>(&self, params: &mut P, samples: u64) -> Result<u64> {
        let Some(comm) = &self.ranks else { return Ok(samples) };
        let mut of_all = 0;
        params.exchange(&|p| self.moves(p.name), &mut |flat| {
            of_all = add_up(&**comm, flat, samples)?;
            Ok(())
        })?;
        Ok(of_all)
    }
}

/// Sums of all pieces, which are under way together. Who has which gradients, and of how many samples, stands behind the
/// first.
fn add_up(comm: &dyn Comm, flat: &mut FlatGrads, samples: u64) -> Result<u64> {
    let FlatGrads { pieces, reached } = flat;
    let Some(first) = pieces.first_mut() else { return Ok(samples) };
    let len = first.len();
    first.extend(reached.iter().map(|reached| Elem::from(u8::from(*reached))));
    first.extend([(samples % LIMB) as Elem, (samples / LIMB) as Elem]);
    let sums: Vec<_> =
        pieces.iter_mut().map(|piece| comm.start_sum(std::mem::take(piece))).collect::<Result<_>>()?;
    for (piece, sum) in pieces.iter_mut().zip(sums) {
        *piece = comm.finish(sum)?;
    }
    let Some(first) = pieces.first_mut() else { return Ok(samples) };
    let (flags, counts) = (len..len + reached.len(), len + reached.len()..);
    reached.iter_mut().zip(&first[flags]).for_each(|(reached, ranks)| *reached = *ranks > 0.0);
    let count = first[counts].iter().rev().fold(0, |sum, limb| sum * LIMB + *limb as u64);
    first.truncate(len);
    Ok(count)
}
