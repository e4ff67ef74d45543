//! From samples to a batch.

use ndarray::{ArrayD, ArrayView3, IxDyn};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result, memory};

use super::{Batch, Sample};

crate::registry!(dyn Collate, "collate");

/// Makes a batch of the samples of one step.
pub trait Collate: Send + Sync {
    /// Stacks `samples`, of which there is at least one. The loader sets [`Batch::valid`] afterwards.
    ///
    /// # Errors
    /// When the samples do not fit together.
    fn collate(&self, samples: Vec<Sample>) -> Result<Batch>;

    /// Begins a batch of `n` samples to which they are added as they are read, so that they need not all be in memory beside
    /// it. None, the default, where all are wanted at once. `memory` may serve as [`Batch::inputs`]; what it holds is left over
    /// from another batch.
    fn begin(&self, n: usize, memory: Vec<Elem>) -> Option<Box<dyn Stack>> {
        let _ = (n, memory);
        None
    }
}

/// A batch in the making.
pub trait Stack {
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
    /// Stacks images, labels and fields; all samples need one shape.
    dyn Collate, "default_collate" => DefaultCollate
}

crate::register! {
    /// The reference's list of samples. Here it stacks like `default_collate`: pad images of different sizes before.
    dyn Collate, "pseudo_collate" => DefaultCollate
}

/// Stacks images, labels and fields; all samples need one shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct DefaultCollate {}

impl Collate for DefaultCollate {
    fn collate(&self, samples: Vec<Sample>) -> Result<Batch> {
        let mut stacking = Box::new(Stacking::new(samples.len(), Vec::new()));
        samples.into_iter().try_for_each(|sample| stacking.add(sample))?;
        stacking.finish()
    }

    fn begin(&self, n: usize, memory: Vec<Elem>) -> Option<Box<dyn Stack>> {
        Some(Box::new(Stacking::new(n, memory)))
    }
}

/// What all samples must agree in with the first one.
#[derive(Default)]
struct Model {
    shape: Vec<usize>,
    /// Names and shapes of the fields.
    fields: Vec<(String, Vec<usize>)>,
}

impl Model {
    fn of(sample: &Sample) -> Self {
        let fields = sample.fields.iter().map(|(name, field)| (name.clone(), field.shape().to_vec()));
        Self { shape: sample.img.shape().to_vec(), fields: fields.collect() }
    }
}

struct Stacking {
    n: usize,
    model: Model,
    pixels: Vec<Elem>,
    /// Values of each field.
    fields: Vec<Vec<Elem>>,
    ids: Vec<u64>,
    labels: Vec<i64>,
}

impl Stacking {
    fn new(n: usize, mut memory: Vec<Elem>) -> Self {
        memory.clear();
        let (ids, labels) = (Vec::with_capacity(n), Vec::with_capacity(n));
        Self { n, model: Model::default(), pixels: memory, fields: Vec::new(), ids, labels }
    }

    fn begin(&mut self, sample: &Sample) -> Result<()> {
        self.model = Model::of(sample);
        let shape = sample.img.shape();
        memory::fits("a batch", &[self.n, shape[0], shape[1], shape[2]], size_of::<Elem>())?;
        let len = self.n * sample.img.len();
        if self.pixels.capacity() < len {
            self.pixels = Vec::with_capacity(len);
        }
        let room = |(_, field): &(String, ArrayD<Elem>)| Vec::with_capacity(self.n * field.len());
        self.fields = sample.fields.iter().map(room).collect();
        Ok(())
    }

    fn check(&self, sample: &Sample) -> Result<()> {
        let (first, model) = (self.ids.first().copied().unwrap_or(sample.id), &self.model);
        if sample.img.shape() != model.shape {
            return Err(unequal("shape", first, &model.shape[..], sample.id, sample.img.shape()));
        }
        let names: Vec<&str> = model.fields.iter().map(|(name, _)| name.as_str()).collect();
        let own: Vec<&str> = sample.fields.iter().map(|(name, _)| name.as_str()).collect();
        if own != names {
            return Err(unequal("fields", first, &names, sample.id, &own));
        }
        for ((name, shape), (_, field)) in model.fields.iter().zip(&sample.fields) {
            if field.shape() != shape {
                let what = format!("shape of field `{name}`");
                return Err(unequal(&what, first, &shape[..], sample.id, field.shape()));
            }
        }
        Ok(())
    }
}

