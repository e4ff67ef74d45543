//! Counters of completed units. They tick before the `after_*` points, so no hook adds one.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::base::number::count;
use crate::base::{Error, Result};

/// What the run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before, between and after the loops.
    #[default]
    Idle,
    /// In the training loop.
    Train,
    /// In a validation.
    Val,
    /// In a test.
    Test,
}

/// Where the run stands. In `after_train_iter` of the first iteration `iter` is 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Completed epochs; stays 0 in the iteration loop.
    pub epoch: u64,
    /// Completed iterations over the whole run.
    pub iter: u64,
    /// Completed batches of the current epoch (of the whole run in the iteration loop).
    pub batch: u64,
    /// Batches in an epoch of the training data.
    pub epoch_len: u64,
    /// Epochs of the whole run (1 in the iteration loop).
    pub max_epochs: u64,
    /// Iterations of the whole run.
    pub max_iters: u64,
    /// Whether the training loop counts epochs.
    pub by_epoch: bool,
    /// What the run is doing.
    pub phase: Phase,
    /// Completed batches of the current validation or test.
    pub eval_batch: u64,
    /// Batches in the current validation or test.
    pub eval_len: u64,
    /// The iteration at which the last validation ended; `None` before the first.
    pub validated: Option<u64>,
    /// Seconds since the run began, read once per call of a hook point.
    pub now: f64,
}

impl Progress {
    /// Completed epochs, or iterations in a loop that counts those.
    pub fn completed(&self) -> u64 {
        if self.by_epoch { self.epoch } else { self.iter }
    }

    /// Whether something that begins with the epoch (or iteration) `begin` begins in this run at all; where that is not
    /// known, it does.
    ///
    /// # Errors
    /// With the key and how long the run is.
    pub fn check_begin(&self, key: &str, begin: u64) -> Result<()> {
        let (total, unit) =
            if self.by_epoch { (self.max_epochs, "epoch") } else { (self.max_iters, "iteration") };
        if self.max_iters == 0 || begin <= total {
            return Ok(());
        }
        Err(Error::config(format!("`{key}: {begin}`, but the run has {}", count(total, unit))))
    }

    /// In `after_train_epoch`: true every `n` epochs, counted from `begin` (which triggers itself).
    ///
    /// ```
    /// use shanty::hook::Progress;
    /// let at = |epoch| Progress { epoch, ..Progress::default() }.every_n_epochs(2, 5);
    /// assert_eq!((1..=9).filter(|e| at(*e)).collect::<Vec<_>>(), [5, 7, 9]);
    /// ```
    pub fn every_n_epochs(&self, n: u64, begin: u64) -> bool {
        every(self.epoch, n, begin)
    }

    /// In `after_train_iter`: true every `n` iterations, counted from `begin`.
    pub fn every_n_iters(&self, n: u64, begin: u64) -> bool {
        every(self.iter, n, begin)
    }

    /// In `after_train_iter`: true every `n` batches of the epoch.
    pub fn every_n_batches(&self, n: u64) -> bool {
        every(self.batch, n, 0)
    }

    /// The last epoch is complete.
    pub fn is_last_epoch(&self) -> bool {
        self.epoch >= self.max_epochs
    }

    /// The last iteration is complete.
    pub fn is_last_iter(&self) -> bool {
        self.iter >= self.max_iters
    }

    /// The last batch of the epoch is complete.
    pub fn end_of_epoch(&self) -> bool {
        self.epoch_len > 0 && self.batch > 0 && self.batch.is_multiple_of(self.epoch_len)
    }
}

fn every(done: u64, n: u64, begin: u64) -> bool {
    n > 0 && done > 0 && done >= begin && (done - begin).is_multiple_of(n)
}

impl Progress {
    /// The global numbers of the batches that are left in the current epoch: first and one past the last.
    pub(crate) fn batches_of_epoch(&self) -> (u64, u64) {
        let first = self.epoch * self.epoch_len;
        (first + self.batch, first + self.epoch_len)
    }

    /// The global numbers of the batches of a pass over the data: the one that ends with the completed iteration, if
    /// one does or the run ends here.
    pub(crate) fn ended_pass(&self) -> Option<Range<u64>> {
        if self.by_epoch {
            return (self.batch == self.epoch_len).then(|| self.pass());
        }
        let begun = self.iter.checked_sub(1)? / self.epoch_len.max(1) * self.epoch_len;
        let ends = self.epoch_len > 0 && self.iter.is_multiple_of(self.epoch_len);
        (ends || self.is_last_iter()).then_some(begun..self.iter)
    }

    /// The global numbers of the batches of the pass under way.
    pub(crate) fn pass(&self) -> Range<u64> {
        let pass = if self.by_epoch { self.epoch } else { self.iter / self.epoch_len.max(1) };
        let first = pass.saturating_mul(self.epoch_len);
        first..first.saturating_add(self.epoch_len)
    }

    /// Counts the epoch if all its batches were trained.
    pub(crate) fn tick_epoch_if_complete(&mut self) {
        if self.batch == self.epoch_len {
            self.epoch += 1;
            self.batch = 0;
        }
    }
}

impl Progress {
    /// The number of the epoch under way, from 1: what logs show.
    pub fn current_epoch(&self) -> u64 {
        (self.epoch + 1).min(self.max_epochs.max(1))
    }
}
