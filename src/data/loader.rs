//! Batches by number: what batch `g` holds is a pure function of the loader, so that a run can resume anywhere at once.

use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use crate::base::{Error, Result};

use super::buffers::BufferPool;
use super::classes::relabelled;
use super::field::{FieldSpec, Fields, TARGET};
use super::orders::Orders;
use super::plan::{FEW, Plan};
use super::unreadable::Unreadable;
use super::workers::WorkerPool;
use super::{Batch, Dataset, DefaultCollate, DefaultSampler, Fingerprint, Pipeline, Shard, ShardPolicy};

/// Gives the batches of a data set in the order of a sampler.
///
/// Batches are numbered from 0 over the whole run. With a finite sampler batch `g` is batch `g % len()` of pass
/// `g / len()`; with an endless one it holds the stream's samples from `g * batch_size` on.
///
/// ```
/// use shanty::data::{DataLoader, Synthetic};
///
/// let loader = DataLoader::new(Synthetic::new(10, [1, 4, 4], 2, 0)).batch_size(4);
/// let ids: Vec<_> = loader.batches(1, Some(4)).map(|batch| batch.unwrap().ids).collect();
/// assert_eq!(ids, [vec![4, 5, 6, 7], vec![8, 9], vec![0, 1, 2, 3]]);
/// assert_eq!(loader.shuffle(true).seed(5).batches(0, Some(1)).next().unwrap()?.len(), 4);
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Clone)]
pub struct DataLoader {
    pub(super) plan: Arc<Plan>,
    pub(super) num_workers: usize,
    pub(super) prefetch: usize,
    /// How long a batch of a worker's may be waited for.
    pub(super) timeout: Option<Duration>,
}

impl DataLoader {
    /// One sample a batch, in the order of the data set; setters say otherwise.
    pub fn new(dataset: impl Dataset + 'static) -> Self {
        Self::shared(Arc::new(dataset))
    }

    /// The same for a data set that others use too.
    pub(crate) fn shared(dataset: Arc<dyn Dataset>) -> Self {
        let mut plan = Plan {
            collate: Arc::new(DefaultCollate {}),
            given: Arc::new(DefaultSampler::sequential()),
            fitted: OnceLock::new(),
            batching: None,
            fitted_batching: OnceLock::new(),
            dataset,
            classes: None,
            switches: Arc::default(),
            excluded: Arc::default(),
            unreadable: Arc::new(Unreadable::new(0)),
            fingerprint: Arc::default(),
            buffers: Arc::new(BufferPool::new(1)),
            shown: None,
            batch_size: 1,
            drop_last: false,
            seed: 0,
            own_seed: false,
            shard: Shard::SOLO,
            max_batches: None,
            len: 0,
            pass_len: OnceLock::new(),
            most: usize::MAX,
            policy: ShardPolicy::RoundUp,
        };
        plan.measure();
        Self { plan: Arc::new(plan), num_workers: 0, prefetch: 2, timeout: None }
    }

    /// The same loader with classes numbered as in `names`: each sample gets the number of its own class's name.
    ///
    /// # Errors
    /// [`Error::Invalid`] with both lists when the data set has a class that is not among `names`. A data set without
    /// names is left as it is.
    ///
    /// ```
    /// use shanty::data::{DataLoader, Synthetic};
    /// let names = ["2", "1", "0"].map(String::from);
    /// let loader = DataLoader::new(Synthetic::new(4, [1, 2, 2], 2, 0)).batch_size(4).with_classes(&names)?;
    /// assert_eq!(loader.batches(0, Some(1)).next().unwrap()?.labels()?, [2, 1, 2, 1]);
    /// # Ok::<(), shanty::base::Error>(())
    /// ```
    pub fn with_classes(self, names: &[String]) -> Result<Self> {
        let Some(own) = self.plan.dataset.classes() else { return Ok(self) };
        let numbers = relabelled(own, names).map_err(Error::Invalid)?;
        let classes = (own != names).then(|| Arc::new((numbers, names.to_vec())));
        let plan = Plan { classes, ..Plan::clone(&self.plan) };
        Ok(Self { plan: Arc::new(plan), ..self })
    }

