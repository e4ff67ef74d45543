//! Weights by how fast each loss falls (Liu 2019).

use ndarray::IxDyn;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Weighed, Weighting};
use crate::base::{Elem, Result, Tensor};
use crate::nn::{Activation, Buffer, Counter, Var};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of a [`DynamicWeightAverage`] in YAML.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DynamicWeightAverageConfig {
    /// The batches of one average: those of an epoch, to have it as in the paper.
    #[schemars(range(min = 1, max = 16777216))]
    pub interval: u64,
    /// How even the weights are; large: all near 1.
    #[serde(default = "two")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub temperature: f64,
}

fn two() -> f64 {
    2.0
}

/// `K softmax(r / T)` over K losses, where r is the average of a loss over the last `interval` batches divided by that
/// over the `interval` before: Liu 2019, equation 7. A loss that has stopped falling gets more weight. Until two averages
/// are there all weights are 1.
///
/// The averages are buffers of the model, so that a resumed run goes on with the same weights. A batch whose losses are
/// not all finite is not counted.
///
/// ```
/// use shanty::model::{DynamicWeightAverage, Weighting};
/// use shanty::nn::{Activation, BufferPool, Tape};
///
/// let mut weighting = DynamicWeightAverage::new(1);
/// weighting.begin(&[Activation::Identity, Activation::Identity]);
/// let mut weights = Vec::new();
/// for (a, b) in [(4.0, 4.0), (2.0, 4.0), (1.0, 4.0)] {
///     let tape = Tape::new(BufferPool::default());
///     let losses = [a, b].map(|loss| tape.input(ndarray::arr0(loss).into_dyn()));
///     weights = weighting.weigh(&losses, &[a, b])?.weights;
/// }
/// // The first fell to a half, the second not at all: e^(1/4) to e^(1/2).
/// let wanted = 2.0 / (1.0 + 0.25f64.exp());
/// assert!((weights[0] - wanted).abs() < 1e-6 && (weights[0] + weights[1] - 2.0).abs() < 1e-6);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct DynamicWeightAverage {
    temperature: f64,
    interval: u64,
    /// Batches of the average that is being taken, and averages that were taken.
    batches: Counter,
    averages: Counter,
    sums: Buffer,
    last: Buffer,
    before: Buffer,
}

module!(DynamicWeightAverage { batches, averages, sums, last, before });

impl DynamicWeightAverage {
    /// Averages over this many batches, at the paper's temperature of 2.
    pub fn new(interval: u64) -> Self {
        let none = || Buffer::full(&[0], 0.0);
        Self {
            temperature: two(),
            interval: interval.max(1),
            batches: Counter::default(),
            averages: Counter::default(),
            sums: none(),
            last: none(),
            before: none(),
        }
    }

    /// The same at another temperature.
    #[must_use]
    pub fn temperature(self, temperature: f64) -> Self {
        Self { temperature, ..self }
    }

    fn from_config(config: DynamicWeightAverageConfig, _: &mut BuildCx) -> Result<Self> {
        Ok(Self::new(config.interval).temperature(config.temperature))
    }

    fn weights(&self) -> Vec<f64> {
        if self.averages.get() < 2 {
            return vec![1.0; self.last.value.len()];
        }
        let rates = self.last.value.iter().zip(&self.before.value).map(|(last, before)| {
            // A loss that was 0 has no rate: it counts as one that stays.
            let rate = f64::from(*last) / f64::from(*before);
            if rate.is_finite() { rate / self.temperature } else { 1.0 / self.temperature }
        });
        let rates: Vec<f64> = rates.collect();
        let most = rates.iter().fold(f64::NEG_INFINITY, |most, rate| most.max(*rate));
        let shares: Vec<f64> = rates.iter().map(|rate| libm::exp(rate - most)).collect();
        let sum: f64 = shares.iter().sum();
        shares.iter().map(|share| share * rates.len() as f64 / sum).collect()
    }

    /// Takes the losses of a batch into the averages.
    fn note(&mut self, losses: &[Elem]) {
        if self.sums.fixed || !losses.iter().all(|loss| loss.is_finite()) {
            return;
        }
        self.sums.value.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        self.batches.tick();
        if self.batches.get() >= self.interval {
            let mean = self.sums.value.mapv(|sum| sum / self.interval as Elem).into_shared();
            self.before.value = std::mem::replace(&mut self.last.value, mean);
            self.averages.tick();
            self.sums.value.fill(0.0);
            self.batches = Counter::default();
        }
    }
}

impl Weighting for DynamicWeightAverage {
    fn begin(&mut self, losses: &[Activation]) {
        let zeros = || Tensor::zeros(IxDyn(&[losses.len()]));
        (self.sums.value, self.last.value, self.before.value) = (zeros(), zeros(), zeros());
        (self.batches, self.averages) = (Counter::default(), Counter::default());
    }

    fn weigh<'t>(&mut self, losses: &[Var<'t>], values: &[Elem]) -> Result<Weighed<'t>> {
        let weights = self.weights();
        self.note(values);
        let terms = losses.iter().zip(&weights).map(|(loss, weight)| *loss * *weight as Elem).collect();
        Ok(Weighed { terms, weights, extra: None })
    }
}

register! { /// Weights by how fast each loss falls (dynamic weight average, Liu 2019).
dyn Weighting, "DynamicWeightAverage" => fn DynamicWeightAverage::from_config }
