//! Cross entropy of yes and no.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;

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
    /// What a yes weighs, one number a label.
    #[schemars(inner(range(min = 0.0)))]
    pub pos_weight: Option<Vec<f64>>,
}

impl Default for BCEWithLogitsLoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0, pos_weight: None }
    }
}

impl Loss for BCEWithLogitsLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        // The labels are the second axis; each has as many values as the axes behind it make.
        let (labels, each) =
            (shape.get(1).copied().unwrap_or(1), shape.iter().skip(2).product::<usize>().max(1));
        let weights: Option<Vec<Elem>> =
            self.pos_weight.as_ref().map(|w| w.iter().map(|w| *w as Elem).collect());
        if let Some(weights) = weights.as_ref().filter(|weights| weights.len() != labels) {
            let n = weights.len();
            return Err(Error::invalid(format!(
                "`pos_weight` has {n} numbers for scores of shape {shape:?}"
            )));
        }
        let losses = scores.pointwise_loss(target, self.reduction, |i, x, y| {
            let weight = weights.as_ref().map_or(1.0, |weights| weights[i / each]);
            let yes = 1.0 + (weight - 1.0) * y;
            let (softplus, sigmoid) = softplus_and_sigmoid(x);
            // log σ(x) = x - softplus(x)
            ((1.0 - y) * x + yes * (softplus - x), (1.0 - y) + yes * (sigmoid - 1.0))
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Sigmoid
    }
}

/// `log(1 + eˣ)` and `1 / (1 + e⁻ˣ)`, neither of which may overflow.
fn softplus_and_sigmoid(x: Elem) -> (Elem, Elem) {
    let x = f64::from(x);
    let small = libm::exp(-x.abs());
    let sigmoid = if x >= 0.0 { 1.0 / (1.0 + small) } else { small / (1.0 + small) };
    ((x.max(0.0) + libm::log1p(small)) as Elem, sigmoid as Elem)
}

register! { /// Cross entropy of yes and no, for one label or several at once.
dyn Loss, "BCEWithLogitsLoss" => BCEWithLogitsLoss }
