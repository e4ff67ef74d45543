//! The right operand of several products.

use super::bf16::pack_right;
use super::epilogue::{Epilogue, EpilogueOp};
use super::matrix::{Mat, MatMut};
use super::product::{Product, check, precision_of};
use crate::base::{Elem, is_shapes_only};
use crate::kernels::bf16::Bf16Scratch;
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::precision::{Precision, precision};

/// A matrix that several products have on their right, such as the weights of the state in all steps of a recurrent
/// layer: where they are in bf16, it is rounded and packed once.
pub(crate) struct RightOperand<'a> {
    b: Mat<'a>,
    packed: Option<Bf16Scratch>,
}

impl<'a> RightOperand<'a> {
    /// For products with left operands of `rows` rows, in the precision that this thread has now.
    pub fn new(b: Mat<'a>, rows: usize) -> Self {
        b.check();
        let in_bf16 = precision_of(precision(), rows, b.rows, b.cols) == Precision::Bf16
            && bf16_isa() > Bf16Isa::Portable
            && !is_shapes_only();
        Self { b, packed: in_bf16.then(|| pack_right(b)) }
    }

    /// `c = act(a * b + beta * c + bias)`, as [`gemm`](super::gemm) has it.
    pub fn product(&self, a: Mat<'_>, beta: Elem, c: MatMut<'_>, epilogue: Epilogue<'_>) {
        check(&a, &self.b, &c, &epilogue.bias);
        let op = EpilogueOp::Act(epilogue.act);
        Product::new(1.0, beta, epilogue.bias, op).run_packed(a, self.b, self.packed.as_deref(), c);
    }
}
