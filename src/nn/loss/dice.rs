//! The overlap of masks.

use ndarray::{ArrayD, Dimension as _};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::buffer_pool::slice;
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;

use super::rows::Rows;
use super::targets::{one_hot, shares};
use super::{Loss, weighted};

/// `1 - 2 Σ p y / (Σ p² + Σ y² + 2 eps)` over all values of a sample, MMSegmentation's `DiceLoss`: what is missing at the
/// overlap of the predicted masks p, the sigmoid of the scores [N, K, …], with those of the target, [N, …] of classes or
/// [N, K, …] of masks. A rare class counts as much as a frequent one.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, DiceLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![1, 1, 2, 2], vec![0.0; 4]).unwrap());
/// let naive = DiceLoss { naive_dice: true, eps: 0.0, ..DiceLoss::default() };
/// // Half of each of four pixels, of which one belongs to the mask: 1 - 2 · 0.5 / (2 + 1).
/// let losses = naive.forward(x, Target::Classes(&[0, 0, 1, 0]))?;
/// assert!((losses.loss.item() - 2.0 / 3.0).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DiceLoss {
    /// Whether a pixel may belong to several masks; else the softmax makes one of its classes.
    pub use_sigmoid: bool,
    /// Whether values are added as they are, `1 - (2 Σ p y + eps) / (Σ p + Σ y + eps)`, and not squared.
    pub naive_dice: bool,
    /// Keeps a sample without any mask from a division by 0.
    #[schemars(range(min = 0.0))]
    pub eps: f64,
    /// Pixels with this target are left out; `null` for none.
    #[schemars(extend("x-unbounded" = true))]
    pub ignore_index: Option<i64>,
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for DiceLoss {
    fn default() -> Self {
        Self {
            use_sigmoid: true,
            naive_dice: false,
            eps: 1e-3,
            ignore_index: Some(255),
            reduction: Reduction::Mean,
            loss_weight: 1.0,
        }
    }
}

impl Loss for DiceLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        if !self.use_sigmoid && shape.get(1) == Some(&1) {
            return Err(Error::invalid(
                "`DiceLoss`: the softmax of one score is always 1: leave out `use_sigmoid: false`, or give each class a \
                 score",
            ));
        }
        let mut p = if self.use_sigmoid { scores.sigmoid() } else { scores.softmax(1) };
        let y = match target {
            Target::Classes(classes) if self.ignore_index.is_some_and(|own| classes.contains(&own)) => {
                let (known, seen) = self.without_ignored(classes, &shape)?;
                p = p * p.tape().input(seen.clone());
                one_hot(Target::Classes(&known), &shape, "DiceLoss")? * seen
            }
            target => one_hot(target, &shape, "DiceLoss")?,
        };
        shares(Target::Dense(&y), "DiceLoss")?;
        let y = p.tape().input(y).flatten(1, -1);
        let p = p.flatten(1, -1);
        let (eps, both) = (self.eps as Elem, (p * y).sum_axes(&[1]));
        let each = if self.naive_dice {
            1.0 - (2.0 * both + eps) / (p.sum_axes(&[1]) + y.sum_axes(&[1]) + eps)
        } else {
            1.0 - 2.0 * both / ((p * p).sum_axes(&[1]) + (y * y).sum_axes(&[1]) + 2.0 * eps)
        };
        let each = each.checked()?;
        let per_sample = slice(&each.value()).to_vec();
        let loss = match self.reduction {
            Reduction::Mean => each.mean(),
            Reduction::Sum => each.sum(),
            Reduction::None => each,
        };
        Ok(weighted(Losses { loss, per_sample }, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        if self.use_sigmoid { Activation::Sigmoid } else { Activation::Softmax }
    }
}

impl DiceLoss {
    /// The classes with 0 in place of what is ignored, and for each score whether it counts.
    fn without_ignored(&self, classes: &[i64], shape: &[usize]) -> Result<(Vec<i64>, ArrayD<Elem>)> {
        let rows = Rows::of_classes(shape, "`DiceLoss`")?;
        let known = |class: &i64| Some(*class) != self.ignore_index;
        let seen = ArrayD::from_shape_fn(shape.to_vec(), |at| {
            let place = at.slice().iter().skip(2).zip(&shape[2..]).fold(0, |place, (i, n)| place * n + i);
            Elem::from(u8::from(classes.get(at[0] * rows.places + place).is_none_or(known)))
        });
        Ok((classes.iter().map(|class| if known(class) { *class } else { 0 }).collect(), seen))
    }
}

register! { /// What is missing at the overlap of predicted and given masks.
dyn Loss, "DiceLoss" => DiceLoss }
