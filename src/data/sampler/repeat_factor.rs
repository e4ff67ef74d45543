//! Samples of rare classes several times in a pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Sampler;
use super::passes::one_pass;
use crate::base::rng::permutation;
use crate::base::{Error, Result, keyed, memory};
use crate::data::Dataset;
use crate::data::class_counts::categories;

crate::register! {
    /// Samples of rare classes max(1, sqrt(t / f)) times in a pass, fractions by chance: LVIS's repeat factor sampling.
    ///
    /// ```yaml
    /// {type: RepeatFactorSampler, oversample_thr: 0.1}
    /// ```
    dyn Sampler, "RepeatFactorSampler" => RepeatFactorSampler
}

/// Repeat factor sampling (Gupta, Dollár and Girshick 2019): a class that a share f of the samples has comes
/// r = max(1, sqrt(t / f)) times, a sample as often as its rarest class. Fractions are rounded anew in each pass, up or
/// down by chance, so that r is what comes in the mean. A pass is as long as the sum of all r, rounded.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub struct RepeatFactorSampler {
    /// The share t of samples, from 0 to 1, below which a class is rare.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub oversample_thr: f64,
    /// Whether to shuffle; else in the order of the data set, copies one behind the other.
    #[serde(default = "crate::config::yes")]
    pub shuffle: bool,
    /// Seed of the order and of the rounding; the run's seed if it is not given.
    #[serde(default)]
    pub seed: Option<u64>,
}

impl RepeatFactorSampler {
    /// Classes that fewer than this share of the samples have come more often.
    pub fn new(oversample_thr: f64) -> Self {
        Self { oversample_thr, shuffle: true, seed: None }
    }
}

impl Sampler for RepeatFactorSampler {
    /// Without classes: each sample once. A loader draws from what [`Sampler::for_data`] gives.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        one_pass(self.shuffle, len, self.seed.unwrap_or(seed), pass)
    }

    fn for_data(&self, data: &dyn Dataset, _: usize) -> Result<Option<Arc<dyn Sampler>>> {
        let factors = repeat_factors(data, self.oversample_thr)?;
        let sampler = Repeated { of: self.clone(), factors };
        memory::lists("the order of a pass", sampler.pass_len(data.len()), size_of::<usize>())?;
        Ok(Some(Arc::new(sampler)))
    }
}

/// How often each sample comes: max(1, sqrt(threshold / f)) for the share f of its rarest class.
///
/// # Errors
/// When the data set does not tell its classes before it reads a sample; when there are more samples than can be
/// counted.
pub(in crate::data) fn repeat_factors(data: &dyn Dataset, threshold: f64) -> Result<Vec<f64>> {
    let n = data.len();
    memory::lists("the classes of all samples", n, size_of::<Vec<usize>>())?;
    let of_each: Vec<Vec<usize>> = (0..n).map(|index| categories(data, index)).collect::<Result<_>>()?;
    let mut counts = BTreeMap::<usize, usize>::new();
    of_each.iter().flatten().for_each(|class| *counts.entry(*class).or_default() += 1);
    let times = |class: &usize| {
        let share = counts.get(class).copied().unwrap_or(n) as f64 / n as f64;
        (threshold / share).sqrt().max(1.0)
    };
    let factors: Vec<f64> =
        of_each.iter().map(|classes| classes.iter().map(times).fold(1.0, f64::max)).collect();
    let all: f64 = factors.iter().map(|factor| factor.ceil()).sum();
    match all > f64::from(u32::MAX) {
        true => Err(Error::config(format!(
            "`oversample_thr` {threshold} makes {all:.0} samples of {n}: take less"
        ))),
        false => Ok(factors),
    }
}

/// The same with a number for each sample.
struct Repeated {
    of: RepeatFactorSampler,
    factors: Vec<f64>,
}

impl Repeated {
    fn sum(&self, len: usize) -> f64 {
        self.factors.iter().take(len).sum()
    }
}

impl Sampler for Repeated {
    /// Numbers are laid end to end in an order drawn anew, and whole steps from a place drawn anew are counted in each:
    /// each comes its own times, rounded up or down, and all together as often as the pass is long.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let seed = self.of.seed.unwrap_or(seed);
        let mut rng = keyed(seed, "repeat-factor", pass, 0);
        let (order, wanted) = (permutation(len.min(self.factors.len()), &mut rng), self.pass_len(len));
        // Where the first step may lie, so that there are as many as are wanted.
        let room = self.sum(len) - wanted as f64;
        let first = rng.random::<f64>() * (1.0 - room.abs()) + (-room).max(0.0);
        let (mut end, mut before) = (first, 0usize);
        let mut times = vec![0usize; len];
        for index in &order {
            end += self.factors[*index];
            let until = (end as usize).clamp(before, wanted);
            times[*index] = until - before;
            before = until;
        }
        // What sums of floats lose at the very end.
        if let Some(last) = order.last() {
            times[*last] += wanted - before;
        }
        let drawn: Vec<usize> =
            times.iter().enumerate().flat_map(|(index, n)| std::iter::repeat_n(index, *n)).collect();
        match self.of.shuffle {
            true => one_pass(true, drawn.len(), seed, pass).into_iter().map(|at| drawn[at]).collect(),
            false => drawn,
        }
    }

    fn pass_len(&self, len: usize) -> usize {
        self.sum(len).round() as usize
    }
}
