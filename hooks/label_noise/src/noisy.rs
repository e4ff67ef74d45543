//! A data set with labels that are wrong on purpose.

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::{Error, Result, Rng, keyed};
use shanty::data::{Dataset, Pipeline, Sample};
use shanty::register;
use shanty::registry::{BuildCx, Spec};

/// Another set in which each label is, with some probability, replaced by another class, all equally likely. Which
/// labels are is a function of the seed.
pub struct NoisyLabels {
    dataset: Box<dyn Dataset>,
    classes: i64,
    fraction: f64,
    seed: u64,
}

impl NoisyLabels {
    /// `dataset` with about `fraction` of its labels flipped.
    ///
    /// # Errors
    /// A data set that names fewer than two classes.
    pub fn new(dataset: Box<dyn Dataset>, fraction: f64, seed: u64) -> Result<Self> {
        let classes = dataset.classes().map_or(0, <[_]>::len) as i64;
        if classes < 2 {
            return Err(Error::invalid("labels can be flipped in a data set with two classes or more"));
        }
        Ok(Self { dataset, classes, fraction, seed })
    }

    /// How far the label of a sample is moved; 0 leaves it right.
    pub fn shift(&self, index: usize) -> i64 {
        let mut rng = keyed(self.seed, "noisy labels", index as u64, 0);
        if rng.random::<f64>() >= self.fraction { 0 } else { rng.random_range(1..self.classes) }
    }

    fn flipped(&self, index: usize, mut sample: Sample) -> Sample {
        if let Some(label) = sample.label() {
            sample.fields.set("target", (label + self.shift(index)).rem_euclid(self.classes));
        }
        sample
    }
}

impl Dataset for NoisyLabels {
    fn len(&self) -> usize {
        self.dataset.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        Ok(self.flipped(index, self.dataset.get(index, rng)?))
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        Ok(self.flipped(index, self.dataset.get_through(index, rng, pipeline)?))
    }

    fn classes(&self) -> Option<&[String]> {
        self.dataset.classes()
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NoisyConfig {
    /// The set with the right labels.
    dataset: Spec<dyn Dataset>,
    /// The share of labels that become wrong.
    #[schemars(range(min = 0.0, max = 1.0))]
    fraction: f64,
    /// Seed of the choice.
    #[serde(default)]
    seed: u64,
}

register! {
    /// Another data set with a share of its labels flipped at random.
    dyn Dataset, "NoisyLabels" => fn NoisyLabels::from_config
}

impl NoisyLabels {
    fn from_config(p: NoisyConfig, cx: &mut BuildCx) -> Result<Self> {
        Self::new(p.dataset.build(cx)?, p.fraction, p.seed)
    }
}
