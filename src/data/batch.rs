//! What a model gets: the samples of one step, as named columns.

use ndarray::{Array, Array1, ArrayD, Axis, Dimension, IxDyn};

use crate::base::{Elem, Error, Result};

use super::field::{Fields, INPUTS, Name, TARGET};
use super::sample::Value;

/// One field of all samples of a batch; the first axis is that of the samples.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Floating-point numbers.
    Float(ArrayD<Elem>),
    /// Whole numbers: classes, token ids.
    Int(ArrayD<i64>),
    /// A text a sample.
    Text(Vec<String>),
    /// The samples' values as they are, of whatever shape, from a collate that keeps them apart.
    List(Vec<Value>),
}

impl Column {
    /// Its shape; of texts and lists their number.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Self::Float(values) => values.shape().to_vec(),
            Self::Int(values) => values.shape().to_vec(),
            Self::Text(texts) => vec![texts.len()],
            Self::List(values) => vec![values.len()],
        }
    }

    /// The rows of these samples, which must be there.
    fn rows(&self, rows: &[usize]) -> Self {
        match self {
            Self::Float(values) => Self::Float(values.select(Axis(0), rows)),
            Self::Int(values) => Self::Int(values.select(Axis(0), rows)),
            Self::Text(texts) => Self::Text(rows.iter().filter_map(|i| texts.get(*i).cloned()).collect()),
            Self::List(values) => Self::List(rows.iter().filter_map(|i| values.get(*i).cloned()).collect()),
        }
    }

    /// What it holds for one sample; nothing of one that is not there.
    pub fn value(&self, row: usize) -> Option<Value> {
        if row >= self.shape().first().copied().unwrap_or(0) {
            return None;
        }
        match self {
            Self::Float(values) => {
                let own = values.index_axis(Axis(0), row);
                Some(Value::Float(own.mapv(|value| f64::from(value) as f32)))
            }
            Self::Int(values) => Some(Value::Int(values.index_axis(Axis(0), row).to_owned())),
            Self::Text(texts) => texts.get(row).cloned().map(Value::Text),
            Self::List(values) => values.get(row).cloned(),
        }
    }

    /// What it holds, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Float(_) => "floats",
            Self::Int(_) => "integers",
            Self::Text(_) => "text",
            Self::List(_) => "a list of values",
        }
    }
}

impl<D: Dimension> From<Array<Elem, D>> for Column {
    fn from(values: Array<Elem, D>) -> Self {
        Self::Float(values.into_dyn())
    }
}

impl<D: Dimension> From<Array<i64, D>> for Column {
    fn from(values: Array<i64, D>) -> Self {
        Self::Int(values.into_dyn())
    }
}

impl From<Vec<i64>> for Column {
    fn from(values: Vec<i64>) -> Self {
        Self::Int(Array1::from(values).into_dyn())
    }
}

impl From<Vec<String>> for Column {
    fn from(texts: Vec<String>) -> Self {
        Self::Text(texts)
    }
}

/// Samples of one step.
///
/// ```
/// use ndarray::{ArrayD, arr2};
/// use shanty::data::Batch;
/// let batch = Batch::unlabelled(ArrayD::zeros(vec![2, 4])).with("price", arr2(&[[1.5], [2.5]]));
/// assert_eq!((batch.len(), batch.float("price")?.shape()), (2, &[2, 1][..]));
/// assert!(batch.labels().unwrap_err().to_string().contains("there are inputs, price"));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Positions in the data set, one a sample.
    pub ids: Vec<u64>,
    /// The columns; the first axis of each is that of the samples.
    pub fields: Fields<Column>,
    /// How many samples count. Those behind are repeats that give every rank an equal share: training uses them,
    /// metrics must not.
    pub valid: usize,
}

impl Batch {
    /// Samples with a class each that all count, numbered from 0.
    pub fn new(inputs: ArrayD<Elem>, labels: Vec<i64>) -> Self {
        let n = labels.len();
        Self { ids: (0..n as u64).collect(), valid: n, ..Self::default() }
            .with(INPUTS, inputs)
            .with(TARGET, labels)
    }

    /// Samples to predict: `inputs` alone, numbered from 0.
    pub fn unlabelled(inputs: ArrayD<Elem>) -> Self {
        let n = inputs.shape().first().copied().unwrap_or(0);
        Self { ids: (0..n as u64).collect(), valid: n, ..Self::default() }.with(INPUTS, inputs)
    }

    /// The same with a further column, or another one of this name.
    #[must_use]
    pub fn with(mut self, name: impl Into<Name>, column: impl Into<Column>) -> Self {
        self.fields.set(name, column);
        self
    }

