//! The SGD update in one pass over value, gradient and momentum buffer.

use super::walk;
use crate::base::Elem;

/// The numbers of one update, PyTorch's `SGD`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: Elem,
    /// Momentum; 0 needs no buffer.
    pub momentum: Elem,
    /// Factor of the gradient that enters the buffer: one minus the dampening, which f32 would round.
    pub entering: Elem,
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
            entering: 1.0,
            weight_decay: 0.0,
            nesterov: false,
            grad_scale: 1.0,
            first: false,
        }
    }
}

/// Updates `value`, and `buf` where there is one.
///
/// `g = grad_scale * grad + weight_decay * value`; `buf = momentum * buf + entering * g` (first step: `g`);
/// `value -= lr * (nesterov ? g + momentum * buf : buf)`; without a buffer `value -= lr * g`.
pub fn sgd_momentum(step: &SgdStep, value: &mut [Elem], grad: &[Elem], buf: Option<&mut [Elem]>) {
    let s = *step;
    let decayed = move |w: Elem, g: Elem| s.grad_scale * g + s.weight_decay * w;
    let Some(buf) = buf else {
        return walk(value, grad, [], move |w, g, []| (w - s.lr * decayed(w, g), []));
    };
    // As factors, so that one loop serves the first step, Nesterov and the plain case.
    let own = if s.first { 1.0 } else { s.entering };
    let (direct, through) = if s.nesterov { (s.lr, s.lr * s.momentum) } else { (0.0, s.lr) };
    walk(value, grad, [buf], move |w, g, [b]| {
        let d = decayed(w, g);
        let old = if s.first { 0.0 } else { s.momentum * b };
        let b = old + own * d;
        (w - (direct * d + through * b), [b])
    });
}
