//! Classes in turn, whatever their numbers of samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Sampler;
use crate::base::{Error, Result, Rng, keyed, memory};
use crate::data::Dataset;
use crate::data::class_counts::categories;

crate::register! {
    /// The classes in turn, of each the next of its samples: every class comes as often, however rare it is.
    dyn Sampler, "ClassAwareSampler" => ClassAwareSampler
}

/// The classes in turn, in an order drawn anew each time round, and of each the next of its samples in an order of
/// their own (Shen, Lin and Huang 2016). A pass has as many samples as the data set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClassAwareSampler {
    /// How many samples of a class come in a row.
    #[schemars(range(min = 1))]
    pub num_sample_class: usize,
    /// Seed of the order; the run's seed if it is not given.
    pub seed: Option<u64>,
}

impl Default for ClassAwareSampler {
    fn default() -> Self {
        Self { num_sample_class: 1, seed: None }
    }
}

impl Sampler for ClassAwareSampler {
    /// Without classes: an order of all samples. A loader draws from what [`Sampler::for_data`] gives.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let all = Classes { of: self.clone(), classes: vec![(0..len).collect()] };
        all.draw(len, seed, pass)
    }

    fn for_data(&self, data: &dyn Dataset, _: usize) -> Result<Option<Arc<dyn Sampler>>> {
        memory::lists("the classes of all samples", data.len(), size_of::<usize>())?;
        let mut classes = BTreeMap::<usize, Vec<usize>>::new();
        for index in 0..data.len() {
            categories(data, index)?
                .into_iter()
                .for_each(|class| classes.entry(class).or_default().push(index));
        }
        if classes.is_empty() && !data.is_empty() {
            return Err(Error::invalid("no sample has a class"));
        }
        Ok(Some(Arc::new(Classes { of: self.clone(), classes: classes.into_values().collect() })))
    }
}

/// The same with the samples of each class, ascending.
struct Classes {
    of: ClassAwareSampler,
    classes: Vec<Vec<usize>>,
}

impl Sampler for Classes {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let mut rng = keyed(self.of.seed.unwrap_or(seed), "class-aware", pass, 0);
        // A loader may use the first samples only.
        let used = self.classes.iter().map(|all| &all[..all.partition_point(|index| *index < len)]);
        let mut samples: Vec<Cycle> =
            used.filter(|all| !all.is_empty()).map(|all| Cycle::of(all.to_vec())).collect();
        let mut classes = Cycle::of((0..samples.len()).collect());
        let mut drawn = Vec::with_capacity(len);
        while drawn.len() < len && !samples.is_empty() {
            let class = classes.next(&mut rng);
            let several = self.of.num_sample_class.clamp(1, len - drawn.len());
            (0..several).for_each(|_| drawn.push(samples[class].next(&mut rng)));
        }
        drawn
    }
}

/// All of some things in an order drawn anew each time round.
struct Cycle {
    all: Vec<usize>,
    at: usize,
}

impl Cycle {
    /// It must not be empty.
    fn of(all: Vec<usize>) -> Self {
        Self { at: all.len(), all }
    }

    fn next(&mut self, rng: &mut Rng) -> usize {
        if self.at == self.all.len() {
            self.at = 0;
            for i in (1..self.all.len()).rev() {
                self.all.swap(i, rng.random_range(0..=i as u64) as usize);
            }
        }
        self.at += 1;
        self.all[self.at - 1]
    }
}
