//! `{type: Supervised, …}` of a config.

use schemars::JsonSchema;

use super::last_layer::LastLayer;
use super::{Objective, Supervised, inputs};
use crate::base::{Error, Result};
use crate::config::{Dict, OneOrMany};
use crate::data::{INPUTS, TARGET, field_name};
use crate::model::preprocessors::Preprocessor;
use crate::model::{Model, Weighting, initial};
use crate::nn::init::InitCfg;
use crate::nn::{Loss, LossTarget, Module, ModuleSpecs};
use crate::register;
use crate::registry::{BuildCx, Collected, Spec};

/// The keys of `{type: Supervised, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
pub struct SupervisedConfig {
    /// From the inputs to what is predicted, or to the features that the heads take. A list of layers is a Sequential.
    pub network: Spec<dyn Module>,
    /// The field that goes in, or several; `inputs` if not given. Several stand side by side along their second axis,
    /// unless the network begins with `Parallel` or `Select`, which take them one by one.
    #[serde(default)]
    pub inputs: Option<OneOrMany<String>>,
    /// The field that holds the lengths of the sequences that go in, where shorter ones are filled up: `pad_collate`
    /// gives `inputs_lengths`. Recurrent layers, attention and pooling over time leave out what lies behind.
    #[serde(default)]
    pub lengths: Option<String>,
    /// Networks behind `network`, one for each thing to predict, by the name of the prediction.
    #[serde(default, deserialize_with = "ModuleSpecs::named")]
    #[schemars(with = "Dict<Spec<dyn Module>>")]
    pub heads: ModuleSpecs,
    /// What training makes small, where there is one loss.
    #[serde(default)]
    pub loss: Option<Spec<dyn Loss>>,
    /// The field that `loss` compares with; `target` if not given.
    #[serde(default)]
    pub target: Option<String>,
    /// Several losses, each with its head, the field that it compares with, and its weight.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub losses: Vec<ObjectiveConfig>,
    /// Weights of several losses that follow the training: UncertaintyWeighting and others.
    #[serde(default)]
    pub weighting: Option<Spec<dyn Weighting>>,
    /// What is done to the inputs first, for pictures: ClsDataPreprocessor and others.
    #[serde(default)]
    pub data_preprocessor: Option<Spec<dyn Preprocessor>>,
    /// How the weights of the whole begin.
    #[serde(default)]
    pub init_cfg: InitCfg,
    /// Short for `init_cfg: {type: Pretrained, checkpoint: …}`; it wins over `init_cfg`.
    #[serde(default)]
    pub pretrained: Option<String>,
    /// Modules that are not trained, by path: `network.0`.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Lists of parameters that are one, by their paths: `[[network.0.weight, network.2.weight]]`. It goes by the name of
    /// the first of them in the order of the network; it is saved once, and moved once a step.
    #[serde(default)]
    pub tie_weights: Vec<Vec<String>>,
}

/// One of several losses.
#[derive(Debug, Clone, serde::Deserialize, JsonSchema)]
pub struct ObjectiveConfig {
    /// What training makes small.
    pub loss: Spec<dyn Loss>,
    /// The head whose scores it takes; the only one if not given.
    #[serde(default)]
    pub head: Option<String>,
    /// The field of the data that it compares with; `target` if not given.
    #[serde(default)]
    pub target: Option<String>,
    /// The field that holds the lengths of the sequences, for a loss of sequences: `inputs_lengths`.
    #[serde(default)]
    pub lengths: Option<String>,
    /// Its weight in the sum.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

register! { /// A network trained by comparing what it says with fields of the data: classes, numbers, labels, masks.
///
/// ```yaml
/// type: Supervised
/// network:
///   - {type: Linear, in_features: 9, out_features: 64}
///   - {type: ReLU}
///   - {type: Linear, in_features: 64, out_features: 1}
/// loss: {type: MSELoss}
/// ```
dyn Model, "Supervised" => fn Supervised::from_config }

impl Supervised {
    /// A model as the config says.
    ///
    /// # Errors
    /// What the builders of its parts say; a loss without a head, or a head without a loss.
    pub fn from_config(p: SupervisedConfig, cx: &mut BuildCx) -> Result<Self> {
        let mut errors = Collected::default();
        let init = errors.take(initial::rules(p.pretrained.as_ref(), &p.init_cfg, cx));
        let network = errors.take(p.network.build(cx));
        let (Some(init), Some(network)) = (init, network) else { return Err(errors.0.into()) };
        let mut last = vec![(None, LastLayer::of(&network, p.network.node()))];
        let mut model = Self { init, ..Self::trunk(network) };
        if let Some(fields) = &p.inputs {
            model.inputs = fields.iter().map(|name| field_name(name).to_owned()).collect();
        }
        inputs::check_order(&model.network, &model.inputs)?;
        model.lengths = p.lengths.as_deref().map(|name| field_name(name).to_owned());
        if let Some(spec) = &p.data_preprocessor {
            if model.inputs != [INPUTS] {
                return Err(Error::config(
                    "a `data_preprocessor` works on the field `inputs` alone: leave out one of the two",
                ));
            }
            model.preprocessor = errors.take(spec.build(cx));
        }
        model.heads = errors.take(p.heads.build(cx)).unwrap_or_default();
        let heads = model.heads.iter().filter_map(|(name, head)| Some((name, head, p.heads.get(name)?)));
        last.extend(
            heads.map(|(name, head, spec)| (Some(name.to_owned()), LastLayer::of(head, spec.node()))),
        );
        for objective in p.objectives()? {
            // Without a name it takes the only head, or the network itself.
            let mut taken =
                last.iter().rev().filter(|(name, _)| objective.head.is_none() || *name == objective.head);
            let taken = taken.next().and_then(|(_, layer)| layer.as_ref());
            cx.warn(taken.and_then(|layer| layer.odd_before(&objective.loss)));
            let target = field_name(objective.target.as_deref().unwrap_or(TARGET)).to_owned();
            cx.provide(LossTarget(target.clone()));
            if let Some(loss) = errors.take(objective.loss.build(cx)) {
                model.objectives.push(Objective {
                    loss,
                    head: objective.head,
                    target,
                    lengths: objective.lengths.map(|field| field_name(&field).to_owned()),
                    weight: objective.weight,
                    scale: None,
                });
            }
        }
        if let Some(spec) = &p.weighting {
            model.weighting = errors.take(spec.build(cx));
            model.begin_weighting();
        }
        let model = errors.or(model)?;
        model.check()?;
        initial::settled(model, &p.frozen, &p.tie_weights, cx)
    }
}

impl SupervisedConfig {
    /// All losses: those of `losses`, or the one in `loss`.
    fn objectives(&self) -> Result<Vec<ObjectiveConfig>> {
        match (&self.loss, self.losses.is_empty()) {
            (Some(_), false) => {
                Err(Error::config("give `loss` for one loss or `losses` for several, not both"))
            }
            (Some(loss), true) => {
                let (loss, target) = (loss.clone(), self.target.clone());
                Ok(vec![ObjectiveConfig { loss, head: None, target, lengths: None, weight: 1.0 }])
            }
            (None, _) if self.target.is_some() => {
                Err(Error::config("`target` belongs to `loss`: in `losses` each names its own"))
            }
            (None, _) => Ok(self.losses.clone()),
        }
    }
}
