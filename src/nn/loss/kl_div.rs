//! The divergence of distributions.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;

use super::targets::{each, numbers};
use super::{Loss, weighted};

/// `y (log y - x)` of log-probabilities x and probabilities y, PyTorch's `KLDivLoss`: how far the predicted
/// distribution is from that of the target, as of a teacher's softened scores.
///
/// The mean is over all values, as in PyTorch; `batchmean`, over the samples alone, is the divergence itself.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, KLDivLoss, KLReduction, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let half = 0.5f32.ln();
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![half, half]).unwrap());
/// let sure = ndarray::arr2(&[[1.0, 0.0]]).into_dyn();
/// let law = KLDivLoss { reduction: KLReduction::BatchMean, ..KLDivLoss::default() };
/// assert!((law.forward(x, Target::Dense(&sure))?.loss.item() - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KLDivLoss {
    /// How the losses of the values become one number.
    pub reduction: KLReduction,
    /// Whether the target holds logarithms of probabilities too.
    pub log_target: bool,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// How the divergences of the values become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KLReduction {
    /// Their mean over all values.
    #[default]
    Mean,
    /// Their sum divided by the number of samples.
    #[serde(rename = "batchmean")]
    BatchMean,
    /// Their sum.
    Sum,
    /// They stay as they are; training takes their mean.
    None,
}

impl Default for KLDivLoss {
    fn default() -> Self {
        Self { reduction: KLReduction::Mean, log_target: false, loss_weight: 1.0 }
    }
}

impl Loss for KLDivLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let mut target = numbers(target, "KLDivLoss")?;
        if !self.log_target {
            let wanted = "probabilities, 0 or more (logarithms need `log_target: true`)";
            target = each(target, "KLDivLoss", wanted, |y| y >= 0.0 || y.is_nan())?;
        }
        let reduction = match self.reduction {
            KLReduction::Mean => Reduction::Mean,
            KLReduction::Sum | KLReduction::BatchMean => Reduction::Sum,
            KLReduction::None => Reduction::None,
        };
        let losses = scores.pointwise_loss(target, reduction, |_, x, y| {
            // 0 · log 0 is 0, and so is 0 · x where x is minus infinity.
            match (self.log_target, y) {
                (true, Elem::NEG_INFINITY) | (false, 0.0) => (0.0, 0.0),
                (true, y) => (y.exp() * (y - x), -y.exp()),
                (false, y) => (y * (y.ln() - x), -y),
            }
        })?;
        let losses = match self.reduction {
            KLReduction::BatchMean => {
                let n = losses.per_sample.len().max(1) as Elem;
                Losses { loss: losses.loss / n, ..losses }
            }
            _ => losses,
        };
        Ok(weighted(losses, self.loss_weight))
    }

    /// The softmax of log-probabilities are the probabilities.
    fn activation(&self) -> Activation {
        Activation::Softmax
    }
}

register! { /// The divergence of the predicted distribution, in log-probabilities, from that of the target.
dyn Loss, "KLDivLoss" => KLDivLoss }
