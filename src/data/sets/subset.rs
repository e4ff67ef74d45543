//! Some samples of another set.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::Indices;
use crate::base::{Error, Result, Rng};
use crate::data::{Dataset, FieldSpec, Fields, Fitted, Marks, Origin, Pipeline, Sample, Unread, Value};
use crate::registry::{BuildCx, Spec};

/// Some samples of another set, in the order given.
pub struct Subset {
    dataset: Box<dyn Dataset>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples of `dataset` at `indices`; one may come twice.
    ///
    /// # Errors
    /// [`Error::Invalid`] when an index is not below the length of `dataset`.
    pub fn new(dataset: Box<dyn Dataset>, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&i| i >= dataset.len()) {
            Some(i) => Err(Error::invalid(format!(
                "index {i} is outside the {} samples of the data set",
                dataset.len()
            ))),
            None => Ok(Self { dataset, indices }),
        }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct SubsetConfig {
    /// The whole set.
    dataset: Spec<dyn Dataset>,
    /// Positions of the samples to keep, in this order; or how many, from the beginning, or from the end if below 0.
    #[serde(default)]
    indices: Option<Indices>,
    /// How many samples to keep from the beginning.
    #[serde(default)]
    first: Option<usize>,
}

crate::register! {
    /// Some samples of another set: those at `indices`, or the `first` ones.
    ///
    /// ```yaml
    /// {type: Subset, dataset: {type: Digits, split: train}, first: 100}
    /// ```
    dyn Dataset, "Subset" => fn Subset::from_config
}

impl Subset {
    fn from_config(p: SubsetConfig, cx: &mut BuildCx) -> Result<Self> {
        let dataset = p.dataset.build(cx)?;
        if Unread::is_enough(cx) {
            return Self::new(dataset, Vec::new());
        }
        let indices = match (p.indices, p.first) {
            (Some(indices), None) => indices.of(dataset.len())?,
            (None, Some(first)) if first > dataset.len() => {
                let text = format!("`first` is {first}, but the data set has {} samples", dataset.len());
                return Err(Error::config(text));
            }
            (None, Some(first)) => (0..first).collect(),
            _ => return Err(Error::config("give either `indices` or `first`")),
        };
        Self::new(dataset, indices)
    }
}

impl Dataset for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.dataset.get(self.indices[index], rng)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        self.dataset.get_through(self.indices[index], rng, pipeline)
    }

    fn parts(&self) -> usize {
        self.dataset.parts()
    }

    fn part_of(&self, index: usize) -> usize {
        self.indices.get(index).map_or(0, |index| self.dataset.part_of(*index))
    }

    fn has_pipeline(&self) -> bool {
        self.dataset.has_pipeline()
    }

    fn mark(&self, marks: &mut Marks) {
        self.indices.iter().for_each(|index| marks.name(&(*index as u64).to_le_bytes()));
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
        self.indices.get(index).map_or(Origin::Position, |index| self.dataset.origin(*index))
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        self.dataset.peek(*self.indices.get(index)?, field)
    }

    fn length(&self, index: usize) -> Option<usize> {
        self.dataset.length(*self.indices.get(index)?)
    }

    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        self.indices.get(index).map_or(Ok(None), |index| self.dataset.picture_size(*index))
    }

    fn summary(&self) -> Option<String> {
        self.dataset.summary()
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        self.dataset.of_files(files)
    }
}
