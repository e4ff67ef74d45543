//! The batches whose gradients make one step.

use serde::{Deserialize, Serialize};

use super::OptimWrapper;
use crate::base::{Elem, Result};
use crate::params::{Op, Params};

/// The open accumulation window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Window {
    pub batches: u64,
    pub samples: u64,
    /// Whether its sum is a mean already, to which no batch can be added.
    #[serde(skip)]
    pub finished: bool,
}

impl Window {
    /// What batches can still be added to; nothing where it only waits for its update.
    pub fn open(self) -> Self {
        if self.finished { Self::default() } else { self }
    }
}

impl OptimWrapper {
    /// What the loss of a batch of `samples` is multiplied by: its weight in the window, times the scale of mixed
    /// precision.
    pub fn loss_scale(&self, samples: usize) -> Elem {
        if self.adds_up() { samples as Elem * self.loss_factor() } else { self.loss_factor() }
    }

    /// Whether a step is made of the gradients of several batches, which count by their samples.
    fn adds_up(&self) -> bool {
        self.accumulate > 1 || self.ranks.is_some()
    }

    /// Whether there are gradients of batches that the next one adds to.
    pub fn has_open_window(&self) -> bool {
        self.window.open().batches > 0
    }

    /// Counts a batch whose gradients were added. True when an update is due.
    pub fn backward_done(&mut self, samples: usize, last: bool) -> bool {
        self.window.batches += 1;
        self.window.samples += samples as u64;
        last || self.window.batches >= self.accumulate
    }

    /// Turns the sum of the window, of all ranks, into a mean over its samples, without the scale of mixed precision;
    /// before hooks see the gradients.
    ///
    /// # Errors
    /// What the device says, and the other ranks.
    pub fn finish_window(&mut self, params: &mut dyn Params) -> Result<()> {
        self.window.finished = true;
        if !self.adds_up() && self.scaler.is_none() {
            return Ok(());
        }
        self.meet(params)?;
        let divided = self.mean_of_ranks(params, self.window.samples)? || self.accumulate == 1;
        let samples = if divided { 1 } else { self.window.samples.max(1) };
        // In the arithmetic of the weights, as the sum itself.
        let factor = f64::from(1.0 / samples as Elem);
        match (&self.scaler, samples) {
            (Some(_), _) => self.unscale(params, factor),
            (None, 1) => Ok(()),
            (None, _) => params.apply(Op::ScaleGrads(factor), &|p| self.has(p)),
        }
    }
}
