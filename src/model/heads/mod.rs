//! Heads: from features to scores, from scores to losses and predictions.

mod cls;
mod conformer;
mod distilled;
mod linear;
mod multi_label;
mod stacked;
mod vig;
mod vision_transformer;

pub(super) use cls::UNCOUNTABLE;
pub use cls::{ClsHead, ClsHeadConfig};
pub use conformer::{ConformerHead, ConformerHeadConfig};
pub use distilled::{DistilledClsHeadConfig, EfficientFormerClsHead, LeViTClsHead};
pub use linear::{LinearClsHead, LinearClsHeadConfig};
pub use multi_label::{
    CSRAClsHead, CSRAClsHeadConfig, MultiLabelClsHead, MultiLabelClsHeadConfig, MultiLabelLinearClsHead,
    MultiLabelLinearClsHeadConfig,
};
pub use stacked::{StackedLinearClsHead, StackedLinearClsHeadConfig};
pub use vig::{VigClsHead, VigClsHeadConfig};
pub use vision_transformer::{VisionTransformerClsHead, VisionTransformerClsHeadConfig};

use serde::{Deserialize, Deserializer};

use super::{LossDict, Outputs};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::nn::init::InitCfg;
use crate::nn::{Module, Target, Var};

/// The last part of a classifier. As a [`Module`] it makes scores of features.
pub trait Head: Module {
    /// The terms of the loss and what else is logged in training.
    ///
    /// # Errors
    /// If scores and targets do not fit.
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>>;

    /// Probabilities of the classes, and the loss of each sample if there is a target.
    ///
    /// # Errors
    /// If scores and targets do not fit.
    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs>;
}

crate::registry!(dyn Head, "head");

impl<H: Head + ?Sized> Head for Box<H> {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        (**self).loss(scores, target)
    }
    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        (**self).predict(scores, target)
    }
}

/// `topk` of a config that does not say.
fn top1() -> OneOrMany<usize> {
    OneOrMany(vec![1])
}

/// Tells an `init_cfg: null` from a key that is not there.
fn given<'de, D: Deserializer<'de>>(d: D) -> Result<Option<InitCfg>, D::Error> {
    InitCfg::deserialize(d).map(Some)
}
