//! Arrays in memory, and NumPy's files of them.

mod data;
mod files;
mod header;
mod npy;

use std::path::PathBuf;
use std::sync::Arc;

pub use data::ArrayData;

use self::files::Source;
use super::{Part, Split};
use crate::base::{Error, Result, Rng};
use crate::data::{
    Dataset, FieldKind, FieldSpec, Fields, INPUTS, Marks, Name, Origin, Pipeline, Sample, SampleId, TARGET,
    Value,
};

/// Arrays with a name each, whose first axis is that of the samples: one's own data.
///
/// ```
/// use ndarray::{Array, arr1, arr2};
/// use shanty::data::{ArrayDataset, Dataset};
/// let set = ArrayDataset::new("inputs", arr2(&[[0.5f32, 1.0], [1.5, 2.0]]))?.with("target", arr1(&[0, 1]))?;
/// assert_eq!(set.len(), 2);
/// assert_eq!(set.fields().unwrap().get("inputs").unwrap().to_string(), "floats of shape [2]");
/// let text = set.with("weight", Array::<f32, _>::zeros(3)).err().unwrap().to_string();
/// assert_eq!(text, "`weight` is of 3 samples, and `inputs` of 2");
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct ArrayDataset {
    len: usize,
    arrays: Fields<ArrayData>,
    /// The fields that are pictures.
    pictures: Vec<String>,
    classes: Option<Vec<String>>,
    pipeline: Arc<Pipeline>,
    /// The files that it is read from, if it is.
    source: Option<Source>,
    /// The file in whose rows it is counted, the first of several, and of each sample its row if they are not all.
    file: Option<PathBuf>,
    rows: Option<Vec<usize>>,
}

impl ArrayDataset {
    /// Samples with one field; the first axis of the array is that of the samples.
    ///
    /// # Errors
    /// For an array of rank 0; for one with a value that is NaN or infinite.
    pub fn new(name: impl Into<Name>, array: impl Into<ArrayData>) -> Result<Self> {
        let (name, array) = checked(name, array)?;
        Self::first(name, array)
    }

    fn first(name: Name, array: ArrayData) -> Result<Self> {
        let len = *array.shape().first().ok_or_else(|| {
            Error::invalid(format!(
                "`{name}` is one number: the first axis of an array is that of the samples"
            ))
        })?;
        Ok(Self::of(Fields::one(name, array), len))
    }

    /// The same with a further field.
    ///
    /// # Errors
    /// When it is of another number of samples, or there is a field of this name; when a value is NaN or infinite.
    pub fn with(self, name: impl Into<Name>, array: impl Into<ArrayData>) -> Result<Self> {
        let (name, array) = checked(name, array)?;
        self.further(name, array)
    }

    fn further(mut self, name: Name, array: ArrayData) -> Result<Self> {
        if self.arrays.get(&name).is_some() {
            return Err(Error::invalid(format!("there are two arrays for the field `{name}`")));
        }
        if array.shape().first() != Some(&self.len) {
            let n = array.shape().first().map_or("one number".to_owned(), |n| format!("of {n} samples"));
            let first = self.arrays.names().next().unwrap_or_default();
            return Err(Error::invalid(format!("`{name}` is {n}, and `{first}` of {}", self.len)));
        }
        self.arrays.set(name, array);
        Ok(self)
    }

    /// The same where this field is a picture, for the transforms of pictures: height and width, or height, width and
    /// channels.
    ///
    /// # Errors
    /// When there is no such field, or it has another rank.
    pub fn picture(mut self, name: &str) -> Result<Self> {
        let shape = &self.arrays.find(name)?.shape()[1..];
        if !matches!(shape.len(), 2 | 3) {
            return Err(Error::invalid(format!(
                "`{name}` has samples of shape {shape:?}: a picture is height, width and channels, or height and width"
            )));
        }
        self.pictures.push(name.to_owned());
        Ok(self)
    }

    /// The same with these names of the classes in `target`.
    #[must_use]
    pub fn with_classes(self, names: &[&str]) -> Self {
        Self { classes: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..self }
    }

