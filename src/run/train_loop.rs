//! The training loops.

use super::Session;
use crate::base::Result;
use crate::data::{Batch, Batches, DataLoader};
use crate::hook::{Event, Phase};

/// How long a whole run is, as its loop counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopTotals {
    /// Epochs of the run; 1 for a loop that counts iterations.
    pub epochs: u64,
    /// Iterations of the run.
    pub iters: u64,
    /// Whether the loop counts epochs: logs, schedules and checkpoints then do so too unless told otherwise.
    pub by_epoch: bool,
}

/// How a run goes through its training data.
///
/// A loop of one's own is a type with these two methods; what the built-in ones use is public ([`Session`]). It is
/// given to [`RunnerBuilder::train`](super::RunnerBuilder::train), or registered and named in `train_cfg: {type: …}`.
/// `examples/custom_loop.rs` has one.
pub trait TrainLoop: Send {
    /// How long the whole run is, for data with this many batches in a pass.
    fn totals(&self, epoch_len: u64) -> LoopTotals;

    /// Runs from where the counters (`s.state.progress`) stand to the end of the schedule, or to a stop. A resumed run
    /// calls it with the counters of its checkpoint, so a loop keeps no counters of its own.
    ///
    /// Who owes what:
    ///
    /// - The runner fires `before_run` and `after_run`, and puts the weights and the state of a checkpoint in place
    ///   before this is called. The loop begins with [`Session::begin_train`] and ends with [`Session::end_train`],
    ///   also after a stop.
    /// - [`Session::train_iter`] fires the points of an iteration, updates the weights, ticks `iter` and `batch`, saves
    ///   and validates what hooks asked for, and looks at signals and limits. [`Session::train_epoch`] is a whole epoch
    ///   of them.
    /// - The loop fires the points of an epoch and ticks `epoch`: [`Session::begin_epoch`] and [`Session::end_epoch`].
    /// - The loop asks [`Session::stopping`] after each iteration, and ends when it says so. It asks
    ///   [`Session::take_rollback`] too: after one it takes its batches from where the counters stand now.
    /// - The loop validates, by [`Session::val_if_due`]: after each unit that it counts, and once before the first,
    ///   since a run that is resumed from a checkpoint owes the validation which was due when that was written.
    ///
    /// # Errors
    /// The first failure of a hook, the model, the data or the disk.
    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()>;
}

/// What a loop calls, the built-in ones and one of your own alike.
impl Session {
    /// Begins the training: the point `before_train`.
    ///
    /// # Errors
    /// That of a hook.
    pub fn begin_train(&mut self) -> Result<()> {
        self.enter(Phase::Train);
        self.fire(Event::BeforeTrain)?;
        self.compare_ranks()
    }

    /// Ends the training, finished or stopped: the point `after_train`.
    ///
    /// # Errors
    /// That of a hook.
    pub fn end_train(&mut self) -> Result<()> {
        self.compare_ranks()?;
        self.fire(Event::AfterTrain)
    }

    /// Begins an epoch, or goes on with the one that the run stopped in: the point `before_train_epoch`.
    ///
    /// # Errors
    /// That of a hook.
    pub fn begin_epoch(&mut self) -> Result<()> {
        self.fire(Event::BeforeTrainEpoch)
    }

    /// Ends an epoch: ticks `epoch`, if the loop counts epochs and all batches were trained, then the point
    /// `after_train_epoch`.
    ///
    /// # Errors
    /// That of a hook.
    pub fn end_epoch(&mut self) -> Result<()> {
        if self.state.progress.by_epoch {
            self.state.progress.tick_epoch_if_complete();
        }
        self.fire(Event::AfterTrainEpoch)?;
        self.agree()
    }

    /// The batches that are left of the epoch in which the counters stand.
    pub fn batches_of_epoch(&self, data: &DataLoader) -> Batches {
        let (first, end) = self.state.progress.batches_of_epoch();
        data.batches(first, Some(end))
    }

    /// The next batch; what went wrong is told with its place in the run, and samples that were left out are named.
    ///
    /// # Errors
    /// The loader's.
    pub fn next_batch(&self, batches: &mut Batches, data: &DataLoader) -> Result<Option<Batch>> {
        batches.next().map(|batch| self.received(batch, data)).transpose()
    }

    /// The next batch, with the time that it was waited for.
    fn timed_batch(&mut self, batches: &mut Batches, data: &DataLoader) -> Result<Option<Batch>> {
        let began = self.state.profile.begin();
        let batch = self.next_batch(batches, data)?;
        self.state.profile.end("data", began);
        Ok(batch)
    }

