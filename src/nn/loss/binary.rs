//! Cross entropy of yes and no.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;

use super::class_weight::of_labels;
use super::targets::{LabelWeights, shares};
use super::{Loss, weighted};

/// `-w y log σ(x) - (1 - y) log(1 - σ(x))` for each of several answers, PyTorch's `BCEWithLogitsLoss`: one label, or
/// several labels at once.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BCEWithLogitsLoss, Loss, BufferPool, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 1], vec![0.0, 0.0]).unwrap());
/// let losses = BCEWithLogitsLoss::default().forward(x, Target::Classes(&[0, 1]))?;
/// assert!((losses.loss.item() - 2f32.ln() as shanty::base::Elem).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BCEWithLogitsLoss {
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// What a label weighs, yes or no, one number a label.
    #[schemars(inner(range(min = 0.0)))]
    #[serde(deserialize_with = "of_labels")]
    pub weight: Option<Vec<f64>>,
    /// What a yes weighs, one number a label.
    #[schemars(inner(range(min = 0.0)))]
    #[serde(deserialize_with = "of_labels")]
    pub pos_weight: Option<Vec<f64>>,
}

/// `-y log x - (1 - y) log(1 - x)` of probabilities x, PyTorch's `BCELoss`, whose logarithms end at -100. Scores are for
/// `BCEWithLogitsLoss`, which keeps the digits that a sigmoid in f32 rounds away.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BCELoss, Loss, BufferPool, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![3, 1], vec![0.5, 1.0, 0.0]).unwrap());
/// let losses = BCELoss::default().forward(x, Target::Classes(&[0, 1, 1]))?;
/// assert_eq!(losses.per_sample, [2f32.ln(), 0.0, 100.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BCELoss {
    /// How the losses of the values become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// What a label weighs, one number a label.
    #[schemars(inner(range(min = 0.0)))]
    #[serde(deserialize_with = "of_labels")]
    pub weight: Option<Vec<f64>>,
}

impl Default for BCEWithLogitsLoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0, weight: None, pos_weight: None }
    }
}

impl Default for BCELoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0, weight: None }
    }
}

impl Loss for BCEWithLogitsLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let all = LabelWeights::new(self.weight.as_ref(), &shape, "weight")?;
        let yes = LabelWeights::new(self.pos_weight.as_ref(), &shape, "pos_weight")?;
        let target = shares(target, "BCEWithLogitsLoss")?;
        let losses = scores.pointwise_loss(target, self.reduction, |i, x, y| {
            let (x, y) = (Logistic::of(x.into()), f64::from(y));
            let (weight, yes, no) = (f64::from(all.of(i)), f64::from(yes.of(i)) * y, 1.0 - y);
            let loss = weight * (no * x.cost_of_no + yes * x.cost_of_yes);
            (loss as Elem, (weight * (no * x.yes - yes * x.no)) as Elem)
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }
}

impl Loss for BCELoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let x = scores.value();
        if let Some((at, x)) = x.iter().enumerate().find(|(_, x)| **x < 0.0 || **x > 1.0) {
            return Err(Error::invalid(format!(
                "`BCELoss` takes probabilities from 0 to 1, and value {at} is {x}: put a Sigmoid in front, or take \
                 BCEWithLogitsLoss for scores"
            )));
        }
        let weights = LabelWeights::new(self.weight.as_ref(), x.shape(), "weight")?;
        let losses = scores.pointwise_loss(shares(target, "BCELoss")?, self.reduction, |i, x, y| {
            let (wide, weight) = (f64::from(x), weights.of(i));
            let end = |log: f64| log.max(-100.0) as Elem;
            let loss = -(y * end(libm::log(wide)) + (1.0 - y) * end(libm::log1p(-wide)));
            // PyTorch's guard, a constant of f32 there.
            let guard = f64::from(1e-12f32);
            let slope = (wide - f64::from(y)) / (wide * (1.0 - wide)).max(guard);
            // `max` would drop a NaN.
            let loss = if x.is_nan() { x } else { loss };
            (weight * loss, weight * slope as Elem)
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

/// What a score says of yes and no. Nothing of it overflows, or loses its digits where it is small.
pub(super) struct Logistic {
    /// `1 / (1 + e⁻ˣ)`, the probability of a yes.
    pub yes: f64,
    /// That of a no.
    pub no: f64,
    /// `log(1 + e⁻ˣ)`, what a yes costs.
    pub cost_of_yes: f64,
    /// `log(1 + eˣ)`, what a no costs.
    pub cost_of_no: f64,
}

impl Logistic {
    pub fn of(x: f64) -> Self {
        let small = libm::exp(-x.abs());
        let (likely, unlikely) = (1.0 / (1.0 + small), small / (1.0 + small));
        let (yes, no) = if x >= 0.0 { (likely, unlikely) } else { (unlikely, likely) };
        // A NaN stays one: `max` alone would drop it.
        let rest = libm::log1p(small);
        Self { yes, no, cost_of_yes: (-x).max(0.0) + rest, cost_of_no: x.max(0.0) + rest }
    }
}

register! { /// Cross entropy of yes and no, for one label or several at once.
dyn Loss, "BCEWithLogitsLoss" => BCEWithLogitsLoss }
register! { /// Cross entropy of yes and no, of probabilities.
dyn Loss, "BCELoss" => BCELoss }
