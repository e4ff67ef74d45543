//! `train_dataloader`, `val_dataloader` and `test_dataloader` of a config.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::config::{Diag, Diags, Node};
use crate::registry::{BuildCx, Collected, Spec};

use super::plan::FEW;
use super::stand_in::StandInSet;
use super::{BatchSampler, Collate, DataLoader, Dataset, DefaultSampler, Sample, Sampler, Shard, Unread};

/// A loader as a config writes it, with PyTorch's and MMEngine's keys.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct DataLoaderConfig {
    /// Samples in a batch of one process.
    #[schemars(range(min = 1, max = 16777216))]
    pub batch_size: usize,
    /// What to read.
    pub dataset: Spec<dyn Dataset>,
    /// In which order; `{type: DefaultSampler, shuffle: true}` if not given.
    #[serde(default)]
    pub sampler: Option<Spec<dyn Sampler>>,
    /// How that order is put into batches; `{type: BatchSampler}` if not given, which cuts it in turn.
    #[serde(default)]
    pub batch_sampler: Option<Spec<dyn BatchSampler>>,
    /// How a batch is made of samples; `{type: default_collate}` if not given.
    #[serde(default)]
    pub collate_fn: Option<Spec<dyn Collate>>,
    /// Threads that make batches ahead of the training; with 0 it makes them itself. Results do not depend on it.
    #[serde(default)]
    #[schemars(range(max = 1024))]
    pub num_workers: usize,
    /// Batches that each worker may be ahead; 2 if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch_factor: Option<usize>,
    /// Whether to leave out the last batch of a pass when it is not full.
    #[serde(default)]
    pub drop_last: bool,
    /// Cuts the data set to that many batches a pass.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub num_batch_per_epoch: Option<usize>,
    /// How many samples that cannot be read are left out, and named, before one ends the run: each is a sample less in
    /// its batch. `shanty check --data` finds them beforehand.
    #[serde(default)]
    pub max_bad_samples: usize,
    /// Seconds that a batch may take its workers once the training waits for it, before that is an error which names
    /// the samples that are being read; 0 for as long as they need.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e9))]
    pub timeout: f64,
    /// Accepted for PyTorch's and MMEngine's configs; means nothing here.
    #[serde(default)]
    pub persistent_workers: Option<bool>,
    /// Accepted for PyTorch's and MMEngine's configs; means nothing here.
    #[serde(default)]
    pub pin_memory: Option<bool>,
}

impl DataLoaderConfig {
    /// The loader of this process.
    ///
    /// # Errors
    /// Those of the builders; a config error with the place of the data set when it gives no batch.
    pub fn build(&self, seed: u64, shard: Shard, cx: &mut BuildCx) -> Result<DataLoader> {
        let mut errors = Collected::default();
        let default = || Some(Arc::new(DefaultSampler::default()) as Arc<dyn Sampler>);
        let sampler =
            self.sampler.as_ref().map_or_else(default, |s| errors.take(s.build(cx)).map(Into::into));
        let batching = self.batch_sampler.as_ref().map(|spec| errors.take(spec.build(cx)));
        let collate = self.collate_fn.as_ref().map(|spec| errors.take(spec.build(cx)));
        let dataset = errors.take(self.dataset.build(cx));
        let (Some(sampler), Some(dataset), None | Some(Some(_)), None | Some(Some(_))) =
            (sampler, dataset, &batching, &collate)
        else {
            return Err(errors.0.into());
        };
        let mut loader = DataLoader::shared(dataset.into())
            .sampler(sampler)
            .batch_size(self.batch_size)
            .drop_last(self.drop_last)
            .num_workers(self.num_workers)
            .shard(shard)
            .max_batches(self.num_batch_per_epoch)
            .max_bad_samples(self.max_bad_samples)
            .timeout(self.patience()?)
            .run_seed(seed);
        if let Some(prefetch) = self.prefetch_factor {
            loader = loader.prefetch(prefetch);
        }
        if let Some(batching) = batching.flatten() {
            loader = loader.batch_sampler(batching);
        }
        let at = |node: Option<&Node>, error: Error| match node {
            Some(node) => Diags::from(Diag::error(error.to_string()).on(node)).into(),
            None => error,
        };
        loader.plan.sampler().map_err(|e| at(self.sampler.as_ref().map(Spec::node), e))?;
        loader.plan.batching().map_err(|e| at(self.batch_sampler.as_ref().map(Spec::node), e))?;
        loader.check().map_err(|e| Diags::from(Diag::error(e.to_string()).on(self.dataset.node())))?;
        Ok(match collate.flatten() {
            Some(collate) => loader.shared_collate(collate.into()),
            None => loader,
        })
    }

    fn patience(&self) -> Result<Option<Duration>> {
        match self.timeout {
            0.0 => Ok(None),
            _ if self.num_workers == 0 => {
                let diag = Diag::error("`timeout` is for workers: set num_workers, or leave it out");
                Err(Diags::from(diag.on(self.dataset.node())).into())
            }
            seconds => Ok(Duration::try_from_secs_f64(seconds).ok()),
        }
    }

    /// The loader of a few samples like this one, in place of a data set that is not here.
    pub(crate) fn over_stand_in(&self, sample: Sample, cx: &mut BuildCx) -> Option<DataLoader> {
        let len = self.batch_size.min(FEW);
        self.collated(DataLoader::new(StandInSet { sample, len }).batch_size(len), cx).ok()
    }

    /// The loader of these files, in their order and read as the data set reads its own, which need not be there.
    pub(crate) fn of_files(&self, files: &[PathBuf], cx: &mut BuildCx) -> Result<DataLoader> {
        cx.provide(Unread);
        let set = self.dataset.build(cx);
        cx.take::<Unread>();
        self.collated(DataLoader::new(set?.of_files(files)?).batch_size(self.batch_size), cx)
    }

    fn collated(&self, loader: DataLoader, cx: &mut BuildCx) -> Result<DataLoader> {
        match &self.collate_fn {
            Some(spec) => Ok(loader.shared_collate(spec.build(cx)?.into())),
            None => Ok(loader),
        }
    }

    /// The keys that were given and mean nothing here, each with the reason: to be noted once.
    pub fn ignored(&self) -> Vec<(&'static str, &'static str)> {
        let keys = [
            (
                "persistent_workers",
                self.persistent_workers,
                "workers are threads: they start in no time and hold no state",
            ),
            ("pin_memory", self.pin_memory, "batches stay in the memory where the model computes"),
        ];
        keys.into_iter().filter(|(_, given, _)| given.is_some()).map(|(key, _, why)| (key, why)).collect()
    }
}
