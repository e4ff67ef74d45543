//! Test-time augmentation: the mean of what a model says of several views of a sample.

use ndarray::{ArrayD, Axis};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{FieldNeeds, Model, Outputs, SCORES, StepCx};
use crate::base::{Elem, Error, Result};
use crate::data::{Batch, TargetScales};
use crate::kernels::Precision;
use crate::nn::FusedWeights;
use crate::params::{HostParams, ParamMut, ParamRef};

/// A view of a batch of images (N, C, H, W).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// As it is.
    Identity,
    /// Mirrored left to right.
    HorizontalFlip,
    /// Mirrored top to bottom.
    VerticalFlip,
}

impl View {
    fn of(self, batch: &Batch) -> Batch {
        let axis = match self {
            Self::Identity => return batch.clone(),
            Self::HorizontalFlip => 3,
            Self::VerticalFlip => 2,
        };
        let mut view = batch.clone();
        // A vector of features has no left and right.
        if let Ok(inputs) = view.inputs_mut()
            && inputs.ndim() == 4
        {
            let mut mirrored = inputs.view();
            mirrored.invert_axis(Axis(axis));
            *inputs = mirrored.as_standard_layout().into_owned();
        }
        view
    }
}

/// Evaluates several views and averages the scores (mmpretrain's AverageClsScoreTTA). Predictions follow the mean.
pub struct AverageClsScoreTTA {
    inner: Box<dyn Model>,
    views: Vec<View>,
}

impl AverageClsScoreTTA {
    /// The mean over these views; of none, the model as it is.
    pub fn new(inner: Box<dyn Model>, views: Vec<View>) -> Self {
        Self { inner, views: if views.is_empty() { vec![View::Identity] } else { views } }
    }

    /// The model inside; what is left is of no use.
    pub fn take(&mut self) -> Box<dyn Model> {
        std::mem::replace(&mut self.inner, Box::new(NoModel))
    }
}

crate::forward_params!(AverageClsScoreTTA, inner);

impl Model for AverageClsScoreTTA {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.inner.train_step(batch, cx)
    }

    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        let n = self.views.len() as Elem;
        let mut mean: Option<(ArrayD<Elem>, Option<Vec<Elem>>)> = None;
        for view in &self.views {
            let mut outputs = self.inner.eval_step(&view.of(batch))?;
            let scores = outputs
                .predictions
                .take(SCORES)
                .ok_or_else(|| Error::invalid("test-time augmentation needs a model that gives scores"))?;
            mean = Some(match mean.take() {
                None => (scores / n, outputs.sample_losses.map(|l| l.iter().map(|v| v / n).collect())),
                Some((sum, losses)) => {
                    let both = losses.zip(outputs.sample_losses);
                    let losses = both.map(|(a, b)| a.iter().zip(&b).map(|(a, b)| a + b / n).collect());
                    (sum + scores / n, losses)
                }
            });
        }
        let (scores, sample_losses) = mean.unzip();
        let outputs = scores.map_or_else(Outputs::default, |scores| Outputs::predicted(SCORES, scores));
        Ok(Outputs { sample_losses: sample_losses.flatten(), ..outputs })
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.inner.init_weights(seed)
    }

    fn computes_in(&self, precision: Precision) -> bool {
        self.inner.computes_in(precision)
    }

    fn fuse(&mut self, fuses: bool) -> bool {
        self.inner.fuse(fuses)
    }

    fn set_trainable(&mut self, module: &str, trainable: bool) -> Result<()> {
        self.inner.set_trainable(module, trainable)
    }

    fn fuse_conv_bn(&mut self, batch: &Batch) -> Result<FusedWeights> {
        self.inner.fuse_conv_bn(batch)
    }

    fn take_fused_form(&mut self, has: &dyn Fn(&str) -> bool) -> Result<usize> {
        self.inner.take_fused_form(has)
    }

    fn tied(&self) -> Vec<(String, String)> {
        self.inner.tied()
    }

    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        self.inner.number_mut(module, name)
    }

    fn reads(&self) -> FieldNeeds {
        self.inner.reads()
    }

    fn standardize(&mut self, scales: &TargetScales) -> Result<()> {
        self.inner.standardize(scales)
    }
}

/// What stands in a place while its model is elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct NoModel;

impl HostParams for NoModel {
    fn visit(&self, _: &mut dyn FnMut(ParamRef<'_>)) {}
    fn visit_mut(&mut self, _: &mut dyn FnMut(ParamMut<'_>)) {}
}

impl Model for NoModel {
    fn train_step(&mut self, _: &Batch, _: &StepCx) -> Result<Outputs> {
        Err(Error::invalid("the model is elsewhere"))
    }
    fn eval_step(&mut self, _: &Batch) -> Result<Outputs> {
        Err(Error::invalid("the model is elsewhere"))
    }
    fn init_weights(&mut self, _: u64) -> Result<Vec<String>> {
        Err(Error::invalid("the model is elsewhere"))
    }
}
