//! Learning-rate schedules: pure functions of progress, folded in the order of the list.
//!
//! A schedule that has not begun leaves the value alone; one that has ended keeps its last factor, as the reference's
//! recursive schedulers do. Because nothing is consumed, a resumed run needs no scheduler state, and a longer
//! `max_epochs` on resume does what the new config says.
//!
//! Several schedules compose as in the reference: a warm-up and a step decay multiply, a cosine starts from the value
//! that the earlier ones left. (Where a cosine with `eta_min` above 0 *overlaps* another schedule, the reference's
//! recursion depends on the path; here the cosine is applied to the other's value at that time.)

mod cosine;
mod linear;
mod multi_step;
mod step;

use std::any::Any;

use schemars::JsonSchema;
use serde::Deserialize;

pub use cosine::CosineAnnealing;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use step::{Constant, Exponential, Poly, Step};

crate::registry!(dyn Curve, "param_scheduler", ScheduleOptions);

/// The shape of a schedule.
pub trait Curve: Any + Send {
    /// The value at step `t` of `n` (`t < n`), from `value`, what the schedules before this one give, and the group's
    /// base value.
    fn at(&self, value: f64, base: f64, t: u64, n: u64) -> f64;

    /// Turns lengths given in epochs into iterations.
    fn to_iters(&mut self, _epoch_len: u64) {}
}

/// Keys that every schedule may carry.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScheduleOptions {
    /// First step, in epochs or iterations.
    #[schemars(range(min = 0.0))]
    pub begin: f64,
    /// Step after the last one; the end of the run if absent.
    #[schemars(range(min = 0.0))]
    pub end: Option<f64>,
    /// Whether steps are epochs; as the training loop counts if absent.
    pub by_epoch: Option<bool>,
    /// Give lengths in epochs but step by iteration.
    pub convert_to_iter_based: bool,
}

/// A curve with its place in the run.
pub struct Schedule {
    curve: Box<dyn Curve>,
    begin: u64,
    end: u64,
    by_epoch: bool,
}

impl Schedule {
    /// The curve over steps `begin..end` of epochs or iterations.
    pub fn new(curve: impl Curve, begin: u64, end: u64, by_epoch: bool) -> Self {
        Self { curve: Box::new(curve), begin, end: end.max(begin), by_epoch }
    }

    /// A schedule of a config, in a run whose loop has these totals.
    ///
    /// # Errors
    /// A text for a range that ends before it begins or a conversion that makes no sense.
    pub fn from_options(
        mut curve: Box<dyn Curve>,
        options: &ScheduleOptions,
        loop_by_epoch: bool,
        (max_epochs, max_iters, epoch_len): (u64, u64, u64),
    ) -> Result<Self, String> {
        let by_epoch = options.by_epoch.unwrap_or(loop_by_epoch);
        if options.convert_to_iter_based && !by_epoch {
            return Err("`convert_to_iter_based` needs `by_epoch: true`".into());
        }
        let unit = if options.convert_to_iter_based { epoch_len as f64 } else { 1.0 };
        let total = if by_epoch && !options.convert_to_iter_based { max_epochs } else { max_iters };
        let begin = (options.begin * unit) as u64;
        // One that would begin after the run never does.
        let end = options.end.map_or(total.max(begin), |end| (end * unit) as u64);
        if end < begin {
            return Err(format!(
                "the schedule ends at {end}, before it begins at {begin}: `end` must be more"
            ));
        }
        if options.convert_to_iter_based {
            curve.to_iters(epoch_len);
        }
        Ok(Self { curve, begin, end, by_epoch: by_epoch && !options.convert_to_iter_based })
    }

    /// The value after `epoch` epochs and `iter` iterations.
    pub fn apply(&self, value: f64, base: f64, epoch: u64, iter: u64) -> f64 {
        let progress = if self.by_epoch { epoch } else { iter };
        let n = self.end - self.begin;
        // A warm-up of no steps is none.
        if progress < self.begin || n == 0 {
            return value;
        }
        self.curve.at(value, base, (progress - self.begin).min(n - 1), n)
    }

    /// First step, step after the last, and whether steps are epochs.
    pub fn range(&self) -> (u64, u64, bool) {
        (self.begin, self.end, self.by_epoch)
    }
}
