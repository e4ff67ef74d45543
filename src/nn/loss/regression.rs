//! Distances between what is predicted and what should be.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::nn::{Losses, Reduction, Target, Var};
use crate::register;

use super::targets::numbers;
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
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{L1Loss, Loss, BufferPool, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 1], vec![1.0, 4.0]).unwrap());
/// let target = ndarray::arr1(&[3.0, 3.0]).into_dyn();
/// assert_eq!(L1Loss::default().forward(x, Target::Dense(&target))?.loss.item(), 1.5);
/// # Ok::<(), shanty::base::Error>(())
/// ```
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
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{Loss, SmoothL1Loss, BufferPool, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 1], vec![0.5, 3.0]).unwrap());
/// let target = ndarray::arr1(&[0.0, 0.0]).into_dyn();
/// assert_eq!(SmoothL1Loss::default().forward(x, Target::Dense(&target))?.per_sample, [0.125, 2.5]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
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

/// `(x - y)² / 2` where that is nearer than `delta`, else `delta (|x - y| - delta / 2)`: PyTorch's `HuberLoss`. It is
/// `delta` times `SmoothL1Loss`.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{HuberLoss, Loss, BufferPool, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 1], vec![1.0, 5.0]).unwrap());
/// let target = ndarray::arr1(&[0.0, 0.0]).into_dyn();
/// let losses = HuberLoss { delta: 2.0, ..HuberLoss::default() }.forward(x, Target::Dense(&target))?;
/// assert_eq!(losses.per_sample, [0.5, 8.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HuberLoss {
    /// Where the square becomes a line.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub delta: f64,
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for HuberLoss {
    fn default() -> Self {
        Self { delta: 1.0, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
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

impl Loss for HuberLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let delta = self.delta as Elem;
        let losses = scores.pointwise_loss(numbers(target, "HuberLoss")?, self.reduction, |_, x, y| {
            let d = x - y;
            if d.abs() < delta {
                (0.5 * d * d, d)
            } else {
                (delta * (d.abs() - 0.5 * delta), delta * sign(d))
            }
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
register! { /// Half the square of a small distance, a line behind.
dyn Loss, "HuberLoss" => HuberLoss }
