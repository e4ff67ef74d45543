//! The Adam update in one pass over value, gradient and both running means.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use rayon::prelude::*;

/// Elements of one task: four streams of 128 KiB.
const PART: usize = 1 << 15;

/// The numbers of one update. What is a difference from one comes as it is: `1 - 0.999` in f32 is 0.0010000467.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate over the bias correction of the mean.
    pub rate: Elem,
    /// 1 - β₁.
    pub new1: Elem,
    /// β₂.
    pub beta2: Elem,
    /// 1 - β₂.
    pub new2: Elem,
    /// Root of the bias correction of the mean square.
    pub scale2: Elem,
    /// Added to the denominator.
    pub eps: Elem,
    /// L2 penalty, added to the gradient.
    pub decay: Elem,
    /// What the value is multiplied by first: decoupled weight decay.
    pub shrink: Elem,
}

/// `g = grad + decay * value; m += new1 * (g - m); s = beta2 * s + new2 * g²`;
/// `value = value * shrink - rate * m / (√s / scale2 + eps)`.
pub fn adam(step: &AdamStep, value: &mut [Elem], grad: &[Elem], mean: &mut [Elem], square: &mut [Elem]) {
    assert!(value.len() == grad.len() && value.len() == mean.len() && value.len() == square.len());
    if value.len() <= PART {
        return part(step, value, grad, mean, square);
    }
    let values = value.par_chunks_mut(PART).zip(grad.par_chunks(PART));
    let state = mean.par_chunks_mut(PART).zip(square.par_chunks_mut(PART));
    values.zip(state).for_each(|((v, g), (m, s))| part(step, v, g, m, s));
}

multiversion! {
    fn part(step: &AdamStep, value: &mut [Elem], grad: &[Elem], mean: &mut [Elem], square: &mut [Elem]) {
        let k = *step;
        for (((v, g), m), s) in value.iter_mut().zip(grad).zip(mean).zip(square) {
            let g = g + k.decay * *v;
            *m += k.new1 * (g - *m);
            *s = k.beta2 * *s + k.new2 * g * g;
            *v = *v * k.shrink - k.rate * *m / (s.sqrt() / k.scale2 + k.eps);
        }
    }
}