impl Stack for Stacking {
    fn add(&mut self, sample: Sample) -> Result<()> {
        if self.ids.is_empty() {
            self.begin(&sample)?;
        }
        self.check(&sample)?;
        append(&mut self.pixels, sample.img.view());
        for (values, (_, field)) in self.fields.iter_mut().zip(&sample.fields) {
            values.extend(field.iter());
        }
        self.ids.push(sample.id);
        self.labels.push(sample.label);
        sample.spend();
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Batch> {
        let n = self.ids.len();
        if n == 0 {
            return Err(Error::invalid("a batch needs at least one sample"));
        }
        let fields = self.model.fields.into_iter().zip(self.fields);
        let fields = fields
            .map(|((name, shape), values)| Ok((name, stacked(n, &shape, values)?)))
            .collect::<Result<_>>()?;
        let inputs = stacked(n, &self.model.shape, self.pixels)?;
        Ok(Batch { ids: self.ids, labels: self.labels, inputs, fields, valid: n })
    }
}

/// A packed image is often a transposed view, whose general iterator costs several times a row's.
fn append(out: &mut Vec<Elem>, img: ArrayView3<'_, f32>) {
    if let Some(values) = img.as_slice() {
        out.extend(values.iter().map(|&v| v as Elem));
        return;
    }
    for plane in img.outer_iter() {
        for row in plane.outer_iter() {
            out.extend(row.iter().map(|&v| v as Elem));
        }
    }
}

fn stacked(n: usize, shape: &[usize], values: Vec<Elem>) -> Result<ArrayD<Elem>> {
    let shape: Vec<usize> = std::iter::once(n).chain(shape.iter().copied()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|e| Error::invalid(e.to_string()))
}

fn unequal<T: std::fmt::Debug + ?Sized>(what: &str, a: u64, of_a: &T, b: u64, of_b: &T) -> Error {
    Error::invalid(format!(
        "samples {a} and {b} of one batch differ in {what}: {of_a:?} and {of_b:?} (Resize, Pad or RandomCrop give images one \
         size)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, arr1};

    fn sample(id: u64, shape: (usize, usize, usize)) -> Sample {
        let img = Array3::from_shape_fn(shape, |(y, x, c)| (100 * c + 10 * y + x) as f32);
        Sample { id, label: id as i64, ..Sample::new(img, 0) }
    }

    #[test]
    fn stacks_in_order_whatever_the_strides() {
        let packed = |id| {
            let mut s = sample(id, (2, 3, 2));
            s.img = s.img.permuted_axes([2, 0, 1]);
            s
        };
        let batch = DefaultCollate {}.collate(vec![packed(4), packed(5)]).unwrap();
        assert_eq!(batch.inputs.shape(), [2, 2, 2, 3]);
        let one = [0., 1., 2., 10., 11., 12., 100., 101., 102., 110., 111., 112.];
        assert_eq!(batch.inputs.iter().copied().collect::<Vec<_>>(), [one, one].concat());
        assert_eq!((batch.ids, batch.labels, batch.valid), (vec![4, 5], vec![4, 5], 2));
    }

    #[test]
    fn names_the_two_samples_that_do_not_fit() {
        let error = DefaultCollate {}.collate(vec![sample(3, (2, 2, 1)), sample(7, (2, 3, 1))]).unwrap_err();
        assert!(error.to_string().starts_with(
            "samples 3 and 7 of one batch differ in shape: [2, 2, 1] and [2, 3, 1] (Resize, Pad or RandomCrop"
        ));
    }

    #[test]
    fn fields_are_stacked_and_must_agree() {
        let with = |id, values: &[Elem]| {
            let mut s = sample(id, (1, 1, 1));
            s.fields = vec![("target".into(), arr1(values).into_dyn())];
            s
        };
        let batch = DefaultCollate {}.collate(vec![with(0, &[1., 2.]), with(1, &[3., 4.])]).unwrap();
        let target = batch.field("target").unwrap();
        assert_eq!((target.shape(), target.as_slice().unwrap()), (&[2, 2][..], &[1., 2., 3., 4.][..]));
        let error =
            DefaultCollate {}.collate(vec![with(0, &[1.]), with(9, &[1., 2.])]).unwrap_err().to_string();
        assert!(error.contains("samples 0 and 9") && error.contains("field `target`"), "{error}");
        let error =
            DefaultCollate {}.collate(vec![with(0, &[1.]), sample(2, (1, 1, 1))]).unwrap_err().to_string();
        assert!(error.contains(r#"differ in fields: ["target"] and []"#), "{error}");
    }
}