    /// Leaves these samples out from the next call of [`batches`](Self::batches) on, for this loader and its clones.
    /// They are not read; all other samples come in the batches in which they would.
    pub fn exclude(&self, samples: &[u64]) {
        let mut samples = samples.to_vec();
        samples.sort_unstable();
        *self.plan.excluded.write().unwrap_or_else(PoisonError::into_inner) = samples;
    }

    /// The samples that could not be read and were left out, each with the reason, in the order in which they were met.
    pub fn bad_samples(&self) -> Vec<(usize, String)> {
        self.plan.unreadable.found()
    }

    /// Those of [`bad_samples`](Self::bad_samples) that were not asked for yet, with the number of each, from 1.
    pub fn new_bad_samples(&self) -> Vec<(usize, (usize, String))> {
        self.plan.unreadable.news()
    }

    /// Takes up the count of a run that had met these unreadable samples.
    pub fn remember_bad(&self, samples: Vec<(usize, String)>) {
        self.plan.unreadable.remember(samples);
    }

    /// How many unreadable samples are left out before one is an error.
    pub fn most_bad_samples(&self) -> usize {
        self.plan.unreadable.most
    }

    /// What tells the data set from another one. It is determined once, when it is asked for first.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.plan.fingerprint.get_or_init(|| Fingerprint::of(&*self.plan.dataset))
    }

    /// The loader of a rehearsal: it makes the same batches in the caller's thread, at most so many in a pass, and cuts
    /// each down to a few samples when it is made. What it leaves out is its own business.
    pub(crate) fn rehearsal(&self, batches: Option<usize>) -> Self {
        let mut plan = self.plan.apart();
        let most = batches.map_or(usize::MAX, |n| n.saturating_mul(plan.batch_size));
        plan.most = most;
        plan.shown = Some(FEW);
        Self { plan: Arc::new(plan), num_workers: 0, prefetch: 1, timeout: None }
    }

    /// A loader that makes batches of other samples in the same way, in their order and in the caller's thread.
    pub(crate) fn over(&self, samples: Arc<dyn Dataset>) -> Result<Self> {
        let (batch_size, seed) = (self.plan.batch_size, self.plan.seed);
        let loader = Self::shared(samples).batch_size(batch_size).seed(seed);
        let loader = loader.shared_collate(Arc::clone(&self.plan.collate));
        loader.check().map(|()| loader)
    }

    /// From this pass on samples go through `pipeline` instead of the data set's own, for this loader and its clones.
    /// What a pass looks like stays a function of its number, so this must be said before its first batch is asked for.
    pub fn switch(&self, pass: u64, pipeline: Arc<Pipeline>) {
        let mut switches = self.plan.switches.write().unwrap_or_else(PoisonError::into_inner);
        switches.retain(|(p, _)| *p != pass);
        switches.push((pass, pipeline));
        switches.sort_by_key(|(p, _)| *p);
    }

    /// Gives a batch back that is not needed any more: a later one is made in its memory, which the system would else
    /// have to clear anew. Values do not depend on it.
    pub fn recycle(&self, batch: Batch) {
        self.plan.buffers.give(batch);
    }

    /// Batches in a pass, as many for each rank. Where shares are uneven, the last of a smaller one may be empty.
    pub fn len(&self) -> u64 {
        self.plan.batches() as u64
    }

    /// Whether a pass has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a batch of this rank may come without a sample while those of other ranks have some.
    pub fn may_come_empty(&self) -> bool {
        let Plan { policy, unreadable, excluded, .. } = &*self.plan;
        *policy == ShardPolicy::Uneven
            || unreadable.most > 0
            || !excluded.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether the last batch of a pass has samples for some ranks only.
    pub fn ends_without_some(&self) -> bool {
        self.plan.ends_without_some()
    }

    /// How passes are dealt out to the ranks.
    pub fn policy(&self) -> ShardPolicy {
        self.plan.policy
    }

    /// Samples in a batch of all ranks together.
    pub fn samples_of_all(&self) -> usize {
        self.plan.of_ranks()
    }

    /// Samples in a batch of this rank, but for a short last one.
    pub fn samples_per_batch(&self) -> usize {
        self.plan.batch_size
    }

    /// Names of the classes by number, where they are known.
    pub fn classes(&self) -> Option<&[String]> {
        self.plan.classes.as_deref().map(|(_, names)| names.as_slice()).or(self.plan.dataset.classes())
    }

    /// The names of the classes in a field, or of its numbers, where they are known.
    pub fn names_of(&self, field: &str) -> Option<Vec<String>> {
        let declared = self.plan.dataset.fields().and_then(|mut fields| Some(fields.take(field)?.names));
        let classes = || self.classes().filter(|_| field == TARGET).map(<[_]>::to_vec);
        declared.filter(|names| !names.is_empty()).or_else(classes)
    }

    /// The fields of its batches as far as the data set declares them, those that the collate function adds included.
    pub fn fields(&self) -> Option<Fields<FieldSpec>> {
        let mut fields = self.plan.dataset.fields()?;
        let names: Vec<String> = fields.names().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.plan.collate.adds(&names).into_iter().for_each(|name| fields.set(name, FieldSpec::class()));
        Some(fields)
    }

    /// The data set that it reads.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.plan.dataset
    }

    /// Whether batches run on from one pass into the next.
    pub fn infinite(&self) -> bool {
        self.policy() == ShardPolicy::Endless
    }

    /// The batches `start..end`, or without an end. Nothing before `start` is read. Workers begin at once; they end
    /// when the iterator is dropped. An error takes the place of its batch, the next batch comes after it.
    pub fn batches(&self, start: u64, end: Option<u64>) -> Batches {
        let fault = self.check().err();
        let end = if self.is_empty() || fault.is_some() { start } else { end.unwrap_or(u64::MAX).max(start) };
        let count = usize::try_from(end - start).unwrap_or(usize::MAX);
        let workers = WorkerPool::spawn(&self.plan, self.num_workers.min(count), self.prefetch, count);
        let workers = workers.map(|pool| pool.patient(self.timeout));
        let mut batches = Batches {
            orders: Orders::new(self.plan.clone()),
            next: start,
            submitted: start,
            end,
            workers,
            fault,
        };
        batches.submit_ahead();
        batches
    }
}

/// The batches of a [`DataLoader`], in order; see [`DataLoader::batches`].
pub struct Batches {
    orders: Orders,
    next: u64,
    /// The first batch that was not given to a worker.
    submitted: u64,
    end: u64,
    workers: Option<WorkerPool>,
    /// Why there is no batch.
    fault: Option<Error>,
}

impl Batches {
    fn submit_ahead(&mut self) {
        let Some(workers) = &mut self.workers else { return };
        while self.submitted < self.end && workers.has_room() {
            workers.submit(self.orders.indices(self.submitted));
            self.submitted += 1;
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fault) = self.fault.take() {
            return Some(Err(fault));
        }
        if self.next >= self.end {
            return None;
        }
        let made = match &mut self.workers {
            Some(workers) => workers.recv(),
            None => {
                let plan = self.orders.plan.clone();
                self.orders.indices(self.next).and_then(|indices| plan.load(&indices, 1, &|_| false))
            }
        };
        let plan = &self.orders.plan;
        let batch = made.and_then(|made| plan.unreadable.count(made.bad).map(|()| made.batch));
        self.next += 1;
        self.submit_ahead();
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next);
        (left.unwrap_or(usize::MAX), left.ok())
    }
}
