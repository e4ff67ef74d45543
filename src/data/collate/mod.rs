//! From samples to a batch.

mod list;
mod pad;

pub use list::ListCollate;
pub use pad::PadCollate;

use ndarray::{ArrayD, ArrayView3, ArrayViewD, Ix3};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, memory};

use super::batch::stacked;
use super::field::{FieldKind, Fields};
use super::{Batch, Column, Sample, Value};

crate::registry!(dyn Collate, "collate");

/// Makes a batch of the samples of one step.
pub trait Collate: Send + Sync {
    /// Stacks `samples`, of which there is at least one. The loader sets [`Batch::valid`] afterwards.
    ///
    /// # Errors
    /// When the samples do not fit together.
    fn collate(&self, samples: Vec<Sample>) -> Result<Batch>;

    /// Begins a batch of `n` samples to which they are added as they are read, so that they need not all be in memory
    /// beside it. None, the default, where all are wanted at once. The memory of `spent`, a batch that nobody needs any
    /// more, may serve for the new one; what it holds is left over.
    fn begin(&self, n: usize, spent: Batch) -> Option<Box<dyn BatchBuilder>> {
        let _ = (n, spent);
        None
    }

    /// The names of the fields that it adds to those of the samples: lengths, masks.
    fn adds(&self, fields: &[&str]) -> Vec<String> {
        let _ = fields;
        Vec::new()
    }
}

/// A batch in the making.
pub trait BatchBuilder {
    /// Adds the next sample.
    ///
    /// # Errors
    /// When it does not fit to those before.
    fn add(&mut self, sample: Sample) -> Result<()>;

    /// The batch; at least one sample was added.
    ///
    /// # Errors
    /// As [`Collate::collate`].
    fn finish(self: Box<Self>) -> Result<Batch>;
}

crate::register! {
    /// Stacks the values of each field; all samples need one shape.
    dyn Collate, "default_collate" => DefaultCollate
}

crate::register! {
    /// MMEngine's list of samples. Here it stacks like `default_collate`: pad images of different sizes before.
    dyn Collate, "pseudo_collate" => DefaultCollate
}

/// Stacks the values of each field; all samples need one shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct DefaultCollate {}

impl Collate for DefaultCollate {
    fn collate(&self, samples: Vec<Sample>) -> Result<Batch> {
        let mut stacker = Box::new(Stacker::new(samples.len(), Batch::default()));
        samples.into_iter().try_for_each(|sample| stacker.add(sample))?;
        stacker.finish()
    }

    fn begin(&self, n: usize, spent: Batch) -> Option<Box<dyn BatchBuilder>> {
        Some(Box::new(Stacker::new(n, spent)))
    }
}

/// Stacks samples that agree with the first one in the names, kinds and shapes of their fields.
struct Stacker {
    n: usize,
    spent: Batch,
    ids: Vec<u64>,
    columns: Fields<Stack>,
}

/// A column in the making: the shape of one sample's value, and the values so far.
struct Stack {
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    Float(Vec<Elem>),
    Int(Vec<i64>),
    Text(Vec<String>),
}

impl Stack {
    /// An empty column for values like this one, in the memory of a spent column if that is of its kind.
    fn like(name: &str, value: &Value, n: usize, spent: Option<Column>) -> Result<Self> {
        let values = match (value, spent) {
            (Value::Float(v), Some(Column::Float(old))) => Values::Float(cleared(old, n * v.len())),
            (Value::Float(v), _) => Values::Float(Vec::with_capacity(n * v.len())),
            (Value::Int(v), Some(Column::Int(old))) => Values::Int(cleared(old, n * v.len())),
            (Value::Int(v), _) => Values::Int(Vec::with_capacity(n * v.len())),
            (Value::Text(_), _) => Values::Text(Vec::with_capacity(n)),
            (Value::Picture(_), _) => return Err(unpacked(name)),
        };
        Ok(Self { shape: value.shape().to_vec(), values })
    }

    fn kind(&self) -> FieldKind {
        match self.values {
            Values::Float(_) => FieldKind::Float,
            Values::Int(_) => FieldKind::Int,
            Values::Text(_) => FieldKind::Text,
        }
    }

    fn push(&mut self, value: &Value) {
        match (&mut self.values, value) {
            (Values::Float(all), Value::Float(own)) => append(all, own.view()),
            (Values::Int(all), Value::Int(own)) => all.extend(own.iter()),
            (Values::Text(all), Value::Text(own)) => all.push(own.clone()),
            // `check` has compared the kinds.
            _ => {}
        }
    }