    /// Trains what is left of the epoch in which the counters stand, up to its end, a stop, or a way back
    /// ([`take_rollback`]): after that the epoch is another one, and has not ended.
    ///
    /// [`take_rollback`]: Self::take_rollback
    ///
    /// # Errors
    /// The first failure of a hook, the model, the data or the disk.
    pub fn train_epoch(&mut self, data: &DataLoader) -> Result<()> {
        self.begin_epoch()?;
        let mut batches = self.batches_of_epoch(data);
        while let Some(batch) = self.timed_batch(&mut batches, data)? {
            self.next_iter(batch)?;
            if self.take_rollback() {
                return Ok(());
            }
            if self.stopping() {
                break;
            }
        }
        self.end_epoch()
    }

    /// Validates if that is due after `done` units (epochs or iterations) of `total`, unless it has been done at this
    /// iteration. A run without validation data does not, nor does one that is leaving: the run that resumes it will.
    ///
    /// # Errors
    /// As [`val`](Self::val).
    pub fn val_if_due(&mut self, when: &Intervals, done: u64, total: u64) -> Result<()> {
        let progress = &self.state.progress;
        let between_units = !progress.by_epoch || progress.batch == 0;
        let owed = when.due(done, total) && progress.validated != Some(progress.iter);
        if between_units && owed && self.has_val() && self.interrupted().is_none() {
            self.val()?;
            self.check_interrupts()?;
        }
        Ok(())
    }
}

/// Epoch after epoch; validates between epochs.
///
/// ```
/// use shanty::run::{EpochBasedTrainLoop, TrainLoop};
/// let forty = EpochBasedTrainLoop::new(40).val_interval(5);
/// assert_eq!(forty.totals(10).iters, 400);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct EpochBasedTrainLoop {
    max_epochs: u64,
    val: Intervals,
}

impl EpochBasedTrainLoop {
    /// So many epochs, each of them validated if there are data for it.
    pub fn new(max_epochs: u64) -> Self {
        Self { max_epochs, val: Intervals::default() }
    }
}

impl TrainLoop for EpochBasedTrainLoop {
    fn totals(&self, epoch_len: u64) -> LoopTotals {
        let (epochs, iters) = (self.max_epochs, self.max_epochs.saturating_mul(epoch_len));
        LoopTotals { epochs, iters, by_epoch: true }
    }

    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()> {
        s.begin_train()?;
        // A checkpoint is written before its epoch is validated: a run resumed from it owes that validation.
        s.val_if_due(&self.val, s.state.progress.epoch, self.max_epochs)?;
        while s.state.progress.epoch < self.max_epochs && !s.stopping() {
            s.train_epoch(data)?;
            s.val_if_due(&self.val, s.state.progress.epoch, self.max_epochs)?;
        }
        s.end_train()
    }
}

/// One long pass over endless data; validates between iterations.
#[derive(Debug, Clone, PartialEq)]
pub struct IterBasedTrainLoop {
    max_iters: u64,
    val: Intervals,
}

impl IterBasedTrainLoop {
    /// So many iterations, validated after every 1000th and the last if there are data for it.
    pub fn new(max_iters: u64) -> Self {
        Self { max_iters, val: Intervals::every(1000) }
    }
}

impl TrainLoop for IterBasedTrainLoop {
    fn totals(&self, _epoch_len: u64) -> LoopTotals {
        LoopTotals { epochs: 1, iters: self.max_iters, by_epoch: false }
    }

    fn run(&self, s: &mut Session, data: &DataLoader) -> Result<()> {
        s.begin_train()?;
        s.begin_epoch()?;
        s.val_if_due(&self.val, s.state.progress.iter, self.max_iters)?;
        let mut batches = data.batches(s.state.progress.iter, Some(self.max_iters));
        while s.state.progress.iter < self.max_iters && !s.stopping() {
            let Some(batch) = s.timed_batch(&mut batches, data)? else { break };
            s.next_iter(batch)?;
            if s.take_rollback() {
                batches = data.batches(s.state.progress.iter, Some(self.max_iters));
            }
            s.val_if_due(&self.val, s.state.progress.iter, self.max_iters)?;
        }
        s.end_epoch()?;
        s.end_train()
    }
}

macro_rules! val_setters {
    ($($loop:ident),+) => {$(
        impl $loop {
            /// Units (epochs or iterations, as the loop counts) between two validations. The end of the run is
            /// validated anyway; 0 is for that alone.
            #[must_use]
            pub fn val_interval(mut self, every: u64) -> Self {
                self.val.every = every;
                self
            }

            /// The first unit after which a validation may be; 1 if not called.
            #[must_use]
            pub fn val_begin(mut self, begin: u64) -> Self {
                self.val.begin = begin;
                self
            }

            /// `(milestone, interval)` pairs that rise: from unit `milestone` on another interval holds.
            #[must_use]
            pub fn dynamic_intervals(mut self, dynamic: Vec<(u64, u64)>) -> Self {
                self.val.dynamic = dynamic;
                self
            }

            pub(super) fn val(self, val: Intervals) -> Self {
                Self { val, ..self }
            }
        }
    )+};
}
val_setters!(EpochBasedTrainLoop, IterBasedTrainLoop);

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
}
