//! How several losses become one: weights that follow the training.

mod dynamic_average;
mod grad_norm;
mod uncertainty;

use std::any::Any;

pub use dynamic_average::{DynamicWeightAverage, DynamicWeightAverageConfig};
pub use grad_norm::{GradNorm, GradNormConfig};
pub use uncertainty::{UncertaintyWeighting, UncertaintyWeightingConfig};

use crate::base::{Elem, Result};
use crate::nn::{Activation, ModuleTree, Var};

/// What makes weights for the losses of a [`Supervised`](super::Supervised) while it trains. What it has learnt or seen
/// are its parameters and buffers, saved and resumed with the model's under `weighting.`. Validations do without: their
/// loss is the sum by the fixed weights, so that it can be compared from one epoch to the next.
pub trait Weighting: ModuleTree + Any + Send {
    /// Makes room for these losses, told by what makes a prediction of their scores. Called before training, again
    /// whenever a loss is added.
    fn begin(&mut self, losses: &[Activation]);

    /// Whether it looks at what each loss alone asks of the features: then no two losses may share a head.
    fn looks_at_features(&self) -> bool {
        false
    }

    /// What is behind the network and in front of the heads, once for each loss.
    fn features<'t>(&mut self, features: Var<'t>, losses: usize) -> Vec<Var<'t>> {
        vec![features; losses]
    }

    /// The losses of a batch, each a single number, with their weights. What is learnt from them is learnt from `values`:
    /// where several ranks train together, those are the means over the samples of all, so that all learn the same.
    ///
    /// # Errors
    /// Of ops that do not fit.
    fn weigh<'t>(&mut self, losses: &[Var<'t>], values: &[Elem]) -> Result<Weighed<'t>>;
}

/// What is optimised.
pub struct Weighed<'t> {
    /// The losses times their weights.
    pub terms: Vec<Var<'t>>,
    /// The weights, for the log.
    pub weights: Vec<f64>,
    /// What is added to their sum.
    pub extra: Option<Var<'t>>,
}

crate::registry!(dyn Weighting, "weighting");
