//! The end of a run that only leaves out updates, because its gradients are not finite.

use super::{LossScale, OptimWrapper, Update};
use crate::base::number::short;
use crate::base::{Error, Result};

/// Updates in a row that an optimizer may leave out.
const MOST_IN_A_ROW: u64 = 100;

impl OptimWrapper {
    /// Counts the updates in a row that were left out, of each optimizer where they take turns: after so many the next
    /// ones will hardly move the weights. A loss scale that moves ends by its own law.
    pub(super) fn count_left_out(&mut self, done: &Update) -> Result<()> {
        let whose = self.whose_turn().unwrap_or_default();
        let text = match done {
            Update::Stepped(_) => {
                self.left_out.remove(&whose);
                return Ok(());
            }
            Update::Overflowed { from, to } if from != to => return Ok(()),
            Update::Overflowed { from, .. } => {
                let dynamic = self
                    .scaler
                    .as_ref()
                    .is_some_and(|scaler| matches!(scaler.loss_scale(), LossScale::Dynamic(_)));
                let finds = if dynamic { "a smaller `backoff_factor`" } else { "`loss_scale: dynamic`" };
                format!(
                    "the gradients of {MOST_IN_A_ROW} updates in a row are not finite with a loss scale of {}, which does \
                     not move: nothing is learnt. {finds} finds one where there is one; with `loss_scale: 1.0` \
                     CheckInvalidLossHook with `check: all` says where the first bad number is",
                    short(*from)
                )
            }
            Update::Skipped(_) => format!(
                "the norms of the gradients of {MOST_IN_A_ROW} updates in a row are not finite: nothing is learnt. \
                 CheckInvalidLossHook with `check: all` says where the first bad number is; where there is none, `norm_type` \
                 is too small for the number of weights"
            ),
        };
        let count = self.left_out.entry(whose).or_default();
        *count += 1;
        if *count < MOST_IN_A_ROW {
            return Ok(());
        }
        // Who goes on from here has changed something.
        self.left_out.clear();
        Err(Error::invalid(text))
    }
}
