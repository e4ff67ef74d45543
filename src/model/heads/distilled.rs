//! The heads of LeViT and EfficientFormer, whose second layer is that of a distilled network.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsHead, ClsHeadConfig, Head};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Init, InitCfg, Normal};
use crate::nn::{BatchNorm1d, Forward, Linear, Loss, Module, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: LeViTClsHead, …}` and `{type: EfficientFormerClsHead, …}` in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DistilledClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of a sample.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Whether there are two layers, whose scores' mean counts, in training too.
    #[serde(default = "crate::config::yes")]
    pub distillation: bool,
    /// The loss; cross entropy if absent.
    #[serde(default)]
    pub loss: Option<Spec<dyn Loss>>,
    /// Which accuracies are logged with `cal_acc`.
    #[serde(default = "super::top1")]
    #[schemars(with = "OneOrMany<std::num::NonZeroUsize>")]
    pub topk: OneOrMany<usize>,
    /// Whether `accuracy_top-k` is logged in training.
    #[serde(default)]
    pub cal_acc: bool,
    /// How its linear layers begin; of EfficientFormer `{type: Normal, std: 0.01, layer: Linear}` if absent.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(with = "InitCfg")]
    pub init_cfg: Option<InitCfg>,
}

impl DistilledClsHeadConfig {
    /// The loss, and how the layers begin if the config says so.
    fn parts(self, cx: &mut BuildCx) -> Result<(ClsHead, Option<Vec<Init>>)> {
        let init = self.init_cfg.map(|cfg| Init::list(&cfg, cx)).transpose()?;
        let cls = ClsHeadConfig { loss: self.loss, topk: self.topk, cal_acc: self.cal_acc, init_cfg: None };
        Ok((ClsHead::from_config(cls, cx)?, init))
    }
}

/// Scores by batch norm and linear layer, `head.bn` and `head.linear`, or the mean of those and of a second pair,
/// `head_dist`.
pub struct LeViTClsHead {
    head: NormedLinear,
    head_dist: Option<NormedLinear>,
    cls: ClsHead,
    init: Vec<Init>,
}

struct NormedLinear {
    bn: BatchNorm1d,
    linear: Linear,
}

module!(LeViTClsHead { head, head_dist }, init_cfg = init);
module!(NormedLinear { bn, linear });

register! { /// Batch norm and linear layer, or two of them whose scores' mean counts, and a loss.
dyn Head, "LeViTClsHead" => fn LeViTClsHead::from_config }

impl LeViTClsHead {
    fn from_config(p: DistilledClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let layer = || NormedLinear {
            bn: BatchNorm1d::new(p.in_channels),
            linear: Linear::new(p.in_channels, p.num_classes),
        };
        let (head, head_dist) = (layer(), p.distillation.then(layer));
        let (cls, init) = p.parts(cx)?;
        Ok(Self { head, head_dist, cls, init: init.unwrap_or_default() })
    }
}

impl Module for NormedLinear {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("bn", &mut self.bn, x)?;
        cx.child("linear", &mut self.linear, x)
    }
}

impl Module for LeViTClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let scores = cx.child("head", &mut self.head, x)?;
        match &mut self.head_dist {
            Some(head_dist) => ((scores + cx.child("head_dist", head_dist, x)?) * 0.5).checked(),
            None => Ok(scores),
        }
    }
}

/// Scores by a linear layer, `head`, or the mean of those and of a second one, `dist_head`.
pub struct EfficientFormerClsHead {
    head: Linear,
    dist_head: Option<Linear>,
    cls: ClsHead,
    init: Vec<Init>,
}

module!(EfficientFormerClsHead { head, dist_head }, init_cfg = init);

register! { /// A linear layer, or two of them whose scores' mean counts, and a loss.
dyn Head, "EfficientFormerClsHead" => fn EfficientFormerClsHead::from_config }

impl EfficientFormerClsHead {
    fn from_config(p: DistilledClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let layer = || Linear::new(p.in_channels, p.num_classes);
        let (head, dist_head) = (layer(), p.distillation.then(layer));
        let (cls, init) = p.parts(cx)?;
        let rule = || vec![Init::new(Normal { mean: 0.0, std: 0.01 }).layer("Linear")];
        Ok(Self { head, dist_head, cls, init: init.unwrap_or_else(rule) })
    }
}

impl Module for EfficientFormerClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let scores = cx.child("head", &mut self.head, x)?;
        match &mut self.dist_head {
            Some(dist_head) => ((scores + cx.child("dist_head", dist_head, x)?) * 0.5).checked(),
            None => Ok(scores),
        }
    }
}

/// Losses and predictions of scores as a `ClsHead` makes them.
macro_rules! scored_by_cls {
    ($($head:ident),+) => {$(
        impl Head for $head {
            fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
                self.cls.loss(scores, target)
            }

            fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
                self.cls.predict(scores, target)
            }
        }
    )+};
}
scored_by_cls!(LeViTClsHead, EfficientFormerClsHead);
