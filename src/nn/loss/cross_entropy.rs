//! Softmax cross entropy.

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::nn::{Average, CrossEntropyOptions, Losses, Reduction, Target, Var};
use crate::register;

use super::Loss;

/// `-log softmax(scores)[target]`, PyTorch's definition.
///
/// Smoothing spreads its share over all K classes. Class weights weigh both the target's part and the smoothed part,
/// and the mean divides by the sum of the targets' weights. When every sample is ignored the mean is 0.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CrossEntropyLoss {
    /// How the losses of the samples become one number.
    pub reduction: Reduction,
    /// What a mean is taken over: `weights` (PyTorch) or `batch` (MMPretrain's heads).
    pub average: Average,
    /// Factor of the whole loss.
    #[schemars(range(min = 0.0))]
    pub loss_weight: f64,
    /// One weight a class; all 1 if absent.
    #[serde(alias = "weight")]
    #[schemars(inner(range(min = 0.0)))]
    pub class_weight: Option<Vec<f64>>,
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
            average: Average::Weights,
            loss_weight: 1.0,
            class_weight: None,
            ignore_index: Some(-100),
            label_smoothing: 0.0,
        }
    }
}

impl CrossEntropyLoss {
    fn options(&self) -> CrossEntropyOptions {
        let weights = |w: &Vec<f64>| ArrayD::from_shape_fn(vec![w.len()], |i| w[i[0]] as Elem).into_shared();
        CrossEntropyOptions {
            class_weight: self.class_weight.as_ref().map(weights),
            ignore_index: self.ignore_index,
            label_smoothing: self.label_smoothing as Elem,
            reduction: self.reduction,
            average: self.average,
        }
    }
}

impl Loss for CrossEntropyLoss {
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>> {
        let mut losses = scores.cross_entropy(target, &self.options())?;
        if self.loss_weight != 1.0 {
            losses.loss = losses.loss.scale(self.loss_weight as Elem);
        }
        Ok(losses)
    }
}

register! { /// Softmax cross entropy with class weights, an ignored label and label smoothing.
dyn Loss, "CrossEntropyLoss" => CrossEntropyLoss }
