//! Batches by number: what batch `g` holds is a pure function of the loader, so that a run can resume anywhere at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use crate::base::{Error, Result, keyed};

use super::spares::Spares;
use super::workers::Crew;
use super::{Batch, Collate, Dataset, Deal, DefaultCollate, Pipeline, Sample, Sampler, Shard};

/// Numbers that shape a [`DataLoader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Samples in a batch of this rank; at least 1.
    pub batch_size: usize,
    /// Whether to leave out the last batch of a pass when it is not full.
    pub drop_last: bool,
    /// Threads that make batches ahead of the caller; with 0 the caller's own thread makes each when it is asked for.
    pub num_workers: usize,
    /// Batches that each worker may be ahead; at least 1.
    pub prefetch: usize,
    /// Seed of the order and of the augmentation.
    pub seed: u64,
    /// Which of several processes this one is.
    pub shard: Shard,
    /// Cuts the data set to that many batches a pass (over all ranks).
    pub max_batches: Option<usize>,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            batch_size: 1,
            drop_last: false,
            num_workers: 0,
            prefetch: 2,
            seed: 0,
            shard: Shard::SOLO,
            max_batches: None,
        }
    }
}

/// Gives the batches of a data set in the order of a sampler.
///
/// Batches are numbered from 0 over the whole run. With a finite sampler batch `g` is batch `g % len()` of pass
/// `g / len()`; with an endless one it holds the stream's samples from `g * batch_size` on.
///
/// ```
/// use shanty::data::{DataLoader, DefaultSampler, LoaderOptions, Synthetic};
///
/// let data = Synthetic::new(10, [1, 4, 4], 2, 0);
/// let options = LoaderOptions { batch_size: 4, ..Default::default() };
/// let loader = DataLoader::new(data, DefaultSampler::sequential(), options)?;
/// let ids: Vec<_> = loader.batches(1, Some(4)).map(|batch| batch.unwrap().ids).collect();
/// assert_eq!(ids, [vec![4, 5, 6, 7], vec![8, 9], vec![0, 1, 2, 3]]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Clone)]
pub struct DataLoader {
    plan: Arc<Plan>,
    num_workers: usize,
    prefetch: usize,
}

impl DataLoader {
    /// A loader that stacks samples with [`DefaultCollate`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when a pass would hold no batch at all, for any rank.
    pub fn new(
        dataset: impl Dataset + 'static,
        sampler: impl Sampler + 'static,
        options: LoaderOptions,
    ) -> Result<Self> {
        Self::shared(Arc::new(dataset), Arc::new(sampler), options)
    }

    /// The same for a data set and a sampler that others use too.
    ///
    /// # Errors
    /// As [`DataLoader::new`].
    pub fn shared(
        dataset: Arc<dyn Dataset>,
        sampler: Arc<dyn Sampler>,
        options: LoaderOptions,
    ) -> Result<Self> {
        let LoaderOptions { batch_size, drop_last, num_workers, prefetch, seed, shard, max_batches } =
            options;
        if batch_size == 0 || prefetch == 0 || shard.rank >= shard.world {
            return Err(Error::invalid(format!(
                "batch_size {batch_size} and prefetch {prefetch} must be at least 1, rank {} below world size {}",
                shard.rank, shard.world
            )));
        }
        let limit = max_batches.map_or(usize::MAX, |n| n.saturating_mul(batch_size * shard.world));
        let len = dataset.len().min(limit);
        let (pass_len, deal) = (sampler.pass_len(len), sampler.deal());
        let plan = Plan {
            collate: Arc::new(DefaultCollate {}),
            share: deal.share(pass_len, shard),
            dataset,
            sampler,
            switches: Arc::default(),
            // As many as can be ahead, and the one in use.
            spares: Arc::new(Spares::new(num_workers * prefetch + 1)),
            batch_size,
            drop_last,
            seed,
            shard,
            len,
            pass_len,
            deal,
        };
        // Rank 0 has the largest share: a rank may come out empty, the whole may not.
        if plan.batches_of(deal.share(pass_len, Shard { rank: 0, ..shard })) == 0 {
            return Err(Error::invalid(format!(
                "no batch to load: n {pass_len} samples, batch {batch_size}, drop_last {drop_last}, world size {}; add \
                 samples, make batch_size smaller or set drop_last: false",
                shard.world
            )));
        }
        Ok(Self { plan: Arc::new(plan), num_workers, prefetch })
    }

