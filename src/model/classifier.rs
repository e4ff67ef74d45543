//! The classifier of images.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer};

use super::batch_augments::{BatchAugments, BatchAugmentsConfig};
use super::heads::{ConformerHead, Head, UNCOUNTABLE};
use super::preprocessors::{ClsDataPreprocessor, Preprocessor, onehot};
use super::{FieldNeeds, LossDict, Model, Outputs, SCORES, Task, initial};
use crate::base::{Error, Result};
use crate::config::{Diag, Diags, Kind};
use crate::data::{Batch, Column, INPUTS, TARGET};
use crate::nn::init::{Init, InitCfg};
use crate::nn::{Autograd, Forward, Module, Tape, Var};
use crate::registry::{BuildCx, Collected, Spec};
use crate::{module, register};

/// The keys of `{type: ImageClassifier, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[schemars(transform = head_required)]
pub struct ImageClassifierConfig {
    /// From images to features.
    pub backbone: Spec<dyn Module>,
    /// Between backbone and head.
    #[serde(default)]
    pub neck: Option<Spec<dyn Module>>,
    /// From features to scores and losses. Without one (`head: null`) the features are what it predicts, and nothing can be
    /// trained.
    #[serde(deserialize_with = "or_null")]
    pub head: Option<Spec<dyn Head>>,
    /// From batches to images; ClsDataPreprocessor without normalisation if absent.
    #[serde(default)]
    pub data_preprocessor: Option<Spec<dyn Preprocessor>>,
    /// How the weights of the whole begin.
    #[serde(default)]
    pub init_cfg: InitCfg,
    /// Short for `init_cfg: {type: Pretrained, checkpoint: …}`; it wins over `init_cfg`.
    #[serde(default)]
    pub pretrained: Option<String>,
    /// Modules that are not trained, by path: `backbone.layer1`. Their weights are neither moved nor decayed, their
    /// batch norms keep their running statistics and normalise by them.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Lists of parameters that are one, by their paths: `[[head.fc.weight, backbone.embedding.weight]]`. It goes by the
    /// name of the first of them in the order of the network; it is saved once, and moved once a step.
    #[serde(default)]
    pub tie_weights: Vec<Vec<String>>,
    /// How the samples of a training batch are mixed: `{augments: [{type: Mixup, alpha: 0.8}]}`.
    #[serde(default)]
    pub train_cfg: Option<BatchAugmentsConfig>,
}

/// Says in the schema that the head must be there, though it may be null.
fn head_required(schema: &mut Schema) {
    if let Some(serde_json::Value::Array(required)) = schema.get_mut("required") {
        required.push("head".into());
    }
}

/// A key that must be there, though it may be null: nobody forgets the head.
fn or_null<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Spec<dyn Head>>, D::Error> {
    Option::deserialize(d)
}

register! { /// A classifier of images: backbone, neck and head.
dyn Model, "ImageClassifier" => fn ImageClassifier::from_config }

/// Backbone, neck and head, behind a preprocessor.
///
/// ```
/// use shanty::data::Batch;
/// use shanty::model::{ClsHead, ImageClassifier, LeNet5, Model, StepCx};
///
/// let mut model = ImageClassifier::new(LeNet5::new(Some(10), 1)?, ClsHead::default());
/// model.init_weights(0)?;
/// let batch = Batch::new(ndarray::ArrayD::zeros(vec![2, 1, 32, 32]), vec![3, 7]);
/// let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 })?;
/// assert!((outputs.loss().unwrap() - 10f64.ln()).abs() < 0.2);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct ImageClassifier {
    backbone: Box<dyn Module>,
    neck: Option<Box<dyn Module>>,
    head: Option<Box<dyn Head>>,
    preprocessor: Box<dyn Preprocessor>,
    augments: Option<BatchAugments>,
    init: Vec<Init>,
    autograd: Autograd,
}

module!(ImageClassifier { backbone, neck, head }, init_cfg = init);

