//! The negative log-likelihood of a class.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::Result;
use crate::nn::{Activation, Losses, Reduction, Target, Var};
use crate::register;
use crate::registry::BuildCx;

use super::rows::{Row, Rows};
use super::targets::{LabelWeights, class, whole};
use super::{ClassWeight, Loss, weighted};

/// `-weight[target] x[target]` of log-probabilities [N, K] or [N, K, …], PyTorch's `NLLLoss`: behind a `LogSoftmax` it
/// is `CrossEntropyLoss`. The mean divides by the weights of the targets; when every sample is ignored it is 0, where
/// PyTorch has NaN.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, Loss, NLLLoss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 2], vec![-0.5, -1.0, -3.0, -0.25]).unwrap());
/// let losses = NLLLoss::default().forward(x, Target::Classes(&[0, 0]))?;
/// assert_eq!((losses.loss.item(), losses.per_sample), (1.75, vec![0.5, 3.0]));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NLLLoss {
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// What each class counts for: a number a class, numbers by name, or balanced, as CrossEntropyLoss has it.
    pub weight: Option<ClassWeight>,
    /// Samples with this target are left out; `null` for none.
    #[schemars(extend("x-unbounded" = true))]
    pub ignore_index: Option<i64>,
}

impl Default for NLLLoss {
    fn default() -> Self {
        Self { reduction: Reduction::Mean, loss_weight: 1.0, weight: None, ignore_index: Some(-100) }
    }
}

impl Loss for NLLLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let rows = Rows::of_classes(&shape, "`NLLLoss`")?;
        let targets = whole(target, rows.len(), "NLLLoss")?;
        let weights = LabelWeights::of_classes(self.weight.as_ref(), &shape[..2], "weight")?;
        let losses = scores.row_loss("nll_loss", rows, self.reduction, |row, x, slope| {
            slope.fill(0.0);
            if self.ignore_index == Some(targets[row]) {
                return Ok(Row::default());
            }
            let own = class(targets[row], rows.k, row, "NLLLoss")?;
            let weight = weights.of(own);
            slope[own] = -weight;
            Ok(Row { loss: -f64::from(weight) * f64::from(x[own]), weight: weight.into() })
        });
        Ok(weighted(losses?, self.loss_weight))
    }

    /// The softmax of log-probabilities are the probabilities.
    fn activation(&self) -> Activation {
        Activation::Softmax
    }
}

register! { /// The negative log-likelihood of the class, of log-probabilities.
dyn Loss, "NLLLoss" => fn NLLLoss::checked }

impl NLLLoss {
    fn checked(loss: Self, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self { weight: ClassWeight::resolved(loss.weight, "weight", cx)?, ..loss })
    }
}
