//! From samples to a batch.

use ndarray::{ArrayD, ArrayView3, IxDyn};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Elem, Error, Result};

use super::{Batch, Sample};

crate::registry!(dyn Collate, "collate");

/// Makes a batch of the samples of one step.
pub trait Collate: Send + Sync {
    /// Stacks `samples`, of which there is at least one. The loader sets [`Batch::valid`] afterwards.
    ///
    /// # Errors
    /// When the samples do not fit together.
    fn collate(&self, samples: Vec<Sample>) -> Result<Batch>;
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
        let first = samples.first().ok_or_else(|| Error::invalid("a batch needs at least one sample"))?;
        let (n, shape) = (samples.len(), first.img.shape().to_vec());
        let mut pixels: Vec<Elem> = Vec::with_capacity(n * first.img.len());
        for sample in &samples {
            if sample.img.shape() != shape {
                return Err(unequal("shape", first, &shape[..], sample, sample.img.shape()));
            }
            append(&mut pixels, sample.img.view());
        }
        Ok(Batch {
            ids: samples.iter().map(|s| s.id).collect(),
            labels: samples.iter().map(|s| s.label).collect(),
            inputs: stacked(n, &shape, pixels)?,
            fields: fields(&samples)?,
            valid: n,
        })
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

fn fields(samples: &[Sample]) -> Result<Vec<(String, ArrayD<Elem>)>> {
    let first = &samples[0];
    let names = |sample: &Sample| sample.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if let Some(other) = samples.iter().find(|s| names(s) != names(first)) {
        return Err(unequal("fields", first, &names(first), other, &names(other)));
    }
    let stack = |(at, (name, model)): (usize, &(String, ArrayD<Elem>))| {
        let mut values = Vec::with_capacity(samples.len() * model.len());
        for sample in samples {
            let field = &sample.fields[at].1;
            if field.shape() != model.shape() {
                return Err(unequal(
                    &format!("shape of field `{name}`"),
                    first,
                    model.shape(),
                    sample,
                    field.shape(),
                ));
            }
            values.extend(field.iter());
        }
        Ok((name.clone(), stacked(samples.len(), model.shape(), values)?))
    };
    first.fields.iter().enumerate().map(stack).collect()
}

fn stacked(n: usize, shape: &[usize], values: Vec<Elem>) -> Result<ArrayD<Elem>> {
    let shape: Vec<usize> = std::iter::once(n).chain(shape.iter().copied()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|e| Error::invalid(e.to_string()))
}

fn unequal<T: std::fmt::Debug + ?Sized>(what: &str, a: &Sample, of_a: &T, b: &Sample, of_b: &T) -> Error {
    Error::invalid(format!(
        "samples {} and {} of one batch differ in {what}: {of_a:?} and {of_b:?} (Resize, Pad or RandomCrop give images one \
         size)",
        a.id, b.id
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
