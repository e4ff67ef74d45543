//! What a layer keeps: trained tensors, state that is not trained, and counts.

use ndarray::{ArrayD, IxDyn};

use crate::base::memory::{Grant, ask};
use crate::base::{Elem, Tensor};

use super::pool::row_major;

/// A trained tensor and its gradient.
#[derive(Debug)]
pub struct Param {
    /// The value. The memory must not be shared with another parameter: the tape tells parameters apart by it.
    pub value: Tensor,
    /// The sum of the gradients since they were last cleared; `None` until a loss reaches the parameter.
    pub grad: Option<ArrayD<Elem>>,
    /// The memory of the last gradient, for the next one.
    spare: Option<ArrayD<Elem>>,
    /// Whether gradients are wanted; a frozen parameter has none.
    pub trainable: bool,
}

impl Param {
    /// A trainable parameter. Shared memory is copied.
    pub fn new(value: impl Into<Tensor>) -> Self {
        let value = row_major(value.into()).into_owned().into_shared();
        Self { value, grad: None, spare: None, trainable: true }
    }

    /// A trainable parameter of this shape, all elements equal.
    pub fn full(shape: &[usize], value: Elem) -> Self {
        Self::new(filled(shape, value))
    }

    /// Forgets the gradient and keeps its memory.
    pub fn clear_grad(&mut self) {
        if self.grad.is_some() {
            self.spare = self.grad.take();
        }
    }

    /// The memory of a gradient that was cleared.
    pub(super) fn take_spare(&mut self) -> Option<Vec<Elem>> {
        self.spare.take().map(|spare| spare.into_raw_vec_and_offset().0)
    }
}

/// A clone is another parameter: it has memory of its own, and no gradient.
impl Clone for Param {
    fn clone(&self) -> Self {
        Self { trainable: self.trainable, ..Self::new(self.value.clone()) }
    }
}

/// A tensor that is saved with the weights but not trained, as a running mean.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// The value.
    pub value: Tensor,
    /// Whether its layer leaves it as it is: a batch norm with fixed statistics normalises by them, in training too.
    pub fixed: bool,
}

impl Buffer {
    /// A buffer of this shape, all elements equal.
    pub fn full(shape: &[usize], value: Elem) -> Self {
        Self { value: filled(shape, value), fixed: false }
    }
}

/// A tensor of equal elements; an empty one where the memory account of the build refuses it.
fn filled(shape: &[usize], value: Elem) -> Tensor {
    match ask(shape, size_of::<Elem>()) {
        Grant::Refused => Tensor::zeros(vec![0; shape.len()]),
        Grant::Zeros => Tensor::zeros(IxDyn(shape)),
        Grant::Full => Tensor::from_elem(IxDyn(shape), value),
    }
}

/// A whole number that is saved with the weights (`num_batches_tracked`), kept in a tensor of shape `[]`.
///
/// Exact up to 2²⁴ (16.7 million) in `f32`, where it stays.
#[derive(Debug, Clone)]
pub struct Counter {
    /// The value.
    pub value: Tensor,
}

impl Counter {
    /// One more.
    pub fn tick(&mut self) {
        self.value += 1.0;
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.value.first().map_or(0, |&n| n as u64)
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self { value: Tensor::zeros(IxDyn(&[])) }
    }
}
