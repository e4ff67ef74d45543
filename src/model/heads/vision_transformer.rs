//! The head of the vision transformer.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsHead, ClsHeadConfig, Head};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Constant, Init, InitCfg, TruncNormal};
use crate::nn::{Forward, Linear, Loss, Module, Tanh, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: VisionTransformerClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct VisionTransformerClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of a sample.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Size of a hidden layer; none if absent.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub hidden_dim: Option<usize>,
    /// What follows the hidden layer; Tanh if absent.
    #[serde(default)]
    pub act_cfg: Option<Spec<dyn Module>>,
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
    /// How its layers begin: `{type: Constant, val: 0, layer: Linear}` if absent, as any linear layer if `null`.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(with = "InitCfg")]
    pub init_cfg: Option<InitCfg>,
}

register! { /// A linear layer, `layers.head`, behind a hidden one if `hidden_dim` is given, and a loss.
dyn Head, "VisionTransformerClsHead" => fn VisionTransformerClsHead::from_config }

register! { /// A linear layer for the class token and one, `layers.head_dist`, for the distillation token of DeiT, and a loss of their mean.
dyn Head, "DeiTClsHead" => fn VisionTransformerClsHead::distilled_from_config }

impl VisionTransformerClsHead {
    fn distilled_from_config(p: VisionTransformerClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        Ok(Self::from_config(p, cx)?.distilled())
    }

    fn from_config(p: VisionTransformerClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let cls = ClsHeadConfig { loss: p.loss, topk: p.topk, cal_acc: p.cal_acc, init_cfg: None };
        let mut head = Self::new(p.num_classes, p.in_channels, ClsHead::from_config(cls, cx)?);
        if let Some(cfg) = p.init_cfg {
            head = head.init(Init::list(&cfg, cx)?);
        }
        Ok(match (p.hidden_dim, p.act_cfg) {
            (None, _) => head,
            (Some(size), None) => head.hidden(size, Tanh {}),
            (Some(size), Some(act)) => head.hidden(size, act.build(cx)?),
        })
    }
}

/// Scores of the class token by a linear layer, `layers.head`, whose weights begin as 0; in front of it may be a hidden
/// layer, `layers.pre_logits`, which begins as N(0, 1 / in). With a distillation token the scores are the mean of those of both
/// tokens, by two layers, in training as in evaluation.
pub struct VisionTransformerClsHead {
    layers: Layers,
    cls: ClsHead,
    init: Vec<Init>,
}

struct Layers {
    pre_logits: Option<Linear>,
    act: Option<Box<dyn Module>>,
    head: Linear,
    head_dist: Option<Linear>,
}

module!(VisionTransformerClsHead { layers }, init_cfg = init);
module!(Layers { pre_logits, act, head, head_dist });

impl VisionTransformerClsHead {
    /// A layer from `in_channels` features to `num_classes` scores, and the loss of `cls`.
    pub fn new(num_classes: usize, in_channels: usize, cls: ClsHead) -> Self {
        let head = Linear::new(in_channels, num_classes);
        let layers = Layers { pre_logits: None, act: None, head, head_dist: None };
        Self { layers, cls, init: vec![Init::new(Constant { val: 0.0 }).layer("Linear")] }
    }

    /// The same with other initial weights; call it before [`hidden`](Self::hidden).
    #[must_use]
    pub fn init(self, init: Vec<Init>) -> Self {
        Self { init, ..self }
    }

    /// The same with a hidden layer of this size in front.
    #[must_use]
    pub fn hidden(mut self, size: usize, act: impl Module) -> Self {
        let [classes, ins] = [0, 1].map(|axis| self.layers.head.weight.value.shape()[axis]);
        let rule = TruncNormal { std: (1.0 / ins.max(1) as f64).sqrt(), ..TruncNormal::default() };
        let own = Init::new(Constant { val: 0.0 }).override_with("layers.pre_logits", Init::new(rule));
        self.init.push(own);
        self.layers = Layers {
            pre_logits: Some(Linear::new(ins, size)),
            act: Some(Box::new(act)),
            head: Linear::new(size, classes),
            head_dist: None,
        };
        self
    }

    /// The same for a class token and a distillation token, [N, 2, D]; call it behind [`hidden`](Self::hidden).
    #[must_use]
    pub fn distilled(mut self) -> Self {
        let [classes, ins] = [0, 1].map(|axis| self.layers.head.weight.value.shape()[axis]);
        self.layers.head_dist = Some(Linear::new(ins, classes));
        self
    }
}

impl Module for VisionTransformerClsHead {
    fn forward<'t>(&mut self, mut x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if let Some(layer) = &mut self.layers.pre_logits {
            x = layer.forward(x, cx)?;
        }
        if let Some(act) = &mut self.layers.act {
            x = act.forward(x, cx)?;
        }
        let Layers { head, head_dist, .. } = &mut self.layers;
        let Some(head_dist) = head_dist else { return head.forward(x, cx) };
        if x.shape().len() != 3 || x.shape()[1] != 2 {
            return Err(Error::invalid(format!(
                "DeiTClsHead wants a class token and a distillation token, [N, 2, D], as a DistilledVisionTransformer gives \
                 them, and got an input of shape {:?}",
                x.shape()
            )));
        }
        let both = head.forward(x.select(1, 0), cx)? + head_dist.forward(x.select(1, 1), cx)?;
        (both * 0.5).checked()
    }
}

impl Head for VisionTransformerClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}
