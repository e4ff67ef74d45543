//! Numbers become bf16.

use super::bf16;
use crate::base::Elem;

/// The nearest bf16, of two the even one; NaN stays NaN, and what is too small for a normal f32 becomes 0: the bits that
/// VCVTNEPS2BF16 gives.
#[inline(always)]
#[allow(clippy::unnecessary_cast)] // Elem may be f64
pub(crate) fn round(v: Elem) -> bf16 {
    let bits = (v as f32).to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let magnitude = bits & 0x7fff_ffff;
    bf16::from_bits(if magnitude > 0x7f80_0000 {
        (bits >> 16 | 0x40) as u16
    } else if magnitude < 0x0080_0000 {
        (bits >> 16 & 0x8000) as u16
    } else {
        nearest as u16
    })
}
