//! What losses ask of their targets, and what they say of others.

use ndarray::{ArrayD, IxDyn};

use crate::base::{Elem, Error, Result};

use super::rows::{Rows, swap_axes};
use super::{ClassWeight, Target};

/// Numbers: classes have no distance from each other.
pub(super) fn numbers<'t>(target: Target<'t>, loss: &str) -> Result<Target<'t>> {
    match target {
        Target::Classes(_) => Err(Error::invalid(format!(
            "`{loss}` compares numbers, and the target holds classes (whole numbers, or the categories of a column): \
             CrossEntropyLoss is for classes; give numbers as floats, in a table with a point as the decimal sign"
        ))),
        dense => Ok(dense),
    }
}

/// Whole numbers, this many.
pub(super) fn whole<'t>(target: Target<'t>, n: usize, loss: &str) -> Result<&'t [i64]> {
    match target {
        Target::Classes(classes) if classes.len() == n => Ok(classes),
        Target::Classes(classes) => {
            Err(Error::invalid(format!("`{loss}` got {} targets where {n} belong", classes.len())))
        }
        Target::Dense(values) => Err(Error::invalid(format!(
            "`{loss}` compares with classes (whole numbers), and the target holds numbers of shape {:?}: shares of classes, as \
             mixed samples and one-hot labels have them, are for CrossEntropyLoss",
            values.shape()
        ))),
    }
}

/// One of `k` classes.
pub(super) fn class(class: i64, k: usize, row: usize, loss: &str) -> Result<usize> {
    usize::try_from(class).ok().filter(|class| *class < k).ok_or_else(|| {
        let last = k.saturating_sub(1);
        Error::invalid(format!(
            "`{loss}`: target {class} of sample {row} of the batch is outside the {k} classes; labels run from 0 to \
             {last}"
        ))
    })
}

/// Yes or no: 1 for yes, -1 or 0 for no.
pub(super) fn signs<'t>(target: Target<'t>, loss: &str) -> Result<Target<'t>> {
    each(target, loss, "1 for yes, -1 or 0 for no", |y| y == 1.0 || y == -1.0 || y == 0.0)
}

/// The sign that [`signs`] took in.
pub(super) fn sign(y: Elem) -> Elem {
    if y > 0.0 { 1.0 } else { -1.0 }
}

/// Probabilities, or yes and no as 1 and 0.
pub(super) fn shares<'t>(target: Target<'t>, loss: &str) -> Result<Target<'t>> {
    each(target, loss, "0 to 1", |y| (0.0..=1.0).contains(&y) || y.is_nan())
}

/// Targets that are all allowed.
pub(super) fn each<'t>(
    target: Target<'t>,
    loss: &str,
    wanted: &str,
    is: impl Fn(Elem) -> bool,
) -> Result<Target<'t>> {
    let wrong = match target {
        Target::Classes(classes) => {
            classes.iter().position(|y| !is(*y as Elem)).map(|at| (at, classes[at] as Elem))
        }
        Target::Dense(values) => values.iter().copied().enumerate().find(|(_, y)| !is(*y)),
    };
    match wrong {
        Some((at, y)) => Err(Error::invalid(format!(
            "`{loss}` compares with {wanted}, and value {at} of the target is {y}"
        ))),
        None => Ok(target),
    }
}

/// The targets as values of the scores' shape: 1 for the class of a row, 0 for all others. Values stay as they are, and
/// so do the classes of a single score: yes and no.
pub(super) fn one_hot(target: Target<'_>, shape: &[usize], loss: &str) -> Result<ArrayD<Elem>> {
    let rows = Rows::of_classes(shape, loss)?;
    let mut values = vec![0.0; rows.len() * rows.k];
    match target {
        Target::Classes(classes) if rows.k == 1 && classes.len() == values.len() => {
            values.iter_mut().zip(classes).for_each(|(value, class)| *value = *class as Elem);
        }
        Target::Classes(_) => {
            let mut by_row = vec![0.0; values.len()];
            for (row, own) in whole(target, rows.len(), loss)?.iter().enumerate() {
                by_row[row * rows.k + class(*own, rows.k, row, loss)?] = 1.0;
            }
            swap_axes(&by_row, &mut values, rows.places, rows.k);
        }
        Target::Dense(dense) if dense.shape() == shape => return Ok(dense.clone()),
        Target::Dense(dense) if rows.k == 1 && dense.len() == values.len() => {
            values.iter_mut().zip(dense).for_each(|(value, dense)| *value = *dense);
        }
        Target::Dense(dense) => {
            return Err(Error::invalid(format!(
                "`{loss}` takes one class a row of scores, or a value for each score: scores of shape {shape:?} and \
                 a target of shape {:?}",
                dense.shape()
            )));
        }
    }
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|e| Error::Other(e.into()))
}

/// One weight a label, along the second axis of the scores.
pub(super) struct LabelWeights {
    weights: Option<Vec<Elem>>,
    /// Values of a label.
    each: usize,
}

impl LabelWeights {
    /// The weights under this key of a config.
    pub fn new(weights: Option<&Vec<f64>>, shape: &[usize], key: &str) -> Result<Self> {
        let labels = shape.get(1).copied().unwrap_or(1);
        match weights.filter(|weights| weights.len() != labels) {
            Some(wrong) => {
                let n = wrong.len();
                Err(Error::invalid(format!("`{key}` has {n} numbers for scores of shape {shape:?}")))
            }
            None => Ok(Self {
                weights: weights.map(|w| w.iter().map(|w| *w as Elem).collect()),
                each: shape.iter().skip(2).product::<usize>().max(1),
            }),
        }
    }

    /// The weights of classes.
    pub fn of_classes(weights: Option<&ClassWeight>, shape: &[usize], key: &str) -> Result<Self> {
        Self::new(weights.map(ClassWeight::numbers).transpose()?, shape, key)
    }

    /// The weight of value `i` of a sample.
    pub fn of(&self, i: usize) -> Elem {
        self.weights.as_ref().and_then(|weights| weights.get(i / self.each)).copied().unwrap_or(1.0)
    }
}
