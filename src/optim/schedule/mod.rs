//! Schedules of an optimizer's numbers: pure functions of progress, folded in the order of the list.
//!
//! A schedule that has not begun leaves the value alone; one that has ended keeps its last factor, as MMEngine's
//! recursive schedulers do. Because nothing is consumed, a resumed run needs no scheduler state, and a longer
//! `max_epochs` on resume does what the new config says. ReduceOnPlateau alone remembers something: what the validations
//! said, of which the value is a function.
//!
//! Several schedules of one number compose as in MMEngine: a warm-up and a step decay multiply, a cosine starts from
//! the value that the earlier ones left. (Where a cosine with `eta_min` above 0 *overlaps* another schedule, MMEngine's
//! recursion depends on the path; here the cosine is applied to the other's value at that time.)

mod cosine;
mod expression;
mod family;
mod formula;
mod linear;
mod multi_step;
mod one_cycle;
mod plateau;
mod restart;
mod scheduled;
mod stable;
mod step;

use std::any::Any;

use schemars::JsonSchema;
use serde::Deserialize;

pub use cosine::CosineAnnealing;
pub use expression::Expression;
pub use linear::Linear;
pub use multi_step::MultiStep;
pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{ReduceOnPlateau, Rule, ThresholdRule};
pub use restart::CosineRestart;
pub use scheduled::{ScheduledParam, Totals};
pub use stable::{Decay, WarmupStableDecay};
pub use step::{Constant, Exponential, Poly, Step};

use crate::base::{BoxError, Record, Result};
use crate::registry::BuildCx;

crate::registry!(dyn Schedule, "param_scheduler", ScheduleConfig, {
    fn finish(made: Box<Self>, _: &Self::Extra, _: &mut BuildCx) -> Result<Box<Self>> {
        made.check().map(|()| made)
    }
});

/// The shape of a schedule. [`ScheduledParam`] says which number it moves, and when.
pub trait Schedule: Any + Send {
    /// The value at step `t` of `n` (`t < n`), from `value`, what the schedules before this one give, and the group's
    /// base value.
    fn at(&self, value: f64, base: f64, t: u64, n: u64) -> f64;

    /// Turns lengths given in epochs into iterations.
    fn to_iters(&mut self, _epoch_len: u64) {}

    /// Whether it multiplies the value by a factor that does not depend on it, so that its order among others does not
    /// matter.
    fn is_factor(&self) -> bool {
        true
    }

    /// Whether its parameters fit together, beyond what a schema says.
    ///
    /// # Errors
    /// What does not.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Whether it fits into `n` steps.
    ///
    /// # Errors
    /// What does not.
    fn check_length(&self, _n: u64) -> Result<()> {
        Ok(())
    }

    /// The value of a validation that it depends on, by its full name.
    fn watches(&self) -> Option<&str> {
        None
    }

    /// What a validation gave for the value that it watches.
    fn observe(&mut self, _score: Score) {}

    /// What a checkpoint must keep of it: what it has observed.
    ///
    /// # Errors
    /// When it cannot be written.
    fn state(&self) -> Result<Option<Record>, BoxError> {
        Ok(None)
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When it is the state of something else.
    fn load_state(&mut self, _state: &Record) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A value of a validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The value.
    pub value: f64,
    /// Whether greater is better, where that is known.
    pub greater: Option<bool>,
}

/// Keys that every schedule may carry.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ScheduleConfig {
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
    /// The number that a `…ParamScheduler` moves: `lr`, `weight_decay`, `momentum`, `beta2`, `eps`, …
    pub param_name: Option<String>,
    /// The one group that it moves; all of them if absent.
    pub group: Option<String>,
}
