//! Losses: from scores and targets to the number that training makes small.

mod activation;
mod binary;
mod class_weight;
mod cosine;
mod cross_entropy;
mod ctc;
mod dice;
mod focal;
mod hinge;
mod kl_div;
mod label_smooth;
mod margin;
mod nll;
mod pointwise;
mod regression;
mod rows;
mod targets;
mod triplet;

use std::any::Any;

use ndarray::ArrayD;

pub use activation::Activation;
pub use binary::{BCELoss, BCEWithLogitsLoss};
pub use class_weight::ClassWeight;
pub(crate) use class_weight::{LossTarget, TrainedClasses};
pub use cosine::CosineEmbeddingLoss;
pub use cross_entropy::{CrossEntropyLoss, CrossEntropyOptions};
pub use ctc::CTCLoss;
pub use dice::DiceLoss;
pub use focal::{FocalLoss, SoftmaxFocalLoss};
pub use hinge::{HingeEmbeddingLoss, HingeLoss, SoftMarginLoss};
pub use kl_div::{KLDivLoss, KLReduction};
pub use label_smooth::{LabelSmoothLoss, SmoothMode};
pub use margin::{MultiLabelMarginLoss, MultiLabelSoftMarginLoss, MultiMarginLoss};
pub use nll::NLLLoss;
pub use regression::{HuberLoss, L1Loss, MSELoss, SmoothL1Loss};
pub use triplet::TripletMarginLoss;

use crate::base::{Elem, Error, Result};

use super::Var;

/// What a loss compares with.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// One class a sample.
    Classes(&'a [i64]),
    /// Anything else: one probability a sample and class, values to regress to.
    Dense(&'a ArrayD<Elem>),
}

/// How the losses of the samples become one number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Their mean, weighted by the class weights of the targets.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// They stay as they are; training takes their mean.
    None,
}

/// What a mean is taken over.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, schemars::JsonSchema, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The sum of the target weights of the samples that are not ignored, as PyTorch.
    #[default]
    Weights,
    /// The number of samples in the batch, ignored ones too, as MMPretrain's heads.
    Batch,
}

/// What a loss gives.
pub struct Losses<'t> {
    /// The reduced loss, shape `[]`; without reduction that of each sample, pixel or value.
    pub loss: Var<'t>,
    /// The loss of each sample before reduction.
    pub per_sample: Vec<Elem>,
}

/// A measure of how wrong scores are.
pub trait Loss: Any + Send {
    /// The loss of a batch.
    ///
    /// # Errors
    /// When scores and targets do not fit each other, or a target is outside the classes.
    fn forward<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<Losses<'t>>;

    /// The same of sequences of scores, each of which has its own length.
    ///
    /// # Errors
    /// As [`forward`](Self::forward); a loss that knows no sequences.
    fn forward_lengths<'t>(&self, _: Var<'t>, _: Target<'_>, _: &[i64]) -> Result<Losses<'t>> {
        Err(Error::invalid("`lengths` are for losses of sequences, as CTCLoss: this one has none"))
    }

    /// What makes a prediction of the scores.
    fn activation(&self) -> Activation {
        Activation::Identity
    }
}

/// The whole loss times a factor. The samples' losses take part: they add up to what is optimised.
fn weighted(losses: Losses<'_>, weight: f64) -> Losses<'_> {
    if weight == 1.0 {
        return losses;
    }
    let weight = weight as Elem;
    let per_sample = losses.per_sample.iter().map(|loss| loss * weight).collect();
    Losses { loss: losses.loss * weight, per_sample }
}

crate::registry!(dyn Loss, "loss");
