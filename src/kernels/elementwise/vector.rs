//! The vector operations of gradients and optimizers.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::par;

multiversion! {
    fn scale_chunk(a: Elem, x: &mut [Elem]) {
        for v in x {
            *v *= a;
        }
    }
}

multiversion! {
    fn axpy_chunk(a: Elem, x: &[Elem], y: &mut [Elem]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * *x;
        }
    }
}

multiversion! {
    fn add_chunk(a: &[Elem], b: &[Elem], out: &mut [Elem]) {
        for (o, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *o = *a + *b;
        }
    }
}

/// `x *= a`.
pub fn scale(a: Elem, x: &mut [Elem]) {
    par::each(x, |x| scale_chunk(a, x));
}

/// `y += a * x`.
pub fn axpy(a: Elem, x: &[Elem], y: &mut [Elem]) {
    par::zip(x, y, |x, y| axpy_chunk(a, x, y));
}

/// `out = a + b`.
pub fn add(a: &[Elem], b: &[Elem], out: &mut [Elem]) {
    assert!(a.len() == out.len() && b.len() == out.len());
    const BLOCK: usize = 1 << 14;
    par::rows(1, BLOCK, out, |i, out| add_chunk(&a[i..], &b[i..], out));
}

/// `y += x`.
pub fn add_assign(x: &[Elem], y: &mut [Elem]) {
    axpy(1.0, x, y);
}
