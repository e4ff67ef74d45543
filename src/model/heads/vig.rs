//! The head of Vision GNN.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsHead, ClsHeadConfig, Head};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Init, InitCfg};
use crate::nn::{BatchNorm1d, Dropout, Forward, GELU, Linear, Loss, Module, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: VigClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct VigClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of a sample.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Size of the hidden layer.
    #[serde(default = "hidden")]
    #[schemars(range(min = 1))]
    pub hidden_dim: usize,
    /// What follows the hidden layer and its norm; GELU if absent.
    #[serde(default)]
    pub act_cfg: Option<Spec<dyn Module>>,
    /// Probability with which dropout zeroes an element behind it.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
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
    /// How its layers begin; as any linear layer if absent.
    #[serde(default)]
    pub init_cfg: InitCfg,
}

fn hidden() -> usize {
    1024
}

register! { /// A linear layer, `fc1`, with batch norm, activation and dropout, a second one, `fc2`, and a loss.
dyn Head, "VigClsHead" => fn VigClsHead::from_config }

/// Scores by two linear layers, `fc1` and `fc2`, between which are a batch norm, an activation and dropout.
pub struct VigClsHead {
    fc1: Linear,
    bn: BatchNorm1d,
    act: Box<dyn Module>,
    drop: Dropout,
    fc2: Linear,
    cls: ClsHead,
    init: Vec<Init>,
}

module!(VigClsHead { fc1, bn, act, drop, fc2 }, init_cfg = init);

impl VigClsHead {
    fn from_config(p: VigClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let cls = ClsHeadConfig { loss: p.loss, topk: p.topk, cal_acc: p.cal_acc, init_cfg: None };
        let mut head = Self::new(p.num_classes, p.in_channels, p.hidden_dim, ClsHead::from_config(cls, cx)?);
        if let Some(act) = p.act_cfg {
            head.act = act.build(cx)?;
        }
        Ok(Self { drop: Dropout::new(p.dropout), init: Init::list(&p.init_cfg, cx)?, ..head })
    }

    /// From `in_channels` features by `hidden` ones to `num_classes` scores, with GELU, and the loss of `cls`.
    pub fn new(num_classes: usize, in_channels: usize, hidden: usize, cls: ClsHead) -> Self {
        Self {
            fc1: Linear::new(in_channels, hidden),
            bn: BatchNorm1d::new(hidden),
            act: Box::new(GELU::new()),
            drop: Dropout::new(0.0),
            fc2: Linear::new(hidden, num_classes),
            cls,
            init: Vec::new(),
        }
    }
}

impl Module for VigClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = cx.child("fc1", &mut self.fc1, x)?;
        let x = cx.child("bn", &mut self.bn, x)?;
        let x = self.act.forward(x, cx)?;
        let x = self.drop.forward(x, cx)?;
        cx.child("fc2", &mut self.fc2, x)
    }
}

impl Head for VigClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}
