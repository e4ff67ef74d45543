//! The end of a run that only leaves out updates, because its gradients are not finite.

use super::amp::Scaler;
use super::{OptimWrapper, Update};
use crate::base::number::short;
use crate::base::{Error, Result};

/// Updates in a row that may be left out.
const MOST_IN_A_ROW: u64 = 100;

impl OptimWrapper {
    /// Counts the updates in a row that were left out: weights that none of so many moved will not be moved by the next
    /// ones either. A dynamic loss scale ends by its own law.
    pub(super) fn count_left_out(&mut self, done: &Update) -> Result<()> {
        let fixed = self.scaler.as_ref().and_then(Scaler::fixed);
        self.left_out = match done {
            Update::Stepped(_) => 0,
            Update::Overflowed { .. } if fixed.is_none() => return Ok(()),
            Update::Skipped(_) | Update::Overflowed { .. } => self.left_out + 1,
        };
        if self.left_out < MOST_IN_A_ROW {
            return Ok(());
        }
        let (with, remedy) = match fixed {
            Some(scale) => (
                format!(" with the fixed `loss_scale` of {}", short(scale)),
                "`loss_scale: dynamic` finds one; where the loss itself is not finite, ",
            ),
            None => (String::new(), ""),
        };
        Err(Error::invalid(format!(
            "the gradients of {MOST_IN_A_ROW} steps in a row are not finite{with}: nothing is learnt. {remedy}CheckInvalidLossHook \
             with `check: all` says where the first bad number is"
        )))
    }
}
