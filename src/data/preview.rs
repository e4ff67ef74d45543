//! A look at what a loader is going to give, before it gives it: nothing of it is counted, and no batch is another one
//! for it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use crate::base::{Error, Result, caught_from, keyed};

use super::orders::{BatchIndices, Orders, Place};
use super::plan::{FEW, Plan};
use super::{Batch, DataLoader, Pipeline, Sample};

impl DataLoader {
    /// The first samples of a pass, as its pipeline makes them; `None` if all of it is left out.
    ///
    /// # Errors
    /// That of a sample that cannot be read, or does not fit to the others.
    ///
    /// ```
    /// use shanty::data::{DataLoader, Synthetic};
    ///
    /// let loader = DataLoader::new(Synthetic::new(10, [1, 4, 4], 2, 0)).batch_size(4);
    /// assert_eq!(loader.preview(0)?.unwrap().ids, [0, 1]);
    /// loader.exclude(&[0, 2]);
    /// assert_eq!(loader.preview(0)?.unwrap().ids, [1, 3]);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    pub fn preview(&self, pass: u64) -> Result<Option<Batch>> {
        let plan = Arc::new(self.plan.apart());
        let mut orders = Orders::new(Arc::clone(&plan));
        for g in batches_of(self, pass) {
            let mut indices = orders.indices(g)?;
            indices.samples.retain(|place| place.pass == pass);
            indices.samples.truncate(FEW);
            let batch = looked_at(&plan, &indices)?;
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// A sample as the pipeline makes it in a pass.
    pub(crate) fn look(&self, index: usize, pass: u64) -> Result<Sample> {
        let made = self.plan.sample(Place { pass, index, repeat: 0 });
        made.map_err(|why| Error::Other(Box::new(why)))
    }

    /// A sample as the set has it before its pipeline; `None` where there is none to be left out.
    pub(crate) fn raw(&self, index: usize) -> Option<Sample> {
        let (set, nothing) = (self.dataset(), Pipeline::new(Vec::new()));
        let mut rng = keyed(0, "raw", 0, 0);
        caught_from("the data set", || set.get_through(index, &mut rng, &nothing)).ok()
    }

    /// Whether the samples of the sets that this one is made of fit together where the first pass mixes them.
    ///
    /// # Errors
    /// That of the samples that do not.
    pub(crate) fn mixes(&self) -> Result<()> {
        let parts = self.dataset().parts();
        let plan = Arc::new(self.plan.apart());
        let (mut orders, mut met) = (Orders::new(Arc::clone(&plan)), BTreeSet::new());
        for g in batches_of(self, 0) {
            if parts < 2 || met.len() == parts {
                break;
            }
            let mut indices = orders.indices(g)?;
            let mut own = BTreeSet::new();
            indices.samples.retain(|place| own.insert(self.dataset().part_of(place.index)));
            if own.len() > 1 && !own.is_subset(&met) {
                looked_at(&plan, &indices)?;
                met.extend(own);
            }
        }
        Ok(())
    }

    /// A batch of these samples, as the first pass makes them.
    ///
    /// # Errors
    /// That of a sample that cannot be read, or does not fit to the others.
    #[cfg(feature = "cli")]
    pub(crate) fn look_at(&self, samples: &[usize]) -> Result<Batch> {
        let plan = Arc::new(self.plan.apart());
        let places = samples.iter().map(|index| Place { pass: 0, index: *index, repeat: 0 });
        looked_at(&plan, &BatchIndices { samples: places.collect(), valid: samples.len() })
    }

    /// How many samples the first pass of the sampler does not come to; nothing where it comes to each once, or where
    /// there are too many to count.
    pub(crate) fn missed(&self) -> Result<Option<usize>> {
        /// A second is too long for it.
        const MOST: usize = 1 << 20;
        let (len, sampler) = (self.plan.len, self.plan.sampler()?);
        if len > MOST {
            return Ok(None);
        }
        let drawn = caught_from("the sampler", || Ok(sampler.draw(len, self.plan.seed, 0)))?;
        let mut missed = vec![true; len];
        for index in &drawn {
            if let Some(missed) = missed.get_mut(*index) {
                *missed = false;
            }
        }
        let missed = missed.into_iter().filter(|missed| *missed).count();
        Ok(Some(missed).filter(|missed| *missed > 0 || drawn.len() > len))
    }

    /// Samples in the smallest batch of the first pass; a batch of which all is left out does not count.
    pub(crate) fn smallest_batch(&self) -> Result<usize> {
        let (size, share) = (self.samples_per_batch(), self.plan.share());
        let whole = self.plan.excluded.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        if whole {
            let last = if self.infinite() || self.plan.drops_last() { 0 } else { share % size };
            return Ok(if last == 0 { size } else { last });
        }
        let mut orders = Orders::new(Arc::clone(&self.plan));
        let mut smallest = size;
        for g in batches_of(self, 0) {
            smallest = match orders.indices(g)?.samples.len() {
                0 => smallest,
                n => smallest.min(n),
            };
        }
        Ok(smallest)
    }
}

/// The batches in which samples of a pass are.
fn batches_of(data: &DataLoader, pass: u64) -> std::ops::Range<u64> {
    let (len, size) = (data.plan.pass_len() as u64, data.samples_per_batch() as u64);
    if data.infinite() {
        let (first, end) = (pass.saturating_mul(len), pass.saturating_add(1).saturating_mul(len));
        return first / size..end.div_ceil(size);
    }
    let first = pass.saturating_mul(data.len());
    first..first.saturating_add(data.len())
}

fn looked_at(plan: &Plan, indices: &BatchIndices) -> Result<Batch> {
    let made = plan.load(indices, 1, &|_| false)?;
    plan.unreadable.count(made.bad)?;
    Ok(made.batch)
}
