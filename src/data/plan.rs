//! How a batch is made of its samples, by the caller's thread or a worker's.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::base::{Elem, Error, Result, caught_from, keyed, memory};

use super::buffers::BufferPool;
use super::field::TARGET;
use super::orders::{BatchIndices, Place};
use super::unreadable::{SampleError, Unreadable, of_the_machine};
use super::{
    Batch, BatchSampler, Collate, Dataset, Fingerprint, Pipeline, Sample, Sampler, Shard, ShardPolicy, Value,
};

/// What a loader and its workers share.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) dataset: Arc<dyn Dataset>,
    /// As it was given; [`Plan::sampler`] is the one to draw from.
    pub(super) given: Arc<dyn Sampler>,
    /// The same for these data, or why there is none; determined when it is needed first.
    pub(super) fitted: OnceLock<Result<Arc<dyn Sampler>, String>>,
    /// How the order of a pass is put into batches, as it was given; they are cut from it in turn if this is `None`.
    pub(super) batching: Option<Arc<dyn BatchSampler>>,
    /// The same for these data.
    pub(super) fitted_batching: OnceLock<Result<Option<Arc<dyn BatchSampler>>, String>>,
    pub(super) collate: Arc<dyn Collate>,
    /// The number of each class of the data set among these names, if they are not its own.
    pub(super) classes: Option<Arc<(Vec<i64>, Vec<String>)>>,
    /// Samples that are left out, ascending.
    pub(super) excluded: Arc<RwLock<Vec<u64>>>,
    pub(super) unreadable: Arc<Unreadable>,
    pub(super) fingerprint: Arc<OnceLock<Fingerprint>>,
    /// Pipelines that replace the data set's own, by their first pass.
    pub(super) switches: Arc<RwLock<Vec<(u64, Arc<Pipeline>)>>>,
    /// Memory of batches that were given back.
    pub(super) buffers: Arc<BufferPool>,
    /// The samples of a batch that are kept when it is made; all if `None`.
    pub(super) shown: Option<usize>,
    pub(super) batch_size: usize,
    pub(super) drop_last: bool,
    pub(super) seed: u64,
    /// The seed is that of this loader, whatever the run's is.
    pub(super) own_seed: bool,
    pub(super) shard: Shard,
    pub(super) max_batches: Option<usize>,
    /// Samples of the data set that are used.
    pub(super) len: usize,
    /// Samples of a pass, of all ranks, once they are counted.
    pub(super) pass_len: OnceLock<usize>,
    /// What this rank takes of a pass at most; a rehearsal needs no more than a few batches.
    pub(super) most: usize,
    pub(super) policy: ShardPolicy,
}

impl Plan {
    /// The same plan for another purpose, which counts what it cannot read for itself.
    pub(super) fn apart(&self) -> Self {
        let excluded = self.excluded.read().unwrap_or_else(PoisonError::into_inner).clone();
        let unreadable = Arc::new(Unreadable::new(self.unreadable.most));
        Self { excluded: Arc::new(RwLock::new(excluded)), unreadable, ..self.clone() }
    }

    /// The sampler that knows the data.
    pub(super) fn sampler(&self) -> Result<&dyn Sampler> {
        let fit = || {
            let fitted = caught_from("the sampler", || self.given.for_data(&*self.dataset, self.of_ranks()));
            fitted.map(|own| own.unwrap_or_else(|| self.given.clone())).map_err(|error| error.to_string())
        };
        self.fitted.get_or_init(fit).as_deref().map_err(|why| Error::config(why.clone()))
    }

    /// The batch sampler that knows the data, if batches are not cut from the order in turn.
    pub(super) fn batching(&self) -> Result<Option<&dyn BatchSampler>> {
        let fit = || {
            let Some(given) = &self.batching else { return Ok(None) };
            let fitted = caught_from(BATCH_SAMPLER, || given.for_data(&*self.dataset));
            let fitted = fitted.map(|own| own.unwrap_or_else(|| given.clone()));
            fitted.map(Some).map_err(|error| error.to_string())
        };
        let fitted = self.fitted_batching.get_or_init(fit).as_ref();
        fitted.map(Option::as_deref).map_err(|why| Error::config(why.clone()))
    }

    /// Counts what the settings make of the data set.
    pub(super) fn measure(&mut self) {
        let limit = self.max_batches.map_or(usize::MAX, |n| n.saturating_mul(self.of_ranks()));
        (self.len, self.policy) = (self.dataset.len().min(limit), self.given.policy());
        (self.fitted, self.fitted_batching, self.pass_len) = Default::default();
    }

    /// Samples in a batch of all ranks together.
    pub(super) fn of_ranks(&self) -> usize {
        self.batch_size.saturating_mul(self.shard.world.max(1))
    }

    /// Samples of a pass, of all ranks; of a sampler that does not fit the data, what it would be without them.
    pub(super) fn pass_len(&self) -> usize {
        *self.pass_len.get_or_init(|| self.sampler().unwrap_or(&*self.given).pass_len(self.len))
    }

