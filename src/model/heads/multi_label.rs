//! Heads for several labels at once.

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Head;
use crate::base::{Elem, Error, Result};
use crate::model::{LossDict, Outputs, SCORES};
use crate::nn::init::{Init, InitCfg, Normal};
use crate::nn::{Conv2d, CrossEntropyLoss, Forward, Linear, Loss, Module, Target, Var};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: MultiLabelClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MultiLabelClsHeadConfig {
    /// The loss; cross entropy of a yes or no for each class if absent.
    pub loss: Option<Spec<dyn Loss>>,
    /// Accepted for MMPretrain's configs: metrics have a `thr` of their own.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub thr: Option<f64>,
    /// Accepted for MMPretrain's configs: metrics have a `topk` of their own.
    #[schemars(range(min = 1))]
    pub topk: Option<usize>,
    /// Accepted for MMPretrain's configs; the head has no weights.
    pub init_cfg: InitCfg,
}

/// The keys of `{type: MultiLabelLinearClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct MultiLabelLinearClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of a sample.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// The loss; cross entropy of a yes or no for each class if absent.
    #[serde(default)]
    pub loss: Option<Spec<dyn Loss>>,
    /// Accepted for MMPretrain's configs: metrics have a `thr` of their own.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub thr: Option<f64>,
    /// Accepted for MMPretrain's configs: metrics have a `topk` of their own.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub topk: Option<usize>,
    /// How `fc` begins: `{type: Normal, std: 0.01, layer: Linear}` if absent, as any linear layer if `null`.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(with = "InitCfg")]
    pub init_cfg: Option<InitCfg>,
}

/// The keys of `{type: CSRAClsHead, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CSRAClsHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Channels of the map.
    #[schemars(range(min = 1))]
    pub in_channels: usize,
    /// Attentions of different sharpness that are added up: 1, 2, 4, 6 or 8.
    #[schemars(range(min = 1, max = 8))]
    pub num_heads: usize,
    /// What attention counts beside the mean.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub lam: f64,
    /// The loss; cross entropy of a yes or no for each class if absent.
    #[serde(default)]
    pub loss: Option<Spec<dyn Loss>>,
    /// Accepted for MMPretrain's configs: metrics have a `thr` of their own.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub thr: Option<f64>,
    /// Accepted for MMPretrain's configs: metrics have a `topk` of their own.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub topk: Option<usize>,
    /// How its layers begin; as any convolution if absent.
    #[serde(default)]
    pub init_cfg: InitCfg,
}

/// A loss and predictions of features that are scores already, several labels at once.
pub struct MultiLabelClsHead {
    loss: Box<dyn Loss>,
}

/// Scores of several labels at once by a linear layer, `fc`, whose weights begin as N(0, 0.01²) and whose biases as 0.
pub struct MultiLabelLinearClsHead {
    fc: Linear,
    cls: MultiLabelClsHead,
    init: Vec<Init>,
}

/// Scores of several labels at once from a map: for each class the mean over the places and `lam` times what attention to the
/// places of this class sees (Zhu and Wu 2021, <https://arxiv.org/abs/2108.02456>). It takes the map as it is, without a neck.
///
/// Weight names are MMPretrain's: `csra_heads.0.head`.
pub struct CSRAClsHead {
    csra_heads: Vec<Attention>,
    cls: MultiLabelClsHead,
    init: Vec<Init>,
    lam: Elem,
}

/// A convolution of 1 × 1 with weights of length 1 for each class.
struct Attention {
    head: Conv2d,
    /// By what scores are multiplied in front of the softmax; the largest is taken if absent.
    sharpness: Option<Elem>,
}

module!(MultiLabelClsHead {});
module!(MultiLabelLinearClsHead { fc }, init_cfg = init);
module!(CSRAClsHead { csra_heads }, init_cfg = init);
module!(Attention { head });

register! { /// A loss of several labels at once, for features that are scores already.
dyn Head, "MultiLabelClsHead" => fn MultiLabelClsHead::from_config }
register! { /// A linear layer, `fc`, and a loss of several labels at once.
dyn Head, "MultiLabelLinearClsHead" => fn MultiLabelLinearClsHead::from_config }
register! { /// Attention to the places of each class, and a loss of several labels at once.
dyn Head, "CSRAClsHead" => fn CSRAClsHead::from_config }

/// Cross entropy of a yes or no for each class.
impl Default for MultiLabelClsHead {
    fn default() -> Self {
        Self::new(CrossEntropyLoss { use_sigmoid: true, ..CrossEntropyLoss::default() })
    }
}

impl MultiLabelClsHead {
    /// A head with this loss.
    pub fn new(loss: impl Loss) -> Self {
        Self { loss: Box::new(loss) }
    }

    fn of(loss: Option<&Spec<dyn Loss>>, cx: &mut BuildCx) -> Result<Self> {
        match loss {
            Some(spec) => Ok(Self { loss: spec.build(cx)? }),
            None => Ok(Self::default()),
        }
    }

