//! The Muon update: momentum, made orthogonal.

use super::walk;
use crate::base::Elem;
use crate::kernels::reduce::sum_squares;
use crate::kernels::scratch::Scratch;
use crate::kernels::{Epilogue, Mat, MatMut, gemm};

/// The numbers of one update of a matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MuonStep {
    /// Rows and columns.
    pub shape: (usize, usize),
    /// Learning rate, adjusted to the shape.
    pub rate: Elem,
    /// What the value is multiplied by first: decoupled weight decay.
    pub shrink: Elem,
    /// μ.
    pub momentum: Elem,
    /// 1 - μ.
    pub new: Elem,
    /// Look ahead along the momentum.
    pub nesterov: bool,
    /// Coefficients of the Newton-Schulz polynomial `a x + b x³ + c x⁵`.
    pub coefficients: [Elem; 3],
    /// How often the polynomial is applied.
    pub iterations: usize,
    /// Smallest norm that the update is divided by.
    pub eps: Elem,
}

/// `m += (1 - μ) (g - m)`; `u = nesterov ? g + μ (m - g) : m`; `value = value * shrink - rate * orthogonal(u)`.
///
/// # Panics
/// When the slices are no matrices of this shape.
pub fn muon(step: &MuonStep, value: &mut [Elem], grad: &[Elem], momentum: &mut [Elem]) {
    let k = *step;
    assert_eq!(value.len(), k.shape.0 * k.shape.1);
    let mut update = Scratch::take(value.len());
    walk(&mut update, grad, [momentum], move |_, g, [m]| {
        let m = m + k.new * (g - m);
        (if k.nesterov { g + k.momentum * (m - g) } else { m }, [m])
    });
    orthogonalize(step, &mut update);
    walk(value, &update, [], move |w, u, []| (w * k.shrink - k.rate * u, []));
}

/// Brings all singular values of a matrix near 1: `x = a x + (b g + c g²) x` with `g = x xᵀ`, some times; the
/// products are those of the smaller side.
fn orthogonalize(step: &MuonStep, x: &mut [Elem]) {
    let ((rows, cols), [a, b, c]) = (step.shape, step.coefficients);
    let norm = (sum_squares(x).sqrt() as Elem).max(step.eps);
    x.iter_mut().for_each(|v| *v /= norm);
    let n = rows.min(cols);
    let (mut gram, mut poly, mut next) = (Scratch::take(n * n), Scratch::take(n * n), Scratch::take(x.len()));
    for _ in 0..step.iterations {
        let wide = Mat::new(&*x, rows, cols);
        let (left, right) = if rows <= cols { (wide, wide.t()) } else { (wide.t(), wide) };
        gemm(1.0, left, right, 0.0, MatMut::new(&mut gram, n, n), Epilogue::default());
        poly.copy_from_slice(&gram);
        let square = Mat::new(&gram, n, n);
        gemm(c, square, square, b, MatMut::new(&mut poly, n, n), Epilogue::default());
        next.copy_from_slice(x);
        let poly = Mat::new(&poly, n, n);
        let (left, right) = if rows <= cols { (poly, wide) } else { (wide, poly) };
        gemm(1.0, left, right, a, MatMut::new(&mut next, rows, cols), Epilogue::default());
        x.copy_from_slice(&next);
    }
}
