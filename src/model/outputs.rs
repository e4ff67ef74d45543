//! What a step gives back.

use std::borrow::Cow;

use ndarray::ArrayD;
use smallvec::SmallVec;

use crate::base::Elem;
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
}

impl Outputs {
    /// A prediction of this name and nothing else.
    pub fn predicted(name: impl Into<Cow<'static, str>>, values: ArrayD<Elem>) -> Self {
        Self { predictions: Fields::one(name, values), ..Self::default() }
    }

    /// The probabilities of a classifier, N × K.
    pub fn scores(&self) -> Option<&ArrayD<Elem>> {
        self.predictions.get(SCORES)
    }

    /// The number of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.vars.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
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
