//! The rectifier whose slope is learnt, one for each channel or one for all.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::par;

/// Elements of one task.
const BLOCK: usize = 1 << 14;

multiversion! {
    fn same_slope(slope: Elem, x: &[Elem], y: &mut [Elem]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = if x > 0.0 { *y } else { slope * *y };
        }
    }
}

multiversion! {
    fn own_slopes(slopes: &[Elem], x: &[Elem], y: &mut [Elem]) {
        for ((y, &x), &slope) in y.iter_mut().zip(x).zip(slopes) {
            *y = if x > 0.0 { *y } else { slope * *y };
        }
    }
}

multiversion! {
    fn terms_chunk(x: &[Elem], dy: &mut [Elem]) {
        for (d, &x) in dy.iter_mut().zip(x) {
            *d = if x > 0.0 { 0.0 } else { *d * x };
        }
    }
}

/// `y = x` where positive, else the slope of its channel times x; x is [.., slopes, inner].
pub fn prelu(slopes: &[Elem], inner: usize, x: &[Elem], y: &mut [Elem]) {
    y.copy_from_slice(x);
    prelu_backward(slopes, inner, x, y);
}

/// `dy *= slope` where x is not positive.
pub fn prelu_backward(slopes: &[Elem], inner: usize, x: &[Elem], dy: &mut [Elem]) {
    assert!(x.len() == dy.len() && x.len().is_multiple_of((slopes.len() * inner).max(1)));
    if let [slope] = slopes {
        return par::zip(x, dy, |x, dy| same_slope(*slope, x, dy));
    }
    // Rows of one slope each, or of one slope an element.
    let row = if inner > 1 { inner } else { slopes.len() }.max(1);
    let block = (BLOCK / row).max(1);
    par::rows(row, block, dy, |first, dy| {
        let rows = dy.chunks_exact_mut(row).zip(x[first * row..].chunks_exact(row));
        for (i, (dy, x)) in rows.enumerate() {
            if inner > 1 {
                same_slope(slopes[(first + i) % slopes.len()], x, dy);
            } else {
                own_slopes(slopes, x, dy);
            }
        }
    });
}

/// `dy *= x` where x is not positive, else 0: what each element adds to the gradient of its slope.
pub fn prelu_slope_terms(x: &[Elem], dy: &mut [Elem]) {
    par::zip(x, dy, terms_chunk);
}
