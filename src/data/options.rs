//! How a loader is told what to do: one chained setter each.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Error, Result, caught_from, memory};

use super::buffers::BufferPool;
use super::orders::Place;
use super::plan::Plan;
use super::unreadable::Unreadable;
use super::{BatchSampler, Collate, DataLoader, DefaultSampler, Sampler, Shard, ShardPolicy};

/// Batches that all workers together may be ahead: each is planned before it is made.
const MOST_AHEAD: usize = 1 << 16;

impl DataLoader {
    fn change(self, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan::clone(&self.plan);
        change(&mut plan);
        plan.measure();
        Self { plan: Arc::new(plan), ..self }
    }

    /// Samples in a batch of this rank; 1 if not called.
    #[must_use]
    pub fn batch_size(self, batch_size: usize) -> Self {
        self.change(|plan| plan.batch_size = batch_size)
    }

    /// Whether each pass comes in an order of its own, or in that of the data set, as it does if not called: a
    /// [`DefaultSampler`].
    #[must_use]
    pub fn shuffle(self, shuffle: bool) -> Self {
        self.sampler(DefaultSampler { shuffle, ..DefaultSampler::default() })
    }

    /// In which order samples come.
    #[must_use]
    pub fn sampler(self, sampler: impl Sampler + 'static) -> Self {
        self.change(|plan| plan.given = Arc::new(sampler))
    }

    /// How the order of a pass is put into batches; they are cut from it in turn if not called.
    #[must_use]
    pub fn batch_sampler(self, batch_sampler: impl BatchSampler + 'static) -> Self {
        self.change(|plan| plan.batching = Some(Arc::new(batch_sampler)))
    }

    /// How a batch is made of its samples; they are stacked if not called.
    #[must_use]
    pub fn collate(self, collate: impl Collate + 'static) -> Self {
        self.shared_collate(Arc::new(collate))
    }

    pub(super) fn shared_collate(self, collate: Arc<dyn Collate>) -> Self {
        self.change(|plan| plan.collate = collate)
    }

    /// Whether to leave out the last batch of a pass when it is not full.
    #[must_use]
    pub fn drop_last(self, drop_last: bool) -> Self {
        self.change(|plan| plan.drop_last = drop_last)
    }

    /// Threads that make batches ahead of the caller; with 0 the caller's own thread makes each when it is asked for.
    /// Results do not depend on it.
    #[must_use]
    pub fn num_workers(self, num_workers: usize) -> Self {
        Self { num_workers, ..self }.with_buffers()
    }

    /// Batches that each worker may be ahead; 2 if not called.
    #[must_use]
    pub fn prefetch(self, prefetch: usize) -> Self {
        Self { prefetch, ..self }.with_buffers()
    }

