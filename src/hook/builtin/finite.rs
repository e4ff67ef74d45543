//! Where NaN and infinity are: in which loss, gradient, weight or sample.

use std::collections::BTreeMap;

use ndarray::{ArrayD, ArrayViewD, Axis};

use crate::data::Column;
use crate::params::{self, Want};
use crate::plugin::prelude::*;

/// What is wrong with a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    /// `` `loss` became NaN ``.
    pub what: String,
    /// The first bad tensor on the way from the data to the update.
    pub first: String,
    /// The samples to blame: those with bad inputs, or all of the batch.
    pub samples: Vec<u64>,
}

/// Whether any number is NaN or infinite. One pass without branches, for it is made in every step.
fn has_bad(values: ArrayViewD<'_, Elem>) -> bool {
    // A finite number times zero is a zero; sums of those in any order are zeros.
    match values.as_slice_memory_order() {
        Some(slice) => {
            let (eights, rest) = slice.as_chunks::<8>();
            let mut sums = [0.0; 8];
            for eight in eights {
                for (sum, v) in sums.iter_mut().zip(eight) {
                    *sum += v * 0.0;
                }
            }
            sums.iter().chain(rest).any(|v| !v.is_finite())
        }
        None => values.iter().any(|v| !v.is_finite()),
    }
}

/// The first loss that is no number, with its value.
pub(super) fn bad_loss(outputs: &Outputs) -> Option<(String, f64)> {
    let bad =
        |(name, value): &&(std::borrow::Cow<'static, str>, f64)| name.contains("loss") && !value.is_finite();
    outputs.vars.iter().find(bad).map(|(name, value)| (name.to_string(), *value))
}

/// The first tensor of a set that has a bad number, among those that are trained. The values are looked at where they
/// are; only if there is one they are read, to find out which.
fn first(model: &dyn Model, set: Set) -> Result<Option<String>> {
    let want: Want<'_> = &params::trained;
    if model.norm(set, f64::INFINITY, want)?.is_finite() {
        return Ok(None);
    }
    let mut found = None;
    model.read(set, want, &mut |p, values| {
        if found.is_none() && has_bad(values) {
            found = Some(p.name.to_owned());
        }
    })?;
    Ok(found)
}

pub(super) fn bad_gradient(model: &dyn Model) -> Result<Option<String>> {
    first(model, Set::Grads)
}

/// Buffers do not count: a batch may spoil them without harm to the weights, and `skip` takes them back.
pub(super) fn bad_weight(model: &dyn Model) -> Result<Option<String>> {
    first(model, Set::Values)
}

/// The fields of a batch that may hold what is no number.
fn floats(batch: &Batch) -> impl Iterator<Item = &ArrayD<Elem>> {
    batch.fields.iter().filter_map(|(_, column)| match column {
        Column::Float(values) => Some(values),
        _ => None,
    })
}

/// Samples with a value that is no number.
fn bad_samples(batch: &Batch) -> Vec<u64> {
    let mut bad = vec![false; batch.len()];
    for values in floats(batch) {
        values.axis_iter(Axis(0)).zip(&mut bad).for_each(|(row, bad)| *bad |= has_bad(row));
    }
    batch.ids.iter().zip(bad).filter(|(_, bad)| *bad).map(|(id, _)| *id).collect()
}

/// Whether an input or a weight is no number.
pub(super) fn bad_values(model: &dyn Model, batch: &Batch) -> Result<bool> {
    Ok(floats(batch).any(|values| has_bad(values.view())) || bad_weight(model)?.is_some())
}

/// Follows the step from the data on to the first tensor that is bad. All ranks call it.
pub(super) fn explain(
    model: &dyn Model,
    step: &Step<'_>,
    loss: Option<(String, f64)>,
    comm: &dyn Comm,
) -> Result<Finding> {
    let samples = bad_samples(step.batch);
    let any_bad = comm.agree(u64::from(!samples.is_empty()))? != 0;
    let first = if !samples.is_empty() {
        format!("the input of samples {samples:?}")
    } else if any_bad {
        "an input of another rank".into()
    } else if let Some(name) = bad_weight(model)? {
        format!("the weight `{name}`")
    } else if let Some((name, _)) = &loss {
        format!("`{name}`: inputs and weights are finite")
    } else if let Some(name) = bad_gradient(model)? {
        format!("the gradient of `{name}`")
    } else {
        "unknown".into()
    };
    let what = match loss {
        Some((name, value)) => format!("`{name}` became {value}"),
        None => "numbers became invalid".into(),
    };
    // Whose samples are good has nothing to do with it.
    let samples = if any_bad { samples } else { step.batch.ids.clone() };
    Ok(Finding { what, first, samples })
}

/// Copies of tensors that a forward pass changes, by name: running means, counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(pub BTreeMap<String, ArrayD<Elem>>);

impl Buffers {
    /// Copies, into the memory of the copy before where there is one.
    pub fn keep(&mut self, model: &dyn Model) -> Result<()> {
        model.read(Set::Values, &|p| !p.role.is_trained(), &mut |p, value| match self.0.get_mut(p.name) {
            Some(kept) => kept.assign(&value),
            None => drop(self.0.insert(p.name.to_owned(), value.to_owned())),
        })
    }

    pub fn put_back(&self, model: &mut dyn Model) -> Result<()> {
        let kept = |p: &Info<'_>| self.0.get(p.name).filter(|kept| kept.shape() == p.shape);
        model.edit(Set::Values, &|p| kept(p).is_some(), &mut |p, mut value| {
            if let Some(kept) = kept(p) {
                value.assign(kept);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_number_is_found_wherever_it_stands() {
        for n in [1, 7, 8, 9, 31] {
            assert!(!has_bad(ArrayD::from_elem(vec![n], Elem::MAX).view()));
            for at in 0..n {
                for bad in [Elem::NAN, Elem::INFINITY, Elem::NEG_INFINITY] {
                    let mut values = ArrayD::from_elem(vec![n], -1.5);
                    values[[at]] = bad;
                    assert!(has_bad(values.view()), "{bad} at {at} of {n}");
                }
            }
        }
    }
}
