//! Cross entropy that looks away from what is easy.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;
use crate::registry::BuildCx;

use super::binary::Logistic;
use super::rows::{Row, Rows};
use super::targets::{LabelWeights, class, one_hot, shares, whole};
use super::{ClassWeight, Loss, weighted};

/// `a m^gamma BCE(x, y)` with `m = σ(x)` and `a = 1 - alpha` for a no, `m = 1 - σ(x)` and `a = alpha` for a yes: the
/// focal loss of Lin 2017 as MMPretrain and mmcv have it, of scores [N, K]. The target is one class a sample, or a yes
/// or no for each score; the mean is over all values.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, FocalLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![0.0, 0.0]).unwrap());
/// // ln 2 / 4 for both, times 0.25 for the yes and 0.75 for the no.
/// let losses = FocalLoss::default().forward(x, Target::Classes(&[1]))?;
/// assert!((losses.loss.item() - 2f32.ln() / 8.0).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FocalLoss {
    /// How much less counts what is right already; 0: not at all.
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// What a yes weighs; a no has the rest of 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alpha: f64,
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `-alpha weight[t] (1 - p)^gamma log p` with p the softmax of the scores [N, K] or [N, K, …] at the class t: mmcv's
/// `SoftmaxFocalLoss`. The mean is over the samples that are not ignored.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, SoftmaxFocalLoss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![0.0, 0.0]).unwrap());
/// let losses = SoftmaxFocalLoss::default().forward(x, Target::Classes(&[1]))?;
/// assert!((losses.loss.item() - 2f32.ln() / 16.0).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SoftmaxFocalLoss {
    /// How much less counts what is right already; 0: not at all.
    #[schemars(range(min = 0.0))]
    pub gamma: f64,
    /// Factor of all classes.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
    /// What each class counts for: a number a class, numbers by name, or balanced, as CrossEntropyLoss has it.
    pub weight: Option<ClassWeight>,
    /// Samples with this target are left out; `null` for none.
    #[schemars(extend("x-unbounded" = true))]
    pub ignore_index: Option<i64>,
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for FocalLoss {
    fn default() -> Self {
        Self { gamma: 2.0, alpha: 0.25, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for SoftmaxFocalLoss {
    fn default() -> Self {
        Self {
            gamma: 2.0,
            alpha: 0.25,
            weight: None,
            ignore_index: Some(-100),
            reduction: Reduction::Mean,
            loss_weight: 1.0,
        }
    }
}

/// `m^gamma` and its derivative by m. With `gamma` below 1 the slope at 0 is infinite, and its factor 0: it counts as 0.
fn power(m: f64, gamma: f64) -> (f64, f64) {
    let slope = if m <= 0.0 && gamma < 1.0 { 0.0 } else { gamma * libm::pow(m, gamma - 1.0) };
    (libm::pow(m, gamma), slope)
}

impl FocalLoss {
    /// The loss of a score, and its slope.
    fn of(&self, x: f64, y: f64) -> (f64, f64) {
        let Logistic { yes: p, no: q, cost_of_yes, cost_of_no } = Logistic::of(x);
        let missing = q * y + p * (1.0 - y);
        let by_x = p * q * (1.0 - 2.0 * y);
        let bce = (1.0 - y) * cost_of_no + y * cost_of_yes;
        let bce_by_x = (1.0 - y) * p - y * q;
        let factor = self.alpha * y + (1.0 - self.alpha) * (1.0 - y);
        let (focus, slope) = power(missing, self.gamma);
        (factor * focus * bce, factor * (slope * by_x * bce + focus * bce_by_x))
    }
}

impl Loss for FocalLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let target = one_hot(target, &scores.shape(), "FocalLoss")?;
        let target = shares(Target::Dense(&target), "FocalLoss")?;
        let losses = scores.pointwise_loss(target, self.reduction, |_, x, y| {
            let (loss, slope) = self.of(x.into(), y.into());
            (loss as Elem, slope as Elem)
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }
}

impl Loss for SoftmaxFocalLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let rows = Rows::of_classes(&shape, "`SoftmaxFocalLoss`")?;
        let targets = whole(target, rows.len(), "SoftmaxFocalLoss")?;
        let weights = LabelWeights::of_classes(self.weight.as_ref(), &shape[..2], "weight")?;
        let losses = scores.row_loss("softmax_focal_loss", rows, self.reduction, |row, x, slope| {
            slope.fill(0.0);
            if self.ignore_index == Some(targets[row]) {
                return Ok(Row::default());
            }
            let own = class(targets[row], rows.k, row, "SoftmaxFocalLoss")?;
            let most = x.iter().fold(f64::NEG_INFINITY, |most, x| most.max(f64::from(*x)));
            let sum: f64 = x.iter().map(|x| libm::exp(f64::from(*x) - most)).sum();
            let log_p = f64::from(x[own]) - most - libm::log(sum);
            // 1 - p, and its power's derivative by log p.
            let (focus, by_missing) = power(-libm::expm1(log_p), self.gamma);
            let factor = self.alpha * f64::from(weights.of(own));
            let by_log_p = -factor * (focus - by_missing * libm::exp(log_p) * log_p);
            for (j, (x, slope)) in x.iter().zip(slope).enumerate() {
                let p = libm::exp(f64::from(*x) - most) / sum;
                *slope = (by_log_p * (f64::from(u8::from(j == own)) - p)) as Elem;
            }
            Ok(Row::once(-factor * focus * log_p))
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Softmax
    }
}

register! { /// Cross entropy of yes and no that looks away from what is easy.
dyn Loss, "FocalLoss" => FocalLoss }
register! { /// Softmax cross entropy that looks away from what is easy.
dyn Loss, "SoftmaxFocalLoss" => fn SoftmaxFocalLoss::checked }

impl SoftmaxFocalLoss {
    fn checked(loss: Self, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self { weight: ClassWeight::resolved(loss.weight, "weight", cx)?, ..loss })
    }
}
