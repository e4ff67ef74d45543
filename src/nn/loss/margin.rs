//! Margins between the scores of classes: support vector machines.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;
use crate::registry::BuildCx;

use super::binary::Logistic;
use super::class_weight::of_labels;
use super::rows::{Row, Rows};
use super::targets::{LabelWeights, class, shares, whole};
use super::{ClassWeight, Loss, weighted};

/// `Σ_j≠t weight[t] max(0, margin - x[t] + x[j])^p / K` of scores [N, K] and a class t a sample: PyTorch's
/// `MultiMarginLoss`, the hinge of a support vector machine with many classes. What it predicts is the softmax of the
/// scores: their order counts, they are no probabilities.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, MultiMarginLoss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 4], vec![0.5, 2.0, 1.5, -1.0]).unwrap());
/// let losses = MultiMarginLoss::default().forward(x, Target::Classes(&[1]))?;
/// assert_eq!(losses.loss.item(), 0.125, "class 2 is too near by 0.5");
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MultiMarginLoss {
    /// The power of a violation: 1 or 2.
    #[schemars(range(min = 1, max = 2))]
    pub p: u32,
    /// By how much the score of the class should be above all others.
    #[schemars(range(min = 0.0))]
    pub margin: f64,
    /// What each class counts for: a number a class, numbers by name, or balanced, as CrossEntropyLoss has it.
    pub weight: Option<ClassWeight>,
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `Σ max(0, 1 - (x[t] - x[j])) / K` over the labels t of a sample and all j that are none of them: PyTorch's
/// `MultiLabelMarginLoss`. Scores [N, K]; the target has K whole numbers a sample, its labels and behind them -1.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, MultiLabelMarginLoss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 4], vec![0.1, 0.2, 0.4, 0.8]).unwrap());
/// let losses = MultiLabelMarginLoss::default().forward(x, Target::Classes(&[3, 0, -1, 1]))?;
/// assert!((losses.loss.item() - 0.85).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MultiLabelMarginLoss {
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

/// `-Σ_k weight[k] (y[k] log σ(x[k]) + (1 - y[k]) log σ(-x[k])) / K` of scores [N, K] and as many yes or no: PyTorch's
/// `MultiLabelSoftMarginLoss`.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, MultiLabelSoftMarginLoss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 2], vec![0.0, 0.0]).unwrap());
/// let losses = MultiLabelSoftMarginLoss::default().forward(x, Target::Classes(&[1, 0]))?;
/// assert!((losses.loss.item() - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MultiLabelSoftMarginLoss {
    /// One weight a label.
    #[schemars(inner(range(min = 0.0)))]
    #[serde(deserialize_with = "of_labels")]
    pub weight: Option<Vec<f64>>,
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for MultiMarginLoss {
    fn default() -> Self {
        Self { p: 1, margin: 1.0, weight: None, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for MultiLabelMarginLoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Default for MultiLabelSoftMarginLoss {
    fn default() -> Self {
        Self { weight: None, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

/// Scores [N, K].
fn rows_of(scores: Var<'_>, loss: &str) -> Result<Rows> {
    match scores.shape()[..] {
        [_, _] => Rows::of_classes(&scores.shape(), loss),
        ref shape => Err(Error::invalid(format!("`{loss}` wants scores of shape [N, K], got {shape:?}"))),
    }
}

/// Adds what it costs that the score of class `own` is not above that of `other` by this margin.
fn violation(
    x: &[Elem],
    own: usize,
    other: usize,
    margin: f64,
    p: u32,
    share: f64,
    slope: &mut [Elem],
) -> f64 {
    let missing = margin - f64::from(x[own]) + f64::from(x[other]);
    if missing <= 0.0 {
        return 0.0;
    }
    let by_x = (share * if p == 1 { 1.0 } else { 2.0 * missing }) as Elem;
    slope[other] += by_x;
    slope[own] -= by_x;
    share * if p == 1 { missing } else { missing * missing }
}

impl Loss for MultiMarginLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let rows = rows_of(scores, "MultiMarginLoss")?;
        let targets = whole(target, rows.samples, "MultiMarginLoss")?;
        let weights = LabelWeights::of_classes(self.weight.as_ref(), &scores.shape(), "weight")?;
        let losses = scores.row_loss("multi_margin_loss", rows, self.reduction, |row, x, slope| {
            slope.fill(0.0);
            let own = class(targets[row], rows.k, row, "MultiMarginLoss")?;
            let share = f64::from(weights.of(own)) / rows.k as f64;
            let others = (0..rows.k).filter(|other| *other != own);
            let each = others.map(|other| violation(x, own, other, self.margin, self.p, share, slope));
            Ok(Row::once(each.sum()))
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Softmax
    }
}

impl Loss for MultiLabelMarginLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let rows = rows_of(scores, "MultiLabelMarginLoss")?;
        let targets = whole(target, rows.samples * rows.k, "MultiLabelMarginLoss")?;
        let losses = scores.row_loss("multi_label_margin_loss", rows, self.reduction, |row, x, slope| {
            slope.fill(0.0);
            let labels = targets[row * rows.k..][..rows.k].iter().take_while(|label| **label != -1);
            let labels = labels.map(|label| class(*label, rows.k, row, "MultiLabelMarginLoss"));
            let labels = labels.collect::<Result<Vec<_>>>()?;
            let (mut sum, share) = (0.0, 1.0 / rows.k as f64);
            for &own in &labels {
                let others = (0..rows.k).filter(|other| !labels.contains(other));
                sum += others.map(|other| violation(x, own, other, 1.0, 1, share, slope)).sum::<f64>();
            }
            Ok(Row::once(sum))
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

impl Loss for MultiLabelSoftMarginLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let rows = rows_of(scores, "MultiLabelSoftMarginLoss")?;
        let target = shares(target, "MultiLabelSoftMarginLoss")?.values(&scores.shape())?;
        let weights = LabelWeights::new(self.weight.as_ref(), &scores.shape(), "weight")?;
        let losses =
            scores.row_loss("multi_label_soft_margin_loss", rows, self.reduction, |row, x, slope| {
                let mut sum = 0.0;
                for (k, (x, slope)) in x.iter().zip(slope).enumerate() {
                    let (x, y) = (Logistic::of((*x).into()), f64::from(target[row * rows.k + k]));
                    let share = f64::from(weights.of(k)) / rows.k as f64;
                    sum += share * ((1.0 - y) * x.cost_of_no + y * x.cost_of_yes);
                    *slope = (share * (x.yes - y)) as Elem;
                }
                Ok(Row::once(sum))
            });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }
}

register! { /// The hinge of many classes, as a support vector machine has it: all other scores a margin below.
dyn Loss, "MultiMarginLoss" => fn MultiMarginLoss::checked }

impl MultiMarginLoss {
    fn checked(loss: Self, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self { weight: ClassWeight::resolved(loss.weight, "weight", cx)?, ..loss })
    }
}
register! { /// The hinge of several labels: each score of a label a margin above all that are none.
dyn Loss, "MultiLabelMarginLoss" => MultiLabelMarginLoss }
register! { /// Cross entropy of yes and no, its mean over the labels of a sample.
dyn Loss, "MultiLabelSoftMarginLoss" => MultiLabelSoftMarginLoss }
