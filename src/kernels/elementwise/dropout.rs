//! Dropout, given what to keep.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::par;

multiversion! {
    fn dropout_chunk(scale: Elem, keep: &[u8], x: &mut [Elem]) {
        for (x, &k) in x.iter_mut().zip(keep) {
            *x = if k != 0 { *x * scale } else { 0.0 };
        }
    }
}

/// `y = x * scale` where `keep` is not 0, else 0; `scale` is `1 / (1 - p)`. The backward pass is [`dropout_inplace`].
pub fn dropout(keep: &[u8], scale: Elem, x: &[Elem], y: &mut [Elem]) {
    y.copy_from_slice(x);
    dropout_inplace(keep, scale, y);
}

/// [`dropout`] in place, of values or of a gradient.
pub fn dropout_inplace(keep: &[u8], scale: Elem, x: &mut [Elem]) {
    par::zip(keep, x, |keep, x| dropout_chunk(scale, keep, x));
}
