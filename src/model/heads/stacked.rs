//! The head with hidden layers.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsHead, ClsHeadConfig, Head};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Init, InitCfg};
use crate::nn::{Dropout, Forward, Linear, Loss, Module, ReLU, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: StackedLinearClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct StackedLinearClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of a sample.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Sizes of the hidden layers.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub mid_channels: Vec<usize>,
    /// Probability with which dropout zeroes an element behind each hidden layer.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout_rate: f64,
    /// What follows each hidden layer; ReLU if absent.
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
    /// How its layers begin; as any linear layer if absent.
    #[serde(default)]
    pub init_cfg: InitCfg,
}

register! { /// Linear layers, `layers.0.fc`, with activations and dropout between them, and a loss.
dyn Head, "StackedLinearClsHead" => fn StackedLinearClsHead::from_config }

/// Scores by linear layers one behind the other, `layers.{i}.fc`: the head of MobileNetV3.
pub struct StackedLinearClsHead {
    layers: Vec<LinearBlock>,
    cls: ClsHead,
    init: Vec<Init>,
}

/// A linear layer, and what follows each but the last.
struct LinearBlock {
    fc: Linear,
    act: Option<Box<dyn Module>>,
    dropout: Option<Dropout>,
}

module!(StackedLinearClsHead { layers }, init_cfg = init);
module!(LinearBlock { fc, act, dropout });

impl StackedLinearClsHead {
    fn from_config(p: StackedLinearClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        if p.mid_channels.is_empty() {
            return Err(Error::config(
                "`mid_channels` is empty: give the size of a hidden layer, or take LinearClsHead",
            ));
        }
        let cls = ClsHeadConfig { loss: p.loss, topk: p.topk, cal_acc: p.cal_acc, init_cfg: None };
        let mut head = Self {
            layers: Vec::new(),
            cls: ClsHead::from_config(cls, cx)?,
            init: Init::list(&p.init_cfg, cx)?,
        };
        let mut from = p.in_channels;
        for size in p.mid_channels {
            let act = match &p.act_cfg {
                Some(spec) => spec.build(cx)?,
                None => Box::new(ReLU::new()),
            };
            head = head.hidden(std::mem::replace(&mut from, size), size, act, p.dropout_rate);
        }
        Ok(head.scores(from, p.num_classes))
    }

    /// A hidden layer of `size`, and the layer from that to the scores.
    pub fn new(
        num_classes: usize,
        in_channels: usize,
        size: usize,
        act: impl Module,
        dropout_rate: f64,
        cls: ClsHead,
    ) -> Self {
        let head = Self { layers: Vec::new(), cls, init: Vec::new() };
        head.hidden(in_channels, size, Box::new(act), dropout_rate).scores(size, num_classes)
    }

    fn hidden(mut self, from: usize, to: usize, act: Box<dyn Module>, p: f64) -> Self {
        self.layers.push(LinearBlock {
            fc: Linear::new(from, to),
            act: Some(act),
            dropout: Some(Dropout::new(p)),
        });
        self
    }

    fn scores(mut self, from: usize, classes: usize) -> Self {
        self.layers.push(LinearBlock { fc: Linear::new(from, classes), act: None, dropout: None });
        self
    }
}

impl Module for LinearBlock {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut x = cx.child("fc", &mut self.fc, x)?;
        if let Some(act) = &mut self.act {
            x = act.forward(x, cx)?;
        }
        match &mut self.dropout {
            Some(dropout) => dropout.forward(x, cx),
            None => Ok(x),
        }
    }
}

impl Module for StackedLinearClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut layers = self.layers.iter_mut().enumerate();
        layers.try_fold(x, |x, (i, layer)| cx.child(format_args!("layers.{i}"), layer, x))
    }
}

impl Head for StackedLinearClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}