    /// The same samples, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline: Arc::new(pipeline), ..self }
    }

    /// The samples to train with, and this share of them, chosen by a seed, to validate with.
    ///
    /// # Errors
    /// When one of the two is empty.
    pub fn holdout(self, val: f64, seed: u64) -> Result<(Self, Self)> {
        let split = Split { val, seed, ..Split::default() };
        let rows = |part| Split::of::<()>(Some(&split), self.len, part, || Ok(Vec::new()));
        let (train, val) = (rows(Part::Train)?, rows(Part::Val)?);
        let other = Self {
            pictures: self.pictures.clone(),
            classes: self.classes.clone(),
            ..Self::of(self.arrays.select(&val), val.len())
        };
        Ok((Self { arrays: self.arrays.select(&train), len: train.len(), ..self }, other))
    }

    fn of(arrays: Fields<ArrayData>, len: usize) -> Self {
        let pipeline = Arc::default();
        Self {
            len,
            arrays,
            pictures: Vec::new(),
            classes: None,
            pipeline,
            source: None,
            file: None,
            rows: None,
        }
    }

    /// The class of each sample, where `target` is one.
    fn strata(&self) -> Result<Vec<i64>> {
        let classes = match self.arrays.get(TARGET) {
            Some(target) if target.shape().len() == 1 => target.classes(),
            _ => None,
        };
        classes.ok_or_else(|| {
            Error::config("`split.stratify` needs a `target` of integers, one for each sample: leave it out")
        })
    }

    fn is_picture(&self, name: &str) -> bool {
        self.pictures.iter().any(|own| own == name)
    }

    fn raw_fields(&self) -> Fields<FieldSpec> {
        let spec = |name: &str, array: &ArrayData| {
            let shape = array.shape().get(1..).unwrap_or_default();
            match (self.is_picture(name), shape) {
                (true, [h, w]) => FieldSpec::new(FieldKind::Picture, &[*h, *w, 1]),
                (true, shape) => FieldSpec::new(FieldKind::Picture, shape),
                (false, shape) => FieldSpec::new(array.kind(), shape),
            }
        };
        self.arrays.iter().map(|(name, array)| (name.to_owned().into(), spec(name, array))).collect()
    }
}

fn checked(name: impl Into<Name>, array: impl Into<ArrayData>) -> Result<(Name, ArrayData)> {
    let (name, array) = (name.into(), array.into());
    match array.finite() {
        Ok(()) => Ok((name, array)),
        Err(why) => Err(Error::invalid(format!("`{name}`: {why}"))),
    }
}

impl Fields<ArrayData> {
    /// The samples at these positions.
    fn select(&self, rows: &[usize]) -> Self {
        self.iter().map(|(name, array)| (name.to_owned().into(), array.select(rows))).collect()
    }
}

impl Dataset for ArrayDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let mut sample = Sample::default();
        for (name, array) in self.arrays.iter() {
            let value = if self.is_picture(name) { array.picture(index)? } else { array.value(index) };
            sample.fields.set(name.to_owned(), value);
        }
        pipeline.apply(sample, rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(self.raw_fields()))
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn origin(&self, index: usize) -> Origin {
        let row = self.rows.as_ref().and_then(|rows| rows.get(index)).unwrap_or(&index);
        Origin::Row { file: self.file.clone(), id: SampleId::Row(*row as u64) }
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        self.arrays.get(field).filter(|_| index < self.len).map(|array| array.value(index))
    }

    fn picture_size(&self, _: usize) -> Result<Option<[usize; 2]>> {
        let shape = self.arrays.get(INPUTS).filter(|_| self.is_picture(INPUTS)).map(ArrayData::shape);
        Ok(shape.and_then(|shape| Some([*shape.get(1)?, *shape.get(2)?])))
    }

    fn of_files(&self, files: &[PathBuf]) -> Result<Box<dyn Dataset>> {
        let source = self
            .source
            .as_ref()
            .ok_or_else(|| Error::invalid("these arrays are not from files: leave out `--input`"))?;
        source.of_files(files, &self.pipeline)
    }

    fn mark(&self, marks: &mut Marks) {
        for (name, array) in self.arrays.iter() {
            marks.name(name.as_bytes());
            array.mark(marks);
        }
    }
}