    /// How long a batch may take its workers once it is waited for: beyond that it is an error that names the samples
    /// which are being read. As long as they need if not called. Without workers there is nobody who could tell.
    #[must_use]
    pub fn timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        Self { timeout: timeout.into(), ..self }
    }

    /// As many buffers as batches can be ahead, and the one in use.
    fn with_buffers(self) -> Self {
        let most = self.ahead().min(MOST_AHEAD) + 1;
        self.change(|plan| plan.buffers = Arc::new(BufferPool::new(most)))
    }

    fn ahead(&self) -> usize {
        self.num_workers.saturating_mul(self.prefetch)
    }

    /// Seed of the order and of the augmentation, whatever the run's is; that of the run if not called, and 0 outside
    /// of one.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.change(|plan| (plan.seed, plan.own_seed) = (seed, true))
    }

    /// The seed of the run, for a loader that has none of its own.
    pub(crate) fn run_seed(self, seed: u64) -> Self {
        if self.plan.own_seed || self.plan.seed == seed {
            return self;
        }
        Self { plan: Arc::new(Plan { seed, ..Plan::clone(&self.plan) }), ..self }
    }

    /// Which of several processes this one is.
    #[must_use]
    pub fn shard(self, shard: Shard) -> Self {
        if self.plan.shard == shard {
            return self;
        }
        self.change(|plan| plan.shard = shard)
    }

    /// Cuts the data set to that many batches a pass (over all ranks).
    #[must_use]
    pub fn max_batches(self, max_batches: impl Into<Option<usize>>) -> Self {
        self.change(|plan| plan.max_batches = max_batches.into())
    }

    /// How many samples that cannot be read are left out, each a sample less in its batch, before one is an error; none
    /// if not called.
    #[must_use]
    pub fn max_bad_samples(self, most: usize) -> Self {
        self.change(|plan| plan.unreadable = Arc::new(Unreadable::new(most)))
    }

    /// Whether it can give batches. A run asks when it is built; otherwise the first batch is this error.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a pass would hold no batch at all, for any rank, or more samples than this machine can
    /// order; [`Error::Config`] when the sampler does not fit the data.
    pub fn check(&self) -> Result<()> {
        let Plan { batch_size, shard, policy, .. } = *self.plan;
        let (num_workers, prefetch, ahead) = (self.num_workers, self.prefetch, self.ahead());
        if batch_size == 0 || prefetch == 0 || shard.rank >= shard.world {
            return Err(Error::invalid(format!(
                "batch_size {batch_size} and prefetch {prefetch} must be at least 1, rank {} below world size {}",
                shard.rank, shard.world
            )));
        }
        if ahead > MOST_AHEAD {
            return Err(Error::invalid(format!(
                "num_workers {num_workers} × prefetch {prefetch} lets {ahead} batches be ahead: at most {MOST_AHEAD} may"
            )));
        }
        let (pass_len, drop_last) = (self.plan.pass_len(), self.plan.drops_last());
        memory::lists("the order of a pass over the data", pass_len, size_of::<usize>())?;
        let largest = if policy == ShardPolicy::Endless { batch_size } else { batch_size.min(pass_len) };
        memory::lists("a batch", largest, size_of::<Place>())?;
        if self.plan.batches() == 0 {
            return Err(Error::invalid(format!(
                "no batch to load: n {pass_len} samples, batch {batch_size}, drop_last {drop_last}, world size {}; add \
                 samples, make batch_size smaller or set drop_last: false",
                shard.world
            )));
        }
        self.plan.sampler()?;
        if policy == ShardPolicy::Blocks && shard.world > 1 && self.plan.batching.is_some() {
            return Err(Error::config(
                "a batch sampler puts samples of all ranks into one batch, and `subsample_type: sequential` gives each rank a \
                 block of its own: leave one of them out",
            ));
        }
        self.plan.batching().map(drop)
    }

    /// Whether the samples come in the same order where all ranks together take so many at a time.
    pub(crate) fn same_order_by(&self, batch: usize) -> Result<bool> {
        let (len, seed) = (self.plan.len, self.plan.seed);
        let other = caught_from("the sampler", || self.plan.given.for_data(&*self.plan.dataset, batch))?;
        let other = other.unwrap_or_else(|| self.plan.given.clone());
        let arranged = |sampler: &dyn Sampler, batch: usize| -> Result<Vec<usize>> {
            let mut order = sampler.draw(len, seed, 0);
            if let Some(batching) = self.plan.batching()? {
                batching.arrange(&mut order, batch, seed, 0);
            }
            Ok(order)
        };
        Ok(arranged(&*other, batch)? == arranged(self.plan.sampler()?, self.plan.of_ranks())?)
    }

    /// Whether another seed of the run makes another order of the samples.
    pub(crate) fn order_follows(&self, then: u64, now: u64) -> bool {
        let Ok(sampler) = self.plan.sampler() else { return false };
        let draw = |seed| sampler.draw(self.plan.len, seed, 0);
        !self.plan.own_seed && draw(then) != draw(now)
    }
}
