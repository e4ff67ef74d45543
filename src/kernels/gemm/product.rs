//! The products that layers ask for, and in which precision they are computed.
#![allow(unsafe_code)]

use super::bf16::{Bf16Product, is_serial};
use super::blocked::Blocked;
use super::epilogue::{Bias, Epilogue, EpilogueOp, LayerEpilogue};
use super::matrix::{Mat, MatMut};
use super::rounded::rounded;
use crate::base::Elem;
use crate::kernels::bf16::bf16;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::{Act, act_inplace, add_assign};
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::par::{self, SERIAL_FLOPS};
use crate::kernels::precision::{Precision, precision};
use crate::kernels::scratch::Scratch;
use std::ops::Range;

/// Products of fewer multiplications stay in full precision: rounding the operands would take as long as it saves.
const ROUNDED_FROM: usize = 1 << 15;

/// `c = op(alpha * a * b + beta * c + bias)`, without the matrices.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub alpha: Elem,
    pub beta: Elem,
    pub bias: Bias<'a>,
    pub op: EpilogueOp<'a>,
}

impl<'a> Product<'a> {
    /// Computes `c` in the precision of this thread; the caller has checked the shapes.
    fn run(self, a: Mat<'a>, b: Mat<'a>, c: MatMut<'a>) {
        self.run_packed(a, b, None, c);
    }

    /// [`run`](Self::run), where B may be packed for bf16 already.
    pub fn run_packed(self, a: Mat<'_>, b: Mat<'_>, packed_b: Option<&[bf16]>, c: MatMut<'_>) {
        let precision = precision_of(precision(), c.rows, a.cols, c.cols);
        let serial = match precision {
            Precision::Bf16 => is_serial(c.rows, a.cols, c.cols),
            _ => 2 * c.rows * c.cols * a.cols < SERIAL_FLOPS,
        };
        if !par::left_out(serial) {
            self.compute(precision, a, b, packed_b, c, serial);
        }
    }

    fn compute(
        self,
        precision: Precision,
        a: Mat<'_>,
        b: Mat<'_>,
        packed_b: Option<&[bf16]>,
        c: MatMut<'_>,
        serial: bool,
    ) {
        if c.rows == 0 || c.cols == 0 {
            return;
        }
        match precision {
            Precision::Full => Blocked::new(self, a, b, c).run(serial),
            Precision::Bf16 if bf16_isa() > Bf16Isa::Portable => {
                Bf16Product::new(self, a, b, packed_b, c).run(serial);
            }
            // Without instructions for them, rounded operands are multiplied as others are.
            _ => {
                let (mut to_a, mut to_b) = (Scratch::take(a.rows * a.cols), Scratch::take(b.rows * b.cols));
                let a = rounded(precision, a, &mut to_a, serial);
                let b = rounded(precision, b, &mut to_b, serial);
                Blocked::new(self, a, b, c).run(serial);
            }
        }
    }

    /// Applies what follows the sums to columns `cols` of rows `rows` of C, whose rows lie `rs_c` apart.
    ///
    /// # Safety
    /// No other thread may touch these rows of these columns.
    pub unsafe fn finish(&self, c: DisjointMut<'_>, rs_c: usize, rows: Range<usize>, cols: Range<usize>) {
        if self.op.is_nothing(&self.bias) {
            return;
        }
        for i in rows {
            // SAFETY: the caller's promise.
            unsafe {
                let c = c.slice(i * rs_c + cols.start, cols.len());
                self.op.apply(&self.bias, c, [i, cols.start], rs_c);
            }
        }
    }
}

/// `wanted`, or full precision where a product is too small for another to pay: by its shape alone.
pub(super) fn precision_of(wanted: Precision, m: usize, k: usize, n: usize) -> Precision {
    if m * k * n < ROUNDED_FROM { Precision::Full } else { wanted }
}

/// `c = alpha * a * b + beta * c` on this thread: a small product inside of a task, whose caller has asked for the
/// precision.
pub(crate) fn gemm_serial(wanted: Precision, alpha: Elem, a: Mat<'_>, b: Mat<'_>, beta: Elem, c: MatMut<'_>) {
    debug_assert!(a.rows == c.rows && b.rows == a.cols && b.cols == c.cols);
    let precision = precision_of(wanted, c.rows, a.cols, c.cols);
    Product { alpha, beta, bias: Bias::None, op: EpilogueOp::Act(Act::Identity) }
        .compute(precision, a, b, None, c, true);
}

/// Panics if the shapes do not fit each other or their slices.
pub(super) fn check(a: &Mat<'_>, b: &Mat<'_>, c: &MatMut<'_>, bias: &Bias<'_>) {
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
