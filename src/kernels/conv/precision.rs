//! In which precision a convolution is computed, and by which kernels.

use super::geometry::ConvGeom;
use crate::base::Elem;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
use crate::kernels::bf16::STEP;
use crate::kernels::gemm::{Mat, rounded};
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::par::SERIAL_FLOPS;
use crate::kernels::precision::{Precision, precision};
use crate::kernels::scratch::Scratch;

/// Multiplications from which rounding the operands pays, as for products of matrices.
const ROUNDED_FROM: usize = 1 << 15;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the kernels of f32, with operands as they are.
    Full,
    /// By the same, with rounded operands.
    Rounded(Precision),
    /// In tiles of bf16 numbers.
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    Tiles,
}

impl Way {
    /// That of `g` in the precision of this thread. The shape decides which convolutions stay in full precision: those
    /// of groups, which wait for memory, and small ones. One that covers its input is a product of matrices, which
    /// rounds by itself.
    pub fn of(g: &ConvGeom) -> Self {
        let wanted = precision();
        if g.groups > 1 || g.is_linear() || g.flops() / 2 < ROUNDED_FROM {
            return Self::Full;
        }
        match wanted {
            Precision::Full => Self::Full,
            #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
            // By AVX512-BF16 alone tiles take three to four times as long as rounded copies in f32. Windows that do not
            // fill a step, those of the first layers of most networks, gain nothing by tiles.
            Precision::Bf16 if bf16_isa() == Bf16Isa::Amx && g.w_len() / g.k >= STEP => Self::Tiles,
            rounded => Self::Rounded(rounded),
        }
    }
}

/// A copy of `images`, or of any other rows, whose numbers are rounded.
pub(super) fn rounded_copy(precision: Precision, from: &[Elem], rows: usize) -> Scratch {
    let mut to = Scratch::take(from.len());
    let mat = Mat::new(from, rows, from.len() / rows.max(1));
    rounded(precision, mat, &mut to, from.len() < SERIAL_FLOPS / 8);
    to
}
