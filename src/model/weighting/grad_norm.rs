//! Weights under which all losses train at one rate (Chen 2018).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::IxDyn;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Weighed, Weighting};
use crate::base::{Elem, Result, Tensor};
use crate::nn::init::Constant;
use crate::nn::{Activation, Buffer, Param, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// No weight falls below this share of the mean: a loss without weight would have no gradient to be measured by.
const LEAST: Elem = 1e-3;

/// The keys of a [`GradNorm`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GradNormConfig {
    /// How strongly a task that lags behind is pulled: 0 asks for equal norms.
    #[schemars(range(min = 0.0))]
    pub alpha: f64,
}

impl Default for GradNormConfig {
    fn default() -> Self {
        Self { alpha: 1.5 }
    }
}

/// Learnt weights under which the gradient of each loss has the norm `mean norm · r^alpha`, with r how much of its first
/// value a loss still has, relative to the mean of all: Chen 2018. The weights always add up to the number of losses.
///
/// The gradient is measured at the features in front of the heads, where it costs nothing but its norm, and not at the
/// weights of the last shared layer. The weights are the parameter `weighting.weights`, moved by the run's optimizer
/// along the slope of `Σ |norm - wanted norm|`; another rate for them is
/// `paramwise_cfg: {custom_keys: {weighting: {lr_mult: 0.1, decay_mult: 0}}}`. Of several ranks each measures the gradients
/// of its own samples, and the slope is the mean of theirs.
///
/// ```
/// use shanty::model::{GradNorm, Objective, Supervised};
/// use shanty::nn::{L1Loss, Linear, MSELoss};
///
/// let model = Supervised::trunk(Linear::new(4, 8))
///     .head("price", Linear::new(8, 1))
///     .head("size", Linear::new(8, 1))
///     .objective(Objective::new(MSELoss::default()).head("price").target("price"))
///     .objective(Objective::new(L1Loss::default()).head("size").target("size"))
///     .weighting(GradNorm::default());
/// assert!(model.check().is_ok());
/// let model = model.objective(Objective::new(L1Loss::default()).head("price").target("price"));
/// assert!(model.check().unwrap_err().to_string().contains("a head of its own"));
/// ```
pub struct GradNorm {
    alpha: f64,
    weights: Param,
    /// The first value of each loss; 0 as long as there is none.
    initial: Buffer,
    step: Arc<Mutex<Step>>,
}

module!(GradNorm { weights, initial });

/// What a step finds out on its way.
#[derive(Default)]
struct Step {
    /// The norm of the gradient of each weighted loss.
    norms: Vec<f64>,
    /// How much of its first value each loss has.
    ratios: Vec<f64>,
}

impl Default for GradNorm {
    fn default() -> Self {
        Self::new(GradNormConfig::default().alpha)
    }
}

impl GradNorm {
    /// Pulls a task that lags behind this strongly.
    pub fn new(alpha: f64) -> Self {
        let (weights, initial) = (Param::full(&[0], 1.0), Buffer::full(&[0], 0.0));
        Self { alpha, weights, initial, step: Arc::default() }
    }

    fn from_config(config: GradNormConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::new(config.alpha))
    }

    /// The weights in use: those of the parameter, none below [`LEAST`], with a mean of 1.
    fn in_use(&self) -> Vec<f64> {
        let least: Vec<f64> = self.weights.value.iter().map(|weight| f64::from(weight.max(LEAST))).collect();
        let sum: f64 = least.iter().sum();
        least.iter().map(|weight| weight * least.len() as f64 / sum).collect()
    }
}

fn lock(step: &Mutex<Step>) -> MutexGuard<'_, Step> {
    step.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slope of `Σ |norm - wanted norm|` by the weights, where the wanted norms count as numbers.
fn slope(step: &Step, weights: &[f64], alpha: f64) -> Vec<Elem> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (norm, ratio) = (mean(&step.norms), mean(&step.ratios));
    let each = step.norms.iter().zip(&step.ratios).zip(weights).map(|((own, left), weight)| {
        let wanted = norm * libm::pow(left / ratio, alpha);
        let side = if *own == wanted { 0.0 } else { (own - wanted).signum() };
        (side * own / weight) as Elem
    });
    each.collect()
}

impl Weighting for GradNorm {
    fn begin(&mut self, losses: &[Activation]) {
        self.weights = Param::init(&[losses.len()], Constant { val: 1.0 });
        self.initial.value = Tensor::zeros(IxDyn(&[losses.len()]));
    }

    fn looks_at_features(&self) -> bool {
        true
    }

    /// The way back comes to the branches in turn, then to the gate in front of them, which has all norms by then.
    fn features<'t>(&mut self, features: Var<'t>, losses: usize) -> Vec<Var<'t>> {
        let (tape, alpha, weights) = (features.tape(), self.alpha, self.in_use());
        self.step = Arc::new(Mutex::new(Step { norms: vec![0.0; losses], ratios: vec![1.0; losses] }));
        let step = self.step.clone();
        let value = self.weights.value.clone();
        let gate = tape.node("grad_norm", value, &[tape.param(&self.weights)], move |mut dy, grads| {
            dy.copy_from_slice(&slope(&lock(&step), &weights, alpha));
            grads.add(0, dy);
        });
        let branch = |i: usize| {
            let step = self.step.clone();
            tape.node("branch", features.value(), &[features, gate], move |dy, grads| {
                lock(&step).norms[i] = dy.iter().map(|d| f64::from(*d) * f64::from(*d)).sum::<f64>().sqrt();
                let mut nothing = grads.pool.take(losses);
                nothing.fill(0.0);
                grads.add(1, nothing);
                grads.add(0, dy);
            })
        };
        (0..losses).map(branch).collect()
    }

    fn weigh<'t>(&mut self, losses: &[Var<'t>], own: &[Elem]) -> Result<Weighed<'t>> {
        let known = |value: Elem| value > 0.0 && value.is_finite();
        if !self.initial.fixed
            && !self.initial.value.iter().all(|first| known(*first))
            && own.iter().all(|own| known(*own))
        {
            self.initial.value.iter_mut().zip(own).for_each(|(first, own)| *first = *own);
        }
        if self.initial.value.iter().all(|first| known(*first)) {
            let ratios = own.iter().zip(&self.initial.value).map(|(own, first)| f64::from(own / first));
            lock(&self.step).ratios = ratios.collect();
        }
        let weights = self.in_use();
        let terms = losses.iter().zip(&weights).map(|(loss, weight)| *loss * *weight as Elem).collect();
        Ok(Weighed { terms, weights, extra: None })
    }
}

register! { /// Learnt weights under which all losses train at one rate (GradNorm, Chen 2018).
dyn Weighting, "GradNorm" => fn GradNorm::from_config }
