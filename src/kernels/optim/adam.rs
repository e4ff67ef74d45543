//! The Adam update in one pass over value, gradient and running means.

use super::walk;
use crate::base::Elem;

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
/// `value = value * shrink - rate * m / (√s / scale2 + eps)`. With `largest` its running maximum takes the place of `s`
/// in the denominator: AMSGrad.
pub fn adam(
    step: &AdamStep,
    value: &mut [Elem],
    grad: &[Elem],
    mean: &mut [Elem],
    square: &mut [Elem],
    largest: Option<&mut [Elem]>,
) {
    let k = *step;
    let means = move |w: Elem, g: Elem, m: Elem, s: Elem| {
        let g = g + k.decay * w;
        (m + k.new1 * (g - m), k.beta2 * s + k.new2 * g * g)
    };
    let moved = move |w: Elem, m: Elem, s: Elem| w * k.shrink - k.rate * m / (s.sqrt() / k.scale2 + k.eps);
    match largest {
        None => walk(value, grad, [mean, square], move |w, g, [m, s]| {
            let (m, s) = means(w, g, m, s);
            (moved(w, m, s), [m, s])
        }),
        Some(largest) => walk(value, grad, [mean, square, largest], move |w, g, [m, s, most]| {
            let (m, s) = means(w, g, m, s);
            // A NaN is kept, as PyTorch's `maximum` keeps it.
            let most = if s > most || s.is_nan() { s } else { most };
            (moved(w, m, most), [m, s, most])
        }),
    }
}
