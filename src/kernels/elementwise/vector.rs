//! The vector operations of gradients and optimizers.

use std::sync::atomic::{AtomicBool, Ordering};

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
    fn unscale_chunk(a: Elem, x: &mut [Elem]) -> bool {
        // A finite number times zero is a zero; sums of those in any order are zeros.
        let mut zeros = [0.0; 32];
        let mut chunks = x.chunks_exact_mut(32);
        for chunk in &mut chunks {
            for l in 0..32 {
                chunk[l] *= a;
                zeros[l] += chunk[l] * 0.0;
            }
        }
        for (zero, v) in zeros.iter_mut().zip(chunks.into_remainder()) {
            *v *= a;
            *zero += *v * 0.0;
        }
        zeros.iter().all(|zero| *zero == 0.0)
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

/// `x *= a`; whether all of it is finite afterwards.
pub fn unscale(a: Elem, x: &mut [Elem]) -> bool {
    let finite = AtomicBool::new(true);
    par::each(x, |x| {
        if !unscale_chunk(a, x) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
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