    /// The same loader with another way to make a batch of samples.
    #[must_use]
    pub fn with_collate(self, collate: Arc<dyn Collate>) -> Self {
        let plan = Plan { collate, ..Plan::clone(&self.plan) };
        Self { plan: Arc::new(plan), ..self }
    }

    /// From this pass on samples go through `pipeline` instead of the data set's own, for this loader and its clones. What
    /// a pass looks like stays a function of its number, so this must be said before its first batch is asked for.
    pub fn switch(&self, pass: u64, pipeline: Arc<Pipeline>) {
        let mut switches = self.plan.switches.write().unwrap_or_else(PoisonError::into_inner);
        switches.retain(|(p, _)| *p != pass);
        switches.push((pass, pipeline));
        switches.sort_by_key(|(p, _)| *p);
    }

    /// Gives a batch back that is not needed any more: a later one is made in its memory, which the system would else have to
    /// clear anew. Values do not depend on it.
    pub fn recycle(&self, batch: Batch) {
        self.plan.spares.give(batch.inputs.into_raw_vec_and_offset().0);
    }

    /// Batches in a pass of this rank.
    pub fn len(&self) -> u64 {
        self.plan.batches_of(self.plan.share) as u64
    }

    /// Whether this rank gets no batch; only when there are fewer samples than ranks and the sampler does not round up.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples in a batch of this rank, but for a short last one.
    pub fn batch_size(&self) -> usize {
        self.plan.batch_size
    }

    /// The data set that it reads.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.plan.dataset
    }

    /// Whether batches run on from one pass into the next.
    pub fn infinite(&self) -> bool {
        self.plan.deal == Deal::Endless
    }

    /// The batches `start..end`, or without an end. Nothing before `start` is read. Workers begin at once; they end when the
    /// iterator is dropped. An error takes the place of its batch, the next batch comes after it.
    pub fn batches(&self, start: u64, end: Option<u64>) -> Batches {
        let end = if self.is_empty() { start } else { end.unwrap_or(u64::MAX).max(start) };
        let workers = (self.num_workers as u64).min(end - start) as usize;
        let crew = Crew::hire(&self.plan, workers, self.prefetch);
        let mut batches =
            Batches { orders: Orders::new(self.plan.clone()), next: start, asked: start, end, crew };
        batches.ask_ahead();
        batches
    }
}

/// The batches of a [`DataLoader`], in order; see [`DataLoader::batches`].
pub struct Batches {
    orders: Orders,
    next: u64,
    /// The first batch that no worker was asked for.
    asked: u64,
    end: u64,
    crew: Option<Crew>,
}

