//! What a metric sees of a batch and of the model's answer.

use ndarray::{ArrayView2, ArrayViewD, Ix2, s};

use crate::base::{Elem, Error, Result};
use crate::data::Batch;

/// A batch and what the model made of it. The methods leave out the repeats that fill up a rank's share.
#[derive(Debug, Clone)]
pub struct Predictions<'a> {
    /// The batch, with whatever fields the data set has.
    pub batch: &'a Batch,
    /// Probabilities N, K of a classifier; another model's output may have any shape with first axis N.
    pub scores: Option<ArrayViewD<'a, Elem>>,
    /// One loss a sample.
    pub losses: Option<&'a [Elem]>,
}

impl<'a> Predictions<'a> {
    /// The answer of a classifier: probabilities N, K.
    pub fn of(batch: &'a Batch, scores: ArrayViewD<'a, Elem>) -> Self {
        Self { batch, scores: Some(scores), losses: None }
    }

    /// Labels of the samples that count.
    pub fn labels(&self) -> &'a [i64] {
        &self.batch.labels[..self.batch.valid]
    }

    /// Positions in the data set of the samples that count.
    pub fn ids(&self) -> &'a [u64] {
        &self.batch.ids[..self.batch.valid]
    }

    /// Probabilities N, K of the samples that count, and their labels as classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model gave no scores or not one row a sample, or when a label is none of the K classes.
    pub fn classified(&self) -> Result<(ArrayView2<'_, Elem>, Vec<usize>)> {
        let Some(scores) = &self.scores else {
            return Err(Error::invalid("the model gives no scores: this metric needs those of a classifier"));
        };
        let n = self.batch.len();
        let scores =
            scores.view().into_dimensionality::<Ix2>().ok().filter(|s| s.nrows() == n).ok_or_else(|| {
                Error::invalid(format!(
                    "scores of shape {:?} for {n} samples: expected [{n}, classes]",
                    scores.shape()
                ))
            })?;
        let classes = scores.ncols();
        let class = |(&label, id): (&i64, &u64)| {
            usize::try_from(label).ok().filter(|&class| class < classes).ok_or_else(|| {
                Error::invalid(format!(
                    "sample {id} has label {label}, but the scores are for {classes} classes"
                ))
            })
        };
        let labels = self.labels().iter().zip(self.ids()).map(class).collect::<Result<_>>()?;
        Ok((scores.slice_move(s![..self.batch.valid, ..]), labels))
    }
}
