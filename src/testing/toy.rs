//! The smallest model that trains: one vector, drawn to the mean of its batches.

use std::path::Path;

use ndarray::Array1;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Result};
use crate::data::{Batch, DataLoader, Synthetic};
use crate::metric::Accuracy;
use crate::model::{Model, Outputs, SCORES, StepCx};
use crate::optim::{OptimWrapper, Sgd};
use crate::params::{HostParams, ParamMut, ParamRef, Role};
use crate::run::{EpochBasedTrainLoop, Runner, RunnerBuilder, TrainLoop};

/// Loss ½·Σ(w - mean of the batch)², gradient w - mean. Everything about it can be worked out by hand.
#[derive(Debug, Clone)]
pub struct ToyModel {
    /// The weight, `toy.weight`.
    pub weight: Array1<Elem>,
    grad: Array1<Elem>,
    /// What `train_step` does when called for the n-th time (from 1).
    pub on_step: fn(u64) -> Result<()>,
    steps: u64,
}

impl ToyModel {
    /// A model of `n` weights, all 0.
    pub fn new(n: usize) -> Self {
        Self { weight: Array1::zeros(n), grad: Array1::zeros(n), on_step: |_| Ok(()), steps: 0 }
    }
}

impl HostParams for ToyModel {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        f(ParamRef {
            name: "toy.weight",
            layer: "ToyModel",
            role: Role::Weight,
            frozen: false,
            value: self.weight.view().into_dyn(),
            grad: Some(self.grad.view().into_dyn()),
        });
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        f(ParamMut {
            name: "toy.weight",
            layer: "ToyModel",
            role: Role::Weight,
            frozen: false,
            value: self.weight.view_mut().into_dyn(),
            grad: Some(self.grad.view_mut().into_dyn()),
        });
    }
}

pub(super) fn mean_of(batch: &Batch, n: usize) -> Result<Array1<Elem>> {
    let inputs = batch.inputs()?;
    let rows = inputs.len() / n.max(1);
    let mut mean = Array1::zeros(n);
    for (index, value) in inputs.iter().enumerate() {
        mean[index % n] += *value / rows as Elem;
    }
    Ok(mean)
}

/// The same scores for all samples.
pub(super) fn evaluate(sum: Elem, batch: &Batch) -> Outputs {
    let p = 1.0 / (1.0 + (-sum).exp());
    let scores = ndarray::Array2::from_shape_fn((batch.len(), 2), |(_, k)| if k == 0 { 1.0 - p } else { p });
    Outputs::predicted(SCORES, scores.into_dyn())
}

pub(super) fn standard_normal(weight: &mut Array1<Elem>, seed: u64) {
    use rand_distr::{Distribution, StandardNormal};
    let mut rng = crate::base::keyed(seed, "init", 0, 0);
    weight.mapv_inplace(|_| {
        let z: f64 = StandardNormal.sample(&mut rng);
        z as Elem
    });
}

impl Model for ToyModel {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.steps += 1;
        (self.on_step)(self.steps)?;
        let error = &self.weight - &mean_of(batch, self.weight.len())?;
        self.grad.scaled_add(cx.loss_scale, &error);
        let loss = error.dot(&error) / 2.0;
        Ok(Outputs { vars: [("loss".into(), f64::from(loss))].into_iter().collect(), ..Outputs::default() })
    }

    /// Two classes by the sign of the weight's sum: enough for a metric to have something to count.
    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        Ok(evaluate(self.weight.sum(), batch))
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        standard_normal(&mut self.weight, seed);
        Ok(vec![format!("toy.weight - {:?}: standard normal", self.weight.shape())])
    }
}

/// Parameters of the toy in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct ToyConfig {
    /// Number of weights: the numbers of a sample.
    #[schemars(range(min = 1, max = 65_536))]
    n: usize,
}

impl Default for ToyConfig {
    fn default() -> Self {
        Self { n: 3 }
    }
}

crate::register! {
    /// The smallest model that trains, for tests: one vector, drawn to the mean of its batches.
    dyn Model, "ToyModel" => fn ToyModel::from_config
}

impl ToyModel {
    fn from_config(p: ToyConfig, _: &mut crate::registry::BuildCx) -> Result<Self> {
        Ok(Self::new(p.n))
    }
}

/// The `model:` of a config: a classifier of 12 numbers into three classes whose runs have statistics (of a batch norm) and
/// draws (of a dropout) of their own.
pub const STOCHASTIC_NET: &str = "\
model:
  type: ImageClassifier
  backbone:
    type: Sequential
    layers:
      - {type: Flatten}
      - {type: Linear, in_features: 12, out_features: 8}
      - {type: BatchNorm1d, num_features: 8}
      - {type: ReLU}
      - {type: Dropout, p: 0.2}
      - {type: Linear, in_features: 8, out_features: 3}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}";

/// `batches` batches of 4 samples with 3 numbers and two classes.
///
/// # Errors
/// No batches.
pub fn toy_data(batches: usize, shuffle: bool) -> Result<DataLoader> {
    let data = Synthetic::new(batches * 4, [3, 1, 1], 2, 0);
    let loader = DataLoader::new(data).batch_size(4).shuffle(shuffle);
    loader.check().map(|()| loader)
}

/// SGD with momentum, the optimizer of a toy run.
pub fn toy_optim() -> OptimWrapper {
    Sgd::new(0.1).momentum(0.9).into()
}

/// A run of the toy model over `batches` batches an epoch, validated after each epoch, with the default hooks.
///
/// # Errors
/// As [`toy_data`].
pub fn toy_runner(work_dir: &Path, epochs: u64, batches: usize) -> Result<RunnerBuilder> {
    let data = toy_data(batches, true)?;
    toy_runner_of(work_dir, ToyModel::new(3), data, EpochBasedTrainLoop::new(epochs), toy_optim())
}

/// The same of other parts.
///
/// # Errors
/// Never in practice.
pub fn toy_runner_of(
    work_dir: &Path,
    model: impl Model,
    data: DataLoader,
    train_loop: impl TrainLoop + 'static,
    optim: impl Into<OptimWrapper>,
) -> Result<RunnerBuilder> {
    Ok(Runner::builder(model)
        .train(data, train_loop, optim)
        .val(toy_data(1, false)?, Accuracy::new(vec![1], vec![None])?)
        .work_dir(work_dir)
        .seed(0))
}