impl Batches {
    fn ask_ahead(&mut self) {
        let Some(crew) = &mut self.crew else { return };
        while self.asked < self.end && crew.has_room() {
            crew.ask(self.orders.picks(self.asked));
            self.asked += 1;
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let batch = match &mut self.crew {
            Some(crew) => crew.take(),
            None => self.orders.picks(self.next).and_then(|picks| self.orders.plan.load(&picks, &|| false)),
        };
        self.next += 1;
        self.ask_ahead();
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}

/// Which samples make a batch: (pass, position in the data set) each, and how many of them are no repeats.
pub(super) struct Picks {
    samples: Vec<(u64, usize)>,
    valid: usize,
}

/// What a loader and its workers share.
#[derive(Clone)]
pub(super) struct Plan {
    dataset: Arc<dyn Dataset>,
    sampler: Arc<dyn Sampler>,
    collate: Arc<dyn Collate>,
    /// Pipelines that replace the data set's own, by their first pass.
    switches: Arc<RwLock<Vec<(u64, Arc<Pipeline>)>>>,
    /// Memory of batches that were given back.
    spares: Arc<Spares>,
    batch_size: usize,
    drop_last: bool,
    seed: u64,
    shard: Shard,
    /// Samples of the data set that are used.
    len: usize,
    /// Samples of a pass, of all ranks and of this one.
    pass_len: usize,
    share: usize,
    deal: Deal,
}

impl Plan {
    fn batches_of(&self, share: usize) -> usize {
        if self.drop_last { share / self.batch_size } else { share.div_ceil(self.batch_size) }
    }

    /// Reads and stacks the samples; `stop` is asked before each.
    pub(super) fn load(&self, picks: &Picks, stop: &dyn Fn() -> bool) -> Result<Batch> {
        let n = picks.samples.len();
        let mut stack = self.collate.begin(n, self.spares.take());
        let mut samples = Vec::with_capacity(if stack.is_some() { 0 } else { n });
        for &(pass, index) in &picks.samples {
            if stop() {
                return Err(Error::invalid("the loader was dropped"));
            }
            let sample = self.sample(pass, index)?;
            match &mut stack {
                Some(stack) => catch(COLLATE, || stack.add(sample))?,
                None => samples.push(sample),
            }
        }
        let mut batch = match stack {
            Some(stack) => catch(COLLATE, || stack.finish())?,
            None => catch(COLLATE, || self.collate.collate(samples))?,
        };
        batch.valid = picks.valid;
        Ok(batch)
    }

    fn pipeline(&self, pass: u64) -> Option<Arc<Pipeline>> {
        let switches = self.switches.read().unwrap_or_else(PoisonError::into_inner);
        switches.iter().rfind(|(first, _)| *first <= pass).map(|(_, pipeline)| Arc::clone(pipeline))
    }

    fn sample(&self, pass: u64, index: usize) -> Result<Sample> {
        let mut rng = keyed(self.seed, "augment", pass, index as u64);
        let read = || match self.pipeline(pass) {
            Some(pipeline) => self.dataset.get_through(index, &mut rng, &pipeline),
            None => self.dataset.get(index, &mut rng),
        };
        let mut sample = catch("data set", read)
            .map_err(|source| Error::Other(Box::new(SampleError { index, source })))?;
        sample.id = index as u64;
        Ok(sample)
    }
}

const COLLATE: &str = "collate function";

/// Runs foreign code; a panic becomes an error, for it must neither kill a worker silently nor the run.
fn catch<T>(who: &str, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::invalid(format!("the {who} panicked: {text}")))
    })
}

/// A sample that could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("sample {index}: {source}")]
pub struct SampleError {
    /// Its position in the data set.
    pub index: usize,
    /// What the data set, or a transform, said.
    pub source: Error,
}

/// The orders of the passes, of which it keeps the one in use.
struct Orders {
    plan: Arc<Plan>,
    pass: Option<u64>,
    order: Vec<usize>,
}

impl Orders {
    fn new(plan: Arc<Plan>) -> Self {
        Self { plan, pass: None, order: Vec::new() }
    }

    /// The samples of batch `g`.
    fn picks(&mut self, g: u64) -> Result<Picks> {
        let (size, share, n) =
            (self.plan.batch_size as u64, self.plan.share as u64, self.plan.pass_len as u64);
        let (pass, first, last) = match self.plan.deal {
            Deal::Endless => (0, g * size, (g + 1) * size),
            _ => {
                let len = self.plan.batches_of(self.plan.share) as u64;
                let first = g % len * size;
                (g / len, first, (first + size).min(share))
            }
        };
        let mut picks = Picks { samples: Vec::with_capacity((last - first) as usize), valid: 0 };
        for position in first..last {
            let place = self.plan.shard.place(position);
            let endless = self.plan.deal == Deal::Endless;
            let pass = if endless { place / n } else { pass };
            picks.valid += usize::from(endless || place < n);
            let index = self.order_of(pass)?[(place % n) as usize];
            picks.samples.push((pass, index));
        }
        Ok(picks)
    }

    fn order_of(&mut self, pass: u64) -> Result<&[usize]> {
        if self.pass != Some(pass) {
            let (n, len) = (self.plan.pass_len, self.plan.len);
            self.pass = None;
            self.order = self.plan.sampler.draw(len, self.plan.seed, pass);
            if self.order.len() != n || self.order.iter().any(|&i| i >= len) {
                return Err(Error::invalid(format!(
                    "the sampler drew {} samples for pass {pass}; its pass_len promises {n}, each below {len}",
                    self.order.len()
                )));
            }
            self.pass = Some(pass);
        }
        Ok(&self.order)
    }
}
