//! In which precision a convolution is computed, and by which kernels.

use super::geometry::ConvGeom;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
use super::{image_lanes, input_grad, winograd};
use crate::kernels::bf16::STEP;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
use crate::kernels::gemm::microkernel::LANES;
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::precision::{Precision, precision};

/// Multiplications from which rounding the operands pays, as for products of matrices.
const ROUNDED_FROM: usize = 1 << 15;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By the kernels of f32, with operands rounded to this.
    InFull(Precision),
    /// In tiles of bf16 numbers.
    #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
    Tiles,
}

impl Way {
    /// That of `g` in the precision of this thread.
    pub fn of(g: &ConvGeom) -> Self {
        match precision() {
            _ if !rounding_pays(g) => Self::InFull(Precision::Full),
            // Windows that do not fill a step, those of the first layers of most networks, gain nothing by tiles, and
            // lose by rounded copies.
            Precision::Bf16 if g.w_len() / g.k < STEP => Self::InFull(Precision::Full),
            #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
            Precision::Bf16 if bf16_isa() == Bf16Isa::Amx => Self::Tiles,
            #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
            Precision::Bf16 if bf16_isa() == Bf16Isa::Avx512 && !full_needs_less(g) => Self::Tiles,
            precision => Self::InFull(precision),
        }
    }
}

/// Whether f32 takes fewer than half of the products that tiles do: AVX512-BF16 alone has no more than twice its rate.
///
/// Winograd's algorithm takes a quarter, and needs some channels to be worth its transformations; in bf16 it would have
/// fourteen times the error of a direct product (scripts/winograd_error.py). Kernels with images as lanes leave out the
/// products of padding.
#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
fn full_needs_less(g: &ConvGeom) -> bool {
    let winograd = winograd::Shape::forward(g).is_some() && g.c.min(g.k) >= 2 * LANES;
    winograd || input_grad::is_narrow(g) && image_lanes::fits(g)
}

/// Not for convolutions of groups, which wait for memory, and small ones. One that covers its input is a product of
/// matrices, which rounds by itself.
fn rounding_pays(g: &ConvGeom) -> bool {
    g.groups == 1 && !g.is_linear() && g.flops() / 2 >= ROUNDED_FROM
}

impl ConvGeom {
    /// Whether in the precision of this thread its output may be kept in bf16.
    pub fn is_bf16(&self) -> bool {
        precision() == Precision::Bf16 && rounding_pays(self)
    }
}
