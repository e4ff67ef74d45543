//! Probabilities of scores.

use crate::base::Elem;
use crate::kernels::{log_softmax, log_softmax_backward, softmax, softmax_backward};
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::axis_of;

/// A kernel on rows: their length, what goes in, and what comes out or is changed in place.
type Rows = fn(usize, &[Elem], &mut [Elem]);

impl<'t> Var<'t> {
    /// `exp(x) / Σ exp(x)` along an axis.
    pub fn softmax(self, axis: isize) -> Self {
        self.along("softmax", axis, [softmax, softmax_backward])
    }

    /// The logarithm of the softmax along an axis.
    pub fn log_softmax(self, axis: isize) -> Self {
        self.along("log_softmax", axis, [log_softmax, log_softmax_backward])
    }

    fn along(self, op: &'static str, axis: isize, kernels: [Rows; 2]) -> Self {
        let shape = self.shape();
        if shape.is_empty() {
            return self.rowwise(op, kernels);
        }
        self.attempt(|| {
            let (axis, last) = (axis_of(op, &shape, axis)?, shape.len() - 1);
            if axis == last {
                return Ok(self.rowwise(op, kernels));
            }
            let (axis, last) = (axis as isize, last as isize);
            Ok(self.transpose(axis, last).rowwise(op, kernels).transpose(axis, last))
        })
    }

    /// An op on the rows of the last axis whose way back needs its result.
    fn rowwise(self, op: &'static str, [forward, backward]: [Rows; 2]) -> Self {
        let x = self.value();
        let k = x.shape().last().copied().unwrap_or(1);
        let mut y = self.tape.take(x.len());
        forward(k, slice(&x), &mut y);
        let y = tensor(x.shape(), y);
        let saved = y.clone();
        self.tape.node(op, y, &[self], move |mut dy, grads| {
            backward(k, slice(&saved), &mut dy);
            grads.add(0, dy);
        })
    }
}
