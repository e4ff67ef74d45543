//! Hinges: losses of yes and no that ask for a margin.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;

use super::binary::Logistic;
use super::targets::{sign, signs};
use super::{Loss, weighted};

/// `max(0, margin - y x)^p` for y = 1 or -1 (0 counts as -1): the hinge of a support vector machine.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, HingeLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![3, 1], vec![2.0, 0.5, 0.5]).unwrap());
/// let losses = HingeLoss::default().forward(x, Target::Classes(&[1, 1, 0]))?;
/// assert_eq!(losses.per_sample, [0.0, 0.5, 1.5]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HingeLoss {
    /// The power of a violation: 1 or 2.
    #[schemars(range(min = 1, max = 2))]
    pub p: u32,
    /// How far a score should be on the right side of 0.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `x` where y = 1, `max(0, margin - x)` where y = -1 (0 counts as -1), for distances x: PyTorch's
/// `HingeEmbeddingLoss`.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, HingeEmbeddingLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![3, 1], vec![2.0, 0.25, 3.0]).unwrap());
/// let losses = HingeEmbeddingLoss::default().forward(x, Target::Classes(&[1, -1, -1]))?;
/// assert_eq!(losses.per_sample, [2.0, 0.75, 0.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HingeEmbeddingLoss {
    /// How far apart different ones should be.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `log(1 + e^(-y x))` for y = 1 or -1 (0 counts as -1): PyTorch's `SoftMarginLoss`.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, SoftMarginLoss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 1], vec![0.0, 1e4]).unwrap());
/// let losses = SoftMarginLoss::default().forward(x, Target::Classes(&[1, -1]))?;
/// assert_eq!(losses.per_sample, [2f32.ln(), 1e4]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SoftMarginLoss {
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for HingeLoss {
    fn default() -> Self {
        Self { p: 1, margin: 1.0, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for HingeEmbeddingLoss {
    fn default() -> Self {
        Self { margin: 1.0, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for SoftMarginLoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Loss for HingeLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let margin = self.margin as Elem;
        let losses = scores.pointwise_loss(signs(target, "HingeLoss")?, self.reduction, |_, x, y| {
            let missing = margin - sign(y) * x;
            match self.p {
                // Not `max`, which would drop a NaN.
                _ if missing <= 0.0 => (0.0, 0.0),
                1 => (missing, -sign(y)),
                _ => (missing * missing, -2.0 * sign(y) * missing),
            }
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

impl Loss for HingeEmbeddingLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let margin = self.margin as Elem;
        let target = signs(target, "HingeEmbeddingLoss")?;
        let losses = scores.pointwise_loss(target, self.reduction, |_, x, y| {
            if y > 0.0 {
                (x, 1.0)
            } else if margin - x <= 0.0 {
                (0.0, 0.0)
            } else {
                (margin - x, -1.0)
            }
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

impl Loss for SoftMarginLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let losses = scores.pointwise_loss(signs(target, "SoftMarginLoss")?, self.reduction, |_, x, y| {
            let right = Logistic::of((sign(y) * x).into());
            (right.cost_of_yes as Elem, -sign(y) * right.no as Elem)
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }
}

register! { /// The hinge of yes and no, as a support vector machine has it.
dyn Loss, "HingeLoss" => HingeLoss }
register! { /// Distances: small where two belong together, at least a margin where they do not.
dyn Loss, "HingeEmbeddingLoss" => HingeEmbeddingLoss }
register! { /// The logistic loss of yes and no.
dyn Loss, "SoftMarginLoss" => SoftMarginLoss }