impl ImageClassifier {
    /// A classifier that takes pixels as they are.
    pub fn new(backbone: impl Module, head: impl Head) -> Self {
        Self {
            backbone: Box::new(backbone),
            neck: None,
            head: Some(Box::new(head)),
            preprocessor: Box::new(ClsDataPreprocessor::default()),
            augments: None,
            init: Vec::new(),
            autograd: Autograd::default(),
        }
    }

    /// A classifier as the config says.
    ///
    /// # Errors
    /// What the builders of its parts say.
    pub fn from_config(p: ImageClassifierConfig, cx: &mut BuildCx) -> Result<Self> {
        let mut errors = Collected::default();
        let preprocessor = p.data_preprocessor.map(|spec| errors.take(spec.build(cx)));
        let augments =
            p.train_cfg.and_then(|cfg| errors.take(BatchAugments::from_config(&cfg, cx)).flatten());
        if augments.is_some() {
            p.head.as_ref().map(|head| errors.take(countable(head)));
        }
        let init = errors.take(initial::rules(p.pretrained.as_ref(), &p.init_cfg, cx));
        let backbone = errors.take(p.backbone.build(cx));
        let neck = p.neck.and_then(|spec| errors.take(spec.build(cx)));
        let head_node = p.head.as_ref().map(|spec| spec.node().clone());
        let head = p.head.map(|spec| errors.take(spec.build(cx)));
        let head = match head {
            Some(built) => built.map(Some),
            None => Some(None),
        };
        let (Some(init), Some(backbone), Some(head)) = (init, backbone, head) else {
            return Err(errors.0.into());
        };
        let preprocessor = preprocessor.flatten().unwrap_or_else(|| Box::new(ClsDataPreprocessor::default()));
        let model =
            Self { backbone, neck, head, preprocessor, augments, init, autograd: Autograd::default() };
        // A neck may give other widths than the backbone.
        if let (Some(node), None) = (&head_node, &model.neck) {
            errors.take_on(ConformerHead::widths_fit(&model), node);
        }
        errors.or(initial::settled(model, &p.frozen, &p.tie_weights, cx)?)
    }

    /// The same with a module between backbone and head.
    #[must_use]
    pub fn neck(self, neck: impl Module) -> Self {
        Self { neck: Some(Box::new(neck)), ..self }
    }

    /// The same with another preprocessor.
    #[must_use]
    pub fn preprocessor(self, preprocessor: Box<dyn Preprocessor>) -> Self {
        Self { preprocessor, ..self }
    }

    /// The same with samples of its training batches mixed.
    #[must_use]
    pub fn augments(self, augments: BatchAugments) -> Self {
        Self { augments: Some(augments), ..self }
    }

    /// The same with an `init_cfg` for the whole.
    #[must_use]
    pub fn init(self, init: Vec<Init>) -> Self {
        Self { init, ..self }
    }

    /// From prepared inputs to the scores of the head, or to the features if there is none.
    fn scores<'t>(&mut self, inputs: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let x = match &mut self.neck {
            Some(neck) if neck.takes_several() => {
                let all = cx.child_several("backbone", &mut self.backbone, inputs)?;
                cx.child_all("neck", neck, &all)?
            }
            Some(neck) => {
                let x = cx.child("backbone", &mut self.backbone, inputs)?;
                cx.child("neck", neck, x)?
            }
            None => cx.child("backbone", &mut self.backbone, inputs)?,
        };
        match &mut self.head {
            Some(head) => cx.child("head", head, x),
            None => Ok(x),
        }
    }
}

/// What a classifier without a head predicts.
const FEATURES: &str = "features";

/// Refuses a head that counts right answers, for targets that are mixed.
fn countable(head: &Spec<dyn Head>) -> Result<()> {
    match head.node().get("cal_acc").map(|counts| (&*counts.kind, counts)) {
        Some((Kind::Bool(true), place)) => Err(Diags::from(Diag::error(UNCOUNTABLE).on(place)).into()),
        _ => Ok(()),
    }
}

