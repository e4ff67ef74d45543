//! Targets that are learnt in another unit than their own.

use ndarray::ArrayD;

use crate::base::Elem;

/// The mean and the deviation of each number of a target.
pub(super) struct Scale(Vec<[Elem; 2]>);

impl Scale {
    pub(super) fn of(scale: &[[f64; 2]]) -> Self {
        Self(scale.iter().map(|[mean, std]| [*mean as Elem, *std as Elem]).collect())
    }

    /// The numbers as they are learnt.
    pub(super) fn standardized(&self, mut values: ArrayD<Elem>) -> ArrayD<Elem> {
        values.iter_mut().zip(self.0.iter().cycle()).for_each(|(v, [mean, std])| *v = (*v - mean) / std);
        values
    }

    /// What is predicted in the unit of the target.
    pub(super) fn undone(&self, mut values: ArrayD<Elem>) -> ArrayD<Elem> {
        values.iter_mut().zip(self.0.iter().cycle()).for_each(|(v, [mean, std])| *v = *v * std + mean);
        values
    }
}
