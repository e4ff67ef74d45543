//! The products that layers ask for.

use super::blocked::Product;
use super::epilogue::{Bias, Epilogue, EpilogueOp, LayerEpilogue};
use super::matrix::{Mat, MatMut};
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::{act_inplace, add_assign};

/// Panics if the shapes do not fit each other or their slices.
fn check(a: &Mat<'_>, b: &Mat<'_>, c: &MatMut<'_>, bias: &Bias<'_>) {
    assert!(
        a.rows == c.rows && b.rows == a.cols && b.cols == c.cols,
        "shapes of a matrix product do not fit"
    );
    a.check();
    b.check();
    c.check();
    bias.check(c.rows, c.cols);
}

/// `c = act(alpha * a * b + beta * c + bias)`.
///
/// With `beta = 0` the old `c` is not read. An inner size of 0 is a product of zeros.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm(alpha: Elem, a: Mat<'_>, b: Mat<'_>, beta: Elem, c: MatMut<'_>, epilogue: Epilogue<'_>) {
    check(&a, &b, &c, &epilogue.bias);
    Product { alpha, beta, bias: epilogue.bias, op: EpilogueOp::Act(epilogue.act) }.run(a, b, c);
}

/// `c = a * b + bias + more`, where `more` lies as `c` does: a linear layer at the end of a residual branch.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_add(a: Mat<'_>, b: Mat<'_>, bias: Bias<'_>, more: &[Elem], c: MatMut<'_>) {
    check(&a, &b, &c, &bias);
    assert_eq!(more.len(), c.data.len(), "what is added to a product lies as the product does");
    Product { alpha: 1.0, beta: 0.0, bias, op: EpilogueOp::Add(more) }.run(a, b, c);
}

/// `y = act(x wᵀ * scale + bias + residual)`: `x` [rows, in], `w` [out, in], `y` without gaps.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn linear(x: Mat<'_>, w: Mat<'_>, then: LayerEpilogue<'_>, y: MatMut<'_>) {
    let bias = then.bias.map_or(Bias::None, Bias::Cols);
    let MatMut { data, rows, cols, rs } = y;
    let to = MatMut { data: &mut *data, rows, cols, rs };
    match (then.scale, then.residual) {
        (None, None) => return gemm(1.0, x, w.t(), 0.0, to, Epilogue { bias, act: then.act }),
        (None, Some(residual)) => gemm_add(x, w.t(), bias, residual, to),
        (Some(scale), residual) => {
            assert_eq!(scale.len(), cols, "one factor a column");
            gemm(1.0, x, w.t(), 0.0, to, Epilogue::default());
            let added = |c: usize| then.bias.map_or(0.0, |bias| bias[c]);
            for row in data.chunks_exact_mut(cols.max(1)) {
                row.iter_mut().zip(scale).enumerate().for_each(|(c, (v, s))| *v = *v * s + added(c));
            }
            if let Some(residual) = residual {
                add_assign(residual, data);
            }
        }
    }
    act_inplace(then.act, data);
}

/// `c = (a * b) ⊙ factor`, element by element, where `factor` lies as `c` does: the gradient before an activation.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_mul(a: Mat<'_>, b: Mat<'_>, factor: &[Elem], c: MatMut<'_>) {
    check(&a, &b, &c, &Bias::None);
    assert_eq!(factor.len(), c.data.len(), "what a product is multiplied with lies as the product does");
    Product { alpha: 1.0, beta: 0.0, bias: Bias::None, op: EpilogueOp::Mul(factor) }.run(a, b, c);
}

/// `c = gelu(a * b + bias)`, with one number of `bias` a column; `slope`, which lies as `c` does, becomes the
/// derivative of each element.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_gelu(a: Mat<'_>, b: Mat<'_>, bias: &[Elem], c: MatMut<'_>, slope: &mut [Elem]) {
    let bias = Bias::Cols(bias);
    check(&a, &b, &c, &bias);
    assert_eq!(slope.len(), c.data.len(), "the slope of a product lies as the product does");
    Product { alpha: 1.0, beta: 0.0, bias, op: EpilogueOp::Gelu(DisjointMut::from(slope)) }.run(a, b, c);
}