    /// Number of samples, repeats included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it holds no sample: all that a loader would have put into it are left out, or cannot be read.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The samples with the smallest and the largest label, and others up to `few`: those at which a loss or a metric
    /// takes offence, if at any.
    pub(crate) fn extremes(self, few: usize) -> Self {
        if self.len() <= few || self.fields.iter().any(|(_, c)| c.shape().first() != Some(&self.len())) {
            return self;
        }
        let labels = self.int(TARGET).ok();
        // Of several labels a sample the largest counts.
        let by_label = |i: &usize| labels.and_then(|all| all.index_axis(Axis(0), *i).iter().copied().max());
        let (low, high) = ((0..self.len()).min_by_key(by_label), (0..self.len()).max_by_key(by_label));
        let mut rows: Vec<usize> = low.into_iter().chain(high.filter(|_| high != low)).collect();
        rows.extend((0..self.len()).filter(|i| Some(*i) != low && Some(*i) != high));
        rows.truncate(few);
        rows.sort_unstable();
        self.rows(&rows)
    }

    /// These samples, which must be there; one may come several times.
    pub(crate) fn rows(&self, rows: &[usize]) -> Self {
        Self {
            ids: rows.iter().filter_map(|i| self.ids.get(*i).copied()).collect(),
            fields: self
                .fields
                .iter()
                .map(|(name, column)| (name.to_owned().into(), column.rows(rows)))
                .collect(),
            valid: rows.iter().filter(|i| **i < self.valid).count(),
        }
    }

    /// The column of this name.
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.fields.get(name)
    }

    /// The floats of this name.
    ///
    /// # Errors
    /// When there is no such column, or it is of another kind.
    pub fn float(&self, name: &str) -> Result<&ArrayD<Elem>> {
        match self.fields.find(name)? {
            Column::Float(values) => Ok(values),
            other => Err(wrong(name, "floats", other)),
        }
    }

    /// The floats of this name, to be changed.
    ///
    /// # Errors
    /// As [`float`](Self::float).
    pub fn float_mut(&mut self, name: &str) -> Result<&mut ArrayD<Elem>> {
        match self.fields.find_mut(name)? {
            Column::Float(values) => Ok(values),
            other => Err(wrong(name, "floats", other)),
        }
    }

    /// The integers of this name.
    ///
    /// # Errors
    /// When there is no such column, or it is of another kind.
    pub fn int(&self, name: &str) -> Result<&ArrayD<i64>> {
        match self.fields.find(name)? {
            Column::Int(values) => Ok(values),
            other => Err(wrong(name, "integers", other)),
        }
    }

    /// The integers of this name, to be changed.
    ///
    /// # Errors
    /// As [`int`](Self::int).
    pub fn int_mut(&mut self, name: &str) -> Result<&mut ArrayD<i64>> {
        match self.fields.find_mut(name)? {
            Column::Int(values) => Ok(values),
            other => Err(wrong(name, "integers", other)),
        }
    }

    /// The floats of `inputs`.
    ///
    /// # Errors
    /// As [`float`](Self::float).
    pub fn inputs(&self) -> Result<&ArrayD<Elem>> {
        self.float(INPUTS)
    }

    /// The floats of `inputs`, to be changed.
    ///
    /// # Errors
    /// As [`float`](Self::float).
    pub fn inputs_mut(&mut self) -> Result<&mut ArrayD<Elem>> {
        self.float_mut(INPUTS)
    }

    /// The classes in `target`, one a sample.
    ///
    /// # Errors
    /// As [`int`](Self::int); several numbers a sample.
    pub fn labels(&self) -> Result<&[i64]> {
        let values = self.int(TARGET)?;
        let one = values.ndim() == 1;
        values.as_slice().filter(|_| one).ok_or_else(|| {
            let shape = values.shape();
            Error::invalid(format!("`{TARGET}` has the shape {shape:?}, and one class a sample is wanted"))
        })
    }
}

/// An array with the first axis of the samples; the shape of one sample comes behind it.
pub(super) fn stacked<T>(n: usize, shape: &[usize], values: Vec<T>) -> Result<ArrayD<T>> {
    let shape: Vec<usize> = std::iter::once(n).chain(shape.iter().copied()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|e| Error::invalid(e.to_string()))
}

fn wrong(name: &str, wanted: &str, got: &Column) -> Error {
    Error::invalid(format!("the field `{name}` holds {}, and {wanted} are wanted", got.kind()))
}
