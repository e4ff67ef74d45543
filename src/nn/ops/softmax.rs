//! Probabilities of scores.

use crate::base::Elem;
use crate::kernels::{log_softmax, log_softmax_backward, softmax, softmax_backward};
use crate::nn::Var;
use crate::nn::pool::{slice, tensor};

impl<'t> Var<'t> {
    /// Softmax over the last axis.
    pub fn softmax(self) -> Self {
        self.rowwise(softmax, softmax_backward)
    }

    /// Logarithm of the softmax over the last axis.
    pub fn log_softmax(self) -> Self {
        self.rowwise(log_softmax, log_softmax_backward)
    }

    /// An op on the rows of the last axis whose way back needs its result.
    fn rowwise(
        self,
        forward: fn(usize, &[Elem], &mut [Elem]),
        backward: fn(usize, &[Elem], &mut [Elem]),
    ) -> Self {
        let x = self.value();
        let k = x.shape().last().copied().unwrap_or(1);
        let mut y = self.tape.take(x.len());
        forward(k, slice(&x), &mut y);
        let y = tensor(x.shape(), y);
        let saved = y.clone();
        self.tape.node(y, &[self], move |mut dy, grads| {
            backward(k, slice(&saved), &mut dy);
            grads.add(0, dy);
        })
    }
}
