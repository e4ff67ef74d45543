//! Several sets, one behind the other.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::{Dataset, FieldSpec, Fields, Fitted, Marks, Origin, Pipeline, Sample, Value};
use crate::registry::{BuildCx, Spec};

/// Several sets, one behind the other.
pub struct ConcatDataset {
    datasets: Vec<Box<dyn Dataset>>,
    /// Where each set ends in the numbering of the whole.
    ends: Vec<usize>,
    /// How many parts the sets before each one have.
    parts_before: Vec<usize>,
}

impl ConcatDataset {
    /// `datasets`, one behind the other.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none, when two of them have different classes, or more samples than can be
    /// counted.
    pub fn new(datasets: Vec<Box<dyn Dataset>>) -> Result<Self> {
        Self::joined(datasets, true)
    }

    fn joined(datasets: Vec<Box<dyn Dataset>>, alike: bool) -> Result<Self> {
        let Some(first) = datasets.first() else { return Err(Error::invalid("no data set to concatenate")) };
        if let Some(other) = datasets.iter().position(|d| alike && d.classes() != first.classes()) {
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
        let parts_before = datasets.iter().scan(0, |before, set| {
            let own = *before;
            *before += set.parts();
            Some(own)
        });
        Ok(Self { parts_before: parts_before.collect(), ends, datasets })
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
    /// What need not be alike in all of them: `classes`, and those of the first count; other names are accepted, as
    /// nothing else is compared.
    #[serde(default)]
    ignore_keys: OneOrMany<String>,
    /// Accepted for MMEngine's configs: sets are read when a run needs them.
    #[serde(default)]
    #[allow(dead_code)]
    lazy_init: bool,
}

crate::register! {
    /// Several sets, one behind the other.
    dyn Dataset, "ConcatDataset" => fn ConcatDataset::from_config
}

impl ConcatDataset {
    fn from_config(p: ConcatConfig, cx: &mut BuildCx) -> Result<Self> {
        let alike = !p.ignore_keys.iter().any(|key| key == "classes");
        Self::joined(Spec::build_all(&p.datasets, cx)?, alike)
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
        let before = self.parts_before.get(set).copied().unwrap_or_default();
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

    fn origin(&self, index: usize) -> Origin {
        let (set, index) = self.place(index);
        self.datasets.get(set).map_or(Origin::Position, |dataset| dataset.origin(index))
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        let (set, index) = self.place(index);
        self.datasets.get(set)?.peek(index, field)
    }

    fn length(&self, index: usize) -> Option<usize> {
        let (set, index) = self.place(index);
        self.datasets.get(set)?.length(index)
    }

    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        let (set, index) = self.place(index);
        self.datasets.get(set).map_or(Ok(None), |dataset| dataset.picture_size(index))
    }

    fn summary(&self) -> Option<String> {
        self.datasets.first()?.summary()
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
        let below = spec.below.zip(own.below).map(|(a, b)| a.max(b));
        Some((name, FieldSpec { kind: spec.kind, shape, names, below }))
    });
    common.collect()
}

pub(super) fn too_many(count: &str) -> String {
    format!("{count} samples are more than can be counted")
}
