//! The SGD update in one pass over value, gradient and momentum buffer.

use super::Elem;

/// The numbers of one update, PyTorch's `SGD`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: Elem,
    /// Momentum; 0 needs no buffer.
    pub momentum: Elem,
    /// Dampening of the gradient that enters the buffer.
    pub dampening: Elem,
    /// L2 penalty, added to the gradient.
    pub weight_decay: Elem,
    /// Nesterov's variant.
    pub nesterov: bool,
    /// The gradient is multiplied by this first: loss scale, clipping.
    pub grad_scale: Elem,
    /// The first step of this buffer: it becomes the gradient and its old contents are not read.
    pub first: bool,
}

impl Default for SgdStep {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            grad_scale: 1.0,
            first: false,
        }
    }
}

/// Updates `value`, and `buf` where there is one, and sets `grad` to zero.
///
/// `g = grad_scale * grad + weight_decay * value`; `buf = momentum * buf + (1 - dampening) * g` (first step: `g`);
/// `value -= lr * (nesterov ? g + momentum * buf : buf)`; without a buffer `value -= lr * g`.
pub fn sgd_momentum(step: &SgdStep, value: &mut [Elem], grad: &mut [Elem], buf: Option<&mut [Elem]>) {
    assert_eq!(value.len(), grad.len());
    let s = *step;
    let Some(buf) = buf else {
        for (v, g) in value.iter_mut().zip(grad) {
            *v -= s.lr * (s.grad_scale * *g + s.weight_decay * *v);
            *g = 0.0;
        }
        return;
    };
    assert_eq!(value.len(), buf.len());
    for ((v, g), b) in value.iter_mut().zip(grad).zip(buf) {
        let d = s.grad_scale * *g + s.weight_decay * *v;
        *b = if s.first { d } else { s.momentum * *b + (1.0 - s.dampening) * d };
        *v -= s.lr * if s.nesterov { d + s.momentum * *b } else { *b };
        *g = 0.0;
    }
}
