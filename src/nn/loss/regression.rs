//! Distances between what is predicted and what should be.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Losses, Reduction, Target, Var};
use crate::register;

use super::{Loss, weighted};

/// `(x - y)²`, PyTorch's `MSELoss`.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{Loss, MSELoss, BufferPool, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 1], vec![1.0, 4.0]).unwrap());
/// let target = ndarray::arr1(&[3.0, 3.0]).into_dyn();
/// let losses = MSELoss::default().forward(x, Target::Dense(&target))?;
/// assert_eq!((losses.loss.item(), losses.per_sample), (2.5, vec![4.0, 1.0]));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MSELoss {
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `|x - y|`, PyTorch's `L1Loss`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct L1Loss {
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `(x - y)² / (2 beta)` where that is nearer than `beta`, else `|x - y| - beta / 2`: PyTorch's `SmoothL1Loss`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SmoothL1Loss {
    /// Where the square becomes a line; with 0 it is `L1Loss`.
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for MSELoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for L1Loss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for SmoothL1Loss {
    fn default() -> Self {
        Self { beta: 1.0, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

/// The target of a loss of distances: numbers. Classes have no distance from each other.
fn numbers<'t>(target: Target<'t>, loss: &str) -> Result<Target<'t>> {
    match target {
        Target::Classes(_) => Err(Error::invalid(format!(
            "`{loss}` compares numbers, and the target holds classes (whole numbers, or the categories of a column): \
             CrossEntropyLoss is for classes; give numbers as floats, in a table with a point as the decimal sign"
        ))),
        dense => Ok(dense),
    }
}

/// -1, 0 or 1: the slope of `|d|`, which PyTorch takes to be 0 at 0.
fn sign(d: Elem) -> Elem {
    if d == 0.0 { 0.0 } else { d.signum() }
}

impl Loss for MSELoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let losses = scores.pointwise_loss(numbers(target, "MSELoss")?, self.reduction, |_, x, y| {
            ((x - y) * (x - y), 2.0 * (x - y))
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

impl Loss for L1Loss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let losses = scores.pointwise_loss(numbers(target, "L1Loss")?, self.reduction, |_, x, y| {
            ((x - y).abs(), sign(x - y))
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

impl Loss for SmoothL1Loss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let beta = self.beta as Elem;
        let losses = scores.pointwise_loss(numbers(target, "SmoothL1Loss")?, self.reduction, |_, x, y| {
            let d = x - y;
            if d.abs() < beta { (0.5 * d * d / beta, d / beta) } else { (d.abs() - 0.5 * beta, sign(d)) }
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

register! { /// The square of the distance between prediction and target.
dyn Loss, "MSELoss" => MSELoss }
register! { /// The distance between prediction and target.
dyn Loss, "L1Loss" => L1Loss }
register! { /// The square of a small distance, a large distance itself.
dyn Loss, "SmoothL1Loss" => SmoothL1Loss }
