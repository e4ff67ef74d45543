//! The head with one linear layer.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsHead, ClsHeadConfig, Head};
use crate::base::Result;
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Init, InitCfg, Normal};
use crate::nn::{Forward, Linear, Loss, Module, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: LinearClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct LinearClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of a sample.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
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
    /// How `fc` begins: `{type: Normal, std: 0.01, layer: Linear}` if absent, as any linear layer if `null`.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(with = "InitCfg")]
    pub init_cfg: Option<InitCfg>,
}

register! { /// A linear layer, `fc`, and a loss.
dyn Head, "LinearClsHead" => fn LinearClsHead::from_config }

impl LinearClsHead {
    fn from_config(p: LinearClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let cls = ClsHeadConfig { loss: p.loss, topk: p.topk, cal_acc: p.cal_acc, init_cfg: None };
        let head = Self::new(p.num_classes, p.in_channels, ClsHead::from_config(cls, cx)?);
        Ok(match p.init_cfg {
            Some(cfg) => head.init(Init::list(&cfg, cx)?),
            None => head,
        })
    }
}

/// Scores by a linear layer, `fc`, whose weights begin as N(0, 0.01²) and whose biases as 0.
pub struct LinearClsHead {
    fc: Linear,
    cls: ClsHead,
    init: Vec<Init>,
}

module!(LinearClsHead { fc }, init_cfg = init);

impl LinearClsHead {
    /// A layer from `in_channels` features to `num_classes` scores, and the loss of `cls`.
    pub fn new(num_classes: usize, in_channels: usize, cls: ClsHead) -> Self {
        let init = Init::new(Normal { mean: 0.0, std: 0.01 }).layer("Linear");
        Self { fc: Linear::new(in_channels, num_classes), cls, init: vec![init] }
    }

    /// The same with other initial weights.
    #[must_use]
    pub fn init(self, init: Vec<Init>) -> Self {
        Self { init, ..self }
    }
}

impl Module for LinearClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        self.fc.forward(x, cx)
    }
}

impl Head for LinearClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}
