//! Losses: from scores and targets to the number that training makes small.

mod cross_entropy;

use std::any::Any;

pub use cross_entropy::CrossEntropyLoss;

use crate::base::Result;

use super::{Losses, Target, Var};

/// A measure of how wrong scores are.
pub trait Loss: Any + Send {
    /// The loss of a batch.
    ///
    /// # Errors
    /// When scores and targets do not fit each other, or a target is outside the classes.
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>>;
}

crate::registry!(dyn Loss, "loss");
