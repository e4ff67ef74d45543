//! Sets made of other sets: a part of one, one several times over, several behind each other.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::registry::{BuildCx, Spec};

use super::{Dataset, FieldSpec, Fields, Fitted, Marks, Pipeline, Sample};

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
    /// Positions of the samples to keep, in this order.
    #[serde(default)]
    indices: Option<Vec<usize>>,
    /// How many samples to keep from the beginning.
    #[serde(default)]
    first: Option<usize>,
}

crate::register! {
    /// Some samples of another set: those at `indices`, or the `first` ones.
    dyn Dataset, "Subset" => fn Subset::from_config
}

impl Subset {
    fn from_config(p: SubsetConfig, cx: &mut BuildCx) -> Result<Self> {
        let dataset = p.dataset.build(cx)?;
        let indices = match (p.indices, p.first) {
            (Some(indices), None) => indices,
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

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.dataset.file(*self.indices.get(index)?)
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        self.dataset.of_files(files)
    }
}

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

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.dataset.file(index % self.dataset.len().max(1))
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        self.dataset.of_files(files)
    }
}

/// Several sets, one behind the other.
pub struct ConcatDataset {
    datasets: Vec<Box<dyn Dataset>>,
    /// Where each set ends in the numbering of the whole.
    ends: Vec<usize>,
}

impl ConcatDataset {
    /// `datasets`, one behind the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none, when two of them have different classes, or more samples than can be counted.
    pub fn new(datasets: Vec<Box<dyn Dataset>>) -> Result<Self> {
        let Some(first) = datasets.first() else { return Err(Error::invalid("no data set to concatenate")) };
        if let Some(other) = datasets.iter().position(|d| d.classes() != first.classes()) {
            return Err(Error::invalid(format!(
                "data sets 0 and {other} have different classes: {:?} and {:?}",
                first.classes().unwrap_or_default(),
                datasets[other].classes().unwrap_or_default()
            )));
        }
        let (mut end, mut ends) = (0usize, Vec::with_capacity(datasets.len()));
        for dataset in &datasets {
            let next = end.checked_add(dataset.len());
            end = next.ok_or_else(|| Error::invalid(too_many(&format!("{end} + {}", dataset.len()))))?;
            ends.push(end);
        }
        Ok(Self { ends, datasets })
    }

    /// Which set holds the sample, and where.
    fn place(&self, index: usize) -> (usize, usize) {
        let set = self.ends.partition_point(|&end| end <= index);
        let start = if set == 0 { 0 } else { self.ends[set - 1] };
        (set, index - start)
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct ConcatConfig {
    /// The sets, in order.
    datasets: Vec<Spec<dyn Dataset>>,
}

crate::register! {
    /// Several sets, one behind the other.
    dyn Dataset, "ConcatDataset" => fn ConcatDataset::from_config
}

impl ConcatDataset {
    fn from_config(p: ConcatConfig, cx: &mut BuildCx) -> Result<Self> {
        Self::new(Spec::build_all(&p.datasets, cx)?)
    }
}

impl Dataset for ConcatDataset {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        let (set, index) = self.place(index);
        self.datasets[set].get(index, rng)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let (set, index) = self.place(index);
        self.datasets[set].get_through(index, rng, pipeline)
    }

    fn parts(&self) -> usize {
        self.datasets.iter().map(Dataset::parts).sum()
    }

    fn part_of(&self, index: usize) -> usize {
        let (set, index) = self.place(index);
        let before: usize = self.datasets.iter().take(set).map(Dataset::parts).sum();
        before + self.datasets.get(set).map_or(0, |dataset| dataset.part_of(index))
    }

    fn has_pipeline(&self) -> bool {
        self.datasets.iter().all(Dataset::has_pipeline)
    }

    fn mark(&self, marks: &mut Marks) {
        for dataset in &self.datasets {
            marks.name(&(dataset.len() as u64).to_le_bytes());
            dataset.mark(marks);
        }
    }

    /// The fields that all of them have.
    fn fields(&self) -> Option<Fields<FieldSpec>> {
        let mut all = self.datasets.iter().map(|set| set.fields());
        all.next()?.and_then(|first| all.try_fold(first, |common, own| Some(in_both(common, &own?))))
    }

    fn classes(&self) -> Option<&[String]> {
        self.datasets[0].classes()
    }

    fn fitted(&self, all: &mut Fitted) {
        self.datasets.iter().for_each(|dataset| dataset.fitted(all));
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        let (set, index) = self.place(index);
        self.datasets.get(set)?.file(index)
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        self.datasets[0].of_files(files)
    }
}

/// The fields that both declare alike, and what is known of them.
fn in_both(fields: Fields<FieldSpec>, other: &Fields<FieldSpec>) -> Fields<FieldSpec> {
    let common = fields.into_iter().filter_map(|(name, spec)| {
        let own = other.get(&name).filter(|own| own.kind == spec.kind)?;
        let shape = if own.shape == spec.shape { spec.shape } else { None };
        let names = if own.names == spec.names { spec.names } else { Vec::new() };
        Some((name, FieldSpec { kind: spec.kind, shape, names }))
    });
    common.collect()
}

fn too_many(count: &str) -> String {
    format!("{count} samples are more than can be counted")
}
