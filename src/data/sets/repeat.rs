//! A set that is read several times in one pass.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::concat::too_many;
use crate::base::{Error, Result, Rng};
use crate::data::{Dataset, FieldSpec, Fields, Fitted, Marks, Origin, Pipeline, Sample, Value};
use crate::registry::{BuildCx, Spec};

/// A set that is read several times in one pass, each time with new augmentation.
pub struct RepeatDataset {
    dataset: Box<dyn Dataset>,
    len: usize,
}

impl RepeatDataset {
    /// `dataset`, `times` times over.
    ///
    /// # Errors
    /// [`Error::Invalid`] when those are more samples than can be counted.
    pub fn new(dataset: Box<dyn Dataset>, times: usize) -> Result<Self> {
        let len = dataset.len().checked_mul(times);
        let len = len.ok_or_else(|| Error::invalid(too_many(&format!("{times} × {}", dataset.len()))))?;
        Ok(Self { dataset, len })
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct RepeatConfig {
    /// The set to repeat.
    dataset: Spec<dyn Dataset>,
    /// How often it is read in a pass.
    #[schemars(range(min = 1, max = 4294967296u64))]
    times: usize,
    /// Accepted for MMEngine's configs: a set is read when a run needs it.
    #[serde(default)]
    #[allow(dead_code)]
    lazy_init: bool,
}

crate::register! {
    /// A set that is read `times` times in one pass.
    dyn Dataset, "RepeatDataset" => fn RepeatDataset::from_config
}

impl RepeatDataset {
    fn from_config(p: RepeatConfig, cx: &mut BuildCx) -> Result<Self> {
        Self::new(p.dataset.build(cx)?, p.times)
    }
}

impl Dataset for RepeatDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.dataset.get(index % self.dataset.len(), rng)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        self.dataset.get_through(index % self.dataset.len(), rng, pipeline)
    }

    fn parts(&self) -> usize {
        self.dataset.parts()
    }

    fn part_of(&self, index: usize) -> usize {
        self.dataset.part_of(index % self.dataset.len().max(1))
    }

    fn has_pipeline(&self) -> bool {
        self.dataset.has_pipeline()
    }

    fn mark(&self, marks: &mut Marks) {
        self.dataset.mark(marks);
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        self.dataset.fields()
    }

    fn classes(&self) -> Option<&[String]> {
        self.dataset.classes()
    }

    fn fitted(&self, all: &mut Fitted) {
        self.dataset.fitted(all);
    }

    fn origin(&self, index: usize) -> Origin {
        self.dataset.origin(index % self.dataset.len().max(1))
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        self.dataset.peek(index % self.dataset.len().max(1), field)
    }

    fn length(&self, index: usize) -> Option<usize> {
        self.dataset.length(index % self.dataset.len().max(1))
    }

    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        self.dataset.picture_size(index % self.dataset.len().max(1))
    }

    fn summary(&self) -> Option<String> {
        self.dataset.summary()
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        self.dataset.of_files(files)
    }
}