    fn from_config(p: MultiLabelClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        Self::of(p.loss.as_ref(), cx)
    }
}

impl MultiLabelLinearClsHead {
    fn from_config(p: MultiLabelLinearClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let head = Self::new(p.num_classes, p.in_channels, MultiLabelClsHead::of(p.loss.as_ref(), cx)?);
        Ok(match p.init_cfg {
            Some(cfg) => Self { init: Init::list(&cfg, cx)?, ..head },
            None => head,
        })
    }

    /// A layer from `in_channels` features to `num_classes` scores, and the loss of `cls`.
    pub fn new(num_classes: usize, in_channels: usize, cls: MultiLabelClsHead) -> Self {
        let init = Init::new(Normal { mean: 0.0, std: 0.01 }).layer("Linear");
        Self { fc: Linear::new(in_channels, num_classes), cls, init: vec![init] }
    }
}

impl CSRAClsHead {
    fn from_config(p: CSRAClsHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let cls = MultiLabelClsHead::of(p.loss.as_ref(), cx)?;
        let head = Self::new(p.num_classes, p.in_channels, p.num_heads, p.lam, cls)?;
        Ok(Self { init: Init::list(&p.init_cfg, cx)?, ..head })
    }

    /// So many attentions from a map of `in_channels` to `num_classes` scores, and the loss of `cls`.
    ///
    /// # Errors
    /// When there is no such number of attentions.
    pub fn new(
        num_classes: usize,
        in_channels: usize,
        num_heads: usize,
        lam: f64,
        cls: MultiLabelClsHead,
    ) -> Result<Self> {
        let sharp: &[Elem] = match num_heads {
            1 => &[1.0],
            2 => &[1.0, Elem::INFINITY],
            4 => &[1.0, 2.0, 4.0, Elem::INFINITY],
            6 => &[1.0, 2.0, 3.0, 4.0, 5.0, Elem::INFINITY],
            8 => &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, Elem::INFINITY],
            n => return Err(Error::config(format!("`num_heads: {n}`: there are 1, 2, 4, 6 or 8"))),
        };
        let attention = |sharp: &Elem| Attention {
            head: Conv2d::new(in_channels, num_classes, 1).bias(false),
            sharpness: sharp.is_finite().then_some(*sharp),
        };
        let csra_heads = sharp.iter().map(attention).collect();
        Ok(Self { csra_heads, cls, init: Vec::new(), lam: lam as Elem })
    }
}

impl Module for MultiLabelClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, _: &mut Forward<'_>) -> Result<Var<'t>> {
        Ok(x)
    }
}

impl Module for MultiLabelLinearClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        cx.child("fc", &mut self.fc, x)
    }
}

impl Module for CSRAClsHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        if x.shape().len() != 4 {
            return Err(Error::invalid(format!(
                "CSRAClsHead looks at the places of a map, [N, C, H, W], and got an input of shape {:?}: leave out the neck",
                x.shape()
            )));
        }
        let mut sum: Option<Var<'t>> = None;
        for (i, Attention { head, sharpness }) in self.csra_heads.iter_mut().enumerate() {
            let weight = x.tape().param(&head.weight);
            let length = (weight * weight).sum_axes(&[1, 2, 3]).sqrt().reshape(&[1, weight.shape()[0], 1, 1]);
            let scores = cx.child(format_args!("csra_heads.{i}.head"), head, x)? / length;
            let scores = scores.flatten(2, -1);
            let seen = match sharpness {
                Some(sharp) => (scores * (scores * *sharp).softmax(2)).sum_axes(&[2]),
                None => scores.max_axes(&[2]),
            };
            let own = scores.mean_axes(&[2]) + seen * self.lam;
            sum = Some(sum.map_or(own, |sum| sum + own));
        }
        sum.unwrap_or(x).checked()
    }
}

/// The targets with labels that are in doubt, -1, as a no.
fn without_doubt(target: Target<'_>) -> Option<ArrayD<Elem>> {
    match target {
        Target::Dense(values) if values.iter().any(|value| *value < 0.0) => {
            Some(values.mapv(|value| value.max(0.0)))
        }
        _ => None,
    }
}

impl Head for MultiLabelClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        let sure = without_doubt(target);
        let target = sure.as_ref().map_or(target, Target::Dense);
        let mut dict = LossDict::default();
        dict.push("loss", self.loss.forward(scores, target)?.loss);
        Ok(dict)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        let sure = target.and_then(without_doubt);
        let target = sure.as_ref().map(Target::Dense).or(target);
        let sample_losses = target.map(|target| self.loss.forward(scores, target)).transpose()?;
        let outputs = Outputs::predicted(SCORES, scores.sigmoid().value().into_owned());
        Ok(Outputs { sample_losses: sample_losses.map(|losses| losses.per_sample), ..outputs })
    }
}

impl Head for MultiLabelLinearClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}

impl Head for CSRAClsHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        self.cls.loss(scores, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores, target)
    }
}