    fn finish(self, n: usize) -> Result<Column> {
        Ok(match self.values {
            Values::Float(values) => Column::Float(stacked(n, &self.shape, values)?),
            Values::Int(values) => Column::Int(stacked(n, &self.shape, values)?),
            Values::Text(texts) => Column::Text(texts),
        })
    }
}

/// The memory of an array, empty, with room for `len` values.
fn cleared<T>(old: ArrayD<T>, len: usize) -> Vec<T> {
    let (mut values, _) = old.into_raw_vec_and_offset();
    values.clear();
    if values.capacity() < len {
        values = Vec::with_capacity(len);
    }
    values
}

impl Stacker {
    fn new(n: usize, mut spent: Batch) -> Self {
        let mut ids = std::mem::take(&mut spent.ids);
        ids.clear();
        Self { n, spent, ids, columns: Fields::default() }
    }

    fn begin(&mut self, sample: &Sample) -> Result<()> {
        for (name, value) in sample.fields.iter() {
            let shape: Vec<usize> = [self.n].iter().chain(value.shape()).copied().collect();
            memory::fits("a batch", &shape, size_of::<Elem>())?;
            let stack = Stack::like(name, value, self.n, self.spent.fields.take(name))?;
            self.columns.set(name.to_owned(), stack);
        }
        Ok(())
    }

    fn check(&self, sample: &Sample) -> Result<()> {
        let first = self.ids.first().copied().unwrap_or(sample.id);
        if !self.columns.names().eq(sample.fields.names()) {
            let names: Vec<&str> = self.columns.names().collect();
            let own: Vec<&str> = sample.fields.names().collect();
            return Err(unequal("fields", first, &names, sample.id, &own));
        }
        for ((name, stack), (_, value)) in self.columns.iter().zip(sample.fields.iter()) {
            if value.kind() != stack.kind() {
                let what = format!("the kind of `{name}`");
                return Err(unequal(&what, first, &stack.kind(), sample.id, &value.kind()));
            }
            if value.shape() != stack.shape {
                let what = format!("the shape of `{name}`");
                return Err(unequal(&what, first, &stack.shape[..], sample.id, value.shape()));
            }
        }
        Ok(())
    }
}

