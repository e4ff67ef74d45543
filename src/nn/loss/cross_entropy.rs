//! Softmax cross entropy.

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};
use crate::nn::{Activation, Average, CrossEntropyOptions, Losses, Reduction, Target, Var};
use crate::register;
use crate::registry::BuildCx;

use super::{Loss, weighted};

/// `-log softmax(scores)[target]`, PyTorch's definition.
///
/// Smoothing spreads its share over all K classes. Class weights weigh both the target's part and the smoothed part. The mean
/// divides by the number of samples, as MMPretrain's heads do with its `class_weight`; with PyTorch's `weight` it divides
/// by the sum of the targets' weights, as PyTorch does. When every sample is ignored the mean is 0.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CrossEntropyLoss {
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// What a mean is taken over: `batch` or `weights`. If absent `weights` with `weight`, else `batch`.
    pub average: Option<Average>,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// One weight a class, MMPretrain's key: the mean is taken over the samples.
    #[schemars(inner(range(min = 0.0)))]
    pub class_weight: Option<Vec<f64>>,
    /// One weight a class, PyTorch's key: the mean is taken over the targets' weights, without the ignored samples.
    #[schemars(inner(range(min = 0.0)))]
    pub weight: Option<Vec<f64>>,
    /// Samples with this target are left out; `null` for none.
    #[schemars(extend("x-unbounded" = true))]
    pub ignore_index: Option<i64>,
    /// The share of each target that is spread evenly over all classes.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub label_smoothing: f64,
}

impl Default for CrossEntropyLoss {
    fn default() -> Self {
        Self {
            reduction: Reduction::Mean,
            average: None,
            loss_weight: 1.0,
            class_weight: None,
            weight: None,
            ignore_index: Some(-100),
            label_smoothing: 0.0,
        }
    }
}

impl CrossEntropyLoss {
    fn options(&self) -> CrossEntropyOptions {
        let weights = |w: &Vec<f64>| ArrayD::from_shape_fn(vec![w.len()], |i| w[i[0]] as Elem).into_shared();
        CrossEntropyOptions {
            class_weight: self.class_weight.as_ref().or(self.weight.as_ref()).map(weights),
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing,
            reduction: self.reduction,
            average: self.average.unwrap_or(if self.weight.is_some() {
                Average::Weights
            } else {
                Average::Batch
            }),
        }
    }
}

impl Loss for CrossEntropyLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        Ok(weighted(scores.cross_entropy(target, &self.options())?, self.loss_weight))
    }

    fn activation(&self) -> Activation {
        Activation::Softmax
    }
}

register! { /// Softmax cross entropy with class weights, an ignored label and label smoothing.
dyn Loss, "CrossEntropyLoss" => fn CrossEntropyLoss::checked }

impl CrossEntropyLoss {
    fn checked(loss: Self, _: &mut BuildCx) -> Result<Self> {
        if loss.class_weight.is_some() && loss.weight.is_some() {
            return Err(Error::config(
                "give `class_weight` (MMPretrain's mean) or `weight` (PyTorch's mean), not both",
            ));
        }
        Ok(loss)
    }
}
