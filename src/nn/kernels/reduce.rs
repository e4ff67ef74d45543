//! Sums in a fixed order, and the vector operations of optimizers.

use super::Elem;

/// The sum of all elements' squares, in f64: 16 partial sums, element i going to sum i mod 16.
pub fn sum_squares(x: &[Elem]) -> f64 {
    let mut lanes = [0.0f64; 16];
    for chunk in x.chunks(16) {
        lanes.iter_mut().zip(chunk).for_each(|(s, &v)| *s += v as f64 * v as f64);
    }
    lanes.iter().sum()
}

/// The inner product, in f64, summed like [`sum_squares`].
pub fn dot(x: &[Elem], y: &[Elem]) -> f64 {
    assert_eq!(x.len(), y.len());
    let mut lanes = [0.0f64; 16];
    for (a, b) in x.chunks(16).zip(y.chunks(16)) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(s, (&a, &b))| *s += a as f64 * b as f64);
    }
    lanes.iter().sum()
}

/// `x *= a`.
pub fn scale(a: Elem, x: &mut [Elem]) {
    x.iter_mut().for_each(|v| *v *= a);
}

/// `y += a * x`.
pub fn axpy(a: Elem, x: &[Elem], y: &mut [Elem]) {
    assert_eq!(x.len(), y.len());
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += a * x);
}

/// `out = a + b`.
pub fn add(a: &[Elem], b: &[Elem], out: &mut [Elem]) {
    assert!(a.len() == out.len() && b.len() == out.len());
    out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = a + b);
}

/// `y += x`.
pub fn add_assign(x: &[Elem], y: &mut [Elem]) {
    assert_eq!(x.len(), y.len());
    y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
}

/// `out[j] = beta * out[j] + sum over i of x[i, j]` for an `out.len()`-column matrix: the bias gradient of a linear layer.
pub fn col_sums(x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(if out.is_empty() { x.is_empty() } else { x.len().is_multiple_of(out.len()) });
    start(beta, out);
    for row in x.chunks_exact(out.len().max(1)) {
        out.iter_mut().zip(row).for_each(|(o, v)| *o += v);
    }
}

/// `out[i] = beta * out[i] + sum over j of x[i, j]` for an `out.len()`-row matrix.
pub fn row_sums(x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(if out.is_empty() { x.is_empty() } else { x.len().is_multiple_of(out.len()) });
    let cols = x.len() / out.len().max(1);
    start(beta, out);
    for (i, o) in out.iter_mut().enumerate() {
        *o += x[i * cols..][..cols].iter().sum::<Elem>();
    }
}

/// `out[c] = beta * out[c] + sum over n and i of x[n, c, i]`: the bias gradient of a convolution.
pub fn channel_sums(n: usize, c: usize, inner: usize, x: &[Elem], beta: Elem, out: &mut [Elem]) {
    assert!(x.len() == n * c * inner && out.len() == c);
    start(beta, out);
    for (plane, i) in (0..n * c).map(|i| (&x[i * inner..][..inner], i % c)) {
        out[i] += plane.iter().sum::<Elem>();
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