impl BatchBuilder for Stacker {
    fn add(&mut self, sample: Sample) -> Result<()> {
        if self.ids.is_empty() {
            self.begin(&sample)?;
        }
        self.check(&sample)?;
        for ((_, stack), (_, value)) in self.columns.iter_mut().zip(sample.fields.iter()) {
            stack.push(value);
        }
        self.ids.push(sample.id);
        sample.spend();
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Batch> {
        let n = self.ids.len();
        if n == 0 {
            return Err(Error::invalid("a batch needs at least one sample"));
        }
        let columns = self.columns.into_iter().map(|(name, stack)| Ok((name, stack.finish(n)?)));
        Ok(Batch { ids: self.ids, fields: columns.collect::<Result<_>>()?, valid: n })
    }
}

/// A packed image is often a transposed view, whose general iterator costs several times a row's.
fn append(out: &mut Vec<Elem>, values: ArrayViewD<'_, f32>) {
    if let Some(values) = values.as_slice() {
        out.extend(values.iter().map(|&v| v as Elem));
        return;
    }
    match values.view().into_dimensionality::<Ix3>() {
        Ok(img) => append_rows(out, img),
        Err(_) => out.extend(values.iter().map(|&v| v as Elem)),
    }
}

fn append_rows(out: &mut Vec<Elem>, img: ArrayView3<'_, f32>) {
    for plane in img.outer_iter() {
        for row in plane.outer_iter() {
            out.extend(row.iter().map(|&v| v as Elem));
        }
    }
}

fn unpacked(name: &str) -> Error {
    Error::invalid(format!(
        "the field `{name}` is still a picture: pass samples through a `Pipeline`, or `PackInputs`, which turns it into channels, \
         height, width"
    ))
}

fn unequal<T: std::fmt::Debug + ?Sized>(what: &str, a: u64, of_a: &T, b: u64, of_b: &T) -> Error {
    let (of_a, of_b) = (format!("{of_a:?}"), format!("{of_b:?}"));
    let lengths = |of: &str| of.trim_matches(['[', ']']).split(", ").map(str::to_owned).collect::<Vec<_>>();
    let remedy = match (&lengths(&of_a)[..], &lengths(&of_b)[..]) {
        ([a, rest @ ..], [b, others @ ..])
            if rest.len() == 2 && rest == others && a.parse::<usize>().is_ok() && a != b =>
        {
            "of pictures the first number is that of the channels: `color_type` gives all the same, and so does \
             `keep_channels: true` of RandomGrayscale"
        }
        _ => "Resize, Pad or RandomCrop give images one size, `pad_collate` pads sequences",
    };
    Error::invalid(format!("samples {a} and {b} of one batch differ in {what}: {of_a} and {of_b} ({remedy})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr1};

    fn sample(id: u64, shape: (usize, usize, usize)) -> Sample {
        let img = Array3::from_shape_fn(shape, |(y, x, c)| (100 * c + 10 * y + x) as f32);
        Sample { id, ..Sample::new(img, id as i64) }
    }

    #[test]
    fn stacks_in_order_whatever_the_strides() {
        let packed = |id| {
            let img = Array3::from_shape_fn((2, 3, 2), |(y, x, c)| (100 * c + 10 * y + x) as f32);
            Sample { id, ..Sample::new(img.permuted_axes([2, 0, 1]), id as i64) }
        };
        let batch = DefaultCollate {}.collate(vec![packed(4), packed(5)]).unwrap();
        let inputs = batch.inputs().unwrap();
        assert_eq!(inputs.shape(), [2, 2, 2, 3]);
        let one = [0., 1., 2., 10., 11., 12., 100., 101., 102., 110., 111., 112.];
        assert_eq!(inputs.iter().copied().collect::<Vec<_>>(), [one, one].concat());
        assert_eq!((batch.labels().unwrap(), batch.valid), (&[4i64, 5][..], 2));
        assert_eq!(batch.ids, [4, 5]);
    }

    #[test]
    fn names_the_two_samples_that_do_not_fit() {
        let error = DefaultCollate {}.collate(vec![sample(3, (2, 2, 1)), sample(7, (2, 3, 1))]).unwrap_err();
        assert!(error.to_string().starts_with(
            "samples 3 and 7 of one batch differ in the shape of `inputs`: [2, 2, 1] and [2, 3, 1] (Resize, Pad or RandomCrop"
        ), "{error}");
        // Grey and coloured pictures are of one size.
        let error = DefaultCollate {}.collate(vec![sample(3, (3, 2, 2)), sample(7, (1, 2, 2))]).unwrap_err();
        assert!(error.to_string().contains("`keep_channels: true` of RandomGrayscale"), "{error}");
    }

    #[test]
    fn fields_are_stacked_and_must_agree() {
        let with = |id, values: &[f32]| sample(id, (1, 1, 1)).with("box", arr1(values));
        let batch = DefaultCollate {}.collate(vec![with(0, &[1., 2.]), with(1, &[3., 4.])]).unwrap();
        let boxes = batch.float("box").unwrap();
        assert_eq!((boxes.shape(), boxes.as_slice().unwrap()), (&[2, 2][..], &[1., 2., 3., 4.][..]));
        let refused = |a, b| DefaultCollate {}.collate(vec![a, b]).unwrap_err().to_string();
        let error = refused(with(0, &[1.]), with(9, &[1., 2.]));
        assert!(error.contains("samples 0 and 9") && error.contains("the shape of `box`"), "{error}");
        let error = refused(with(0, &[1.]), sample(2, (1, 1, 1)));
        assert!(
            error.contains(r#"differ in fields: ["inputs", "target", "box"] and ["inputs", "target"]"#),
            "{error}"
        );
        let error = refused(with(0, &[1.]), sample(2, (1, 1, 1)).with("box", arr1(&[1i64])));
        assert!(error.contains("differ in the kind of `box`: Float and Int"), "{error}");
    }

    #[test]
    fn a_spent_batch_lends_its_memory_and_nothing_else() {
        let fresh = DefaultCollate {}.collate(vec![sample(0, (2, 2, 1)), sample(1, (2, 2, 1))]).unwrap();
        let spent = DefaultCollate {}.collate((0..9).map(|id| sample(id, (3, 2, 1))).collect()).unwrap();
        let (floats, ints) = (spent.inputs().unwrap().as_ptr(), spent.int("target").unwrap().as_ptr());
        let mut builder = DefaultCollate {}.begin(2, spent).unwrap();
        (0..2).for_each(|id| builder.add(sample(id, (2, 2, 1))).unwrap());
        let batch = builder.finish().unwrap();
        assert_eq!((batch.inputs().unwrap().as_ptr(), batch.int("target").unwrap().as_ptr()), (floats, ints));
        assert_eq!(batch, fresh);
    }
}
