//! Samples of a batch mixed with each other, their targets likewise: MMPretrain's `train_cfg.augments`.

mod cutmix;
mod mixup;
mod resizemix;

use ndarray::{ArrayD, Axis};
use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

pub use cutmix::{CutMix, CutMixConfig};
pub use mixup::Mixup;
pub use resizemix::{MixInterpolation, ResizeMix, ResizeMixConfig};

use crate::base::{Elem, Error, Result, Rng, Tensor, permutation};
use crate::config::OneOrMany;
use crate::nn::Var;
use crate::registry::{BuildCx, Spec};

crate::registry!(dyn BatchAugment, "batch_augment");

/// A way of mixing the samples of a batch.
pub trait BatchAugment: Send {
    /// Fills `mixed` with the mixed samples of `batch`, which has as many values. All randomness comes from `rng`, which
    /// is the step's own: a function of the run's seed and the iteration.
    ///
    /// # Errors
    /// When the batch is none that it can mix.
    fn mix(&self, batch: Stack<'_>, mixed: &mut [Elem], rng: &mut Rng) -> Result<Mixed>;
}

/// The samples of a batch, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// Their values.
    pub values: &'a [Elem],
    /// Samples first: N, C, H, W of images.
    pub shape: &'a [usize],
}

impl Stack<'_> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of a sample.
    fn size(&self) -> usize {
        self.values.len() / self.len().max(1)
    }

    /// The values of the sample at `i`.
    fn sample(&self, i: usize) -> &[Elem] {
        &self.values[i * self.size()..][..self.size()]
    }

    /// Planes, height and width of each sample, of images.
    fn images(&self) -> Result<[usize; 3]> {
        match *self.shape {
            [_, channels, height, width] if height > 0 && width > 0 => Ok([channels, height, width]),
            ref shape => Err(Error::invalid(format!(
                "parts of images are exchanged, N, C, H, W, and the batch has the shape {shape:?}: Mixup mixes any"
            ))),
        }
    }
}

/// What became of the samples of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixed {
    /// How much of each target is its sample's own.
    pub share: f64,
    /// Whose target is the rest, a sample for each.
    pub partners: Vec<usize>,
}

impl Mixed {
    /// Every sample with another one, drawn without repetition.
    fn drawn(samples: usize, rng: &mut Rng) -> Self {
        Self { share: 1.0, partners: permutation(samples, rng) }
    }

    /// The targets of the mixed samples, from those of the samples, N × K.
    pub fn targets(&self, own: &ArrayD<Elem>) -> ArrayD<Elem> {
        let share = self.share as Elem;
        let mut rest = own.select(Axis(0), &self.partners);
        rest.zip_mut_with(own, |rest, own| *rest = share * own + (1.0 - share) * *rest);
        rest
    }
}

/// `train_cfg` of a classifier in a config: `{augments: [{type: Mixup, alpha: 0.8}, {type: CutMix, alpha: 1.0}]}`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BatchAugmentsConfig {
    /// One way of mixing the samples of a training batch, or several, of which each batch gets one.
    pub augments: OneOrMany<Spec<dyn BatchAugment>>,
    /// The probability of each; all are equally likely if absent. What they leave to 1 is that of an unmixed batch.
    #[schemars(extend("x-unbounded" = true))]
    pub probs: Option<OneOrMany<f64>>,
}

/// Ways of mixing a batch, one of which each batch gets.
pub struct BatchAugments {
    ways: Vec<Box<dyn BatchAugment>>,
    probs: Vec<f64>,
}

impl BatchAugments {
    /// These ways, all equally likely.
    pub fn new(ways: Vec<Box<dyn BatchAugment>>) -> Self {
        let probs = vec![1.0 / ways.len().max(1) as f64; ways.len()];
        Self { ways, probs }
    }

    /// The same with these probabilities; what they leave to 1 is that of an unmixed batch.
    ///
    /// # Errors
    /// When they are not as many as the ways, or no probabilities.
    pub fn probs(self, probs: Vec<f64>) -> Result<Self> {
        if probs.len() != self.ways.len() {
            return Err(Error::config(format!(
                "`probs` has {} numbers for {} `augments`: give one for each",
                probs.len(),
                self.ways.len()
            )));
        }
        let sum: f64 = probs.iter().sum();
        if !probs.iter().all(|p| *p >= 0.0) || sum > 1.0 + 1e-9 {
            return Err(Error::config(format!(
                "`probs` are none below 0 and sum to 1 at most, got {probs:?}"
            )));
        }
        Ok(Self { probs, ..self })
    }

