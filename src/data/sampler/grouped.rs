//! Batches of samples of one group.

use std::sync::Arc;

use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Sampler;
use super::groups::groups;
use super::passes::one_pass;
use crate::base::rng::permutation;
use crate::base::{Error, Result, keyed};
use crate::data::Dataset;
use crate::registry::BuildCx;

crate::register! {
    /// Batches of samples of one group: of pictures that lie the same way round, of one value of a field, or within bounds.
    ///
    /// ```yaml
    /// {type: GroupSampler, by: length, boundaries: [8, 16, 32]}
    /// ```
    dyn Sampler, "GroupSampler" => fn GroupSampler::from_config
}

/// Batches of samples of one group, as MMDetection's sampler of this name makes them of upright and of wide pictures.
/// Each group is filled up to whole batches by samples of its own, which come twice in the pass.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupSampler {
    /// What samples of a group have in common: orientation (of pictures: higher than wide, or not), length (of
    /// sequences), or the name of a field that the data set knows before it reads a sample.
    pub by: String,
    /// Numbers at which a group ends and the next one begins, ascending; each value is a group of its own if not given.
    #[schemars(extend("x-unbounded" = true))]
    pub boundaries: Vec<f64>,
    /// Whether each pass comes in an order of its own; else groups come one behind the other, in the order of the data.
    pub shuffle: bool,
    /// Seed of the order; the run's seed if it is not given.
    pub seed: Option<u64>,
}

impl Default for GroupSampler {
    fn default() -> Self {
        Self { by: "orientation".to_owned(), boundaries: Vec::new(), shuffle: true, seed: None }
    }
}

impl GroupSampler {
    /// Batches of samples that have this in common: `orientation`, `length`, or the value of a field.
    pub fn by(by: &str) -> Self {
        Self { by: by.to_owned(), ..Self::default() }
    }

    fn from_config(config: Self, _: &mut BuildCx) -> Result<Self> {
        if !config.boundaries.iter().all(|bound| bound.is_finite()) || !config.boundaries.is_sorted() {
            return Err(Error::config("`boundaries` are finite numbers in ascending order"));
        }
        if config.by == "orientation" && !config.boundaries.is_empty() {
            return Err(Error::config(
                "`boundaries` part numbers, and `by: orientation` has none: leave them out, or name a field",
            ));
        }
        Ok(config)
    }
}

impl Sampler for GroupSampler {
    /// Without groups: all samples. A loader draws from what [`Sampler::for_data`] gives.
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        one_pass(self.shuffle, len, self.seed.unwrap_or(seed), pass)
    }

    fn for_data(&self, data: &dyn Dataset, batch: usize) -> Result<Option<Arc<dyn Sampler>>> {
        let of = groups(data, &self.by, &self.boundaries)?;
        Ok(Some(Arc::new(Grouped { sampler: self.clone(), of, batch: batch.max(1) })))
    }
}

/// The same with the group of each sample.
struct Grouped {
    sampler: GroupSampler,
    of: Vec<u32>,
    batch: usize,
}

impl Grouped {
    /// Samples in each group among the first `len`.
    fn sizes(&self, len: usize) -> Vec<usize> {
        let of = self.of.get(..len).unwrap_or(&self.of);
        let mut sizes = vec![0; of.iter().max().map_or(0, |last| *last as usize + 1)];
        of.iter().for_each(|group| sizes[*group as usize] += 1);
        sizes
    }
}

impl Sampler for Grouped {
    fn draw(&self, len: usize, seed: u64, pass: u64) -> Vec<usize> {
        let order = self.sampler.draw(len, seed, pass);
        let mut rng = keyed(self.sampler.seed.unwrap_or(seed), "groups", pass, 0);
        let mut groups: Vec<Vec<usize>> = self.sizes(len).into_iter().map(Vec::with_capacity).collect();
        for index in order {
            if let Some(group) = self.of.get(index).and_then(|group| groups.get_mut(*group as usize)) {
                group.push(index);
            }
        }
        let mut batches: Vec<Vec<usize>> = Vec::new();
        for mut group in groups.into_iter().filter(|group| !group.is_empty()) {
            let own = group.len();
            let more = own.next_multiple_of(self.batch) - own;
            for at in 0..more {
                // A small group comes several times as a whole.
                let at =
                    if self.sampler.shuffle { rng.random_range(0..own as u64) as usize } else { at % own };
                group.push(group[at]);
            }
            batches.extend(group.chunks(self.batch).map(<[usize]>::to_vec));
        }
        let places = match self.sampler.shuffle {
            true => permutation(batches.len(), &mut rng),
            false => (0..batches.len()).collect(),
        };
        places.into_iter().flat_map(|at| std::mem::take(&mut batches[at])).collect()
    }

    fn pass_len(&self, len: usize) -> usize {
        let whole = |size: usize| size.div_ceil(self.batch).saturating_mul(self.batch);
        self.sizes(len).into_iter().map(whole).fold(0, usize::saturating_add)
    }
}
