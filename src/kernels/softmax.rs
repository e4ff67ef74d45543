//! Softmax and its logarithm over the rows of a matrix.

use super::isa::multiversion;
use super::math::exp;
use super::par;
use super::reduce::Lanes;
use crate::base::Elem;

/// Rows of one task.
const BLOCK: usize = 64;
/// Lanes of a sum or maximum over a row: an AVX-512 register.
const LANES: usize = 16;

/// `y[i, ..] = softmax(x[i, ..])` for rows of `k`. A row of minus infinities becomes zeros.
pub fn softmax(k: usize, x: &[Elem], y: &mut [Elem]) {
    check(k, x, y);
    par::rows(k, BLOCK, y, |i, y| {
        for (x, y) in x[i * k..].chunks_exact(k).zip(y.chunks_exact_mut(k)) {
            softmax_row(x, y);
        }
    });
}

fn check(k: usize, x: &[Elem], y: &[Elem]) {
    assert!(
        x.len() == y.len() && if k == 0 { x.is_empty() } else { x.len().is_multiple_of(k) },
        "rows of {k}"
    );
}

/// `dy = y * (dy - sum(y * dy))`, row by row, `y` being the softmax.
pub fn softmax_backward(k: usize, y: &[Elem], dy: &mut [Elem]) {
    check(k, y, dy);
    par::rows(k, BLOCK, dy, |i, dy| {
        for (y, dy) in y[i * k..].chunks_exact(k).zip(dy.chunks_exact_mut(k)) {
            let s: Elem = y.iter().zip(&*dy).map(|(y, d)| y * d).sum();
            dy.iter_mut().zip(y).for_each(|(d, y)| *d = y * (*d - s));
        }
    });
}

/// `y[i, ..] = x[i, ..] - log sum exp(x[i, ..])`. A row of minus infinities stays so.
pub fn log_softmax(k: usize, x: &[Elem], y: &mut [Elem]) {
    check(k, x, y);
    par::rows(k, BLOCK, y, |i, y| {
        for (x, y) in x[i * k..].chunks_exact(k).zip(y.chunks_exact_mut(k)) {
            let lse = softmax_row(x, y);
            y.iter_mut().zip(x).for_each(|(y, x)| *y = lse.log_of(*x));
        }
    });
}

/// `dy = dy - exp(y) * sum(dy)`, row by row, `y` being the log-softmax.
pub fn log_softmax_backward(k: usize, y: &[Elem], dy: &mut [Elem]) {
    check(k, y, dy);
    par::rows(k, BLOCK, dy, |i, dy| {
        for (y, dy) in y[i * k..].chunks_exact(k).zip(dy.chunks_exact_mut(k)) {
            let s: Elem = dy.iter().sum();
            dy.iter_mut().zip(y).for_each(|(d, y)| *d -= exp(*y) * s);
        }
    });
}

/// The logarithm of a sum of exponentials, in two parts: where the values are large their sum would round the second
/// away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LogSumExp {
    /// The largest value.
    pub max: Elem,
    /// `ln(sum(exp(x - max)))`, between 0 and the logarithm of the number of values.
    pub rest: Elem,
}

impl LogSumExp {
    /// The logarithm of the softmax at `x`; minus infinity if all values are.
    pub fn log_of(self, x: Elem) -> Elem {
        if self.is_empty() { Elem::NEG_INFINITY } else { (x - self.max) - self.rest }
    }

    /// Whether all values are minus infinity. Where one is NaN this is false: the result must be NaN.
    pub fn is_empty(self) -> bool {
        self.sum() == Elem::NEG_INFINITY
    }

    /// Both parts in one number.
    pub fn sum(self) -> Elem {
        self.max + self.rest
    }
}

/// Writes the softmax of `x` to `y`, returns the log of the sum of exponentials.
pub(super) fn softmax_row(x: &[Elem], y: &mut [Elem]) -> LogSumExp {
    y.copy_from_slice(x);
    softmax_inplace(y)
}

multiversion! {
    /// [`softmax_row`] of a row in place.
    pub(super) fn softmax_inplace(y: &mut [Elem]) -> LogSumExp {
        let mut top = [Elem::NEG_INFINITY; LANES];
        let (blocks, rest) = y.as_chunks::<LANES>();
        for block in blocks {
            for l in 0..LANES {
                top[l] = if block[l] > top[l] { block[l] } else { top[l] };
            }
        }
        for (t, v) in top.iter_mut().zip(rest) {
            *t = if *v > *t { *v } else { *t };
        }
        let mut n = LANES;
        while n > 1 {
            n /= 2;
            for l in 0..n {
                top[l] = if top[l + n] > top[l] { top[l + n] } else { top[l] };
            }
        }
        let max = top[0];
        if max == Elem::NEG_INFINITY && !y.iter().any(|v| v.is_nan()) {
            for v in y {
                *v = 0.0;
            }
            return LogSumExp { max, rest: 0.0 };
        }
        let mut sums = Lanes::<LANES>::ZERO;
        let (blocks, rest) = y.as_chunks_mut::<LANES>();
        for block in blocks {
            for l in 0..LANES {
                block[l] = exp(block[l] - max);
                sums.0[l] += block[l];
            }
        }
        for (s, v) in sums.0.iter_mut().zip(rest) {
            *v = exp(*v - max);
            *s += *v;
        }
        let sum = sums.sum();
        let inverse = 1.0 / sum;
        for v in y {
            *v *= inverse;
        }
        LogSumExp { max, rest: sum.ln() }
    }
}