    /// As the config says; `None` where it names no way.
    ///
    /// # Errors
    /// What the builders of the ways say, and probabilities that are none.
    pub fn from_config(p: &BatchAugmentsConfig, cx: &mut BuildCx) -> Result<Option<Self>> {
        let all = Self::new(Spec::build_all(p.augments.iter(), cx)?);
        let all = match &p.probs {
            None => all,
            Some(probs) => all.probs(probs.to_vec())?,
        };
        Ok(Some(all).filter(|all| !all.ways.is_empty()))
    }

    /// A way for this batch, if it is mixed at all.
    fn draw(&self, rng: &mut Rng) -> Option<&dyn BatchAugment> {
        let mut left: f64 = rng.random();
        let chosen = self.probs.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        // Probabilities that sum to 1 may do so not quite.
        let whole = self.probs.iter().sum::<f64>() > 1.0 - 1e-9;
        let last = self.ways.len().checked_sub(1).filter(|_| whole);
        chosen.or(last).and_then(|at| self.ways.get(at)).map(|way| &**way)
    }

    /// Mixes the inputs of a training batch, and tells how their targets are to be mixed; `None` where they stay.
    ///
    /// # Errors
    /// When the batch is none that the chosen way can mix.
    pub fn mix(&self, inputs: &mut Var<'_>, rng: &mut Rng) -> Result<Option<Mixed>> {
        let Some(way) = self.draw(rng) else { return Ok(None) };
        let own = inputs.value();
        let tape = inputs.tape();
        let mut mixed = tape.take(own.len());
        let values = own.as_slice().unwrap_or_default();
        let how = way.mix(Stack { values, shape: own.shape() }, &mut mixed, rng)?;
        let mixed = Tensor::from_shape_vec(own.raw_dim(), mixed).map_err(|e| Error::Other(e.into()))?;
        *inputs = tape.input(mixed);
        Ok(Some(how))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::array;

    #[test]
    fn targets_are_mixed_as_the_samples() {
        let mixed = Mixed { share: 0.75, partners: vec![2, 0, 1] };
        let own = array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].into_dyn();
        let expected = array![[0.75, 0.0, 0.25], [0.25, 0.75, 0.0], [0.0, 0.25, 0.75]].into_dyn();
        assert_eq!(mixed.targets(&own), expected);
    }

    #[test]
    fn ways_come_as_often_as_asked_and_the_rest_is_left_alone() {
        let ways =
            || -> Vec<Box<dyn BatchAugment>> { vec![Box::new(Mixup::new(1.0)), Box::new(Mixup::new(1.0))] };
        let all = BatchAugments::new(ways()).probs(vec![0.5, 0.2]).unwrap();
        let mut counts = [0usize; 3];
        for iter in 0..10_000 {
            let mut rng = keyed(0, "augment", iter, 0);
            let way = all.draw(&mut rng).map(std::ptr::from_ref);
            let at = all
                .ways
                .iter()
                .position(|own| way.is_some_and(|way| std::ptr::addr_eq(way, &raw const **own)));
            counts[at.unwrap_or(2)] += 1;
        }
        // Five standard deviations of 10,000 draws are 250 at most.
        for (count, expected) in counts.iter().zip([5000, 2000, 3000]) {
            assert!(count.abs_diff(expected) < 250, "{counts:?}");
        }
        let even = BatchAugments::new(ways());
        assert!((0..1000).all(|iter| even.draw(&mut keyed(0, "augment", iter, 0)).is_some()));
        let refused = |probs: Vec<f64>| BatchAugments::new(ways()).probs(probs).err().unwrap().to_string();
        assert_eq!(refused(vec![0.5]), "`probs` has 1 numbers for 2 `augments`: give one for each");
        assert!(refused(vec![0.5, 0.6]).contains("sum to 1 at most"));
        assert!(refused(vec![-0.5, 0.6]).contains("none below 0"));
    }
}
