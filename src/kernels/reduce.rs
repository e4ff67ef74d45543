//! Sums in a fixed order, and the vector operations of optimizers.

use super::isa::multiversion;
use super::{Elem, par};
use rayon::prelude::*;

/// Elements that one partial sum covers.
const PART: usize = 1 << 15;

multiversion! {
    /// The sum, in f32 over 64 lanes within a block of 4096 and in f64 over the blocks.
    pub(super) fn sum_part(x: &[Elem]) -> f64 {
        if x.len() < 64 {
            return x.iter().map(|&v| v as f64).sum();
        }
        let mut total = 0.0;
        for block in x.chunks(4096) {
            let mut lanes = [0.0; 64];
            let mut chunks = block.chunks_exact(64);
            for chunk in &mut chunks {
                for l in 0..64 {
                    lanes[l] += chunk[l];
                }
            }
            for (l, v) in lanes.iter_mut().zip(chunks.remainder()) {
                *l += *v;
            }
            for half in [32, 16, 8] {
                for l in 0..half {
                    lanes[l] += lanes[l + half];
                }
            }
            total += lanes[..8].iter().map(|&l| l as f64).sum::<f64>();
        }
        total
    }
}

multiversion! {
    fn dot_part(x: &[Elem], y: &[Elem]) -> f64 {
        let mut lanes = [0.0f64; 32];
        let (mut a, mut b) = (x.chunks_exact(32), y.chunks_exact(32));
        for (a, b) in (&mut a).zip(&mut b) {
            for l in 0..32 {
                lanes[l] += a[l] as f64 * b[l] as f64;
            }
        }
        for (a, b) in a.remainder().iter().zip(b.remainder()) {
            lanes[0] += *a as f64 * *b as f64;
        }
        lanes.iter().sum()
    }
}

/// The sum of all elements' squares, in f64, in parts of fixed size.
pub fn sum_squares(x: &[Elem]) -> f64 {
    dot(x, x)
}

/// The inner product, in f64, in parts of fixed size.
pub fn dot(x: &[Elem], y: &[Elem]) -> f64 {
    assert_eq!(x.len(), y.len());
    if x.len() <= PART {
        return dot_part(x, y);
    }
    let parts: Vec<f64> = x.par_chunks(PART).zip(y.par_chunks(PART)).map(|(x, y)| dot_part(x, y)).collect();
    parts.iter().sum()
}

multiversion! {
    fn scale_part(a: Elem, x: &mut [Elem]) {
        for v in x {
            *v *= a;
        }
    }
}

multiversion! {
    fn axpy_part(a: Elem, x: &[Elem], y: &mut [Elem]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += a * *x;
        }
    }
}

multiversion! {
    /// Adds the columns from `first` on of the rows of `x` to `out`, four rows at a time.
    fn add_rows(cols: usize, first: usize, x: &[Elem], out: &mut [Elem]) {
        let n = out.len();
        let mut fours = x.chunks_exact(4 * cols);
        for four in &mut fours {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| &four[i * cols + first..][..n]);
            for j in 0..n {
                out[j] += (a[j] + b[j]) + (c[j] + d[j]);
            }
        }
        for row in fours.remainder().chunks_exact(cols) {
            for (o, v) in out.iter_mut().zip(&row[first..]) {
                *o += *v;
            }
        }
    }
}

multiversion! {
    fn add_part(a: &[Elem], b: &[Elem], out: &mut [Elem]) {
        for (o, (a, b)) in out.iter_mut().zip(a.iter().zip(b)) {
            *o = *a + *b;
        }
    }
}

/// `x *= a`.
pub fn scale(a: Elem, x: &mut [Elem]) {
    par::each(x, |x| scale_part(a, x));
}

/// `y += a * x`.
pub fn axpy(a: Elem, x: &[Elem], y: &mut [Elem]) {
    par::zip(x, y, |x, y| axpy_part(a, x, y));
}

/// `out = a + b`.
pub fn add(a: &[Elem], b: &[Elem], out: &mut [Elem]) {
    assert!(a.len() == out.len() && b.len() == out.len());
    const BLOCK: usize = 1 << 14;
    par::rows(1, BLOCK, out, |i, out| add_part(&a[i..], &b[i..], out));
}

/// `y += x`.
pub fn add_assign(x: &[Elem], y: &mut [Elem]) {
    axpy(1.0, x, y);
}

/// `out[j] = beta * out[j] + sum over i of x[i, j]` for an `out.len()`-column matrix: the bias gradient of a linear layer.
pub fn col_sums(x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(if out.is_empty() { x.is_empty() } else { x.len().is_multiple_of(out.len()) });
    start(beta, out);
    let cols = out.len();
    if x.len() <= 1 << 17 {
        return add_rows(cols.max(1), 0, x, out);
    }
    // Columns in pieces of a few cache lines; each piece walks down all rows.
    out.par_chunks_mut(64).enumerate().for_each(|(i, out)| add_rows(cols, i * 64, x, out));
}

/// `out[i] = beta * out[i] + sum over j of x[i, j]` for an `out.len()`-row matrix.
pub fn row_sums(x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(if out.is_empty() { x.is_empty() } else { x.len().is_multiple_of(out.len()) });
    let cols = x.len() / out.len().max(1);
    start(beta, out);
    let one = |(i, o): (usize, &mut Elem)| *o += sum_part(&x[i * cols..][..cols]) as Elem;
    if x.len() <= 1 << 17 {
        out.iter_mut().enumerate().for_each(one);
    } else {
        out.par_iter_mut().with_min_len(16).enumerate().for_each(one);
    }
}

/// `out[c] = beta * out[c] + sum over n and i of x[n, c, i]`: the bias gradient of a convolution.
pub fn channel_sums(n: usize, c: usize, inner: usize, x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(x.len() == n * c * inner && out.len() == c);
    if inner == 1 {
        return col_sums(x, beta, out);
    }
    start(beta, out);
    let one = |(i, o): (usize, &mut Elem)| {
        *o += (0..n).map(|n| sum_part(&x[(n * c + i) * inner..][..inner])).sum::<f64>() as Elem;
    };
    if x.len() <= 1 << 17 {
        out.iter_mut().enumerate().for_each(one);
    } else {
        out.par_iter_mut().enumerate().for_each(one);
    }
}

/// `beta * out`, without reading `out` for `beta = 0`.
pub(super) fn start(beta: Elem, out: &mut [Elem]) {
    if beta == 0.0 {
        out.fill(0.0);
    } else {
        scale(beta, out);
    }
}