impl Task for ImageClassifier {
    fn loss<'t>(&mut self, batch: &Batch, tape: &'t Tape, cx: &mut Forward<'_>) -> Result<LossDict<'t>> {
        let mut prepared = self.preprocessor.prepare(batch, cx, tape)?;
        let mixed = match &self.augments {
            Some(augments) => augments.mix(&mut prepared.inputs, cx.rng)?,
            None => None,
        };
        let scores = self.scores(prepared.inputs, cx)?;
        if let Some(mixed) = mixed {
            let own = match prepared.scores.take() {
                Some(own) => own,
                None => match batch.get(TARGET) {
                    Some(Column::Float(labels)) => labels.mapv(|label| label.max(0.0)),
                    _ => onehot(batch.labels()?, scores.shape().last().copied().unwrap_or(0))?,
                },
            };
            prepared.scores = Some(mixed.targets(&own));
        }
        match &self.head {
            Some(head) => head.loss(scores, prepared.target(batch)?),
            None => Err(Error::config(
                "`head: null`: this classifier gives features and has no loss to train by; give it a head, as \
                 `{type: LinearClsHead, num_classes: 10, in_channels: 768}`",
            )),
        }
    }

    fn predict(&mut self, batch: &Batch, tape: &Tape, cx: &mut Forward<'_>) -> Result<Outputs> {
        let prepared = self.preprocessor.prepare(batch, cx, tape)?;
        let scores = self.scores(prepared.inputs, cx)?;
        let Some(head) = &self.head else {
            return Ok(Outputs::predicted(FEATURES, scores.value().into_owned()));
        };
        // Without an answer to every sample (-1 is customary) there is no loss, but there are scores.
        let labelled = prepared.scores.is_some()
            || match batch.get(TARGET) {
                Some(Column::Float(_)) => true,
                Some(_) => batch.labels()?.iter().all(|label| *label >= 0),
                None => false,
            };
        let target = if labelled { Some(prepared.target(batch)?) } else { None };
        head.predict(scores, target)
    }

    fn autograd(&mut self) -> &mut Autograd {
        &mut self.autograd
    }

    fn reads(&self) -> FieldNeeds {
        let scored = self.head.is_some();
        FieldNeeds {
            inputs: vec![INPUTS.into()],
            targets: if scored { vec![TARGET.into()] } else { Vec::new() },
            outputs: if scored { vec![(SCORES.into(), TARGET.into())] } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;
    use crate::model::{ClsHead, MLP, StepCx};
    use crate::nn::{Dropout, Sequential, Tanh};

    fn model() -> ImageClassifier {
        let mlp = MLP::new(&[12, 16, 4], Box::new(Tanh::new())).unwrap();
        let backbone = Sequential::default().with(mlp).with(Dropout::new(0.5));
        let mut model = ImageClassifier::new(backbone, ClsHead::default());
        model.init_weights(0).unwrap();
        model
    }

    fn batch() -> Batch {
        Batch::new(ArrayD::from_elem(vec![8, 3, 2, 2], 1.0), vec![0; 8])
    }

    #[test]
    fn buffers_are_kept_from_step_to_step() {
        let (mut model, batch) = (model(), batch());
        let misses = |model: &mut ImageClassifier, iter| {
            model.train_step(&batch, &StepCx { seed: 0, iter, loss_scale: 0.5 }).unwrap();
            model.autograd.pool().misses()
        };
        let warm = (0..3).map(|iter| misses(&mut model, iter)).last();
        assert_eq!(warm, (3..20).map(|iter| misses(&mut model, iter)).last(), "every buffer is used again");
    }

    #[test]
    fn noise_is_a_function_of_seed_and_iteration() {
        let loss = |seed, iter| {
            model().train_step(&batch(), &StepCx { seed, iter, loss_scale: 1.0 }).unwrap().loss().unwrap()
        };
        assert_eq!(loss(0, 7), loss(0, 7));
        assert_ne!(loss(0, 7), loss(0, 8));
        assert_ne!(loss(0, 7), loss(1, 7));
    }

    #[test]
    fn a_failed_step_leaves_the_gradients_alone() {
        let (mut model, mut batch) = (model(), batch());
        batch.int_mut(TARGET).unwrap()[3] = 4;
        let error = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap_err();
        assert!(error.to_string().contains('4'), "{error}");
        crate::params::HostParams::visit(&model, &mut |p| assert!(p.grad.is_none(), "{}", p.name));
    }
}
