//! The SGD update in one pass over value, gradient and momentum buffer.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use rayon::prelude::*;

/// Elements of one task: three streams of 128 KiB, which fit a second-level cache.
const PART: usize = 1 << 15;

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
    assert_eq!(value.len(), grad.len());
    match buf {
        None => {
            if value.len() <= PART {
                return plain(step, value, grad);
            }
            value.par_chunks_mut(PART).zip(grad.par_chunks(PART)).for_each(|(v, g)| plain(step, v, g));
        }
        Some(buf) => {
            assert_eq!(value.len(), buf.len());
            if value.len() <= PART {
                return with_momentum(step, value, grad, buf);
            }
            let parts = value.par_chunks_mut(PART).zip(grad.par_chunks(PART)).zip(buf.par_chunks_mut(PART));
            parts.for_each(|((v, g), b)| with_momentum(step, v, g, b));
        }
    }
}

multiversion! {
    fn plain(step: &SgdStep, value: &mut [Elem], grad: &[Elem]) {
        let s = *step;
        for (v, g) in value.iter_mut().zip(grad) {
            *v -= s.lr * (s.grad_scale * *g + s.weight_decay * *v);
        }
    }
}

multiversion! {
    fn with_momentum(step: &SgdStep, value: &mut [Elem], grad: &[Elem], buf: &mut [Elem]) {
        let s = *step;
        // As factors, so that one loop serves the first step, Nesterov and the plain case.
        let own = if s.first { 1.0 } else { s.entering };
        let (direct, through) = if s.nesterov { (s.lr, s.lr * s.momentum) } else { (0.0, s.lr) };
        for ((v, g), b) in value.iter_mut().zip(grad).zip(buf) {
            let d = s.grad_scale * *g + s.weight_decay * *v;
            let old = if s.first { 0.0 } else { s.momentum * *b };
            *b = old + own * d;
            *v -= direct * d + through * *b;
        }
    }
}