    /// Samples of a pass of this rank.
    pub(super) fn share(&self) -> usize {
        self.share_of(self.shard.rank)
    }

    fn share_of(&self, rank: usize) -> usize {
        let shard = Shard { world: self.shard.world.max(1), rank };
        self.policy.share(self.pass_len(), shard).min(self.most)
    }

    /// Whether a last batch that is not full is left out.
    pub(super) fn drops_last(&self) -> bool {
        self.drop_last || self.batching.as_ref().is_some_and(|batching| batching.drop_last())
    }

    /// Batches of a pass, for each rank: as many as the largest share takes, so that the last of some may be empty.
    pub(super) fn batches(&self) -> usize {
        if self.batch_size == 0 {
            return 0;
        }
        let share = self.share_of(0);
        if self.drops_last() { share / self.batch_size } else { share.div_ceil(self.batch_size) }
    }

    /// Whether the last batch of a pass has samples for some ranks only.
    pub(super) fn ends_without_some(&self) -> bool {
        let smallest = self.share_of(self.shard.world.max(1) - 1);
        self.batch_size > 0 && smallest.div_ceil(self.batch_size) < self.batches()
    }

    /// Reads and stacks the samples; `stop` is told of each before it is read. So many batches may be `ahead` in memory
    /// at once.
    pub(super) fn load(
        &self,
        indices: &BatchIndices,
        ahead: usize,
        stop: &dyn Fn(usize) -> bool,
    ) -> Result<Made> {
        let n = indices.samples.len();
        let (mut bad, mut valid, mut builder) = (Vec::new(), 0, None);
        let mut samples = Vec::new();
        for (place, &of) in indices.samples.iter().enumerate() {
            if stop(of.index) {
                return Err(Error::invalid("the loader was dropped"));
            }
            let sample = match self.sample(of) {
                Ok(sample) => sample,
                Err(e) if bad.len() < self.unreadable.most && !of_the_machine(&e.source) => {
                    bad.push(e);
                    continue;
                }
                Err(e) => return Err(Error::Other(Box::new(e))),
            };
            if valid == 0 && samples.is_empty() && builder.is_none() {
                fits(n, sample.fields.iter().map(|(_, value)| value.len()).sum(), ahead)?;
                builder = caught_from(COLLATE, || Ok(self.collate.begin(n, self.buffers.take())))?;
            }
            valid += usize::from(place < indices.valid);
            match &mut builder {
                Some(builder) => caught_from(COLLATE, || builder.add(sample))?,
                None => samples.push(sample),
            }
        }
        let mut batch = match builder {
            Some(builder) => caught_from(COLLATE, || builder.finish())?,
            None if samples.is_empty() => Batch::default(),
            None => caught_from(COLLATE, || self.collate.collate(samples))?,
        };
        batch.valid = valid;
        if let Some(few) = self.shown {
            batch = batch.extremes(few);
        }
        Ok(Made { batch, bad })
    }

    fn pipeline(&self, pass: u64) -> Option<Arc<Pipeline>> {
        let switches = self.switches.read().unwrap_or_else(PoisonError::into_inner);
        switches.iter().rfind(|(first, _)| *first <= pass).map(|(_, pipeline)| Arc::clone(pipeline))
    }

    pub(super) fn sample(&self, Place { pass, index, repeat }: Place) -> Result<Sample, SampleError> {
        // Whoever comes again is drawn for as one behind all others.
        let again = u64::from(repeat).wrapping_mul(self.dataset.len() as u64);
        let mut rng = keyed(self.seed, "augment", pass, again.wrapping_add(index as u64));
        let read = || match self.pipeline(pass) {
            Some(pipeline) => self.dataset.get_through(index, &mut rng, &pipeline),
            None => self.dataset.get(index, &mut rng),
        };
        let mut sample = caught_from("the data set", read).map_err(|source| SampleError { index, source })?;
        sample.id = index as u64;
        if let Some((numbers, _)) = self.classes.as_deref()
            && let Some(Value::Int(classes)) = sample.fields.get_mut(TARGET)
        {
            classes.mapv_inplace(|class| {
                usize::try_from(class).ok().and_then(|class| numbers.get(class)).copied().unwrap_or(class)
            });
        }
        Ok(sample)
    }
}

/// A batch, and the samples that are missing in it because they cannot be read.
pub(super) struct Made {
    pub(super) batch: Batch,
    pub(super) bad: Vec<SampleError>,
}

/// Makes sure that batches of `n` samples of so many values fit into the memory, `ahead` of them at once.
fn fits(n: usize, values: usize, ahead: usize) -> Result<()> {
    let of = |what: &str, counts: &[usize]| memory::fits(what, counts, size_of::<Elem>());
    of(&format!("a batch of {n} samples"), &[n, values])?;
    let what = format!("what workers may be ahead, {ahead} batches (num_workers × prefetch_factor),");
    of(&what, &[n, values, ahead]).map(drop)
}

/// Samples that stand for a batch: norms need two.
pub(super) const FEW: usize = 2;

const COLLATE: &str = "the collate function";
pub(super) const BATCH_SAMPLER: &str = "the batch sampler";
