//! What happens to a block of C between the sums and memory: the bias, then one more operation.
#![allow(unsafe_code)]

use crate::base::Elem;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::elementwise::{Act, act_inplace, gelu};
use crate::kernels::isa::multiversion;
use crate::kernels::number::bf16;

/// What is added to a product before the activation.
#[derive(Debug, Clone, Copy, Default)]
pub enum Bias<'a> {
    /// Nothing.
    #[default]
    None,
    /// One number a column: a linear layer's outputs.
    Cols(&'a [Elem]),
    /// One number a row: a convolution's channels.
    Rows(&'a [Elem]),
}

/// What happens to a product on its way to memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added first.
    pub bias: Bias<'a>,
    /// Applied last.
    pub act: Act,
}

/// What follows the product of a layer, each on its way to memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerEpilogue<'a> {
    /// One factor a channel (a column of a linear map, a plane of a convolution), applied first.
    pub scale: Option<&'a [Elem]>,
    /// One number a channel, added next.
    pub bias: Option<&'a [Elem]>,
    /// Added to that; it lies as the output does.
    pub residual: Option<&'a [Elem]>,
    /// Applied last.
    pub act: Act,
}

impl Bias<'_> {
    /// Panics if there is not one number for each row or column.
    pub(super) fn check(&self, rows: usize, cols: usize) {
        match self {
            Self::Cols(v) => assert_eq!(v.len(), cols, "bias of a product: one number a column"),
            Self::Rows(v) => assert_eq!(v.len(), rows, "bias of a product: one number a row"),
            Self::None => {}
        }
    }
}

/// The operation that follows the bias. Its operands lie as C does.
#[derive(Clone, Copy)]
pub(super) enum EpilogueOp<'a> {
    /// The activation.
    Act(Act),
    /// The sum with this.
    Add(&'a [Elem]),
    /// The product with this, element by element.
    Mul(&'a [Elem]),
    /// GELU, whose derivative is written here.
    Gelu(DisjointMut<'a>),
    /// GELU of the sum rounded to bf16, which is written here.
    GeluOfHalf(DisjointMut<'a, bf16>),
    /// The product with the derivative of GELU at this.
    MulSlope(&'a [bf16]),
}

impl EpilogueOp<'_> {
    /// Whether C stays as it is.
    pub(super) fn is_nothing(&self, bias: &Bias<'_>) -> bool {
        matches!((bias, self), (Bias::None, Self::Act(Act::Identity)))
    }

    /// Applies `bias` and the operation to a piece of row `i` of C that starts at column `j`, with rows `rs_c` apart.
    ///
    /// # Safety
    /// No other thread may touch this piece of C, or of what lies as C does.
    pub(super) unsafe fn apply(&self, bias: &Bias<'_>, c: &mut [Elem], [i, j]: [usize; 2], rs_c: usize) {
        let at = i * rs_c + j;
        match (bias, self) {
            (Bias::Cols(bias), Self::Gelu(slope)) => {
                // SAFETY: the slope lies as C does, of which the caller has this piece alone.
                return gelu::with_slope(&bias[j..], c, unsafe { slope.slice(at, c.len()) });
            }
            (Bias::Cols(bias), Self::GeluOfHalf(sum)) => {
                // SAFETY: as above.
                return gelu::of_rounded(&bias[j..], c, unsafe { sum.slice(at, c.len()) });
            }
            (Bias::None, _) => {}
            (Bias::Cols(bias), _) => add_row(&bias[j..], c),
            (Bias::Rows(bias), _) => c.iter_mut().for_each(|c| *c += bias[i]),
        }
        match self {
            Self::Act(Act::Identity) | Self::Gelu(_) | Self::GeluOfHalf(_) => {}
            Self::Act(act) => act_inplace(*act, c),
            Self::Add(more) => add_row(&more[at..], c),
            Self::Mul(factor) => mul_row(&factor[at..], c),
            Self::MulSlope(sum) => gelu::times_slope(&sum[at..], c),
        }
    }
}

multiversion! {
    fn add_row(more: &[Elem], c: &mut [Elem]) {
        for (c, m) in c.iter_mut().zip(more) {
            *c += *m;
        }
    }
}

multiversion! {
    fn mul_row(factor: &[Elem], c: &mut [Elem]) {
        for (c, f) in c.iter_mut().zip(factor) {
            *c *= *f;
        }
    }
}
