//! The products that layers ask for, and in which precision they are computed.
#![allow(unsafe_code)]

use super::bf16::{Bf16Product, KC, is_serial};
use super::blocked::Blocked;
use super::epilogue::{Bias, Epilogue, EpilogueOp, LayerEpilogue};
use super::matrix::{FullMat, Mat, MatMut};
use super::rounded::rounded;
use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::{Act, act_inplace, add_assign};
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::number::{Number, Numbers, NumbersMut, bf16, narrow};
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
    pub fn new(alpha: Elem, beta: Elem, bias: Bias<'a>, op: EpilogueOp<'a>) -> Self {
        Self { alpha, beta, bias, op }
    }

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
        assert!(self.beta == 0.0 || matches!(c.data, NumbersMut::Full(_)), "what is in bf16 is not added to");
        let in_tiles = precision == Precision::Bf16 && bf16_isa() > Bf16Isa::Portable;
        let MatMut { data, rows, cols, rs } = c;
        match data {
            NumbersMut::Half(half) if !in_tiles || a.cols > KC => {
                let mut full = Scratch::take(half.len());
                let c = MatMut { data: NumbersMut::Full(&mut full), rows, cols, rs };
                self.compute(precision, a, b, packed_b, c, serial);
                narrow(&full, half);
            }
            NumbersMut::Full(data) if !in_tiles => {
                // Without instructions for them, rounded operands are multiplied as others are.
                let (mut to_a, mut to_b) = (None, None);
                let a = in_full(precision, a, &mut to_a, serial);
                let b = in_full(precision, b, &mut to_b, serial);
                Blocked::new(self, a, b, data, rs).run(serial);
            }
            data => Bf16Product::new(self, a, b, packed_b, MatMut { data, rows, cols, rs }).run(serial),
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
                self.follow(c, [i, cols.start], rs_c);
            }
        }
    }

    /// Applies what follows the sums to a piece of row `i` of C that starts at column `j`.
    ///
    /// # Safety
    /// No other thread may touch this piece of C, or of what lies as C does.
    pub unsafe fn follow(&self, c: &mut [Elem], [i, j]: [usize; 2], rs_c: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            self.op.apply(&self.bias, c, [i, j], rs_c);
        }
    }
}

/// The elements of `mat` in full, rounded to `precision`: as they are, or in a copy.
fn in_full<'a>(
    precision: Precision,
    mat: Mat<'a>,
    copy: &'a mut Option<Scratch>,
    serial: bool,
) -> FullMat<'a> {
    let Mat { data, rows, cols, rs, cs } = mat;
    if let (Precision::Full, Numbers::Full(data)) = (precision, data) {
        return FullMat { data, rows, cols, rs, cs };
    }
    rounded(precision, mat, copy.insert(Scratch::take(rows * cols)), serial)
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
    Product::new(alpha, beta, Bias::None, EpilogueOp::Act(Act::Identity))
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
    Product::new(alpha, beta, epilogue.bias, EpilogueOp::Act(epilogue.act)).run(a, b, c);
}

/// `c = a * b + bias + more`, where `more` lies as `c` does: a linear layer at the end of a residual branch.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_add(a: Mat<'_>, b: Mat<'_>, bias: Bias<'_>, more: &[Elem], c: MatMut<'_>) {
    check(&a, &b, &c, &bias);
    assert_eq!(more.len(), c.data.len(), "what is added to a product lies as the product does");
    Product::new(1.0, 0.0, bias, EpilogueOp::Add(more)).run(a, b, c);
}

/// `y = act(x wᵀ * scale + bias + residual)`: `x` [rows, in], `w` [out, in], `y` without gaps.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn linear(x: Mat<'_>, w: Mat<'_>, then: LayerEpilogue<'_>, y: MatMut<'_>) {
    let bias = then.bias.map_or(Bias::None, Bias::Cols);
    if then.scale.is_none() && then.residual.is_none() {
        return gemm(1.0, x, w.t(), 0.0, y, Epilogue { bias, act: then.act });
    }
    let MatMut { data, rows, cols, rs } = y;
    let data = Elem::all_mut(data);
    let to = MatMut { data: NumbersMut::Full(&mut *data), rows, cols, rs };
    match (then.scale, then.residual) {
        (None, None) => {}
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
    Product::new(1.0, 0.0, Bias::None, EpilogueOp::Mul(factor)).run(a, b, c);
}

/// `c = gelu(a * b + bias)`, with one number of `bias` a column; `slope`, which lies as `c` does, becomes the
/// derivative of each element.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_gelu(a: Mat<'_>, b: Mat<'_>, bias: &[Elem], c: MatMut<'_>, slope: &mut [Elem]) {
    assert_eq!(slope.len(), c.data.len(), "the slope of a product lies as the product does");
    gelu(a, b, bias, c, EpilogueOp::Gelu(DisjointMut::from(slope)));
}

/// `c = gelu(sum)` of `sum = a * b + bias`, rounded to bf16 before, which lies as `c` does: what a way back finds both
/// the values and the slopes from, by [`gelu_halves`](crate::kernels::gelu_halves) and [`gemm_gelu_slope`].
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_gelu_of_half(a: Mat<'_>, b: Mat<'_>, bias: &[Elem], c: MatMut<'_>, sum: &mut [bf16]) {
    assert_eq!(sum.len(), c.data.len(), "the sums of a product lie as the product does");
    gelu(a, b, bias, c, EpilogueOp::GeluOfHalf(DisjointMut::from(sum)));
}

fn gelu(a: Mat<'_>, b: Mat<'_>, bias: &[Elem], c: MatMut<'_>, op: EpilogueOp<'_>) {
    let bias = Bias::Cols(bias);
    check(&a, &b, &c, &bias);
    Product::new(1.0, 0.0, bias, op).run(a, b, c);
}

/// `c = (a * b) ⊙ gelu'(sum)`, where `sum` lies as `c` does.
///
/// # Panics
/// If the shapes do not fit each other or their slices.
pub fn gemm_gelu_slope(a: Mat<'_>, b: Mat<'_>, sum: &[bf16], c: MatMut<'_>) {
    check(&a, &b, &c, &Bias::None);
    assert_eq!(sum.len(), c.data.len(), "the sums of a product lie as the product does");
    Product::new(1.0, 0.0, Bias::None, EpilogueOp::MulSlope(sum)).run(a, b, c);
}
