//! What a step gives back.

use std::borrow::Cow;

use ndarray::ArrayD;
use smallvec::SmallVec;

use super::Late;
use crate::base::{Elem, Result};
use crate::data::Fields;

/// The name of what a classifier predicts: the probabilities of its classes.
pub const SCORES: &str = "scores";

/// What a training or evaluation step gives back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    /// Numbers to log, `loss` first if there is one.
    pub vars: SmallVec<[(Cow<'static, str>, f64); 4]>,
    /// What the model predicts, by name; the first axis of each is that of the samples. Evaluation only.
    pub predictions: Fields<ArrayD<Elem>>,
    /// The loss of each sample, N; evaluation only, where all samples have a target.
    pub sample_losses: Option<Vec<Elem>>,
    /// Numbers to log that a device is still at work on. A hook finds them among `vars`, unless it says that it looks at
    /// none ([`Hook::reads_numbers`](crate::hook::Hook::reads_numbers)).
    pub late: Option<Late>,
}

impl Outputs {
    /// A prediction of this name and nothing else.
    pub fn predicted(name: impl Into<Cow<'static, str>>, values: ArrayD<Elem>) -> Self {
        Self { predictions: Fields::one(name, values), ..Self::default() }
    }

    /// Numbers that a device is still at work on, and nothing else.
    pub fn late(late: Late) -> Self {
        Self { late: Some(late), ..Self::default() }
    }

    /// Puts the numbers that are late in front of `vars`; waits for the device.
    ///
    /// # Errors
    /// What the device says.
    pub fn settle(&mut self) -> Result<()> {
        if let Some(late) = self.late.take() {
            self.vars.insert_many(0, late.numbers()?);
        }
        Ok(())
    }

    /// Whether there is a number of this name, or will be.
    pub fn has(&self, name: &str) -> bool {
        let late = self.late.iter().flat_map(Late::names);
        self.vars.iter().map(|(n, _)| n).chain(late).any(|n| n == name)
    }

    /// The probabilities of a classifier, N × K.
    pub fn scores(&self) -> Option<&ArrayD<Elem>> {
        self.predictions.get(SCORES)
    }

    /// The number of this name; one that is late waits for the device, and is `None` if that fails.
    pub fn get(&self, name: &str) -> Option<f64> {
        let has_it = |(own, value): &(Cow<'static, str>, f64)| (own == name).then_some(*value);
        let late = || self.late.as_ref()?.numbers().ok()?.iter().find_map(has_it);
        self.vars.iter().find_map(has_it).or_else(late)
    }

    /// Adds a number to those of this name, or behind all others.
    pub fn add(&mut self, name: Cow<'static, str>, value: f64) {
        match self.vars.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum += value,
            None => self.vars.push((name, value)),
        }
    }

    /// The optimised total.
    pub fn loss(&self) -> Option<f64> {
        self.get("loss")
    }
}
