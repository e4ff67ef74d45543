//! Losses: from scores and targets to the number that training makes small.

mod activation;
mod binary;
mod cross_entropy;
mod regression;

use std::any::Any;

pub use activation::Activation;
pub use binary::BCEWithLogitsLoss;
pub use cross_entropy::CrossEntropyLoss;
pub use regression::{L1Loss, MSELoss, SmoothL1Loss};

use crate::base::{Elem, Result};

use super::{Losses, Target, Var};

/// A measure of how wrong scores are.
pub trait Loss: Any + Send {
    /// The loss of a batch.
    ///
    /// # Errors
    /// When scores and targets do not fit each other, or a target is outside the classes.
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>>;

    /// What makes a prediction of the scores.
    fn activation(&self) -> Activation {
        Activation::Identity
    }
}

/// The whole loss times a factor. The samples' losses take part: they add up to what is optimised.
fn weighted(losses: Losses<'_>, weight: f64) -> Losses<'_> {
    if weight == 1.0 {
        return losses;
    }
    let weight = weight as Elem;
    let per_sample = losses.per_sample.iter().map(|loss| loss * weight).collect();
    Losses { loss: losses.loss * weight, per_sample }
}

crate::registry!(dyn Loss, "loss");
