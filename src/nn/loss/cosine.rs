//! The angle between two vectors.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Losses, Reduction, Target, Var};
use crate::register;

use super::rows::{Row, Rows};
use super::targets::signs;
use super::{Loss, weighted};

/// `1 - cos(a, b)` where y = 1, `max(0, cos(a, b) - margin)` where y = -1 (0 counts as -1): PyTorch's
/// `CosineEmbeddingLoss`. The scores hold both vectors, [N, 2, D] or one behind the other, [N, 2 D].
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{BufferPool, CosineEmbeddingLoss, Loss, Tape, Target};
///
/// let tape = Tape::new(BufferPool::default());
/// let x = tape.input(Tensor::from_shape_vec(vec![2, 2, 2], vec![1.0, 0.0, 0.0, 2.0, 3.0, 4.0, 3.0, 4.0]).unwrap());
/// let losses = CosineEmbeddingLoss::default().forward(x, Target::Classes(&[1, -1]))?;
/// assert_eq!(losses.per_sample, [1.0, 1.0]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CosineEmbeddingLoss {
    /// The largest cosine that costs nothing between different ones.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub margin: f64,
    /// How the losses of the pairs become one number.
    pub reduction: Reduction,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
}

impl Default for CosineEmbeddingLoss {
    fn default() -> Self {
        Self { margin: 0.0, reduction: Reduction::Mean, loss_weight: 1.0 }
    }
}

impl Loss for CosineEmbeddingLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let shape = scores.shape();
        let rows = Rows::of_samples(&shape);
        let pairs = matches!(shape[..], [_, 2, _]) || matches!(shape[..], [_, d] if d % 2 == 0);
        if !pairs {
            return Err(Error::invalid(format!(
                "`CosineEmbeddingLoss` wants pairs of vectors, [N, 2, D] or [N, 2 D], got scores of shape {shape:?}"
            )));
        }
        let target = signs(target, "CosineEmbeddingLoss")?.values(&[rows.samples])?;
        let losses = scores.row_loss("cosine_embedding_loss", rows, self.reduction, |row, x, slope| {
            let (a, b) = x.split_at(rows.k / 2);
            let dot = |a: &[Elem], b: &[Elem]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            // PyTorch's guard against vectors of length 0.
            let (aa, bb) = (dot(a, a) + 1e-12, dot(b, b) + 1e-12);
            let root = (aa * bb).sqrt();
            let cos = dot(a, b) / root;
            let (loss, by_cos) = match target[row] > 0.0 {
                true => (1.0 - cos, -1.0),
                // Not `max`, which would drop a NaN.
                false if cos - self.margin < 0.0 => (0.0, 0.0),
                false => (cos - self.margin, 1.0),
            };
            let (of_a, of_b) = slope.split_at_mut(rows.k / 2);
            for (i, (of_a, of_b)) in of_a.iter_mut().zip(of_b).enumerate() {
                let (a, b) = (f64::from(a[i]), f64::from(b[i]));
                *of_a = (by_cos * (b / root - cos * a / aa)) as Elem;
                *of_b = (by_cos * (a / root - cos * b / bb)) as Elem;
            }
            Ok(Row::once(loss))
        });
        Ok(weighted(losses?, self.loss_weight))
    }
}

register! { /// The angle between two vectors: small where they belong together, large where they do not.
dyn Loss, "CosineEmbeddingLoss" => CosineEmbeddingLoss }
