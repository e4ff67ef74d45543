//! A schedule with the number that it moves and its place in the run.

use super::{Schedule, ScheduleConfig, Score};
use crate::base::suggest::nearest;
use crate::base::{BoxError, Error, Record, Result};
use crate::optim::Group;
use crate::optim::groups::unknown;

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Epochs of the run.
    pub max_epochs: u64,
    /// Iterations of the run.
    pub max_iters: u64,
    /// Iterations of an epoch.
    pub epoch_len: u64,
}

/// A schedule of one number of the optimizer, in all groups or in one.
///
/// ```
/// use shanty::optim::schedule::{Linear, ScheduledParam};
/// use shanty::optim::{Adam, OptimWrapper};
/// let decay = ScheduledParam::new(Linear { start_factor: 0.0, end_factor: 1.0 }, 0, 5, false).number("weight_decay");
/// let mut optim = OptimWrapper::new(Adam::decoupled(0.1)).schedule(decay);
/// optim.set_progress(0, 2);
/// assert_eq!(optim.groups()[0].get("weight_decay"), Some(0.005));
/// ```
pub struct ScheduledParam {
    shape: Box<dyn Schedule>,
    number: String,
    group: Option<String>,
    begin: u64,
    end: u64,
    by_epoch: bool,
}

impl ScheduledParam {
    /// The learning rate of all groups over steps `begin..end` of epochs or iterations.
    pub fn new(shape: impl Schedule, begin: u64, end: u64, by_epoch: bool) -> Self {
        let (number, end) = ("lr".to_owned(), end.max(begin));
        Self { shape: Box::new(shape), number, group: None, begin, end, by_epoch }
    }

    /// Moves this number of the optimizer instead of the learning rate.
    #[must_use]
    pub fn number(mut self, number: impl Into<String>) -> Self {
        self.number = number.into();
        self
    }

    /// Moves it in this group alone.
    #[must_use]
    pub fn in_group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// The schedule of a config that is registered as `name`, in a run whose loop has these totals.
    ///
    /// # Errors
    /// A range that ends before it begins, a conversion that makes no sense, a number that the name does not move.
    pub fn from_options(
        mut shape: Box<dyn Schedule>,
        name: &str,
        options: &ScheduleConfig,
        loop_by_epoch: bool,
        totals: Totals,
    ) -> Result<Self> {
        let number = number_of(name, options.param_name.as_deref())?;
        let by_epoch = options.by_epoch.unwrap_or(loop_by_epoch);
        if options.convert_to_iter_based && !by_epoch {
            return Err(Error::config("`convert_to_iter_based` needs `by_epoch: true`"));
        }
        let Totals { max_epochs, max_iters, epoch_len } = totals;
        let unit = if options.convert_to_iter_based { epoch_len as f64 } else { 1.0 };
        let total = if by_epoch && !options.convert_to_iter_based { max_epochs } else { max_iters };
        let begin = (options.begin * unit) as u64;
        // One that would begin after the run never does.
        let end = options.end.map_or(total.max(begin), |end| (end * unit) as u64);
        if end < begin {
            return Err(Error::config(format!(
                "the schedule ends at {end}, before it begins at {begin}: `end` must be more"
            )));
        }
        if options.convert_to_iter_based {
            shape.to_iters(epoch_len);
        }
        if end > begin {
            shape.check_length(end - begin)?;
        }
        let by_epoch = by_epoch && !options.convert_to_iter_based;
        Ok(Self { shape, number, group: options.group.clone(), begin, end, by_epoch })
    }

    /// The value after `epoch` epochs and `iter` iterations.
    pub fn apply(&self, value: f64, base: f64, epoch: u64, iter: u64) -> f64 {
        let progress = if self.by_epoch { epoch } else { iter };
        let n = self.end - self.begin;
        // A warm-up of no steps is none.
        if progress < self.begin || n == 0 {
            return value;
        }
        self.shape.at(value, base, (progress - self.begin).min(n - 1), n)
    }

    /// First step, step after the last, and whether steps are epochs.
    pub fn range(&self) -> (u64, u64, bool) {
        (self.begin, self.end, self.by_epoch)
    }

    /// The name of the number that it moves.
    pub fn moves(&self) -> &str {
        &self.number
    }

    /// The one group that it moves, if it is not all of them.
    pub fn only_in(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// See [`Schedule::watches`].
    pub fn watches(&self) -> Option<&str> {
        self.shape.watches()
    }

    /// Tells the shape what a validation gave for the value that it watches, if it is a step of the schedule after which
    /// that was.
    pub(in crate::optim) fn observe(&mut self, score: Score, epoch: u64, iter: u64) {
        let progress = if self.by_epoch { epoch } else { iter };
        if (self.begin..self.end).contains(&progress) {
            self.shape.observe(score);
        }
    }

    /// See [`Schedule::state`].
    pub(in crate::optim) fn state(&self) -> Result<Option<Record>, BoxError> {
        self.shape.state()
    }

    /// See [`Schedule::load_state`].
    pub(in crate::optim) fn load_state(&mut self, state: &Record) -> Result<(), BoxError> {
        self.shape.load_state(state)
    }

    /// See [`Schedule::is_factor`].
    pub fn is_factor(&self) -> bool {
        self.shape.is_factor()
    }

    /// The number of this group that it moves, by the optimizer's own name.
    pub fn number_of(&self, group: &Group) -> Option<&'static str> {
        let meant = self.group.as_deref().is_none_or(|name| name == group.name());
        if meant { group.own_name(&self.number) } else { None }
    }

    /// Whether it moves something of these groups.
    ///
    /// # Errors
    /// The group or the number that there is not, with the nearest name.
    pub fn check(&self, groups: &[Group]) -> Result<()> {
        let names = || groups.iter().map(Group::name);
        if let Some(group) = self.group.as_deref().filter(|group| names().all(|name| name != *group)) {
            let near = nearest(group, names());
            let hint = near.map_or_else(|| ".".to_owned(), |near| format!("; did you mean `{near}`?"));
            let all: Vec<_> = names().collect();
            let text = format!(
                "a schedule moves the group `{group}`, which there is not{hint} Groups: {}",
                all.join(", ")
            );
            return Err(Error::config(text));
        }
        match groups.first() {
            Some(first) if groups.iter().all(|group| self.number_of(group).is_none()) => {
                Err(unknown(first.rule().name(), &self.number, first.numbers()))
            }
            _ => Ok(()),
        }
    }
}

/// What a schedule of this registered name moves: MMEngine's families are `…LR`, `…Momentum` and `…ParamScheduler`.
fn number_of(name: &str, given: Option<&str>) -> Result<String> {
    let fixed = [("LR", "lr"), ("Momentum", "momentum"), ("WeightDecay", "weight_decay")];
    let fixed = fixed.iter().find_map(|(family, number)| Some((name.strip_suffix(family)?, *number)));
    match (fixed, given) {
        (Some((_, number)), None) => Ok(number.to_owned()),
        (Some((shape, number)), Some(given)) => Err(Error::config(format!(
            "`param_name` does nothing here: `{name}` moves {number}; write `type: {shape}ParamScheduler` to move {given}"
        ))),
        (None, Some(given)) => Ok(given.to_owned()),
        (None, None) if name.ends_with("ParamScheduler") => Err(Error::config(format!(
            "`param_name` is missing: the number that `{name}` moves, as lr, weight_decay or momentum"
        ))),
        (None, None) => Ok("lr".to_owned()),
    }
}
