//! The training loops.

use super::Session;
use crate::base::Result;
use crate::data::DataLoader;
use crate::hook::{Event, Phase};

/// How a run goes through its training data.
pub trait TrainLoop: Send {
    /// Epochs and iterations of the whole run for data with this many batches, and whether the loop counts epochs.
    fn totals(&self, epoch_len: u64) -> (u64, u64, bool);

    /// Runs from where the clock stands to the end of the schedule, or to a stop.
    ///
    /// # Errors
    /// The first failure of a hook, the model, the data or the disk.
    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()>;
}

/// Epoch after epoch; validates between epochs.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochBasedTrainLoop {
    /// Epochs of the whole run.
    pub max_epochs: u64,
    /// When to validate, in epochs.
    pub val: Intervals,
}

impl TrainLoop for EpochBasedTrainLoop {
    fn totals(&self, epoch_len: u64) -> (u64, u64, bool) {
        (self.max_epochs, self.max_epochs.saturating_mul(epoch_len), true)
    }

    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()> {
        s.enter(Phase::Train);
        s.fire(Event::BeforeTrain)?;
        // A checkpoint is written before its epoch is validated: a run resumed from it owes that validation.
        self.val.validate_if_due(s, s.state.progress.epoch, self.max_epochs)?;
        while s.state.progress.epoch < self.max_epochs && !s.stopping() {
            s.fire(Event::BeforeTrainEpoch)?;
            let (first, end) = s.state.progress.batches_of_epoch();
            let mut rolled_back = false;
            for batch in data.batches(first, Some(end)) {
                let batch = s.received(batch, data)?;
                s.train_iter(batch)?;
                rolled_back = s.take_rollback();
                if rolled_back || s.stopping() {
                    break;
                }
            }
            if rolled_back {
                self.val.validate_if_due(s, s.state.progress.epoch, self.max_epochs)?;
                continue;
            }
            s.state.progress.tick_epoch_if_complete();
            s.fire(Event::AfterTrainEpoch)?;
            self.val.validate_if_due(s, s.state.progress.epoch, self.max_epochs)?;
        }
        s.fire(Event::AfterTrain)
    }
}

/// One long pass over endless data; validates between iterations.
#[derive(Debug, Clone, PartialEq)]
pub struct IterBasedTrainLoop {
    /// Iterations of the whole run.
    pub max_iters: u64,
    /// When to validate, in iterations.
    pub val: Intervals,
}

impl TrainLoop for IterBasedTrainLoop {
    fn totals(&self, _epoch_len: u64) -> (u64, u64, bool) {
        (1, self.max_iters, false)
    }

    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()> {
        s.enter(Phase::Train);
        s.fire(Event::BeforeTrain)?;
        s.fire(Event::BeforeTrainEpoch)?;
        self.val.validate_if_due(s, s.state.progress.iter, self.max_iters)?;
        let mut batches = data.batches(s.state.progress.iter, Some(self.max_iters));
        while s.state.progress.iter < self.max_iters && !s.stopping() {
            let Some(batch) = batches.next() else { break };
            let batch = s.received(batch, data)?;
            s.train_iter(batch)?;
            if s.take_rollback() {
                batches = data.batches(s.state.progress.iter, Some(self.max_iters));
            }
            self.val.validate_if_due(s, s.state.progress.iter, self.max_iters)?;
        }
        s.fire(Event::AfterTrainEpoch)?;
        s.fire(Event::AfterTrain)
    }
}

/// When to validate, in the unit of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals {
    /// First unit after which a validation may be.
    pub begin: u64,
    /// Units between two validations. The end of the run is validated anyway.
    pub every: u64,
    /// `(milestone, interval)`: from unit `milestone` on another interval holds.
    pub dynamic: Vec<(u64, u64)>,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { begin: 1, every: 1, dynamic: Vec::new() }
    }
}

impl Intervals {
    /// Every `n` units and at the end.
    pub fn every(n: u64) -> Self {
        Self { every: n, ..Self::default() }
    }

    /// Whether a validation follows the completed unit `done` of `total`.
    ///
    /// ```
    /// use shanty::run::Intervals;
    /// let due = |v: &Intervals, n| (1..=n).filter(|e| v.due(*e, n)).collect::<Vec<_>>();
    /// assert_eq!(due(&Intervals { begin: 5, every: 3, ..Intervals::default() }, 10), [6, 9, 10]);
    /// // MMEngine looks the interval up one unit ahead.
    /// assert_eq!(due(&Intervals { dynamic: vec![(9, 1)], ..Intervals::every(4) }, 12), [4, 8, 9, 10, 11, 12]);
    /// ```
    pub fn due(&self, done: u64, total: u64) -> bool {
        let current = self.dynamic.iter().rfind(|(milestone, _)| *milestone <= done.saturating_add(1));
        let every = current.map_or(self.every, |(_, interval)| *interval);
        done > 0 && done >= self.begin && (done == total || (every > 0 && done.is_multiple_of(every)))
    }

    fn validate_if_due(&self, s: &mut Session, done: u64, total: u64) -> Result<()> {
        let progress = &s.state.progress;
        let between_units = !progress.by_epoch || progress.batch == 0;
        let owed = self.due(done, total) && progress.validated != Some(progress.iter);
        // A run that leaves owes the validation to the one that resumes it.
        if between_units && owed && s.can_validate() && s.interrupted().is_none() {
            s.validate()?;
            s.check_interrupts()?;
        }
        Ok(())
    }
}
