//! The head of Conformer.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{ClsHead, ClsHeadConfig, Head};
use crate::base::{Error, Result};
use crate::config::OneOrMany;
use crate::model::{LossDict, Outputs};
use crate::nn::init::{Init, InitCfg, TruncNormal};
use crate::nn::{Forward, Linear, Loss, Module, ModuleTree, Target, Var, named_parameters};
use crate::registry::{BuildCx, Spec};
use crate::{module, register};

/// The keys of `{type: ConformerHead, …}` in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct ConformerHeadConfig {
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: usize,
    /// Number of features of the convolutions and of the transformer.
    #[schemars(inner(range(min = 1)))]
    pub in_channels: [usize; 2],
    /// The loss of each of both scores, which are added; cross entropy if absent.
    #[serde(default)]
    pub loss: Option<Spec<dyn Loss>>,
    /// Which accuracies are logged with `cal_acc`.
    #[serde(default = "super::top1")]
    #[schemars(with = "OneOrMany<std::num::NonZeroUsize>")]
    pub topk: OneOrMany<usize>,
    /// Whether `accuracy_top-k` is logged in training.
    #[serde(default)]
    pub cal_acc: bool,
    /// How its layers begin: `{type: TruncNormal, std: 0.02, layer: Linear}` if absent, as any linear layer if `null`.
    #[serde(default, deserialize_with = "super::given")]
    #[schemars(with = "InitCfg")]
    pub init_cfg: Option<InitCfg>,
}

/// Scores of the convolutions' features and of the transformer's, [N, 2, classes], by `conv_cls_head` and `trans_cls_head`:
/// in training each has a loss, and their sum predicts.
pub struct ConformerHead {
    conv_cls_head: Linear,
    trans_cls_head: Linear,
    cls: ClsHead,
    init: Vec<Init>,
}

module!(ConformerHead { conv_cls_head, trans_cls_head }, init_cfg = init);

register! { /// A linear layer each for the convolutions and the transformer of a Conformer, and the sum of their losses.
dyn Head, "ConformerHead" => fn ConformerHead::from_config }

impl ConformerHead {
    fn from_config(p: ConformerHeadConfig, cx: &mut BuildCx) -> Result<Self> {
        let init = match p.init_cfg {
            Some(cfg) => Init::list(&cfg, cx)?,
            None => vec![Init::new(TruncNormal { std: 0.02, ..TruncNormal::default() }).layer("Linear")],
        };
        let cls = ClsHeadConfig { loss: p.loss, topk: p.topk, cal_acc: p.cal_acc, init_cfg: None };
        Ok(Self {
            conv_cls_head: Linear::new(p.in_channels[0], p.num_classes),
            trans_cls_head: Linear::new(p.in_channels[1], p.num_classes),
            cls: ClsHead::from_config(cls, cx)?,
            init,
        })
    }

    /// Refuses a model whose backbone is a Conformer and whose head wants other widths of its two parts. Side by side
    /// only their sum is seen, so that a head with both the wrong way round would train on a mixture of the two. The
    /// backbone ends in a layer norm of the transformer's features, by whose weight their number is known.
    pub(in crate::model) fn widths_fit(model: &dyn ModuleTree) -> Result<()> {
        let all = named_parameters(model);
        let shape = |wanted: &str| {
            let found = all.iter().find(|(name, _)| name == wanted);
            found.map(|(_, param)| param.value.shape())
        };
        let (Some(&[_, first]), Some(&[_, second]), Some(&[given]), Some(_)) = (
            shape("head.conv_cls_head.weight"),
            shape("head.trans_cls_head.weight"),
            shape("backbone.trans_norm.weight"),
            shape("backbone.trans_patch_conv.weight"),
        ) else {
            return Ok(());
        };
        if second == given {
            return Ok(());
        }
        let cure = match first == given {
            true => format!("the two are the wrong way round, `in_channels: [{second}, {first}]`"),
            false => format!("set the second of `in_channels` to {given}"),
        };
        Err(Error::config(format!(
            "ConformerHead: `in_channels: [{first}, {second}]` are the features of the convolutions and those of the \
             transformer, of which the backbone gives {given}: {cure}"
        )))
    }
}

impl Module for ConformerHead {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let [first, second] =
            [&self.conv_cls_head, &self.trans_cls_head].map(|layer| layer.weight.value.shape()[1]);
        if x.shape().len() != 2 || x.shape()[1] != first + second {
            let shape = x.shape();
            return Err(Error::invalid(format!(
                "ConformerHead wants the {first} features of the convolutions and the {second} of the transformer side by side, \
                 as a Conformer gives them, and got an input of shape {shape:?}: set `in_channels`"
            )));
        }
        let conv = cx.child("conv_cls_head", &mut self.conv_cls_head, x.slice(1, ..first))?;
        let trans = cx.child("trans_cls_head", &mut self.trans_cls_head, x.slice(1, first..))?;
        x.tape().stack(&[conv, trans], 1).checked()
    }
}

impl Head for ConformerHead {
    fn loss<'t>(&self, scores: Var<'t>, target: Target<'_>) -> Result<LossDict<'t>> {
        let [conv, trans] = [0, 1].map(|i| scores.select(1, i));
        self.cls.loss_of(&[conv, trans], conv + trans, target)
    }

    fn predict(&self, scores: Var<'_>, target: Option<Target<'_>>) -> Result<Outputs> {
        self.cls.predict(scores.select(1, 0) + scores.select(1, 1), target)
    }
}
